"""The venue protocol: everything the daemon may ask of an exchange, or of what stands in for one.

Adapters (`live.venues`), the replay venue (`live.replay`) and paper accounts implement it; nothing
else touches an SDK or a socket. Every method has a deadline of its own and none ever retries a
submission.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol, runtime_checkable

from live.types import (
    AccountInfo,
    Answer,
    Balance,
    Bars,
    Bracket,
    Configured,
    Fill,
    Instrument,
    Intent,
    MarginMode,
    OrderReport,
    Outcome,
    Position,
    PositionMode,
    Quote,
    UnreadableError,
)

# A venue may tell of a fill late: they are read again from this long before the newest known one.
FILLS_OVERLAP_MS = 600_000


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue can do; `live.config.reference` writes the table of the documentation from it.

    Attributes:
      bracket_with_entry: stop and target travel with the entry order.
      protects_position: stop and target belong to the position and follow its size.
      reduce_only: an order may be marked as one that only reduces.
      closed_flag: a bar that is asked for says whether it is closed.
      refuses_repeated_id: a client id is accepted once, whatever became of its order.
      venue_stops: stops stand at the venue, not with a watcher of ours.
    """

    bracket_with_entry: bool
    protects_position: bool
    reduce_only: bool
    closed_flag: bool
    refuses_repeated_id: bool
    venue_stops: bool = True


class EventKind(enum.StrEnum):
    """What a stream tells of."""

    ORDER = "order"
    FILL = "fill"
    POSITION = "position"
    BALANCE = "balance"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class VenueEvent:
    """One message of a stream: a reason to look, and what it said where that is useful."""

    kind: EventKind
    symbol: str | None = None
    order: OrderReport | None = None
    fill: Fill | None = None
    detail: str = ""


@runtime_checkable
class Venue(Protocol):
    """One exchange account. Reads raise `UnreadableError` when nothing certain can be said.

    Attributes:
      name: of the adapter. capabilities: of the venue.
    """

    name: str
    capabilities: Capabilities

    async def connect(self) -> None:
        """Build clients and streams; sends no order."""

    async def close(self) -> None:
        """Release everything; never raises, never touches orders or positions."""

    async def server_time(self) -> int:
        """Milliseconds UTC at the venue."""

    async def instrument(self, symbol: str) -> Instrument:
        """The listed symbol.

        Raises:
          ValueError: it is not listed or does not trade.
        """

    async def listing(self, symbol: str) -> Instrument:
        """The symbol as it is listed now, whether it trades or not; see `Instrument.status`.

        Raises:
          ValueError: it is not listed.
        """

    async def account(self) -> AccountInfo:
        """Whose account this is, read from the venue."""

    async def configure(
        self,
        symbol: str,
        leverage: Decimal,
        margin_mode: MarginMode,
        position_mode: PositionMode,
        *,
        account_wide: bool = False,
    ) -> Configured:
        """Set what may be set and read everything back.

        Args:
          account_wide: settings that other users of the account would notice may be changed.

        Raises:
          ValueError: what was read back differs from what was asked.
        """

    async def settings(self, symbol: str) -> Configured:
        """Leverage, margin mode and position mode of a symbol as they are; changes nothing."""

    async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
        """The newest ``count`` closed bars of a time frame."""

    async def position(self, symbol: str) -> Position:
        """Flat, held or unknown; flat only on the venue's literal word."""

    async def balance(self) -> Balance:
        """Equity and available balance of the settlement asset."""

    async def quote(self, symbol: str) -> Quote:
        """Best prices and mark."""

    async def orders(self, symbol: str) -> tuple[OrderReport, ...]:
        """Open and conditional orders of the symbol; a failed listing raises."""

    async def submit(self, intent: Intent) -> Outcome:
        """One network attempt to place an order; never raises for what the venue did."""

    async def cancel(
        self, symbol: str, client_id: str = "", *, venue_order_id: str = ""
    ) -> Outcome:
        """Cancel one order, by its client id or, where it has none, by the venue's own."""

    async def amend_protection(self, symbol: str, bracket: Bracket) -> Outcome:
        """Set, move or (None) remove stop and target of the position."""

    async def query(self, symbol: str, client_id: str) -> Answer:
        """What became of an order: found, absent on one endpoint, or no answer."""

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        """Every change of position or cash since an instant, all pages."""

    def events(self) -> AsyncIterator[VenueEvent]:
        """What the streams tell; an accelerator only."""


# What a venue may offer besides -------------------------------------------------------------------


@runtime_checkable
class BatchVenue(Protocol):
    """Reads of many symbols with few requests; a listing that is not complete raises.

    Rows of other symbols are not looked at. The methods raise `UnreadableError`, for all symbols
    together, where a request failed, a page is missing or a row does not tell whose it is.
    """

    async def positions(self, symbols: Collection[str]) -> Mapping[str, Position]:
        """Positions that a complete listing shows.

        A symbol that the listing does not show is left out: silence is not the venue's literal
        word for flat. A row that makes no sense is an unknown position.
        """

    async def quotes(self, symbols: Collection[str]) -> Mapping[str, Quote]:
        """Quotes of one listing; a symbol without a row that makes sense is left out."""

    async def open_orders(self, symbols: Collection[str]) -> Mapping[str, tuple[OrderReport, ...]]:
        """Open and conditional orders; a symbol with a row that makes no sense is left out."""

    async def all_fills(self, symbols: Collection[str], since_ms: int) -> Mapping[str, list[Fill]]:
        """Every change of position or cash since an instant; symbols as in `open_orders`.

        Raises:
          TooLongError: there are more than a listing of all symbols can show.
        """


class TooLongError(UnreadableError):
    """A listing has more pages than are read; one symbol alone may have fewer."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an adapter counts of its own traffic.

    Attributes:
      silences: seconds since each stream last said anything, by its name. tokens: requests that
        may leave at once, by lane. failures: requests that failed so far, by a word for how.
      held_up: routes that only what must not wait may use now, and why, for people.
    """

    silences: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    held_up: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class CountingVenue(Protocol):
    """A venue that knows its own traffic."""

    def usage(self) -> Usage:
        """As it is now; nothing where it is not connected."""


def usage_of(venue: object) -> Usage:
    """What a venue counts; nothing where it does not."""
    return venue.usage() if isinstance(venue, CountingVenue) else Usage()


@runtime_checkable
class DeadManVenue(Protocol):
    """A venue that cancels what rests when this program is silent; a position keeps its stop."""

    async def deadman(self) -> int | None:
        """Seconds that it waits, None = its timer is off; changes nothing."""


async def deadman_of(venue: object) -> int | None:
    """What `DeadManVenue.deadman` says; None where there is no such timer."""
    return await venue.deadman() if isinstance(venue, DeadManVenue) else None
