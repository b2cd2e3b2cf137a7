"""The doctor: every row when all is well, and in every way in which it is not."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import resource
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from live import config as configs
from live import mailbox
from live.clock import ClockLimits, OffsetEstimator, SystemClock
from live.exchange.book import OrderKind, OrderRequest
from live.exchange.opening import default_instrument
from live.exchange.server import ExchangeServer
from live.journal import Journal
from live.observation import Observer
from live.observation.bars import duration_ms
from live.operations import doctor, preflight
from live.operations import doctor_host as host
from live.operations import doctor_policy as policies
from live.operations.doctor_account import environment
from live.operations.doctor_rows import Row, Verdict, answered, guarded, worst
from live.operations.doctor_venue import Visit, clock_row
from live.secrets import Secret, private_folder
from live.types import Bars, Side, UnreadableError
from live.venue import Venue
from live.venues.bybit import BybitVenue
from live.venues.bybit_wire import Timeouts
from tests.live import harness
from tests.live.harness import BTC, SYMBOL, ServerClock, exchange, minutes, venue_of

pytestmark = pytest.mark.filterwarnings("ignore:action_levels")

HISTORY = 700
OK, SKIP, WARN, FAIL = Verdict.OK, Verdict.SKIP, Verdict.WARN, Verdict.FAIL
SETTINGS = {
    "runner.mode": "demo",
    "env.time_frames": "['1min', '5min']",
    "env.execute_on": "1min",
    "env.window_sizes": "8",
    "env.leverage": "3",
    "env.equity_buffer": "0.02",
    "policy.baseline": "random",
}


@pytest.fixture(scope="module")
def frame() -> Any:
    return minutes(HISTORY + 60)


def by_name(rows: list[Row]) -> dict[tuple[str, str], Row]:
    """The last row of each check."""
    return {(row.group, row.name): row for row in rows}


def visited(
    frame: Any,
    prepare: Callable[[ExchangeServer], None] = lambda server: None,
    *,
    venue: Callable[[ExchangeServer], Venue] = venue_of,
    folder: Path = Path("/nonexistent"),
    confirm: str | None = None,
    withdrawing: bool = False,
    symbols: int = 1,
    deep: bool = False,
    **settings: Any,
) -> dict[tuple[str, str], Row]:
    """What the venue half says of an exchange that stands still; fields with ``__`` for the dot.

    Args:
      deep: data and policy are looked into.
    """

    async def nothing(visit: Visit) -> list[Row]:
        return []

    async def run() -> list[Row]:
        traded = harness.instruments(symbols)
        names = [one.venue_symbol for one in traded]
        server = exchange(dict.fromkeys(names, frame), HISTORY, instruments=traded)
        async with server.running() as url:
            given = {name.replace("__", "."): value for name, value in settings.items()}
            if symbols > 1:
                given["runner.symbols"] = names
            config = configs.load(
                None,
                {**SETTINGS, "venue.base_url": url, "runner.state_dir": str(folder), **given},
                {},
            )
            visit = Visit(
                config,
                venue(server),
                ServerClock(server),
                OffsetEstimator(),
                ClockLimits(),
                {"api_key": Secret("BYBIT_API_KEY", server.api_key)},
                confirm,
                withdrawing,
            )
            prepare(server)
            rows = await doctor.visited(visit)
            changing = ("order/c", "order/d", "position/s")
            assert not [r for r in server.requests() if r.startswith(changing)]
            return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "_LATE_SECONDS", 0.0)
        if not deep:
            patch.setattr(doctor, "_observed", nothing)
        return by_name(asyncio.run(run()))


# At the venue -----------------------------------------------------------------------------------


def test_a_healthy_account_passes_and_nothing_is_changed_there(frame):
    rows = visited(frame, deep=True)
    wrong = {name: row for name, row in rows.items() if row.verdict is not OK}
    assert {name: row.verdict for name, row in wrong.items()} == {
        ("permissions", "addresses"): WARN,
        ("account", "leverage"): WARN,  # the start sets it
    }
    assert set(rows) == {
        ("host", "clock"), ("data", "latency"), ("permissions", "trade"),
        ("permissions", "withdraw"), ("permissions", "addresses"), ("environment", "host"),
        ("environment", "account"), ("account", "multi asset"), ("account", "balance"),
        ("account", "margin mode"), ("account", "position mode"), ("account", "leverage"),
        ("account", "position"), ("account", "orders"), ("symbol", "filters"),
        ("symbol", "leverage"), ("symbol", "taker fee"), ("symbol", "smallest order"),
        ("data", "bars 1Minute"), ("data", "bars 5Minute"), ("data", "resampled 5Minute"),
        ("policy", "memory 1Minute"), ("policy", "memory 5Minute"), ("policy", "inference"),
        ("policy", "answers"), ("state", "next bar"),
    }  # fmt: skip
    assert "usable on 100 of the last bars" in rows["policy", "answers"].text
    assert "in 60 s" in rows["state", "next bar"].text
    assert "opens 0.567 BTC" in rows["symbol", "smallest order"].text


@pytest.mark.parametrize(
    ("field", "value", "name", "verdict", "text"),
    [
        ("result.permissions.ContractTrade", [], "trade", FAIL, "may not trade"),
        ("result.readOnly", 1, "trade", FAIL, "may not trade"),
        ("result.permissions.Wallet", ["Withdraw"], "withdraw", FAIL, "may withdraw"),
        ("result.ips", ["192.0.2.1"], "addresses", OK, "bound"),
    ],
    ids=["no_right", "read_only", "withdraws", "bound"],
)
def test_what_the_key_may_do(frame, field, value, name, verdict, text):
    def prepare(server):
        server.faults.add("user/query-api", "mutate_field", None, path=field, value=value)

    row = visited(frame, prepare)["permissions", name]
    assert (row.verdict, text in row.text) == (verdict, True)


def test_keys_that_may_withdraw_can_be_accepted(frame):
    def prepare(server):
        field = "result.permissions.Wallet"
        server.faults.add("user/query-api", "mutate_field", None, path=field, value=["Withdraw"])

    assert visited(frame, prepare, withdrawing=True)["permissions", "withdraw"].verdict is WARN


def test_a_key_that_a_demo_account_does_not_describe_is_not_judged(frame):
    def prepare(server):
        server.faults.add("user/query-api", "status", None, code=404)

    rows = visited(frame, prepare)
    assert rows["permissions", "key"].verdict is SKIP
    assert rows["environment", "account"].verdict is OK


def test_a_venue_that_does_not_answer_is_one_row(frame):
    rows = visited(frame, lambda server: server.revoke_key())
    assert list(rows) == [("environment", "venue")]
    assert rows["environment", "venue"].verdict is FAIL
    assert "API key" in rows["environment", "venue"].text


@pytest.mark.parametrize("keys", [(), ("key" * 4, "secret" * 4)])
def test_without_a_network_one_row_says_what_to_do(keys):
    address = "http://127.0.0.1:9"
    config = configs.load(None, {**SETTINGS, "venue.base_url": address}, {})
    clock, patient = SystemClock(OffsetEstimator()), Timeouts(read_deadline=1.0)
    venue = BybitVenue(*(keys or ("", "")), clock=clock, base_url=address, timeouts=patient)
    visit = Visit(config, venue, clock, OffsetEstimator(), ClockLimits())
    (row,) = asyncio.run(doctor.visited(visit))
    assert row.verdict is FAIL
    assert f"no connection to {address} (ConnectionError)" in row.text
    assert row.fix == "check the network, or [venue] base_url"


def test_real_money_needs_the_account_that_was_confirmed(frame):
    """Both switches, with the account that the venue names."""

    async def row_of(confirm: str) -> Row:
        server = exchange(frame, HISTORY)
        async with server.running():
            venue = venue_of(server)
            await venue.connect()
            config = configs.load(None, {**SETTINGS, "runner.mode": "live", "env.demo": False}, {})
            keys = {"api_key": Secret("BYBIT_API_KEY", server.api_key)}
            visit = Visit(
                config, venue, ServerClock(server), OffsetEstimator(), ClockLimits(), keys,
                confirm or server.account_id,
            )  # fmt: skip
            rows = await answered("environment", "account", lambda: environment(visit), 20)
            await venue.close()
            return rows[-1]

    assert asyncio.run(row_of("")).verdict is OK
    other = asyncio.run(row_of("12345"))
    assert other.verdict is FAIL
    assert "confirmed was '12345'" in other.text


def test_stops_that_only_this_process_holds_are_told(frame):
    class Stopless(BybitVenue):
        capabilities = dataclasses.replace(BybitVenue.capabilities, venue_stops=False)

    def venue(server):
        made = venue_of(server)
        made.__class__ = Stopless
        return made

    assert ("environment", "stops") not in visited(frame)
    assert visited(frame, venue=venue)["environment", "stops"].verdict is WARN


def test_settings_of_the_account(frame):
    def cross(server):
        server.faults.add(
            "account/info", "mutate_field", None, path="result.marginMode", value="REGULAR_MARGIN"
        )

    assert visited(frame)["account", "margin mode"].verdict is OK
    assert visited(frame, cross)["account", "margin mode"].verdict is FAIL
    row = visited(frame, cross, env__configure_account=True)["account", "margin mode"]
    assert row.verdict is WARN
    hedged = visited(frame, env__position_mode="hedge")["account", "position mode"]
    assert (hedged.verdict, hedged.text) == (WARN, "one_way, configured is hedge")
    assert visited(frame, env__leverage="10")["account", "leverage"].verdict is OK


def test_money_of_the_account(frame):
    broke = visited(frame, lambda server: server.engine.deposit(Decimal(-10_000)))
    assert broke["account", "balance"].verdict is FAIL
    poor = visited(frame, lambda server: server.engine.deposit(Decimal(-9_999)))
    assert poor["account", "balance"].verdict is OK
    assert poor["symbol", "smallest order"].verdict is WARN
    assert "fund the account" in poor["symbol", "smallest order"].fix

    def committed(server):
        field = "result.list.0.totalAvailableBalance"
        server.faults.add("account/wallet-balance", "mutate_field", None, path=field, value="0")

    assert visited(frame, committed)["account", "balance"].verdict is WARN


def test_the_dead_mans_timer_of_the_account(frame):
    def set_to(seconds):
        return lambda server: setattr(server.engine.deadman, "seconds", seconds)

    assert ("account", "dead man") not in visited(frame)
    off = visited(frame, risk__deadman_seconds=60)["account", "dead man"]
    assert (off.verdict, "enable it" in off.fix) == (WARN, True)
    other = visited(frame, set_to(10), risk__deadman_seconds=60)["account", "dead man"]
    assert (other.verdict, other.text) == (WARN, "10 s, configured is 60 s")
    assert visited(frame, set_to(60), risk__deadman_seconds=60)["account", "dead man"].verdict is OK


def test_what_the_journal_does_not_explain(frame, tmp_path):
    def held(server):
        server.engine.manual_trade(BTC, Decimal("0.1"))

    row = visited(frame, held)["account", "position"]
    assert row.verdict is WARN
    assert "the journal explains 0" in row.text
    assert "foreign_position is 'refuse'" in row.fix

    def ordered(server):
        server.engine.submit(
            OrderRequest(
                BTC,
                Side.BUY,
                Decimal("0.1"),
                client_id="somebody-elses",
                kind=OrderKind.TRIGGER,
                trigger_price=Decimal(90_000),
                rising=True,
            )
        )

    row = visited(frame, ordered)["account", "orders"]
    assert (row.verdict, row.text) == (WARN, "1 of 1 orders are not of this strategy")

    # What a journal of the account holds is explained.
    folder = private_folder(tmp_path / "state")
    account_id = ExchangeServer().account_id
    journal = Journal.open(
        folder / "one.db", account_id=account_id, strategy_id="default", now_ms=lambda: 1
    )
    journal.adjust(SYMBOL, "position", Decimal("0.1"), Decimal(0), {}, acknowledged_by="me")
    journal.close()
    assert visited(frame, held, folder=folder)["account", "position"].verdict is OK


def test_a_position_that_cannot_be_read_is_no_flat_one(frame):
    def broken(server):
        server.engine.manual_trade(BTC, Decimal("0.1"))
        server.faults.add(
            "position/list", "mutate_field", None, skip=2, path="result.list.0.size", value="much"
        )  # the account and the settings are read before

    row = visited(frame, broken)["account", "position"]
    assert row.verdict is FAIL


def test_a_symbol_that_does_not_trade(frame):
    rows = visited(frame, env__symbol="NOSUCHUSDT")
    assert rows["symbol", "filters"].verdict is FAIL
    assert "not listed" in rows["symbol", "filters"].text
    assert rows["account", "settings"].verdict is SKIP
    leaving = visited(
        frame, lambda server: server.engine.delist(BTC, 2_000_000_000_000, announced=True)
    )
    assert leaving["symbol", "delisting"].verdict is WARN
    closed = visited(frame, lambda server: server.engine.delist(BTC, 2_000_000_000_000))
    assert closed["symbol", "filters"].verdict is FAIL


def test_terms_of_a_symbol(frame):
    def lower(server):
        server.engine.change_filters(BTC, max_leverage=Decimal(2))

    row = visited(frame, lower)["symbol", "leverage"]
    assert (row.verdict, row.text) == (FAIL, "at most 2, configured is 3")
    cheap = visited(frame, env__transaction_fee=0.0001)["symbol", "taker fee"]
    assert (cheap.verdict, "will not be paid for" in cheap.fix) == (FAIL, True)
    dear = visited(frame, env__transaction_fee=0.01)["symbol", "taker fee"]
    assert dear.verdict is WARN


def test_bars_that_are_late_missing_or_too_few(frame):
    late = visited(
        frame, lambda server: server.faults.add("market/kline", "late_bar", None), deep=True
    )
    assert late["data", "bars 1Minute"].verdict is FAIL
    assert "late" in late["data", "bars 1Minute"].fix
    young = visited(frame, deep=True, env__time_frames="['1min', '1hour']")
    assert young["data", "bars 1Hour"].verdict is FAIL
    assert "wait for more bars" in young["data", "bars 1Hour"].fix
    assert young["policy", "memory 1Hour"].verdict is SKIP
    assert young["policy", "inference"].verdict is SKIP
    coarse = visited(frame, deep=True, env__time_frames="['1min', '12hour']")
    assert (coarse["data", "bars"].verdict, "no closed bar" in coarse["data", "bars"].text) == (
        FAIL,
        True,
    )


def test_a_slow_venue_is_told(frame, monkeypatch):
    monkeypatch.setattr("live.operations.doctor_venue._SLOW_SECONDS", 0.0)
    assert visited(frame)["data", "latency"].verdict is WARN


def test_a_silent_venue_takes_no_check_beyond_its_deadline(frame, monkeypatch):
    monkeypatch.setattr(doctor, "_CHECK_SECONDS", 1.0)
    rows = visited(
        frame,
        lambda server: server.faults.add("market/tickers", "reply_after", None, seconds=30),
        deep=True,
    )
    assert rows["symbol", "smallest order"].verdict is FAIL
    assert "no answer within 1 s" in rows["symbol", "smallest order"].text
    assert rows["policy", "answers"].verdict is OK


# The policy -------------------------------------------------------------------------------------


def policy_module(monkeypatch, answer: Callable[[Any, Any], Any]) -> str:
    """A factory of a policy, where a configuration can name it."""
    module = ModuleType("a_policy_of_a_test")
    module.make = lambda target: answer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return f"{module.__name__}:make"


def raising(observation, info):
    raise KeyError("weights")


@pytest.mark.parametrize(
    ("answer", "name", "text"),
    [
        (lambda observation, info: float("nan"), "answers", "answers nan"),
        (lambda observation, info: 7, "answers", "answers 7"),
        (lambda observation, info: time.sleep(0.3) or 1, "inference", "of 0.05 s"),
        (raising, "inference", "raises KeyError: 'weights'"),
    ],
    ids=["nan", "out_of_range", "slow", "raises"],
)
def test_a_policy_that_cannot_decide(frame, monkeypatch, answer, name, text):
    made = {"policy__baseline": "none", "policy__factory": policy_module(monkeypatch, answer)}
    rows = visited(frame, deep=True, **made, runner__policy_timeout_seconds=0.05)
    assert rows["policy", name].verdict is FAIL
    assert text in rows["policy", name].text


def test_a_function_of_the_users_is_asked_once(frame, monkeypatch):
    asked = []

    def answer(observation, info):
        asked.append(info["bar_open_ms"])
        return 1

    made = {"policy__baseline": "none", "policy__factory": policy_module(monkeypatch, answer)}
    rows = visited(frame, deep=True, **made)
    assert rows["policy", "answers"].verdict is OK
    assert len(asked) == 1


def test_a_policy_that_does_not_fit_is_one_row(frame, monkeypatch):
    rows = visited(frame, deep=True, policy__baseline="moving_average_cross")
    assert rows["policy", "loaded"].verdict is FAIL
    assert "needs 20 closes" in rows["policy", "loaded"].text


def bars_of(frame: str, count: int, volume: float = 5.0) -> Bars:
    one = configs.LiveConfig().env.execution_frame.parse(frame)
    times = np.arange(count, dtype=np.int64) * duration_ms(one)
    rows = np.full((count, 5), 100.0)
    rows[:, 4] = volume
    return Bars(one.name, times, rows)


def test_features_that_remember_more_than_they_say():
    def features(table):
        # On the made-up bars of the observer's own check nothing is ever that large.
        large = (table["volume"] > 50).cumsum()
        return table.assign(feature_count=large)[["feature_count"]]

    observer = Observer.create(
        time_frames="1min", window_sizes=4, execute_on="1min", features=features, lookback=5
    )
    (good,) = policies.memory({"1Minute": bars_of("1min", 100)}, observer)
    assert good.verdict is OK
    (bad,) = policies.memory({"1Minute": bars_of("1min", 100, volume=60.0)}, observer)
    assert (bad.verdict, "feature_lookback" in bad.text) == (FAIL, True)
    (short,) = policies.memory({"1Minute": bars_of("1min", 8)}, observer)
    assert short.verdict is SKIP


def test_a_hole_between_two_bars():
    observer = Observer.create(time_frames="1min", window_sizes=4, execute_on="1min")
    whole = bars_of("1min", 100)
    now = 100 * 60_000
    (row,) = policies.frames({"1Minute": whole}, observer, now)
    assert (row.verdict, "100 in a row" in row.text) == (OK, True)
    keep = np.arange(100) != 90
    gapped = Bars("1Minute", whole.open_time_ms[keep], whole.ohlcv[keep])
    (row,) = policies.frames({"1Minute": gapped}, observer, now)
    assert (row.verdict, "01:30" in row.text) == (FAIL, True), row.text


def test_bars_that_their_parts_do_not_add_up_to():
    observer = Observer.create(time_frames=["1min", "5min"], window_sizes=4, execute_on="1min")
    fine, coarse = bars_of("1min", 50), bars_of("5min", 10)
    coarse.ohlcv[:, 4] = 25.0
    (same,) = policies.resampled({"1Minute": fine, "5Minute": coarse}, observer)
    assert (same.verdict, "10 bars" in same.text) == (OK, True)
    coarse.ohlcv[3, 2] = 99.0
    (wrong,) = policies.resampled({"1Minute": fine, "5Minute": coarse}, observer)
    assert wrong.verdict is WARN
    assert "1 of 10 differ from 1Minute, first low of 1970-01-01 00:15" in wrong.text
    (none,) = policies.resampled({"1Minute": bars_of("1min", 3), "5Minute": coarse}, observer)
    assert none.verdict is SKIP
    coarse.ohlcv[3, 2] = np.nan
    (unreadable,) = policies.resampled({"1Minute": fine, "5Minute": coarse}, observer)
    assert unreadable.verdict is WARN


# Several symbols --------------------------------------------------------------------------------


def test_several_symbols_are_told_once_where_they_are_alike(frame):
    def prepare(server):
        server.engine.change_filters("S002USDT", max_leverage=Decimal(2))

    rows = visited(frame, prepare, symbols=5, deep=True)
    filters = rows["symbol", "filters"]
    assert (filters.verdict, filters.text.startswith("5 symbols, such as: BTC")) == (OK, True)
    assert rows["symbol", "leverage"].text.startswith("4 symbols")
    # Data and policy of the first three are looked into.
    assert rows["data", "bars 1Minute"].text.startswith("3 symbols")


def test_what_is_wrong_is_told_by_name():
    good, bad = Row("symbol", "fee", OK, "0"), Row("symbol", "fee", FAIL, "1", "mend")
    rows = doctor.condensed({"A": [good], "B": [bad], "C": [good]})
    assert rows == [
        Row("symbol", "fee", FAIL, "B: 1", "mend"),
        Row("symbol", "fee", OK, "2 symbols, such as: 0"),
    ]


# The clock --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "uncertainty", "signed", "verdict"),
    [
        (10, 5, True, OK),
        (-300, 5, True, WARN),
        (3000, 5, True, FAIL),
        (3000, 5, False, WARN),
        (10, 2000, False, FAIL),
        (float("nan"), 5, True, FAIL),
    ],
    ids=["good", "off", "far_off", "far_off_unsigned", "uncertain", "nan"],
)
def test_the_clock(offset, uncertainty, signed, verdict):
    assert clock_row(offset, uncertainty, ClockLimits(), signed=signed).verdict is verdict


# The machine ------------------------------------------------------------------------------------


def only(rows: Iterator[Row]) -> Row:
    (row,) = rows
    return row


def test_packages_are_compared_with_the_tested_ones(tmp_path, monkeypatch):
    pins = tmp_path / "constraints.txt"
    names = host._PACKAGES
    pins.write_text("# comment==1\n" + "".join(f"{name}==1.0\n" for name in names))

    def rows(installed: Callable[[str], str]) -> dict[str, Row]:
        return {row.name: row for row in host.versions(pins, installed)}

    assert rows(lambda name: "1.0")["packages"].verdict is OK
    assert rows(lambda name: "1.0")["python"].verdict is OK
    other = rows(lambda name: "2.0" if name == "pybit" else "1.0")["packages"]
    assert (other.verdict, other.text) == (WARN, "pybit 2.0 (tested: 1.0)")

    def without(name: str) -> str:
        if name == "pybit":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    assert rows(without)["packages"].verdict is FAIL
    pins.unlink()
    assert rows(lambda name: "1.0")["packages"].verdict is SKIP
    monkeypatch.setattr(
        importlib.metadata, "metadata", lambda name: {"Requires-Python": ">=4.0,<5.0"}
    )
    assert rows(lambda name: "1.0")["python"].verdict is FAIL


def config_at(folder: Path, **journal: Any) -> configs.LiveConfig:
    given = {f"journal.{name}": value for name, value in journal.items()}
    return configs.load(None, {"runner.state_dir": str(folder), **given}, {})


@pytest.mark.parametrize(
    ("free_mib", "verdict"), [(50, FAIL), (500, WARN), (5000, OK)], ids=["full", "low", "enough"]
)
def test_room_for_the_journal(tmp_path, monkeypatch, free_mib, verdict):
    usage = SimpleNamespace(free=free_mib * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    disk, folder = host.disk(config_at(tmp_path / "not" / "there"))
    assert (disk.verdict, folder.verdict) == (verdict, OK)
    assert str(tmp_path) in disk.text


def test_a_folder_that_will_not_do(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\nb /other tmpfs rw 0 0\n")
    assert host._file_system(tmp_path / "state", mounts) == "nfs4"
    assert host._file_system(Path("/usr"), mounts) == "ext4"
    assert host._file_system(Path("/usr"), tmp_path / "none") is None
    monkeypatch.setattr(host, "_file_system", lambda folder: "nfs4")
    assert list(host.disk(config_at(tmp_path)))[1].verdict is FAIL
    monkeypatch.setattr(host.os, "access", lambda path, mode: False)
    assert "cannot be written" in list(host.disk(config_at(tmp_path)))[1].text


@pytest.mark.parametrize(
    ("milliseconds", "verdict"), [(1, OK), (80, WARN), (300, FAIL)], ids=["quick", "slow", "dead"]
)
def test_how_long_a_durable_write_takes(tmp_path, milliseconds, verdict):
    now = [0.0]

    def sync(handle: int) -> None:
        now[0] += milliseconds / 1000

    row = only(host.syncs(config_at(tmp_path), sync, lambda: now[0]))
    assert row.verdict is verdict
    assert f"{milliseconds:.1f} ms" in row.text
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_percentiles():
    assert host.percentile([float(n) for n in range(100)], 0.99) == 99.0
    assert host.percentile([3.0, 1.0, 2.0], 0.5) == 2.0


@pytest.mark.parametrize(
    ("files", "verdict"),
    [(4096, OK), (resource.RLIM_INFINITY, OK), (512, WARN), (64, FAIL)],
    ids=["many", "unlimited", "few", "too_few"],
)
def test_open_files(files, verdict):
    row, _ = host.limits({}, lambda: (files, files))
    assert row.verdict is verdict


def test_proxies():
    _, row = host.limits({"HTTPS_PROXY": "http://proxy:1", "http_proxy": ""})
    assert (row.verdict, row.fix) == (WARN, "unset HTTPS_PROXY")
    _, row = host.limits({"NO_PROXY": "x"})
    assert row.verdict is OK


# Configuration, keys, state ---------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Without the rows that load the policy or look at the machine."""
    monkeypatch.setattr(preflight, "_fit", lambda config: "fits")
    monkeypatch.setattr(preflight.host, "syncs", lambda config: iter(()))


