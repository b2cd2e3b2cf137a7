"""What a venue's public stream of bars is, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ClosedBar:
    """A bar that a public stream calls closed; ``ohlcv`` as in `live.types.Bars`."""

    symbol: str
    frame: str
    open_time_ms: int
    ohlcv: tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class BarGap:
    """Bars of a symbol and frame may have been missed; why."""

    symbol: str
    frame: str
    reason: str


Heard = Callable[[ClosedBar | BarGap], None]


class BarStream(Protocol):
    """Closed bars as a public stream tells them; a reconnect and nonsense are gaps."""

    def follow(self, symbol: str, frame: str) -> None:
        """Subscribe from now on; before or after `start`, twice is once.

        Raises:
          ValueError: the venue has no such bars.
        """

    @property
    def silence(self) -> float | None:
        """Seconds since the quietest connection last said anything; None before any did."""

    def live(self, symbol: str, frame: str) -> bool:
        """Whether bars are being told now."""

    def start(self) -> None:
        """Begin to dial."""

    async def stop(self) -> None:
        """End every connection."""

    def check(self) -> None:
        """Raise what broke the stream, if anything did."""


MakeBarStream = Callable[[Heard], BarStream]
