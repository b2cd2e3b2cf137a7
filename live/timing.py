"""How far a clock can be trusted: offset and uncertainty of the venue's time, jumps, limits."""

from __future__ import annotations

import dataclasses
import math
from collections import deque

# A crystal that is off by more is broken; a computer's is off by a tenth of this.
_DRIFT_PER_SECOND = 1e-4
# Venues tell their time in whole milliseconds.
_GRAIN_MS = 2.0
# Longer than any offset.
_ANY_MS = 1e15


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What is known of the venue's clock.

    Attributes:
      origin_ms: venue time minus elapsed time, ms; NaN = never measured.
      uncertainty_ms: half the round trip of the sample used, and drift since; inf = not measured.
    """

    origin_ms: float
    uncertainty_ms: float

    @property
    def measured(self) -> bool:
        """Whether there is a sample to go by."""
        return math.isfinite(self.uncertainty_ms)


class OffsetEstimator:
    """Venue time against this machine's elapsed time, from questions and answers.

    A sample assumes that the venue read its clock half-way between question and answer; the error
    is at most half the round trip, so the quickest sample of the recent past is the best one. What
    contradicts the newest sample is forgotten: the venue's clock was set in between.

    Args:
      memory_seconds: how long a sample counts.
    """

    def __init__(self, memory_seconds: float = 600.0) -> None:
        self._memory = memory_seconds
        self._samples: deque[tuple[float, float, float]] = deque()

    def add(self, server_ms: float, sent: float, received: float) -> None:
        """Add one answer; ``sent`` and ``received`` are elapsed seconds of one clock.

        Raises:
          ValueError: a number is not finite, or the answer came before the question.
        """
        if not (math.isfinite(server_ms) and sent <= received < math.inf):
            raise ValueError(
                "clock sample: needs a finite server time and sent <= received; "
                f"got {server_ms}, {sent} and {received}."
            )
        new = (received, received - sent, server_ms - 500 * (sent + received))
        if not all(_agree(old, new) for old in self._samples):
            self.forget()
        self._samples.append(new)

    def reading(self, now: float) -> Reading:
        """The best of the samples that still count at elapsed second ``now``."""
        while self._samples and now - self._samples[0][0] > self._memory:
            self._samples.popleft()
        if not self._samples:
            return Reading(math.nan, math.inf)
        received, trip, origin = min(self._samples, key=lambda sample: sample[1])
        drift = 1000 * _DRIFT_PER_SECOND * max(now - received, 0.0)
        return Reading(origin, 500 * trip + drift)

    def forget(self) -> None:
        """Drop every sample: elapsed time no longer means what it did."""
        self._samples.clear()


def _agree(old: tuple[float, float, float], new: tuple[float, float, float]) -> bool:
    """Whether two samples (received, trip, origin) can be of one clock that runs evenly."""
    (then, trip, origin), (now, other_trip, other_origin) = old, new
    drift = 1000 * _DRIFT_PER_SECOND * max(now - then, 0.0)
    return abs(other_origin - origin) <= 500 * (trip + other_trip) + drift + _GRAIN_MS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClockLimits:
    """How wrong a clock may be; fields of the table ``[clock]``.

    Attributes:
      resync_seconds: between measurements. warn_ms: of the offset between this machine's clock and
        the venue's. halt_ms: uncertainty above which nothing is entered.
      suspend_seconds: a jump between clocks that counts as a suspension or a step.
      request_window_ms: how old a signed request may be at the venue; half of it is the largest
        offset with which anything is entered.
    """

    resync_seconds: float = 60.0
    warn_ms: float = 250.0
    halt_ms: float = 1000.0
    suspend_seconds: float = 2.0
    request_window_ms: float = 5000.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                value = getattr(self, field.name)
                raise ValueError(f"clock.{field.name}: must be a finite number > 0; got {value}.")

    def of_own_time(self) -> ClockLimits:
        """The same for an exchange on this machine, whose time may differ from this machine's.

        It checks signatures by this machine's time, so an offset says nothing.
        """
        return dataclasses.replace(self, warn_ms=_ANY_MS, request_window_ms=_ANY_MS)

    def denial(self, offset_ms: float, uncertainty_ms: float) -> str | None:
        """Why nothing may be entered at this offset, or None; what is NaN denies."""
        if not uncertainty_ms <= self.halt_ms:
            return f"the venue's time is known to {uncertainty_ms:.0f} ms only"
        if not abs(offset_ms) <= self.request_window_ms / 2:
            return f"this machine's clock is off by {offset_ms:.0f} ms"
        return None

    def warns(self, offset_ms: float) -> bool:
        """Whether the offset deserves a warning."""
        return not abs(offset_ms) <= self.warn_ms


class JumpDetector:
    """Notices that the machine slept or that somebody set its clock.

    Elapsed time stands still while the machine is suspended, the clock on the wall and the time
    since boot do not; setting the clock moves the wall alone.

    Args:
      threshold_seconds: smaller differences between the clocks are drift.
    """

    def __init__(self, threshold_seconds: float = 2.0) -> None:
        self._threshold = threshold_seconds
        self._leads: tuple[float, float] | None = None

    def note(self, monotonic: float, wall: float, boot: float) -> float:
        """Seconds by which a clock has jumped since the last call; 0 when none has."""
        leads = (wall - monotonic, boot - monotonic)
        before, self._leads = self._leads, leads
        if before is None:
            return 0.0
        jump = max((now - then for now, then in zip(leads, before, strict=True)), key=abs)
        return jump if not abs(jump) <= self._threshold else 0.0
