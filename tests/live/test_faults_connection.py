"""Connections that break, fall silent or swallow an answer, and that nothing is done twice or lost.

The exchange's own ledger is asked after every fault: orders by client id, the position, its stop.
Long partitions last as long as the exchange's clock says, which a waiting daemon moves itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from live import config as configs
from live import runner
from live.exchange.book import OrderKind
from live.exchange.desk import Event
from live.exchange.server import ExchangeServer
from live.journal import Journal, JournalLockedError
from live.orders import IntentState
from live.policy import CallablePolicy
from live.risk import TradingState
from live.secrets import Secret
from live.trading.assembly import daemon_of, set_up
from live.trading.daemon import Daemon
from live.types import Bracket, Role
from tests.live.bybit_server import STREAM, ask_once, be_patient, hurry
from tests.live.harness import (
    BTC,
    FLAT,
    HISTORY,
    LONG,
    SETTINGS,
    SHORT,
    Rig,
    ServerClock,
    exchange,
    minutes,
    trading,
    venue_of,
)

BRACKETS = {
    "env.name": "BybitFuturesSLTPTradingEnv",
    "env.stoploss_levels": "[-0.04]",
    "env.takeprofit_levels": "[0.08]",
    "env.include_close_action": "true",
    "env.trade_mode": "quantity",
    "env.quantity_per_trade": "0.05",
}
HOLD, CLOSE, BRACKET_LONG, BRACKET_SHORT = 0, 1, 2, 3
READS = ("account/*", "position/list", "order/realtime", "order/history", "execution/*", "market/*")


def posts(rig: Rig, route: str = "order/create") -> int:
    return len(rig.server.requests(route))


def executions(rig: Rig) -> list[str]:
    return sorted(one.execution_id for one in rig.server.engine.executions(BTC))


def booked(rig: Rig) -> list[str]:
    return sorted(fill.trade_id for fill in rig.journal.fills(rig.trader.symbol))


def cut_off(rig: Rig, ahead: float = 0.0) -> bool:
    """Whether a partition lasts for so many seconds more."""
    now = rig.clock.monotonic() + ahead
    return any(rule.until is not None and now < rule.until for rule in rig.server.faults.rules)


def doubted(rig: Rig) -> bool:
    """Whether an order was unknown for some time."""
    rows = rig.journal.history(kind="resolve")
    return any(row.body.get("state") == IntentState.UNKNOWN for row in rows)


def once(rig: Rig, route: str, action: str, seconds: float, kind: OrderKind | None) -> None:
    """Spoil the next message of a route; a partition begins when the exchange has the order.

    Args:
      kind: of the order that begins it; None = at once.
    """
    faults, engine = rig.server.faults, rig.server.engine
    faults.monotonic = rig.server.clock.monotonic
    arguments = {}
    if action == "accept_then_delay":
        hurry(rig.daemon.venue, route)
        arguments = {"seconds": 0.4}
    if action:
        faults.add(route, action, **arguments)

    def cut() -> None:
        if seconds:
            faults.add("*", "partition", seconds=seconds)
            ask_once(rig.daemon.venue)

    def hear(events: Sequence[Event]) -> None:
        if any(e.topic == "order" and e.body.kind is kind for e in events):
            engine.listeners.remove(hear)
            cut()

    if kind is None:
        cut()
    else:
        engine.listeners.append(hear)


async def over(rig: Rig) -> None:
    """Let the rest of a partition pass, and everything doubtful become known."""
    for rule in list(rig.server.faults.rules):
        if rule.until is not None:
            rig.server.advance(max(round(1000 * (rule.until - rig.clock.monotonic())), 0) + 1)
    be_patient(rig.daemon.venue)
    rig.breathe()
    await rig.settle()


# Sent, and no answer ------------------------------------------------------------------------------

SENT = {
    "market": ({}, "order/create", OrderKind.MARKET, LONG),
    "stop": ({}, "position/trading-stop", OrderKind.STOP_LOSS, LONG),
    "bracket": (BRACKETS, "order/create", OrderKind.MARKET, BRACKET_LONG),
}
LENGTHS = [20, *(pytest.param(s, marks=pytest.mark.slow) for s in (0, 5, 60, 120))]


@pytest.mark.parametrize("seconds", LENGTHS)
@pytest.mark.parametrize("fault", ["accept_then_drop", "accept_then_delay"])
@pytest.mark.parametrize("what", SENT)
def test_what_arrived_without_an_answer_is_there_once(
    what: str, fault: str, seconds: float
) -> None:
    settings, route, kind, action = SENT[what]

    async def test(rig: Rig) -> None:
        once(rig, route, fault, seconds, kind)
        await rig.bar(action)
        assert doubted(rig)
        await over(rig)
        assert rig.held > 0
        assert not rig.trader.frozen
        assert posts(rig) == 1
        if what == "stop":
            assert posts(rig, "position/trading-stop") == 1
        if what == "bracket":  # the legs that the entry asked for, both of them
            (entry,) = (order for order in rig.server.engine.orders(BTC) if order.client_id)
            await rig.reconcile()
            legs = rig.server.engine.bracket(BTC)
            assert (legs.stop_price, legs.target_price) == (entry.stop_price, entry.target_price)
        assert booked(rig) == executions(rig)
        rig.check()
        # What comes next is decided on what is there.
        await rig.bar(FLAT if what != "bracket" else CLOSE)
        assert rig.held == 0
        rig.check()

    trading(test, settings=settings)


@pytest.mark.parametrize("seconds", LENGTHS)
@pytest.mark.parametrize("what", ["market", "bracket"])
def test_what_never_arrived_is_not_sent_again(what: str, seconds: float) -> None:
    settings, route, _, action = SENT[what]

    async def test(rig: Rig) -> None:
        await rig.bar(action, lambda: once(rig, route, "drop_before_accept", seconds, None))
        assert doubted(rig)
        await over(rig)
        assert rig.held == 0
        assert posts(rig) == 1
        states = [row.state for row in intents(rig)]
        assert states == [IntentState.NOT_ARRIVED]
        rig.check()
        await rig.bar(action)  # the next bar decides again
        assert rig.held > 0
        assert posts(rig) == 2
        rig.check()

    trading(test, settings=settings)


def intents(rig: Rig) -> list[Any]:
    """Every intent so far, oldest first."""
    rows = [
        row
        for one in rig.journal.decisions(rig.trader.symbol)
        for row in rig.journal.intents(rig.trader.symbol, one.bar_open_ms)
    ]
    return sorted(rows, key=lambda row: row.intent_id)


# A partition at each state of an order ------------------------------------------------------------


def _accepted(rig: Rig) -> None:
    rig.server.engine.hold_fills(2_000)


def _partial(rig: Rig) -> None:
    rig.server.engine.plan_fills("0.4")


# State of the order -> (what is prepared, route and fault, the order that begins the partition).
STATES: dict[str, tuple[Callable[[Rig], None], str, str, OrderKind | None]] = {
    "before-send": (lambda rig: None, "order/create", "", None),
    "sent": (lambda rig: None, "order/create", "accept_then_drop", OrderKind.MARKET),
    "accepted": (_accepted, "order/create", "", OrderKind.MARKET),
    "partial": (_partial, "order/create", "", OrderKind.MARKET),
    "stop-sent": (
        lambda rig: None,
        "position/trading-stop",
        "accept_then_drop",
        OrderKind.STOP_LOSS,
    ),
    "stop-placed": (lambda rig: None, "position/trading-stop", "", OrderKind.STOP_LOSS),
}


@pytest.mark.parametrize(
    "seconds", [10, *(pytest.param(s, marks=pytest.mark.slow) for s in (90, 300, 600))]
)
@pytest.mark.parametrize("state", STATES)
def test_a_partition_leaves_open_what_is_open(state: str, seconds: float) -> None:
    prepare, route, fault, kind = STATES[state]
    told: list[tuple[str, str]] = []

    async def test(rig: Rig) -> None:
        rig.desk._tell = lambda word, text: told.append((word, text))
        prepare(rig)
        await rig.bar(LONG, lambda: once(rig, route, fault, seconds, kind))
        sent, held = posts(rig), rig.held
        while cut_off(rig, 70):
            assert rig.trader.frozen == (state != "stop-placed")
            await rig.bar(SHORT)
            assert cut_off(rig)
            assert (posts(rig), rig.held) == (sent, held)
            assert rig.desk.state is TradingState.DEGRADED
        if state != "stop-placed" and seconds > 200:
            await until(lambda: any("unknown" in text for _, text in told))
        alarms = [text for word, text in told if word == "alarm" and "unknown" in text]
        assert len(alarms) == (state != "stop-placed" and seconds > 200)
        # Nothing is traded before everything was read.
        before = posts(rig)
        await over(rig)
        assert posts(rig) == before
        await rig.reconcile()
        assert not rig.trader.frozen
        assert booked(rig) == executions(rig)
        rig.check()
        await rig.bar(SHORT)
        await rig.reconcile()
        assert rig.held < 0
        assert rig.desk.state is TradingState.ACTIVE
        rig.check()

    trading(test, settings={"env.observation_failure_policy": "hold"})


def fire(rig: Rig) -> None:
    """A leg of the position trades now: both are put beside the mark, and time passes."""
    mark, tick = rig.server.engine.mark(BTC), Decimal("0.1")
    near = Bracket((mark - tick).quantize(tick), (mark + tick).quantize(tick))
    rig.server.engine.set_protection(BTC, 0, change=near)
    rig.server.advance(5_000)
    assert rig.held == 0


def test_the_venues_stop_protects_while_nobody_can_be_reached() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(BRACKET_LONG)
        rig.check()
        once(rig, "*", "", 600, None)
        await rig.bar(BRACKET_SHORT)
        fire(rig)
        before = posts(rig)
        for _ in range(8):
            await rig.bar(BRACKET_LONG)
        assert cut_off(rig)
        assert (rig.held, posts(rig)) == (0, before)
        await over(rig)
        assert rig.journal.position(rig.trader.symbol) == 0
        assert booked(rig) == executions(rig)
        await rig.bar(BRACKET_LONG)
        assert rig.held > 0
        rig.check()

    trading(test, settings={**BRACKETS, "env.observation_failure_policy": "hold"})


# Reads that fail ----------------------------------------------------------------------------------


def test_reads_that_fail_for_a_minute_change_nothing_and_end_by_themselves() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        state, held, sent = rig.trader.state, rig.held, posts(rig)
        journalled = [(row.client_id, row.state) for row in intents(rig)]
        ask_once(rig.daemon.venue)
        for route in READS:
            rig.server.faults.add(route, "status", count=None, code=503)
        for _ in range(6):  # a look every ten seconds
            rig.server.advance(9_000)
            assert await rig.reconcile() is None
            assert rig.desk.state is TradingState.DEGRADED
        await rig.bar(SHORT)
        assert rig.desk.state is TradingState.DEGRADED
        assert (rig.held, posts(rig)) == (held, sent)
        assert [(row.client_id, row.state) for row in intents(rig)] == journalled
        assert rig.trader.state.target_quantity == state.target_quantity
        rig.server.faults.clear()
        be_patient(rig.daemon.venue)
        rig.breathe()
        for _ in range(2):
            await rig.reconcile()
        assert rig.desk.state is TradingState.ACTIVE
        await rig.bar(SHORT)
        assert rig.held < 0
        rig.check()

    trading(test)


def test_an_exit_needs_the_position_and_nothing_else() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        ask_once(rig.daemon.venue)
        rules = [rig.server.faults.add(r, "status", count=None, code=503) for r in READS]
        answer = await rig.daemon.command("flatten", "people want out")
        assert answer["flat"] is False
        assert rig.held > 0
        # As soon as that one route answers.
        rig.server.faults.rules = [r for r in rules if not r.matches("position/list")]
        answer = await rig.daemon.command("flatten", "people still want out")
        assert rig.held == 0
        assert answer["flat"] is True
        rig.server.faults.clear()
        be_patient(rig.daemon.venue)
        rig.breathe()
        await rig.settle()
        assert booked(rig) == executions(rig)
        rig.check()

    trading(test)


# The same twice -----------------------------------------------------------------------------------


def on_disk(folder: Path) -> Callable[[str, Callable[[], int]], Journal]:
    """Opens the journal of a folder."""

    def opened(account_id: str, now_ms: Callable[[], int]) -> Journal:
        path = folder / f"demo-{account_id}.db"
        return Journal.open(path, account_id=account_id, strategy_id="t", now_ms=now_ms)

    return opened


def test_one_account_has_one_daemon(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        sent = len(rig.server.requests("order/*"))
        path = tmp_path / f"demo-{rig.server.account_id}.db"
        # In this process, with the configuration of a second daemon.
        given = {
            **SETTINGS,
            "runner.strategy_id": "t",
            "runner.state_dir": str(tmp_path),
            "venue.base_url": rig.server.url,
        }
        keys = {
            "api_key": Secret("BYBIT_API_KEY", rig.server.api_key),
            "api_secret": Secret("BYBIT_API_SECRET", rig.server.api_secret),
        }
        with pytest.raises(JournalLockedError):
            await runner.run(configs.load(None, given, {}), secrets=keys)
        # And in another one.
        program = (
            "import pathlib, sys\n"
            "from live.journal import Journal, JournalLockedError\n"
            "try:\n"
            "    Journal.open(pathlib.Path(sys.argv[1]), account_id=sys.argv[2],"
            " strategy_id='t', now_ms=lambda: 0)\n"
            "except JournalLockedError:\n"
            "    sys.exit(7)\n"
        )
        command = [sys.executable, "-c", program, str(path), rig.server.account_id]
        ended = await asyncio.to_thread(subprocess.run, command, check=False)
        assert ended.returncode == 7
        assert len(rig.server.requests("order/*")) == sent
        rig.journal.close()

    tmp_path.chmod(0o700)
    trading(test, journal=on_disk(tmp_path))


def test_a_bar_that_is_offered_twice_is_decided_once() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, sent = rig.held, posts(rig)
        bar = rig.journal.last_bar(rig.trader.symbol)
        assert bar is not None
        rig.loop.policy = CallablePolicy(lambda observation, info: SHORT)
        await rig.loop.bar(bar)
        assert (rig.held, posts(rig)) == (held, sent)
        assert len(rig.journal.history(kind="repeated_bar")) == 1
        rig.check()
        await rig.bar(SHORT)
        assert rig.held < 0
        rig.check()

    trading(test)


@pytest.mark.parametrize("when", ["decided", "undecided"])
def test_a_restart_in_the_middle_of_a_bar_waits_for_the_next(when: str, tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        first = rig.journal.last_bar(rig.trader.symbol)
        if when == "decided":
            await rig.bar(LONG)
            first = rig.journal.last_bar(rig.trader.symbol)
            assert first is not None
        held, sent = rig.held, posts(rig)
        rig.server.advance(20_000)
        rig.journal.close()
        begun_ms = rig.clock.now_ms()
        settings = {**SETTINGS, "venue.base_url": rig.server.url, "runner.max_steps": "1"}
        config = configs.load(None, settings, {})
        journal = on_disk(tmp_path)(rig.server.account_id, rig.clock.now_ms)
        listed = {
            name: await set_up(rig.daemon.venue, config.env_of(name)) for name in config.symbols
        }
        again = daemon_of(config, rig.daemon.venue, listed, journal, rig.clock)
        seen: list[int] = []

        def policy(observation: Any, info: Any) -> int:
            # Until now this life has sent nothing.
            assert (rig.held, posts(rig)) == (held, sent)
            seen.append(info["bar_open_ms"])
            return SHORT

        second = Rig(rig.server, again, rig.clock)
        second.loop.policy = CallablePolicy(policy)
        assert await again.run() == 0
        assert seen[0] == begun_ms // 60_000 * 60_000
        assert [seen[0]] == seen
        bars = [row.bar_open_ms for row in journal.decisions(rig.trader.symbol)]
        assert sorted(bars) == sorted(one for one in (first, seen[0]) if one is not None)
        assert rig.held < 0
        await second.reconcile()
        second.check()
        journal.close()

    trading(test, journal=on_disk(tmp_path))


# Streams ------------------------------------------------------------------------------------------


class RealClock(ServerClock):
    """The exchange's time, which runs by itself; until a daemon waits for a bar, it is moved."""

    started = False

    async def sleep_until(self, time_ms: int) -> None:
        self.started = True
        await self._server.clock.sleep_until(time_ms)

    async def sleep(self, seconds: float) -> None:
        if self.started:
            await self._server.clock.sleep_until(self.now_ms() + round(1000 * seconds))
        else:
            await super().sleep(seconds)


