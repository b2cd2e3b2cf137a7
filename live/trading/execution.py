"""Carry out intents of one symbol: journal, one send, and everything until the end is known.

The order of things is the safety: an intent is durable before it leaves, and it leaves once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from live import crash
from live.clock import Clock
from live.journal import Journal, JournalError
from live.orders import IntentState, TrackedOrder
from live.trading.following import Following
from live.trading.terms import SendTiming
from live.types import (
    Ambiguous,
    Bracket,
    Certainty,
    Definitive,
    Intent,
    IntentKind,
    Outcome,
    Position,
    Role,
)
from live.venue import Venue

crash.register("send", crash.SEND_POINTS)


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
    """Sends the orders of one symbol.

    Args:
      following: takes over what the venue has accepted.

    Attributes:
      heard: called with what the venue said to whatever was sent.
      sending: a request that changes the symbol is on its way.
    """

    def __init__(
        self,
        venue: Venue,
        journal: Journal,
        clock: Clock,
        symbol: str,
        timing: SendTiming,
        following: Following,
    ) -> None:
        self._venue, self._journal, self._clock = venue, journal, clock
        self._symbol, self._timing, self._following = symbol, timing, following
        self.heard: Callable[[Outcome], None] = lambda outcome: None
        self.sending = False
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
        position = await self._following.follow(intent.client_id, begun_ms)
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

    async def _attempt(self, intent: Intent) -> Outcome:
        try:
            async with asyncio.timeout(self._timing.submit):
                if intent.kind is IntentKind.AMEND:
                    bracket = intent.bracket or Bracket(None, None)
                    return await self._venue.amend_protection(self._symbol, bracket)
                return await self._venue.submit(intent)
        except TimeoutError:
            return Ambiguous(f"no answer within {self._timing.submit:g} s")
