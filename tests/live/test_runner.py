"""The daemon end to end: configuration to exit code, against the local exchange, at a quick clock.

One minute of the exchange takes one and a half seconds. Everything but time is as in production:
the venue's SDK over HTTP, the journal on disk, the operations page, commands.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import Bundle, Rules, SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.market import synthetic
from live import config, runner
from live.clock import ClockLimits, OffsetEstimator, VirtualClock
from live.clock.keeping import keep_time
from live.config import template, trained
from live.exchange import cli as exchange_cli
from live.exchange.server import ExchangeServer
from live.journal import Journal, JournalError
from live.journal.reading import JournalReader
from live.operations import control, logs, preflight
from live.operations.meter import MeteredVenue, PrometheusMeter
from live.operations.metrics import Metrics
from live.paper import PaperVenue
from live.paper import store as paper_store
from live.replay import backtest, parity
from live.replay.account import SimulatedAccount
from live.replay.filters import unfiltered
from live.replay.money import ReplayTerms
from live.secrets import Secret, Tokens
from live.trading.acts import View
from live.trading.deciding import decide
from live.types import (
    Bars,
    Bracket,
    Definitive,
    Flat,
    Intent,
    IntentKind,
    Quote,
    Role,
    Side,
    UnreadableError,
)
from tests.live import real_run

SYMBOL = "BTC/USDT:USDT"


@pytest.fixture
def server() -> Any:
    """An exchange in a thread of its own; nothing shares the daemon's event loop."""
    exchange = ExchangeServer(speed=real_run.SPEED)
    with exchange.threaded():
        yield exchange


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    real_run.quicken(monkeypatch)


def settings(server: ExchangeServer, folder: Path, mode: str, **more: Any) -> config.LiveConfig:
    """Those of a real run in another mode."""
    return config.load(None, real_run.settings(server, folder, **{"runner.mode": mode, **more}), {})


def value_of(text: str, name: str) -> float:
    """One sample of a Prometheus page."""
    line = next(row for row in text.splitlines() if row.startswith(f"jaxtrade_live_{name}"))
    return float(line.rsplit(" ", 1)[1])


def journal_of(folder: Path) -> JournalReader:
    (path,) = folder.glob("*.db")
    return JournalReader.view(path)


