"""Margin formulas, holding time, funding and the six numbers of the account state."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtrade.core import account as accounts
from tests.core.builders import account, costs, number, terms


@pytest.mark.parametrize(
    ("leverage", "rate", "threshold", "fee", "liquidation", "bankruptcy"),
    [
        (5, 0.004, np.nan, 0.0, (80.4, 119.6), (80.0, 120.0)),
        (10, 0.004, np.nan, 0.0004, (90.4, 109.6), (90.0360144, 109.9560176)),
        (5, 0.004, 0.2, 0.0, (84.0, 116.0), (80.0, 120.0)),
    ],
)
def test_liquidation_and_bankruptcy_prices(leverage, rate, threshold, fee, liquidation, bankruptcy):
    margin_terms = terms(leverage, rate, threshold)
    for side, lq, bk in zip((1.0, -1.0), liquidation, bankruptcy, strict=True):
        held = account(quantity=side, entry_price=100.0)
        assert float(accounts.liquidation_price(held, margin_terms)) == pytest.approx(lq, abs=1e-9)
        assert float(accounts.bankruptcy_price(held, costs(fee), margin_terms)) == pytest.approx(
            bk, abs=5e-8
        )


def test_no_liquidation_price_when_flat_or_spot():
    assert float(accounts.liquidation_price(account(), terms(5))) == 0
    held = account(quantity=1.0, entry_price=100.0)
    assert float(accounts.liquidation_price(held, terms(1))) == 0


@pytest.mark.parametrize(
    ("quantities", "expected"),
    [
        ([1, 1, 1, 0], [1, 2, 3, 0]),
        ([1, 1, 1, 0, -1, -1], [1, 2, 3, 0, 1, 2]),
        ([1, 1, -1, -1], [1, 2, 1, 2]),
        ([0, 0, 1], [0, 0, 1]),
    ],
)
def test_holding_time_sequences(quantities, expected):
    current, seen = account(), []
    for quantity in quantities:
        held = accounts.dataclasses.replace(current, quantity=number(quantity))
        current = accounts.age(held, current)
        seen.append(int(current.held_bars))
    assert seen == expected


def test_funding_is_paid_by_longs_and_received_by_shorts():
    rate, price = number(0.0001), number(100.0)
    long, paid = accounts.pay_funding(account(5000, quantity=250.0), price, rate)
    assert (float(long.cash), float(paid)) == (4997.5, 2.5)
    short, paid = accounts.pay_funding(account(5000, quantity=-250.0), price, rate)
    assert (float(short.cash), float(paid)) == (5002.5, -2.5)


def test_account_state_of_reset_is_fixed():
    values = accounts.account_state(account(), number(123.0), terms(7))
    np.testing.assert_array_equal(values, [0, 0, 0, 0, 7, 1])


def test_account_state_of_a_short():
    held = account(1.497548, quantity=-55.395596845, entry_price=108.0)
    values = accounts.account_state(held, number(96.0), terms(5))
    np.testing.assert_allclose(values, [2.854846, -1, 0.111111, 0, 5, 0.3455], atol=5e-7)


def test_distance_and_exposure_never_leave_their_range():
    held = account(0, quantity=10.0, entry_price=100.0)
    beyond = accounts.account_state(held, number(70.0), terms(5))
    assert beyond[5] == 0  # past the liquidation price
    assert beyond[0] == 0  # equity 10 * 20 - 300 < 0: exposure does not explode
