"""One symbol, one bar after the other: look, decide, act, and see to the stop.

`SymbolTrader` is what the daemon, the environment classes and the replay drive. It owns the only
reference to the memory of its symbol; everything it decides comes from the pure modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from live import planner
from live.clock import Clock, newest_closed_bar
from live.journal import Journal, JournalError
from live.observation import Observer
from live.observation.bars import duration_ms, revisions
from live.observation.feature_tables import synthetic_bars
from live.observation.packing import pack
from live.planner.decision import DecisionConfig, Plan, SymbolState
from live.planner.kelly import realised_returns
from live.planner.legs import reanchor
from live.reconcile.compare import JournalView, cause_of
from live.reconcile.findings import Cause
from live.risk.gate import Deny
from live.trading import snapshots
from live.trading.acts import Acted, View
from live.trading.desk import Desk
from live.trading.evidence import Evidence
from live.trading.execution import Executor, Sent
from live.trading.gating import Denied, Gatekeeper
from live.trading.guarding import Protector, confirmed, near
from live.trading.restoring import restored
from live.trading.terms import TraderConfig
from live.trading.turns import Turns
from live.trading.unknowns import Unknowns
from live.types import (
    Balance,
    Bracket,
    Fill,
    Flat,
    Held,
    Instrument,
    Intent,
    Position,
    Quote,
    Role,
    Snapshot,
    Unknown,
    UnreadableError,
)
from live.venue import Venue

# Orders of venue legs that are remembered; a fill comes soon or never.
_LEGS_KEPT = 100


class SymbolTrader:
    """The life of one symbol.

    Args:
      desk: standing and limits of the account. turns: when entries may go; None = always.
      proven: host, mode and account are what the configuration says.

    Attributes:
      instrument: filters and status as read last. state: what the planner remembers.
      view: newest one that could be read. filled: hears of every new fill and its cause.
      alarm: hears the client id of an order that stays unknown. unknowns: orders in doubt.
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
        self.state = SymbolState.start()
        self.view: View | None = None
        self.filled: Callable[[Fill, Cause], None] = lambda fill, cause: None
        self.alarm: Callable[[str], None] = lambda client_id: None
        # START of the newest bar that a restored holding time has counted.
        self._restored_ms: int | None = None
        self._venue, self._journal, self._clock, self._desk = venue, journal, clock, desk
        self._turns = turns or Turns(())
        self._legs: dict[str, Role] = {}
        # Sized by results so far; None = to be done again.
        self._sized: DecisionConfig | None = None
        self.executor = Executor(
            venue,
            journal,
            clock,
            instrument.symbol,
            config.sends,
            cause_of=self._cause,
            booked=self._booked,
            alarm=lambda client_id: self.alarm(client_id),
        )
        # What an order in doubt comes to is the venue's word, not the plan's: the level is open.
        self.unknowns = Unknowns(journal, instrument.symbol, self.executor, self.forget_level)
        self._gate = Gatekeeper(
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
            venue,
            journal,
            clock,
            desk,
            self.executor,
            self._gate,
            config,
            bar=lambda: self.bar,
            searched=self.unknowns.search,
        )
        self.listed(instrument)

    @property
    def symbol(self) -> str:
        """Canonical name."""
        return self.instrument.symbol

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
        self.executor.tick = instrument.tick

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
        before = {} if self.view is None else self.view.snapshot.bars
        revised = (revisions(before.get(name), bars) for name, bars in snapshot.bars.items())
        self.view = View(snapshot, observation, passed, tuple(itertools.chain(*revised)))
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

    def forget_level(self) -> None:
        """Release the latch: the next action is compared with the position, not with a memory."""
        self.state = replace(self.state, last_level=None)

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

    async def act(
        self, view: View, action: Any, *, policy_ms: float = 0.0, fallback: bool = False
    ) -> Acted:
        """Decide on a view and carry it out; the bar is decided once, whatever comes of it.

        Raises:
          AlreadyDecidedError: the journal has a decision for this bar.
        """
        snapshot = view.snapshot
        evidence = Evidence(self.state, snapshot, view.bars_passed - 1).plain()
        self.state, plan = planner.plan(self.state, snapshot, action, self._decision())
        if _enters(plan):
            await self._turns.entry(self.symbol, snapshot.bar_open_ms)
        allowed, denied = self._gate.passed(plan.intents, snapshot)

        def record(refusal: str | None, intents: tuple[Intent, ...]) -> tuple[Intent, ...]:
            given = self._journal.decide(
                self.symbol,
                snapshot.bar_open_ms,
                action=_number(action),
                level=plan.level,
                decision=plan.decision,
                refusal=refusal,
                observation=pack(view.observation),
                policy_ms=policy_ms,
                fallback=fallback,
                intents=intents,
                facts=evidence,
            )
            self.executor.mark(given)
            return given

        refusal = denied[0][1].code if denied else plan.refused
        try:
            given = await self._journal.grouped(record, refusal, allowed)
        except JournalError as error:
            # Nothing may be sent that adds risk; memory keeps the decision.
            denied = ((allowed[0], Deny("journal", str(error))),)
            given = record("journal", ())
        sent = await self._carry_out(plan, given, complete=not denied)
        plans: tuple[Plan, ...] = (plan,)
        if self.state.opening is not None:
            following, more, refusals = await self._second_phase(snapshot)
            plans, sent, denied = (plan, following), (*sent, *more), (*denied, *refusals)
        self._turns.passed(self.symbol, snapshot.bar_open_ms)
        return Acted(plans, sent, denied)

    def _decision(self) -> DecisionConfig:
        """What the planner decides by; a fraction that follows results does so by the journal's."""
        decision = self.config.decision
        if decision.kelly is not None and self._sized is None:
            fills = self._journal.fills(self.symbol)
            self._sized = decision.sized_by(realised_returns(fills))
        return self._sized or decision

    async def _second_phase(self, before: Snapshot) -> tuple[Plan, tuple[Sent, ...], Denied]:
        """Open the other side of a flip, sized from a new look at the account."""
        await self._turns.entry(self.symbol, before.bar_open_ms)
        try:
            snapshot = replace(await self.glance(before.bar_open_ms), bars=before.bars)
        except UnreadableError as error:
            # The position is closed; the next bar decides afresh.
            self.state = replace(self.state, opening=None)
            reason = f"the other side was not opened: {error}"
            return Plan.still(self.state, None, reason, refused="unreadable"), (), ()
        self.state, plan = planner.second_phase(self.state, snapshot, self._decision())
        allowed, denied = self._gate.passed(plan.intents, snapshot)
        try:
            given = await self._journal.grouped(self.executor.add, snapshot.bar_open_ms, allowed)
        except JournalError as error:
            denied, given = ((allowed[0], Deny("journal", str(error))),), ()
        return plan, await self._carry_out(plan, given, complete=not denied), denied

    async def _carry_out(
        self, plan: Plan, intents: tuple[Intent, ...], *, complete: bool
    ) -> tuple[Sent, ...]:
        """Send what the gate let through and remember what came of it."""
        sent: list[Sent] = []
        for intent in intents:
            if sent and not sent[-1].executed:
                self.executor.drop(intent, "the order before it was not carried out")
                continue
            one = await self.executor.send(intent)
            sent.append(one)
            if intent.role is Role.ENTRY:
                self._desk.entered(self._clock.now_ms())
            if one.unknown:
                self.unknowns.search(intent.client_id, intent.bracket)
        if not plan.intents:
            return ()
        executed = complete and len(sent) == len(intents) and all(one.executed for one in sent)
        if sent and sent[-1].position is not None:
            position = sent[-1].position
        else:
            position = await snapshots.readable_position(self._venue, self.symbol)
        self.state = planner.settle(self.state, plan, executed, position, confirmed(position))
        if any(one.executed and one.order.role is Role.ENTRY for one in sent):
            await self._anchor(plan, position, sent[0].order.client_id)
        return tuple(sent)

    # Protection.

    async def protect(self, snapshot: Snapshot) -> None:
        """Look after the stop of the position; leftovers of one that is gone are cancelled."""
        await self._protector.look(snapshot, self.state.bracket)

    async def flatten(self, reason: str) -> bool:
        """Close what the venue holds, reduce-only, until flat is read; whether it was."""
        return await self._protector.flatten(self.instrument, reason)

    async def place_target(self, price: Decimal) -> None:
        """Set the target of the position again; its stop stays where it is."""
        position = await snapshots.readable_position(self._venue, self.symbol)
        if isinstance(position, Held):
            legs = Bracket(position.stop_price, price)
            await self._protector.amend(position, self.instrument, legs, "the target was missing")

    async def _anchor(self, plan: Plan, position: Position, client_id: str) -> None:
        """Move the legs of a fresh position to its real fill; give levels their safety net."""
        wanted = self._protector.wanted(position, self.instrument, self.state.bracket)
        if wanted is None or not isinstance(position, Held):
            return
        if plan.row is not None:
            wanted = reanchor(plan.row, position.entry_price, position.mark_price, self.instrument)
        held = Bracket(position.stop_price, position.target_price)
        if near(held, wanted, self.instrument.tick):
            await self._journal.grouped(
                self._journal.set_protection,
                self.symbol,
                held,
                abs(position.quantity),
                client_id=client_id,
            )
            return
        sent = await self._protector.amend(
            position, self.instrument, wanted, "anchored to the fill"
        )
        if sent is not None and sent.executed:
            after = await snapshots.readable_position(self._venue, self.symbol)
            if plan.row is not None:
                self.state = replace(self.state, bracket=confirmed(after))

    async def cancel_resting(self) -> None:
        """Cancel orders of ours that are no protection."""
        for row in self._journal.working(self.symbol):
            if not row.role.protective:
                await self.executor.cancel(row.client_id)

    async def close(self) -> None:
        """Stop asking about orders in doubt; the journal keeps them."""
        await self.unknowns.close()

    # What others ask.

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
        self._sized = None
        if cause in (Cause.ORDER, Cause.MANUAL):
            self._protector.filled()
        self.filled(fill, cause)

    def _note_legs(self, snapshot: Snapshot) -> None:
        """Remember whose fills those of the position's own legs would be."""
        for order in snapshot.orders:
            if order.role is not None and order.role.protective:
                self._legs[order.venue_order_id] = order.role
        while len(self._legs) > _LEGS_KEPT:
            del self._legs[next(iter(self._legs))]


def _enters(plan: Plan) -> bool:
    return any(intent.role is Role.ENTRY for intent in plan.intents)


def _number(action: Any) -> float | None:
    """The action as the journal keeps it; None for what is no number."""
    try:
        return float(action)
    except (TypeError, ValueError):
        return None
