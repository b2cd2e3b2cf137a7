"""The account: a position in one of three states, the balance, and the settings."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

ZERO = Decimal(0)
DUST = Decimal("1e-9")  # base units; a position of this size is none


class MarginMode(enum.StrEnum):
    """How margin is held."""

    ISOLATED = "isolated"
    CROSS = "cross"
    UNKNOWN = "unknown"


class PositionMode(enum.StrEnum):
    """Whether one symbol has one position or one per side."""

    ONE_WAY = "one_way"
    HEDGE = "hedge"


class _NotABoolean:
    """A position is flat, held or unknown: asking for its truth is asking for a wrong guess."""

    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} has no truth value; match on Flat, Held and Unknown"
        )


@dataclass(frozen=True, slots=True)
class Flat(_NotABoolean):
    """The venue confirmed that there is no position."""


@dataclass(frozen=True, slots=True)
class Held(_NotABoolean):
    """The venue confirmed exactly one position.

    Attributes:
      quantity: signed, base units, never 0. liquidation_price: None = the venue names none.
      residue: smaller than the venue's minimum order.
    """

    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    unrealised_pnl: Decimal
    leverage: Decimal
    margin_mode: MarginMode
    liquidation_price: Decimal | None
    venue_time_ms: int
    stop_price: Decimal | None = None
    target_price: Decimal | None = None
    residue: bool = False


@dataclass(frozen=True, slots=True)
class Unknown(_NotABoolean):
    """Anything else; never sizes an order."""

    reason: str


Position = Flat | Held | Unknown


def confirmed_quantity(position: Position) -> Decimal:
    """What is certainly held, signed base units: 0 where nothing is and where nothing is known."""
    return position.quantity if isinstance(position, Held) else ZERO


@dataclass(frozen=True, slots=True)
class Balance:
    """What the account holds of its settlement asset, profit that is not realised included.

    Attributes:
      equity, available: quote units. maintenance_margin: of the whole account, or None.
    """

    equity: Decimal
    available: Decimal
    maintenance_margin: Decimal | None
    asset: str
    venue_time_ms: int


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """Whose account the keys open, as the venue reports it."""

    account_id: str
    permissions: frozenset[str]
    margin_mode: MarginMode
    position_mode: PositionMode
    multi_asset: bool = False


@dataclass(frozen=True, slots=True)
class Configured:
    """Settings of a symbol as they were read back."""

    leverage: Decimal
    margin_mode: MarginMode
    position_mode: PositionMode