def local(folder: Path, environ: dict[str, str] | None = None, **given: Any) -> dict[Any, Row]:
    overrides = {name.replace("__", "."): value for name, value in given.items()}
    credentials = overrides.pop("credentials", None)
    path = overrides.pop("path", None)
    overrides = {"runner.state_dir": str(folder), "policy.baseline": "random", **overrides}
    return by_name(preflight.checks(path, overrides, None, credentials, environ or {}))


def test_a_fresh_paper_configuration_passes(quick, tmp_path):
    rows = local(tmp_path / "state", env__equity_buffer=0.02)
    assert {r.verdict for r in rows.values()} <= {OK, SKIP, WARN}
    assert rows["secrets", "keys"].verdict is SKIP
    assert rows["state", "journal"].text.endswith("no journal yet")


def test_remarks_on_a_configuration(quick, tmp_path, monkeypatch):
    rows = local(tmp_path, risk__disabled="['collar']", env__leverage=2)
    assert rows["config", "buffer"].verdict is WARN
    assert "0.02 is usual" in rows["config", "buffer"].fix
    assert "collar" in rows["config", "disabled"].text
    brackets = {"env__name": "BybitFuturesSLTPTradingEnv", "env__leverage": 20}
    rows = local(tmp_path, **brackets, env__stoploss_levels="[-0.1]")
    assert "the venue liquidates first" in rows["config", "remark"].text
    assert ("config", "buffer") not in rows
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(b"")
    trained = SimpleNamespace(config={"margin_call_threshold": 0.5})
    monkeypatch.setattr("jaxtrade.bundle.Bundle.load", lambda path: trained)
    rows = local(tmp_path, policy__baseline="none", policy__bundle=str(bundle))
    assert rows["config", "margin call"].verdict is WARN
    assert "0.5" in rows["config", "margin call"].text


