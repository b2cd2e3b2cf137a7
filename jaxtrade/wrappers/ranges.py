"""What `Randomization` may draw from, checked when it is made."""

from __future__ import annotations

import dataclasses
import warnings
from numbers import Integral
from typing import Any, Self

import numpy as np

from jaxtrade.envs.config import TradingEnvConfig, is_number
from jaxtrade.market.market import Market
from jaxtrade.market.times import format_time, instant
from jaxtrade.wrappers.joining import Spans

Range = tuple[float, float]

# Parameter -> field of the configuration that has its rules.
_FIELDS = {
    "fee": "transaction_fee",
    "half_spread": "half_spread",
    "slippage": "slippage",
    "leverage": "leverage",
}


def checked(ranges: dict[str, Range | None], config: TradingEnvConfig) -> dict[str, Range]:
    """The ranges that are given, once every value in them is legal for the configuration.

    Raises:
      ValueError: a range is none, leverage would reach or vary in spot, or what the configuration
        says about the values.
    """
    found: dict[str, Range] = {}
    for name, pair in ranges.items():
        if pair is None:
            continue
        given = isinstance(pair, tuple | list) and len(pair) == 2 and all(map(is_number, pair))
        if not given or pair[0] > pair[1]:
            raise ValueError(f"{name}: must be a pair (low, high) with low <= high; got {pair!r}.")
        found[name] = float(pair[0]), float(pair[1])
    leverage = found.get("leverage")
    if leverage is not None and config.spot:
        raise ValueError(
            "leverage: cannot vary in an environment of spot; configure a leverage above 1."
        )
    if leverage is not None and leverage[0] <= 1:
        raise ValueError(f"leverage: must stay above 1, which would be spot; got {leverage}.")
    # Costs matter at their highest (and must not be negative), leverage at both ends.
    corners = ((0, 0), (1, 0), (1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the environment's own configuration has warned
        for cost, lever in corners:
            values: dict[str, Any] = {
                _FIELDS[name]: pair[lever if name == "leverage" else cost]
                for name, pair in found.items()
            }
            dataclasses.replace(config, **values)
    return found


@dataclasses.dataclass(frozen=True)
class StartRange:
    """Where episodes may start, both ends included.

    Attributes:
      low, high: bar numbers, or ns since 1970-01-01 UTC of the START of bars.
      of_times: which of them.
    """

    low: int
    high: int
    of_times: bool

    @classmethod
    def parse(cls, start: Any) -> Self:
        """A range from a pair of whole numbers (bars) or of pandas-readable times.

        Raises:
          ValueError: it is neither, or not in order.
        """
        is_pair = isinstance(start, tuple | list) and len(start) == 2
        pair: Any = start if is_pair else (None, 0)
        bars = [isinstance(one, Integral) and not isinstance(one, bool) for one in pair]
        if all(bars):
            found = cls(int(pair[0]), int(pair[1]), of_times=False)
        elif not any(bars):
            found = cls(instant(pair[0]), instant(pair[1]), of_times=True)
        else:
            raise ValueError(f"start: must be a pair of bars or of times; got {start!r}.")
        if found.low > found.high or (not found.of_times and found.low < 0):
            raise ValueError(f"start: must be a pair in order, bars from 0 on; got {start!r}.")
        return found

    def bars(self, market: Market, spans: Spans, *, strict: bool = False) -> np.ndarray:
        """First and last bar at which episodes may start, int32 [K, 2], one row per market.

        Args:
          market: host market. spans: what of it is which market.
          strict: a market that has no such bar is an error; else it is used whole.
        """
        times = market.bar_time
        rows = []
        places = zip(spans.begin, spans.first, spans.last, strict=True)
        for k, (begin, first, last) in enumerate(places):
            low, high = int(begin) + self.low, int(begin) + self.high
            if self.of_times:
                own = times[begin : last + 1]
                low = int(begin) + int(np.searchsorted(own, self.low, side="left"))
                high = int(begin) + int(np.searchsorted(own, self.high, side="right")) - 1
            # An episode needs one bar more.
            low, high = max(low, int(first)), min(high, int(last) - 1)
            if low > high and strict:
                raise ValueError(
                    f"start: market {k} has no bar in this range that an episode may start at; it "
                    f"has bars {first - begin} ({format_time(times[first])}) to "
                    f"{last - 1 - begin} ({format_time(times[last - 1])})."
                )
            rows.append((low, high) if low <= high else (int(first), int(last) - 1))
        return np.array(rows, np.int32)
