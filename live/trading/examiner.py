"""Where journal, planner and venue disagree about a symbol, and what comes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from live.clock import Clock
from live.journal import Journal
from live.observation.bars import Revision
from live.reconcile.compare import compare, forced
from live.reconcile.findings import Cause, Finding, ForcedFill, PositionMismatch
from live.reconcile.reactions import ForeignPolicy, Reaction, RecordAdjustment, react
from live.reconcile.sightings import REASONS, Sightings
from live.risk import Latch, TradingState
from live.risk.readings import Forced, ForcedEvent
from live.trading.desk import Desk
from live.trading.listing import ListingWatch, changes
from live.trading.meter import Meter
from live.trading.responses import foreign_fills, record, respond
from live.trading.settings import SettingsWatch
from live.trading.trader import SymbolTrader
from live.types import Fill, Outcome, Snapshot, Unknown, confirmed_quantity
from live.venue import FILLS_OVERLAP_MS, Venue

_log = logging.getLogger("live.trading.examiner")


class Examiner:
    """Compares every reading of one symbol with what is known, and reacts.

    Args:
      listing, settings: whether the venue still lists and keeps what was set up.
      policy: what happens to what the journal does not explain. fills_every: seconds between reads
        of the fills while nothing asks for them.
      again: called where the venue should be looked at again soon.
    """

    def __init__(
        self,
        venue: Venue,
        trader: SymbolTrader,
        journal: Journal,
        clock: Clock,
        desk: Desk,
        meter: Meter,
        *,
        listing: ListingWatch,
        settings: SettingsWatch,
        policy: ForeignPolicy,
        fills_every: float,
        again: Callable[[], None],
    ) -> None:
        self._venue, self._trader, self._journal = venue, trader, journal
        self._clock, self._desk, self._meter = clock, desk, meter
        self._listing, self._settings = listing, settings
        self._policy, self._fills_every, self._again = policy, fills_every, again
        self._sightings = Sightings(policy=policy)
        self._forced: list[ForcedFill] = []
        self._fills_due = 0.0  # of the clock's elapsed seconds
        self._fills_read_ms = 0

    @property
    def symbol(self) -> str:
        """Canonical name."""
        return self._trader.symbol

    # What the looks are told.

    def passed(self, bars: int) -> None:
        """So many bars have closed."""
        self._settings.passed(bars)

    def answered(self, outcome: Outcome) -> None:
        """What the venue said to an order or an amendment."""
        self._listing.note(outcome)

    def doubt(self, *, settings: bool) -> None:
        """What was known may no longer be so: the next look reads the fills, and the settings."""
        self._fills_due = 0.0
        if settings:
            self._settings.ask()

    def filled(self, fill: Fill, cause: Cause) -> None:
        """A fill was booked; what the venue forced halts at once and is a finding of the next look.

        At once: the second phase of a flip must not open again what was just taken away.
        """
        self._meter.filled(fill)
        self._note_contradiction(fill)
        for found in forced([(fill, cause)]):
            event = ForcedEvent(Forced(cause.value), f"trade {fill.trade_id}")
            self._desk.note(event, self.symbol)
            self._forced.append(found)
        self._again()

    def _note_contradiction(self, fill: Fill) -> None:
        """A fill of an order that had none to come: what else is known may be wrong, too."""
        known = fill.client_id and self._journal.knows(fill.client_id, self.symbol)
        if not known or not (order := self._journal.tracked(fill.client_id)).contradicted:
            return
        asked = f"{order.client_id} of {order.quantity} is {order.state}"
        detail = f"{asked}, and {order.filled} was traded"
        self._desk.latch(Latch(TradingState.REDUCING, "mismatch", detail))

    def revised(self, revisions: Iterable[Revision]) -> None:
        """Closed bars that the venue tells differently now; its new word counts."""
        for one in revisions:
            body: dict[str, Any] = {"frame": one.frame, "open_time_ms": one.open_time_ms}
            body |= {"before": one.before, "after": one.after}
            self._journal.event("bar_revised", self.symbol, body)
            _log.warning("%s: a closed bar was revised: %s", self.symbol, body)

    # Looks.

    async def read_listing(self, *, asked_only: bool = False) -> None:
        """Filters and status of the market, where it is time to read them again.

        Args:
          asked_only: only where an order was not taken since.
        """
        if asked_only and not self._listing.asked:
            return
        found = await self._listing.look()
        changed = changes(self._trader.instrument, found)
        if changed:
            self._journal.event("listing", self.symbol, changed)
            _log.warning("%s: the venue lists it differently: %s", self.symbol, changed)
            self._trader.listed(found)

    async def look(self, snapshot: Snapshot) -> bool:
        """React to where venue, journal and planner disagree; whether they agree."""
        fills_read = await self.fetch_fills() if self._fills_wanted(snapshot) else True
        findings = (
            *self._compared(snapshot, fills_read),
            *self._forced,
            *await self._settings.look(),
        )
        self._forced.clear()
        self._sightings, report = self._sightings.note(
            findings, snapshot.received_monotonic_ns, snapshot.position
        )
        for finding, is_confirmed in report:
            kind = type(finding).__name__
            self._meter.found(kind)
            self._journal.event("finding", self.symbol, {"what": kind, "confirmed": is_confirmed})
            for reaction in react(finding, self._policy, is_confirmed):
                if await self._responded(reaction):
                    self._again()
        for reason in REASONS - self._sightings.reasons:
            self._desk.recover(reason, self.symbol)
        return self._sightings.settled

    async def take_over(self, snapshot: Snapshot, by: str) -> None:
        """Take what the journal does not explain of a position for ours, in somebody's name."""
        for finding in self._compared(snapshot, await self.fetch_fills()):
            if isinstance(finding, PositionMismatch):
                taken = RecordAdjustment("manual", finding.difference, Decimal(0), True)
                record(taken, self._trader, self._journal, by)

    def _compared(self, snapshot: Snapshot, fills_read: bool) -> tuple[Finding, ...]:
        differs = confirmed_quantity(snapshot.position) != self._journal.position(self.symbol)
        # What own orders have done is waited for before it counts as somebody else's.
        late_since = self._clock.now_ms() - FILLS_OVERLAP_MS if differs else None
        return compare(
            self._trader.explainer.view(late_since),
            self._trader.state,
            snapshot,
            fills_read=fills_read,
            manual=foreign_fills(self._trader, self._journal),
            position_legs=self._venue.capabilities.protects_position,
        )

    async def _responded(self, reaction: Reaction) -> bool:
        given = self._venue, self._trader, self._journal, self._desk, self._policy
        return await respond(reaction, *given)

    def _fills_wanted(self, snapshot: Snapshot) -> bool:
        """Fills are read in time, and wherever the position needs an explanation."""
        position = snapshot.position
        return (
            self._clock.monotonic() >= self._fills_due
            or isinstance(position, Unknown)
            or confirmed_quantity(position) != self._journal.position(self.symbol)
            or bool(self._journal.working(self.symbol))
            or bool(self._journal.unresolved(self.symbol))
        )

    async def fetch_fills(self) -> bool:
        """Book the fills since the watermark; whether the venue told them."""
        mark = self._journal.watermark(self.symbol, "fills")
        # Before the first mark: everything since there is a journal, however long ago.
        since = int(self._journal.meta("created_ms") or 0) if mark is None else mark.venue_ms
        now_ms = self._clock.now_ms()
        since = max(since, self._fills_read_ms)
        fills = await self._trader.books.fetch(since - FILLS_OVERLAP_MS)
        if fills is None:
            return False
        self._fills_read_ms = now_ms
        self._fills_due = self._clock.monotonic() + self._fills_every
        newest = max(fills, key=lambda fill: fill.venue_time_ms, default=None)
        if newest is not None and (mark is None or newest.trade_id != mark.last_id):
            await self._journal.grouped(
                self._journal.set_watermark,
                self.symbol,
                "fills",
                newest.venue_time_ms,
                newest.trade_id,
            )
        return True
