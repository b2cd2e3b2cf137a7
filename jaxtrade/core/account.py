"""The account: isolated margin, one position, one asset. Money and prices only, no decisions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxtrade.core.fusion import fence
from jaxtrade.core.rules import Costs, Terms

Array = jax.Array

ACCOUNT_STATE_LABELS = (
    "exposure_pct",
    "position_direction",
    "unrealized_pnl_pct",
    "holding_time",
    "leverage",
    "distance_to_liquidation",
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Account:
    """One account; every leaf [...] of one float dtype unless said.

    Attributes:
      cash: free balance in quote currency; free margin when leveraged.
      quantity: signed base units; exactly 0 when flat.
      entry_price: quantity-weighted; 0 when flat.
      held_bars: int32, bars the position has been held in its direction; 0 when flat.
      last_level: action level that the latch remembers; NaN = none.
      stop_price, target_price: absolute bracket prices; 0 = none.
    """

    cash: Array
    quantity: Array
    entry_price: Array
    held_bars: Array
    last_level: Array
    stop_price: Array
    target_price: Array

    @classmethod
    def flat(cls, cash: Array) -> Account:
        """A flat account holding ``cash`` (its dtype becomes the account's)."""
        cash = jnp.asarray(cash)
        zero = jnp.zeros_like(cash)
        none = jnp.zeros(cash.shape, jnp.int32)
        return cls(cash, zero, zero, none, jnp.full_like(cash, jnp.nan), zero, zero)


def margin(account: Account, terms: Terms) -> Array:
    """Posted margin abs(q) * E / L, quote currency."""
    return jnp.abs(account.quantity) * account.entry_price * terms.initial_rate


def unrealized(account: Account, price: Array) -> Array:
    """Unrealised profit q * (P - E), quote currency."""
    return account.quantity * (price - account.entry_price)


def equity(account: Account, price: Array, terms: Terms) -> Array:
    """Account value at mark ``price``: cash + margin + unrealised (spot: cash + abs(q) * P)."""
    if terms.spot:
        return account.cash + jnp.abs(account.quantity) * price
    return account.cash + margin(account, terms) + unrealized(account, price)


def liquidation_price(account: Account, terms: Terms) -> Array:
    """Price at which the margin is down to maintenance; 0 when flat or in spot.

    Long ``E * (1 - 1/L + m)``, short ``E * (1 + 1/L - m)`` (docs/semantics.md, "Liquidation").
    """
    if terms.spot:
        return jnp.zeros_like(account.entry_price)
    room = terms.initial_rate - terms.maintenance_rate
    held = account.quantity != 0
    return jnp.where(held, account.entry_price * _by_side(account, 1 - room, 1 + room), 0)


def bankruptcy_price(account: Account, costs: Costs, terms: Terms) -> Array:
    """Fill at which loss and exit fee equal the margin; of no meaning when flat.

    Long ``E * (1 - 1/L) / (1 - f)``, short ``E * (1 + 1/L) / (1 + f)``.
    """
    long = (1 - terms.initial_rate) / (1 - costs.fee)
    short = (1 + terms.initial_rate) / (1 + costs.fee)
    return account.entry_price * _by_side(account, long, short)


def _by_side(account: Account, long: Array, short: Array) -> Array:
    return jnp.where(account.quantity > 0, long, short)


def age(account: Account, before: Account) -> Account:
    """Count one bar of holding time, from the quantity after the bar's exits.

    A position on the side of the account ``before`` the step is one bar older; any other starts
    at 1; flat is 0.
    """
    held = account.quantity != 0
    continued = account.quantity * before.quantity > 0
    held_bars = jnp.where(held, jnp.where(continued, before.held_bars + 1, 1), 0)
    return dataclasses.replace(account, held_bars=held_bars)


def pay_funding(account: Account, price: Array, rate: Array) -> tuple[Account, Array]:
    """Pay ``q * price * rate`` out of free cash (longs pay a positive rate); may go into debt.

    Returns: the account and the amount paid (negative: received), quote currency.
    """
    paid = account.quantity * price * rate
    return dataclasses.replace(account, cash=account.cash - paid), paid


def account_state(account: Account, price: Array, terms: Terms) -> Array:
    """The six numbers every policy sees, [..., 6] in the account's dtype; see `describe`.

    Args:
      account: leaves [...].
      price: [...] mark price, the close of the newest bar.
    """
    return describe(
        account, equity(account, price, terms), price, liquidation_price(account, terms), terms
    )


def describe(
    account: Account, value: Array, price: Array, liquidation: Array, terms: Terms
) -> Array:
    """The six numbers of an account whose worth and liquidation price are known, [..., 6].

    ``ACCOUNT_STATE_LABELS`` names them: exposure ``abs(q) * P / PV`` (0 when PV <= 0), direction,
    price return since entry (not levered), holding time in bars, leverage, relative distance of
    the mark to the liquidation price (1 in spot or flat, never below 0).

    Args:
      account: leaves [...]; of its money only quantity and entry price count.
      value: [...] account value at ``price``, the mark. liquidation: [...], of no meaning when
        flat or in spot.
    """
    dtype = value.dtype
    side = jnp.sign(account.quantity)
    solvent, held = value > 0, side != 0
    exposure = jnp.abs(account.quantity) * price / jnp.where(solvent, value, 1)
    move = side * (price - account.entry_price) / jnp.where(held, account.entry_price, 1)
    if terms.spot:
        distance = jnp.ones_like(value)
    else:
        room = side * (price - liquidation) / price
        distance = jnp.where(held, jnp.maximum(room, 0), 1)
    parts = (
        jnp.where(solvent, exposure, 0),
        side,
        jnp.where(held, move, 0),
        account.held_bars.astype(dtype),
        jnp.broadcast_to(terms.leverage, value.shape).astype(dtype),
        distance,
    )
    # Selecting by column instead of stacking: XLA on CPU compiles a concatenation of computed
    # columns into a branch per element.
    columns = jnp.arange(len(parts), dtype=jnp.int32)
    state = jnp.zeros((*value.shape, len(parts)), dtype)
    for column, part in enumerate(fence(parts, terms)):
        state = jnp.where(columns == column, part[..., None], state)
    return state
