"""One bar passes over a position: liquidation, stop, target. The only place where bars close
positions, for every environment and for replay."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxtrade.core.account import Account, liquidation_price
from jaxtrade.core.fusion import fence
from jaxtrade.core.rules import Costs, Rules, Terms, order_price
from jaxtrade.core.trade import reduce

Array = jax.Array

# `Exit.kind`; HORIZON is used by the one-step environment only.
NO_EXIT, LIQUIDATION, STOP, TARGET, HORIZON = 0, 1, 2, 3, 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Exit:
    """What a bar did; leaves [...], money in quote currency.

    Attributes:
      kind: int32, see the constants of this module. price: fill, NaN when none.
      fee, notional: 0 when none. cost: fee plus the adverse distance to the un-slipped price.
    """

    kind: Array
    price: Array
    fee: Array
    notional: Array
    cost: Array


def liquidated_by(account: Account, adverse_price: Array, terms: Terms) -> Array:
    """Whether the held position is liquidated at ``adverse_price`` (touch counts); bool [...].

    ``adverse_price`` is a price of the bar on the losing side: the low of a long's bar, the high of
    a short's, or an open.
    """
    if terms.spot:
        return jnp.zeros(account.quantity.shape, bool)
    level = liquidation_price(account, terms)
    side = jnp.sign(account.quantity)
    return (side != 0) & (side * adverse_price <= side * level)


def touched(
    account: Account, high: Array, low: Array, terms: Terms, *, brackets: bool
) -> tuple[Array, Array, Array]:
    """Which levels of the position a bar's range touches: liquidation, stop, target; bool [...].

    A bar ends the position if it touches any of them; which one it is, `pass_bar` decides.

    Args:
      account: leaves [...]. high, low: of the bar, [...].
      brackets: static; False = the account never has a stop or target.
    """
    side = jnp.sign(account.quantity)
    is_long, held = side > 0, side != 0
    worst, best = jnp.where(is_long, low, high), jnp.where(is_long, high, low)
    liquidation = held & liquidated_by(account, worst, terms)
    if not brackets:
        never = jnp.zeros_like(liquidation)
        return liquidation, never, never
    stop = held & (account.stop_price > 0) & (side * worst <= side * account.stop_price)
    target = held & (account.target_price > 0) & (side * best >= side * account.target_price)
    return liquidation, stop, target


def pass_bar(
    account: Account,
    bar: tuple[Array, Array, Array, Array],
    draw: Array,
    costs: Costs,
    terms: Terms,
    rules: Rules,
    *,
    active: Array | bool = True,
    brackets: bool = True,
) -> tuple[Account, Exit]:
    """Let one bar act on whatever is held (docs/semantics.md, "What a bar does to a position").

    Order of events: a target the bar opens beyond (``target_first_on_gap``), liquidation unless a
    nearer stop is touched first, stop, target. All touches are inclusive; at most one exit.

    Args:
      account: leaves [...].
      bar: open, high, low, close of the bar that follows the order, each [...].
      draw: [...] uniform in [0, 1) that slips stops and liquidations under ``exit_slippage``.
      active: bool [...]; False = the bar does nothing.
      brackets: static; False = the account never has a stop or target, which compiles them away.
    """
    opening, high, low, _ = bar
    side = jnp.sign(account.quantity)
    is_long = side > 0
    liquidation, stop, target = (
        touch & active for touch in touched(account, high, low, terms, brackets=brackets)
    )
    stop_level, target_level = account.stop_price, account.target_price
    liquidation_level = liquidation_price(account, terms)
    if brackets:
        gapped_to_target = jnp.zeros_like(target)
        if rules.target_first_on_gap:
            # An open beyond the target is a touch of it: the high of a bar covers its open.
            gapped_to_target = target & (side * opening >= side * target_level)
        liquidation &= ~gapped_to_target
        stop_is_nearer = stop & (side * stop_level > side * liquidation_level)
        liquidation &= ~(stop_is_nearer & ~liquidated_by(account, opening, terms))
        stop &= ~liquidation & ~gapped_to_target
        target = (target & ~liquidation & ~stop) | gapped_to_target

    trigger = jnp.where(liquidation, liquidation_level, stop_level)
    market_base = jnp.where(is_long, jnp.minimum(opening, trigger), jnp.maximum(opening, trigger))
    base = jnp.where(target, target_level, market_base)
    slip = jnp.zeros_like(base)
    if rules.exit_slippage:
        slip = -side * base * (costs.half_spread + costs.slippage * draw)
        slip = jnp.where(target, 0, slip)
    # At its level a liquidation returns the maintenance margin by definition. In float32 the level
    # itself is rounded far more coarsely than that small rest.
    returned = account.entry_price * terms.initial_rate
    returned += side * (base + slip - account.entry_price)
    at_level = liquidation & (base == liquidation_level)
    maintenance = terms.maintenance_rate * account.entry_price
    returned = jnp.where(at_level, maintenance + side * slip, returned)

    exits = liquidation | stop | target
    closing = fence(jnp.where(exits, account.quantity, 0), terms)
    after, leg, price = reduce(account, closing, base + slip, base, costs, terms, returned=returned)
    kind = LIQUIDATION * liquidation + STOP * stop + TARGET * target
    return after, Exit(
        kind=kind.astype(jnp.int32),
        price=jnp.where(closing != 0, price, jnp.nan),
        fee=leg.fee,
        notional=leg.notional,
        cost=leg.cost,
    )


def close_at_horizon(
    account: Account,
    close: Array,
    draw: Array,
    costs: Costs,
    terms: Terms,
    rules: Rules,
    *,
    due: Array,
) -> tuple[Account, Exit]:
    """Close what is held where ``due`` (bool [...]), as a market order at a bar's ``close``."""
    price = order_price(close, -jnp.sign(account.quantity), draw, costs, rules)
    closing = jnp.where(due, account.quantity, 0)
    after, leg, price = reduce(account, closing, price, close, costs, terms)
    closed = closing != 0
    return after, Exit(
        kind=(HORIZON * closed).astype(jnp.int32),
        price=jnp.where(closed, price, jnp.nan),
        fee=leg.fee,
        notional=leg.notional,
        cost=leg.cost,
    )
