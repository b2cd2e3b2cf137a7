"""The orders of one symbol that are at the venue, or may be: asked about until their end is known.

A doubtful outcome is a question to the venue, never a second send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

from live.clock import Clock, uncertainty_of
from live.journal import Journal
from live.orders import IntentState, TrackedOrder
from live.orders.followup import (
    CancelRemainder,
    Done,
    FetchFills,
    FollowUp,
    Lost,
    Poll,
    ReadPosition,
    Sleep,
)
from live.orders.resolution import Resolution, Resolved, Round
from live.trading.booking import Books
from live.trading.snapshots import readable_position
from live.trading.terms import SendTiming
from live.types import (
    Ambiguous,
    Answer,
    Bracket,
    Found,
    IntentKind,
    OrderReport,
    Outcome,
    Position,
    Unavailable,
    UnreadableError,
)
from live.venue import Venue

# Fills are read from before the intent: clocks differ a little.
_FILL_MARGIN_MS = 5_000


class Following:
    """What becomes of orders.

    Args:
      books: get the fills. followed: kept up to date with the client ids of the orders that are
        followed to their end. alarm: called with the client id of an order that stays unknown.

    Attributes:
      tick: of the symbol's prices.
    """

    def __init__(
        self,
        venue: Venue,
        journal: Journal,
        clock: Clock,
        symbol: str,
        timing: SendTiming,
        books: Books,
        followed: set[str],
        *,
        alarm: Callable[[str], None],
    ) -> None:
        self._venue, self._journal, self._clock = venue, journal, clock
        self._symbol, self._timing, self._books = symbol, timing, books
        self._followed, self._alarm = followed, alarm
        self.tick = Decimal(0)

    async def follow(self, client_id: str, begun_ms: int) -> Position:
        """An accepted order to its end; the position it leaves.

        Args:
          begun_ms: before it was sent, the venue's time.
        """
        self._followed.add(client_id)
        try:
            return await self._to_its_end(client_id, begun_ms)
        finally:
            self._followed.discard(client_id)

    async def _to_its_end(self, client_id: str, begun_ms: int) -> Position:
        follow = FollowUp.start(self._journal.tracked(client_id), self._now(), self._timing.follow)
        # Market orders are mostly filled by now.
        follow = follow.polled(await self.ask(client_id), self._now())
        while True:
            match follow.command(self._now()):
                case Sleep(until_ms):
                    await self._clock.sleep(max(until_ms - self._now(), 0) / 1000)
                case Poll():
                    follow = follow.polled(await self.ask(client_id), self._now())
                case CancelRemainder():
                    follow = follow.cancelled(await self.cancel(client_id), self._now())
                case FetchFills():
                    fills = await self._books.fetch(begun_ms - _FILL_MARGIN_MS)
                    follow = follow.fetched(fills or ())
                case ReadPosition():
                    position = await readable_position(self._venue, self._symbol)
                    follow = follow.position_read(position)
                case Done(_, position):
                    return position
                case Lost():
                    self._journal.resolve(client_id, IntentState.UNKNOWN)
                    return await readable_position(self._venue, self._symbol)

    async def resolve(self, client_id: str, bracket: Bracket | None = None) -> TrackedOrder:
        """Ask about an order until the venue has said what became of it."""
        order = self._journal.tracked(client_id)
        if order.state is IntentState.INTENT:
            self._journal.resolve(client_id, IntentState.UNKNOWN)
        since = self._journal.intent(client_id).created_ms
        search = Resolution.start(
            order,
            self._venue.name,
            self._now(),
            self._timing.resolve,
            bracket=bracket,
            tick=self.tick,
        )
        while True:
            await self._clock.sleep(max(search.next_ms - self._now(), 0) / 1000)
            heard = await self._round(client_id, since)
            noted = search.note(heard)
            if isinstance(noted, Resolved):
                await self._journal.grouped(self._books.book, noted.fills, "resolution")
                if not noted.fills or noted.order.state.terminal:
                    self._journal.resolve(client_id, noted.order.state)
                if isinstance(heard.answer, Found):
                    self._journal.resolve(client_id, heard.answer.report)
                return await self.finish(client_id)
            search, due = noted.alarm(self._now())
            if due:
                self._alarm(client_id)

    async def finish(self, client_id: str) -> TrackedOrder:
        """Follow a market order that the venue has to its end, and book what it traded."""
        row = self._journal.intent(client_id)
        live = row.state in (IntentState.ACKED, IntentState.PARTIAL)
        if live and row.kind in (IntentKind.MARKET, IntentKind.BRACKET):
            await self.follow(client_id, row.created_ms)
        return self._journal.tracked(client_id)

    async def ask(self, client_id: str) -> Answer:
        """What the venue says of an order, which the journal hears too."""
        try:
            async with asyncio.timeout(self._timing.read):
                answer = await self._venue.query(self._symbol, client_id)
        except (TimeoutError, UnreadableError) as error:
            return Unavailable(str(error) or "no answer in time")
        if isinstance(answer, Found):
            await self._journal.grouped(self._journal.resolve, client_id, answer.report)
        return answer

    async def cancel(self, client_id: str) -> Outcome:
        """Cancel one order of ours; one attempt."""
        try:
            async with asyncio.timeout(self._timing.submit):
                return await self._venue.cancel(self._symbol, client_id)
        except TimeoutError:
            return Ambiguous(f"no answer to a cancel within {self._timing.submit:g} s")

    async def cancel_resting(self) -> None:
        """Cancel orders of ours that are no protection."""
        for row in self._journal.working(self._symbol):
            if not row.role.protective:
                await self.cancel(row.client_id)

    async def _round(self, client_id: str, since_ms: int) -> Round:
        """Every list that could name an order."""
        answer = await self.ask(client_id)
        orders: tuple[OrderReport, ...] | None
        try:
            async with asyncio.timeout(self._timing.read):
                orders = await self._venue.orders(self._symbol)
        except (TimeoutError, UnreadableError):
            orders = None
        fills = await self._books.fetch(since_ms - _FILL_MARGIN_MS)
        position = await readable_position(self._venue, self._symbol)
        return Round(
            self._now(),
            answer,
            orders,
            fills,
            position,
            clock_good=uncertainty_of(self._clock) <= self._timing.good_clock_ms,
        )

    def _now(self) -> int:
        """Elapsed milliseconds of a clock that never goes back."""
        return int(self._clock.monotonic() * 1000)
