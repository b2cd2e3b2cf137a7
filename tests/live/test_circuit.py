"""The circuit of a route: when it opens, who may probe, and that a daemon can live with it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.clock import VirtualClock
from live.exchange.server import ExchangeServer
from live.operations.meter import PrometheusMeter
from live.operations.metrics import Metrics
from live.risk import TradingState
from live.trading.status import status_of
from live.types import Bars, Flat, UnreadableError
from live.venue import usage_of
from live.venues.bybit import BybitVenue
from live.venues.circuit import Attempt, Circuit, CircuitConfig, Circuits, Verdict
from live.venues.codes import RefusedReadError
from tests.live.bybit_server import PATIENT, SYMBOL, ask_once, be_patient, connected, unlimited
from tests.live.harness import LONG, SHORT, Rig, trading

CONFIG = CircuitConfig(failures=3, window_seconds=10.0, open_seconds=4.0)
TICKERS, KLINE, POSITION = "market/tickers", "market/kline", "position/list"
BALANCE = "account/wallet-balance"


def tripped(now: float = 0.0) -> Circuit:
    """A circuit that has just opened."""
    circuit = Circuit(CONFIG)
    for _ in range(CONFIG.failures):
        fail(circuit, now)
    return circuit


def fail(circuit: Circuit, now: float, *, always: bool = False) -> None:
    attempt = circuit.begin(now, always=always)
    assert attempt is not None
    circuit.end(attempt, Verdict.BAD, now, "HTTP 503")


# The rule -----------------------------------------------------------------------------------------


def test_enough_failures_in_the_window_open_it():
    circuit = Circuit(CONFIG)
    fail(circuit, 0.0)
    fail(circuit, 1.0)
    assert not circuit.open
    fail(circuit, 9.9)
    assert circuit.open
    assert circuit.begin(9.9) is None
    assert circuit.wait(10.9) == 3.0
    assert (
        circuit.said(10.9) == "circuit open for another 3.0 s after 3 failures, the last: HTTP 503"
    )


def test_failures_that_are_too_far_apart_do_not():
    circuit = Circuit(CONFIG)
    for number in range(20):
        fail(circuit, 5.0 * number)
    assert not circuit.open


def test_answers_in_between_do_not_hide_failures():
    circuit = Circuit(CONFIG)
    for number in range(3):
        good = circuit.begin(number)
        circuit.end(good, Verdict.GOOD, number)
        fail(circuit, number)
    assert circuit.open


def test_one_probe_passes_and_its_answer_closes():
    circuit = tripped()
    probe = circuit.begin(4.0)
    assert probe is not None and probe.probe
    assert circuit.begin(4.0) is None
    assert circuit.begin(400.0) is None
    assert "until a probe is answered" in circuit.said(400.0)
    circuit.end(probe, Verdict.GOOD, 5.0)
    assert not circuit.open
    assert circuit.said(5.0) == "circuit closed"
    # What happened before is forgotten.
    fail(circuit, 5.1)
    fail(circuit, 5.2)
    assert not circuit.open


def test_a_probe_that_fails_opens_it_again():
    circuit = tripped()
    fail(circuit, 4.0)
    assert circuit.wait(4.0) == 4.0
    assert circuit.begin(7.9) is None
    assert circuit.begin(8.0) is not None


def test_a_probe_that_told_nothing_makes_room_for_the_next():
    circuit = tripped()
    probe = circuit.begin(4.0)
    circuit.end(probe, Verdict.NOTHING, 4.5)
    assert circuit.open
    assert circuit.begin(4.5) is not None


def test_what_must_not_wait_passes_and_counts():
    circuit = tripped()
    assert circuit.begin(1.0) is None
    urgent = circuit.begin(1.0, always=True)
    assert urgent is not None and not urgent.probe
    circuit.end(urgent, Verdict.GOOD, 1.1)
    assert not circuit.open
    circuit = Circuit(CONFIG)
    for _ in range(CONFIG.failures):
        fail(circuit, 0.0, always=True)
    assert circuit.open


def test_failures_while_it_is_open_do_not_keep_it_open():
    circuit = tripped()
    for now in (1.0, 2.0, 3.9):
        fail(circuit, now, always=True)
    assert circuit.begin(4.0) is not None


STEPS = st.lists(
    st.tuples(
        st.integers(0, 48).map(lambda eighths: eighths / 8),  # no sum of them is rounded
        st.sampled_from(["begin", "always", *Verdict]),
        st.integers(0, 9),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_one_probes_and_only_failures_open(steps):
    circuit, now = Circuit(CONFIG), 0.0
    under_way: list[Attempt] = []
    failures: list[float] = []
    opened = -math.inf
    for pause, step, which in steps:
        now += pause
        was_open = circuit.open
        if not isinstance(step, Verdict):
            attempt = circuit.begin(now, always=step == "always")
            if step == "always" or not was_open:
                assert attempt is not None and not attempt.probe
            if attempt is not None:
                under_way.append(attempt)
                if was_open and step == "begin":
                    assert attempt.probe and now >= opened + CONFIG.open_seconds
        elif under_way:
            circuit.end(under_way.pop(which % len(under_way)), step, now, "why")
            if step is Verdict.BAD:
                failures.append(now)
            if step is Verdict.GOOD:
                assert not circuit.open
            if circuit.open and not was_open:
                assert step is Verdict.BAD
                recent = [at for at in failures if now - at < CONFIG.window_seconds]
                assert len(recent) >= CONFIG.failures
                opened = now
            if was_open and step is Verdict.BAD and now >= opened + CONFIG.open_seconds:
                opened = now
            if step is Verdict.NOTHING:
                assert circuit.open == was_open
        assert circuit.wait(now) <= CONFIG.open_seconds
        assert sum(one.probe for one in under_way) <= 1


@pytest.mark.parametrize(
    "values",
    [
        {"failures": 0},
        {"window_seconds": 0.0},
        {"open_seconds": math.inf},
        {"open_seconds": math.nan},
    ],
    ids=str,
)
def test_senseless_settings_are_refused(values):
    with pytest.raises(ValueError, match=f"circuit.{next(iter(values))}"):
        CircuitConfig(**values)


def test_each_route_has_its_own_and_opening_is_logged_once(caplog):
    clock = VirtualClock()
    circuits = Circuits("venue", CONFIG, clock)
    with caplog.at_level(logging.INFO, "live.venues.circuit"):
        for _ in range(6):
            attempt = circuits.begin("a", always=True)
            circuits.end("a", attempt, Verdict.BAD, "HTTP 502")
        assert list(circuits.open) == ["a"]
        assert circuits.begin("a") is None
        assert circuits.begin("b") is not None
        clock.advance_to(clock.now_ms() + 4_000)
        circuits.end("a", circuits.begin("a"), Verdict.BAD, "HTTP 502")
        clock.advance_to(clock.now_ms() + 4_000)
        circuits.end("a", circuits.begin("a"), Verdict.GOOD)
    assert circuits.open == {}
    opened, closed = (record.getMessage() for record in caplog.records)
    assert opened.startswith("venue a: circuit open for another 4.0 s after 3 failures")
    assert "HTTP 502" in opened
    assert closed == "venue a: answers again, circuit closed"


# The adapter --------------------------------------------------------------------------------------


def routed(
    scenario: Callable[[BybitVenue, ExchangeServer, VirtualClock], Awaitable[None]],
) -> None:
    """Run a scenario with a venue that asks once, and circuits that live by a clock of the test."""

    async def whole() -> None:
        async with connected(rate_limits=False) as (venue, server):
            clock = VirtualClock()
            venue._client.circuits = Circuits("bybit", CircuitConfig(), clock)
            unlimited(venue)
            ask_once(venue)
            await scenario(venue, server, clock)

    asyncio.run(whole())


async def ordinary(venue: BybitVenue) -> Bars:
    """A read that can wait."""
    return await venue.closed_bars(SYMBOL, "1Minute", 3)


async def broken(read: Callable[[], Awaitable[Any]], times: int = 5) -> None:
    """Read in vain."""
    for _ in range(times):
        with pytest.raises(UnreadableError):
            await read()


COUNTED = {
    "html_502": ("html_502", {}),
    "503": ("status", {"code": 503}),
    "408": ("status", {"code": 408}),
    "dropped": ("drop_before_accept", {}),
    "garbage": ("accept_then_garbage", {}),
    "no_object": ("accept_then_garbage", {"body": "[]"}),
    "no_time": ("drop_field", {"path": "time"}),
    "no_result": ("drop_field", {"path": "result"}),
}
NOT_COUNTED = {
    "403": ("status", {"code": 403}),
    "404": ("status", {"code": 404}),
    "429": ("status", {"code": 429}),
    "wrong_key": ("reject", {"code": 10003}),
    "parameter": ("reject", {"code": 10001}),
    "too_fast": ("rate_limit", {}),
    "unknown_code": ("reject", {"code": 999_999}),
}


@pytest.mark.parametrize("fault", [*COUNTED, *NOT_COUNTED])
def test_what_counts_as_a_failure(fault):
    action, given = {**COUNTED, **NOT_COUNTED}[fault]

    async def scenario(venue, server, clock):
        server.faults.add(KLINE, action, None, **given)
        await broken(lambda: ordinary(venue), 4)
        assert venue._client.circuits.open == {}
        await broken(lambda: ordinary(venue), 1)
        assert list(venue._client.circuits.open) == [KLINE] * (fault in COUNTED)

    routed(scenario)


def test_an_open_circuit_holds_up_its_own_route_and_says_so():
    async def scenario(venue, server, clock):
        server.faults.add(KLINE, "html_502", None)
        await broken(lambda: ordinary(venue))
        server.faults.clear()
        before = len(server.requests(KLINE))
        clock.advance_to(clock.now_ms() + 1_500)
        for _ in range(3):
            with pytest.raises(
                UnreadableError, match=r"circuit open for another 3\.5 s .*HTTP 502"
            ):
                await ordinary(venue)
        assert len(server.requests(KLINE)) == before
        assert usage_of(venue).held_up == venue._client.circuits.open
        assert list(usage_of(venue).held_up) == [KLINE]
        await venue.balance()
        clock.advance_to(clock.now_ms() + 3_500)
        await ordinary(venue)
        assert len(server.requests(KLINE)) == before + 1
        assert usage_of(venue).held_up == {}

    routed(scenario)


def test_a_ban_is_shown_beside_the_circuits():
    async def scenario(venue, server, clock):
        server.faults.add(KLINE, "ban")
        with pytest.raises(RefusedReadError):
            await ordinary(venue)
        assert usage_of(venue).held_up == {"every route": "bybit code 403"}

    routed(scenario)


def test_what_must_not_wait_passes_an_open_circuit_and_closes_it():
    async def scenario(venue, server, clock):
        before = len(server.requests(POSITION))
        server.faults.add(POSITION, "status", None, code=503)
        await broken(lambda: venue.position(SYMBOL), 7)
        assert len(server.requests(POSITION)) == before + 7  # none was held up
        await broken(lambda: venue.settings(SYMBOL), 1)
        assert len(server.requests(POSITION)) == before + 7
        server.faults.clear()
        assert isinstance(await venue.position(SYMBOL), Flat)
        assert venue._client.circuits.open == {}
        await venue.settings(SYMBOL)

    routed(scenario)


def test_no_circuit_holds_up_what_every_look_reads():
    async def scenario(venue, server, clock):
        for route, read in ((TICKERS, lambda: venue.quote(SYMBOL)), (BALANCE, venue.balance)):
            before = len(server.requests(route))
            server.faults.add(route, "html_502", 7)
            await broken(read, 7)
            assert len(server.requests(route)) == before + 7
            await read()
        assert venue._client.circuits.open == {}

    routed(scenario)


def test_one_of_many_probes_and_the_others_wait_for_it():
    async def scenario(venue, server, clock):
        server.faults.add(KLINE, "html_502", None)
        await broken(lambda: ordinary(venue))
        clock.advance_to(clock.now_ms() + 5_000)
        before = len(server.requests(KLINE))
        found = await asyncio.gather(*(ordinary(venue) for _ in range(6)), return_exceptions=True)
        assert len(server.requests(KLINE)) == before + 1
        assert sum("until a probe is answered" in str(one) for one in found) == 5
        server.faults.clear()
        clock.advance_to(clock.now_ms() + 5_000)
        be_patient(venue)
        await asyncio.gather(*(ordinary(venue) for _ in range(6)))

    routed(scenario)


def test_a_caller_who_gives_up_does_not_keep_the_place_of_the_probe():
    async def scenario(venue, server, clock):
        server.faults.add(KLINE, "html_502", 5)
        await broken(lambda: ordinary(venue))
        clock.advance_to(clock.now_ms() + 5_000)
        server.faults.add(KLINE, "reply_after", seconds=0.5)
        before = len(server.requests(KLINE))
        probe = asyncio.ensure_future(ordinary(venue))
        while len(server.requests(KLINE)) == before:
            assert not probe.done()
            await asyncio.sleep(0.005)
        with pytest.raises(UnreadableError, match="until a probe is answered"):
            await ordinary(venue)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        await ordinary(venue)
        assert venue._client.circuits.open == {}

    routed(scenario)


def test_a_read_waits_for_the_probe_inside_its_deadline():
    async def whole() -> None:
        async with connected() as (venue, server):
            quick = CircuitConfig(failures=2, open_seconds=0.3)
            venue._client.circuits = Circuits("bybit", quick, venue._clock)
            server.faults.add(KLINE, "html_502", 2)
            await ordinary(venue)
            assert len(server.requests(KLINE)) == 3

    asyncio.run(whole())


@pytest.mark.parametrize(("connect", "counts"), [(0.05, True), (5.0, False)], ids=["long", "short"])
def test_a_reply_that_is_late_counts_if_it_had_the_time_to_come(connect, counts):
    async def scenario(venue, server, clock):
        venue._client.circuits = Circuits("bybit", CircuitConfig(failures=1), clock)
        late = replace(PATIENT, connect=connect, read_deadline=0.2, submit_deadline=30.0)
        be_patient(venue, late)
        server.faults.add(KLINE, "reply_after", None, seconds=0.6)
        with pytest.raises(UnreadableError, match="no reply in time"):
            await ordinary(venue)
        assert bool(venue._client.circuits.open) is counts

    routed(scenario)


# The daemon ---------------------------------------------------------------------------------------

READS = ("account/*", POSITION, "order/realtime", "order/history", "execution/*", "market/*")


async def looks(rig: Rig, seconds: int) -> None:
    """Look every three seconds, in vain."""
    for _ in range(seconds // 3):
        rig.server.advance(3_000)
        rig.breathe(3)
        assert await rig.reconcile() is None
        assert rig.desk.state is TradingState.DEGRADED


def orders(rig: Rig) -> list[tuple[str, str]]:
    """Every order the journal knows, and its state."""
    rows = rig.journal.history(kind="resolve") + rig.journal.history(kind="book")
    return [(str(row.kind), str(row.body)) for row in rows]


def test_a_minute_of_503_changes_nothing_and_is_over_two_looks_later():
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, posts = rig.held, len(rig.server.requests("order/create"))
        target, journalled = rig.trader.state.target_quantity, orders(rig)
        ask_once(rig.daemon.venue)
        for route in READS:
            rig.server.faults.add(route, "status", None, code=503)
        await broken(lambda: ordinary(rig.daemon.venue))
        asked = len(rig.server.requests(KLINE))
        await broken(lambda: ordinary(rig.daemon.venue), 1)
        assert len(rig.server.requests(KLINE)) == asked
        await looks(rig, 60)
        held_up = usage_of(rig.daemon.venue).held_up
        assert "HTTP 503" in held_up[TICKERS]
        assert status_of(rig.daemon)["held_up"] == held_up
        text = PrometheusMeter(Metrics()).render(rig.daemon).decode()
        assert f"jaxtrade_live_open_circuits {float(len(held_up))}" in text
        await rig.bar(SHORT)
        assert rig.desk.state is TradingState.DEGRADED
        assert rig.trader.state.target_quantity == target
        assert (rig.held, len(rig.server.requests("order/create"))) == (held, posts)
        assert orders(rig) == journalled
        rig.server.faults.clear()
        be_patient(rig.daemon.venue)
        for _ in range(2):
            rig.server.advance(3_000)
            rig.breathe(3)
            await rig.reconcile()
        assert rig.desk.state is TradingState.ACTIVE
        await rig.bar(SHORT)
        assert rig.held < 0
        assert usage_of(rig.daemon.venue).held_up == {}
        rig.check()

    trading(test)


def test_an_exit_passes_circuits_that_are_open():
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        ask_once(rig.daemon.venue)
        rules = [rig.server.faults.add(route, "status", None, code=503) for route in READS]
        await looks(rig, 30)
        for read in (rig.daemon.venue.quote, rig.daemon.venue.position):
            await broken(lambda read=read: read(SYMBOL))
        assert {POSITION, TICKERS} <= set(usage_of(rig.daemon.venue).held_up)
        assert (await rig.daemon.command("flatten", "people want out"))["flat"] is False
        # As soon as what the exit needs is answered, in spite of the circuits.
        rig.server.faults.rules = [rule for rule in rules if not rule.matches(POSITION)]
        assert TICKERS in usage_of(rig.daemon.venue).held_up
        assert (await rig.daemon.command("flatten", "people still want out"))["flat"] is True
        assert rig.held == 0
        rig.server.faults.clear()
        rig.breathe()
        be_patient(rig.daemon.venue)
        await rig.settle()
        rig.check()

    trading(test)
