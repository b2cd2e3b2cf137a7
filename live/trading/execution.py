"""Carry out intents of one symbol: journal, gate, one send, and everything until the end is known.

The order of things is the safety: an intent is durable before it leaves, it leaves once, and a
doubtful outcome is a question to the venue, never a second send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from live import crash
from live.clock import Clock, uncertainty_of
from live.journal import Journal, JournalError
from live.orders import IntentState, TrackedOrder
from live.orders.followup import (
    CancelRemainder,
    Done,
    FetchFills,
    FollowConfig,
    FollowUp,
    Lost,
    Poll,
    ReadPosition,
    Sleep,
)
from live.orders.resolution import Resolution, ResolveConfig, Resolved, Round
from live.reconcile.findings import Cause
from live.trading.snapshots import readable_position
from live.types import (
    Ambiguous,
    Answer,
    Bracket,
    Certainty,
    Definitive,
    Fill,
    Found,
    Intent,
    IntentKind,
    OrderReport,
    Outcome,
    Position,
    Role,
    Unavailable,
    UnreadableError,
)
from live.venue import Venue

crash.register("send", crash.SEND_POINTS)

# Fills are read from before the intent: clocks differ a little.
_FILL_MARGIN_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTiming:
    """How long sending and asking may take.

    Attributes:
      submit: of one send, seconds; longer than the SDK's own deadline. read: of one read, seconds.
      entry_ttl: how old an entry may be when it leaves, seconds; None = any age.
      good_clock_ms: a venue whose time is known worse than this may be showing an old list.
      follow, resolve: of accepted orders and of unknown ones.
    """

    submit: float = 10.0
    read: float = 5.0
    entry_ttl: float | None = None
    good_clock_ms: float = 1_000.0
    follow: FollowConfig = field(default_factory=FollowConfig)
    resolve: ResolveConfig = field(default_factory=ResolveConfig)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an intent.

    Attributes:
      order: as the journal knows it now. outcome: of the send. position: read after its end; None
        where nothing was read.
    """

    order: TrackedOrder
    outcome: Outcome
    position: Position | None = None

    @property
    def executed(self) -> bool:
        """Whether the venue did all that was asked."""
        if self.order.kind is IntentKind.AMEND:
            return self.order.state is IntentState.ACKED
        return self.order.state is IntentState.FILLED

    @property
    def unknown(self) -> bool:
        """Whether the venue has to be asked until it says something."""
        return self.order.state.unresolved