KEYS = {"BYBIT_API_KEY": "MARKERkey01234567", "BYBIT_API_SECRET": "MARKERsecret0123"}


def test_keys(quick, tmp_path):
    rows = local(tmp_path, runner__mode="demo")
    assert (rows["secrets", "keys"].verdict, "missing" in rows["secrets", "keys"].text) == (
        FAIL,
        True,
    )
    rows = local(tmp_path, KEYS, runner__mode="demo")
    assert rows["secrets", "keys"].verdict is OK
    file = tmp_path / "keys"
    file.write_text("".join(f"{name}={value}\n" for name, value in KEYS.items()))
    file.chmod(0o644)
    rows = local(tmp_path, runner__mode="demo", credentials=str(file))
    assert "has mode 0644" in rows["secrets", "keys"].text
    written = tmp_path / "live.toml"
    written.write_text(f"# {KEYS['BYBIT_API_SECRET']}\n")
    rows = local(tmp_path, KEYS, runner__mode="demo", path=written)
    assert rows["secrets", "copies"].verdict is FAIL
    assert "MARKER" not in "".join(row.text for row in rows.values())


def test_a_configuration_that_does_not_load_ends_it():
    rows = doctor.examine(None, {"env.leverage": 0, "runner.mode": "x"}, environ={})
    assert [row.verdict for row in rows] == [FAIL, FAIL]


