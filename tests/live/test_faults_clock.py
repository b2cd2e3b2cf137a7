"""Clocks that are wrong, jump or stand still, and that no order follows from a stale bar.

The exchange's own ledger is asked whether an order was sent; the clock of the daemon is that of
production, over machine clocks that a test turns by hand.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from live.clock import (
    OffsetEstimator,
    SystemClock,
    Tick,
    VirtualClock,
    denial_of,
    newest_closed_bar,
    next_tick,
    synchronise,
    undisturbed,
)
from live.exchange.server import ExchangeServer
from live.policy import CallablePolicy
from tests.live.harness import FLAT, LONG, SHORT, Rig, trading

MINUTE = 60_000
HOUR = 3600.0
START = 1_700_000_040_000  # a boundary of minutes


class MachineClock(SystemClock):
    """The clock of production on a machine beside an exchange that stands still.

    To wait is to let the exchange's time pass. Who waits while the venue's time is not known has it
    measured, as the service beside a daemon does.
    """

    def __init__(self, server: ExchangeServer) -> None:
        self.server = server
        self.slept, self.error = 0.0, 0.0
        self.server_time: Callable[[], Any] | None = None
        super().__init__(
            monotonic=lambda: server.clock.monotonic() - self.slept,
            wall=lambda: server.clock.now_ms() / 1000 + self.error,
            boot=server.clock.monotonic,
            sleep=self._pass,
        )

    async def _pass(self, seconds: float) -> None:
        self.server.advance(math.ceil(seconds * 1000))
        if self.server_time is not None and not math.isfinite(self.uncertainty_ms):
            await self.measure()

    async def measure(self) -> None:
        """Ask the venue for its time, once what has happened so far was noticed."""
        assert self.server_time is not None
        self._look()
        await synchronise(self, self.estimator, self.server_time)

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: its elapsed time stands still, the world goes on."""
        self.slept += seconds
        self.server.advance(round(seconds * 1000))

    def stop(self, seconds: float) -> None:
        """The process alone stands still."""
        self.server.advance(round(seconds * 1000))

    def step(self, seconds: float) -> None:
        """Somebody sets the machine's clock."""
        self.error += seconds


def machine(test: Callable[[Rig, MachineClock], Any], **options: Any) -> None:
    """Run a test with a daemon that lives by a measured `MachineClock`."""

    async def measured(rig: Rig) -> None:
        clock = rig.clock
        assert isinstance(clock, MachineClock)
        clock.server_time = rig.daemon.venue.server_time
        await clock.measure()
        await test(rig, clock)

    trading(measured, clock=MachineClock, **options)


def posts(rig: Rig) -> int:
    return len(rig.server.requests("order/create"))


# An offset --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["venue-ahead", "machine-behind"])
def test_a_clock_that_is_off_denies_entries_and_permits_exits(which: str) -> None:
    def spoil(rig: Rig, clock: MachineClock, seconds: float) -> None:
        if which == "venue-ahead":
            rig.server.clock_step(seconds)
        else:
            clock.step(-seconds)

    async def test(rig: Rig, clock: MachineClock) -> None:
        spoil(rig, clock, 2.0)  # within half the request window
        await clock.measure()
        await rig.bar(LONG)
        assert rig.held > 0
        spoil(rig, clock, 1.0)
        await clock.measure()
        acted = await rig.bar(SHORT)
        assert acted.refused == "clock"
        assert rig.held == 0
        before = posts(rig)
        assert (await rig.bar(LONG)).refused == "clock"
        assert posts(rig) == before
        spoil(rig, clock, -3.0)
        await clock.measure()
        rig.server.advance(5_000)  # the bar that was decided must not come again
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    machine(test)


def test_a_clock_that_the_venue_never_told_denies_entries() -> None:
    async def test(rig: Rig, clock: MachineClock) -> None:
        clock.estimator.forget()
        clock.server_time = None
        assert (await rig.bar(LONG)).refused == "clock"
        assert posts(rig) == 0

    machine(test)


def test_a_refused_timestamp_has_the_time_measured_once_and_the_next_bar_decides() -> None:
    async def test(rig: Rig, clock: MachineClock) -> None:
        rig.server.faults.add("order/create", "reject", code=10002)
        before = clock.disturbances
        await rig.bar(LONG)
        assert posts(rig) == 1
        assert clock.disturbances == before + 1
        # Nothing is opened until the venue has told its time again.
        clock.server_time = None
        assert (await rig.bar(LONG)).refused == "clock"
        assert posts(rig) == 1
        clock.server_time = rig.daemon.venue.server_time
        await clock.measure()
        await rig.bar(LONG)
        assert posts(rig) == 2
        assert clock.disturbances == before + 1
        rig.check()

    machine(test)


def test_a_venue_whose_clock_was_set_is_believed_at_once() -> None:
    async def test(rig: Rig, clock: MachineClock) -> None:
        await rig.bar(LONG)
        rig.server.clock_step(HOUR)
        await synchronise(clock, clock.estimator, rig.daemon.venue.server_time, samples=1)
        assert clock.offset_ms == pytest.approx(1000 * HOUR, abs=5)
        assert "off by" in denial_of(clock)
        # What is signed with this machine's time is refused: nothing is known, nothing changes.
        held, state = rig.held, rig.trader.state
        await rig.bar(SHORT)
        assert (rig.held, rig.trader.state.target_quantity) == (held, state.target_quantity)
        rig.server.clock_step(-HOUR)
        await clock.measure()
        assert denial_of(clock) == ""
        await rig.bar(SHORT)
        assert rig.held < 0
        rig.check()

    machine(test)


# Jumps and suspensions --------------------------------------------------------------------------