async def until(check: Any, seconds: float = 20.0) -> Any:
    """Wait in real time for something to become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = await asyncio.to_thread(check)
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it did not become true")


@pytest.mark.usefixtures("quick")
def test_paper_trades_shows_itself_and_resumes(server: ExchangeServer, tmp_path: Path) -> None:
    port = real_run.free_port()
    folder = tmp_path / "state"
    given = settings(
        server,
        folder,
        "paper",
        **{"server.enabled": True, "server.port": port, "runner.max_steps": 50},
    )

    async def watched() -> int:
        running = asyncio.create_task(runner.run(given))
        held = 'position_quantity{symbol="BTC/USDT:USDT"}'

        def traded() -> str | None:
            try:
                token = Tokens.read_only(folder).read
                text = real_run.ask(port, "/metrics", token)[1]
            except (FileNotFoundError, urllib.error.URLError):
                return None
            return text if value_of(text, held) > 0 else None

        text = await until(traded)
        assert value_of(text, "submit_seconds_count") >= 1
        assert value_of(text, "snapshot_seconds_count") >= 1
        assert value_of(text, "journal_commit_seconds_count") >= 1
        assert value_of(text, 'orders_total{category="",outcome="accepted",role="e"}') == 1
        assert (await asyncio.to_thread(real_run.ask, port, "/healthz"))[0] == 200
        assert (await asyncio.to_thread(real_run.ask, port, "/"))[0] == 200
        assert (await asyncio.to_thread(real_run.ask, port, "/metrics"))[0] == 401
        place = control.Place(folder, None, given.server)
        shown = await asyncio.to_thread(control.status, place)
        assert shown["symbols"][0]["position"]["state"] == "held"
        answer = await asyncio.to_thread(control.give, place, "stop", "seen enough")
        assert answer["accepted"]
        return await running

    assert asyncio.run(watched()) == 0
    # No key was read and nothing of an account was asked.
    assert not server.requests("order/*")
    assert not server.requests("position/*")
    assert server.engine.position("BTCUSDT") == 0

    before = journal_of(folder)
    booked = before.position(SYMBOL)
    before.close()
    assert booked > 0
    # A second life takes the account up where the first one left it.
    assert asyncio.run(runner.run(settings(server, folder, "paper"))) == 0
    after = journal_of(folder)
    assert after.position(SYMBOL) == booked
    assert not after.history(kind="finding")
    assert not after.latches()
    assert [row.exit_code for row in after.runs()] == [0, 0]
    after.close()


@pytest.mark.usefixtures("quick")
def test_demo_trades_protects_and_flattens(server: ExchangeServer, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    more = {"runner.shutdown_policy": "flatten", "runner.max_steps": 3}
    given = settings(server, folder, "demo", **more)
    assert asyncio.run(runner.run(given, secrets=real_run.keys(server))) == 0
    assert server.requests("order/create")
    journal = journal_of(folder)
    fills = journal.fills(SYMBOL)
    decisions = [row.decision for row in journal.decisions(SYMBOL)]
    journal.close()
    assert "open" in decisions
    # It held a position with its stop at the venue, and ended without either.
    assert sum(fill.signed for fill in fills) == 0
    assert max(fill.quantity for fill in fills) > 0
    assert server.engine.position("BTCUSDT") == 0
    assert server.requests("position/trading-stop")
    assert len(server.engine.executions("BTCUSDT")) == len(fills)


@pytest.mark.usefixtures("quick")
def test_a_halt_file_ends_entries_and_shows_in_the_exit_code(
    server: ExchangeServer, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    given = settings(server, folder, "paper", **{"runner.max_steps": 1})
    control.give(control.Place(folder, None, given.server), "halt", "before it began")
    assert asyncio.run(runner.run(given)) == 3
    journal = journal_of(folder)
    assert journal.position(SYMBOL) == 0
    assert [row.reason for row in journal.latches()] == ["operator"]
    journal.close()


@pytest.mark.usefixtures("quick")
def test_an_error_that_nothing_awaited_is_logged_and_counted(
    server: ExchangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = runner.prepare

    async def forgotten() -> None:
        raise RuntimeError(f"with {server.api_key}")

    async def prepare(venue: Any, daemon: Any) -> None:
        await prepared(venue, daemon)
        asyncio.get_running_loop().create_task(forgotten(), name="forgotten")

    monkeypatch.setattr(runner, "prepare", prepare)
    told = real_run.ran(server, tmp_path / "state", **{"runner.max_steps": 1})
    assert told.code == 0
    lines = (tmp_path / "state" / logs.FILE).read_text().splitlines()
    (line,) = [row for row in map(json.loads, lines) if row.get("task") == "forgotten"]
    assert (line["level"], line["message"]) == ("error", "Task exception was never retrieved")
    assert line["error"].endswith("RuntimeError: with ***\n")
    assert value_of(told.metrics, "loop_errors_total") == 1


@pytest.mark.usefixtures("quick")
def test_what_cannot_start_is_refused_with_its_code(
    server: ExchangeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unlisted = settings(server, tmp_path / "state", "paper", **{"env.symbol": "NOSUCHUSDT"})
    assert asyncio.run(runner.run(unlisted)) == 2
    wrong = real_run.keys(server) | {"api_secret": Secret("BYBIT_API_SECRET", "f" * 36)}
    demo = settings(server, tmp_path / "other", "demo")
    assert asyncio.run(runner.run(demo, secrets=wrong)) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        page = {"server.enabled": True, "server.port": taken.getsockname()[1]}
        assert asyncio.run(runner.run(settings(server, tmp_path / "page", "paper", **page))) == 2
    assert caplog.text.count("refused to start") == 3
    assert "f" * 36 not in caplog.text


# The pieces -------------------------------------------------------------------------------------


def test_a_policy_that_fails_is_a_hold(tmp_path: Path) -> None:
    """Whatever the user's code raises, the daemon goes on and says so."""

    def broken(observation: Any, info: Any) -> int:
        raise KeyError("weights")

    journal = Journal.open(None, account_id="a", strategy_id="s", now_ms=lambda: 0)
    instrument = type("I", (), {"symbol": SYMBOL})()
    facts = {"bar_open_ms": 0, "venue_time_ms": 60_000, "instrument": instrument}
    view = View(type("S", (), facts)(), {}, 1)  # type: ignore[arg-type]
    decided = asyncio.run(decide(broken, view, journal, deadline=9.0, wall=time.monotonic))  # type: ignore[arg-type]
    assert decided.action is None
    assert decided.fallback
    assert "weights" in journal.history(kind="policy")[0].body["detail"]
    journal.close()


