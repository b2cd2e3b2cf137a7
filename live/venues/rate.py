"""Rate limits of a venue: token buckets with a lane that entries cannot use.

A bucket that holds half a window's requests and refills the other half over the window lets no
more through in any window than the venue allows. Cancels, reductions, protection and
reconciliation may empty a bucket; everything else leaves a reserve. What the venue's headers say
counts more than the own estimate where it is less.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from live.clock import Clock

_LONGEST_WINDOW, _LONGEST_BAN = 60.0, 86_400.0  # seconds; what a venue states beyond is an error


class Lane(enum.StrEnum):
    """Who may use the reserve."""

    NORMAL = "normal"
    RESERVED = "reserved"  # cancels, reductions, protection, reconciliation


class RateLimitedError(Exception):
    """The request would have to wait longer than its caller can; nothing was sent.

    Attributes:
      retry_after: seconds until it could pass.
    """

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(f"rate limit {name!r}: free in {retry_after:.3g} s.")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Limit:
    """What a venue allows: ``requests`` in any ``seconds``."""

    requests: float
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.requests < math.inf and 0 < self.seconds < math.inf):
            raise ValueError(
                "rate limit: needs a finite number of requests and seconds, both > 0; "
                f"got {self.requests} in {self.seconds} s."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateConfig:
    """How much of the venue's limits to use.

    Attributes:
      reserve_fraction: of every bucket that only the reserved lane may use, in [0, 1).
      share_fraction: of the venue's limits that this key may use, in (0, 1].
      ban_seconds: how long a ban lasts when the venue does not say.
    """

    reserve_fraction: float = 0.2
    share_fraction: float = 1.0
    ban_seconds: float = 600.0

    def __post_init__(self) -> None:
        if not 0 <= self.reserve_fraction < 1:
            raise ValueError(f"reserve_fraction: expected [0, 1); got {self.reserve_fraction}.")
        if not 0 < self.share_fraction <= 1:
            raise ValueError(f"share_fraction: expected (0, 1]; got {self.share_fraction}.")
        if not 0 < self.ban_seconds < math.inf:
            raise ValueError(f"ban_seconds: expected a finite number > 0; got {self.ban_seconds}.")


class Bucket:
    """Tokens of one limit; time is given, in seconds of any clock that never runs backwards."""

    def __init__(self, limit: Limit, config: RateConfig, now: float) -> None:
        self._config = config
        self._seconds = limit.seconds
        self._now = now
        self._shut_until = -math.inf
        self._resize(limit.requests)
        self._tokens = self._capacity

    def wait(self, lane: Lane, now: float) -> float:
        """Seconds until one request of a lane may pass; 0 = now."""
        self._refill(now)
        missing = max(1 + self._kept(lane) - self._tokens, 0.0)
        return max(missing / self._rate, self._shut_until - now, 0.0)

    def tokens(self, lane: Lane, now: float) -> float:
        """Requests of a lane that may pass at once."""
        self._refill(now)
        if now < self._shut_until:
            return 0.0
        return max(self._tokens - self._kept(lane), 0.0)

    def take(self, now: float) -> None:
        """Let one request pass."""
        self._refill(now)
        self._tokens -= 1

    def tell(
        self, now: float, *, remaining: float, requests: float | None, reset: float | None
    ) -> None:
        """Believe the venue where it leaves less than the own estimate.

        More is not believed: the number is as old as the reply, and other replies are under way.

        Args:
          remaining: requests left in the venue's window. requests: its size, if it said so.
          reset: second of this clock at which the window begins again, if it said so.
        """
        self._refill(now)
        if requests is not None and 0 < requests < math.inf:
            self._resize(requests)
        if not 0 <= remaining < math.inf:
            return
        self._tokens = min(self._tokens, remaining * self._config.share_fraction)
        if remaining < 1:
            # Two clocks that do not agree must not stop everything for hours.
            sensible = reset is not None and now <= reset <= now + _LONGEST_WINDOW
            self.shut(reset if sensible and reset is not None else now + self._seconds)

    def shut(self, until: float) -> None:
        """Let nothing of any lane through before ``until``."""
        self._shut_until = max(self._shut_until, until)

    def _kept(self, lane: Lane) -> float:
        """Tokens that a lane leaves; a tiny limit still lets entries through one at a time."""
        reserve = self._config.reserve_fraction * self._capacity
        return 0.0 if lane is Lane.RESERVED else min(reserve, self._capacity - 1)

    def _resize(self, requests: float) -> None:
        allowed = max(requests * self._config.share_fraction, 1.0)
        self._capacity = max(allowed / 2, 1.0)
        # What the burst leaves over; a limit of one request refills in a whole window.
        self._rate = max(allowed - self._capacity, 1.0 if allowed < 2 else 0.0) / self._seconds

    def _refill(self, now: float) -> None:
        elapsed, self._now = max(now - self._now, 0.0), max(now, self._now)
        self._tokens = min(self._tokens + elapsed * self._rate, self._capacity)


class Limiter:
    """All buckets of one venue and key; shared by every symbol.

    Args:
      limits: name of a bucket -> what the venue allows.
      clock: gives elapsed seconds and waits.
    """

    def __init__(self, limits: Mapping[str, Limit], config: RateConfig, clock: Clock) -> None:
        self.config = config
        self._clock = clock
        now = clock.monotonic()
        self._buckets = {name: Bucket(limit, config, now) for name, limit in limits.items()}
        self._banned_until = -math.inf
        self._ban_reason = ""

    async def acquire(self, names: Iterable[str], *, lane: Lane, within: float) -> None:
        """Wait until a request may pass all named buckets, then count it in each.

        Args:
          within: seconds the caller can wait.

        Raises:
          RateLimitedError: that is not long enough; said at once, not after waiting.
        """
        names = tuple(names)
        deadline = self._clock.monotonic() + within
        while True:
            now = self._clock.monotonic()
            longest, name = self._longest(names, lane, now)
            if longest <= 0:
                for each in names:
                    self._buckets[each].take(now)
                return
            if not now + longest <= deadline:
                raise RateLimitedError(name, longest)
            await self._clock.sleep_until(self._clock.now_ms() + math.ceil(1000 * longest) + 1)

    def tell(
        self,
        name: str,
        *,
        remaining: float,
        requests: float | None = None,
        reset_ms: float | None = None,
    ) -> None:
        """Pass on what a reply's headers said; ``reset_ms`` is an instant of the venue's clock."""
        now = self._clock.monotonic()
        reset = None if reset_ms is None else now + (reset_ms - self._clock.now_ms()) / 1000
        self._buckets[name].tell(now, remaining=remaining, requests=requests, reset=reset)

    def ban(self, reason: str, until_ms: float | None = None) -> None:
        """Open the circuit: only the reserved lane passes until the stated or configured time."""
        now = self._clock.monotonic()
        seconds = self.config.ban_seconds
        if until_ms is not None:
            stated = (until_ms - self._clock.now_ms()) / 1000
            seconds = stated if 0 < stated <= _LONGEST_BAN else seconds
        self._banned_until = max(self._banned_until, now + seconds)
        self._ban_reason = reason

    @property
    def banned(self) -> str | None:
        """Why only the reserved lane passes, or None."""
        return self._ban_reason if self._clock.monotonic() < self._banned_until else None

    def tokens(self, lane: Lane) -> float:
        """Requests of a lane that may leave at once, whatever they ask for."""
        now = self._clock.monotonic()
        if lane is Lane.NORMAL and self.banned is not None:
            return 0.0
        return min((bucket.tokens(lane, now) for bucket in self._buckets.values()), default=0.0)

    def _longest(self, names: tuple[str, ...], lane: Lane, now: float) -> tuple[float, str]:
        waits = [(self._buckets[name].wait(lane, now), name) for name in names]
        if lane is Lane.NORMAL:
            waits.append((self._banned_until - now, self._ban_reason))
        return max(waits, default=(0.0, ""))
