"""One symbol, one bar after the other: look, decide, act, and see to the stop.

`SymbolTrader` is what the daemon, the environment classes and the replay drive. It owns the only
reference to the memory of its symbol; everything it decides comes from the pure modules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from live import planner
from live.clock import Clock, newest_closed_bar, uncertainty_of
from live.journal import Journal
from live.journal.reading import DAY_MS
from live.journal.rows import IntentRow
from live.observation import Observer
from live.observation.bars import duration_ms
from live.observation.feature_tables import synthetic_bars
from live.observation.packing import pack
from live.orders import IntentState
from live.orders.protection import (
    CancelLeftovers,
    FlattenUnprotected,
    Guard,
    PlaceStop,
    protection_of,
)
from live.planner.decision import Decision, DecisionConfig, Plan, SymbolState
from live.planner.legs import disaster_stop, reanchor
from live.reconcile.compare import JournalView, cause_of
from live.reconcile.findings import Cause
from live.risk import Latch, OrderRate, RiskConfig, Standing, TradingState
from live.risk.context import RiskContext
from live.risk.gate import Allow, Deny, check
from live.trading import snapshots
from live.trading.execution import Executor, SendTiming, Sent
from live.trading.restoring import restored
from live.trading.snapshots import ReadTiming
from live.types import (
    Balance,
    Bracket,
    Fill,
    Flat,
    Held,
    Instrument,
    Intent,
    IntentKind,
    Position,
    Quote,
    Role,
    Side,
    Snapshot,
    Unknown,
)
from live.venue import Venue

# Tries at being flat before giving up until the next look.
_FLATTEN_ORDERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TraderConfig:
    """How one symbol is traded.

    Attributes:
      decision: of the planner. risk: limits. reads, sends: deadlines.
      enforce_risk: the gate acts; False: it only reports (a replay that is to equal the
        environment). entry_window: how late after its bar an entry may be, seconds.
      disaster_stop: fraction of the entry where the stop of last resort rests; "auto", None = none.
      stop_deadline: how long a position may be without its stop, seconds.
    """

    decision: DecisionConfig
    risk: RiskConfig = field(default_factory=RiskConfig)
    reads: ReadTiming = field(default_factory=ReadTiming)
    sends: SendTiming = field(default_factory=SendTiming)
    enforce_risk: bool = True
    entry_window: float = 30.0
    disaster_stop: float | str | None = None
    stop_deadline: float = 5.0


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is made on.

    Attributes:
      observation: as the policy sees it. bars_passed: since the view before.
    """

    snapshot: Snapshot
    observation: dict[str, np.ndarray]
    bars_passed: int


@dataclass(frozen=True, slots=True)
class Acted:
    """What a decision came to.

    Attributes:
      plans: one, or two of a flip. sent: in order. denied: by the gate, with its code.
    """

    plans: tuple[Plan, ...]
    sent: tuple[Sent, ...] = ()
    denied: tuple[tuple[Intent, Deny], ...] = ()

    @property
    def decision(self) -> Decision:
        """What was done in the end."""
        return self.plans[-1].decision

    @property
    def refused(self) -> str | None:
        """Code of what kept a wanted order from being sent, or None."""
        if self.denied:
            return self.denied[0][1].code
        return self.plans[-1].refused