def test_a_paper_account_on_disk_is_the_account(tmp_path: Path) -> None:
    terms = ReplayTerms(leverage=5.0, transaction_fee=0.0005)
    account = SimulatedAccount(terms, unfiltered(terms), lambda event: None)
    wanted = Intent(
        kind=IntentKind.MARKET,
        role=Role.ENTRY,
        symbol=account.instrument.symbol,
        side=Side.SELL,
        quantity=Decimal("0.123"),
        reduce_only=False,
        reason="test",
        client_id="jt000e",
    )
    assert isinstance(account.submit(wanted, 50_000.0, 50_000.0, 1), Definitive)
    account.pass_bar((50_000.0, 51_000.0, 49_000.0, 50_500.0), 0.5, 0.0001, 60_000)
    path = tmp_path / "paper.json"
    paper_store.save(path, account, 42)

    again = SimulatedAccount(terms, unfiltered(terms), lambda event: None)
    assert paper_store.load(path, again) == 42
    assert again.standing(50_500.0) == account.standing(50_500.0)
    assert again.fills == account.fills
    assert again.report("jt000e") == account.report("jt000e")
    # Ids go on where they ended: the journal counts each fill once.
    known = {fill.trade_id for fill in again.fills}
    again.submit(wanted.__class__(**{**_fields(wanted), "client_id": "jt001e"}), 5e4, 5e4, 2)
    assert again.fills[-1].trade_id not in known

    other = SimulatedAccount(ReplayTerms(leverage=3.0), unfiltered(terms), lambda event: None)
    with pytest.raises(paper_store.PaperFileError, match="leverage"):
        paper_store.load(path, other)
    path.write_text(json.dumps({"version": 0}))
    with pytest.raises(paper_store.PaperFileError, match="move every such file away"):
        paper_store.load(path, again)
    assert paper_store.load(tmp_path / "none", again) is None


def test_legs_of_a_paper_position_are_the_positions_own(tmp_path: Path) -> None:
    """As at a venue that keeps them there: without ids of ours, which would be strange orders."""
    clock = VirtualClock(600_000)
    terms = ReplayTerms(leverage=5.0)
    last = [100.0, 100.0, 100.0, 100.0, 1.0]

    class Market:
        name = "market"

        async def connect(self) -> None:
            pass

        async def instrument(self, symbol: str) -> Any:
            return unfiltered(terms, symbol)

        async def quote(self, symbol: str) -> Quote:
            mark = Decimal(str(last[3]))
            return Quote(mark, mark, mark, clock.now_ms())

        async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
            newest = clock.now_ms() // 60_000 * 60_000 - 60_000
            times = np.arange(newest - (count - 1) * 60_000, newest + 1, 60_000)
            return Bars(frame, times, np.array([last] * count))

    async def trade() -> None:
        venue = PaperVenue(
            Market(),  # type: ignore[arg-type]
            terms,
            clock,
            frame="1Minute",
            bar_ms=60_000,
            folder=tmp_path,
        )
        await venue.connect()
        await venue.instrument(SYMBOL)
        entry = Intent(
            kind=IntentKind.MARKET,
            role=Role.ENTRY,
            symbol=SYMBOL,
            side=Side.BUY,
            quantity=Decimal(1),
            reduce_only=False,
            reason="test",
            client_id="jtabcd0000000000001e",
            bracket=Bracket(Decimal(95), Decimal(110)),
        )
        await venue.submit(entry)
        legs = await venue.orders(SYMBOL)
        assert [(leg.role, leg.client_id) for leg in legs] == [(Role.STOP, ""), (Role.TARGET, "")]
        clock.advance_to(660_000)
        last[:4] = [100.0, 101.0, 94.0, 96.0]
        assert isinstance(await venue.position(SYMBOL), Flat)
        entered, stopped = await venue.fills(SYMBOL, 0)
        assert (entered.client_id, entered.role) == (entry.client_id, None)
        assert (stopped.client_id, stopped.role) == ("", Role.STOP)
        await venue.balance()
        told = []
        while not venue._queue.empty():
            told.append(venue._queue.get_nowait())
        assert [event.fill for event in told if event and event.fill] == [entered, stopped]

    asyncio.run(trade())


