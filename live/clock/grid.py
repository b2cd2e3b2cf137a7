"""The grid of bars: when decisions are due, and which may still be carried out."""

from __future__ import annotations

import dataclasses
import math

from live.clock.base import Clock, uncertainty_of

# Between looks whether the venue's time is known again.
_MEASURED_SECONDS = 0.25


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
      disturbances: of the clock when the decision was offered, see `undisturbed`.
    """

    bar_open_ms: int
    decision_ms: int
    missed_bars: int
    disturbances: int = 0


async def next_tick(
    clock: Clock, duration_ms: int, *, after: int | None, delay_ms: int = 0
) -> Tick:
    """Wait until a bar newer than ``after`` has closed and ``delay_ms`` have passed.

    Work that overran one or more boundaries is followed by the latest closed bar at once, never by
    the ones in between. After a disturbance of the clock nothing is offered that closed before the
    venue's time was known again: the next boundary decides.

    Args:
      duration_ms: of the execution bars. delay_ms: time that the venue gets to publish a bar.
      after: START of the bar decided last; None = whatever is open now must close first, so that
        a process does not act on a bar it did not see begin to end. Give None after a decision
        that was dropped.
    """
    decided, disturbances = after, clock.disturbances
    if after is None:
        after = await _open_now(clock, duration_ms)
    # A clock that was set back must not offer a bar twice, hence the loop.
    while True:
        if clock.disturbances != disturbances:
            after = max(after, await _open_now(clock, duration_ms))
            disturbances = clock.disturbances
            continue
        bar = newest_closed_bar(clock.now_ms() - delay_ms, duration_ms)
        if bar > after:
            break
        await clock.sleep_until(after + 2 * duration_ms + delay_ms)
    missed = 0 if decided is None else (bar - decided) // duration_ms - 1
    return Tick(bar, bar + duration_ms, missed, disturbances)


async def _open_now(clock: Clock, duration_ms: int) -> int:
    """START of the bar before the one that is open, once the venue's time is known."""
    while not math.isfinite(uncertainty_of(clock)):
        await clock.sleep(_MEASURED_SECONDS)
    return newest_closed_bar(clock.now_ms(), duration_ms)


def undisturbed(clock: Clock, tick: Tick) -> bool:
    """Whether a decision that was offered may still be carried out.

    Where not, it is dropped, exits too: nobody knows for how long the machine slept.
    """
    return clock.disturbances == tick.disturbances


def _positive(duration_ms: int) -> int:
    if not duration_ms > 0:
        raise ValueError(f"bar length: must be > 0 ms; got {duration_ms}.")
    return duration_ms
