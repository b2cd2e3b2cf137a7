"""From an action to what has left: planned, let through, written down, sent, remembered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from live import planner
from live.clock import Clock
from live.journal import Journal, JournalError
from live.observation.packing import pack
from live.planner.decision import DecisionConfig, Plan
from live.planner.kelly import realised_returns
from live.risk.gate import Deny
from live.trading import snapshots
from live.trading.acts import Acted, View
from live.trading.desk import Desk
from live.trading.evidence import Evidence
from live.trading.execution import Executor, Sent
from live.trading.gating import Denied, Gatekeeper
from live.trading.guarding import Protector, confirmed
from live.trading.memory import Memory
from live.trading.turns import Turns
from live.trading.unknowns import Unknowns
from live.types import Intent, Role, Snapshot, UnreadableError
from live.venue import Venue


@dataclass(slots=True)
class Acting:
    """What one symbol does about the actions of its policy.

    Attributes:
      decision: of the configuration. memory: what decisions are made with besides a view, and what
        they leave. glance: reads the account now, for the bar that is given.
      sized: by results so far; None = to be done again.
    """

    venue: Venue
    journal: Journal
    clock: Clock
    desk: Desk
    symbol: str
    decision: DecisionConfig
    memory: Memory
    executor: Executor
    unknowns: Unknowns
    gate: Gatekeeper
    protector: Protector
    turns: Turns
    glance: Callable[[int], Awaitable[Snapshot]]
    sized: DecisionConfig | None = None

    async def act(self, view: View, action: Any, *, policy_ms: float, fallback: bool) -> Acted:
        """See `live.trading.trader.SymbolTrader.act`."""
        snapshot = view.snapshot
        memory, decision = self.memory, self._decides_by()
        evidence = Evidence(memory.state, snapshot, view.bars_passed - 1).plain()
        memory.state, plan = planner.plan(memory.state, snapshot, action, decision)
        if _enters(plan):
            await self.turns.entry(self.symbol, snapshot.bar_open_ms)
        allowed, denied = self.gate.passed(plan.intents, snapshot)

        def record(refusal: str | None, intents: tuple[Intent, ...]) -> tuple[Intent, ...]:
            given = self.journal.decide(
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
            given = await self.journal.grouped(record, refusal, allowed)
        except JournalError as error:
            # Nothing may be sent that adds risk; memory keeps the decision.
            denied = ((allowed[0], Deny("journal", str(error))),)
            given = record("journal", ())
        sent = await self._carry_out(plan, given, snapshot, complete=not denied)
        plans: tuple[Plan, ...] = (plan,)
        if self.memory.state.opening is not None:
            following, more, refusals = await self._second_phase(snapshot)
            plans, sent, denied = (plan, following), (*sent, *more), (*denied, *refusals)
        self.turns.passed(self.symbol, snapshot.bar_open_ms)
        return Acted(plans, sent, denied)

    def _decides_by(self) -> DecisionConfig:
        """What the planner decides by; a fraction that follows results does so by the journal's."""
        if self.decision.kelly is not None and self.sized is None:
            fills = self.journal.fills(self.symbol)
            self.sized = self.decision.sized_by(realised_returns(fills))
        return self.sized or self.decision

    async def _second_phase(self, before: Snapshot) -> tuple[Plan, tuple[Sent, ...], Denied]:
        """Open the other side of a flip, sized from a new look at the account."""
        await self.turns.entry(self.symbol, before.bar_open_ms)
        try:
            snapshot = replace(await self.glance(before.bar_open_ms), bars=before.bars)
        except UnreadableError as error:
            # The position is closed; the next bar decides afresh.
            self.memory.state = replace(self.memory.state, opening=None)
            reason = f"the other side was not opened: {error}"
            return Plan.still(self.memory.state, None, reason, refused="unreadable"), (), ()
        memory, decision = self.memory, self._decides_by()
        memory.state, plan = planner.second_phase(memory.state, snapshot, decision)
        allowed, denied = self.gate.passed(plan.intents, snapshot)
        try:
            given = await self.journal.grouped(self.executor.add, snapshot.bar_open_ms, allowed)
        except JournalError as error:
            denied, given = ((allowed[0], Deny("journal", str(error))),), ()
        return plan, await self._carry_out(plan, given, snapshot, complete=not denied), denied

    async def _carry_out(
        self, plan: Plan, intents: tuple[Intent, ...], before: Snapshot, *, complete: bool
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
                self.desk.entered(self.clock.now_ms())
            if one.unknown:
                self.unknowns.search(intent.client_id, intent.bracket)
        if not plan.intents:
            return ()
        executed = complete and len(sent) == len(intents) and all(one.executed for one in sent)
        if sent and sent[-1].position is not None:
            position = sent[-1].position
        else:
            position = await snapshots.readable_position(self.venue, self.symbol)
        memory, legs = self.memory, confirmed(position)
        memory.state = planner.settle(memory.state, plan, executed, position, legs)
        if any(one.executed and one.order.role is Role.ENTRY for one in sent):
            bracket = await self.protector.anchor(
                position,
                before.instrument,
                memory.state.bracket,
                plan.row,
                client_id=sent[0].order.client_id,
            )
            memory.state = replace(memory.state, bracket=bracket)
        return tuple(sent)


def _enters(plan: Plan) -> bool:
    return any(intent.role is Role.ENTRY for intent in plan.intents)


def _number(action: Any) -> float | None:
    """The action as the journal keeps it; None for what is no number."""
    try:
        return float(action)
    except (TypeError, ValueError):
        return None
