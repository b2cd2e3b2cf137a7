"""What the page and the metrics say of real daemons."""

from __future__ import annotations

import asyncio
import json
import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxtrade.market.spec import MarketSpec
from jaxtrade.timeframe import TimeFrame
from live.clock import VirtualClock
from live.exchange.server import ExchangeServer
from live.operations.answers import to_json
from live.operations.meter import PrometheusMeter
from live.operations.metrics import Metrics
from live.orders import IntentState
from live.risk import RiskConfig
from live.trading import status
from live.types import Held, Intent, IntentKind, MarginMode, Role, Side, Unknown
from live.venues.cage import Cage
from live.venues.rate import Lane, Limit, Limiter, RateConfig
from tests.live import real_run
from tests.live.harness import FLAT, LONG, SYMBOL, Rig, trading

# Every name that dashboards are built on; those of counters and histograms as they are sampled.
NAMES = (
    "state",
    "equity",
    "drawdown_ratio",
    "daily_loss_ratio",
    "position_quantity",
    "protected",
    "bar_age_seconds",
    "missed_bars_total",
    "snapshot_seconds_count",
    "policy_seconds_count",
    "submit_seconds_count",
    "journal_commit_seconds_count",
    "orders_total",
    "unknown_orders",
    "unknown_age_seconds",
    "fills_total",
    "reconcile_findings_total",
    "denials_total",
    "stream_silence_seconds",
    "reconnects_total",
    "clock_offset_seconds",
    "clock_uncertainty_seconds",
    "rate_tokens",
    "open_circuits",
    "http_errors_total",
    "notify_dropped_total",
    "loop_errors_total",
    "fallback_decisions_total",
)


def samples(text: str) -> dict[str, float]:
    """Name with labels -> value."""
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("jaxtrade_live_"): float(value) for name, value in rows}


@pytest.mark.slow
def test_a_real_run_gives_every_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_run.quicken(monkeypatch)
    server = ExchangeServer(speed=real_run.SPEED)
    with server.threaded():
        # Something goes wrong in every way that is counted.
        server.faults.add("position/list", "html_502", 3, skip=12)
        server.faults.add("stream/private", "drop_stream", 1, skip=3)
        server.faults.add("order/create", "reject", 1, code=110007)
        told = real_run.ran(server, tmp_path / "state", **{"runner.max_steps": 4})
    found = samples(told.metrics)
    bare = {name.partition("{")[0] for name in found}
    missing = set(NAMES) - bare
    # A run without a denial, a finding or a second connection has no such sample.
    assert missing <= {"denials_total", "reconcile_findings_total", "reconnects_total"}, missing
    assert found['state{state="ACTIVE"}'] in (0.0, 1.0)
    assert found[f'position_quantity{{symbol="{SYMBOL}"}}'] >= 0
    assert found[f'bar_age_seconds{{symbol="{SYMBOL}"}}'] >= 0
    assert found['rate_tokens{lane="reserved"}'] > found['rate_tokens{lane="normal"}'] >= 0
    assert found['stream_silence_seconds{stream="private"}'] >= 0
    assert sum(value for name, value in found.items() if "http_errors_total" in name) >= 1
    assert {name for name in found if name.startswith("http_errors_total{")}
    assert found["clock_uncertainty_seconds"] < 60
    assert told.status["feeds"]
    assert told.status["breakers"]


def test_every_name_is_registered_once():
    text = Metrics().render().decode()
    for name in NAMES:
        base = re.sub(r"_count$", "", name)
        assert text.count(f"# TYPE jaxtrade_live_{base} ") == 1, name


def test_failed_requests_are_counted_once():
    metrics = Metrics()
    for total in (2, 2, 5, 3):
        metrics.count_http_errors("bybit", "5xx", total)
    metrics.count_http_errors("bybit", "overdue", 1)
    found = samples(metrics.render().decode())
    assert found['http_errors_total{class="5xx",venue="bybit"}'] == 5
    assert found['http_errors_total{class="overdue",venue="bybit"}'] == 1


def test_tokens_that_are_left_by_lane():
    clock = VirtualClock()
    limiter = Limiter({"order": Limit(10), "address": Limit(600, 5.0)}, RateConfig(), clock)
    assert limiter.tokens(Lane.RESERVED) == 5.0
    assert limiter.tokens(Lane.NORMAL) == 4.0  # a fifth is kept
    limiter.tell("order", remaining=0)
    assert limiter.tokens(Lane.RESERVED) == 0.0
    limiter = Limiter({"order": Limit(10)}, RateConfig(), clock)
    limiter.ban("403")
    assert (limiter.tokens(Lane.NORMAL), limiter.tokens(Lane.RESERVED)) == (0.0, 5.0)


