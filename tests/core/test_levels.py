"""Fractional levels and order execution.

See docs/semantics.md, "Account", "Order price" and "Fractional levels".
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxtrade.core import levels, trade
from jaxtrade.core.account import equity, margin, unrealized
from jaxtrade.core.rules import Rules
from tests.core.builders import account, costs, number, terms

REFERENCE = Rules.reference()


def act(held, level, price, paid, margin_terms, rules=Rules(), draw=0.5, **tolerances):
    """Decide and execute one level; what one environment step does to the account."""
    base, draw = number(price, held.cash.dtype), number(draw, held.cash.dtype)
    level = number(level, held.cash.dtype)
    order = levels.decide(held, level, base, draw, paid, margin_terms, rules, **tolerances)
    after, fill = trade.apply(held, order, paid, margin_terms)
    return levels.remember(after, level, fill, rules), fill


def test_known_target_quantity():
    size = levels.target_quantity(
        number(10000.0), number(0.5), number(50000.0), costs(0.0004), terms(5)
    )
    assert float(size) == pytest.approx(0.499001996, abs=1e-9)


def test_negative_levels_mean_flat_in_spot():
    held, _ = act(account(), 1.0, 100, costs(), terms(1))
    after, fill = act(held, -0.5, 100, costs(), terms(1))
    assert (int(fill.event), float(after.quantity)) == (trade.CLOSED, 0)
    after, fill = act(after, -1.0, 100, costs(), terms(1))
    assert (int(fill.event), float(after.cash)) == (0, 10000)


@pytest.mark.parametrize("leverage", [1, 2, 5, 10])
def test_margin_of_an_open_is_the_fraction_of_equity(leverage):
    for level in (0.25, 0.5, 1.0):
        after, _ = act(account(), level, 100, costs(), terms(leverage))
        assert float(margin(after, terms(leverage))) == pytest.approx(10000 * level)
        assert float(after.cash) == pytest.approx(10000 * (1 - level), abs=1e-9)


def test_costs_worked_in_spot():
    paid = costs(0.001, 0.0005, 0.001)
    held, fill = act(account(1000), 1.0, 100, paid, terms(1))
    assert float(fill.price) == pytest.approx(100.1)
    assert float(held.quantity) == pytest.approx(9.980029960, abs=1e-9)
    assert float(fill.fee) == pytest.approx(0.999000999, abs=1e-9)
    assert float(equity(held, number(100.0), terms(1))) == pytest.approx(998.002996, abs=1e-6)
    after, fill = act(held, 0.0, 100, paid, terms(1))
    assert float(fill.fee) == pytest.approx(0.997004993, abs=1e-9)
    assert float(after.cash) == pytest.approx(996.007988, abs=1e-6)
    assert float(fill.cost) == pytest.approx(0.997004993 + 9.98002996 * 0.1, abs=1e-8)


def test_costs_worked_short_and_flip():
    paid, futures = costs(0.0004, 0.0005, 0.001), terms(10)
    held, _ = act(account(), -1.0, 100, paid, futures)
    assert float(held.quantity) == pytest.approx(-997.012949204, abs=1e-9)
    assert float(equity(held, number(100.0), futures)) == pytest.approx(9860.458068, abs=1e-6)
    after, fill = act(held, 0.0, 100, paid, futures)
    assert float(fill.price) == pytest.approx(100.1)
    assert float(after.cash) == pytest.approx(9720.836374, abs=1e-6)

    held, _ = act(account(), 0.5, 100, paid, futures)
    assert float(held.quantity) == pytest.approx(497.510457670, abs=1e-9)
    after, fill = act(held, -0.5, 100, paid, futures)
    assert int(fill.event) == trade.CLOSED | trade.OPENED
    assert float(fill.fee) == pytest.approx(19.880517888 + 19.642822852, abs=1e-8)
    assert float(after.cash) == pytest.approx(4930.348536, abs=1e-6)
    assert float(after.quantity) == pytest.approx(-491.562133441, abs=1e-9)


def test_an_increase_averages_the_entry_and_a_decrease_leaves_it():
    one = account(1e6, quantity=1.0, entry_price=50000.0)
    grown, _ = trade.add(one, number(0.5), number(60000.0), number(60000.0), costs(), terms(5))
    assert float(grown.entry_price) == pytest.approx(53333.333333333)
    halved, leg, _ = trade.reduce(
        grown, number(0.75), number(60000.0), number(60000.0), costs(0.001), terms(5)
    )
    assert float(halved.entry_price) == float(grown.entry_price)
    assert float(leg.notional) == 45000 and float(leg.fee) == pytest.approx(45.0)
    released = float(halved.cash - grown.cash) + 45.0 - 0.75 * (60000 - 53333.3333333333)
    assert released == pytest.approx(0.75 * 53333.333333333 / 5)


@pytest.mark.parametrize("price", [1e5, 0.35])
@pytest.mark.parametrize(
    ("target_quote", "gap_quote", "trades"),
    [(10, 0.5, False), (10, 5, True), (5000, 50, False), (5000, 250, True)],
)
def test_resize_tolerance(price, target_quote, gap_quote, trades):
    held = account(
        target_quote + 10000, quantity=(target_quote - gap_quote) / price, entry_price=price
    )
    level = target_quote / (target_quote - gap_quote + target_quote + 10000)
    _, fill = act(held, level, price, costs(), terms(1))
    assert (int(fill.event) != 0) == trades


@pytest.mark.parametrize(
    ("gap", "fraction", "quote", "trades"),
    [
        (0.5, 0.02, 1.0, False),
        (0.5, 0.004, 1.0, True),
        (0.5, 0.02, 49.0, False),
        (0.5, 0.004, 51.0, False),
        (5.0, 0.02, 1.0, True),
        (5.0, 0.2, 1.0, False),
        (5.0, 0.02, 600.0, False),
        (1e-6, 0.0, 0.0, True),
    ],
)
def test_the_resize_tolerance_may_be_another(gap, fraction, quote, trades):
    for sign in (1, -1):
        held = account(5000, quantity=50 - sign * gap, entry_price=100.0)
        level = 5000 / (5000 + 100 * (50 - sign * gap))
        after, fill = act(
            held, level, 100, costs(), terms(1), tolerance_fraction=fraction, tolerance_quote=quote
        )
        assert (int(fill.event) != 0) == trades
        assert float(after.quantity) == pytest.approx(50 if trades else 50 - sign * gap)


def test_no_tolerance_keeps_a_position_that_is_to_be_opened_closed_or_turned():
    wide = {"tolerance_fraction": 0.9, "tolerance_quote": 1e9}
    held, fill = act(account(), 0.01, 100, costs(), terms(5), **wide)
    assert int(fill.event) == trade.OPENED
    turned, fill = act(held, -0.01, 100, costs(), terms(5), **wide)
    assert int(fill.event) == trade.CLOSED | trade.OPENED and float(turned.quantity) < 0
    _, fill = act(held, 0.0, 100, costs(), terms(5), **wide)
    assert int(fill.event) == trade.CLOSED


def test_a_cut_increase_keeps_to_the_tolerance():
    held, _ = act(account(1000), 0.5, 100, costs(0.0005), terms(5))
    _, cut = act(held, 1.0, 104, costs(0.0005), terms(5))
    assert int(cut.event) == trade.INCREASED
    # 23.9 of 48.9 can be paid, less than half of the target.
    _, fill = act(held, 1.0, 104, costs(0.0005), terms(5), tolerance_fraction=0.49)
    assert int(fill.event) == trade.REFUSED


def test_tiny_positions_open_and_close():
    held, fill = act(account(0.5), 1.0, 100, costs(), terms(1))
    assert int(fill.event) == trade.OPENED
    after, fill = act(held, 0.0, 100, costs(), terms(1))
    assert (int(fill.event), float(after.cash)) == (trade.CLOSED, pytest.approx(0.5))


def test_a_held_level_is_latched_however_far_the_price_drifts():
    held, _ = act(account(), 0.5, 100, costs(), terms(1))
    _, fill = act(held, 0.5, 300, costs(), terms(1))
    assert int(fill.event) == 0
    _, fill = act(held, 0.4, 300, costs(), terms(1))
    assert int(fill.event) == trade.DECREASED


def test_an_unaffordable_increase_is_cut_or_refused():
    held, _ = act(account(1000), 0.5, 100, costs(0.0005), terms(5))
    cut, fill = act(held, 1.0, 104, costs(0.0005), terms(5))
    assert int(fill.event) == trade.INCREASED
    assert float(cut.quantity) == pytest.approx(48.916171111, abs=1e-9)
    assert float(cut.cash) == pytest.approx(0, abs=1e-9)
    whole, fill = act(held, 1.0, 104, costs(0.0005), terms(5), REFERENCE)
    assert int(fill.event) == trade.REFUSED
    assert float(whole.quantity) == float(held.quantity)


def test_a_refused_level_is_retried_unless_told_otherwise():
    held, _ = act(account(1000), 0.5, 100, costs(0.0005), terms(5), REFERENCE)
    refused, _ = act(held, 1.0, 104, costs(0.0005), terms(5), REFERENCE)
    assert float(refused.last_level) == 1.0
    retry = dataclasses.replace(REFERENCE, retry_refused=True)
    refused, _ = act(held, 1.0, 104, costs(0.0005), terms(5), retry)
    assert float(refused.last_level) == 0.5


def test_a_flip_whose_second_half_cannot_be_paid_stays_flat():
    held = account(0.0, quantity=1000.0, entry_price=100.0)
    order = trade.Order(*(number(v) for v in (1000.0, -2000.0, 0.0, 100.0, 100.0, 0.0, 0.0)))
    after, fill = trade.apply(held, order, costs(), terms(10))
    assert int(fill.event) == trade.CLOSED | trade.REFUSED
    assert float(after.quantity) == 0 and float(fill.closed_cash) == float(after.cash) == 10000


@pytest.mark.parametrize(
    ("shortfall", "dtype", "accepted"),
    [
        (1e-11, jnp.float64, True),
        (3e-6, jnp.float64, False),
        (3e-6, jnp.float32, False),
    ],
)
def test_affordability_boundary(shortfall, dtype, accepted):
    cash = number(1000 * (1 - shortfall), dtype)
    paid = trade.affordable(
        cash, number(10, dtype), number(100, dtype), costs(dtype=dtype), terms(1, dtype=dtype)
    )
    assert bool(paid) == accepted


@given(
    leverage=st.sampled_from([1.0, 2.0, 5.0, 10.0, 50.0, 125.0]),
    exponent=st.floats(-5, 6),
    mantissa=st.floats(1, 9.99),
    cash=st.floats(10, 1e6),
    fee=st.floats(0, 0.001),
    side=st.sampled_from([1.0, -1.0]),
)
def test_an_all_in_open_is_accepted_in_float32(leverage, exponent, mantissa, cash, fee, side):
    dtype = jnp.float32
    if leverage == 1:
        side = 1.0
    held = account(cash, dtype)
    _, fill = act(
        held, side, mantissa * 10**exponent, costs(fee, dtype=dtype), terms(leverage, dtype=dtype)
    )
    assert int(fill.event) == trade.OPENED


money = st.floats(0, 0.003)


@given(
    leverage=st.sampled_from([1.0, 3.0, 10.0]),
    levels_=st.lists(
        st.sampled_from([-1.0, -0.5, -0.1, 0.0, 0.2, 0.5, 1.0]), min_size=1, max_size=5
    ),
    moves=st.lists(st.floats(-0.03, 0.03), min_size=5, max_size=5),
    fee=money,
    spread=money,
    slippage=money,
    draw=st.floats(0, 0.999),
    rules=st.sampled_from([Rules(), dataclasses.replace(Rules(), partial_increase=False)]),
)
def test_an_order_never_raises_equity_and_money_is_conserved(
    leverage, levels_, moves, fee, spread, slippage, draw, rules
):
    paid, margin_terms = costs(fee, spread, slippage), terms(leverage)
    held, price = account(), 100.0
    for level, move in zip(levels_, moves, strict=False):
        before = float(equity(held, number(price), margin_terms))
        assume(before > 1)
        after, fill = act(held, level, price, paid, margin_terms, rules, draw)
        value = float(equity(after, number(price), margin_terms))
        assert value <= before * (1 + 1e-12)
        assert value == pytest.approx(before - float(fill.cost), rel=1e-9, abs=1e-9)
        parts = after.cash + margin(after, margin_terms) + unrealized(after, number(price))
        assert float(parts) == pytest.approx(value, rel=1e-12)
        assert float(after.cash) >= 0
        moved = float(after.quantity - held.quantity)
        assert (moved == 0) == (int(fill.event) & ~trade.REFUSED == 0)
        assert moved == pytest.approx(float(fill.quantity))
        # Executing a level leaves nothing to do at the same price.
        _, again = act(after, level, price, paid, margin_terms, rules, draw)
        if not int(fill.event) & trade.REFUSED and float(after.quantity) != 0:
            assert int(again.event) == 0
        held, price = after, price * (1 + move)


@given(level=st.sampled_from([0.3, 1.0, -0.7, -1.0]), price=st.floats(0.01, 1e5))
def test_a_zero_cost_round_trip_restores_cash(level, price):
    held, _ = act(account(), level, price, costs(), terms(5))
    after, _ = act(held, 0.0, price, costs(), terms(5))
    assert float(after.cash) == pytest.approx(10000, rel=1e-15)


@given(level=st.sampled_from([0.3, 1.0]), move=st.floats(-0.1, 0.1))
def test_a_long_gains_what_a_short_of_the_same_size_loses(level, move):
    long, _ = act(account(), level, 100.0, costs(), terms(5))
    short, _ = act(account(), -level, 100.0, costs(), terms(5))
    price = number(100 * (1 + move))
    gains = [float(equity(a, price, terms(5))) - 10000 for a in (long, short)]
    assert gains[0] == pytest.approx(-gains[1], abs=1e-8)
