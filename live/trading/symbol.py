"""One symbol of a daemon: its start, its bars, and the looks between them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from live.clock import Clock, Tick, newest_closed_bar
from live.journal import AlreadyDecidedError, Journal
from live.operations.meter import Meter
from live.policy import QUICK, Policy
from live.reconcile.startup import disagreement
from live.risk import Latch, TradingState
from live.risk.readings import (
    Answered,
    AuthFailed,
    BarDecided,
    JournalWrite,
    UnknownOverdue,
)
from live.trading.acts import Acted, View
from live.trading.deciding import Decided, decide
from live.trading.desk import Desk
from live.trading.examiner import Examiner
from live.trading.listing import ListingWatch
from live.trading.progress import Progress, SymbolConfig
from live.trading.settings import SettingsWatch
from live.trading.trader import SymbolTrader
from live.trading.turns import Turns
from live.types import Category, Fill, Flat, Held, Snapshot, Unknown, UnreadableError
from live.venue import Venue

_log = logging.getLogger("live.trading.symbol")


class SymbolLoop:
    """What happens to one symbol, one thing at a time.

    Args:
      listing, settings: whether the venue still lists and keeps what was set up.
      turns: exits before entries, over all symbols. meter: hears what happens. wall: real seconds.

    Attributes:
      progress: so far. policy: who decides; called in a thread.
    """

    def __init__(
        self,
        venue: Venue,
        trader: SymbolTrader,
        journal: Journal,
        clock: Clock,
        desk: Desk,
        policy: Policy,
        config: SymbolConfig,
        *,
        listing: ListingWatch,
        settings: SettingsWatch,
        turns: Turns,
        meter: Meter,
        wall: Callable[[], float],
    ) -> None:
        self.trader, self.policy, self.config = trader, policy, config
        self.progress = Progress()
        self._journal, self._clock, self._desk = journal, clock, desk
        self._turns, self._meter, self._wall = turns, meter, wall
        self._wake, self._due, self._rested = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tick: Tick | None = None
        self._acting = asyncio.Lock()
        self._known: Flat | Held | None = None  # position when it was last known
        self._examiner = Examiner(
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
            again=self._wake.set,
        )
        trader.filled, trader.alarm = self._examiner.filled, self._overdue
        trader.executor.heard = self._examiner.answered

    @property
    def symbol(self) -> str:
        """Canonical name."""
        return self.trader.symbol

    # Start.

    async def start(self, stopping: asyncio.Event) -> None:
        """Everything is explained before anything is traded (docs/live.md, "Journal")."""
        # A position that a crash has left bare gets its stop before any question is asked.
        await self._protect(restore=True)
        await self.trader.unknowns.settle()
        await self._examiner.fetch_fills()
        await self._agree(stopping)
        held = self.progress.seen is not None and isinstance(self.progress.seen.position, Held)
        if self.config.close_on_start and held and not stopping.is_set():
            await self.flatten("close_position_on_init")
            await self._agree(stopping)
        await asyncio.to_thread(self._warm_up)

    async def _agree(self, stopping: asyncio.Event) -> None:
        """Look until two readings in a row agree: a stale one is no fact."""
        before: Snapshot | None = None
        while not stopping.is_set():
            snapshot = await self.reconcile(restore=True)
            if snapshot is not None and not isinstance(snapshot.position, Unknown):
                if before is not None and disagreement(before, snapshot) is None:
                    return
                before = snapshot
            await self._clock.sleep(self.config.second_look)

    def _warm_up(self) -> None:
        """Compile before the first bar what would make it late."""
        observation = self.trader.warm_up()
        # These remember nothing, so an action on made-up prices does no harm.
        if isinstance(self.policy, QUICK):
            self.policy(observation, {"bar_open_ms": 0, "venue_time_ms": 0, "missed_bars": 0})

    # Bars.

    def offer(self, tick: Tick) -> None:
        """A bar has closed; a symbol that is late takes the newest."""
        self._tick = tick
        self._rested.clear()
        self._due.set()

    @property
    def resting(self) -> bool:
        """Whether no bar that was offered is being decided."""
        return self._rested.is_set()

    async def rested(self) -> None:
        """Return once every bar that was offered is through."""
        await self._rested.wait()

    async def trade(self, after: int, max_steps: int | None) -> None:
        """Decide on bars newer than ``after`` as they are offered."""
        # A bar that was decided in an earlier life is not offered again, whatever the clock says.
        after = max(after, self._journal.last_bar(self.symbol) or after)
        while max_steps is None or self.progress.steps < max_steps:
            if not self._due.is_set():
                self._rested.set()
            await self._due.wait()
            self._due.clear()
            tick = self._tick
            if tick is None or tick.bar_open_ms <= after:
                continue
            missed = (tick.bar_open_ms - after) // self.trader.bar_ms - 1
            after = tick.bar_open_ms
            self.progress.missed_bars += missed
            self._meter.missed(missed)
            await self.bar(tick.bar_open_ms, tick.disturbances)
            self.progress.steps += 1
        self._rested.set()

    async def idle(self) -> None:
        """Return once nothing is being decided or looked at."""
        async with self._acting:
            pass

    async def bar(self, bar_open_ms: int, disturbances: int | None = None) -> None:
        """Look, decide, act; a bar that cannot be read is no decision.

        Args:
          disturbances: of the clock when the bar was offered, None = now; where there are more of
            them in the end, the decision is dropped.
        """
        if disturbances is None:
            disturbances = self._clock.disturbances
        self._turns.begin(bar_open_ms)
        try:
            async with self._acting:
                await self._bar(bar_open_ms, disturbances)
        finally:
            self._turns.passed(self.symbol, bar_open_ms)

    async def _bar(self, bar_open_ms: int, disturbances: int) -> None:
        await self._examiner.read_listing(asked_only=True)
        begun = self._wall()
        try:
            view = await self.trader.look(bar_open_ms)
        except UnreadableError as error:
            self._refused(error)
            await self._unreadable(str(error))
            return
        self._meter.looked(self._wall() - begun)
        self._note_known(view.snapshot)
        self._examiner.revised(view.revised)
        self._examiner.passed(view.bars_passed)
        await self._seen(view.snapshot)
        self.progress.unreadable = 0
        if await self._examiner.look(view.snapshot):
            self._desk.reconciled(self.symbol)
        if await self._flatten_if_asked():
            return
        decided = await decide(
            self.policy,
            view,
            self._journal,
            deadline=self.config.policy,
            wall=self._wall,
        )
        self._meter.decided(decided.milliseconds / 1000, fallback=decided.fallback)
        if self._clock.disturbances != disturbances:
            self._drop(bar_open_ms)
            return
        try:
            acted = await self.trader.act(
                view,
                decided.action,
                policy_ms=decided.milliseconds,
                fallback=decided.fallback,
            )
        except AlreadyDecidedError as error:
            self.trader.forget_level()
            self._journal.event("repeated_bar", self.symbol, {"detail": str(error)})
            _log.warning("%s", error)
            return
        self._noted(view, acted, decided)
        if acted.changed:
            await self._protect()
        else:
            await self.trader.protect(view.snapshot)

    def _drop(self, bar_open_ms: int) -> None:
        """The machine slept or its clock was set: what was to be done is of another time."""
        why = "the clock was disturbed; the next bar decides"
        self._journal.event("dropped", self.symbol, {"bar_open_ms": bar_open_ms, "why": why})
        _log.warning("%s: %s", self.symbol, why)
        self.look_now()

    def _noted(self, view: View, acted: Acted, decided: Decided) -> None:
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
        self.progress.decisions.appendleft(decided.row(view, acted))

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

    async def _unreadable(self, detail: str) -> None:
        self.progress.unreadable += 1
        self._desk.degrade("unreadable", self.symbol)
        self._journal.event("unreadable", self.symbol, {"detail": detail})
        _log.warning("%s: bar could not be read: %s", self.symbol, detail)
        if self.progress.unreadable < self.config.grace_bars:
            return
        if self.config.unreadable == "hold" and await self._covered():
            return
        # First the latch: a crash in between must not forget why.
        self._desk.latch(Latch(TradingState.HALTED, "observation", detail))
        if self.config.unreadable == "flatten":
            self._desk.close(self.symbol, "observation")  # tried again until flat was read
            await self._flatten_if_asked()

    async def _covered(self) -> bool:
        """Whether nothing is held or its stop is at the venue: now, or when last known."""
        await self._glance("hold")
        match self._known:
            case Flat():
                return True
            case Held() as held:
                return held.stop_price is not None
            case _:
                return False

    # Between bars.

    async def watch(self) -> None:
        """Look at the venue whenever somebody wants to know."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._acting:
                await self.reconcile()
                await self._flatten_if_asked()

    def look(self) -> None:
        """Look at the venue soon, as in every round of all symbols."""
        self._wake.set()

    def look_now(self, *, settings: bool = False) -> None:
        """Look at the venue at once, fills included: what was known may no longer be so.

        Args:
          settings: those of the account too.
        """
        self._examiner.doubt(settings=settings)
        self._wake.set()

    def hear(self, fill: Fill) -> None:
        """A stream told of a fill."""
        self.trader.executor.book((fill,), "stream")

    async def flatten(self, reason: str) -> bool:
        """Close the position; whether flat was read."""
        # Asked for until it is done: where nobody answers, the looks go on trying.
        self._desk.close(self.symbol, reason)
        async with self._acting:
            flat = await self.trader.flatten(reason)
        if flat:
            self._desk.flattened(self.symbol)
        return flat

    async def reconcile(self, *, restore: bool = False) -> Snapshot | None:
        """One look at everything; what it finds is journalled and reacted to.

        Args:
          restore: of a start: the journal's memory of the position is taken up first.

        Returns: what was read; None = it could not be.
        """
        await self._examiner.read_listing()
        snapshot = await self._glance("reconcile")
        if snapshot is None:
            return None
        await self._seen(snapshot)
        if restore:
            self.trader.restore(snapshot.position)
        if await self._examiner.look(snapshot):
            self._desk.reconciled(self.symbol)
        await self.trader.protect(snapshot)
        self._note_journal()
        return snapshot

    def _note_known(self, snapshot: Snapshot) -> None:
        if not isinstance(snapshot.position, Unknown):
            self._known = snapshot.position

    def _note_journal(self) -> None:
        """How the journal fares; a write that failed ends new risk at once."""
        health = self._journal.health
        self._desk.note(JournalWrite(health.failure is None, health.slow_in_a_row))

    async def _seen(self, snapshot: Snapshot) -> None:
        self.progress.seen = snapshot
        self._desk.recover("unreadable", self.symbol)
        await self._journal.grouped(self._desk.read, snapshot)

    async def _glance(self, what: str) -> Snapshot | None:
        bar = newest_closed_bar(self._clock.now_ms(), self.trader.bar_ms)
        try:
            snapshot = await self.trader.glance(bar)
            self._note_known(snapshot)
            return snapshot
        except UnreadableError as error:
            self._refused(error)
            self._desk.degrade("unreadable", self.symbol)
            _log.warning("%s: %s: %s", self.symbol, what, error)
            return None

    async def _protect(self, *, restore: bool = False) -> None:
        snapshot = await self._glance("protection")
        if snapshot is None:
            return
        self.progress.seen = snapshot
        if restore:
            self.trader.restore(snapshot.position)
        await self.trader.protect(snapshot)

    async def _flatten_if_asked(self) -> bool:
        """Carry out what a breaker asked for; whether it did."""
        reason = self._desk.flatten_reason(self.symbol)
        if reason is None:
            return False
        if await self.trader.flatten(f"breaker: {reason}"):
            self._desk.flattened(self.symbol)
        return True

    def _overdue(self, client_id: str) -> None:
        """An order stays unknown for too long."""
        self._desk.note(UnknownOverdue(client_id))