class SymbolTrader:
    """The life of one symbol.

    Args:
      standing: tells the trading state now. latch: sets one. filled: hears of every new fill.
      proven: host, mode and account are what the configuration says.
    """

    def __init__(
        self,
        venue: Venue,
        journal: Journal,
        clock: Clock,
        instrument: Instrument,
        observer: Observer,
        config: TraderConfig,
        *,
        standing: Callable[[], Standing],
        latch: Callable[[Latch], None],
        filled: Callable[[Fill, Cause], None] = lambda fill, cause: None,
        alarm: Callable[[str], None] = lambda client_id: None,
        proven: bool = True,
    ) -> None:
        self.instrument, self.observer, self.config = instrument, observer, config
        self.state = SymbolState.start()
        self.view: View | None = None
        # START of the newest bar that a restored holding time has counted.
        self._restored_ms: int | None = None
        self._venue, self._journal, self._clock = venue, journal, clock
        self._standing, self._latch, self._filled = standing, latch, filled
        self._proven = proven
        self._guard = Guard()
        now = clock.now_ms()
        self._rate = OrderRate.of(journal.entries_sent(now - DAY_MS), now)
        self._legs: dict[str, Role] = {}
        self._searches: dict[str, asyncio.Task[None]] = {}
        self.executor = Executor(
            venue,
            journal,
            clock,
            instrument.symbol,
            config.sends,
            cause_of=self._cause,
            booked=self._booked,
            alarm=alarm,
        )

    @property
    def symbol(self) -> str:
        """Canonical name."""
        return self.instrument.symbol

    @property
    def frozen(self) -> bool:
        """Whether an order of the symbol is unknown: nothing new may be risked."""
        unknown = self._journal.unresolved(self.symbol)
        return any(row.sent_ms is not None for row in unknown)

    @property
    def bar_ms(self) -> int:
        """Length of an execution bar."""
        return duration_ms(self.observer.spec.execute_on)

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
        self._note_legs(snapshot)
        # After a restart the bars are counted from the one that was restored.
        last = self._restored_ms if self.view is None else self.view.snapshot.bar_open_ms
        passed = 1 if last is None else (bar_open_ms - last) // self.bar_ms
        state = planner.observe_bar(self.state, snapshot.position, passed)
        observation = self.observer.observe(snapshot, state.held_bars)
        self.state = state
        self.view = View(snapshot, observation, passed)
        return self.view

    async def glance(self, bar_open_ms: int) -> Snapshot:
        """Everything at the venue now, without bars and without counting one.

        Raises:
          UnreadableError: something could not be read.
        """
        snapshot = await snapshots.glance(
            self._venue, self.instrument, self._clock, bar_open_ms, self.config.reads
        )
        self._note_legs(snapshot)
        return snapshot

    def restore(self, position: Position) -> None:
        """Take up what the journal says of the position of a start; nothing of an unknown one."""
        if isinstance(position, Unknown):
            return
        self._restored_ms = newest_closed_bar(self._clock.now_ms(), self.bar_ms)
        self.state = restored(
            self._journal,
            position,
            self.instrument,
            bar_ms=self.bar_ms,
            counted_bar_ms=self._restored_ms,
            brackets=self.config.decision.table is not None,
        )

    def warm_up(self) -> dict[str, np.ndarray]:
        """Compile what a bar computes, on made-up prices; nothing is remembered or sent.

        Returns: the observation of those prices.
        """
        bars = {
            frame.name: synthetic_bars(frame, self.observer.needed(frame.name))
            for frame in self.observer.frames
        }
        now, price = self._clock.now_ms(), Decimal(100)
        snapshot = Snapshot(
            bar_open_ms=0,
            venue_time_ms=now,
            received_monotonic_ns=0,
            instrument=self.instrument,
            position=Flat(),
            balance=Balance(price, price, None, self.instrument.settle, now),
            quote=Quote(price, price, price, now),
        )
        planner.plan(SymbolState.start(), snapshot, 0, self.config.decision)
        state = self.observer.account_state(snapshot, 0)
        return {**self.observer.windows(bars), "account_state": state}

    def forget_level(self) -> None:
        """Release the latch: the next action is compared with the position, not with a memory."""
        self.state = replace(self.state, last_level=None)

    async def act(
        self, view: View, action: Any, *, policy_ms: float = 0.0, fallback: bool = False
    ) -> Acted:
        """Decide on a view and carry it out; the bar is decided once, whatever comes of it.

        Raises:
          AlreadyDecidedError: the journal has a decision for this bar.
          JournalError: the decision is not durable; nothing was sent.
        """
        snapshot = view.snapshot
        self.state, plan = planner.plan(self.state, snapshot, action, self.config.decision)
        allowed, denied = self._gated(plan.intents, snapshot)
        given = self._journal.decide(
            self.symbol,
            snapshot.bar_open_ms,
            action=_number(action),
            level=plan.level,
            decision=plan.decision,
            refusal=denied[0][1].code if denied else plan.refused,
            observation=pack(view.observation),
            policy_ms=policy_ms,
            fallback=fallback,
            intents=allowed,
        )
        sent = await self._carry_out(plan, given, complete=not denied)
        plans: tuple[Plan, ...] = (plan,)
        if self.state.opening is not None:
            following, more, refusals = await self._second_phase(snapshot)
            plans, sent, denied = (plan, following), (*sent, *more), (*denied, *refusals)
        return Acted(plans, sent, denied)

    async def _second_phase(
        self, before: Snapshot
    ) -> tuple[Plan, tuple[Sent, ...], tuple[tuple[Intent, Deny], ...]]:
        """Open the other side of a flip, sized from a new look at the account."""
        quote = await self._venue.quote(self.symbol)
        position = await snapshots.readable_position(self._venue, self.symbol)
        balance = await self._venue.balance()
        snapshot = replace(
            before,
            quote=quote,
            position=position,
            balance=balance,
            venue_time_ms=self._clock.now_ms(),
            received_monotonic_ns=int(self._clock.monotonic() * 1e9),
        )
        self.state, plan = planner.second_phase(self.state, snapshot, self.config.decision)
        allowed, denied = self._gated(plan.intents, snapshot)
        given = self._journal.add_intents(self.symbol, snapshot.bar_open_ms, allowed)
        sent = await self._carry_out(plan, given, complete=not denied)
        return plan, sent, denied

    async def _carry_out(
        self, plan: Plan, intents: tuple[Intent, ...], *, complete: bool
    ) -> tuple[Sent, ...]:
        """Send what the gate let through and remember what came of it."""
        sent: list[Sent] = []
        for intent in intents:
            one = await self.executor.send(intent)
            sent.append(one)
            if intent.role is Role.ENTRY:
                self._rate = self._rate.sent(self._clock.now_ms())
            if one.unknown:
                self.search(intent.client_id, intent.bracket)
            if not one.executed:
                break
        if not plan.intents:
            return ()
        executed = complete and len(sent) == len(intents) and all(one.executed for one in sent)
        if sent and sent[-1].position is not None:
            position = sent[-1].position
        else:
            position = await snapshots.readable_position(self._venue, self.symbol)
        bracket = self._confirmed(position)
        self.state = planner.settle(self.state, plan, executed, position, bracket)
        if any(one.executed and one.order.role is Role.ENTRY for one in sent):
            await self._anchor(plan, position)
        return tuple(sent)

    # Protection.

    async def protect(self, snapshot: Snapshot) -> None:
        """Look after the stop of the position; leftovers of one that is gone are cancelled."""
        if not self._needs_stop:
            return
        await self._repair(snapshot, self._wanted(snapshot.position))

    @property
    def _needs_stop(self) -> bool:
        return self.config.decision.table is not None or self.config.disaster_stop is not None

    def _wanted(self, position: Any) -> Bracket | None:
        """The legs that the position should have, where it needs a stop at all."""
        if not isinstance(position, Held):
            return None
        if self.state.bracket is not None:
            return self.state.bracket
        fraction = self.config.disaster_stop
        stop = disaster_stop(
            position,
            self.config.decision,
            self.instrument,
            None if fraction in (None, "auto") else float(fraction),
        )
        return Bracket(stop, None)

    async def _repair(self, snapshot: Snapshot, wanted: Bracket | None) -> None:
        """Place, or give up and flatten."""
        known = {row.client_id for row in self._journal.working(self.symbol)}
        protection = protection_of(
            snapshot.position,
            snapshot.orders,
            wanted,
            known=known,
            tick=self.instrument.tick,
        )
        now = int(self._clock.monotonic() * 1000)
        self._guard, command = self._guard.look(
            protection,
            snapshot.received_monotonic_ns // 1_000_000,
            now,
            deadline_ms=int(self.config.stop_deadline * 1000),
        )
        match command:
            case PlaceStop(reason):
                assert wanted is not None
                sent = await self._amend(snapshot.position, wanted, f"protect: {reason}")
                self._guard = self._guard.placed(sent.executed)
            case FlattenUnprotected(reason):
                # First the latch: a crash in between must not forget why.
                self._latch(Latch(TradingState.HALTED, "unprotected", reason))
                await self.flatten(f"unprotected: {reason}")
            case CancelLeftovers(client_ids):
                for client_id in client_ids:
                    await self.executor.cancel(client_id)

    async def _anchor(self, plan: Plan, position: Any) -> None:
        """Move the legs of a fresh position to its real fill; give levels their safety net."""
        if not isinstance(position, Held) or not self._needs_stop:
            return
        wanted = self._wanted(position)
        if plan.row is not None:
            wanted = reanchor(plan.row, position.entry_price, position.mark_price, self.instrument)
        held = Bracket(position.stop_price, position.target_price)
        if wanted is None or _near(held, wanted, self.instrument.tick):
            return
        sent = await self._amend(position, wanted, "anchored to the fill")
        if sent.executed:
            after = await snapshots.readable_position(self._venue, self.symbol)
            if plan.row is not None:
                self.state = replace(self.state, bracket=self._confirmed(after))

    def _confirmed(self, position: Any) -> Bracket | None:
        """The legs that the venue shows on the position."""
        if not isinstance(position, Held) or position.stop_price is None:
            return None
        return Bracket(position.stop_price, position.target_price)

    async def _amend(self, position: Any, bracket: Bracket, reason: str) -> Sent:
        quantity = abs(position.quantity)
        wanted = Intent(
            kind=IntentKind.AMEND,
            role=Role.STOP,
            symbol=self.symbol,
            side=Side.of(-position.quantity),
            quantity=quantity,
            reduce_only=True,
            reason=reason,
            trigger_price=bracket.stop_price,
            bracket=bracket,
        )
        (intent,) = self._journal.add_intents(self.symbol, self.bar, (wanted,))
        sent = await self.executor.send(intent)
        if sent.executed:
            self._journal.set_protection(self.symbol, bracket, quantity, client_id=intent.client_id)
        elif sent.unknown:
            self.search(intent.client_id, intent.bracket)
        return sent

    async def flatten(self, reason: str) -> bool:
        """Close what the venue holds, reduce-only, until flat is read; whether it was.

        What is larger than one market order may be goes in several.
        """
        most = self.instrument.max_market_quantity
        for _ in range(_FLATTEN_ORDERS):
            position = await snapshots.readable_position(self._venue, self.symbol)
            if isinstance(position, Flat):
                return True
            if isinstance(position, Unknown):
                await self._clock.sleep(0.5)
                continue
            wanted = Intent(
                kind=IntentKind.MARKET,
                role=Role.FLATTEN,
                symbol=self.symbol,
                side=Side.of(-position.quantity),
                quantity=min(abs(position.quantity), most) if most else abs(position.quantity),
                reduce_only=True,
                reason=reason,
            )
            (intent,) = self._journal.add_intents(self.symbol, self.bar, (wanted,))
            await self.executor.send(intent)
        position = await snapshots.readable_position(self._venue, self.symbol)
        return isinstance(position, Flat)

    # The gate.

    def _gated(
        self, intents: tuple[Intent, ...], snapshot: Snapshot
    ) -> tuple[tuple[Intent, ...], tuple[tuple[Intent, Deny], ...]]:
        """Those that pass, up to the first that does not: what follows it depends on it."""
        allowed: list[Intent] = []
        for intent in intents:
            verdict = check(intent, self._context(snapshot), self.config.risk)
            if isinstance(verdict, Allow):
                allowed.append(intent)
                continue
            enforced = self.config.enforce_risk
            self._journal.event(
                "denied" if enforced else "would_deny",
                self.symbol,
                {"code": verdict.code, "detail": verdict.detail, "role": intent.role},
            )
            if not enforced:
                allowed.append(intent)
                continue
            return tuple(allowed), ((intent, verdict),)
        return tuple(allowed), ()

    def _context(self, snapshot: Snapshot) -> RiskContext:
        decision, now = self.config.decision, self._clock.now_ms()
        rate = self._rate.at(now)
        frame = self.observer.spec.execute_on.name
        free = self._journal.free_bytes()
        age = self._clock.monotonic() * 1e3 - snapshot.received_monotonic_ns / 1e6
        return RiskContext(
            state=self._standing().state,
            frozen=self.frozen,
            in_flight=False,
            allowed_symbols=frozenset({self.symbol}),
            market_status=snapshot.market_status,
            environment_proven=self._proven,
            venue_time_ms=now,
            snapshot_age_ms=max(age, 0.0),
            lateness_ms=now - (snapshot.bar_open_ms + self.bar_ms),
            entry_window_ms=self.config.entry_window * 1000,
            clock_uncertainty_ms=uncertainty_of(self._clock),
            journal_writable=self._journal.health.failure is None,
            disk_ok=free is None or free > 0,
            instrument=self.instrument,
            position=snapshot.position,
            journal_quantity=self._journal.position(self.symbol),
            quote=snapshot.quote,
            last_close=Decimal(repr(float(snapshot.bars[frame].ohlcv[-1, 3]))),
            equity=snapshot.balance.equity,
            account_equity=snapshot.balance.equity,
            available=snapshot.balance.available,
            leverage=Decimal(repr(decision.leverage)),
            fee=Decimal(repr(decision.fee)),
            other_notional=Decimal(0),
            orders_minute=rate.minute,
            orders_day=rate.of_day,
            repeated=False,
            stop_possible=self._venue.capabilities.venue_stops,
            venue_reduce_only=self._venue.capabilities.reduce_only,
        )

    # Unknown orders.

    async def settle_unknown(self) -> None:
        """Ask about every intent without an end, all at once, and wait for the answers."""
        asked: list[IntentRow] = []
        for row in self._journal.unresolved(self.symbol):
            if row.sent_ms is None:
                # It never left: the mark is set before the one attempt.
                self._journal.resolve(row.client_id, IntentState.NOT_SENT)
            else:
                asked.append(row)
        searches = [self.executor.resolve(row.client_id, row.intent().bracket) for row in asked]
        ends = [
            self.executor.finish(row.client_id)
            for row in self._journal.working(self.symbol)
            if row.kind in (IntentKind.MARKET, IntentKind.BRACKET)
        ]
        await asyncio.gather(*searches, *ends)

    def search(self, client_id: str, bracket: Bracket | None = None) -> None:
        """Ask about an order in the background until it is known."""
        running = self._searches.get(client_id)
        if running is not None and not running.done():
            return

        async def search() -> None:
            await self.executor.resolve(client_id, bracket)
            # What it came to is the venue's word, not the plan's: the level is open again.
            self.state = replace(self.state, last_level=None)

        self._searches[client_id] = asyncio.ensure_future(search())

    async def close(self) -> None:
        """Stop searching; the journal keeps what is unknown."""
        for task in self._searches.values():
            task.cancel()
        await asyncio.gather(*self._searches.values(), return_exceptions=True)

    async def place_target(self, price: Decimal) -> None:
        """Set the target of the position again; its stop stays where it is."""
        position = await snapshots.readable_position(self._venue, self.symbol)
        if isinstance(position, Held):
            legs = Bracket(position.stop_price, price)
            await self._amend(position, legs, "the target was missing")

    def journal_view(self) -> JournalView:
        """What the journal says of the symbol, for comparisons with the venue."""
        rows = (*self._journal.working(self.symbol), *self._journal.unresolved(self.symbol))
        return JournalView(
            tag=self._journal.tag(self.symbol),
            position=self._journal.position(self.symbol),
            orders={row.client_id: self._journal.tracked(row.client_id) for row in rows},
        )

    def _cause(self, fill: Fill) -> Cause:
        """Why a fill happened; without a bracket policy every stop is the safety net."""
        disaster = self.config.decision.table is None
        return cause_of(fill, self.journal_view(), legs=self._legs, disaster=disaster)

    def _booked(self, fill: Fill, cause: Cause) -> None:
        if cause in (Cause.ORDER, Cause.MANUAL):
            self._guard = self._guard.filled(int(self._clock.monotonic() * 1000))
        self._filled(fill, cause)

    def _note_legs(self, snapshot: Snapshot) -> None:
        """Remember whose fills those of the position's own legs would be."""
        for order in snapshot.orders:
            if order.role is not None and order.role.protective:
                self._legs[order.venue_order_id] = order.role

    @property
    def bar(self) -> int:
        """The bar that further intents belong to."""
        if self.view is not None:
            return self.view.snapshot.bar_open_ms
        return newest_closed_bar(self._clock.now_ms(), self.bar_ms)


def _near(one: Bracket, other: Bracket, tick: Decimal) -> bool:
    """Whether both legs of two brackets are less than a tick apart."""
    for a, b in ((one.stop_price, other.stop_price), (one.target_price, other.target_price)):
        if (a is None) != (b is None):
            return False
        if a is not None and b is not None and abs(a - b) >= max(tick, abs(b) * Decimal("1e-12")):
            return False
    return True


def _number(action: Any) -> float | None:
    """The action as the journal keeps it; None for what is no number."""
    try:
        return float(action)
    except (TypeError, ValueError):
        return None
