"""Every decision of a journal made again, from what the journal stored of it.

The policy is asked again about the stored observation; its action has to be the stored one. The
planner is asked again about the account, quote and memory that were stored with the decision;
level, decision, refusal and intents have to be the stored ones. The risk gate is asked again about
what it denied, with the readings that were stored with the denial. What the journal does not hold
is counted and named, never assumed: bars, what the gate was told of intents that it let through,
the second look of a flip.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from live import planner
from live.config import LiveConfig
from live.journal.reading import JournalReader
from live.journal.rows import DecisionRow, IntentRow, RunRow
from live.journal.statements import number_text
from live.observation.bars import when
from live.observation.packing import unpack
from live.planner.decision import DecisionConfig, Plan
from live.policy import Observation, Policy
from live.replay.backtest import terms_of
from live.replay.filters import unfiltered
from live.risk.gate import Allow, check
from live.trading.evidence import Evidence
from live.trading.judged import context_of
from live.trading.policies import decision_of, policy_of
from live.types import Instrument, Intent

# Of an intent what the planner decides; ids are the journal's.
_COMPARED = ("kind", "role", "side", "quantity", "reduce_only", "price", "trigger_price", "bracket")


@dataclass(slots=True)
class Tally:
    """What was made again.

    Attributes:
      decisions: in the journal. observations: whose bytes are intact. actions, plans, denials: that
        came out as stored. not_derived: by why, of how many decisions. differences: in order.
    """

    decisions: int = 0
    observations: int = 0
    actions: int = 0
    plans: int = 0
    denials: int = 0
    not_derived: Counter[str] = field(default_factory=Counter)
    differences: list[dict[str, Any]] = field(default_factory=list)


def reproduce(config: LiveConfig, path: Path) -> dict[str, Any]:
    """Make every decision of a journal again; a daemon may run meanwhile.

    Args:
      config: the one that the daemon ran with.

    Returns: counts; ``reproduced``: nothing differs; ``first_difference``: symbol, bar, what, and
      the values, or None.

    Raises:
      JournalError: the file is damaged. ValueError: the policy cannot be loaded, or a symbol of the
        journal is not configured.
    """
    journal, tally = JournalReader.view(path), Tally()
    try:
        runs = {run.run_id: run for run in journal.runs()}
        for symbol in _symbols(journal, runs):
            _Symbol(config, journal, symbol, runs, tally).check()
    finally:
        journal.close()
    others = {run.config_sha256 for run in runs.values()} - {config.digest}
    first = min(tally.differences, key=lambda one: one["bar_open_ms"], default=None)
    return {
        "journal": str(path),
        "reproduced": first is None,
        "decisions": tally.decisions,
        "observations": tally.observations,
        "actions": tally.actions,
        "plans": tally.plans,
        "denials": tally.denials,
        "not_derived": dict(tally.not_derived),
        "other_configurations": len(others),
        "differences": len(tally.differences),
        "first_difference": first,
    }


def _symbols(journal: JournalReader, runs: Mapping[int, RunRow]) -> list[str]:
    named = {symbol for run in runs.values() for symbol in run.symbols}
    return [s for s in sorted({*named, *journal.symbols()}) if journal.last_bar(s) is not None]


class _Symbol:
    """The decisions of one symbol."""

    def __init__(
        self,
        config: LiveConfig,
        journal: JournalReader,
        symbol: str,
        runs: Mapping[int, RunRow],
        tally: Tally,
    ) -> None:
        self._config, self._journal, self._runs = config, journal, runs
        self._symbol, self._tally = symbol, tally
        try:
            self._env = config.env_of(symbol)
        except KeyError as error:
            raise ValueError(f"replay-journal: {error.args[0]}") from None
        self._decisions: dict[Instrument | None, DecisionConfig] = {}
        self._denials: dict[int, Mapping[str, Any]] = {}
        self._policy: Policy = policy_of(config, self._decision(None))[1]

    def check(self) -> None:
        """Every decision, oldest first."""
        given = {
            int(event.body["bar_open_ms"]): event.body
            for event in self._journal.history(kind="decide", symbol=self._symbol)
        }
        for event in self._journal.history(kind="denied", symbol=self._symbol):
            # The first of a bar is of the plan; a second one is of the second look of a flip.
            if "readings" in event.body:
                self._denials.setdefault(int(event.body["bar_open_ms"]), event.body["readings"])
        for row in self._journal.decisions(self._symbol):
            self._tally.decisions += 1
            # What follows a difference of a bar follows from it.
            for what, stored, derived in self._of_row(row, given.get(row.bar_open_ms, {})):
                difference = {
                    "symbol": row.symbol,
                    "bar_open_ms": row.bar_open_ms,
                    "bar": f"{when(row.bar_open_ms)} UTC",
                    "what": what,
                    "stored": stored,
                    "derived": derived,
                }
                self._tally.differences.append(difference)
                break

    def _of_row(self, row: DecisionRow, body: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        """What differs of one decision; empty where nothing does."""
        facts = body.get("facts")
        evidence = None if facts is None else Evidence.of(facts, row.bar_open_ms)
        action: Any = None
        if row.fallback:
            self._tally.not_derived["held in the policy's place"] += 1
        elif row.observation is None:
            self._tally.not_derived["no observation was stored"] += 1
        else:
            digest = hashlib.sha256(row.observation).hexdigest()
            if digest != row.observation_sha256:
                yield "observation", row.observation_sha256, digest
                return
            self._tally.observations += 1
            yield from self._other_policy(row)
            action = self._asked(unpack(row.observation), row, evidence)
            text = _text(action)
            if text != row.action:
                yield "action", row.action, text
                return
            self._tally.actions += 1
        if evidence is None:
            self._tally.not_derived["account and quote were not stored"] += 1
            return
        yield from self._planned(row, body, evidence, action)

    def _other_policy(self, row: DecisionRow) -> Iterator[tuple[str, Any, Any]]:
        run = self._runs.get(row.run_id or 0)
        stored = None if run is None else run.bundle_sha256
        if stored is not None and stored != self._policy.digest:
            yield "bundle", stored, self._policy.digest or None

    def _asked(self, observation: Observation, row: DecisionRow, evidence: Evidence | None) -> Any:
        """What the policy answers; without evidence the venue's time is the end of the bar."""
        bar_ms = self._env.execution_frame.seconds * 1000
        info = {
            "bar_open_ms": row.bar_open_ms,
            "venue_time_ms": row.bar_open_ms + bar_ms,
            "missed_bars": 0,
        }
        if evidence is not None:
            info["venue_time_ms"] = evidence.snapshot.venue_time_ms
            info["missed_bars"] = evidence.missed_bars
        return self._policy(observation, info)

    def _planned(
        self, row: DecisionRow, body: Mapping[str, Any], evidence: Evidence, action: Any
    ) -> Iterator[tuple[str, Any, Any]]:
        """What the planner makes of the stored account, against what was stored of its plan."""
        decision = self._decision(evidence.snapshot.instrument)
        _, plan = planner.plan(evidence.state, evidence.snapshot, action, decision)
        yield from _differs("level", row.level, plan.level)
        yield from _differs("decision", row.decision, str(plan.decision))
        recorded = [self._journal.intent(str(name)) for _, name in body.get("intents", ())]
        denied = len(recorded) < len(plan.intents)
        if denied:
            yield from self._denied(row, evidence, plan.intents[len(recorded)])
        else:
            yield from _differs("refusal", row.refusal, plan.refused)
        yield from _intents(recorded, plan)
        if plan.continues and not denied:
            self._tally.not_derived["second look of a flip"] += 1
        self._tally.plans += 1

    def _denied(
        self, row: DecisionRow, evidence: Evidence, intent: Intent
    ) -> Iterator[tuple[str, Any, Any]]:
        """What the risk gate says of the first intent that was not let through."""
        readings = self._denials.get(row.bar_open_ms)
        if readings is None:
            self._tally.not_derived["denied, without the gate's readings"] += 1
            return
        context = context_of(readings, evidence.snapshot)
        verdict = check(intent, context, self._config.risk)
        code = None if isinstance(verdict, Allow) else verdict.code
        yield from _differs("refusal", row.refusal, code)
        self._tally.denials += code == row.refusal

    def _decision(self, listed: Instrument | None) -> DecisionConfig:
        """What the planner decides by; without an instrument only what its actions mean."""
        if listed not in self._decisions:
            known = unfiltered(terms_of(self._config)) if listed is None else listed
            self._decisions[listed] = decision_of(self._env, known)
        return self._decisions[listed]


def _text(action: Any) -> str | None:
    """The action as a decision row spells it."""
    try:
        return number_text(float(action))
    except (TypeError, ValueError):
        return None


def _differs(what: str, stored: Any, derived: Any) -> Iterator[tuple[str, Any, Any]]:
    both_nan = all(isinstance(x, float) and math.isnan(x) for x in (stored, derived))
    if stored != derived and not both_nan:
        yield what, stored, derived


def _intents(recorded: list[IntentRow], plan: Plan) -> Iterator[tuple[str, Any, Any]]:
    """The intents that were recorded are the first of those that the plan has."""
    if len(recorded) > len(plan.intents):
        yield "intents", len(recorded), len(plan.intents)
        return
    for place, row in enumerate(recorded):
        stored, derived = _plain(row.intent()), _plain(plan.intents[place])
        for name in _COMPARED:
            yield from _differs(f"intent {place + 1}: {name}", stored[name], derived[name])


def _plain(intent: Intent) -> dict[str, Any]:
    return {name: getattr(intent, name) for name in _COMPARED}
