"""One symbol of a daemon: its bars, offered in time and decided in order; looks between them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from live.clock import Clock, Tick, newest_closed_bar
from live.journal import Journal
from live.policy import QUICK, Policy
from live.trading.acts import NotActed
from live.trading.beginning import agree, take_up
from live.trading.deciding import decide
from live.trading.desk import Desk
from live.trading.meter import Meter
from live.trading.progress import Progress, SymbolConfig
from live.trading.steward import Steward
from live.trading.trader import SymbolTrader
from live.trading.turns import Turns
from live.types import Fill, Held, Snapshot, UnreadableError

_log = logging.getLogger("live.trading.symbol")


class SymbolLoop:
    """What happens to one symbol, one thing at a time.

    Args:
      steward: looks after it, and asks to look again through this.
      turns: exits before entries, over all symbols. meter: hears what happens. wall: real seconds.

    Attributes:
      policy: who decides; called in a thread.
    """

    def __init__(
        self,
        steward: Steward,
        policy: Policy,
        journal: Journal,
        clock: Clock,
        desk: Desk,
        *,
        turns: Turns,
        meter: Meter,
        wall: Callable[[], float],
    ) -> None:
        self._steward, self.policy = steward, policy
        self._journal, self._clock, self._desk = journal, clock, desk
        self._turns, self._meter, self._wall = turns, meter, wall
        self._wake, self._due, self._rested = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tick: Tick | None = None
        self._acting = asyncio.Lock()
        steward.again = self._wake.set

    @property
    def symbol(self) -> str:
        """Canonical name."""
        return self.trader.symbol

    @property
    def trader(self) -> SymbolTrader:
        """Its life at the venue."""
        return self._steward.trader

    @property
    def config(self) -> SymbolConfig:
        """How it is looked after."""
        return self._steward.config

    @property
    def progress(self) -> Progress:
        """So far."""
        return self._steward.progress

    # Start.

    async def start(self, stopping: asyncio.Event) -> None:
        """Everything is explained before anything is traded (docs/live.md, "Journal")."""
        await take_up(self._steward, patient=True)
        await agree(self._steward, self._clock, stopping)
        if self.config.close_on_start and self._owned and not stopping.is_set():
            await self.flatten("close_position_on_init")
            await agree(self._steward, self._clock, stopping)
        await asyncio.to_thread(self._warm_up)

    @property
    def _owned(self) -> bool:
        """Whether the position is ours; another's follows the policy for what is foreign."""
        seen = self.progress.seen
        if seen is None or not isinstance(seen.position, Held):
            return False
        return self._journal.position(self.symbol) * seen.position.quantity > 0

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
        steward = self._steward
        try:
            view = await steward.see(bar_open_ms)
        except UnreadableError as error:
            await steward.darkness.missed(error)
            return
        if await steward.closing.if_asked():
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
            self._drop(bar_open_ms, "the clock was disturbed; the next bar decides")
            return
        if newest_closed_bar(self._clock.now_ms(), self.trader.bar_ms) > bar_open_ms:
            self._drop(bar_open_ms, "a newer bar has closed meanwhile, which decides")
            return
        acted = await steward.carry_out(
            view, decided.action, policy_ms=decided.milliseconds, fallback=decided.fallback
        )
        if not isinstance(acted, NotActed):
            self.progress.decisions.appendleft(decided.row(view, acted))

    def _drop(self, bar_open_ms: int, why: str) -> None:
        """The machine slept, its clock was set, or it was slow: the decision is of another time."""
        self._journal.event("dropped", self.symbol, {"bar_open_ms": bar_open_ms, "why": why})
        _log.warning("%s: %s", self.symbol, why)
        self.look_now()

    # Between bars.

    async def watch(self) -> None:
        """Look at the venue whenever somebody wants to know."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._acting:
                await self._steward.reconcile()
                await self._steward.closing.if_asked()

    async def reconcile(self) -> Snapshot | None:
        """See `live.trading.steward.Steward.reconcile`."""
        return await self._steward.reconcile()

    def look(self) -> None:
        """Look at the venue soon, as in every round of all symbols."""
        self._wake.set()

    def look_now(self, *, settings: bool = False) -> None:
        """Look at the venue at once, fills included: what was known may no longer be so.

        Args:
          settings: those of the account too.
        """
        self._steward.examiner.doubt(settings=settings)
        self._wake.set()

    def hear(self, fill: Fill) -> None:
        """A stream told of a fill."""
        self.trader.books.book((fill,), "stream")

    async def flatten(self, reason: str) -> bool:
        """Close the position; whether flat was read."""
        # Asked for before it is this one's turn: what is under way then adds nothing.
        self._desk.close(self.symbol, reason)
        async with self._acting:
            return await self._steward.closing.flatten(reason)
