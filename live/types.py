"""What the live layer speaks of: positions, orders, fills, snapshots, intents and outcomes.

Plain frozen values. Money and quantities are `decimal.Decimal` (exact,
as venues write them); the planner turns them into float64 for `jaxtrade.core` and rounds the result
back once. Times are integer milliseconds UTC of the venue's clock. Quantities are in base units,
signed only where a name says so. Field names follow docs/live.md.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import NoReturn

import numpy as np

# Words ------------------------------------------------------------------------------------------


class Side(enum.StrEnum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 buys, -1 sells."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY

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


class Category(enum.StrEnum):
    """Why a venue refused."""

    MARGIN = "margin"
    PRECISION = "precision"
    MINIMUM = "minimum"
    REDUCE_ONLY = "reduce_only"
    WOULD_TRIGGER = "would_trigger"
    DUPLICATE = "duplicate"
    THROTTLED = "throttled"
    CLOCK = "clock"
    AUTH = "auth"
    HALTED = "halted"
    NOT_FOUND = "not_found"
    RISK = "risk"
    OTHER = "other"


class MarginMode(enum.StrEnum):
    """How margin is held."""

    ISOLATED = "isolated"
    CROSS = "cross"
    UNKNOWN = "unknown"


class PositionMode(enum.StrEnum):
    """Whether one symbol has one position or one per side."""

    ONE_WAY = "one_way"
    HEDGE = "hedge"


# The market -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Instrument:
    """One traded symbol as its venue lists it.

    Attributes:
      venue: name of the adapter. symbol: canonical. venue_symbol: as the venue spells it.
      contract_size: base units of one contract (1 where the wire speaks of base units).
      quantity_step, tick: exact steps of quantity and price; 0 = no rounding (replay only).
      min_quantity, max_market_quantity: base units, 0 = none. min_notional: quote units, 0 = none.
      status: "trading" or the venue's word. delist_ms: when trading ends, or None.
    """

    venue: str
    symbol: str
    venue_symbol: str
    base: str
    quote: str
    settle: str
    contract_size: Decimal
    quantity_step: Decimal
    min_quantity: Decimal
    max_market_quantity: Decimal
    tick: Decimal
    min_notional: Decimal
    max_leverage: Decimal
    taker_fee: Decimal
    maintenance_rate: Decimal
    status: str = "trading"
    delist_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """Best prices and the mark, quote units; without a cheap book all three are the mark."""

    bid: Decimal
    ask: Decimal
    mark: Decimal
    venue_time_ms: int


@dataclass(frozen=True, slots=True)
class Bars:
    """Closed bars of one time frame, ascending and contiguous.

    Attributes:
      frame: canonical name ("5Minute"). open_time_ms: int64 [N]. ohlcv: float64 [N, 5].
    """

    frame: str
    open_time_ms: np.ndarray
    ohlcv: np.ndarray


# The account ------------------------------------------------------------------------------------


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


# Orders -----------------------------------------------------------------------------------------


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

    @property
    def signed(self) -> Decimal:
        """Change of the position, base units."""
        return self.side.sign * self.quantity


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one decision sees of one symbol, read together.

    Attributes:
      bar_open_ms: of the newest closed execution bar; its end is the decision instant.
      bars: canonical frame name -> closed bars.
      orders: open and conditional orders of the symbol.
    """

    bar_open_ms: int
    venue_time_ms: int
    received_monotonic_ns: int
    instrument: Instrument
    position: Position
    balance: Balance
    quote: Quote
    bars: Mapping[str, Bars] = field(default_factory=lambda: MappingProxyType({}))
    orders: tuple[OrderReport, ...] = ()
    market_status: str = "trading"


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


# Outcomes ---------------------------------------------------------------------------------------


class Certainty(enum.StrEnum):
    """What is certain about a request."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class Definitive:
    """The venue's answer is known. Accepted is not filled."""

    kind: Certainty
    venue_order_id: str | None = None
    code: str | None = None
    category: Category | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The venue may have acted: ask by id, never send again."""

    reason: str


Outcome = Definitive | Ambiguous


@dataclass(frozen=True, slots=True)
class Found:
    """The venue knows the order."""

    report: OrderReport


@dataclass(frozen=True, slots=True)
class Absent:
    """A successful answer that names no such order.

    Attributes:
      endpoint: which list was asked; absence counts only if several say so.
    """

    endpoint: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer that counts."""

    reason: str


Answer = Found | Absent | Unavailable


class UnreadableError(Exception):
    """A read failed or did not make sense; what it would have told is unknown."""