class Executor:
    """Sends and follows the orders of one symbol.

    Args:
      cause_of: why a fill happened; what is not ours is kept apart and never booked.
      booked: called with every fill that is new to the journal, and its cause.
      alarm: called with the client id of an order that stays unknown.
      heard: called with what the venue said to whatever was sent.

    Attributes:
      manual: trades of others, by trade id, until an adjustment takes them up.
      sending: a request that changes the symbol is on its way. tick: of the symbol's prices.
    """

    def __init__(
        self,
        venue: Venue,
        journal: Journal,
        clock: Clock,
        symbol: str,
        timing: SendTiming,
        *,
        cause_of: Callable[[Fill], Cause] = lambda fill: Cause.ORDER,
        booked: Callable[[Fill, Cause], None] = lambda fill, cause: None,
        alarm: Callable[[str], None] = lambda client_id: None,
        heard: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._venue, self._journal, self._clock = venue, journal, clock
        self._symbol, self._timing = symbol, timing
        self._cause_of, self._booked, self._alarm = cause_of, booked, alarm
        self.heard = heard
        self.manual: dict[str, Fill] = {}
        self.sending = False
        self.tick = Decimal(0)
        # Intents that are in the journal as sent and have not left yet.
        self._marked: set[str] = set()

    async def send(self, intent: Intent) -> Sent:
        """One attempt, and what follows from its outcome; the intent is in the journal already."""
        age = (self._clock.now_ms() - self._journal.intent(intent.client_id).created_ms) / 1000
        ttl = self._timing.entry_ttl
        if ttl is not None and intent.role is Role.ENTRY and age > ttl:
            return self.drop(intent, f"it is {age:.3g} s old; an entry may be {ttl:g} s old")
        try:
            if intent.client_id not in self._marked:
                await self._journal.grouped(self._journal.sent, intent.client_id)
        except JournalError as error:
            return self.drop(intent, str(error))  # the mark is not durable
        finally:
            self._marked.discard(intent.client_id)
        begun_ms = self._clock.now_ms()
        crash.point("send.before")
        self.sending = True
        try:
            outcome = await self._attempt(intent)
        finally:
            self.sending = False
        crash.point("send.after")
        await self._journal.grouped(self._journal.resolve, intent.client_id, outcome)
        self.heard(outcome)
        accepted = isinstance(outcome, Definitive) and outcome.kind is Certainty.ACCEPTED
        if not accepted or intent.kind in (IntentKind.AMEND, IntentKind.STOP, IntentKind.TARGET):
            return Sent(self._journal.tracked(intent.client_id), outcome)
        position = await self._follow(intent.client_id, begun_ms)
        return Sent(self._journal.tracked(intent.client_id), outcome, position)

    def mark(self, intents: tuple[Intent, ...]) -> None:
        """The first of new intents leaves at once: that is durable together with the intent.

        Raises:
          JournalError: it is not, do not send.
        """
        if intents and intents[0].kind is not IntentKind.CANCEL:
            self._journal.sent(intents[0].client_id)
            self._marked.add(intents[0].client_id)

    def add(self, bar_open_ms: int, intents: tuple[Intent, ...]) -> tuple[Intent, ...]:
        """Record further intents of a bar and that the first of them leaves at once.

        Raises:
          DuplicateIntentError: the bar has its entry. JournalError: an entry is not durable.
        """
        given = self._journal.add_intents(self._symbol, bar_open_ms, intents)
        self.mark(given)
        return given

    def drop(self, intent: Intent, why: str) -> Sent:
        """An intent that is in the journal and will not be sent."""
        unsent = Definitive(Certainty.NOT_SENT, detail=why)
        self._journal.resolve(intent.client_id, unsent)
        return Sent(self._journal.tracked(intent.client_id), unsent)

    async def cancel(self, client_id: str) -> Outcome:
        """Cancel one order of ours; one attempt."""
        try:
            async with asyncio.timeout(self._timing.submit):
                return await self._venue.cancel(self._symbol, client_id)
        except TimeoutError:
            return Ambiguous(f"no answer to a cancel within {self._timing.submit:g} s")

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
                await self._journal.grouped(self.book, noted.fills, "resolution")
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
            await self._follow(client_id, row.created_ms)
        return self._journal.tracked(client_id)

    def book(self, fills: Iterable[Fill], source: str) -> int:
        """Record the fills that are ours; how many were new."""
        new = 0
        for fill in fills:
            cause = self._cause_of(fill)
            if not cause.ours:
                self.manual[fill.trade_id] = fill
            elif self._journal.book(self._symbol, fill, source):
                self._booked(fill, cause)
                new += 1
        return new

    async def fetch_fills(self, since_ms: int) -> tuple[Fill, ...] | None:
        """Fills since an instant, booked; None where the venue did not say."""
        try:
            async with asyncio.timeout(self._timing.read):
                fills = tuple(await self._venue.fills(self._symbol, since_ms))
        except (TimeoutError, UnreadableError):
            return None
        if fills:
            await self._journal.grouped(self.book, fills, "read")
        return fills

    # The pieces.

    async def _attempt(self, intent: Intent) -> Outcome:
        try:
            async with asyncio.timeout(self._timing.submit):
                if intent.kind is IntentKind.AMEND:
                    bracket = intent.bracket or Bracket(None, None)
                    return await self._venue.amend_protection(self._symbol, bracket)
                return await self._venue.submit(intent)
        except TimeoutError:
            return Ambiguous(f"no answer within {self._timing.submit:g} s")

    async def _follow(self, client_id: str, begun_ms: int) -> Position:
        """An accepted order to its end; the position it leaves."""
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
                    fills = await self.fetch_fills(begun_ms - _FILL_MARGIN_MS)
                    follow = follow.fetched(fills or ())
                case ReadPosition():
                    position = await readable_position(self._venue, self._symbol)
                    follow = follow.position_read(position)
                case Done(_, position):
                    return position
                case Lost():
                    self._journal.resolve(client_id, IntentState.UNKNOWN)
                    return await readable_position(self._venue, self._symbol)

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

    async def _round(self, client_id: str, since_ms: int) -> Round:
        """Every list that could name an order."""
        answer = await self.ask(client_id)
        orders: tuple[OrderReport, ...] | None
        try:
            async with asyncio.timeout(self._timing.read):
                orders = await self._venue.orders(self._symbol)
        except (TimeoutError, UnreadableError):
            orders = None
        fills = await self.fetch_fills(since_ms - _FILL_MARGIN_MS)
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