def test_the_venue_is_not_asked_with_wrong_keys(quick, tmp_path, monkeypatch):
    def refuse(*_: Any) -> Any:
        raise AssertionError("the venue was asked")

    monkeypatch.setattr("live.runner.venue_of", refuse)
    rows = by_name(
        doctor.examine(
            None,
            {"runner.mode": "demo", "runner.state_dir": str(tmp_path), "policy.baseline": "random"},
            environ={},
        )
    )
    assert rows["environment", "venue"].verdict is SKIP


def test_to_look_a_set_up_over_sets_no_timer_at_the_venue(quick, tmp_path, monkeypatch):
    def refuse(*_: Any, looking: bool = False) -> Any:
        raise AssertionError("a venue that only looks" if looking else "one that sets")

    monkeypatch.setattr("live.runner.venue_of", refuse)
    overrides = {"runner.mode": "paper", "runner.state_dir": str(tmp_path)}
    with pytest.raises(AssertionError, match="only looks"):
        doctor.examine(None, {**overrides, "policy.baseline": "random"}, environ={})


def open_journal(folder: Path) -> Journal:
    return Journal.open(
        private_folder(folder) / "one.db", account_id="7", strategy_id="s", now_ms=lambda: 1_000
    )


def test_what_a_state_folder_holds(quick, tmp_path):
    folder = tmp_path / "state"
    journal = open_journal(folder)
    rows = local(folder)
    assert (rows["state", "lock"].verdict, "runs" in rows["state", "lock"].text) == (WARN, True)
    journal.close()
    rows = local(folder)
    assert rows["state", "lock"].verdict is OK
    assert rows["state", "journal"].text == "one.db: intact, nothing open"
    journal = open_journal(folder)
    journal.latch("HALTED", "drawdown", "5 %")
    journal.adjust("BTC", "position", Decimal(1), Decimal(0), {})
    journal.close()
    mailbox.write_halt(folder, "by hand")
    rows = local(folder)
    for name in ("latch", "adjustments", "halt"):
        assert rows["state", name].verdict is WARN, name
    folder.chmod(0o755)
    assert local(folder)["state", "folder"].verdict is FAIL


