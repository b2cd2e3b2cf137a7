"""Rules and order prices (docs/semantics.md, "Rules" and "Order price")."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxtrade.core.rules import Rules, order_price, slack
from tests.core.builders import costs, number


@pytest.mark.parametrize("field", ["fill_at", "slippage_side", "nan_prices", "partial_bars"])
def test_a_choice_out_of_range_is_named(field):
    with pytest.raises(ValueError, match=rf"^rules\.{field}: must be one of .*; got 'x'\.$"):
        Rules(**{field: "x"})


def test_rules_are_hashable_and_reference_differs():
    assert hash(Rules()) == hash(Rules())
    assert Rules.reference() != Rules()
    assert Rules.reference().fill_at == "close"


def test_adverse_slippage_always_worsens_the_price():
    paid = costs(half_spread=0.0005, slippage=0.001)
    base, draw = number(100.0), number(0.5)
    assert float(order_price(base, number(1.0), draw, paid, Rules())) == pytest.approx(100.1)
    assert float(order_price(base, number(-1.0), draw, paid, Rules())) == pytest.approx(99.9)


def test_symmetric_slippage_spans_its_range():
    paid, rules = costs(slippage=0.01), Rules.reference()
    low = order_price(number(100.0), number(1.0), number(0.0), paid, rules)
    high = order_price(number(100.0), number(1.0), number(1.0), paid, rules)
    assert (float(low), float(high)) == pytest.approx((99.0, 101.0))


def test_without_slippage_the_price_is_exactly_the_base():
    for rules in (Rules(), Rules.reference()):
        base = number(0.1) * 3
        assert order_price(base, number(1.0), number(0.7), costs(), rules) == base


def test_slack_depends_on_the_dtype():
    assert slack(jnp.dtype(jnp.float64)) == 1e-9
    assert slack(jnp.dtype(jnp.float32)) == pytest.approx(9.54e-7, rel=1e-3)