def _fields(intent: Intent) -> dict[str, Any]:
    return {name: getattr(intent, name) for name in intent.__dataclass_fields__}


def test_requests_that_end_by_deadline_are_counted_as_unknown() -> None:
    counted = PrometheusMeter(Metrics(), SYMBOL)

    class Silent:
        name, capabilities = "silent", None

        async def submit(self, intent: Any) -> Any:
            await asyncio.sleep(60)

    async def once() -> None:
        venue = MeteredVenue(Silent(), counted)  # type: ignore[arg-type]
        wanted = type("I", (), {"role": Role.ENTRY})()
        async with asyncio.timeout(0.01):
            await venue.submit(wanted)  # type: ignore[arg-type]

    with pytest.raises(TimeoutError):
        asyncio.run(once())
    text = counted.metrics.render().decode()
    assert value_of(text, 'orders_total{category="",outcome="unknown",role="e"}') == 1


# Replay -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bars() -> Any:
    return synthetic.minutes(3, 400, volatility=0.001)


def replay_config(**more: Any) -> config.LiveConfig:
    given = {
        "env.time_frames": "1min",
        "env.execute_on": "1min",
        "env.leverage": 5,
        "env.action_levels": [-1, 0, 1],
        "policy.baseline": "random",
        "runner.max_steps": 60,
    }
    return config.load(None, given | more, {})


def test_a_replay_reports_and_equals_the_environment(bars: Any) -> None:
    report = backtest.replay(replay_config(), bars, check_parity=True)
    assert report["parity"] is True
    assert report["steps"] == 60
    assert report["trades"] > 10
    assert report["fees"] > 0
    assert report["final_equity"] == pytest.approx(10_000 * (1 + report["return"]))
    assert 0 < report["max_drawdown"] < 1
    # Limits were passed, and only told of.
    assert report["would_deny"]["state"] > 0
    assert not report["denied"]
    assert any("daily_loss" in line for line in report["latches"])


def test_limits_act_in_a_replay_where_that_is_asked_for(bars: Any) -> None:
    report = backtest.replay(replay_config(), bars, enforce_risk=True)
    assert report["denied"]["state"] > 0
    assert not report["would_deny"]
    assert report["max_drawdown"] < 0.06


def test_parity_names_the_first_difference(bars: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = parity._environment

    def dearer(given: Any, frame: Any, terms: ReplayTerms, data: Any) -> Any:
        fields = {name: getattr(terms, name) for name in terms.__dataclass_fields__}
        return original(given, frame, ReplayTerms(**fields | {"transaction_fee": 0.002}), data)

    monkeypatch.setattr(parity, "_environment", dearer)
    report = backtest.replay(replay_config(), bars, check_parity=True)
    assert report["parity"] is False
    assert report["first_difference"].startswith("step ")
    assert "equity" in report["first_difference"]


def test_parity_with_what_no_environment_has_is_refused(bars: Any) -> None:
    given = replay_config(**{"env.equity_buffer": 0.02})
    with pytest.raises(config.ConfigError, match="equity_buffer"):
        backtest.replay(given, bars, check_parity=True)
    with pytest.raises(config.ConfigError, match="enforce-risk"):
        backtest.replay(replay_config(), bars, check_parity=True, enforce_risk=True)


# Beside the daemon ------------------------------------------------------------------------------


def test_one_signal_twice_is_one_and_a_later_one_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stub:
        def __init__(self) -> None:
            self.stopping = asyncio.Event()

        async def run(self) -> int:
            await self.stopping.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            return 0

    async def told_twice() -> int:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        return await runner._until_told(Stub())  # type: ignore[arg-type]

    assert asyncio.run(told_twice()) == 0
    monkeypatch.setattr(runner, "_ONE_SIGNAL_SECONDS", 0.0)
    assert asyncio.run(told_twice()) == 5


def test_a_lost_journal_has_its_exit_code() -> None:
    class Stub:
        stopping = asyncio.Event()

        async def run(self) -> int:
            async with asyncio.TaskGroup():
                raise JournalError("journal: no space left.")

    assert asyncio.run(runner._until_told(Stub())) == 4  # type: ignore[arg-type]


def test_the_clock_is_measured_again_in_time_and_after_a_sleep() -> None:
    asked: list[float] = []
    woken: list[float] = []

    class Clock:
        limits = ClockLimits(resync_seconds=10)
        disturbances, offset_ms, now = 0, 0.0, 0.0
        estimator = OffsetEstimator()

        def monotonic(self) -> float:
            return self.now

        async def sleep(self, seconds: float) -> None:
            self.now += seconds
            if self.now == 25:
                self.disturbances = 1
            if self.now > 40:
                raise asyncio.CancelledError

    clock = Clock()

    class Venue:
        async def server_time(self) -> int:
            asked.append(clock.now)
            if clock.now == 10:
                raise UnreadableError("no answer")
            return int(clock.now * 1000)

    keeping = keep_time(
        clock,  # type: ignore[arg-type]
        Venue().server_time,
        lambda: woken.append(clock.now),
    )
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keeping)
    # Due at 10 and, unanswered, at 11; then 21, at once at 25, and 35.
    assert sorted(set(asked)) == [10, 11, 21, 25, 35]
    assert woken == [25]


