"""A circuit that opens when a route of a venue keeps failing, so that nobody goes on hammering it.

Closed, everything passes. Enough failures within a window open it: for some seconds nothing
ordinary passes, then one probe does. Any good answer closes it; a failure opens it again. What must
not wait passes at any time, and what becomes of it counts as much. A `Circuit` is pure, its time is
given; `Circuits` are those of a venue's routes.
"""

from __future__ import annotations

import enum
import logging
import math
from collections import deque
from dataclasses import dataclass

from live.clock import Clock

_log = logging.getLogger("live.venues.circuit")


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitConfig:
    """When a circuit opens, and for how long.

    Attributes:
      failures: that open it, at least 1. window_seconds: in which they have to happen.
      open_seconds: until a probe may pass.
    """

    failures: int = 5
    window_seconds: float = 30.0
    open_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.failures >= 1:
            raise ValueError(f"circuit.failures: expected at least 1; got {self.failures}.")
        for name in ("window_seconds", "open_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"circuit.{name}: expected a finite number > 0; got {getattr(self, name)}."
                )


class Verdict(enum.Enum):
    """What an attempt told of its route."""

    GOOD = "good"  # it was answered, were it with a refusal
    BAD = "bad"  # nothing came back, or nothing that makes sense
    NOTHING = "nothing"  # it never left, or was given up too early to tell


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One request that may pass; it has to be handed back to `Circuit.end`.

    Attributes:
      probe: whether the others wait for what becomes of it.
    """

    probe: bool


class Circuit:
    """Of one route; time is in seconds of any clock that never runs backwards.

    Attributes:
      reason: of the last failure, for people.
    """

    def __init__(self, config: CircuitConfig) -> None:
        self.config = config
        self.reason = ""
        self._failed: deque[float] = deque(maxlen=config.failures)
        self._until: float | None = None  # None = closed; later, a probe may pass
        self._probe: Attempt | None = None

    @property
    def open(self) -> bool:
        """Whether anything is held up; also while a probe is due or under way."""
        return self._until is not None

    def wait(self, now: float) -> float:
        """Seconds until a probe may pass; 0 where the circuit is closed or one may."""
        return 0.0 if self._until is None else max(self._until - now, 0.0)

    def said(self, now: float) -> str:
        """How things stand, for people."""
        if self._until is None:
            return "circuit closed"
        after = f"{len(self._failed)} failures, the last: {self.reason}"
        left = self.wait(now)
        if left:
            return f"circuit open for another {left:.1f} s after {after}"
        return f"circuit open until a probe is answered, after {after}"

    def begin(self, now: float, *, always: bool = False) -> Attempt | None:
        """A request that wants to pass; None = it may not, now.

        Args:
          always: it must not wait, so it passes in any state and is no probe.
        """
        if always or self._until is None:
            return Attempt(probe=False)
        if now < self._until or self._probe is not None:
            return None
        self._probe = Attempt(probe=True)
        return self._probe

    def end(self, attempt: Attempt, verdict: Verdict, now: float, reason: str = "") -> None:
        """What became of a request that passed, probe or not."""
        if attempt is self._probe:
            self._probe = None
        match verdict:
            case Verdict.GOOD if self._until is not None:
                self._until = None
                self._failed.clear()
            case Verdict.BAD:
                self.reason = reason
                self._fail(now)

    def _fail(self, now: float) -> None:
        self._failed.append(now)
        if self._until is None:
            first = self._failed[0]
            full = len(self._failed) == self.config.failures
            if full and now - first < self.config.window_seconds:
                self._until = now + self.config.open_seconds
        elif not now < self._until:  # a failure while it is still open changes nothing
            self._until = now + self.config.open_seconds


class Circuits:
    """One circuit for each route of a venue; opening and closing is logged once.

    Args:
      venue: for messages. clock: gives elapsed seconds.
    """

    def __init__(self, venue: str, config: CircuitConfig, clock: Clock) -> None:
        self._venue, self._config, self._clock = venue, config, clock
        self._routes: dict[str, Circuit] = {}

    @property
    def open(self) -> dict[str, str]:
        """The routes that are held up, and why, for people."""
        now = self._clock.monotonic()
        return {name: one.said(now) for name, one in self._routes.items() if one.open}

    def said(self, route: str) -> str:
        """How things stand on a route, for people."""
        return self._of(route).said(self._clock.monotonic())

    def begin(self, route: str, *, always: bool = False) -> Attempt | None:
        """See `Circuit.begin`."""
        return self._of(route).begin(self._clock.monotonic(), always=always)

    def end(self, route: str, attempt: Attempt, verdict: Verdict, reason: str = "") -> None:
        """See `Circuit.end`."""
        circuit, now = self._of(route), self._clock.monotonic()
        before = circuit.open
        circuit.end(attempt, verdict, now, reason)
        if circuit.open and not before:
            _log.warning("%s %s: %s", self._venue, route, circuit.said(now))
        elif before and not circuit.open:
            _log.info("%s %s: answers again, circuit closed", self._venue, route)

    def _of(self, route: str) -> Circuit:
        return self._routes.setdefault(route, Circuit(self._config))
