"""Time of the live layer: the bar grid, the venue's clock, and a clock for replay.

Nothing else reads a clock or sleeps. Times are whole milliseconds UTC as the venue counts them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import math
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from live.timing import ClockLimits, JumpDetector, OffsetEstimator, Reading

__all__ = [
    "Clock",
    "ClockLimits",
    "JumpDetector",
    "OffsetEstimator",
    "Reading",
    "SystemClock",
    "Tick",
    "VirtualClock",
    "last_boundary",
    "newest_closed_bar",
    "next_boundary",
    "next_tick",
    "synchronise",
]

_LONGEST_SLEEP_SECONDS = 1.0


# The grid ---------------------------------------------------------------------------------------


def next_boundary(time_ms: int, duration_ms: int) -> int:
    """The first instant of the grid after ``time_ms``; bars count from 1970-01-01 UTC."""
    return (time_ms // _positive(duration_ms) + 1) * duration_ms


def last_boundary(time_ms: int, duration_ms: int) -> int:
    """The newest instant of the grid that is not after ``time_ms``."""
    return time_ms // _positive(duration_ms) * duration_ms


def newest_closed_bar(time_ms: int, duration_ms: int) -> int:
    """START of the newest bar whose end is not after ``time_ms``."""
    return last_boundary(time_ms, duration_ms) - duration_ms


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """One decision that is due.

    Attributes:
      bar_open_ms: START of the newest closed bar. decision_ms: its end.
      missed_bars: closed bars since the last tick that nobody will decide on.
    """

    bar_open_ms: int
    decision_ms: int
    missed_bars: int


async def next_tick(
    clock: Clock, duration_ms: int, *, after: int | None, delay_ms: int = 0
) -> Tick:
    """Wait until a bar newer than ``after`` has closed and ``delay_ms`` have passed.

    Work that overran one or more boundaries is followed by the latest closed bar at once, never by
    the ones in between.

    Args:
      duration_ms: of the execution bars. delay_ms: time that the venue gets to publish a bar.
      after: START of the bar decided last; None = whatever is open now must close first, so that
        a process does not act on a bar it did not see begin to end.
    """
    if after is None:
        after = newest_closed_bar(clock.now_ms(), duration_ms)
        missed_from = None
    else:
        missed_from = after
    # A clock that was set back must not offer a bar twice, hence the loop.
    while True:
        bar = newest_closed_bar(clock.now_ms() - delay_ms, duration_ms)
        if bar > after:
            break
        await clock.sleep_until(after + 2 * duration_ms + delay_ms)
    missed = 0 if missed_from is None else (bar - missed_from) // duration_ms - 1
    return Tick(bar, bar + duration_ms, missed)


def _positive(duration_ms: int) -> int:
    if not duration_ms > 0:
        raise ValueError(f"bar length: must be > 0 ms; got {duration_ms}.")
    return duration_ms


# What a clock is --------------------------------------------------------------------------------


@runtime_checkable
class Clock(Protocol):
    """Venue time, elapsed time and waiting.

    Attributes:
      disturbances: suspensions of the machine and steps of its clock noticed so far. Whoever sees
        it grow drops what it was about to do, measures the offset again and reconciles.
    """

    disturbances: int

    def now_ms(self) -> int:
        """Milliseconds UTC at the venue, as well as known."""

    def monotonic(self) -> float:
        """Seconds since some instant; never runs backwards."""

    async def sleep_until(self, time_ms: int) -> None:
        """Return once `now_ms` has reached ``time_ms``; at once if it has."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""


# Real machines ----------------------------------------------------------------------------------


def _boot_seconds() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def uncertainty_of(clock: Clock) -> float:
    """How well a clock knows the venue's time, milliseconds; one that is the venue's knows it."""
    return float(getattr(clock, "uncertainty_ms", 0.0))


