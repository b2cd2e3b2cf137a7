"""What a clock is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """Venue time, elapsed time and waiting.

    Whoever sees `disturbances` grow drops what it was about to do, measures the offset again and
    reconciles.
    """

    @property
    def disturbances(self) -> int:
        """Suspensions of the machine, steps of its clock and doubts of the venue so far."""

    def disturb(self) -> None:
        """The venue refused a timestamp: what was known of its time is wrong."""

    def now_ms(self) -> int:
        """Milliseconds UTC at the venue, as well as known."""

    def monotonic(self) -> float:
        """Seconds since some instant; never runs backwards."""

    async def sleep_until(self, time_ms: int) -> None:
        """Return once `now_ms` has reached ``time_ms``, or earlier because of a disturbance."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""


def uncertainty_of(clock: Clock) -> float:
    """How well a clock knows the venue's time, milliseconds; one that is the venue's knows it."""
    return float(getattr(clock, "uncertainty_ms", 0.0))
