"""Orders: what is wished, how the venue reports it, and what was filled."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol


class Side(enum.StrEnum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 buys, -1 sells."""
        return 1 if self is Side.BUY else -1

    @classmethod
    def of(cls, signed: Decimal | float) -> Side:
        """The side that changes a position by a signed quantity; 0 has none."""
        if not signed:
            raise ValueError("side: a quantity of 0 has none")
        return cls.BUY if signed > 0 else cls.SELL


class Role(enum.StrEnum):
    """What an order is for; the last letter of its client id."""

    ENTRY = "e"
    REDUCE = "x"
    STOP = "s"
    TARGET = "t"
    FLATTEN = "f"

    @property
    def protective(self) -> bool:
        """Whether the order guards a position at the venue."""
        return self in (Role.STOP, Role.TARGET)


class IntentKind(enum.StrEnum):
    """What an intent asks of the venue."""

    MARKET = "market"
    STOP = "stop"
    TARGET = "target"
    BRACKET = "bracket"  # a market order with its stop and target
    AMEND = "amend"  # stop and target of the position
    CANCEL = "cancel"


class OrderStatus(enum.StrEnum):
    """State of an order at the venue; a word the adapter does not know is never terminal."""

    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    TRIGGERED = "triggered"
    UNRECOGNISED = "unrecognised"

    @property
    def terminal(self) -> bool:
        """Whether nothing more happens to the order."""
        return self in (
            OrderStatus.FILLED,
            OrderStatus.CANCELLED,
            OrderStatus.EXPIRED,
            OrderStatus.REJECTED,
        )


class FillKind(enum.StrEnum):
    """Why a position or the cash changed."""

    TRADE = "trade"
    LIQUIDATION = "liquidation"
    ADL = "adl"
    FUNDING = "funding"
    SETTLEMENT = "settlement"


@dataclass(frozen=True, slots=True)
class OrderReport:
    """One order as the venue reports it; quantities unsigned, base units."""

    client_id: str
    venue_order_id: str
    role: Role | None
    side: Side
    quantity: Decimal
    filled: Decimal
    average_price: Decimal | None
    trigger_price: Decimal | None
    reduce_only: bool
    status: OrderStatus
    venue_time_ms: int


class Texts(Protocol):
    """A row that answers by name, of a table or of a file."""

    def __getitem__(self, name: str, /) -> Any:
        """What stands under a name."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One change of position or cash; ``trade_id`` is unique per symbol, quantity unsigned.

    For funding ``quantity`` is 0 and ``fee`` what was paid (negative = received).

    Attributes:
      role: of its order, where the venue names it on the fill: a leg that belongs to the position
        carries no id of ours.
    """

    trade_id: str
    client_id: str
    venue_order_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    kind: FillKind
    venue_time_ms: int
    role: Role | None = None

    @classmethod
    def of_text(cls, row: Texts, venue_time_ms: int, role: Role | None = None) -> Fill:
        """A fill that was written down: every field as text under its own name.

        Raises:
          KeyError, ValueError, TypeError, ArithmeticError: a field is missing or not what it was.
        """
        return cls(
            trade_id=row["trade_id"],
            client_id=row["client_id"],
            venue_order_id=row["venue_order_id"],
            side=Side(row["side"]),
            quantity=Decimal(row["quantity"]),
            price=Decimal(row["price"]),
            fee=Decimal(row["fee"]),
            fee_asset=row["fee_asset"],
            kind=FillKind(row["kind"]),
            venue_time_ms=venue_time_ms,
            role=role,
        )

    @property
    def signed(self) -> Decimal:
        """Change of the position, base units."""
        return self.side.sign * self.quantity


@dataclass(frozen=True, slots=True)
class Bracket:
    """Absolute prices, quote units; None = no such leg."""

    stop_price: Decimal | None
    target_price: Decimal | None


@dataclass(frozen=True, slots=True)
class Intent:
    """One wish to change the venue, journalled before it is sent; numbers already rounded.

    Attributes:
      client_id: of the order it places or, to cancel, of the order it ends; given by the journal.
      quantity: unsigned, base units. bracket: of a "bracket" or an "amend".
      parent: client id of the entry that a leg belongs to.
    """

    kind: IntentKind
    role: Role
    symbol: str
    side: Side
    quantity: Decimal
    reduce_only: bool
    reason: str
    client_id: str = ""
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    bracket: Bracket | None = None
    parent: str | None = None