class SystemClock:
    """Venue time on a real machine, from elapsed time and measured offsets.

    Until a first sample arrives, and after a disturbance, the machine's own clock stands in; the
    uncertainty is infinite then, which denies entries.

    Args:
      estimator: of the venue's offset; shared with whoever measures it.
      limits: what counts as a disturbance.
      monotonic, wall, boot: elapsed seconds, seconds since 1970 UTC, seconds since boot.
      sleep: waits for some seconds.
    """

    def __init__(
        self,
        estimator: OffsetEstimator | None = None,
        limits: ClockLimits | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = _boot_seconds,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.limits = limits or ClockLimits()
        self.estimator = estimator or OffsetEstimator()
        self.disturbances = 0
        self._monotonic, self._wall, self._boot, self._sleep = monotonic, wall, boot, sleep
        self._detector = JumpDetector(self.limits.suspend_seconds)
        self._look()

    def monotonic(self) -> float:
        """Elapsed seconds."""
        return self._monotonic()

    def now_ms(self) -> int:
        """Milliseconds UTC at the venue; this machine's clock where no sample tells."""
        elapsed = self._monotonic()
        reading = self.estimator.reading(elapsed)
        now = 1000 * elapsed + reading.origin_ms if reading.measured else 1000 * self._wall()
        return math.floor(now)

    @property
    def offset_ms(self) -> float:
        """Venue time minus this machine's clock; NaN while unknown."""
        elapsed, wall = self._monotonic(), self._wall()
        return 1000 * (elapsed - wall) + self.estimator.reading(elapsed).origin_ms

    @property
    def uncertainty_ms(self) -> float:
        """How far `now_ms` may be from the venue's time; inf while unknown."""
        return self.estimator.reading(self._monotonic()).uncertainty_ms

    def denial(self) -> str | None:
        """Why this clock permits no entry now, or None."""
        self._look()
        return self.limits.denial(self.offset_ms, self.uncertainty_ms)

    async def sleep_until(self, time_ms: int) -> None:
        """Wait in slices of at most a second, looking at the clocks on every wake."""
        while (left := (time_ms - self.now_ms()) / 1000) > 0:
            await self._slice(left)

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` of elapsed time, in slices as `sleep_until`."""
        end = self._monotonic() + seconds
        while (left := end - self._monotonic()) > 0:
            await self._slice(left)

    async def _slice(self, seconds: float) -> None:
        await self._sleep(min(seconds, _LONGEST_SLEEP_SECONDS))
        self._look()

    def _look(self) -> None:
        if self._detector.note(self._monotonic(), self._wall(), self._boot()):
            self.disturbances += 1
            self.estimator.forget()


async def synchronise(
    clock: Clock,
    estimator: OffsetEstimator,
    server_time: Callable[[], Awaitable[int]],
    *,
    samples: int = 5,
) -> Reading:
    """Ask the venue for its time ``samples`` times, one after the other.

    What ``server_time`` raises comes through; samples taken before stay.
    """
    for _ in range(samples):
        sent = clock.monotonic()
        server_ms = await server_time()
        estimator.add(server_ms, sent, clock.monotonic())
    return estimator.reading(clock.monotonic())


# Time for replay and tests ----------------------------------------------------------------------


class VirtualClock:
    """A clock that stands still until it is told to move.

    Sleepers wake in the order of their deadlines, those of one deadline in the order they lay
    down, so that a run is the same every time.

    Args:
      start_ms: first reading.
    """

    def __init__(self, start_ms: int = 0) -> None:
        self.disturbances = 0
        self._now = int(start_ms)
        self._origin = self._now
        self._order = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """The reading."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the start; a rewind does not turn it back."""
        return (self._now - self._origin) / 1000

    @property
    def sleepers(self) -> int:
        """How many tasks wait for this clock."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep_until(self, time_ms: int) -> None:
        """Wait until the clock is moved to ``time_ms`` or beyond."""
        if time_ms <= self._now:
            return
        future = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (int(time_ms), self._order, future))
        await future

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved ``seconds`` on, rounded up to a millisecond."""
        await self.sleep_until(self._now + math.ceil(1000 * seconds))

    def advance_to(self, time_ms: int) -> None:
        """Move to ``time_ms`` and wake whoever is due; they run when the caller next waits.

        Raises:
          ValueError: that is in the past.
        """
        if time_ms < self._now:
            raise ValueError(
                f"virtual clock: cannot go back from {self._now} to {time_ms}; use rewind."
            )
        self._now = int(time_ms)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():  # its task may have been cancelled
                future.set_result(None)

    async def run_until(self, time_ms: int, *, rounds: int = 20) -> None:
        """Move to ``time_ms`` stopping at every deadline on the way, so that sleepers that lie
        down again are woken again.

        Args:
          rounds: turns of the event loop that woken tasks get at each stop.
        """
        await _turns(rounds)
        while self._sleepers and self._sleepers[0][0] <= time_ms:
            self.advance_to(max(self._sleepers[0][0], self._now))
            await _turns(rounds)
        self.advance_to(time_ms)
        await _turns(rounds)

    def rewind(self, time_ms: int) -> None:
        """Set the clock to ``time_ms``, back or forth, without waking anybody; for a reset."""
        self._origin += int(time_ms) - self._now
        self._now = int(time_ms)

    def disturb(self) -> None:
        """Report a suspension that did not happen; for tests."""
        self.disturbances += 1


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