def test_how_requests_failed():
    class HttpError(Exception):
        status_code = 502

    class CodeError(Exception):
        status_code = 110007

    def raising(error: Exception) -> Any:
        raise error

    async def test() -> dict[str, int]:
        cage = Cage("test")
        await cage.call(lambda: 1, lane=Lane.NORMAL, within=5)
        for error in (HttpError(), CodeError(), ConnectionError()):
            await cage.call(lambda error=error: raising(error), lane=Lane.NORMAL, within=5)
        await cage.call(lambda: time.sleep(0.05), lane=Lane.NORMAL, within=0.01)
        cage.close()
        await cage.call(lambda: 1, lane=Lane.NORMAL, within=5)
        return dict(cage.failures)

    assert asyncio.run(test()) == {
        "5xx": 1, "refused": 1, "ConnectionError": 1, "overdue": 1, "busy": 1,
    }  # fmt: skip


# Status -----------------------------------------------------------------------------------------


def plain(rig: Rig, symbol: str | None = None) -> dict[str, Any]:
    """As it arrives at the page."""
    return json.loads(to_json(rig.daemon.status(symbol)))


def test_a_daemon_shows_everything_of_its_symbol():
    async def test(rig: Rig) -> None:
        before = plain(rig)
        assert before["symbols"][0]["position"] == {"state": "flat"}
        assert before["symbols"][0]["protection"] is None
        await rig.bar(LONG)
        rig.server.advance(7_000)
        await rig.reconcile()
        shown = plain(rig)
        (one,) = shown["symbols"]
        assert (shown["symbol"], one["symbol"], one["execute_on"]) == (SYMBOL, SYMBOL, "1Minute")
        assert (shown["mode"], shown["venue"], shown["strategy"]) == ("demo", "bybit", "t")
        assert shown["account"] == rig.journal.meta("tag")
        assert shown["version"]
        assert one["position"]["state"] == "held"
        assert Decimal(one["position"]["quantity"]) == rig.held
        assert one["protection"]["state"] == "protected"
        assert one["protection"]["where"] == "venue"
        assert one["orders"][0]["role"] == "stop"
        decision = one["decisions"][0]
        assert (decision["decision"], decision["action"], decision["fallback"]) == (
            "open",
            LONG,
            False,
        )
        assert decision["policy_ms"] >= 0
        window = decision["observation"]["market_data_1Minute"]
        assert len(window["columns"]) == len(window["rows"][0])
        assert window["columns"] == list(rig.trader.observer.spec.feature_columns[0])
        assert decision["observation"]["account_state"]["labels"][1] == "position_direction"
        assert one["decision"] == {k: v for k, v in decision.items() if k != "observation"}
        feeds = {row["name"]: row for row in shown["feeds"]}
        assert feeds["bars 1Minute"]["age_seconds"] == 7.0
        assert feeds["bars 1Minute"]["limit_seconds"] == 120.0
        assert feeds["account"]["age_seconds"] == 0.0
        limits = {row["name"]: row for row in shown["breakers"]}
        assert limits["daily_loss"]["limit"] == 0.03
        assert set(limits) == {
            *("daily_loss", "drawdown", "bankrupt", "rejections", "rate_denied", "invalid_action"),
        }
        assert float(limits["bankrupt"]["value"]) < 0.01
        assert limits["bankrupt"]["limit"] == 0.9
        with pytest.raises(ValueError, match="'ETH' is not traded; expected one of BTC/USDT:USDT"):
            rig.daemon.status("ETH")
        for spelling in ("btcusdt", "BTC/USDT"):
            assert plain(rig, spelling)["symbol"] == "BTC/USDT:USDT"

    trading(test)


