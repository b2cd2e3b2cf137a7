"""What is known of an exchange before it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jaxtrade.timeframe import TimeFrame
from live.fields import text_rule
from live.venues.symbols import usdt_perpetual

MAX_LEVERAGE = 125
DEFAULT_MAINTENANCE_RATE = 0.004

SYMBOL = text_rule(
    "a symbol such as 'BTCUSDT', 'BTC/USDT' or 'BTC/USDT:USDT'",
    r"[A-Z0-9]{2,30}|[A-Z0-9]{1,20}/[A-Z0-9]{2,10}(:[A-Z0-9]{2,10})?",
)


@dataclass(frozen=True, slots=True)
class VenueConstants:
    """What is known of an exchange before it is asked.

    Attributes:
      taker_fee: fraction, if the account's own cannot be read. frames: bar lengths it offers.
      secrets: constructor argument -> environment variables that may hold it.
      canonical: the one name of a symbol in any spelling; a ValueError says that it is none.
      deadman_seconds: shortest and longest time of its dead man's timer; None = it has none, or
        one that would cancel stops too.
      cuts_reduce_only: a reduce-only order above the position is cut to it, so that a rest below
        the smallest order can be closed.
    """

    venue: str
    taker_fee: float
    max_leverage: float
    frames: frozenset[TimeFrame]
    secrets: Mapping[str, tuple[str, ...]]
    canonical: Callable[[str], str]
    cuts_reduce_only: bool = False
    deadman_seconds: tuple[int, int] | None = None


def _frames(minutes: tuple[int, ...], hours: tuple[int, ...]) -> frozenset[TimeFrame]:
    return frozenset(
        [TimeFrame(n, "Minute") for n in minutes]
        + [TimeFrame(n, "Hour") for n in hours]
        + [TimeFrame(1, "Day")]
    )


BYBIT = VenueConstants(
    venue="bybit",
    taker_fee=0.00055,
    max_leverage=100,
    frames=_frames((1, 3, 5, 15, 30), (1, 2, 4, 6, 12)),
    secrets=MappingProxyType({"api_key": ("BYBIT_API_KEY",), "api_secret": ("BYBIT_API_SECRET",)}),
    canonical=usdt_perpetual,
    # Its refusal 110017 says the same from the other side: nothing was left after the cut.
    cuts_reduce_only=True,
    deadman_seconds=(3, 300),
)
