"""What the breakers are told: equity, outcomes, bars, writes, force; and what they answer."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal

from live.risk import Latch
from live.types import Outcome


@dataclass(frozen=True, slots=True)
class EquityRead:
    """Equity of the account, unrealised profit included, quote units; one per snapshot."""

    equity: Decimal
    venue_ms: int

    def __post_init__(self) -> None:
        if not self.equity.is_finite():
            raise ValueError(f"equity: must be a finite number; got {self.equity}.")


@dataclass(frozen=True, slots=True)
class Transfer:
    """An acknowledged deposit (or withdrawal, negative): it is no profit and no loss.

    Attributes:
      venue_ms: when the money moved.
    """

    cash: Decimal
    venue_ms: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of a submission."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AuthFailed:
    """A request was refused for its key or its address, a read included."""

    detail: str


@dataclass(frozen=True, slots=True)
class BarDecided:
    """One bar of a symbol was decided; an action is invalid if it is not in the table."""

    rate_denied: bool
    invalid_action: bool
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class JournalWrite:
    """How the journal's commits go; ``slow`` counts the slow ones in a row."""

    written: bool
    slow: int


class Forced(enum.StrEnum):
    """What the venue did to a position."""

    LIQUIDATION = "liquidation"
    ADL = "adl"
    DISASTER_STOP = "disaster_stop"


@dataclass(frozen=True, slots=True)
class ForcedEvent:
    """A position was reduced by force."""

    cause: Forced
    detail: str


@dataclass(frozen=True, slots=True)
class UnknownOverdue:
    """An unknown order has been searched for too long."""

    client_id: str


Reading = (
    EquityRead
    | Transfer
    | Answered
    | AuthFailed
    | BarDecided
    | JournalWrite
    | ForcedEvent
    | UnknownOverdue
)


@dataclass(frozen=True, slots=True)
class Trip:
    """A breaker has tripped.

    Attributes:
      latch: the state to journal; None = only an alarm. flatten: close the owned position, confirm
        by reading, repeat until it is gone.
    """

    code: str
    latch: Latch | None
    flatten: bool
    detail: str
