"""Short ways to build core values in tests (float64 unless said)."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxtrade.core.account import Account
from jaxtrade.core.rules import Costs, Terms


def number(value, dtype=jnp.float64):
    return jnp.asarray(value, dtype)


def costs(fee=0.0, half_spread=0.0, slippage=0.0, dtype=jnp.float64):
    return Costs(number(fee, dtype), number(half_spread, dtype), number(slippage, dtype))


def terms(leverage=1.0, maintenance_rate=0.004, threshold=float("nan"), dtype=jnp.float64):
    return Terms.of(
        number(leverage, dtype),
        number(maintenance_rate, dtype),
        number(threshold, dtype),
        number(1, dtype),
        spot=leverage == 1,
    )


def account(cash=10000.0, dtype=jnp.float64, **leaves):
    flat = Account.flat(number(cash, dtype))
    return dataclasses.replace(flat, **{k: number(v, dtype) for k, v in leaves.items()})


def bar(open_=100.0, high=100.0, low=100.0, close=100.0):
    """NumPy, so that tables of bars can be built before x64 is switched on."""
    high, low = max(high, open_, close), min(low, open_, close)
    return tuple(np.float64(price) for price in (open_, high, low, close))
