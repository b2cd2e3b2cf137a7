"""The command ``jaxtrade live``: what it writes, checks, starts, and how a daemon hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
import tomllib
import types
from decimal import Decimal
from pathlib import Path

import pytest

from jaxtrade.cli import _summary
from live import mailbox
from live.cli import live
from live.config import ConfigError, load
from live.config.environments import BybitFuturesTradingEnvConfig
from live.config.tables import ServerConfig
from live.journal import Journal
from live.journal.storage import JournalError
from live.operations import cli_options as options
from live.operations import control, preflight
from live.operations.control import Place
from live.operations.doctor_rows import Row, Verdict
from live.operations.server import OperationsServer
from live.secrets import Tokens, private_folder

pytestmark = pytest.mark.filterwarnings("ignore:action_levels")

KEYS = "BYBIT_API_KEY=MARKERkey01234567\nBYBIT_API_SECRET=MARKERsecret0123\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to work in, without variables that configure anything."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("JAXTRADE_", "BYBIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(control, "_ANSWER_SECONDS", 0.4)
    return tmp_path


@pytest.fixture
def configured(here, monkeypatch):
    """A configuration that passes every check; its bundle is not looked into."""
    (here / "bundle").mkdir()
    monkeypatch.setattr(preflight, "_fit", lambda config: "fits")
    monkeypatch.setattr(preflight.host, "syncs", lambda config: iter(()))
    (here / "live.toml").write_text(
        "[runner]\nstate_dir = 'state'\n[env]\nleverage = 2\nequity_buffer = 0.02\n"
        "[policy]\nbundle = 'bundle'\n"
    )
    return here


def open_journal(folder: Path, name: str = "one") -> Journal:
    return Journal.open(
        private_folder(folder) / f"{name}.db",
        account_id="777",
        strategy_id="default",
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


def run_of(monkeypatch, behave, rows=()) -> list:
    """Put a runner in place that records what it gets, and a doctor with these rows."""
    calls = []
    monkeypatch.setattr("live.operations.doctor.examined", lambda config, **_: list(rows))

    async def run(config, *, secrets, confirm):
        calls.append((config, secrets, confirm))
        return behave()

    monkeypatch.setitem(sys.modules, "live.runner", types.SimpleNamespace(run=run))
    monkeypatch.setattr("live.operations.logs.configure", lambda **_: None)
    return calls


# Preparing --------------------------------------------------------------------------------------


def test_the_command_is_installed_with_a_summary():
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    assert project["project"]["entry-points"]["jaxtrade.commands"]["live"] == "live.cli:live"
    assert "operations/page.html" in project["tool"]["setuptools"]["package-data"]["live"]
    assert _summary(types.SimpleNamespace(module="live.cli", attr="live")).startswith("Trade a")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        live(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    names = ("init", "doctor", "check", "run", "replay", "replay-journal", "status", "restore")
    for name in (*names, "config", *mailbox.COMMANDS):
        assert f"\n  {name} " in text
    assert live([]) == 1


@pytest.mark.parametrize("words", [["rnu"], ["run", "--mode", "real"], ["halt"], ["config", "x"]])
def test_wrong_usage_is_exit_code_1(words, capsys):
    with pytest.raises(SystemExit) as stop:
        live(words)
    assert stop.value.code == 1
    assert "error: " in capsys.readouterr().err


def test_init_writes_a_file_that_works_and_never_overwrites(here, monkeypatch, capsys):
    monkeypatch.setattr(preflight, "_fit", lambda config: "fits")
    assert live(["init", "--policy", "bundle"]) == 0
    (here / "bundle").mkdir()
    text = (here / "live.toml").read_text()
    assert "BYBIT_API_KEY and BYBIT_API_SECRET" in text
    assert live(["config", "check"]) == 0
    assert "jaxtrade live doctor --config live.toml" in capsys.readouterr().out
    assert live(["init"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert live(["init", "x.toml", "--environment", "BybitFuturesSLTPTradingEv"]) == 1
    assert "did you mean 'BybitFuturesSLTPTradingEnv'" in capsys.readouterr().err


def test_the_bundle_of_a_file_is_found_from_anywhere(here, monkeypatch):
    """Beside the file in the file, beside the caller in options and variables."""
    (here / "runs").mkdir()
    (here / "etc").mkdir()
    assert live(["init", "etc/live.toml", "--policy", "runs/bundle"]) == 0
    file = here / "etc" / "live.toml"
    assert 'bundle = "../runs/bundle"' in file.read_text()
    monkeypatch.chdir(here / "runs")
    found = load(file).policy.bundle
    assert found is not None
    assert found.resolve() == here / "runs" / "bundle"
    assert load(file, {"policy.bundle": "bundle"}).policy.bundle == Path("bundle")
    assert load(file, environ={"JAXTRADE__POLICY__BUNDLE": "x"}).policy.bundle == Path("x")
    file.write_text("[policy]\nbundle = 'none'\n")
    assert load(file).policy.bundle is None
    file.write_text("[policy]\nbundle = '/somewhere'\n")
    assert load(file).policy.bundle == Path("/somewhere")
    file.write_text("[policy]\nbundle = 3\n")
    with pytest.raises(ConfigError, match="bundle"):
        load(file)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a bundle, factory or baseline"),
        (["--set", "policy.baseline=moving_avrage_cross"], "baseline: "),
        (["--set", "policy.bundle=gone"], "gone does not exist"),
    ],
)
def test_what_a_run_would_refuse_does_not_fit(capsys, words, said):
    assert live(["config", "check", *words]) == 1
    out = capsys.readouterr().out
    assert "does not fit: [policy]" in out
    assert said in out
    assert live(["config", "check", "--json", *words]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False
    assert said in found["problems"][0]


def test_check_has_one_row_per_finding(configured, capsys):
    assert live(["check", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"config", "modes", "secrets", "policy", "host", "state"} == {r["group"] for r in rows}
    assert "fail" not in {r["verdict"] for r in rows}
    words = ["check", "--set", "env.equity_buffer=0", "--set", "risk.disabled=['collar']"]
    assert live(words) == 0
    out = capsys.readouterr().out
    assert "warn  config      buffer         [env] equity_buffer" in out
    assert "; 0.02 is usual" in out
    assert "collar do not protect" in out
    assert live(["check", "--mode", "live", "--policy", "gone"]) == 1
    out = capsys.readouterr().out
    assert "fail  modes       switches       [env] demo: must be false" in out
    assert "fail  secrets     keys           missing: BYBIT_API_KEY" in out
    assert "fail  policy      fit            [policy] bundle: gone does not exist" in out
    assert live(["check", "--set", "env.leverage=0", "--set", "runner.mode=x"]) == 1
    assert capsys.readouterr().out.count("fail  config") == 2


def test_check_reads_the_journal(configured, capsys):
    journal = open_journal(configured / "state")
    journal.latch("HALTED", "drawdown", "5 %")
    assert live(["check"]) == 0
    assert "a daemon runs in this state folder" in capsys.readouterr().out
    journal.close()
    assert live(["check"]) == 0
    assert "one.db: HALTED (drawdown)" in capsys.readouterr().out


def test_the_doctor_prints_its_rows_and_ends_with_the_worst(configured, monkeypatch, capsys):
    asked = []

    def examine(path, overrides, **given):
        asked.append((path, overrides, given))
        return rows

    monkeypatch.setattr("live.operations.doctor.examine", examine)
    rows = [Row("host", "disk", Verdict.OK, "1 GiB"), Row("host", "clock", Verdict.WARN, "off")]
    assert live(["doctor"]) == 0
    assert "ok    host        disk           1 GiB\n" in capsys.readouterr().out
    rows.append(Row("permissions", "withdraw", Verdict.FAIL, "may withdraw", "make another key"))
    assert live(["doctor", "--json", "--allow-withdraw-keys", "--mode", "demo"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found[2] == {
        "group": "permissions", "name": "withdraw", "verdict": "fail", "text": "may withdraw",
        "fix": "make another key",
    }  # fmt: skip
    path, overrides, given = asked[-1]
    assert (path.name, overrides, given["withdrawing"]) == (
        "live.toml",
        {"runner.mode": "demo"},
        True,
    )


def test_a_run_begins_with_the_doctor(configured, monkeypatch, capsys):
    bad = Row("symbol", "filters", Verdict.FAIL, "not listed", "name another")
    good = Row("host", "disk", Verdict.OK, "1 GiB")
    calls = run_of(monkeypatch, lambda: 0, [good, bad])
    assert live(["run"]) == 2
    err = capsys.readouterr().err
    assert "fail  symbol      filters        not listed; name another" in err
    assert "1 GiB" not in err
    assert calls == []
    assert live(["run", "--skip-doctor"]) == 0
    warned = dataclasses.replace(bad, verdict=Verdict.WARN)
    run_of(monkeypatch, lambda: 0, [warned])
    assert live(["run"]) == 0
    assert "warn  symbol" in capsys.readouterr().err


def test_warnings_are_notes_here_and_point_at_the_line_elsewhere(configured, capsys):
    assert live(["config", "check", "--set", "env.time_frames=60min"]) == 0
    assert "note: time frame '60min' is written '1Hour'" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="written '2Hour'") as noted:
        BybitFuturesTradingEnvConfig(leverage=2, time_frames="120min")
    assert noted[0].filename == __file__


def test_config_shows_what_is_in_force_and_from_where(configured, monkeypatch, capsys):
    monkeypatch.setenv("JAXTRADE__RUNNER__STRATEGY_ID", "mine")
    assert live(["config", "show", "--set", "server.port=99"]) == 0
    text = capsys.readouterr().out
    assert 'strategy_id = "mine"  # JAXTRADE__RUNNER__STRATEGY_ID' in text
    assert "port = 99  # option server.port" in text
    assert "leverage = 2.0  # live.toml" in text
    assert tomllib.loads(text)["env"]["name"] == "BybitFuturesTradingEnv"
    assert live(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runner"]["strategy_id"] == "mine"
    assert live(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["risk"]["daily_loss_limit"]["default"] == 0.03
    assert live(["config", "check", "--config", "none.toml"]) == 1
    assert "jaxtrade live init" in capsys.readouterr().err


# Running ----------------------------------------------------------------------------------------


def test_run_is_paper_and_reads_no_keys(configured, monkeypatch, capsys):
    monkeypatch.setenv("BYBIT_API_KEY", "MARKERkey01234567")
    calls = run_of(monkeypatch, lambda: 0)
    assert live(["run"]) == 0
    ((config, secrets, confirm),) = calls
    assert (config.runner.mode, secrets, confirm) == ("paper", {}, None)
    assert "PAPER" in capsys.readouterr().err
    assert (configured / "state").stat().st_mode & 0o777 == 0o700


def test_run_passes_keys_and_confirmation_to_a_real_account(configured, monkeypatch, capsys):
    path = configured / "keys"
    path.write_text(KEYS)
    path.chmod(0o600)
    calls = run_of(monkeypatch, lambda: 3)
    words = ["run", "--mode", "live", "--set", "env.demo=false", "--credentials", "keys"]
    assert live(words) == 1
    assert "--confirm-live ACCOUNT" in capsys.readouterr().err
    assert live([*words, "--confirm-live", "777", "--allow-local"]) == 3
    ((config, secrets, confirm),) = calls
    assert secrets["api_secret"].reveal() == "MARKERsecret0123"
    assert (confirm, config.runner.allow_local) == ("777", True)
    err = capsys.readouterr().err
    assert "REAL MONEY" in err
    assert "MARKER" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "demo"], "missing: BYBIT_API_KEY"),
        (["--mode", "live"], "demo: must be false"),
        (["--confirm-live", "777"], "only for mode 'live'"),
        (["--credentials", "keys"], "not used: paper mode reads no keys"),
        (["--set", "policy.bundle=none"], "or the configuration of the run with --config"),
        (["--set", "runner.mode"], "expected TABLE.FIELD=VALUE"),
        (["--set", "runnr.mode=x"], "did you mean 'runner'"),
    ],
)
def test_run_refuses_what_does_not_fit_before_it_starts(
    configured, monkeypatch, capsys, words, message
):
    calls = run_of(monkeypatch, lambda: 0)
    assert live(["run", *words]) == 1
    assert message in capsys.readouterr().err
    assert calls == []


def raising(error: BaseException):
    def behave():
        raise error

    return behave


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["[policy] bundle: other features"]), 1),
        (JournalError("locked by another process"), 2),
        (KeyError("a defect"), 70),
        (ValueError("also a defect"), 70),
    ],
)
def test_how_a_run_ends_is_its_exit_code(configured, monkeypatch, capsys, error, code):
    run_of(monkeypatch, raising(error))
    assert live(["run"]) == code


def test_a_replay_prints_its_result(configured, monkeypatch, capsys):
    def replay(config, data, *, check_parity, enforce_risk):
        return {"data": data.name, "parity": not enforce_risk, "checked": check_parity}

    monkeypatch.setitem(sys.modules, "live.replay.backtest", types.SimpleNamespace(replay=replay))
    assert live(["replay", "--data", "x.csv", "--check-parity", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"data": "x.csv", "parity": True, "checked": True}
    assert live(["replay", "--data", "x.csv", "--enforce-risk"]) == 1
    capsys.readouterr()
    for words in (["replay"], ["replay", "one.db", "--data", "x.csv"]):
        assert live(words) == 1
        assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["replay", "replay-journal"])
def test_a_journal_is_decided_again(configured, monkeypatch, capsys, name):
    results = iter([{"reproduced": True, "decisions": 3}, {"reproduced": False}])
    asked = []

    def reproduce(config, path):
        asked.append((config.env.leverage, path.name))
        return next(results)

    monkeypatch.setattr("live.replay.reproduction.reproduce", reproduce)
    (configured / "one.db").write_bytes(b"")
    assert live([name, "one.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decisions"] == 3
    assert live([name, "one.db"]) == 1
    assert asked == [(2, "one.db")] * 2
    assert live([name, "none.db"]) == 1
    assert "none.db: no such file" in capsys.readouterr().err


# Commands without a daemon ----------------------------------------------------------------------


def test_halt_always_works_and_resume_undoes_it(configured, capsys):
    folder = configured / "state"
    (configured / "live.toml").write_text(
        "[runner]\nstate_dir = 'state'\n[env]\nleverage = 'broken'\n"
    )
    assert live(["halt", "--reason", "looks\nwrong"]) == 0
    assert mailbox.read_halt(folder) == "looks wrong"
    assert (folder / "HALT").exists()
    assert live(["resume", "--reason", "looked"]) == 0
    assert mailbox.read_halt(folder) is None


def test_commands_that_need_a_daemon_say_so(configured, capsys):
    for name in ("flatten", "stop"):
        assert live([name, "--reason", "x"]) == 1
        assert "no daemon runs in state; nothing was done" in capsys.readouterr().err
    assert live(["reduce", "--reason", "x"]) == 1
    assert "holds no journal" in capsys.readouterr().err
    assert live(["halt", "--reason", " "]) == 1
    assert "reason: expected" in capsys.readouterr().err


def test_latches_of_a_stopped_daemon_are_set_and_cleared_in_its_journal(configured, capsys):
    open_journal(configured / "state").close()
    assert live(["reduce", "--reason", "until monday"]) == 0
    journal = open_journal(configured / "state")
    (latch,) = journal.latches()
    assert (latch.state, latch.reason) == ("REDUCING", "operator")
    assert "until monday" in latch.detail
    journal.latch("REDUCING", "mismatch")
    journal.adjust("BTC", "position", Decimal("0.01"), Decimal(0), {})
    journal.close()
    assert live(["resume", "--reason", "monday"]) == 1
    assert "jaxtrade live acknowledge" in capsys.readouterr().err
    assert live(["resume", "--reason", "x", "--reset-baseline"]) == 1
    assert live(["acknowledge", "--reason", "mine", "--symbol", "ETH"]) == 1
    assert "knows no 'ETH'; expected one of BTC" in capsys.readouterr().err
    assert live(["acknowledge", "--reason", "mine", "--symbol", "BTC"]) == 0
    assert "1 adjustments" in capsys.readouterr().out
    assert live(["resume", "--reason", "monday", "--json"]) == 0
    assert "2 latches cleared" in json.loads(capsys.readouterr().out.splitlines()[-1])["detail"]
    journal = open_journal(configured / "state")
    assert journal.latches() == []
    assert journal.position("BTC") == Decimal("0.01")
    journal.close()


def test_a_damaged_journal_is_replaced_by_its_copy(configured, capsys):
    folder = configured / "state"
    assert live(["restore", "--reason", "x"]) == 1
    assert "name the journal; state holds none" in capsys.readouterr().err
    open_journal(folder).close()
    open_journal(folder).close()  # the second start takes the copy
    assert live(["restore", "--reason", "x"]) == 1
    assert "one.db is intact; nothing was done" in capsys.readouterr().err
    path = folder / "one.db"
    damaged = path.read_bytes()[:-4096]
    path.write_bytes(damaged)
    assert live(["check"]) == 1
    assert "is damaged" in capsys.readouterr().out
    assert live(["restore", "--reason", "disk was full", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert Path(answer["damaged"]).read_bytes() == damaged
    assert live(["check"]) == 0
    journal = open_journal(folder)
    (event,) = journal.history(kind="restored")
    assert event.body["reason"] == "disk was full"
    journal.close()
    with daemon(folder):
        assert live(["restore", str(path), "--reason", "x"]) == 2
    assert "locked by another process" in capsys.readouterr().err


def test_status_without_a_page_reads_the_journal(configured, capsys):
    assert live(["status"]) == 1
    assert "no daemon runs here and there is no journal" in capsys.readouterr().err
    journal = open_journal(configured / "state")
    journal.latch("HALTED", "drawdown", "5 %")
    journal.record_equity(1_000, Decimal("10000.5"), Decimal(9000))
    assert live(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["via"], found["running"]) == ("journal", True)
    assert found["accounts"][0]["latches"][0]["reason"] == "drawdown"
    assert found["accounts"][0]["equity"]["baseline"] == "10000.5"
    journal.close()
    assert live(["status"]) == 0
    out = capsys.readouterr().out
    assert "drawdown" in out
    assert "10000.5" in out


def test_status_of_one_symbol_of_a_journal(configured, capsys):
    journal = open_journal(configured / "state")
    for symbol in ("BTC/USDT:USDT", "ETH/USDT:USDT"):
        journal.adjust(symbol, "position", Decimal(0), Decimal(1), {}, acknowledged_by="me")
    journal.close()
    assert live(["status", "--json", "--symbol", "ethusdt"]) == 0
    (account,) = json.loads(capsys.readouterr().out)["accounts"]
    assert [row["symbol"] for row in account["symbols"]] == ["ETH/USDT:USDT"]
    assert live(["status", "--symbol", "XRPUSDT"]) == 1
    assert "knows no 'XRPUSDT'; expected one of BTC/USDT:USDT, ETH" in capsys.readouterr().err
    assert live(["acknowledge", "--symbol", "ETHUSDT", "--reason", "x"]) == 0


# Commands to a daemon ---------------------------------------------------------------------------


@contextlib.contextmanager
def daemon(folder: Path, result=None):
    """Holds the journal and answers what comes by mail; gives what came."""
    journal, requests, done = open_journal(folder), [], threading.Event()

    def work() -> None:
        while not done.wait(0.01):
            for request in mailbox.take(folder, time.time_ns() // 1_000_000):
                requests.append(request)
                if result is not None:
                    mailbox.answer(folder, request, result)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield requests
    finally:
        done.set()
        thread.join()
        journal.close()


def test_a_daemon_without_a_page_gets_commands_by_mail(configured, capsys):
    mailbox.write_halt(configured / "state", "earlier")
    with daemon(configured / "state", {"detail": "done"}) as requests:
        for name in mailbox.COMMANDS:
            assert live([name, "--reason", "because"]) == 0
            assert f"{name}: accepted (state folder): done" in capsys.readouterr().out
        assert live(["acknowledge", "--reason", "r", "--symbol", "BTC"]) == 0
        assert live(["resume", "--reason", "r", "--reset-baseline"]) == 0
    names = [request.name for request in requests]
    assert names == [*mailbox.COMMANDS, "acknowledge", "resume"]
    assert requests[-2].options == {"symbol": "BTC"}
    assert requests[0].reason == "because"
    assert str(os.getuid()) in requests[0].by
    assert mailbox.read_halt(configured / "state") is None  # it would latch again at once
    assert requests[-1].options == {"reset_baseline": True}
    assert list((configured / "state" / mailbox.FOLDER).iterdir()) == []


def test_a_refusal_and_a_silence_are_told_apart(configured, capsys):
    with daemon(configured / "state", {"error": "cause persists"}):
        assert live(["resume", "--reason", "x"]) == 1
        assert "refused: cause persists" in capsys.readouterr().err
    with daemon(configured / "state"):
        assert live(["flatten", "--reason", "x"]) == 0
        assert "taken, not confirmed" in capsys.readouterr().out


def test_a_daemon_that_hangs_is_halted_by_file(configured, capsys):
    journal = open_journal(configured / "state")
    assert live(["flatten", "--reason", "x"]) == 1
    assert "takes no commands" in capsys.readouterr().err
    assert live(["halt", "--reason", "hangs"]) == 0
    assert mailbox.read_halt(configured / "state") == "hangs"
    # What was not taken is withdrawn: a daemon that wakes up later does not flatten.
    assert mailbox.take(configured / "state", time.time_ns() // 1_000_000) == []
    journal.close()


def test_mail_is_taken_once_and_only_while_it_is_fresh(configured):
    folder = private_folder(configured / "state")
    mailbox.post(folder, "halt", "one", by="me", now_ms=1_000)
    assert [r.reason for r in mailbox.take(folder, 1_000)] == ["one"]
    assert mailbox.take(folder, 1_000) == []
    mailbox.post(folder, "flatten", "old", by="me", now_ms=1_000)
    assert mailbox.take(folder, 1_000 + 31_000) == []
    box = folder / mailbox.FOLDER
    for number, body in enumerate((b"{", b"[]", b'{"name": "rm"}', b'{"name": "halt"}', b"\xff")):
        (box / f"{number:015d}-x.json").write_bytes(body)
    assert mailbox.take(folder, 1_000) == []
    assert list(box.iterdir()) == []
    with pytest.raises(ValueError, match="command: must be one of"):
        mailbox.post(folder, "buy", "x", by="me", now_ms=1)


class Source:
    def __init__(self):
        self.commands = []

    def status(self, symbol=None):
        if symbol == "ETH":
            raise ValueError("symbol: 'ETH' is not traded")
        return {"mode": "paper", "state": "ACTIVE", "symbols": [{"symbol": "BTC", "orders": []}]}

    def ready(self):
        return True, []

    def tick_age(self):
        return 0.0

    async def command(self, name, reason):
        self.commands.append((name, reason))
        if name == "stop":
            raise ValueError("not now")
        return {}


def test_a_page_is_preferred_where_there_is_one(configured, capsys):
    folder = private_folder(configured / "state")
    tokens, source = Tokens.of(folder), Source()

    async def main():
        server = OperationsServer(source, ServerConfig(enabled=True, port=0), tokens)
        async with server.running() as url:
            there = ["--set", "server.enabled=true", "--set", f"server.port={url.split(':')[-1]}"]
            for words in (
                ["status", "--json", *there],
                ["status", "--symbol", "BTC", *there],
                ["status", "--symbol", "ETH", *there],
                ["halt", "--reason", "x", *there],
                ["stop", "--reason", "x", *there],
            ):
                yield_code = await asyncio.to_thread(live, words)
                codes.append(yield_code)

    codes: list[int] = []
    asyncio.run(main())
    out, err = capsys.readouterr()
    assert codes == [0, 0, 1, 0, 1]
    assert "'ETH' is not traded" in err
    assert json.loads(out.splitlines()[0])["via"] == "page"
    assert "halt: accepted (page)" in out
    assert "stop: the daemon's page refuses: not now" in err
    assert source.commands == [("halt", "x"), ("stop", "x")]
    assert tokens.control.reveal() not in out + err


def test_a_page_that_is_gone_leaves_the_other_ways(configured, capsys):
    Tokens.of(private_folder(configured / "state"))
    gone = ["--set", "server.enabled=true", "--set", "server.port=1"]
    assert live(["halt", "--reason", "x", *gone]) == 0
    assert "HALT" in capsys.readouterr().out


def test_a_place_knows_whether_a_daemon_runs(configured):
    place = Place.of("live.toml", {}, {})
    assert not place.running
    journal = open_journal(configured / "state")
    assert place.running
    journal.close()
    assert not place.running
    assert [path.name for path in place.journals] == ["one.db"]


def test_the_exit_codes_are_those_of_the_contract():
    codes = (options.SUCCESS, options.ERROR, options.REFUSED, options.INTERNAL)
    assert codes == (0, 1, 2, 70)
