"""The daemon: starts from the journal and the venue, decides bar after bar, and ends in order."""

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

import numpy as np

import jaxtrade
from live.clock import Clock, newest_closed_bar, next_tick
from live.journal import AlreadyDecidedError, Journal
from live.observation.bars import duration_ms
from live.operations import mailbox
from live.operations.meter import Meter
from live.policy import BaselinePolicy, BundlePolicy, Policy
from live.reconcile import Sightings
from live.reconcile.compare import compare, forced
from live.reconcile.findings import Cause, ForcedFill
from live.reconcile.reactions import ForeignPolicy, react
from live.reconcile.startup import disagreement
from live.risk import Latch, TradingState
from live.risk.readings import Answered, AuthFailed, BarDecided, JournalWrite, UnknownOverdue
from live.trading import snapshots
from live.trading.desk import Desk
from live.trading.responses import respond
from live.trading.trader import Acted, SymbolTrader, View
from live.types import Category, Fill, Flat, Held, Snapshot, Unknown, UnreadableError
from live.venue import EventKind, Venue

_log = logging.getLogger("live.trading.daemon")

_ALIVE_SECONDS = 1.0
_SHOWN_EQUITY = 500
_FILL_OVERLAP_MS = 600_000
CLEAN, REFUSED, HALTED, LOST_JOURNAL, SECOND_SIGNAL = 0, 2, 3, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """How a daemon runs; seconds.

    Attributes:
      bar_delay: waited after a bar before it is read. policy: deadline of a decision.
      orders_every: between looks at the venue while nothing else happens.
      foreign: what happens to what the journal does not explain. unreadable: "halt", "flatten" or
        "hold" after ``grace_bars`` bars that could not be read.
      shutdown: "cancel", "leave" or "flatten". max_steps: bars after which it ends, None = never.
    """

    mode: str = "paper"
    bar_delay: float = 1.0
    policy: float = 20.0
    orders_every: float = 10.0
    second_look: float = 2.0
    foreign: ForeignPolicy = ForeignPolicy.REFUSE
    unreadable: str = "halt"
    grace_bars: int = 3
    shutdown: str = "cancel"
    max_steps: int | None = None
    state_dir: Path | None = None


@dataclass(slots=True)
class Progress:
    """What the page and the tests look at; ``seen`` is the newest look at the account."""

    steps: int = 0
    missed_bars: int = 0
    unreadable: int = 0
    last: Acted | None = None
    last_tick: float = 0.0
    seen: Snapshot | None = None
    started_ms: int = 0
    equity: deque[tuple[int, Decimal]] = field(default_factory=lambda: deque(maxlen=_SHOWN_EQUITY))
    decisions: list[dict[str, Any]] = field(default_factory=list)


