"""Carry out an order at a price: open, increase, decrease, close, flip. Every unit of money that
changes hands through a fill does so in `reduce` or `add`."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxtrade.core.account import Account, bankruptcy_price
from jaxtrade.core.fusion import fence
from jaxtrade.core.rules import Costs, Terms, slack

Array = jax.Array

# Bits of `Fill.event`; a flip is CLOSED | OPENED, a flip whose second half was refused is
# CLOSED | REFUSED.
CLOSED, OPENED, INCREASED, DECREASED, REFUSED = 1, 2, 4, 8, 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Order:
    """A decision that can be carried out; leaves [...]. All quantities 0 = hold.

    Attributes:
      closing: quantity to take off the position first, signed like the position.
      opening: signed quantity to add to what is left.
      opening_per_cash: signed quantity to add per unit of the cash that is left; sizes what opens
        from flat, also in a flip, where the close decides how much cash there is.
      base: un-slipped price. price: price both legs execute at.
      stop_price, target_price: bracket of a newly opened position, 0 = none.
    """

    closing: Array
    opening: Array
    opening_per_cash: Array
    base: Array
    price: Array
    stop_price: Array
    target_price: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fill:
    """What an order did; leaves [...], money in quote currency.

    Attributes:
      event: int32 bits, see the constants of this module.
      price: execution price, NaN when nothing traded.
      quantity: signed change of the position.
      fee, notional: of all legs. cost: fee plus the adverse distance to the un-slipped price.
      closed_cash: cash right after a leg that closed the position, NaN when none did.
    """

    event: Array
    price: Array
    quantity: Array
    fee: Array
    notional: Array
    cost: Array
    closed_cash: Array

    @property
    def executed(self) -> Array:
        """Whether any leg traded, bool [...]."""
        return self.event & ~REFUSED != 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Leg:
    """One traded quantity at one price: its fee, notional and cost, quote currency."""

    fee: Array
    notional: Array
    cost: Array


def _leg(quantity: Array, price: Array, base: Array, buys: Array, costs: Costs) -> Leg:
    size = jnp.abs(quantity)
    fee = costs.fee * size * price
    adverse = jnp.maximum(jnp.where(buys, price - base, base - price), 0)
    return Leg(fee=fee, notional=size * price, cost=fee + size * adverse)


def _settled(new_cash: Array, old_cash: Array) -> Array:
    """A fill may not push the free balance below zero, nor forgive a funding debt."""
    return jnp.maximum(new_cash, jnp.minimum(old_cash, 0))


def reduce(
    account: Account,
    quantity: Array,
    price: Array,
    base: Array,
    costs: Costs,
    terms: Terms,
    *,
    returned: Array | None = None,
) -> tuple[Account, Leg, Array]:
    """Close ``quantity`` (signed like the position, 0 = nothing) of the position.

    Margin is released pro rata at the entry price. In futures no fill is worse than the bankruptcy
    price, and closing everything there changes cash by exactly 0.

    Args:
      account: leaves [...]. quantity: [...], abs(quantity) <= abs(account.quantity).
      price: [...] fill price before the cap. base: [...] un-slipped price.
      returned: [...] cash that one unit brings back before the fee, margin and profit together,
        where the caller knows it more exactly than the rounded prices do.

    Returns: the account, the leg, and the fill price after the cap.
    """
    held = account.quantity
    is_long = held > 0
    full = (quantity == held) & (quantity != 0)
    if not terms.spot:
        limit = bankruptcy_price(account, costs, terms)
        capped = jnp.where(is_long, price <= limit, price >= limit)
        price = jnp.where(capped, limit, price)
    leg = _leg(quantity, price, base, ~is_long, costs)
    if terms.spot:
        cash = account.cash + quantity * price - leg.fee
    else:
        if returned is None:
            # Per unit first: a loss near the margin cancels before anything large is multiplied.
            profit = jnp.where(is_long, 1, -1) * (price - account.entry_price)
            returned = account.entry_price * terms.initial_rate + profit
        cash = account.cash + jnp.abs(quantity) * returned - leg.fee
        cash = jnp.where(full & capped, account.cash, cash)
    cash = _settled(cash, account.cash)
    reduced = dataclasses.replace(
        account,
        cash=jnp.where(full, jnp.maximum(cash, 0), cash),
        quantity=jnp.where(full, 0, held - quantity),
        entry_price=jnp.where(full, 0, account.entry_price),
        stop_price=jnp.where(full, 0, account.stop_price),
        target_price=jnp.where(full, 0, account.target_price),
    )
    return reduced, leg, price


def outlay(quantity: Array, price: Array, costs: Costs, terms: Terms) -> Array:
    """Cash that adding ``quantity`` takes: margin plus fee, quote currency."""
    return jnp.abs(quantity) * price * (terms.initial_rate + costs.fee)


def affordable(cash: Array, quantity: Array, price: Array, costs: Costs, terms: Terms) -> Array:
    """Whether adding ``quantity`` can be paid, up to the slack of the dtype (bool [...])."""
    return outlay(quantity, price, costs, terms) <= cash * (1 + slack(cash.dtype))


def add(
    account: Account, quantity: Array, price: Array, base: Array, costs: Costs, terms: Terms
) -> tuple[Account, Leg]:
    """Open or increase by ``quantity`` (signed, 0 = nothing); entries average by quantity."""
    leg = _leg(quantity, price, base, quantity > 0, costs)
    size, held = jnp.abs(quantity), jnp.abs(account.quantity)
    total = size + held
    average = (account.entry_price * held + price * size) / jnp.where(total > 0, total, 1)
    entry = jnp.where(held == 0, price, average)
    cash = account.cash - (leg.notional * terms.initial_rate + leg.fee)
    # An average with nothing added may differ from the entry by a rounding.
    traded = quantity != 0
    added = dataclasses.replace(
        account,
        cash=_settled(cash, account.cash),
        quantity=account.quantity + quantity,
        entry_price=jnp.where(traded, entry, account.entry_price),
    )
    return added, leg


def apply(
    account: Account,
    order: Order,
    costs: Costs,
    terms: Terms,
    *,
    blocked: Array | bool = False,
) -> tuple[Account, Fill]:
    """Carry out ``order``: first what reduces the position, then what the cash left can pay.

    An opening leg that cannot be paid is refused whole; a flip whose second half is refused stays
    flat.

    Args:
      account, order: leaves [...].
      blocked: bool [...]; True refuses the whole order.
    """
    asked = fence(order.closing, terms)
    closing = jnp.where(blocked, 0, asked)
    reduced, off, off_price = reduce(account, closing, order.price, order.base, costs, terms)
    reduced = dataclasses.replace(reduced, cash=fence(reduced.cash, terms))
    wanted = fence(order.opening + order.opening_per_cash * jnp.maximum(reduced.cash, 0), terms)
    paid = affordable(reduced.cash, wanted, order.price, costs, terms) & ~blocked
    opening = fence(jnp.where(paid, wanted, 0), terms)
    grown, on = add(reduced, opening, order.price, order.base, costs, terms)

    taken_off, added = closing != 0, opening != 0
    now_flat = reduced.quantity == 0
    closed, opened = taken_off & now_flat, added & now_flat
    grown = dataclasses.replace(
        grown,
        stop_price=jnp.where(opened, order.stop_price, grown.stop_price),
        target_price=jnp.where(opened, order.target_price, grown.target_price),
    )
    refused = ((wanted != 0) & ~paid) | ((asked != 0) & blocked)
    event = (
        CLOSED * closed
        + OPENED * opened
        + INCREASED * (added & ~now_flat)
        + DECREASED * (taken_off & ~now_flat)
        + REFUSED * refused
    ).astype(jnp.int32)
    nothing = jnp.full_like(order.price, jnp.nan)
    # Of a flip the opening leg names the price; a closing leg alone names its own, capped one.
    price = jnp.where(added, order.price, off_price)
    return grown, Fill(
        event=event,
        price=jnp.where(taken_off | added, price, nothing),
        quantity=grown.quantity - account.quantity,
        fee=off.fee + on.fee,
        notional=off.notional + on.notional,
        cost=off.cost + on.cost,
        closed_cash=jnp.where(closed, reduced.cash, nothing),
    )
