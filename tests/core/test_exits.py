"""What a bar does to a position: the worked tables of the semantics.

See docs/semantics.md, "Liquidation" and "What a bar does to a position".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrade.core import exits
from jaxtrade.core.account import bankruptcy_price, liquidation_price
from jaxtrade.core.rules import Rules
from jaxtrade.core.trade import add
from tests.core.builders import account, bar, costs, number, terms

REFERENCE = Rules.reference()


def bracketed(leverage, fee, *, side=1, stop=0.0, target=0.0, fraction=1.0, price=100.0):
    """An account that put ``fraction`` of 10 000 into a position at ``price``."""
    margin_terms, paid = terms(leverage), costs(fee)
    size = 10000 * fraction * leverage / (1 + leverage * fee) / price
    held, _ = add(account(), number(side * size), number(price), number(price), paid, margin_terms)
    return jax.tree_util.tree_map(
        lambda x: x,
        exits.dataclasses.replace(held, stop_price=number(stop), target_price=number(target)),
    )


def passed(held, a_bar, leverage, fee=0.0, rules=Rules(), draw=0.5, **more):
    return exits.pass_bar(held, a_bar, number(draw), costs(fee, **more), terms(leverage), rules)


@pytest.mark.parametrize("rules", [Rules(), REFERENCE])
@pytest.mark.parametrize(
    ("stop", "target", "a_bar", "kind", "price"),
    [
        (95, 0, bar(low=88), exits.STOP, 95),
        (85, 0, bar(low=84), exits.LIQUIDATION, 90.4),
        (95, 0, bar(open_=85), exits.LIQUIDATION, 90.0360144),
        (50, 110, bar(low=88, high=112), exits.LIQUIDATION, 90.4),
        (97.5, 102.5, bar(low=97, high=103), exits.STOP, 97.5),
        (95, 0, bar(open_=93), exits.STOP, 93),
        (0, 0, bar(low=90.5), exits.NO_EXIT, float("nan")),
    ],
)
def test_order_of_exits(rules, stop, target, a_bar, kind, price):
    held = bracketed(10, 0.0004, stop=stop, target=target)
    _, exit_ = passed(held, a_bar, 10, 0.0004, rules)
    assert int(exit_.kind) == kind
    assert float(exit_.price) == pytest.approx(price, abs=5e-8, nan_ok=True)


def test_a_bar_that_opens_past_the_target():
    held = bracketed(10, 0.0, stop=95, target=110)
    gap = bar(open_=115, low=94)
    _, exit_ = passed(held, gap, 10)
    assert (int(exit_.kind), float(exit_.price)) == (exits.TARGET, 110)
    _, exit_ = passed(held, gap, 10, rules=REFERENCE)
    assert (int(exit_.kind), float(exit_.price)) == (exits.STOP, 95)


CASH_AFTER = [
    # leverage, fee, side, stop, target, bar, cash, cash under Rules.reference()
    (1, 0.0, 1, 97.5, 0, bar(low=80), 9750, 9750),
    (1, 0.001, 1, 97.5, 0, bar(low=80), 9730.519481, 9730.519481),
    (1, 0.0, 1, 0, 102.5, bar(high=120), 10250, 10250),
    (10, 0.0, 1, 50, 0, bar(low=88), 400, 400),
    (10, 0.001, 1, 50, 0, bar(low=88), 306.534653, 306.534653),
    (2, 0.0, 1, 97.5, 102.5, bar(open_=85), 7000, 7000),
    (2, 0.0, -1, 102.5, 97.5, bar(open_=115), 7000, 7000),
    (2, 0.0, 1, 97.5, 102.5, bar(open_=130), 10500, 10500),
    (2, 0.0, -1, 102.5, 97.5, bar(open_=70), 10500, 10500),
    (2, 0.0, 1, 97.5, 102.5, bar(open_=130, low=90), 10500, 9500),
    (10, 0.0, 1, 95, 0, bar(low=88), 5000, 5000),
    (10, 0.0, -1, 105, 0, bar(high=112), 5000, 5000),
    (10, 0.0, 1, 50, 150, bar(low=88, high=155), 400, 400),
    (10, 0.0, 1, 95, 0, bar(open_=85), 0, 0),
]


@pytest.mark.parametrize("case", CASH_AFTER)
def test_cash_after_an_exit(case):
    leverage, fee, side, stop, target, a_bar, default, reference = case
    held = bracketed(leverage, fee, side=side, stop=stop, target=target)
    for rules, expected in ((Rules(), default), (REFERENCE, reference)):
        after, _ = passed(held, a_bar, leverage, fee, rules)
        assert float(after.cash) == pytest.approx(expected, abs=1e-6)
        assert float(after.quantity) == float(after.stop_price) == float(after.target_price) == 0


@pytest.mark.parametrize(
    ("stop", "a_bar", "price", "fee", "cash"),
    [
        (95.095, bar(low=94), 94.999905, 18.905378, 7423.823705),
        (95.095, bar(open_=93, low=92.5), 92.907, 18.488882, 6382.998078),
        (95.095, bar(high=112), 110.11, 21.912351, 14938.247012),
        (85.085, bar(low=84), 90.3999096, 17.989960, 5136.193307),
        (95.095, bar(open_=85), 90.126050420, 17.935461, 5000.0),
    ],
)
def test_exit_slippage(stop, a_bar, price, fee, cash):
    held = account(
        5000.0, quantity=497.510457670, entry_price=100.1, stop_price=stop, target_price=110.11
    )
    after, exit_ = passed(held, a_bar, 10, 0.0004, half_spread=0.0005, slippage=0.001)
    assert float(exit_.price) == pytest.approx(price, abs=1e-7)
    assert float(exit_.fee) == pytest.approx(fee, abs=1e-6)
    assert float(after.cash) == pytest.approx(cash, abs=1e-5)


def test_margin_call_threshold_moves_the_trigger():
    held = bracketed(5, 0.0)
    called = terms(5, threshold=0.2)
    for low, cash, kind in ((85, 0.0, 0), (84, 2000.0, 1), (83, 2000.0, 1)):
        after, exit_ = exits.pass_bar(held, bar(low=low), number(0.5), costs(), called, Rules())
        assert (float(after.cash), int(exit_.kind)) == (pytest.approx(cash), kind)


def test_a_full_loss_leaves_free_cash_bit_identical():
    held = bracketed(10, 0.0004, fraction=0.3)
    after, _ = passed(held, bar(open_=60), 10, 0.0004)
    assert float(after.cash) == float(held.cash)


def test_an_inactive_bar_does_nothing():
    held = bracketed(10, 0.0004, stop=95)
    after, exit_ = exits.pass_bar(
        held, bar(low=10), number(0.5), costs(), terms(10), Rules(), active=jnp.asarray(False)
    )
    assert int(exit_.kind) == exits.NO_EXIT
    assert after == held


prices = st.floats(1.0, 200.0)


@given(
    side=st.sampled_from([1, -1]),
    leverage=st.sampled_from([1, 2, 10, 50]),
    fee=st.floats(0, 0.0005),
    stop_fraction=st.floats(0.001, 0.9),
    target_fraction=st.floats(0.001, 0.9),
    opening=prices,
    wick_up=st.floats(0, 50),
    wick_down=st.floats(0, 0.9),
    draw=st.floats(0, 0.999),
    slippage=st.sampled_from([0.0, 0.002]),
)
def test_no_exit_beats_its_level(
    side, leverage, fee, stop_fraction, target_fraction, opening, wick_up, wick_down, draw, slippage
):
    if leverage == 1:
        side = 1
    stop, target = 100 * (1 - side * stop_fraction), 100 * (1 + side * target_fraction)
    held = bracketed(leverage, fee, side=side, stop=stop, target=target, fraction=0.5)
    a_bar = bar(opening, opening + wick_up, opening * (1 - wick_down), opening)
    paid, margin_terms = costs(fee, slippage=slippage), terms(leverage)
    after, exit_ = exits.pass_bar(held, a_bar, number(draw), paid, margin_terms, Rules())
    kind, price = int(exit_.kind), float(exit_.price)
    assert float(after.cash) >= 0
    if kind == exits.NO_EXIT:
        assert after == held
        return
    assert float(after.quantity) == 0
    floor = float(bankruptcy_price(held, paid, margin_terms)) * side
    if leverage > 1:
        assert price * side >= floor * (1 - side * 1e-12)
    level = {
        exits.STOP: stop,
        exits.TARGET: target,
        exits.LIQUIDATION: float(liquidation_price(held, margin_terms)),
    }[kind]
    assert side * price <= side * level * (1 + side * 1e-12)
    if kind == exits.TARGET:
        assert price == pytest.approx(target)


@given(depth=st.floats(1, 99), deeper=st.floats(0, 50), side=st.sampled_from([1, -1]))
def test_a_deeper_gap_never_leaves_more(depth, deeper, side):
    held = bracketed(10, 0.0004, side=side, fraction=0.5)
    shallow, deep = 100 - side * depth, 100 - side * (depth + deeper)
    if deep <= 0:
        return
    first, _ = passed(held, bar(open_=shallow, close=shallow), 10, 0.0004)
    second, _ = passed(held, bar(open_=deep, close=deep), 10, 0.0004)
    if float(first.quantity) == 0:
        assert float(second.cash) <= float(first.cash) + 1e-9