JUMPS: dict[str, Callable[[MachineClock], None]] = {
    "step-ahead": lambda clock: clock.step(HOUR),
    "step-back": lambda clock: clock.step(-HOUR),
    "suspended": lambda clock: clock.suspend(600.0),
    "suspended-shortly": lambda clock: clock.suspend(5.0),
}


@pytest.mark.parametrize("jump", JUMPS)
def test_what_was_being_decided_is_dropped(jump: str) -> None:
    """Exits too: the position as it was read is no longer known to be there."""

    async def test(rig: Rig, clock: MachineClock) -> None:
        await rig.bar(LONG)
        held, before = rig.held, posts(rig)
        await rig.bar(FLAT, lambda: JUMPS[jump](clock))
        assert (rig.held, posts(rig)) == (held, before)
        assert [row.body["why"] for row in rig.journal.history(kind="dropped")]
        await clock.measure()
        await rig.bar(FLAT)
        assert rig.held == 0
        rig.check()

    machine(test)


@pytest.mark.parametrize("jump", JUMPS)
def test_after_a_jump_the_next_boundary_decides(jump: str) -> None:
    woke: list[int] = []
    offered: list[int] = []

    async def test(rig: Rig, clock: MachineClock) -> None:
        def policy(observation: Any, info: Any) -> int:
            offered.append(info["bar_open_ms"])
            if len(offered) == 2:
                JUMPS[jump](clock)
                woke.append(rig.server.clock.now_ms())
            return SHORT if len(offered) == 2 else LONG

        rig.loop.policy = CallablePolicy(policy)
        assert await rig.daemon.run() == 0
        # Of the bars that closed while nobody knew the time none was offered.
        assert offered[2] >= newest_closed_bar(woke[0], MINUTE) + MINUTE
        assert offered[2] + MINUTE - woke[0] <= MINUTE + 1000
        decided = {row.bar_open_ms for row in rig.journal.decisions(rig.trader.symbol)}
        assert decided == {offered[0], offered[2]}
        assert posts(rig) == 1
        rig.check()

    machine(test, settings={"runner.max_steps": "3", "runner.bar_delay_seconds": "0"})


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_while_waiting_skips_what_closed_meanwhile(jump: str) -> None:
    async def test(rig: Rig, clock: MachineClock) -> None:
        after = newest_closed_bar(clock.now_ms(), MINUTE)
        passing, woke = clock._pass, 0

        async def disturbed(seconds: float) -> None:
            nonlocal woke
            await passing(seconds)
            if not woke:
                JUMPS[jump](clock)
                woke = rig.server.clock.now_ms()

        clock._sleep = disturbed
        tick = await next_tick(clock, MINUTE, after=after)
        assert tick.bar_open_ms >= newest_closed_bar(woke, MINUTE) + MINUTE
        assert tick.decision_ms - woke <= MINUTE + 1000
        assert tick.decision_ms <= rig.server.clock.now_ms() < tick.decision_ms + 1000
        assert undisturbed(clock, tick)

    machine(test)


def test_a_process_that_stood_still_opens_nothing_on_its_old_bar() -> None:
    """No clock shows it, but the bar is too old for an entry and its snapshot for any order."""

    async def test(rig: Rig, clock: MachineClock) -> None:
        acted = await rig.bar(LONG, lambda: clock.stop(45.0))
        assert acted.refused in ("late", "stale_snapshot")
        assert posts(rig) == 0
        await rig.bar(LONG)
        held, before = rig.held, posts(rig)
        await rig.bar(SHORT, lambda: clock.stop(45.0))
        assert (rig.held, posts(rig)) == (held, before)
        await rig.bar(SHORT)
        assert rig.held < 0
        rig.check()

    machine(test, settings={"runner.bar_deadline": "30", "risk.snapshot_age_seconds": "5"})


# The rules --------------------------------------------------------------------------------------


def test_a_dropped_decision_waits_until_the_time_is_known() -> None:
    class Unsure(VirtualClock):
        uncertainty_ms = math.inf

    clock = Unsure(START)

    async def wait() -> Tick:
        task = asyncio.create_task(next_tick(clock, MINUTE, after=None))
        await clock.run_until(START + 90_000)
        assert not task.done()
        clock.uncertainty_ms = 5.0
        await clock.run_until(START + 119_000)
        assert not task.done()
        await clock.run_until(START + 120_000)
        return await task

    assert asyncio.run(wait()) == Tick(START + MINUTE, START + 2 * MINUTE, 0)


def test_a_disturbance_makes_a_tick_stale() -> None:
    clock = VirtualClock(START)
    tick = asyncio.run(next_tick(clock, MINUTE, after=START - 2 * MINUTE))
    assert undisturbed(clock, tick)
    clock.disturb()
    assert not undisturbed(clock, tick)


def test_samples_that_contradict_the_newest_are_forgotten() -> None:
    estimator = OffsetEstimator()
    estimator.add(START, 10.0, 10.01)
    estimator.add(START + 1000, 11.0, 11.2)  # slower, and no contradiction
    assert estimator.reading(11.2).uncertainty_ms < 6
    estimator.add(START + 5000, 12.0, 12.2)
    reading = estimator.reading(12.2)
    assert reading.origin_ms == pytest.approx(START + 5000 - 12_100)
    assert reading.uncertainty_ms == pytest.approx(100)


def test_a_clock_looks_before_it_says_that_nothing_happened() -> None:
    server = ExchangeServer(history=100)
    clock = MachineClock(server)
    assert clock.disturbances == 0
    clock.suspend(3.0)
    assert clock.disturbances == 1
    clock.step(1.5)
    assert clock.disturbances == 1
    clock.step(-5.0)
    assert clock.disturbances == 2
