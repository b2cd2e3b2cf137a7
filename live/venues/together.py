"""A venue whose reads of single symbols are answered by reads of many, where that is as certain.

With many symbols on one account every bar asks the same questions of each of them. Those that come
together become one request. The answers say no more than the venue did: a listing that fails, or
misses a page, fails for everybody, and silence about a position is not yet the word for flat.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

from live.types import (
    Balance,
    Bracket,
    Fill,
    Flat,
    Held,
    Intent,
    OrderReport,
    Outcome,
    Position,
    Quote,
)
from live.venue import BatchVenue, EventKind, TooLongError, Venue, VenueEvent
from live.venues.joint import JointRead
from live.venues.split import SplitVenue


@dataclass(frozen=True, slots=True, kw_only=True)
class TogetherConfig:
    """Seconds.

    Attributes:
      gather: that a question waits for others. patience: that it waits for requests under way.
      deadline: of a request for many symbols, with all its pages.
    """

    gather: float = 0.002
    patience: float = 0.5
    deadline: float = 8.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"together: {field.name} must be finite and >= 0; got {value}.")
        if not self.deadline > 0:
            raise ValueError(f"together: deadline must be > 0; got {self.deadline}.")


class FlatMemory:
    """Symbols that are flat as far as anybody can know without asking again.

    The venue has said so literally, of the symbol alone; since then nobody has sent anything for
    it, no listing has shown it, and no event has named it.
    """

    def __init__(self) -> None:
        self._flat: set[str] = set()
        self._changes: dict[str, int] = {}
        self._breaks = 0
        self._interrupted = False

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._flat

    def mark(self, symbol: str) -> tuple[int, int]:
        """What has happened so far; to be taken before the venue is asked."""
        return self._breaks, self._changes.get(symbol, 0)

    def said(self, symbol: str, position: Position, mark: tuple[int, int]) -> None:
        """The venue's word on one symbol, which counts if nothing happened since it was asked."""
        if isinstance(position, Flat) and self.mark(symbol) == mark:
            self._flat.add(symbol)
        else:
            self._flat.discard(symbol)

    def changed(self, symbol: str) -> None:
        """Something was sent, shown or told: only a new word counts."""
        self._changes[symbol] = self._changes.get(symbol, 0) + 1
        self._flat.discard(symbol)

    def told(self, event: VenueEvent) -> None:
        """What an event means: one of a symbol concerns it, a break concerns all."""
        match event.kind:
            case EventKind.DISCONNECTED | EventKind.MALFORMED:
                self._interrupted |= event.kind is EventKind.DISCONNECTED
                self._unseen()
            case EventKind.CONNECTED if self._interrupted:
                self._interrupted = False
                self._unseen()
            case _ if event.symbol is not None:
                self.changed(event.symbol)

    def _unseen(self) -> None:
        """Anything may have happened."""
        self._breaks += 1
        self._flat.clear()


