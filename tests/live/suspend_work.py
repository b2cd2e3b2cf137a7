"""A daemon for `test_suspend`: one process that lives at an exchange's pace and may stop itself.

Started as a program with the fields of a `PacedLife` as JSON. It stops by SIGSTOP, as a machine
that sleeps or a debugger stops it: nothing of it is told before, or runs meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.exchange.clock import ExchangeClock
from tests.live import crash_work
from tests.live.crash_work import Life

DECIDING = "policy"


class PacedClock(ExchangeClock):
    """The exchange's time, some times as fast as real time, as several processes see it.

    Args:
      start_ms: time at ``began``, seconds of the machine's monotonic clock, which all share.
    """

    disturbances = 0
    uncertainty_ms = 5.0

    def __init__(self, start_ms: int, began: float, speed: float) -> None:
        super().__init__(start_ms, speed, lambda: time.monotonic())
        self._began = began
        self._pace = speed

    def disturb(self) -> None:
        self.disturbances += 1

    async def sleep_until(self, time_ms: int) -> None:
        await asyncio.sleep(max(time_ms - self.now_ms(), 0) / 1000 / self._pace)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._pace)


@dataclass(frozen=True, kw_only=True)
class PacedLife(Life):
    """A life in real time.

    Attributes:
      speed: exchange seconds per real second. stop_at: where it stops itself: a crash point, or
        `DECIDING`; None = nowhere. stop_after: how often it has come by there before.
    """

    speed: float
    stop_at: str | None = None
    stop_after: int = 0

    def clock(self) -> Any:
        return PacedClock(self.start_ms, self.began, self.speed)


class _Stops:
    """Counts, and stops the process when the time has come."""

    def __init__(self, life: PacedLife) -> None:
        self._life, self._passed = life, 0

    def at(self, name: str) -> None:
        """Come by a place."""
        if name != self._life.stop_at:
            return
        if self._passed == self._life.stop_after:
            os.kill(os.getpid(), signal.SIGSTOP)
        self._passed += 1


def main() -> None:
    """Live."""
    fields: Mapping[str, Any] = json.loads(sys.argv[1])
    life = PacedLife(**fields)
    from live import crash

    stops, point = _Stops(life), crash.point

    def noted(name: str) -> None:
        point(name)
        stops.at(name)

    class Script(crash_work._Script):
        def __call__(self, observation: Any, info: Mapping[str, Any]) -> int:
            if info["bar_open_ms"]:  # bar 0 is that of a warm-up
                stops.at(DECIDING)
            return super().__call__(observation, info)

    crash_work._warm()
    crash.point, crash_work._Script = noted, Script
    code = asyncio.run(crash_work.live(life))
    sys.stdout.write(f"{json.dumps({'code': code})}\n")


def arguments(life: PacedLife) -> list[str]:
    """How the process of a life is started."""
    return [sys.executable, str(Path(__file__)), json.dumps(dataclasses.asdict(life))]


if __name__ == "__main__":
    main()