def test_of_several_symbols_one_is_in_detail():
    async def test(rig: Rig) -> None:
        await rig.bars([LONG, FLAT, LONG])
        names = [loop.symbol for loop in rig.daemon.symbols]
        shown = plain(rig, names[2])
        assert [row["symbol"] for row in shown["symbols"]] == names
        assert ["decisions" in row for row in shown["symbols"]] == [False, False, True]
        assert [row["position"]["state"] for row in shown["symbols"]] == ["held", "flat", "held"]
        assert [row["decision"]["decision"] for row in shown["symbols"]] == ["open", "hold", "open"]
        rig.desk.degrade("unreadable", names[1])
        shown = plain(rig)
        assert [row["state"] for row in shown["symbols"]] == ["ACTIVE", "DEGRADED", "ACTIVE"]
        assert shown["symbols"][1]["reasons"] == ["unreadable"]
        assert shown["feeds"][0]["symbol"] in names
        # Small enough to be asked for every two seconds, however many there are.
        brief = [row for row in shown["symbols"] if "decisions" not in row]
        assert max(len(json.dumps(row)) for row in brief) < 1_000
        metrics = Metrics()
        found = samples(PrometheusMeter(metrics).render(rig.daemon).decode())
        for name in names:
            assert f'position_quantity{{symbol="{name}"}}' in found
            assert found[f'protected{{symbol="{name}"}}'] == 1

    trading(test, symbols=3)


def test_what_is_in_doubt_is_shown():
    async def test(rig: Rig) -> None:
        wanted = Intent(
            kind=IntentKind.MARKET,
            role=Role.ENTRY,
            symbol=SYMBOL,
            side=Side.BUY,
            quantity=Decimal("0.1"),
            reduce_only=False,
            reason="test",
        )
        (intent,) = rig.journal.add_intents(SYMBOL, rig.trader.bar, (wanted,))
        rig.journal.sent(intent.client_id)
        rig.journal.resolve(intent.client_id, IntentState.UNKNOWN)
        (one,) = plain(rig)["symbols"]
        assert [row["client_id"] for row in one["unknown_orders"]] == [intent.client_id]
        assert one["frozen"] == "an order of unknown outcome"
        rig.server.advance(5_000)
        found = samples(PrometheusMeter(Metrics()).render(rig.daemon).decode())
        assert found["unknown_orders"] == 1
        assert found["unknown_age_seconds"] >= 5
        rig.journal.resolve(intent.client_id, IntentState.NOT_ARRIVED)
        assert plain(rig)["symbols"][0]["frozen"] is None

    trading(test)


def test_a_position_without_its_stop_is_bare():
    class Journal:
        def __init__(self, row: Any = None) -> None:
            self.row = row

        def protection(self, symbol: str) -> Any:
            return self.row

    def seen(stop: Decimal | None) -> Any:
        one = Decimal(1)
        held = Held(one, one, one, one, one, MarginMode.ISOLATED, None, 0, stop)
        return type("S", (), {"position": held})()

    of = status.protection_of
    assert of("X", seen(None), Journal())["state"] == "bare"  # type: ignore[arg-type, index]
    assert of("X", seen(Decimal(2)), Journal())["state"] == "protected"  # type: ignore[arg-type, index]
    local = type("R", (), {"where_held": "local", "stop_price": Decimal(3), "target_price": None})()
    guard = of("X", seen(None), Journal(local))  # type: ignore[arg-type]
    assert guard == {
        "state": "protected", "stop_price": Decimal(3), "target_price": None, "where": "local",
    }  # fmt: skip
    assert of("X", None, Journal()) is None  # type: ignore[arg-type]
    unknown = type("S", (), {"position": Unknown("no answer")})()
    assert of("X", unknown, Journal()) is None  # type: ignore[arg-type]
    assert status.position_of(Unknown("no answer")) == {"state": "unknown", "reason": "no answer"}
    assert status.position_of(None) == {"state": "unknown"}


def test_limits_that_are_switched_off_are_not_shown_as_limits():
    async def test(rig: Rig) -> None:
        await rig.bar(FLAT)
        risk = RiskConfig(disabled=("drawdown",))
        names = [row["name"] for row in status.breakers_of(rig.desk.breakers, risk)]
        assert "drawdown" not in names
        assert "daily_loss" in names
        assert status.breakers_of(None, risk) == []

    trading(test)


def test_every_part_of_an_observation_has_names():
    spec = MarketSpec(
        time_frames=(TimeFrame(1, "Minute"),),
        window_sizes=(2,),
        execute_on=TimeFrame(1, "Minute"),
        feature_columns=(("a", "b"),),
        feature_names=("f",),
    )
    seen = {
        "market_data_1Minute": np.ones((2, 2)),
        "base_features": np.ones((2, 4)),
        "account_state": np.zeros(6),
    }
    found = status.observation_of(seen, spec)
    assert found["market_data_1Minute"]["columns"] == ["a", "b"]
    assert found["base_features"]["columns"] == ["open", "high", "low", "close"]
    assert len(found["account_state"]["labels"]) == 6