def test_the_clock_is_not_compared_with_the_time_of_a_local_exchange() -> None:
    def limits(**options: str) -> ClockLimits:
        return runner.clock_limits(config.load(None, {"env.leverage": "2", **options}, {}))

    assert limits().warns(1_000.0) and limits().denial(10_000.0, 1.0)
    local = limits(**{"venue.base_url": "http://127.0.0.1:8900"})
    assert not local.warns(10_000.0) and local.denial(10_000.0, 1.0) is None


# From a bundle to a configuration ----------------------------------------------------------------


def test_a_bundle_writes_the_configuration_it_was_trained_with(tmp_path: Path, bars: Any) -> None:
    made = SequentialTradingEnvConfig(
        time_frames=["1min", "5min"],
        window_sizes=[6, 4],
        execute_on="1min",
        leverage=5,
        action_levels=(-1, 0, 1),
        transaction_fee=0.0004,
        half_spread=0.0001,
        rules=Rules(fill_at="next_open"),
    )
    env = SequentialTradingEnv(bars, made)

    def long(seen: Any) -> Any:
        return jnp.zeros((seen["account_state"].shape[0], 3)).at[:, 2].set(1.0)

    path = tmp_path / "bundle.zip"
    Bundle.of(env, long, {}).save(path)
    name, fields = trained.settings_of(path)
    assert name == "BybitFuturesTradingEnv"
    assert fields["leverage"] == 5
    assert fields["rules"] == {"fill_at": "next_open"}
    assert "transaction_fee" not in fields
    text = template.initial(name, "live.toml", str(path), fields)
    (tmp_path / "live.toml").write_text(text)
    given = config.load(
        tmp_path / "live.toml", {"env.equity_buffer": 0.0, "runner.max_steps": 20}, {}
    )
    assert [
        row.text
        for row in preflight.checks(tmp_path / "live.toml", {}, None, None)
        if row.group == "policy"
    ] == ["bundle of SequentialTradingEnv fits"]
    report = backtest.replay(given, bars, check_parity=True)
    assert report["parity"] is True
    assert (report["half_spread"], report["trades"]) == (0.0001, 1)

    slower = config.load(tmp_path / "live.toml", {"env.execute_on": "5min"}, {})
    with pytest.raises(ValueError, match="write '1Minute'"):
        backtest.replay(slower, bars)


# The exchange from the command line --------------------------------------------------------------


def test_faults_of_the_command_line() -> None:
    exchange = ExchangeServer()
    exchange_cli._add_fault(exchange, "order/create accept_then_drop 2 skip=1")
    exchange_cli._add_fault(exchange, "position/list status all code=503 probability=0.5")
    first, second = exchange.faults.rules
    assert (first.route, first.action, first.left, first.skip) == (
        "order/create",
        "accept_then_drop",
        2,
        1,
    )
    assert second.left is None
    for text in ("order/create", "a b c d", "order/create accept_then_drop x"):
        with pytest.raises(ValueError, match="--fault"):
            exchange_cli._add_fault(exchange, text)