class Alive(Rig):
    """A daemon that runs: it listens, looks and decides by itself."""

    action = FLAT

    async def decided(self, action: int) -> None:
        """Jump to the next bar and wait until it was decided and carried out."""
        self.action = action
        steps, now = self.loop.progress.steps, self.clock.now_ms()
        self.server.advance(self.trader.bar_ms - now % self.trader.bar_ms)
        await until(lambda: self.loop.progress.steps > steps)

    async def calm(self) -> None:
        """Wait until everything is explained and everybody listens."""
        await until(
            lambda: (
                bool(self.server.stream_topics())
                and self.desk.state is TradingState.ACTIVE
                and booked(self) == executions(self)
            )
        )


async def until(check: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait in real time for something to become true."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not become true"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def alive(
    times: Any = STREAM, settings: dict[str, str] | None = None
) -> AsyncIterator[Alive]:
    """A running daemon at an exchange whose time runs; a bar begins where a test jumps to it."""
    server: ExchangeServer = exchange(minutes(HISTORY + 60), HISTORY, speed=1.0)
    clock = RealClock(server)
    given = {
        **SETTINGS,
        "runner.bar_delay_seconds": "0",
        "reconcile.orders_seconds": "0.2",
        **(settings or {}),
    }
    async with server.running() as url:
        venue = venue_of(server)
        venue._stream_times = times
        await venue.connect()
        config = configs.load(None, {**given, "venue.base_url": url}, {})
        listed = {name: await set_up(venue, config.env_of(name)) for name in config.symbols}
        journal = Journal.open(
            None, account_id=server.account_id, strategy_id="t", now_ms=clock.now_ms
        )
        daemon: Daemon = daemon_of(config, venue, listed, journal, clock)
        rig = Alive(server, daemon, clock)
        rig.loop.policy = CallablePolicy(lambda observation, info: rig.action)
        running = asyncio.create_task(daemon.run())
        try:
            await until(lambda: clock.started and bool(server.stream_topics()))
            yield rig
            assert not running.done()
        finally:
            daemon.stopping.set()
            await asyncio.wait_for(running, 20)
            await venue.close()
            journal.close()


@pytest.mark.parametrize("close", [True, False], ids=["closed", "cut"])
def test_a_fill_without_a_stream_is_found_by_polling_and_booked_once(close: bool) -> None:
    async def test() -> None:
        lonely = dataclasses.replace(STREAM, pause=60.0, longest_pause=60.0)
        # The usual look never comes; the one of a lost stream does.
        async with alive(lonely, BRACKETS | {"reconcile.orders_seconds": "3600"}) as rig:
            rig.daemon.config = dataclasses.replace(rig.daemon.config, look_fast=0.2)
            await rig.decided(BRACKET_LONG)
            await rig.calm()
            rig.check()
            rig.server.drop_streams(close=close)
            await until(lambda: rig.desk.state is TradingState.DEGRADED)
            # The look that the loss itself caused must not be the one that finds the fill.
            await asyncio.sleep(0.05)
            await rig.loop.idle()
            fire(rig)
            await until(lambda: rig.journal.position(rig.trader.symbol) == 0)
            assert booked(rig) == executions(rig)
            assert rig.desk.state is TradingState.DEGRADED
            rig.check()

    asyncio.run(test())


def test_an_order_that_fills_while_the_stream_breaks_is_booked_once() -> None:
    async def test() -> None:
        async with alive() as rig:
            rig.server.faults.add("stream/private/execution", "drop_stream")
            rig.server.engine.hold_fills(300)
            await rig.decided(LONG)
            await until(lambda: rig.held > 0)
            await rig.calm()
            assert posts(rig) == 1
            rig.check()

    asyncio.run(test())


def test_without_a_stream_nothing_is_opened_until_subscribed_and_reconciled() -> None:
    async def test() -> None:
        async with alive() as rig:
            await rig.decided(LONG)
            await rig.calm()
            rig.server.faults.add("stream/private", "refuse_subscription", count=None)
            rig.server.drop_streams()
            await until(lambda: rig.desk.state is TradingState.DEGRADED)
            sent = posts(rig)
            await rig.decided(SHORT)  # the exit of the flip is allowed, its entry is not
            await until(lambda: rig.held == 0)
            assert posts(rig) == sent + 1
            await rig.decided(LONG)
            assert posts(rig) == sent + 1
            assert rig.desk.state is TradingState.DEGRADED
            # Subscribed again, but the account cannot be read.
            rig.server.faults.add("position/list", "status", count=None, code=503)
            rig.server.faults.rules = [
                rule for rule in rig.server.faults.rules if rule.action == "status"
            ]
            await until(lambda: bool(rig.server.stream_topics()))
            await until(lambda: "stream" not in rig.desk.standing_of(rig.trader.symbol).degraded)
            assert rig.desk.state is TradingState.DEGRADED
            rig.server.faults.clear()
            await rig.calm()
            await rig.decided(LONG)
            assert rig.held > 0
            await rig.calm()
            rig.check()

    asyncio.run(test())


def test_a_stream_that_falls_silent_is_left_and_nothing_is_lost() -> None:
    async def test() -> None:
        async with alive(STREAM, BRACKETS) as rig:
            await rig.decided(BRACKET_LONG)
            await rig.calm()
            stream = rig.daemon.venue._stream
            assert stream is not None
            stream.times, begun = dataclasses.replace(STREAM, silence=0.6), stream._heard_at
            await until(lambda: stream._heard_at != begun)  # from now on it is as impatient
            lost: list[str] = []
            degrade = rig.desk.degrade

            def noted(reason: str, *symbols: str) -> None:
                lost.append(reason)
                degrade(reason, *symbols)

            rig.desk.degrade = noted
            rig.server.silence_streams()
            fire(rig)
            # Found by the ordinary look, however long the silence takes to be noticed.
            await until(lambda: rig.journal.position(rig.trader.symbol) == 0)
            await until(lambda: "stream" in lost)
            stream.times = STREAM
            await rig.calm()
            await rig.decided(BRACKET_SHORT)
            await rig.calm()
            assert rig.held < 0
            rig.check()

    asyncio.run(test())


def test_a_flatten_that_finds_nobody_is_carried_out_once_somebody_answers() -> None:
    async def test() -> None:
        async with alive() as rig:
            await rig.decided(LONG)
            await rig.calm()
            ask_once(rig.daemon.venue)
            for route in READS:
                rig.server.faults.add(route, "status", count=None, code=503)
            asked = asyncio.ensure_future(rig.daemon.command("flatten", "people want out"))
            while not asked.done():
                rig.server.advance(250)
                await asyncio.sleep(0.02)
            assert (await asked)["flat"] is False
            assert rig.held > 0
            be_patient(rig.daemon.venue)
            rig.server.faults.clear()
            rig.breathe()
            await until(lambda: rig.held == 0)
            await until(lambda: booked(rig) == executions(rig))
            rig.check()

    asyncio.run(test())


# Events -------------------------------------------------------------------------------------------

EVENTS: dict[str, list[tuple[str, str, dict[str, float]]]] = {
    "as-usual": [],
    "duplicated": [("stream/private", "duplicate_events", {})],
    "shuffled": [("stream/private", "shuffle_events", {})],
    "duplicated-and-shuffled": [
        ("stream/private", "duplicate_events", {}),
        ("stream/private", "shuffle_events", {}),
    ],
    "before-the-reply": [("order/create", "fill_event_before_reply", {})],
    "long-before-the-reply": [("order/create", "reply_after", {"seconds": 0.3})],
    "after-the-reply": [("stream/private", "delay_events", {"seconds": 0.2})],
    "never": [("stream/private", "silence_stream", {})],
}


# The others add little to these.
QUICK_EVENTS = ("duplicated-and-shuffled", "before-the-reply", "after-the-reply", "never")


@pytest.mark.parametrize(
    "order",
    [pytest.param(name, marks=() if name in QUICK_EVENTS else pytest.mark.slow) for name in EVENTS],
)
def test_events_in_any_order_give_one_state(order: str) -> None:
    async def test() -> None:
        async with alive() as rig:
            for route, action, arguments in EVENTS[order]:
                rig.server.faults.add(route, action, count=None, **arguments)
            for action in (LONG, SHORT, FLAT):
                await rig.decided(action)
                await rig.calm()
                rig.check()
            seen = Counter(
                (row.role, row.state) for row in intents(rig) if row.role is not Role.STOP
            )
            assert seen == {
                (Role.ENTRY, IntentState.FILLED): 2,
                (Role.REDUCE, IntentState.FILLED): 2,
            }
            assert posts(rig) == 4
            assert not rig.journal.history(kind="fill_conflict")
            assert not rig.journal.adjustments()
            assert not rig.journal.latches()

    asyncio.run(test())


def test_an_event_before_the_reply_is_told_before_the_reply() -> None:
    async def test() -> None:
        async with alive() as rig:
            rig.server.faults.add("order/create", "fill_event_before_reply", count=None)
            await rig.decided(LONG)
            await rig.calm()
            kinds = [row.kind for row in rig.journal.history() if row.kind in ("book", "resolve")]
            assert kinds[0] == "book"
            rig.check()

    asyncio.run(test())


# Dialling again -----------------------------------------------------------------------------------


def test_the_pauses_of_dialling_grow_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    really = asyncio.sleep

    async def slept(seconds: float) -> None:
        pauses.append(seconds)
        await really(0)

    async def test() -> None:
        server = exchange(minutes(HISTORY + 60), HISTORY)
        async with server.running():
            venue = venue_of(server)
            server.faults.add("stream/private", "partition", seconds=3600)
            monkeypatch.setattr(asyncio, "sleep", slept)
            await venue.connect()
            end = time.monotonic() + 15
            while len(pauses) < 14 and time.monotonic() < end:
                await really(0.01)
            await venue.close()

    asyncio.run(test())
    longest = [min(1.5**number, 30.0) for number in range(14)]
    for pause, most in zip(pauses, longest, strict=False):
        assert most / 2 <= pause <= most
    assert len({round(p / m, 6) for p, m in zip(pauses, longest, strict=False)}) > 10