class TogetherVenue(SplitVenue):
    """`live.venue.Venue` that asks once for callers that ask at the same time.

    An answer is never older than the question. What a venue cannot list (see
    `live.venue.BatchVenue`), and what only one caller wants, is asked symbol by symbol.

    Args:
      venue: whose reads are shared. Its events must be read through this object, because they tell
        which positions may have changed.
    """

    def __init__(self, venue: Venue, config: TogetherConfig | None = None) -> None:
        super().__init__(venue, venue)
        self.config = given = config or TogetherConfig()
        self._batch = venue if isinstance(venue, BatchVenue) else None
        self._flat = FlatMemory()
        self._known: set[str] = set()
        shared = {
            "gather": given.gather,
            "patience": given.patience,
            "deadline": given.deadline,
        }
        self._positions = JointRead("positions", self._read_positions, **shared)
        self._quotes = JointRead("quotes", self._read_quotes, **shared)
        self._orders = JointRead("open orders", self._read_orders, **shared)
        self._balance = JointRead("balance", self._read_balance, **shared)
        self._fills = JointRead("fills", self._read_fills, **shared)

    # Reads ---------------------------------------------------------------------------------------

    async def position(self, symbol: str) -> Position:
        """Flat, held or unknown; flat only on the venue's literal word that nothing has shaken.

        Raises:
          UnreadableError: there was no answer, or the listing was not complete.
        """
        if self._batch is not None:
            self._known.add(symbol)
            listing = await self._positions.ask(symbol)
            if listing is not None:
                listed = listing.get(symbol)
                if isinstance(listed, Held | Flat):
                    return listed
                if listed is None and symbol in self._flat:
                    return Flat()
        mark = self._flat.mark(symbol)
        position = await self._trades.position(symbol)
        self._flat.said(symbol, position, mark)
        return position

    async def balance(self) -> Balance:
        """Equity and available balance."""
        return await self._balance.ask("")

    async def quote(self, symbol: str) -> Quote:
        """Best prices and mark."""
        listed = await self._quotes.ask(symbol) if self._batch is not None else None
        found = None if listed is None else listed.get(symbol)
        return await self._trades.quote(symbol) if found is None else found

    async def orders(self, symbol: str) -> tuple[OrderReport, ...]:
        """Open and conditional orders of the symbol; a failed listing raises."""
        listed = await self._orders.ask(symbol) if self._batch is not None else None
        found = None if listed is None else listed.get(symbol)
        return await self._trades.orders(symbol) if found is None else found

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        """Every change of position or cash since an instant, all pages."""
        listed = await self._fills.ask((symbol, since_ms)) if self._batch is not None else None
        found = None if listed is None else listed.get(symbol)
        if found is None:
            return await self._trades.fills(symbol, since_ms)
        # Another caller may have asked for more.
        return [fill for fill in found if fill.venue_time_ms >= since_ms]

    # Changes -------------------------------------------------------------------------------------

    async def submit(self, intent: Intent) -> Outcome:
        """To the venue; the position is asked anew from now on."""
        with self._changing(intent.symbol):
            return await self._trades.submit(intent)

    async def cancel(
        self, symbol: str, client_id: str = "", *, venue_order_id: str = ""
    ) -> Outcome:
        """To the venue, as `submit`."""
        with self._changing(symbol):
            return await self._trades.cancel(symbol, client_id, venue_order_id=venue_order_id)

    async def amend_protection(self, symbol: str, bracket: Bracket) -> Outcome:
        """To the venue, as `submit`."""
        with self._changing(symbol):
            return await self._trades.amend_protection(symbol, bracket)

    async def events(self) -> AsyncIterator[VenueEvent]:
        """Those of the venue."""
        async for event in self._trades.events():
            self._flat.told(event)
            yield event

    @contextlib.contextmanager
    def _changing(self, symbol: str) -> Iterator[None]:
        """What is read before or during a change says nothing about what comes after."""
        self._flat.changed(symbol)
        try:
            yield
        finally:
            self._flat.changed(symbol)

    # Of many symbols; None where only one is asked for: to ask for it alone tells more ------------

    async def _read_positions(self, symbols: frozenset[str]) -> Mapping[str, Position] | None:
        if self._batch is None or len(symbols) == 1:
            return None
        # Of every symbol, so that no showing is missed of one that nobody asks for just now.
        found = await self._batch.positions(self._known)
        for symbol in found:
            self._flat.changed(symbol)
        return found

    async def _read_quotes(self, symbols: frozenset[str]) -> Mapping[str, Quote] | None:
        if self._batch is None or len(symbols) == 1:
            return None
        return await self._batch.quotes(symbols)

    async def _read_orders(
        self, symbols: frozenset[str]
    ) -> Mapping[str, tuple[OrderReport, ...]] | None:
        if self._batch is None or len(symbols) == 1:
            return None
        return await self._batch.open_orders(symbols)

    async def _read_fills(
        self, asked: frozenset[tuple[str, int]]
    ) -> Mapping[str, list[Fill]] | None:
        if self._batch is None or len(asked) == 1:
            return None
        earliest = min(since_ms for _, since_ms in asked)
        try:
            return await self._batch.all_fills({symbol for symbol, _ in asked}, earliest)
        except TooLongError:  # of all symbols together; each alone has fewer
            return None

    async def _read_balance(self, _: frozenset[str]) -> Balance:
        return await self._trades.balance()
