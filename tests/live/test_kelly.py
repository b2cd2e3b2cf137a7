"""Sizing by what earlier round trips came to, and what the fills of a journal say of them."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.planner import Decision
from live.planner.kelly import KellySizing, realised_returns
from live.types import Fill, FillKind, Side
from tests.live.test_planner import LONG, SHORT, TABLE, acted, config, held, only

D = Decimal
USUAL = KellySizing()


def test_the_priors_alone_give_the_known_fraction():
    assert USUAL.fraction(()) == pytest.approx(0.15)
    even = KellySizing(kelly_fraction=1, cap=1, prior_average_win=0.01)
    assert even.fraction(()) == 0


@pytest.mark.parametrize(
    ("fields", "returns", "fraction"),
    [
        # W = 10/21, win = 0.02, loss = (10 * 0.01 + 0.3) / 11: the edge is below 0.
        ({"cap": 1.0}, [-0.3], 0.0),
        ({"kelly_fraction": 0.5, "cap": 0.4}, [0.5], 0.2),
        (
            {"kelly_fraction": 1.0, "cap": 1.0, "prior_count": 2, "prior_average_loss": 1.0,
             "prior_average_win": 1.0},
            [2.0, 0.0],
            # W = 2/4, win = (1 + 2) / 2, loss = (1 + 0) / 2.
            0.5 / 0.5 - 0.5 / 1.5,
        ),
        ({"prior_win_rate": 1.0}, [], 0.15),
        ({"prior_win_rate": 1.0}, [0.0], 0.15),
        ({"prior_win_rate": 0.0}, [], 0.0),
        ({"prior_average_win": 0.0}, [], 0.0),
    ],
    ids=range(7),
)  # fmt: skip
def test_worked_fractions(fields, returns, fraction):
    assert KellySizing(**fields).fraction(returns) == pytest.approx(fraction)


@given(returns=st.lists(st.floats(-1, 5), max_size=30))
def test_a_fraction_stays_in_its_range_and_knows_no_order(returns):
    sizing = KellySizing(kelly_fraction=0.7, cap=0.9)
    fraction = sizing.fraction(returns)
    assert 0 <= fraction <= 0.7 * 0.9
    assert sizing.fraction(list(reversed(returns))) == pytest.approx(fraction)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="returns: must be finite"):
        USUAL.fraction([0.1, bad])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kelly_fraction": 0}, r"kelly_fraction: must be a finite number in \(0, 1\], was 0"),
        ({"kelly_fraction": 1.1}, "kelly_fraction"),
        ({"cap": math.nan}, "cap"),
        ({"prior_win_rate": -0.1}, "prior_win_rate"),
        ({"prior_average_win": -0.1}, "prior_average_win"),
        ({"prior_average_win": math.inf}, "prior_average_win"),
        ({"prior_average_loss": 0}, "prior_average_loss"),
        ({"prior_average_loss": "0.1"}, "prior_average_loss"),
        ({"prior_count": 0}, "prior_count"),
        ({"prior_count": 1.5}, "prior_count: must be a whole number >= 1, was 1.5"),
    ],
    ids=str,
)
def test_fields_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        KellySizing(**fields)


def test_a_decision_follows_the_round_trips():
    start = config(table=TABLE, fee=0.0, kelly=USUAL).sized_by(())
    assert only(acted(None, LONG, start)[1]).quantity == pytest.approx(D("75"))  # 0.15 * 5 * 100
    lost = start.sized_by([-0.5] * 5)
    assert lost.position_fraction == 0
    _, planned = acted(None, LONG, lost)
    assert (planned.decision, planned.refused) == (Decision.HOLD, "no_edge")
    # What is held can be left: of a turn only the close remains.
    _, planned = acted(held(10), SHORT, lost)
    assert planned.decision is Decision.CLOSE and only(planned).reduce_only
    without = dataclasses.replace(start, kelly=None)
    assert without.sized_by([-0.5]) is without


# Round trips --------------------------------------------------------------------------------------


def fill(change, price, fee="0", kind=FillKind.TRADE):
    quantity = D(change)
    side = Side.BUY if quantity >= 0 else Side.SELL
    return Fill("t", "c", "v", side, abs(quantity), D(price), D(fee), "USDT", kind, 0)


@pytest.mark.parametrize(
    ("fills", "returns"),
    [
        ([], []),
        ([("1", "100")], []),
        ([("1", "100"), ("-1", "110")], [0.1]),
        ([("-1", "100"), ("1", "110")], [-0.1]),
        ([("1", "100", "0.1"), ("-1", "110", "0.2")], [0.097]),
        ([("1", "100"), ("1", "120"), ("-0.5", "130"), ("-1.5", "110")], [(10 - 0) / 220]),
        # Through zero: the fee goes with the parts.
        ([("1", "100"), ("-3", "110", "0.3"), ("2", "99", "0.2")], [0.099, (22 - 0.4) / 220]),
        ([("1", "100"), ("-1", "90"), ("1", "90"), ("-1", "99")], [-0.1, 0.1]),
    ],
    ids=range(8),
)
def test_returns_of_round_trips(fills, returns):
    assert realised_returns(fill(*one) for one in fills) == pytest.approx(returns)


def test_funding_counts_while_something_is_held():
    paid = fill("0", "100", "1", FillKind.FUNDING)
    assert realised_returns([paid, fill("1", "100"), paid, fill("-1", "110"), paid]) == (
        pytest.approx(0.09),
    )


@given(st.lists(st.tuples(st.integers(-5, 5).filter(bool), st.integers(50, 150)), max_size=12))
def test_what_round_trips_come_to_is_what_the_fills_paid(steps):
    fills = [fill(str(change), str(price)) for change, price in steps]
    rest = -sum(change for change, _ in steps)
    if rest:
        fills.append(fill(str(rest), "100"))
    cash = -sum(one.signed * one.price for one in fills)
    value, held_, entered, total = D(0), D(0), [], D(0)
    for one in fills:  # the values of the entries, found another way: unit by unit
        for _ in range(int(one.quantity)):
            if held_ * one.side.sign >= 0:
                value += one.price
            held_ += one.side.sign
            if not held_:
                entered.append(value)
                value = D(0)
    returns = realised_returns(fills)
    assert len(returns) == len(entered)
    total = sum(float(base) * gain for base, gain in zip(entered, returns, strict=True))
    assert total == pytest.approx(float(cash), abs=1e-9)
