"""The account as a policy sees it, from what a venue says of it.

The numbers are `jaxtrade.core.account`'s; only where the liquidation price comes from differs, as
venues know it better than a formula does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import jax
import numpy as np

from jaxtrade.core import account as accounts
from jaxtrade.core.account import Account
from jaxtrade.core.rules import Terms
from live.types import Balance, Held, MarginMode, UnreadableError

Array = jax.Array

_UNIT = 1.0  # of `Terms`, which wants it among the arguments


def number(name: str, value: Decimal | float | None) -> float:
    """A finite float of what a venue said.

    Raises:
      UnreadableError: there is no number, or it is not finite.
    """
    found = math.nan if value is None else float(value)
    if not math.isfinite(found):
        raise UnreadableError(f"{name}: must be a finite number; got {value}.")
    return found


def positive(name: str, value: Decimal | float | None) -> float:
    """A finite float above 0 of what a venue said.

    Raises:
      UnreadableError: it is not.
    """
    found = number(name, value)
    if not found > 0:
        raise UnreadableError(f"{name}: must be > 0; got {value}.")
    return found


def describe(
    *,
    quantity: float,
    entry_price: float,
    held_bars: int,
    value: float,
    mark: float,
    liquidation: float,
    leverage: float,
    maintenance_rate: float,
) -> np.ndarray:
    """The six account numbers, float32 [6], computed in float64.

    Args:
      quantity: signed, 0 = flat. value: of the account at ``mark``. liquidation: price, of no
        meaning when flat or at leverage 1.

    Raises:
      UnreadableError: a result is not finite.
    """
    spot = _is_spot(leverage)
    # As one array: what a call costs is mostly its arguments.
    position = (quantity, entry_price, held_bars, value, mark, liquidation)
    numbers = np.array((*position, leverage, maintenance_rate, _UNIT), np.float64)
    with jax.enable_x64(True):
        described = _describe()(numbers, spot=spot)
        # Too large for float32 is reported as not finite.
        with np.errstate(over="ignore"):
            state = np.asarray(described).astype(np.float32)
    if not np.isfinite(state).all():
        label = accounts.ACCOUNT_STATE_LABELS[int((~np.isfinite(state)).argmax())]
        raise UnreadableError(f"account_state: {label} is not finite.")
    return state


def liquidation_price(
    position: Held, balance: Balance, leverage: float, maintenance_rate: float
) -> float:
    """Price at which the venue ends a leveraged position.

    The venue's own price counts if it makes sense. Without one: the isolated formula of the
    offline account, or in cross margin the nearer of that and of the price at which the equity
    falls to the maintenance margin of everything held.

    Raises:
      UnreadableError: the venue's price lies on the winning side of the mark, or a number that a
        formula needs is missing.
    """
    quantity = number("position quantity", position.quantity)
    mark = positive("mark price", position.mark_price)
    given = position.liquidation_price
    if given is not None and math.isfinite(given) and given > 0:
        price = float(given)
        if not (price <= mark if quantity > 0 else price >= mark):
            raise UnreadableError(
                f"liquidation price: {price:g} lies on the winning side of the mark {mark:g}."
            )
        return price
    if position.margin_mode is MarginMode.UNKNOWN:
        raise UnreadableError("liquidation price: the venue names none, nor the margin mode.")
    entry = positive("entry price", position.entry_price)
    spot = _is_spot(leverage)
    numbers = np.array((quantity, entry, leverage, maintenance_rate, _UNIT), np.float64)
    with jax.enable_x64(True):
        isolated = float(_isolated()(numbers, spot=spot))
    if position.margin_mode is MarginMode.ISOLATED:
        return number("liquidation price", isolated)
    cross = _cross(quantity, mark, balance, maintenance_rate)
    return max(isolated, cross) if quantity > 0 else min(isolated, cross)


def _cross(quantity: float, mark: float, balance: Balance, rate: float) -> float:
    """Price at which equity and maintenance margin of the whole account meet."""
    total = number("maintenance margin of the account", balance.maintenance_margin)
    equity = number("equity", balance.equity)
    own = rate * abs(quantity)
    others = max(total - own * mark, 0.0)
    slope = quantity - own
    if slope == 0:
        raise UnreadableError("liquidation price: a maintenance rate of 1 has none.")
    return number("liquidation price", (quantity * mark + others - equity) / slope)


# Compiled on first use: importing this module starts nothing.


@functools.cache
def _describe() -> Callable[..., Any]:
    def describe(numbers: Array, *, spot: bool) -> Array:
        quantity, entry, held_bars, value, mark, liquidation = numbers[:6]
        account = _account(quantity, entry, held_bars.astype(np.int32))
        return accounts.describe(account, value, mark, liquidation, _terms(numbers[6:], spot))

    return jax.jit(describe, static_argnames="spot")


@functools.cache
def _isolated() -> Callable[..., Any]:
    def isolated(numbers: Array, *, spot: bool) -> Array:
        held_bars: Any = np.int32(0)
        account = _account(numbers[0], numbers[1], held_bars)
        return accounts.liquidation_price(account, _terms(numbers[2:], spot))

    return jax.jit(isolated, static_argnames="spot")


def _account(quantity: Array, entry_price: Array, held_bars: Array) -> Account:
    zero: Any = np.zeros((), np.float64)
    return Account(
        cash=zero,
        quantity=quantity,
        entry_price=entry_price,
        held_bars=held_bars,
        last_level=zero,
        stop_price=zero,
        target_price=zero,
    )


def _terms(numbers: Array, spot: bool) -> Terms:
    leverage, maintenance_rate, unit = numbers
    return Terms(
        leverage=leverage,
        initial_rate=unit / leverage,
        maintenance_rate=maintenance_rate,
        unit=unit,
        spot=spot,
    )


def _is_spot(leverage: float) -> bool:
    """Whether a leverage is that of a spot account.

    Raises:
      UnreadableError: it is below 1.
    """
    if not leverage >= 1:
        raise UnreadableError(f"leverage: must be >= 1; got {leverage}.")
    return leverage == 1