class Daemon:
    """One account, one symbol, one policy.

    Args:
      stop: set from outside to end in order. wall: for liveness only. meter: hears what happens.
    """

    def __init__(
        self,
        venue: Venue,
        trader: SymbolTrader,
        journal: Journal,
        clock: Clock,
        desk: Desk,
        policy: Policy,
        config: DaemonConfig,
        *,
        wall: Callable[[], float] = time.monotonic,
        meter: Meter | None = None,
    ) -> None:
        self.meter = meter or Meter()
        self.venue, self.trader, self.journal = venue, trader, journal
        self.clock, self.desk, self.policy, self.config = clock, desk, policy, config
        self.stopping = asyncio.Event()
        self.progress = Progress()
        self._wall = wall
        self._sightings = Sightings()
        self._wake = asyncio.Event()
        self._acting = asyncio.Lock()
        self._forced: list[ForcedFill] = []

    async def run(self) -> int:
        """Reconcile, trade until told to stop, end in order; the exit code."""
        await self._start()
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._watch()),
                group.create_task(self._listen()),
                group.create_task(self._supervise()),
            ]
            try:
                await self._trade()
            finally:
                for helper in helpers:
                    helper.cancel()
        await self._end()
        return HALTED if self.desk.state is TradingState.HALTED else CLEAN

    # Start.

    async def _start(self) -> None:
        """Everything is explained before anything is traded (docs/live.md, "Journal")."""
        self.progress.started_ms = self.clock.now_ms()
        # A position that a crash has left bare gets its stop before any question is asked.
        await self._protect(restore=True)
        await self.trader.settle_unknown()
        await self._fetch()
        await self._agree()
        await asyncio.to_thread(self._warm_up)

    async def _agree(self) -> None:
        """Look until two readings in a row agree: a stale one is no fact."""
        before: Snapshot | None = None
        while not self.stopping.is_set():
            snapshot = await self.reconcile(restore=True)
            if snapshot is not None and not isinstance(snapshot.position, Unknown):
                if before is not None and disagreement(before, snapshot) is None:
                    return
                before = snapshot
            await self.clock.sleep(self.config.second_look)

    def _warm_up(self) -> None:
        """Compile before the first bar what would make it late."""
        observation = self.trader.warm_up()
        # These remember nothing, so an action on made-up prices does no harm.
        if isinstance(self.policy, BundlePolicy | BaselinePolicy):
            self.policy(observation, {"bar_open_ms": 0, "venue_time_ms": 0, "missed_bars": 0})

    async def _fetch(self) -> bool:
        """Book the fills since the watermark; whether the venue told them."""
        symbol = self.trader.symbol
        mark = self.journal.watermark(symbol, "fills")
        # Before the first mark: everything since there is a journal, however long ago.
        since = int(self.journal.meta("created_ms") or 0) if mark is None else mark.venue_ms
        fills = await self.trader.executor.fetch_fills(since - _FILL_OVERLAP_MS)
        if fills:
            newest = max(fills, key=lambda fill: fill.venue_time_ms)
            self.journal.set_watermark(symbol, "fills", newest.venue_time_ms, newest.trade_id)
        return fills is not None

    # Bars.

    async def _trade(self) -> None:
        after = newest_closed_bar(self.clock.now_ms(), self.trader.bar_ms)
        # A bar that was decided in an earlier life is not offered again, whatever the clock says.
        after = max(after, self.journal.last_bar(self.trader.symbol) or after)
        while not self.stopping.is_set():
            tick = await self._next(after)
            if tick is None:
                return
            after = tick.bar_open_ms
            self.progress.missed_bars += tick.missed_bars
            self.meter.missed(tick.missed_bars)
            async with self._acting:
                await self._bar(tick.bar_open_ms)
            self.progress.steps += 1
            if self.config.max_steps is not None and self.progress.steps >= self.config.max_steps:
                return

    async def _next(self, after: int | None) -> Any:
        """The next decision that is due, or None when the daemon is to stop."""
        delay = int(self.config.bar_delay * 1000)
        due = asyncio.ensure_future(
            next_tick(self.clock, self.trader.bar_ms, after=after, delay_ms=delay)
        )
        stop = asyncio.ensure_future(self.stopping.wait())
        done, _ = await asyncio.wait((due, stop), return_when=asyncio.FIRST_COMPLETED)
        for task in (due, stop):
            task.cancel()
        return due.result() if due in done else None

    async def _bar(self, bar_open_ms: int) -> None:
        """Look, decide, act; a bar that cannot be read is no decision."""
        begun = self._wall()
        try:
            view = await self.trader.look(bar_open_ms)
        except UnreadableError as error:
            self._refused(error)
            await self._unreadable(str(error))
            return
        self.meter.looked(self._wall() - begun)
        self.progress.seen = view.snapshot
        balance = view.snapshot.balance
        self.progress.equity.append((balance.venue_time_ms, balance.equity))
        self.progress.unreadable = 0
        self.desk.recover("unreadable")
        self.desk.read(view.snapshot)
        if await self._settle_findings(view.snapshot):
            self.desk.reconciled()
        if await self._flatten_if_asked():
            return
        action, milliseconds, fallback = await self._decide(view)
        self.meter.decided(milliseconds / 1000, fallback=fallback)
        try:
            acted = await self.trader.act(view, action, policy_ms=milliseconds, fallback=fallback)
        except AlreadyDecidedError as error:
            self.trader.forget_level()
            self.journal.event("repeated_bar", self.trader.symbol, {"detail": str(error)})
            _log.warning("%s", error)
            return
        self._noted(view, acted, action)
        await self._protect()

    async def _decide(self, view: View) -> tuple[Any, float, bool]:
        """What the policy says, in time and without an error; hold otherwise."""
        begun = self._wall()
        info = {
            "bar_open_ms": view.snapshot.bar_open_ms,
            "venue_time_ms": view.snapshot.venue_time_ms,
            "missed_bars": view.bars_passed - 1,
        }
        try:
            async with asyncio.timeout(self.config.policy):
                action = await asyncio.to_thread(self.policy, view.observation, info)
        except TimeoutError:
            _log.warning("policy: no action within %g s; holding", self.config.policy)
            return None, (self._wall() - begun) * 1000, True
        except Exception as error:  # the user's code: whatever it raises must not end the daemon
            _log.warning("policy: failed; holding", exc_info=True)
            detail = f"{type(error).__name__}: {error}"
            self.journal.event("policy", self.trader.symbol, {"detail": detail})
            return None, (self._wall() - begun) * 1000, True
        return action, (self._wall() - begun) * 1000, False

    def _noted(self, view: View, acted: Acted, action: Any) -> None:
        for sent in acted.sent:
            self.desk.note(Answered(sent.outcome))
        health = self.journal.health
        self.desk.note(JournalWrite(written=health.failure is None, slow=health.slow_in_a_row > 0))
        codes = {deny.code for _, deny in acted.denied}
        self.meter.denied(codes)
        self.desk.note(
            BarDecided(
                rate_denied=bool(codes & {"rate_minute", "rate_day"}),
                invalid_action=acted.plans[0].refused == "invalid_action",
            )
        )
        self.progress.last = acted
        row = {
            "bar_open_ms": view.snapshot.bar_open_ms,
            "action": None if action is None else np.asarray(action).tolist(),
            "level": acted.plans[0].level,
            "decision": str(acted.decision),
            "refused": acted.refused,
            "reason": acted.plans[-1].reason,
            "observation": {key: np.asarray(x).tolist() for key, x in view.observation.items()},
        }
        self.progress.decisions = [row, *self.progress.decisions[:19]]

    def _refused(self, error: UnreadableError) -> None:
        """A read that was refused for its key halts at once: asking again would only be worse."""
        if getattr(error, "category", None) is Category.AUTH:
            self.desk.note(AuthFailed(str(error)))

    async def _unreadable(self, detail: str) -> None:
        self.progress.unreadable += 1
        self.desk.degrade("unreadable")
        self.journal.event("unreadable", self.trader.symbol, {"detail": detail})
        _log.warning("bar could not be read: %s", detail)
        if self.progress.unreadable < self.config.grace_bars:
            return
        if self.config.unreadable == "hold":
            return
        if self.config.unreadable == "flatten":
            await self.trader.flatten("unreadable")
        self.desk.latch(Latch(TradingState.HALTED, "observation", detail))

    # Between bars.

    async def _watch(self) -> None:
        """Look at the venue now and then, and whenever a stream says that something happened."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self.config.orders_every)
            self._wake.clear()
            async with self._acting:
                await self.reconcile()
                await self._flatten_if_asked()

    async def _listen(self) -> None:
        async for event in self.venue.events():
            if event.kind is EventKind.DISCONNECTED:
                self.desk.degrade("stream")
            elif event.kind is EventKind.CONNECTED:
                self.desk.recover("stream")
            elif event.fill is not None and event.symbol in (None, self.trader.symbol):
                self.trader.executor.book((event.fill,), "stream")
            self._wake.set()

    async def _supervise(self) -> None:
        """Once a second: liveness, the HALT file, commands of the state folder."""
        while True:
            self.progress.last_tick = self._wall()
            folder = self.config.state_dir
            if folder is not None:
                reason = mailbox.read_halt(folder)
                if reason is not None:
                    self.desk.latch(Latch(TradingState.HALTED, "operator", reason))
                for request in mailbox.take(folder, int(time.time() * 1000)):
                    await self._requested(folder, request)
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
        """Carry out an operator's command: halt, reduce, flatten, stop, resume, acknowledge.

        Raises:
          ValueError: it cannot be carried out; the message says why.
        """
        given = options or {}
        self.journal.event("command", None, {"name": name, "by": by, "reason": reason})
        match name:
            case "halt":
                self.desk.latch(Latch(TradingState.HALTED, "operator", reason))
            case "reduce":
                self.desk.latch(Latch(TradingState.REDUCING, "operator", reason))
            case "flatten":
                self.desk.latch(Latch(TradingState.HALTED, "operator", reason))
                async with self._acting:
                    flat = await self.trader.flatten(reason)
                return {"flat": flat, "state": self.desk.state}
            case "stop":
                self.stopping.set()
            case "resume":
                reset = bool(given.get("reset_baseline", False))
                cleared = self.desk.resume(by, reason, reset_baseline=reset)
                return {"cleared": cleared, "state": self.desk.state}
            case "acknowledge":
                return {"acknowledged": self.journal.acknowledge(by)}
            case _:
                raise ValueError(f"command: {name!r} is not known.")
        return {"state": self.desk.state}

    async def reconcile(self, *, restore: bool = False) -> Snapshot | None:
        """One look at everything; what it finds is journalled and reacted to.

        Args:
          restore: of a start: the journal's memory of the position is taken up first.

        Returns: what was read; None = it could not be.
        """
        bar = newest_closed_bar(self.clock.now_ms(), self.trader.bar_ms)
        try:
            snapshot = await self.trader.glance(bar)
        except UnreadableError as error:
            self._refused(error)
            self.desk.degrade("unreadable")
            _log.warning("reconcile: %s", error)
            return None
        self.desk.recover("unreadable")
        self.desk.read(snapshot)
        self.progress.seen = snapshot
        if restore:
            self.trader.restore(snapshot.position)
        if await self._settle_findings(snapshot):
            self.desk.reconciled()
        await self.trader.protect(snapshot)
        return snapshot

    async def _settle_findings(self, snapshot: Snapshot) -> bool:
        """React to where venue, journal and planner disagree; whether they agree."""
        symbol = self.trader.symbol
        fills_read = await self._fetch()
        findings = (
            *compare(
                self.trader.journal_view(),
                self.trader.state,
                snapshot,
                fills_read=fills_read,
                manual=tuple(self.trader.executor.manual.values()),
                position_legs=self.venue.capabilities.protects_position,
            ),
            *self._forced,
        )
        self._forced.clear()
        self._sightings, report = self._sightings.note(
            findings, snapshot.received_monotonic_ns, snapshot.position
        )
        for finding, confirmed in report:
            self.meter.found(type(finding).__name__)
            self.journal.event(
                "finding", symbol, {"what": type(finding).__name__, "confirmed": confirmed}
            )
            for reaction in react(finding, self.config.foreign, confirmed):
                if await respond(
                    reaction, self.trader, self.journal, self.desk, self.config.foreign
                ):
                    self._wake.set()
        held = self._sightings.reasons
        for reason in ("mismatch", "foreign", "position"):
            if reason not in held:
                self.desk.recover(reason)
        return not findings

    async def _protect(self, *, restore: bool = False) -> None:
        bar = newest_closed_bar(self.clock.now_ms(), self.trader.bar_ms)
        try:
            snapshot = await self.trader.glance(bar)
        except UnreadableError as error:
            self.desk.degrade("unreadable")
            _log.warning("protection could not be read: %s", error)
            return
        self.progress.seen = snapshot
        if restore:
            self.trader.restore(snapshot.position)
        await self.trader.protect(snapshot)

    async def _flatten_if_asked(self) -> bool:
        """Carry out what a breaker asked for; whether it did."""
        reason = self.desk.flatten_reason
        if reason is None:
            return False
        if await self.trader.flatten(f"breaker: {reason}"):
            self.desk.flatten_reason = None
        return True

    # End.

    async def _end(self) -> None:
        if self.config.shutdown == "flatten":
            await self.trader.flatten("shutdown")
        position = await snapshots.readable_position(self.venue, self.trader.symbol)
        match position:
            case Flat():
                text = "nothing remains at the venue"
            case Held() as held:
                text = (
                    f"{held.quantity} {self.trader.symbol} remain, stop {held.stop_price}, "
                    f"target {held.target_price}, held by the venue"
                )
            case Unknown(reason):
                text = f"the position is unknown: {reason}"
        self.journal.event("remains", self.trader.symbol, {"text": text})
        _log.info("%s", text)
        await self.trader.close()

    def filled(self, fill: Fill, cause: Cause) -> None:
        """A fill was booked; what the venue forced is a finding of the next look."""
        self.meter.filled(fill)
        self._forced += forced([(fill, cause)])
        self._wake.set()

    def look_now(self) -> None:
        """Look at the venue at once: what was known may no longer be so."""
        self._wake.set()

    def overdue(self, client_id: str) -> None:
        """An order stays unknown for too long."""
        self.desk.note(UnknownOverdue(client_id))

    # What the page shows.

    def ready(self) -> tuple[bool, Sequence[str]]:
        """Whether new positions may be opened, and why not."""
        reasons = list(self.desk.standing.reasons)
        if self.trader.frozen:
            reasons.append("unknown order")
        if self.journal.health.failure is not None:
            reasons.append("journal")
        return not reasons and self.desk.state is TradingState.ACTIVE, reasons

    def tick_age(self) -> float:
        """Seconds since the daemon last went round its loop."""
        return self._wall() - self.progress.last_tick

    def status(self) -> Mapping[str, Any]:
        """Everything the page shows, as plain values."""
        desk, balance, snapshot = self.desk, self.desk.balance, self.progress.seen
        breakers = desk.breakers
        return {
            "time_ms": self.clock.now_ms(),
            "started_ms": self.progress.started_ms,
            "mode": self.config.mode,
            "venue": self.venue.name,
            "account": self.journal.meta("tag"),
            "strategy": self.journal.meta("strategy_id"),
            "version": jaxtrade.__version__,
            "clock": {
                "offset_ms": getattr(self.clock, "offset_ms", None),
                "uncertainty_ms": getattr(self.clock, "uncertainty_ms", None),
            },
            "state": str(desk.state),
            "reasons": list(desk.standing.reasons),
            "latches": [
                {
                    "state": row.state,
                    "reason": row.reason,
                    "detail": row.detail,
                    "set_ms": row.set_ms,
                }
                for row in self.journal.latches()
            ],
            "equity": {
                "now": None if balance is None else balance.equity,
                "available": None if balance is None else balance.available,
                "initial": self.journal.baseline(),
                "peak": self.journal.peak(),
                "day_start": self.journal.day_start(),
                "asset": None if balance is None else balance.asset,
                "drawdown": None if breakers is None else breakers.drawdown,
                "daily_loss": None if breakers is None else breakers.daily_loss,
            },
            "equity_history": list(self.progress.equity),
            "symbols": [self._symbol_status(snapshot)],
        }

    def _symbol_status(self, snapshot: Snapshot | None) -> dict[str, Any]:
        position: dict[str, Any] = {"state": "unknown"}
        orders: list[dict[str, Any]] = []
        match None if snapshot is None else snapshot.position:
            case Flat():
                position = {"state": "flat"}
            case Held() as held:
                position = {
                    "state": "held",
                    "quantity": held.quantity,
                    "entry_price": held.entry_price,
                    "mark_price": held.mark_price,
                    "unrealised_pnl": held.unrealised_pnl,
                    "liquidation_price": held.liquidation_price,
                }
            case Unknown(reason):
                position = {"state": "unknown", "reason": reason}
        if snapshot is not None:
            orders = [
                {
                    "client_id": order.client_id,
                    "role": order.role,
                    "side": order.side,
                    "quantity": order.quantity,
                    "filled": order.filled,
                    "trigger_price": order.trigger_price,
                    "status": order.status,
                    "time_ms": order.venue_time_ms,
                }
                for order in snapshot.orders
            ]
        guarded = self.journal.protection(self.trader.symbol)
        spec = self.trader.observer.spec
        return {
            "symbol": self.trader.symbol,
            "execute_on": spec.execute_on.name,
            "next_bar_ms": (
                None
                if snapshot is None
                else snapshot.bar_open_ms + 2 * duration_ms(spec.execute_on)
            ),
            "frozen": self.trader.frozen,
            "position": position,
            "protection": (
                None
                if guarded is None or position["state"] == "flat"
                else {
                    "stop_price": guarded.stop_price,
                    "target_price": guarded.target_price,
                    "where": guarded.where_held,
                }
            ),
            "orders": orders,
            "decisions": self.progress.decisions,
            "unknown_orders": [
                {
                    "client_id": row.client_id,
                    "age_seconds": Decimal(self.clock.now_ms() - row.created_ms) / 1000,
                }
                for row in self.journal.unresolved(self.trader.symbol)
            ],
        }
