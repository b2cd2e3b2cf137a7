"""Time of the live layer: the bar grid, the venue's clock, and a clock for replay.

Nothing else reads a clock or sleeps. Times are whole milliseconds UTC as the venue counts them.
"""

from live.clock.base import Clock, uncertainty_of
from live.clock.grid import (
    Tick,
    last_boundary,
    newest_closed_bar,
    next_boundary,
    next_tick,
    undisturbed,
)
from live.clock.system import SystemClock, denial_of, synchronise
from live.clock.virtual import VirtualClock
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
    "denial_of",
    "last_boundary",
    "newest_closed_bar",
    "next_boundary",
    "next_tick",
    "synchronise",
    "uncertainty_of",
    "undisturbed",
]
