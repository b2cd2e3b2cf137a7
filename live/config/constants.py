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
    """

    venue: str
    taker_fee: float
    max_leverage: float
    frames: frozenset[TimeFrame]
    secrets: Mapping[str, tuple[str, ...]]
    canonical: Callable[[str], str]


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
)
