"""A clock that stands still until it is told to move, for replay and tests."""

from __future__ import annotations

import asyncio
import heapq
import math


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
        """Count a disturbance; the time stays as it is."""
        self.disturbances += 1


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
