"""Keeping a clock on the venue's time for as long as somebody trades by it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from live.clock.system import SystemClock, synchronise
from live.types import UnreadableError

_log = logging.getLogger("live.clock")

_LOOK_SECONDS = 1.0
_SAMPLES = 3


async def keep_time(
    clock: SystemClock,
    server_time: Callable[[], Awaitable[int]],
    disturbed: Callable[[], None] = lambda: None,
) -> None:
    """Measure the venue's time again and again, and at once when the machine had slept.

    Args:
      server_time: of the venue, ms. disturbed: called after a sleep or a step of the clock.
    """
    measured, seen = clock.monotonic(), clock.disturbances
    while True:
        await clock.sleep(_LOOK_SECONDS)
        woken = clock.disturbances != seen
        if not woken and clock.monotonic() - measured < clock.limits.resync_seconds:
            continue
        try:
            await synchronise(clock, clock.estimator, server_time, samples=_SAMPLES)
        except UnreadableError as error:
            _log.warning("the venue's time could not be read: %s", error)
            continue
        measured = clock.monotonic()
        if woken:
            seen = clock.disturbances
            _log.warning("the machine slept or its clock was set; measured the venue's time again")
            disturbed()
        if clock.limits.warns(clock.offset_ms):
            _log.warning("this machine's clock is off by %.0f ms", clock.offset_ms)
