"""Fractional sizing: an action level in [-1, 1] becomes a target quantity.

``abs(level)`` is the fraction of equity committed as margin and entry fee together, so the
exposure is about ``abs(level) * leverage``; the sign is the side. A level that is already held is
left alone, however far the price has drifted (docs/semantics.md, "Fractional levels").
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxtrade.core.account import Account, equity
from jaxtrade.core.fusion import fence
from jaxtrade.core.rules import Costs, Rules, Terms, order_price
from jaxtrade.core.trade import REFUSED, Fill, Order, affordable

Array = jax.Array

RESIZE_TOLERANCE_FRACTION = 0.02  # of the target quantity
RESIZE_TOLERANCE_QUOTE = 1.0  # quote units of notional


def quantity_per_capital(level: Array, price: Array, costs: Costs, terms: Terms) -> Array:
    """Signed quantity per unit of capital whose margin and entry fee are ``abs(level)`` of it.

    ``a * L / (1 + L * f) / price``. In spot a negative level means flat.

    Args:
      level: [...] in [-1, 1]. price: [...] execution price.
    """
    if terms.spot:
        level = jnp.maximum(level, 0)
    return level * (terms.leverage / (1 + terms.leverage * costs.fee)) / price


def target_quantity(
    capital: Array, level: Array, price: Array, costs: Costs, terms: Terms
) -> Array:
    """Signed quantity at ``level``; capital [...] at or below zero commits nothing."""
    return jnp.maximum(capital, 0) * quantity_per_capital(level, price, costs, terms)


def resize_tolerance(
    target: Array,
    price: Array,
    fraction: float | Array = RESIZE_TOLERANCE_FRACTION,
    quote: float | Array = RESIZE_TOLERANCE_QUOTE,
) -> Array:
    """Quantity from which on a resize to ``target`` is worth its costs, base units.

    Args:
      fraction: of the target, >= 0. quote: notional in quote units, >= 0.
    """
    return jnp.maximum(fraction * jnp.abs(target), quote / price)


def decide(
    account: Account,
    level: Array,
    base: Array,
    draw: Array,
    costs: Costs,
    terms: Terms,
    rules: Rules,
    *,
    tolerance_fraction: float | Array = RESIZE_TOLERANCE_FRACTION,
    tolerance_quote: float | Array = RESIZE_TOLERANCE_QUOTE,
) -> Order:
    """The order that brings the account to ``level``; all its quantities are 0 for a hold.

    Args:
      account: leaves [...]. level: [...] in [-1, 1].
      base: [...] un-slipped order price. draw: [...] uniform in [0, 1).
      tolerance_fraction, tolerance_quote: see `resize_tolerance`. What opens, closes or turns a
        position around is never too small.
    """
    held = account.quantity
    latched = (level == account.last_level) & (held != 0)
    # The side of the trade fixes the side of the slippage, so it is decided before the price.
    side = jnp.sign(target_quantity(equity(account, base, terms), level, base, costs, terms) - held)
    price = fence(order_price(base, side, draw, costs, rules), terms)
    per_capital = quantity_per_capital(level, price, costs, terms)
    target = fence(jnp.maximum(equity(account, price, terms), 0) * per_capital, terms)
    gap = target - held
    same_side = held * target > 0
    tolerance = resize_tolerance(target, price, tolerance_fraction, tolerance_quote)
    # Who turns around wants out: only what is worth nothing stays, however coarse resizes are.
    least = jnp.where(same_side, tolerance, RESIZE_TOLERANCE_QUOTE / price)
    near = (held != 0) & (target != 0) & (jnp.abs(gap) < least)
    needed = ~latched & ~near
    if rules.slippage_side == "adverse":
        # The cost of trading itself turned the trade around: nothing to do.
        needed &= jnp.sign(gap) == side

    shrinks = same_side & (jnp.abs(target) < jnp.abs(held))
    grows = same_side & ~shrinks
    if rules.partial_increase:
        payable = jnp.maximum(account.cash, 0) / (price * (terms.initial_rate + costs.fee))
        cut = ~affordable(account.cash, gap, price, costs, terms) & (payable >= tolerance)
        growth = jnp.where(cut, jnp.sign(gap) * payable, gap)
    else:
        growth = gap

    none = jnp.zeros_like(price)
    return Order(
        closing=jnp.where(needed & ~grows, jnp.where(shrinks, -gap, held), 0),
        opening=jnp.where(needed & grows, growth, 0),
        opening_per_cash=jnp.where(needed & ~same_side & (target != 0), per_capital, 0),
        base=base,
        price=price,
        stop_price=none,
        target_price=none,
    )


def remember(account: Account, level: Array, fill: Fill, rules: Rules) -> Account:
    """Latch ``level``: it will not trade again until it changes or the position is gone.

    With ``retry_refused`` a refused order leaves the latch as it was, so that it is tried again.
    """
    if rules.retry_refused:
        level = jnp.where(fill.event & REFUSED, account.last_level, level)
    return dataclasses.replace(account, last_level=level.astype(account.last_level.dtype))
