"""Find the bar that ends a position by looking at many bars at once.

Bars are data: whether one touches a level of the position does not depend on the bars before it, so
the first that does is found without walking there.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxtrade.core import account as accounts
from jaxtrade.core import exits
from jaxtrade.core.account import Account
from jaxtrade.core.rules import Terms
from jaxtrade.market.market import Market

Array = jax.Array

# Bars looked at together; a longer horizon is searched block by block, until the exit is found.
BLOCK = 64


def last_bar(
    market: Market,
    account: Account,
    begin: Array,
    horizon: Array,
    terms: Terms,
    *,
    ruin: Array,
    longest: int,
) -> tuple[Array, Array]:
    """The first bar that ends the position, or ``horizon``; and the funding paid before that bar.

    A bar ends the position when it touches a level (`exits.touched`), or when its close leaves no
    equity.

    Args:
      market: device market. account: with the open position, leaves ().
      begin, horizon: int32 (), first and last bar that pass.
      ruin: () equity at or below which the account is wiped out.
      longest: most bars from ``begin`` to ``horizon``; static.
    """
    nothing = jnp.zeros_like(account.cash)
    if longest <= BLOCK:
        return _within(market, account, begin, horizon, terms, ruin, nothing, longest)

    def look(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        begin, _, paid = carry
        last, paid = _within(market, account, begin, horizon, terms, ruin, paid, BLOCK)
        return begin + BLOCK, last, paid

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        begin, last, _ = carry
        return (begin <= horizon) & (last == horizon)

    _, last, paid = jax.lax.while_loop(goes_on, look, (begin, horizon, nothing))
    return last, paid


def _within(
    market: Market,
    account: Account,
    begin: Array,
    horizon: Array,
    terms: Terms,
    ruin: Array,
    paid: Array,
    size: int,
) -> tuple[Array, Array]:
    """`last_bar` within ``size`` bars from ``begin`` on; ``paid`` is the funding before them."""
    # A slice at the end of the data starts earlier instead; what lies before is masked.
    start = jnp.clip(begin, 0, market.num_bars - size)
    bars = start + jnp.arange(size, dtype=jnp.int32)
    rows = jax.lax.dynamic_slice(market.ohlcv, (start, jnp.zeros_like(start)), (size, 4))
    high, low, close = rows[:, 1], rows[:, 2], rows[:, 3]
    exposed = (bars >= begin) & (bars <= horizon)
    due = jnp.zeros_like(close)
    if market.funding is not None:
        rates = jax.lax.dynamic_slice(market.funding, (start,), (size,))
        due = jnp.where(exposed, account.quantity * close * rates, 0)
    ends = jnp.zeros(size, bool)
    for touch in exits.touched(account, high, low, terms, brackets=True):
        ends |= touch
    later = dataclasses.replace(account, cash=account.cash - paid - jnp.cumsum(due))
    ends |= accounts.equity(later, close, terms) <= ruin
    last = jnp.min(jnp.where(ends & exposed, bars, horizon))
    return last, paid + jnp.sum(jnp.where(bars < last, due, 0))
