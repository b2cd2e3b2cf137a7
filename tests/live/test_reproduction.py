"""A journal decided again: equal to the last bit, or the first difference by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import config as configs
from live import planner
from live.exchange.opening import default_instrument
from live.journal import Journal
from live.journal.reading import JournalReader
from live.observation.packing import pack
from live.planner.decision import SymbolState
from live.policy import BaselinePolicy
from live.replay.reproduction import reproduce
from live.risk import Latch, TradingState
from live.risk.context import RiskContext
from live.secrets import private_folder
from live.trading.evidence import Evidence
from live.trading.judged import context_of, readings_of
from live.trading.policies import decision_of, policy_of
from live.types import (
    Balance,
    Bracket,
    Flat,
    Held,
    MarginMode,
    Position,
    Quote,
    Snapshot,
    Unknown,
)
from tests.live.harness import FLAT, LONG, SHORT, SYMBOL, Rig, trading

MINUTE = 60_000
START = 1_700_000_040_000
PRICE = Decimal("50000.1")


def config(**more: Any) -> configs.LiveConfig:
    given = {
        "env.time_frames": "1min",
        "env.execute_on": "1min",
        "env.window_sizes": 4,
        "env.leverage": 3,
        "policy.baseline": "random",
    }
    return configs.load(None, {**given, **more}, {})


def observation(seed: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    return {
        "market_data_1Minute": draws.normal(size=(4, 5)).astype(np.float32),
        "account_state": np.array([0, 0, 0, 0, 3, 1], np.float32),
    }


def held(quantity: str) -> Held:
    return Held(
        Decimal(quantity), PRICE, PRICE, Decimal("1.5"), Decimal(3), MarginMode.ISOLATED, None, 1
    )


def snapshot_of(bar: int, position: Position) -> Snapshot:
    return Snapshot(
        bar_open_ms=bar,
        venue_time_ms=bar + MINUTE + 1_234,
        received_monotonic_ns=5,
        instrument=default_instrument(),
        position=position,
        balance=Balance(Decimal("10000.25"), Decimal("9000.5"), None, "USDT", bar),
        quote=Quote(PRICE, PRICE + Decimal("0.1"), PRICE, bar),
    )


def journal_of(
    folder: Path,
    given: configs.LiveConfig,
    positions: Sequence[Position] = (Flat(), held("0.1"), held("-0.2"), Unknown("no answer")),
    *,
    facts: bool = True,
    bundle: str | None = None,
    spoil: Any = lambda row: row,
) -> Path:
    """Bars decided as a daemon does, without sending; ``spoil`` changes what is recorded."""
    path = private_folder(folder) / "one.db"
    journal = Journal.open(path, account_id="7", strategy_id="s", now_ms=lambda: START)
    journal.start_run(
        mode="demo",
        venue="bybit",
        symbols=[SYMBOL],
        config_sha256=given.digest,
        bundle_sha256=bundle,
        version="0",
    )
    decision = decision_of(given.env, default_instrument())
    _, policy = policy_of(given, decision)
    for place, position in enumerate(positions):
        bar = START + place * MINUTE
        snapshot, seen = snapshot_of(bar, position), observation(place)
        info = {"bar_open_ms": bar, "venue_time_ms": snapshot.venue_time_ms, "missed_bars": 0}
        action = policy(seen, info)
        state = dataclasses.replace(SymbolState.start(), last_level=0.1 + 0.2)
        _, plan = planner.plan(state, snapshot, action, decision)
        row = {
            "action": float(action),
            "level": plan.level,
            "decision": plan.decision,
            "refusal": plan.refused,
            "observation": pack(seen),
            "policy_ms": 1.5,
            "fallback": False,
            "intents": plan.intents,
            "facts": Evidence(state, snapshot, 0).plain() if facts else None,
        }
        journal.decide(SYMBOL, bar, **(spoil(row) if place == 1 else row))
    journal.close()
    return path


def test_every_decision_comes_out_again(tmp_path):
    given = config()
    found = reproduce(given, journal_of(tmp_path, given))
    assert found["reproduced"] is True
    assert found["first_difference"] is None
    counts = {name: found[name] for name in ("decisions", "observations", "actions", "plans")}
    assert set(counts.values()) == {4}
    assert found["other_configurations"] == 0
    journal = JournalReader.view(tmp_path / "one.db")
    assert {row.decision for row in journal.decisions(SYMBOL)} >= {"hold"}
    assert any(journal.intents(SYMBOL, START + n * MINUTE) for n in range(4))
    journal.close()


def test_brackets_come_out_again(tmp_path):
    given = config(**{"env.name": "BybitFuturesSLTPTradingEnv"})
    found = reproduce(given, journal_of(tmp_path, given, [Flat()] * 6))
    assert (found["reproduced"], found["plans"]) == (True, 6)


def changed(**values: Any) -> Any:
    return lambda row: {**row, **values}


def other_quantity(row: dict[str, Any]) -> dict[str, Any]:
    (first, *rest) = row["intents"]
    more = first.quantity + Decimal("0.001")
    return {**row, "intents": (dataclasses.replace(first, quantity=more), *rest)}


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda row: {**row, "action": (row["action"] + 1) % 3}, "action"),
        (changed(level=0.25), "level"),
        (lambda row: {**row, "decision": "hold" if row["intents"] else "open"}, "decision"),
        (changed(refusal="below_minimum"), "refusal"),
        (changed(observation=pack(observation(99))), None),
        (other_quantity, "intent 1: quantity"),
    ],
    ids=["action", "level", "decision", "refusal", "observation", "quantity"],
)
def test_the_first_difference_is_named(tmp_path, spoil, what):
    given = config()
    found = reproduce(given, journal_of(tmp_path, given, [Flat(), held("0.1")], spoil=spoil))
    if what is None:
        # The random rule does not look at what it sees; a rule that looks would answer otherwise.
        assert found["reproduced"] is True
        return
    assert found["reproduced"] is False
    first = found["first_difference"]
    assert (first["what"], first["symbol"], first["bar_open_ms"]) == (what, SYMBOL, START + MINUTE)
    assert str(first["stored"]) != str(first["derived"])
    assert found["differences"] == 1


def test_an_observation_that_was_changed_is_noticed(tmp_path, monkeypatch):
    given = config()
    path = journal_of(tmp_path, given)
    real = JournalReader.decisions

    def decisions(self: JournalReader, symbol: str, since_ms: int = 0) -> Any:
        rows = real(self, symbol, since_ms)
        spoilt = bytearray(rows[2].observation or b"")
        spoilt[-1] ^= 1
        return [*rows[:2], dataclasses.replace(rows[2], observation=bytes(spoilt)), *rows[3:]]

    monkeypatch.setattr(JournalReader, "decisions", decisions)
    first = reproduce(given, path)["first_difference"]
    assert (first["what"], first["bar_open_ms"]) == ("observation", START + 2 * MINUTE)


def test_another_bundle_is_a_difference_and_another_configuration_a_remark(tmp_path):
    given = config()
    path = journal_of(tmp_path, given, bundle=hashlib.sha256(b"weights").hexdigest())
    assert reproduce(given, path)["first_difference"]["what"] == "bundle"
    other = config(**{"runner.strategy_id": "renamed"})
    assert reproduce(other, path)["other_configurations"] == 1
    smaller = config(**{"env.equity_buffer": 0.5})
    assert reproduce(smaller, journal_of(tmp_path / "b", given))["first_difference"]["what"] in (
        "intent 1: quantity",
        "decision",
    )


def test_what_was_not_stored_is_counted_not_assumed(tmp_path):
    given = config()
    found = reproduce(given, journal_of(tmp_path, given, facts=False))
    assert (found["reproduced"], found["actions"], found["plans"]) == (True, 4, 0)
    assert found["not_derived"] == {"account and quote were not stored": 4}
    held_bar = changed(fallback=True, action=None, level=None, decision="hold", refusal=None)
    path = journal_of(tmp_path / "b", given, [Flat()] * 3, facts=False, spoil=held_bar)
    found = reproduce(given, path)
    assert found["not_derived"]["held in the policy's place"] == 1
    assert (found["reproduced"], found["actions"]) == (True, 2)
    denied = journal_of(
        tmp_path / "c", given, [held("0.1")] * 2, spoil=changed(intents=(), refusal="collar")
    )
    found = reproduce(given, denied)
    assert found["reproduced"] is True
    assert found["not_derived"].get("denied, without the gate's readings") == 1


def test_a_symbol_that_is_not_configured_is_refused(tmp_path):
    given = config()
    path = journal_of(tmp_path, given)
    with pytest.raises(ValueError, match="BTC/USDT:USDT: not traded"):
        reproduce(config(**{"env.symbol": "ETHUSDT"}), path)


def test_a_policy_that_answers_otherwise_is_found(tmp_path, monkeypatch):
    given = config()
    path = journal_of(tmp_path, given)
    real = BaselinePolicy.__call__

    def other(self: BaselinePolicy, seen: Any, info: Any) -> Any:
        answer = real(self, seen, info)
        return answer if info["bar_open_ms"] != START + 3 * MINUTE else (answer + 1) % 3

    monkeypatch.setattr(BaselinePolicy, "__call__", other)
    found = reproduce(given, path)
    assert found["first_difference"]["what"] == "action"
    assert found["first_difference"]["bar_open_ms"] == START + 3 * MINUTE


# Evidence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "position",
    [Flat(), Unknown("why"), held("-0.123456789012345678")],
    ids=["flat", "unknown", "held"],
)
def test_evidence_comes_back_exactly(position):
    state = SymbolState(
        0.1 + 0.2, Decimal("1E-9"), Decimal("0.001"), Bracket(Decimal("1.5"), None), 3, -1, 2, 7
    )
    snapshot = snapshot_of(START, position)
    plain = Evidence(state, snapshot, 4).plain()
    again = Evidence.of(plain, START)
    assert again.state == state
    assert again.missed_bars == 4
    assert again.snapshot == dataclasses.replace(snapshot, received_monotonic_ns=0)
    del plain["quote"]
    with pytest.raises(ValueError, match="evidence: cannot be read"):
        Evidence.of(plain, START)
    with pytest.raises(ValueError, match="evidence: cannot be read"):
        Evidence.of({**Evidence(state, snapshot, 0).plain(), "balance": {"equity": "much"}}, START)


def test_the_journal_of_a_daemon_is_decided_again(tmp_path):
    """What a daemon records of every decision suffices, whatever became of its orders."""
    path = tmp_path / "one.db"
    kept = []

    def journal(account_id: str, now_ms: Any) -> Journal:
        return Journal.open(path, account_id=account_id, strategy_id="t", now_ms=now_ms)

    async def test(rig: Rig) -> None:
        for action in (LONG, LONG, SHORT, SHORT):
            await rig.bar(action)
        rig.server.faults.add("order/create", "reject", 1, code=110007)
        await rig.bar(LONG)
        kept.append(rig.journal.decisions(rig.trader.symbol))
        rig.journal.close()

    trading(test, journal=journal)
    (rows,) = kept
    assert {row.decision for row in rows} >= {"open", "flip"}
    script = iter(row.action for row in rows)

    class Scripted:
        """The test decided in the place of the configured rule."""

        name = digest = ""

        def __call__(self, seen: Any, info: Any) -> int:
            return int(float(next(script)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "live.replay.reproduction.policy_of", lambda given, decision: (None, Scripted())
        )
        given = config(**{"env.window_sizes": 8, "env.equity_buffer": 0.02})
        found = reproduce(given, path)
    assert found["first_difference"] is None
    assert found["plans"] == found["decisions"] == len(rows)


def denied_run(path: Path, spoil: Any = lambda body: body) -> tuple[list[Any], dict[str, Any]]:
    """Bars of which the gate denies one for each of three reasons, decided again.

    Args:
      spoil: changes what the journal keeps of a denial.
    """
    kept = []

    def journal(account_id: str, now_ms: Any) -> Journal:
        opened = Journal.open(path, account_id=account_id, strategy_id="t", now_ms=now_ms)
        record = opened.event
        opened.event = lambda kind, symbol=None, body=None: record(  # type: ignore[method-assign]
            kind, symbol, spoil(dict(body)) if kind == "denied" else body
        )
        return opened

    async def test(rig: Rig) -> None:
        rig.server.engine.close_market("BTCUSDT")
        rig.server.advance(60_000)
        await rig.reconcile()
        await rig.bar(LONG)
        rig.server.engine.open_market("BTCUSDT")
        rig.server.advance(60_000)
        await rig.reconcile()
        await rig.bar(LONG)
        await rig.bar(FLAT)
        await rig.bar(LONG)
        rig.desk.latch(Latch(TradingState.HALTED, "operator", "a test"))
        await rig.bar(FLAT)
        kept.append(rig.journal.decisions(rig.trader.symbol))
        rig.journal.close()

    trading(test, journal=journal, settings={"risk.orders_per_day": "1"})
    (rows,) = kept
    script = iter(row.action for row in rows)

    class Scripted:
        name = digest = ""

        def __call__(self, seen: Any, info: Any) -> int:
            return int(float(next(script)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "live.replay.reproduction.policy_of", lambda given, decision: (None, Scripted())
        )
        given = config(
            **{
                "env.window_sizes": 8,
                "env.equity_buffer": 0.02,
                "risk.orders_per_day": 1,
                "risk.orders_per_minute": 100,
                "risk.snapshot_age_seconds": 600,
            }
        )
        return rows, reproduce(given, path)


def test_the_gate_is_asked_again_with_what_it_was_told(tmp_path):
    rows, found = denied_run(tmp_path / "one.db")
    refused = [row.refusal for row in rows if row.refusal]
    assert refused == ["market_closed", "rate_day"]
    assert found["first_difference"] is None
    assert found["denials"] == len(refused)
    assert found["not_derived"] == {}
    assert found["plans"] == found["decisions"]


def test_a_denial_that_does_not_follow_from_what_was_told_is_a_difference(tmp_path):
    def other(body: dict[str, Any]) -> dict[str, Any]:
        if body["code"] != "rate_day":
            return body
        return {**body, "readings": {**body["readings"], "orders_day": 0}}

    _, found = denied_run(tmp_path / "one.db", other)
    assert found["first_difference"]["what"] == "refusal"
    assert found["first_difference"]["stored"] == "rate_day"
    assert found["first_difference"]["derived"] is None


def test_a_denial_without_readings_is_counted(tmp_path):
    def older(body: dict[str, Any]) -> dict[str, Any]:
        return {name: body[name] for name in ("code", "detail", "role")}

    _, found = denied_run(tmp_path / "one.db", older)
    assert found["not_derived"] == {"denied, without the gate's readings": 2}
    assert (found["reproduced"], found["denials"]) == (True, 0)


def test_readings_come_back_as_they_were_given():
    snapshot = snapshot_of(START, held("0.1"))
    given = RiskContext(
        state=TradingState.REDUCING,
        frozen=False,
        allowed_symbols=frozenset({SYMBOL, "other"}),
        market_status="trading",
        venue_time_ms=START,
        snapshot_age_ms=0.1 + 0.2,
        clock_limit_ms=math.inf,
        instrument=snapshot.instrument,
        position=snapshot.position,
        quote=snapshot.quote,
        equity=Decimal("1E-9"),
        orders_day=3,
    )
    readings = json.loads(json.dumps(readings_of(given), allow_nan=False))
    again = context_of(readings, snapshot)
    assert again == dataclasses.replace(given, clock_limit_ms=None)
    for broken in ({**readings, "equity": "much"}, {**readings, "more": 1}, {}):
        with pytest.raises(ValueError, match="readings: "):
            context_of(broken, snapshot)
