"""The bars a replay runs over: built by `jaxtrade.market`, cut by nothing but time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxtrade.core.rules import Rules
from jaxtrade.market import bars as market_bars
from jaxtrade.market import frame as market_frame
from jaxtrade.market.features import OHLCV_COLUMNS
from jaxtrade.market.market import Market
from jaxtrade.market.spec import MarketSpec
from live.observation.bars import duration_ms, newest_rows, when
from live.types import Bars

_MS_PER_MINUTE = 60_000
_DEFAULT_RULES = Rules()


@dataclasses.dataclass(frozen=True, slots=True)
class BarRecord:
    """What passing one bar did; prices NaN and money 0 where nothing happened.

    Attributes:
      open_ms: START of the bar. exit_kind: of `jaxtrade.core.exits`. funding: paid.
      equity: at its close.
    """

    open_ms: int
    exit_kind: int
    exit_price: float
    exit_fee: float
    funding: float
    equity: float


@dataclasses.dataclass(frozen=True, eq=False)
class ReplayData:
    """Execution bars with their funding, and the bars of every observed frame.

    Attributes:
      execution: every execution bar, gaps repaired as offline.
      funding: [T] float64 rate of each execution bar, 0 where the data has none.
      frames: canonical name -> the bars that exist, nothing filled in.
      first, last: numbers of the first bar with full windows and of the last bar.
      spec: of the market that a policy was trained on.
    """

    execution: Bars
    funding: np.ndarray
    frames: Mapping[str, Bars]
    first: int
    last: int
    spec: MarketSpec

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        time_frames: Any = "1Hour",
        window_sizes: Any = 10,
        execute_on: Any = "1Hour",
        features: Any = "default",
        rules: Rules = _DEFAULT_RULES,
    ) -> ReplayData:
        """Read a frame or file as `jaxtrade.Market.from_frame` does, with the same arguments.

        Raises:
          ValueError: the frame or an argument is wrong.
        """
        source = market_frame.load(frame)
        market = Market.from_frame(
            source,
            time_frames=time_frames,
            window_sizes=window_sizes,
            execute_on=execute_on,
            features=features,
            rules=rules,
        )
        spec = market.spec
        rows = market_frame.read(source, rules.nan_prices)
        execution = Bars(
            spec.execute_on.name,
            np.asarray(market.open_minute, np.int64) * _MS_PER_MINUTE,
            np.asarray(market.ohlcv, np.float64),
        )
        observed = {spec.execute_on.name: execution}
        for one in spec.time_frames:
            bars = market_bars.observed(market_bars.aggregate(rows, one, rules.partial_bars))
            columns = [bars.columns[name] for name in OHLCV_COLUMNS]
            observed[one.name] = Bars(
                one.name, bars.start_minute * _MS_PER_MINUTE, np.stack(columns, axis=1)
            )
        funding = np.zeros(market.num_bars) if market.funding is None else market.funding
        return cls(
            execution=execution,
            funding=np.asarray(funding, np.float64),
            frames=MappingProxyType(observed),
            first=int(market.first),
            last=int(market.last),
            spec=spec,
        )

    @property
    def bar_ms(self) -> int:
        """Length of an execution bar in milliseconds."""
        return duration_ms(self.spec.execute_on)

    def open_ms(self, bar: int) -> int:
        """START of an execution bar."""
        return int(self.execution.open_time_ms[bar])

    def bar_at(self, open_ms: int) -> int:
        """Number of the execution bar with this START.

        Raises:
          ValueError: none starts then, its windows are not full, or no bar follows.
        """
        bar = int(np.searchsorted(self.execution.open_time_ms, open_ms))
        if bar > self.last or self.open_ms(bar) != open_ms or not self.first <= bar < self.last:
            raise ValueError(
                f"start: no usable bar of {self.spec.execute_on.name} starts at {when(open_ms)}; "
                f"they start from {when(self.open_ms(self.first))} to "
                f"{when(self.open_ms(self.last - 1))} UTC."
            )
        return bar

    def closed(self, frame: str, until_ms: int, count: int) -> Bars:
        """The newest ``count`` bars of a frame that have ended by ``until_ms``.

        Raises:
          ValueError: the frame is not part of the data.
        """
        if frame not in self.frames:
            known = ", ".join(self.frames)
            raise ValueError(f"time frame {frame}: the replay holds {known}; add it there.")
        bars = self.frames[frame]
        length = self.bar_ms
        if frame != self.execution.frame:
            length = duration_ms(next(f for f in self.spec.time_frames if f.name == frame))
        ended = int(np.searchsorted(bars.open_time_ms, until_ms - length, side="right"))
        cut = Bars(frame, bars.open_time_ms[:ended], bars.ohlcv[:ended])
        kept = newest_rows(cut, count)
        # Copies: a reader may not write into the data.
        return Bars(frame, kept.open_time_ms.copy(), kept.ohlcv.copy())
