"""The bar grid never drifts, sleepers wake in order, and a clock that jumps is noticed."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.clock import (
    Clock,
    ClockLimits,
    JumpDetector,
    OffsetEstimator,
    SystemClock,
    Tick,
    VirtualClock,
    last_boundary,
    newest_closed_bar,
    next_boundary,
    next_tick,
    synchronise,
)

MINUTE = 60_000
START = 1_700_000_040_000  # a whole minute


# The grid.


@given(st.integers(0, 4_000_000_000_000), st.sampled_from([MINUTE, 5 * MINUTE, 86_400_000]))
def test_boundaries_surround_every_instant(time: int, duration: int) -> None:
    after, before = next_boundary(time, duration), last_boundary(time, duration)
    assert before <= time < after
    assert after - before == duration
    assert after % duration == 0
    assert newest_closed_bar(time, duration) + duration == before


def test_a_boundary_itself_belongs_to_the_bar_that_begins() -> None:
    assert next_boundary(START, MINUTE) == START + MINUTE
    assert newest_closed_bar(START, MINUTE) == START - MINUTE
    assert newest_closed_bar(START - 1, MINUTE) == START - 2 * MINUTE


@pytest.mark.parametrize("duration", [0, -1])
def test_a_bar_has_a_length(duration: int) -> None:
    with pytest.raises(ValueError, match="bar length: must be > 0"):
        next_boundary(0, duration)


# The virtual clock.


def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    async def main() -> list[str]:
        clock, woken = VirtualClock(START), []

        async def sleeper(name: str, at: int) -> None:
            await clock.sleep_until(at)
            woken.append(f"{name}@{clock.now_ms() - START}")

        tasks = [
            asyncio.create_task(sleeper(name, START + at))
            for name, at in (("late", 30), ("first", 10), ("second", 10), ("never", 99))
        ]
        await asyncio.sleep(0)
        assert clock.sleepers == 4
        clock.advance_to(START + 9)
        await asyncio.sleep(0)
        assert woken == []
        clock.advance_to(START + 50)
        await asyncio.sleep(0)
        assert clock.sleepers == 1
        tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        clock.advance_to(START + 100)  # its deadline passes without harm
        return woken

    expected = ["first@50", "second@50", "late@50"]
    assert all(asyncio.run(main()) == expected for _ in range(3))


def test_run_until_stops_at_every_deadline_on_the_way() -> None:
    async def main() -> list[int]:
        clock, seen = VirtualClock(START), []

        async def ticker() -> None:
            while True:
                await clock.sleep(0.25)
                seen.append(clock.now_ms() - START)

        task = asyncio.create_task(ticker())
        await clock.run_until(START + 1000)
        task.cancel()
        return seen

    assert asyncio.run(main()) == [250, 500, 750, 1000]


def test_the_past_is_reached_by_rewinding_only() -> None:
    clock = VirtualClock(START)
    clock.advance_to(START + 5)
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance_to(START)
    elapsed = clock.monotonic()
    clock.rewind(START - 1000)
    assert clock.now_ms() == START - 1000
    assert clock.monotonic() == elapsed  # elapsed time does not run backwards
    assert isinstance(clock, Clock)
    asyncio.run(clock.sleep_until(START - 1000))  # now is not waited for


# Ticks.


def test_the_first_tick_waits_for_a_bar_to_close_and_be_published() -> None:
    async def main() -> tuple[Tick, int]:
        clock = VirtualClock(START + 20_000)
        task = asyncio.create_task(next_tick(clock, MINUTE, after=None, delay_ms=1000))
        await clock.run_until(START + MINUTE + 999)
        assert not task.done()
        await clock.run_until(START + MINUTE + 1000)
        return await task, clock.now_ms()

    tick, now = asyncio.run(main())
    assert tick == Tick(START, START + MINUTE, 0)
    assert now == START + MINUTE + 1000


@pytest.mark.parametrize(("late_by", "bar", "missed"), [(0, 1, 0), (30_000, 1, 0), (200_000, 4, 3)])
def test_overrun_boundaries_are_skipped_and_counted(late_by: int, bar: int, missed: int) -> None:
    clock = VirtualClock(START + 2 * MINUTE + late_by)
    tick = asyncio.run(next_tick(clock, MINUTE, after=START))
    assert tick.bar_open_ms == START + bar * MINUTE
    assert tick.missed_bars == missed


def test_a_clock_that_is_set_back_offers_no_bar_twice() -> None:
    async def main() -> Tick:
        clock = VirtualClock(START + 2 * MINUTE)
        task = asyncio.create_task(next_tick(clock, MINUTE, after=START + MINUTE))
        await asyncio.sleep(0)
        clock.rewind(START)
        await clock.run_until(START + 2 * MINUTE + 5)
        assert not task.done()
        await clock.run_until(START + 3 * MINUTE)
        return await task

    assert asyncio.run(main()).bar_open_ms == START + 2 * MINUTE


# The venue's time.


@given(st.lists(st.tuples(st.floats(0.001, 2), st.floats(0, 1)), min_size=1, max_size=8))
def test_the_true_offset_lies_within_the_uncertainty(trips: list[tuple[float, float]]) -> None:
    estimator, now, origin = OffsetEstimator(), 0.0, 1.7e12
    for trip, share in trips:
        now += 10
        read_at = now + share * trip  # the venue reads its clock anywhere on the way
        estimator.add(origin + 1000 * read_at, now, now + trip)
        now += trip
    reading = estimator.reading(now)
    assert abs(reading.origin_ms - origin) <= reading.uncertainty_ms + 1e-3
    best = min(trip for trip, _ in trips)
    assert reading.uncertainty_ms >= 500 * best - 1e-6


def test_the_quickest_of_the_recent_samples_counts_until_it_is_old() -> None:
    estimator = OffsetEstimator(memory_seconds=600)
    assert not estimator.reading(0).measured
    estimator.add(1000.0, 0.0, 0.1)
    estimator.add(9000.0, 8.0, 9.0)
    assert estimator.reading(10).origin_ms == pytest.approx(950)
    assert estimator.reading(10).uncertainty_ms == pytest.approx(50 + 0.99)  # and it has drifted
    assert estimator.reading(605).origin_ms == pytest.approx(500)  # the quick one is forgotten
    assert math.isinf(estimator.reading(700).uncertainty_ms)


@pytest.mark.parametrize(
    "sample", [(math.nan, 0, 1), (0, 2, 1), (0, math.nan, 1), (0, 0, math.inf)]
)
def test_a_sample_that_cannot_be_is_refused(sample: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="clock sample"):
        OffsetEstimator().add(*sample)


def test_limits_deny_what_is_not_known() -> None:
    limits = ClockLimits()
    assert limits.denial(0, 999) is None
    assert "known to 1001 ms" in limits.denial(0, 1001)
    assert "off by -2600 ms" in limits.denial(-2600, 10)
    assert limits.denial(math.nan, 10) is not None
    assert limits.denial(0, math.nan) is not None
    assert limits.warns(-251)
    assert limits.warns(math.nan)
    assert not limits.warns(250)
    with pytest.raises(ValueError, match=r"clock\.halt_ms"):
        ClockLimits(halt_ms=math.nan)


# The machine's clock.


class Machine:
    """Three clocks that a test turns by hand."""

    def __init__(self) -> None:
        self.elapsed, self.wall, self.boot = 100.0, START / 1000, 5000.0
        self.slices: list[float] = []
        self.during_sleep = lambda: None

    def pass_time(self, seconds: float) -> None:
        self.elapsed += seconds
        self.wall += seconds
        self.boot += seconds

    async def sleep(self, seconds: float) -> None:
        self.slices.append(seconds)
        self.pass_time(seconds)
        self.during_sleep()

    def clock(self, **arguments) -> SystemClock:
        return SystemClock(
            monotonic=lambda: self.elapsed,
            wall=lambda: self.wall,
            boot=lambda: self.boot,
            sleep=self.sleep,
            **arguments,
        )


def measured(machine: Machine, offset_ms: float, trip: float = 0.02) -> SystemClock:
    clock = machine.clock()

    async def server_time() -> int:
        machine.pass_time(trip / 2)
        answer = round(1000 * machine.wall + offset_ms)
        machine.pass_time(trip / 2)
        return answer

    asyncio.run(synchronise(clock, clock.estimator, server_time))
    return clock


def test_venue_time_is_elapsed_time_and_offset() -> None:
    machine = Machine()
    clock = measured(machine, offset_ms=-300)
    assert clock.offset_ms == pytest.approx(-300, abs=1)
    assert clock.now_ms() == pytest.approx(1000 * machine.wall - 300, abs=2)
    assert clock.uncertainty_ms == pytest.approx(10, abs=0.1)
    assert clock.denial() is None
    assert clock.limits.warns(clock.offset_ms)
    assert isinstance(clock, Clock)


def test_an_offset_beyond_half_the_request_window_denies() -> None:
    assert "off by 3000 ms" in measured(Machine(), offset_ms=3000).denial()


def test_without_a_sample_the_own_clock_stands_in_and_denies() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now_ms() == START
    assert "inf" in clock.denial()
    assert math.isnan(clock.offset_ms)


def test_sleep_comes_in_slices_of_a_second() -> None:
    machine = Machine()
    clock = measured(machine, 0)
    target = clock.now_ms() + 3500
    asyncio.run(clock.sleep_until(target))
    assert clock.now_ms() >= target
    assert max(machine.slices) <= 1
    assert len(machine.slices) >= 4
    machine.slices.clear()
    asyncio.run(clock.sleep(2.5))
    np.testing.assert_allclose(machine.slices, [1, 1, 0.5])


@pytest.mark.parametrize(
    "jump",
    [{"wall": 3600.0, "boot": 3600.0}, {"wall": -3600.0}, {"wall": 2.5}, {"boot": 2.5}],
    ids=["suspended", "set-back", "stepped", "boot-only"],
)
def test_a_jump_is_noticed_and_the_offset_forgotten(jump: dict[str, float]) -> None:
    machine = Machine()
    clock = measured(machine, 0)
    jumps = iter([jump])

    def disturb() -> None:
        for name, seconds in next(jumps, {}).items():
            setattr(machine, name, getattr(machine, name) + seconds)

    machine.during_sleep = disturb
    asyncio.run(clock.sleep(1.5))
    assert clock.disturbances == 1
    assert clock.denial() is not None
    assert clock.now_ms() == math.floor(1000 * machine.wall)


def test_drift_is_no_jump() -> None:
    detector = JumpDetector(2.0)
    steps = np.linspace(0, 86_400, 1000)
    assert not any(detector.note(t, t * (1 + 2e-5), t) for t in steps)
    assert detector.note(86_400, 86_400 + 4, 86_400) == pytest.approx(2.272)


def test_an_error_of_the_venue_leaves_the_samples_taken_before() -> None:
    clock, answers = VirtualClock(START), iter([START, START + 1])

    async def server_time() -> int:
        try:
            return next(answers)
        except StopIteration:
            raise TimeoutError from None

    estimator = OffsetEstimator()
    with pytest.raises(TimeoutError):
        asyncio.run(synchronise(clock, estimator, server_time))
    assert estimator.reading(clock.monotonic()).measured


def test_the_offset_of_an_exchange_on_this_machine_says_nothing() -> None:
    usual = ClockLimits()
    local = usual.of_own_time()
    assert usual.warns(1e10) and usual.denial(1e10, 1.0)
    assert not local.warns(1e10) and local.denial(1e10, 1.0) is None
    # How well its time is known still counts.
    assert local.denial(0.0, 5000.0)