def test_a_damaged_journal_is_named_with_its_remedy(quick, tmp_path):
    folder = tmp_path / "state"
    open_journal(folder).close()
    path = folder / "one.db"
    damaged = bytearray(path.read_bytes())
    damaged[-4096:-4000] = bytes(96)  # the head of the last page
    path.write_bytes(damaged)
    rows = local(folder)
    assert rows["state", "journal"].verdict is FAIL
    assert "is damaged" in rows["state", "journal"].text


def test_a_lock_that_cannot_be_used(quick, tmp_path, monkeypatch):
    folder = tmp_path / "state"
    open_journal(folder).close()
    real = preflight.os.access
    monkeypatch.setattr(
        preflight.os, "access", lambda path, mode: "lock" not in str(path) and real(path, mode)
    )
    assert local(folder)["state", "lock"].verdict is FAIL


# Checks never crash -----------------------------------------------------------------------------


def test_a_check_that_breaks_is_a_row_and_hides_no_other():
    def broken() -> Iterator[Row]:
        yield Row("host", "one", OK, "fine")
        raise ZeroDivisionError("oops")

    def wrong() -> Iterator[Row]:
        raise ValueError("expected\nsomething")
        yield

    first, second = guarded("host", "x", broken)
    assert (first.verdict, second.verdict) == (OK, FAIL)
    assert second.text == "the check broke: ZeroDivisionError: oops"
    assert [row.text for row in guarded("host", "x", wrong)] == ["expected something"]

    async def slow() -> AsyncIterator[Row]:
        yield Row("host", "one", OK, "fine")
        await asyncio.sleep(5)

    async def unread() -> AsyncIterator[Row]:
        raise UnreadableError("no")
        yield

    rows = asyncio.run(answered("host", "x", slow, 0.01))
    assert [row.verdict for row in rows] == [OK, FAIL]
    assert asyncio.run(answered("host", "x", unread, 1))[0].text == "no"


