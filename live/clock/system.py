"""The clock of a real machine, which knows the venue's time as well as it was measured."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from live.clock.base import Clock
from live.timing import ClockLimits, JumpDetector, OffsetEstimator, Reading

_LONGEST_SLEEP_SECONDS = 1.0


def _boot_seconds() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


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
        self._disturbances = 0
        self._monotonic, self._wall, self._boot, self._sleep = monotonic, wall, boot, sleep
        self._detector = JumpDetector(self.limits.suspend_seconds)
        self._look()

    @property
    def disturbances(self) -> int:
        """Jumps between the clocks, those since the last look included, and doubts."""
        self._look()
        return self._disturbances

    def disturb(self) -> None:
        """Forget what was known of the venue's time; entries are denied until it is measured."""
        self._disturbances += 1
        self.estimator.forget()

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
        """Wait in slices of at most a second, looking at the clocks on every wake.

        A disturbance ends the wait: whether the time has come is for the caller to judge anew.
        """
        disturbances = self.disturbances
        while (left := (time_ms - self.now_ms()) / 1000) > 0:
            await self._slice(left)
            if self._disturbances != disturbances:
                return

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
            self.disturb()


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


def denial_of(clock: Clock) -> str:
    """Why a clock permits no entry now, empty where it does; one that is the venue's does."""
    return (clock.denial() or "") if isinstance(clock, SystemClock) else ""
