"""The time of the exchange: it stands until it is moved, or runs X times as fast as real time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

# How often a sleeper looks whether somebody else moved the time, real seconds.
_POLL = 0.002


class ExchangeClock:
    """Milliseconds UTC at the exchange; safe to use from any thread.

    Args:
      start_ms: time at construction.
      speed: exchange seconds per real second; None = the time moves by `jump` alone.
      monotonic: source of real seconds.
    """

    def __init__(
        self,
        start_ms: int,
        speed: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError(f"speed: must be a finite number > 0 or None; got {speed!r}.")
        self.start_ms = start_ms
        self.speed = speed
        self._monotonic = monotonic
        self._began = monotonic()
        self._jumped = 0
        self._lock = threading.Lock()

    def now_ms(self) -> int:
        """Milliseconds UTC at the exchange."""
        elapsed = 0
        if self.speed is not None:
            elapsed = int((self._monotonic() - self._began) * self.speed * 1000)
        return self.start_ms + self._jumped + elapsed

    def monotonic(self) -> float:
        """Exchange seconds since the clock was made."""
        return (self.now_ms() - self.start_ms) / 1000

    def jump(self, milliseconds: int) -> int:
        """Move the time ahead; returns the new time.

        Raises:
          ValueError: the time would go back.
        """
        if milliseconds < 0:
            raise ValueError(f"milliseconds: time does not go back; got {milliseconds!r}.")
        with self._lock:
            self._jumped += milliseconds
        return self.now_ms()

    async def sleep_until(self, time_ms: int) -> None:
        """Return once the exchange's time has reached ``time_ms``."""
        while self.now_ms() < time_ms:  # noqa: ASYNC110 - other threads move the time
            await asyncio.sleep(_POLL)