def test_the_worst_row_is_the_verdict():
    rows = [Row("a", "b", verdict, "") for verdict in (OK, WARN, SKIP)]
    assert worst(rows) is WARN
    assert worst([*rows, dataclasses.replace(rows[0], verdict=FAIL)]) is FAIL
    assert worst([]) is OK


def test_paper_needs_no_keys_and_asks_nothing_of_an_account(tmp_path):
    server = ExchangeServer(speed=1.0, anchor="now", history=800)
    with server.threaded() as url:
        rows = by_name(
            doctor.examine(
                None,
                {
                    **SETTINGS,
                    "runner.mode": "paper",
                    "runner.state_dir": str(tmp_path / "state"),
                    "venue.base_url": url,
                },
                environ={},
            )
        )
    assert [row for row in rows.values() if row.verdict is FAIL] == []
    assert rows["permissions", "key"].verdict is SKIP
    assert rows["account", "balance"].text.startswith("10000")
    assert rows["policy", "answers"].verdict is OK
    assert not [r for r in server.requests() if r.startswith(("account", "user", "position"))]
    assert not (tmp_path / "state" / "paper-BTCUSDT.json").exists()
    groups = [doctor.GROUPS.index(group) for group, _ in rows]
    assert groups == sorted(groups)
    assert default_instrument().symbol == SYMBOL
