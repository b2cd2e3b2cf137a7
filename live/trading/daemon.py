"""The daemon: starts from the journal and the venue, decides bar after bar, and ends in order.

One scheduler follows the grid of bars; every symbol has tasks of its own (`live.trading.symbol`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from live import mailbox
from live.clock import Clock, next_boundary
from live.journal import Journal
from live.risk import Latch, TradingState
from live.trading.cash import CashWatch
from live.trading.commands import carry_out
from live.trading.desk import Desk
from live.trading.ending import end
from live.trading.schedule import trade
from live.trading.status import status_of
from live.trading.symbol import SymbolLoop
from live.venue import EventKind, Venue

_log = logging.getLogger("live.trading.daemon")

_ALIVE_SECONDS = 1.0
_SHOWN_EQUITY = 500
# No round is begun so shortly before a bar ends.
_CALM_MS = 2_000
# Symbols that start at once: each is asked about alone, and venues count requests.
_STARTING = 20
CLEAN, REFUSED, HALTED, LOST_JOURNAL, SECOND_SIGNAL = 0, 2, 3, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """How a daemon runs; seconds.

    Attributes:
      bar_delay: waited after a bar before it is read. look_every: between looks at all symbols
        while nothing else happens, look_fast: while a stream is lost. cash_every: between looks
        for money that nothing explains.
      shutdown: "cancel", "leave" or "flatten", which may take ``shutdown_timeout``.
      allow_local: a position whose stop only this process holds may be left.
      max_steps: bars of each symbol after which it ends, None = never.
    """

    mode: str = "paper"
    bar_delay: float = 1.0
    look_every: float = 10.0
    look_fast: float = 5.0
    cash_every: float = 60.0
    shutdown: str = "cancel"
    shutdown_timeout: float = 30.0
    allow_local: bool = False
    max_steps: int | None = None
    state_dir: Path | None = None


@dataclass(slots=True)
class Course:
    """What the page shows of the account: liveness and equity over time."""

    last_tick: float = 0.0
    started_ms: int = 0
    equity: deque[tuple[int, Decimal]] = field(default_factory=lambda: deque(maxlen=_SHOWN_EQUITY))

    def note(self, time_ms: int, equity: Decimal) -> None:
        """A reading of the equity; the same one again is no news."""
        if not self.equity or self.equity[-1][0] != time_ms:
            self.equity.append((time_ms, equity))


class Daemon:
    """One account.

    Args:
      symbols: what is traded, at least one; all on bars of one length.
      cash: finds money that nothing explains; None = not looked for.
      alive: called once a second while the daemon goes round. wall: for liveness only.

    Attributes:
      stopping: set from outside to end in order. course: so far.
    """

    def __init__(
        self,
        venue: Venue,
        symbols: Sequence[SymbolLoop],
        journal: Journal,
        clock: Clock,
        desk: Desk,
        config: DaemonConfig,
        *,
        cash: CashWatch | None = None,
        alive: Callable[[Daemon], None] = lambda daemon: None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self.venue, self.symbols, self.journal = venue, tuple(symbols), journal
        self.clock, self.desk, self.config = clock, desk, config
        self.cash = cash
        self.stopping, self._hurry = asyncio.Event(), asyncio.Event()
        self.course = Course()
        self.alive = alive
        self._wall = wall
        self._commands: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Reconcile, trade until told to stop, end in order; the exit code."""
        await self.start()
        async with asyncio.TaskGroup() as group:
            work = [self._listen(), self._supervise(), self._rounds(), self._count_cash()]
            helpers = [group.create_task(one) for one in work]
            helpers += [group.create_task(one.watch()) for one in self.symbols]
            try:
                await trade(
                    self.symbols,
                    self.clock,
                    self.stopping,
                    bar_delay=self.config.bar_delay,
                    max_steps=self.config.max_steps,
                )
            finally:
                for helper in helpers:
                    helper.cancel()
        await end(self)
        return HALTED if self.desk.state is TradingState.HALTED else CLEAN

    async def start(self) -> None:
        """Explain every symbol before anything is traded."""
        self.course.started_ms = self.clock.now_ms()
        gate = asyncio.Semaphore(_STARTING)

        async def start(one: SymbolLoop) -> None:
            async with gate:
                await one.start(self.stopping)

        async with asyncio.TaskGroup() as group:
            for one in self.symbols:
                group.create_task(start(one))

    # Between bars.

    async def _rounds(self) -> None:
        """Look at all symbols together, now and then: what they ask is one question then."""
        while True:
            lost = "stream" in self.desk.standing.degraded
            every = self.config.look_fast if lost else self.config.look_every
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), every)
            if self._hurry.is_set():  # the stream was just lost: a look is under way
                self._hurry.clear()
                continue
            # The bar looks at everything itself, and should not wait for a round.
            bar_ms = self.symbols[0].trader.bar_ms
            left_ms = next_boundary(self.clock.now_ms(), bar_ms) - self.clock.now_ms()
            for one in self.symbols:
                if one.resting and left_ms > _CALM_MS:
                    one.look()

    async def _count_cash(self) -> None:
        """Find money that came or went and that nothing explains."""
        if self.cash is None:
            return
        while True:
            await asyncio.sleep(self.config.cash_every)
            await self.cash.look()

    async def _listen(self) -> None:
        by_name = {one.symbol: one for one in self.symbols}
        async for event in self.venue.events():
            lost = "stream" in self.desk.standing.degraded
            match event.kind:
                case EventKind.DISCONNECTED:
                    if not lost:
                        self._hurry.set()
                    self.desk.degrade("stream")
                    self.look_now()
                case EventKind.CONNECTED:
                    self.desk.recover("stream")
                    self.look_now(settings=lost)
                case EventKind.BALANCE:
                    self.symbols[0].look()  # the account is the same in every look
                case _ if event.symbol is None:
                    self.look_now()
                case _ if event.symbol in by_name:
                    if event.fill is not None:
                        by_name[event.symbol].hear(event.fill)
                    by_name[event.symbol].look_now()

    async def _supervise(self) -> None:
        """Once a second: liveness, the HALT file, commands of the state folder."""
        while True:
            self.course.last_tick = self._wall()
            self.alive(self)
            balance = self.desk.balance
            if balance is not None:
                self.course.note(balance.venue_time_ms, balance.equity)
            folder = self.config.state_dir
            if folder is not None:
                reason = mailbox.read_halt(folder)
                if reason is not None:
                    self.desk.latch(Latch(TradingState.HALTED, "operator", reason))
                for request in mailbox.take(folder, int(time.time() * 1000)):
                    # A command may take long, and the daemon is alive meanwhile.
                    task = asyncio.ensure_future(self._requested(folder, request))
                    self._commands.add(task)
                    task.add_done_callback(self._commands.discard)
            await asyncio.sleep(_ALIVE_SECONDS)

    async def _requested(self, folder: Path, request: mailbox.Request) -> None:
        try:
            result = await self.command(
                request.name, request.reason, by=request.by, options=request.options
            )
        except ValueError as error:
            result = {"error": str(error)}
        mailbox.answer(folder, request, result)

    async def command(
        self,
        name: str,
        reason: str,
        *,
        by: str = "operator",
        options: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """See `live.trading.commands.carry_out`."""
        return await carry_out(self, name, reason, by=by, options=options or {})

    async def flatten(self, reason: str) -> bool:
        """Close every position; whether flat was read of each."""
        return all(await asyncio.gather(*(one.flatten(reason) for one in self.symbols)))

    def look_now(self, *, settings: bool = False) -> None:
        """Look at every symbol at once: what was known may no longer be so.

        Args:
          settings: at those too.
        """
        for one in self.symbols:
            one.look_now(settings=settings)

    # What is asked from outside.

    def ready(self) -> tuple[bool, Sequence[str]]:
        """Whether new positions may be opened, and why not."""
        reasons = list(self.desk.standing.reasons)
        if any(one.trader.frozen for one in self.symbols):
            reasons.append("unknown order")
        if self.journal.health.failure is not None:
            reasons.append("journal")
        return not reasons and self.desk.state is TradingState.ACTIVE, reasons

    def tick_age(self) -> float:
        """Seconds since the daemon last went round its loop."""
        return self._wall() - self.course.last_tick

    def status(self, symbol: str | None = None) -> Mapping[str, Any]:
        """Everything the page shows, as plain values.

        Args:
          symbol: the one to show in detail; None = the first.

        Raises:
          ValueError: it is not traded.
        """
        return status_of(self, symbol)
