"""One symbol, looked after: what is seen of it, and what is done about that.

The daemon's bars and looks (`live.trading.symbol`) and the steps of the environments go through
here; neither has rules of its own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from live.clock import Clock, newest_closed_bar
from live.journal import AlreadyDecidedError, Journal
from live.risk.readings import Answered, AuthFailed, BarDecided, JournalWrite, UnknownOverdue
from live.trading.acts import Acted, NotActed, View
from live.trading.closing import Closing
from live.trading.darkness import Darkness
from live.trading.desk import Desk
from live.trading.examiner import Examiner
from live.trading.listing import ListingWatch
from live.trading.meter import Meter
from live.trading.progress import Progress, SymbolConfig
from live.trading.settings import SettingsWatch
from live.trading.trader import SymbolTrader
from live.types import Category, Flat, Snapshot, UnreadableError
from live.venue import Venue

_log = logging.getLogger("live.trading.steward")


class Steward:
    """Looks after one symbol; whoever calls does one thing at a time.

    Args:
      listing, settings: whether the venue still lists and keeps what was set up.
      meter: hears what happens. wall: for what it is told, seconds.

    Attributes:
      progress: so far. examiner: compares venue and journal. closing: the way out.
      darkness: what is done where bars cannot be read.
      again: called where the venue should be looked at again soon.
    """

    def __init__(
        self,
        venue: Venue,
        trader: SymbolTrader,
        journal: Journal,
        clock: Clock,
        desk: Desk,
        config: SymbolConfig,
        *,
        listing: ListingWatch,
        settings: SettingsWatch,
        meter: Meter,
        wall: Callable[[], float],
    ) -> None:
        self.trader, self.config = trader, config
        self.progress = Progress()
        self.closing = Closing(trader, desk)
        self.darkness = Darkness(
            trader, journal, desk, config, self.progress, self.closing, self._read
        )
        self.again: Callable[[], None] = lambda: None
        self._journal, self._clock, self._desk = journal, clock, desk
        self._meter, self._wall = meter, wall
        self.examiner = Examiner(
            venue,
            trader,
            journal,
            clock,
            desk,
            meter,
            listing=listing,
            settings=settings,
            policy=config.foreign,
            fills_every=config.fills_every,
            again=lambda: self.again(),
        )
        trader.filled, trader.alarm = self.examiner.filled, self._overdue
        trader.executor.heard = self.examiner.answered

    @property
    def symbol(self) -> str:
        """Canonical name."""
        return self.trader.symbol

    # Bars.

    async def see(self, bar_open_ms: int) -> View:
        """Read a bar and the account at its end, and react to what is not as it should be.

        Raises:
          UnreadableError: position, equity, prices or a frame could not be established.
        """
        await self.examiner.read_listing(asked_only=True)
        begun = self._wall()
        try:
            view = await self.trader.look(bar_open_ms)
        except UnreadableError as error:
            self._refused(error)
            raise
        self._meter.looked(self._wall() - begun)
        self.examiner.revised(view.revised)
        self.examiner.passed(view.bars_passed)
        await self._seen(view.snapshot)
        self.progress.unreadable = 0
        await self._examine(view.snapshot)
        return view

    async def carry_out(
        self, view: View, action: Any, *, policy_ms: float, fallback: bool = False
    ) -> Acted | NotActed:
        """Decide on a view, send what follows, and see to the stop; a bar is decided once."""
        try:
            acted = await self.trader.act(view, action, policy_ms=policy_ms, fallback=fallback)
        except AlreadyDecidedError as error:  # in an earlier life of this journal
            self.trader.forget_level()
            self._journal.event("repeated_bar", self.symbol, {"detail": str(error)})
            _log.warning("%s", error)
            return NotActed("repeated_bar")
        except UnreadableError as error:
            self.darkness.note(error)
            return NotActed("unreadable")
        self._acted(acted)
        if acted.changed:
            with contextlib.suppress(UnreadableError):  # the next look sees to it
                await self.guard()
        else:
            await self.protect(view.snapshot)
        return acted

    def _acted(self, acted: Acted) -> None:
        for sent in acted.sent:
            self._desk.note(Answered(sent.outcome))
            self._doubted(getattr(sent.outcome, "category", None))
        self._note_journal()
        codes = {deny.code for _, deny in acted.denied}
        self._meter.denied(codes)
        self._desk.note(
            BarDecided(
                rate_denied=bool(codes & {"rate_minute", "rate_day"}),
                invalid_action=acted.plans[0].refused == "invalid_action",
                symbol=self.symbol,
            )
        )
        self.progress.last = acted

    # Between bars.

    async def look(self, *, restore: bool = False) -> Snapshot:
        """One look at everything; what it finds is journalled and reacted to.

        Args:
          restore: of a start: the journal's memory of the position is taken up first.

        Raises:
          UnreadableError: something could not be read.
        """
        await self.examiner.read_listing()
        snapshot = await self._read("reconcile")
        await self._seen(snapshot)
        if restore:
            self.trader.restore(snapshot.position)
        await self._examine(snapshot)
        await self.protect(snapshot)
        self._note_journal()
        return snapshot

    async def reconcile(self, *, restore: bool = False) -> Snapshot | None:
        """As `look`; None where something could not be read, which degrades."""
        try:
            return await self.look(restore=restore)
        except UnreadableError:
            return None

    async def guard(self, *, restore: bool = False) -> None:
        """Read the account, and see to the stop of what it holds.

        Args:
          restore: as of `look`.

        Raises:
          UnreadableError: something could not be read.
        """
        if self.config.simulated:
            return
        snapshot = await self._read("protection")
        self.progress.seen = snapshot
        if restore:
            self.trader.restore(snapshot.position)
        await self.trader.protect(snapshot)

    async def protect(self, snapshot: Snapshot) -> None:
        """See to the stop of the position, where it is one at a venue."""
        if not self.config.simulated:
            await self.trader.protect(snapshot)

    async def clear(self, reason: str) -> bool:
        """Close whatever is held, whoever opened it: somebody wants that; whether flat was read.

        What the journal does not explain is taken up first, so that closing it adds up.

        Raises:
          UnreadableError: the account cannot be read.
        """
        snapshot = await self._read("clear")
        if isinstance(snapshot.position, Flat):
            return True
        await self.examiner.take_over(snapshot, reason)
        return await self.closing.flatten(reason)

    # The pieces.

    async def _read(self, what: str) -> Snapshot:
        """The account and its orders now.

        Raises:
          UnreadableError: something could not be read; that is noted.
        """
        bar = newest_closed_bar(self._clock.now_ms(), self.trader.bar_ms)
        try:
            snapshot = await self.trader.glance(bar)
        except UnreadableError as error:
            self._refused(error)
            self._desk.degrade("unreadable", self.symbol)
            _log.warning("%s: %s: %s", self.symbol, what, error)
            raise
        self.darkness.seen(snapshot)
        return snapshot

    async def _seen(self, snapshot: Snapshot) -> None:
        self.darkness.seen(snapshot)
        self.progress.seen = snapshot
        self._desk.recover("unreadable", self.symbol)
        await self._journal.grouped(self._desk.read, snapshot)

    async def _examine(self, snapshot: Snapshot) -> None:
        """Compare and react; a simulated account holds what its fills say."""
        if self.config.simulated:
            agrees = await self.examiner.fetch_fills()
        else:
            agrees = await self.examiner.look(snapshot)
        if agrees:
            self._desk.reconciled(self.symbol)

    def _note_journal(self) -> None:
        """How the journal fares; a write that failed ends new risk at once."""
        health = self._journal.health
        self._desk.note(JournalWrite(health.failure is None, health.slow_in_a_row))

    def _refused(self, error: UnreadableError) -> None:
        """A read that was refused for its key halts at once: asking again would only be worse."""
        category = getattr(error, "category", None)
        if category is Category.AUTH:
            self._desk.note(AuthFailed(str(error)))
        self._doubted(category)

    def _doubted(self, category: Category | None) -> None:
        """A refused timestamp: the venue's time is measured again before anything is opened."""
        if category is Category.CLOCK:
            self._clock.disturb()

    def _overdue(self, client_id: str) -> None:
        """An order stays unknown for too long."""
        self._desk.note(UnknownOverdue(client_id))
