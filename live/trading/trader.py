"""One symbol, one bar after the other: look, decide, act, and see to the stop.

`SymbolTrader` is what the daemon, the environment classes and the replay drive. It owns the memory
of its symbol; everything it decides comes from the pure modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from live import planner
from live.clock import Clock, newest_closed_bar
from live.journal import Journal
from live.observation import Observer
from live.observation.bars import duration_ms, revisions
from live.planner.decision import SymbolState
from live.reconcile.findings import Cause
from live.trading import snapshots
from live.trading.acting import Acting
from live.trading.acts import Acted, View
from live.trading.booking import Books
from live.trading.desk import Desk
from live.trading.execution import Executor
from live.trading.explaining import Explainer
from live.trading.following import Following
from live.trading.gating import Gatekeeper
from live.trading.guarding import Protector
from live.trading.memory import Memory
from live.trading.restoring import restored
from live.trading.terms import TraderConfig
from live.trading.turns import Turns
from live.trading.unknowns import Unknowns
from live.trading.warming import warm_up
from live.types import Fill, Instrument, Position, Snapshot, Unknown
from live.venue import Venue


class SymbolTrader:
    """The life of one symbol.

    Args:
      desk: standing and limits of the account. turns: when entries may go; None = always.
      proven: host, mode and account are what the configuration says.

    Attributes:
      instrument: filters and status as read last. memory: what decisions are made with besides a
        view. filled: hears of every new fill and its cause.
      alarm: hears the client id of an order that stays unknown. unknowns: orders in doubt.
      books, following, executor: fills, orders at the venue, and orders on their way there.
      explainer: what the journal says of the symbol.
    """

    def __init__(
        self,
        venue: Venue,
        journal: Journal,
        clock: Clock,
        instrument: Instrument,
        observer: Observer,
        config: TraderConfig,
        desk: Desk,
        *,
        turns: Turns | None = None,
        proven: bool = True,
    ) -> None:
        self.observer, self.config = observer, config
        self.memory = Memory()
        self.filled: Callable[[Fill, Cause], None] = lambda fill, cause: None
        self.alarm: Callable[[str], None] = lambda client_id: None
        self._venue, self._journal, self._clock = venue, journal, clock
        symbol, sends = instrument.symbol, config.sends
        self.explainer = Explainer(journal, symbol, brackets=config.decision.table is not None)
        cause_of = self.explainer.cause_of
        self.books = Books(
            venue, journal, symbol, sends.read, cause_of=cause_of, booked=self._booked
        )
        self.following = Following(
            *(venue, journal, clock, symbol, sends, self.books, self.explainer.followed),
            alarm=lambda client_id: self.alarm(client_id),
        )
        self.executor = Executor(venue, journal, clock, symbol, sends, self.following)
        # What an order in doubt comes to is the venue's word, not the plan's: the level is open.
        self.unknowns = Unknowns(journal, symbol, self.following, self.memory.forget_level)
        gate = Gatekeeper(
            venue,
            journal,
            clock,
            desk,
            config,
            frame=observer.spec.execute_on.name,
            bar_ms=self.bar_ms,
            sending=lambda: self.executor.sending,
            proven=proven,
        )
        self._protector = Protector(
            *(venue, journal, clock, desk, self.executor, self.following, gate, config),
            bar=lambda: self.bar,
            searched=self.unknowns.search,
        )
        self._acting = Acting(
            *(venue, journal, clock, desk, symbol, config.decision, self.memory),
            *(self.executor, self.unknowns, gate, self._protector, turns or Turns(())),
            glance=self.glance,
        )
        self.listed(instrument)

    @property
    def symbol(self) -> str:
        """Canonical name."""
        return self.instrument.symbol

    @property
    def state(self) -> SymbolState:
        """What the planner remembers."""
        return self.memory.state

    @property
    def view(self) -> View | None:
        """The newest one that could be read."""
        return self.memory.view

    @property
    def frozen(self) -> bool:
        """Whether an order of the symbol is unknown: nothing new may be risked."""
        return bool(self._journal.unresolved(self.symbol))

    @property
    def bar_ms(self) -> int:
        """Length of an execution bar."""
        return duration_ms(self.observer.spec.execute_on)

    @property
    def bar(self) -> int:
        """The bar that further intents belong to."""
        if self.view is not None:
            return self.view.snapshot.bar_open_ms
        return newest_closed_bar(self._clock.now_ms(), self.bar_ms)

    def listed(self, instrument: Instrument) -> None:
        """Filters and status as the venue states them now."""
        self.instrument = instrument
        self.following.tick = instrument.tick

    # One bar.

    async def look(self, bar_open_ms: int) -> View:
        """The view at the end of a bar, and the memory brought in step with it.

        Raises:
          UnreadableError: position, equity, prices or a frame could not be established; nothing of
            the memory has changed.
        """
        snapshot = await snapshots.take(
            self._venue,
            self.observer,
            self.instrument,
            self._clock,
            bar_open_ms,
            self.config.reads,
        )
        self.explainer.note_legs(snapshot)
        memory = self.memory
        passed = memory.passed(bar_open_ms, self.bar_ms)
        state = planner.observe_bar(memory.state, snapshot.position, passed)
        observation = self.observer.observe(snapshot, state.held_bars)
        before = {} if memory.view is None else memory.view.snapshot.bars
        revised = (revisions(before.get(name), bars) for name, bars in snapshot.bars.items())
        view = View(snapshot, observation, passed, tuple(itertools.chain(*revised)))
        memory.state, memory.view = state, view
        return view

    async def glance(self, bar_open_ms: int) -> Snapshot:
        """Everything at the venue now, without bars and without counting one.

        Raises:
          UnreadableError: something could not be read.
        """
        snapshot = await snapshots.glance(
            self._venue, self.instrument, self._clock, bar_open_ms, self.config.reads
        )
        self.explainer.note_legs(snapshot)
        return snapshot

    def restore(self, position: Position) -> None:
        """Take up what the journal says of the position of a start; nothing of an unknown one."""
        if isinstance(position, Unknown):
            return
        counted = newest_closed_bar(self._clock.now_ms(), self.bar_ms)
        self.memory.restored_ms = counted
        self.memory.state = restored(
            self._journal,
            position,
            self.instrument,
            bar_ms=self.bar_ms,
            counted_bar_ms=counted,
            brackets=self.config.decision.table is not None,
        )

    async def synchronise(self) -> None:
        """Take up the direction of the venue; it is read again, since one answer may be stale."""
        position = await snapshots.readable_position(self._venue, self.symbol)
        self.memory.state = planner.synchronise(self.memory.state, position)

    def forget_level(self) -> None:
        """See `live.trading.memory.Memory.forget_level`."""
        self.memory.forget_level()

    def warm_up(self) -> dict[str, np.ndarray]:
        """Compile what a bar computes, on made-up prices, of which the observation is returned."""
        now_ms = self._clock.now_ms()
        return warm_up(self.observer, self.instrument, self.config.decision, now_ms)

    async def act(
        self, view: View, action: Any, *, policy_ms: float = 0.0, fallback: bool = False
    ) -> Acted:
        """Decide on a view and carry it out; the bar is decided once, whatever comes of it.

        Raises:
          AlreadyDecidedError: the journal has a decision for this bar.
        """
        return await self._acting.act(view, action, policy_ms=policy_ms, fallback=fallback)

    # Protection.

    async def protect(self, snapshot: Snapshot) -> None:
        """Look after the stop of the position; leftovers of one that is gone are cancelled."""
        await self._protector.look(snapshot, self.state.bracket)

    async def flatten(self, reason: str) -> bool:
        """Close what the venue holds, reduce-only, until flat is read; whether it was."""
        return await self._protector.flatten(self.instrument, reason)

    async def place_target(self, price: Decimal) -> None:
        """Set the target of the position again; its stop stays where it is."""
        await self._protector.place_target(self.instrument, price)

    async def close(self) -> None:
        """Stop asking about orders in doubt; the journal keeps them."""
        await self.unknowns.close()

    def _booked(self, fill: Fill, cause: Cause) -> None:
        self._acting.sized = None
        if cause in (Cause.ORDER, Cause.MANUAL):
            self._protector.filled()
        self.filled(fill, cause)
