"""What can be found when venue, journal and planner are compared: one type per disagreement."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal

from live.types import Configured, Fill, OrderReport


class Cause(enum.StrEnum):
    """Why a position changed."""

    ORDER = "order"
    STOP = "stop"
    TARGET = "target"
    DISASTER_STOP = "disaster_stop"
    LIQUIDATION = "liquidation"
    ADL = "adl"
    FUNDING = "funding"
    SETTLEMENT = "settlement"
    MANUAL = "manual"

    @property
    def ours(self) -> bool:
        """Whether it is booked as ours; a manual trade is only ever an adjustment."""
        return self is not Cause.MANUAL


@dataclass(frozen=True, slots=True)
class PositionUnknown:
    """The position could not be read."""

    reason: str


@dataclass(frozen=True, slots=True)
class StaleSnapshot:
    """The snapshot is older than what was done since; it says nothing about it."""

    venue_time_ms: int


@dataclass(frozen=True, slots=True)
class DirectionChanged:
    """The position is on another side than the planner remembers; -1, 0 or 1."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class OffTarget:
    """The right side, but not the size that was aimed at; signed base units."""

    quantity: Decimal
    target: Decimal


@dataclass(frozen=True, slots=True)
class PendingFills:
    """A difference that fills may explain which are not booked yet, signed base units."""

    difference: Decimal


@dataclass(frozen=True, slots=True)
class PositionMismatch:
    """A difference that nothing of the journal explains; signed base units.

    Attributes:
      foreign: somebody else's fills explain it, or the journal holds nothing at all.
    """

    journal: Decimal
    venue: Decimal
    foreign: bool

    @property
    def difference(self) -> Decimal:
        """What the journal lacks."""
        return self.venue - self.journal


@dataclass(frozen=True, slots=True)
class OwnOrderUnknown:
    """An order with an id of ours that the journal does not have."""

    report: OrderReport


@dataclass(frozen=True, slots=True)
class ForeignOrder:
    """Somebody else's order on a symbol we trade."""

    report: OrderReport


@dataclass(frozen=True, slots=True)
class OrderMissing:
    """An order that rests according to the journal is not listed."""

    client_id: str


@dataclass(frozen=True, slots=True)
class OrderRevived:
    """An order that has ended according to the journal is listed as open."""

    report: OrderReport


@dataclass(frozen=True, slots=True)
class MissingFills:
    """The venue reports more of an order as filled than was booked."""

    client_id: str


@dataclass(frozen=True, slots=True)
class TargetMissing:
    """The position has not the target of its bracket; its stop is the guard's business."""

    price: Decimal


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """Leverage, margin mode or position mode are not what was set."""

    wanted: Configured
    found: Configured


@dataclass(frozen=True, slots=True)
class SettingsUnread:
    """A check of leverage and modes was due and could not be made."""

    reason: str


@dataclass(frozen=True, slots=True)
class CashMismatch:
    """Equity moved by more than fills, funding and the mark explain, quote units."""

    expected: Decimal
    equity: Decimal


@dataclass(frozen=True, slots=True)
class ForcedFill:
    """The venue liquidated or deleveraged, or the disaster stop fired."""

    cause: Cause
    fill: Fill


Finding = (
    PositionUnknown
    | StaleSnapshot
    | DirectionChanged
    | OffTarget
    | PendingFills
    | PositionMismatch
    | OwnOrderUnknown
    | ForeignOrder
    | OrderMissing
    | OrderRevived
    | MissingFills
    | TargetMissing
    | SettingsChanged
    | SettingsUnread
    | CashMismatch
    | ForcedFill
)
