"""Feature tables of a venue's bars, by the functions that make them offline, and their checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxtrade.market import bars as market_bars
from jaxtrade.market import features as market_features
from jaxtrade.market.spec import MarketSpec
from jaxtrade.timeframe import TimeFrame
from live.observation.bars import duration_ms, newest_rows
from live.types import Bars

_MINUTES_PER_DAY = 1440
_MS_PER_MINUTE = 60_000
_MEMORY_TOLERANCE = 1e-6
_SYNTHETIC_START_MS = 1_704_067_200_000  # 2024-01-01


def synthetic_bars(frame: TimeFrame, count: int) -> Bars:
    """Made-up bars of a calm random walk, the same every time, to try a feature function on."""
    generator = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 1e-3, count)))
    opening = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opening, close) * (1 + generator.uniform(0, 1e-3, count))
    low = np.minimum(opening, close) * (1 - generator.uniform(0, 1e-3, count))
    volume = generator.uniform(1, 10, count)
    times = _SYNTHETIC_START_MS + duration_ms(frame) * np.arange(count, dtype=np.int64)
    return Bars(frame.name, times, np.stack([opening, high, low, close, volume], axis=1))


def table_of(features: Any, bars: Bars, frame: TimeFrame) -> market_features.FeatureTable:
    """The feature table of some bars, by the function that makes it offline."""
    return market_features.compute(features, _market_bars(bars, frame), dict, None)


def _market_bars(bars: Bars, frame: TimeFrame) -> market_bars.Bars:
    start = bars.open_time_ms // _MS_PER_MINUTE
    origin = int(start[0]) // _MINUTES_PER_DAY * _MINUTES_PER_DAY if len(start) else 0
    columns = {
        # Contiguous, as offline, so that the same instructions compute the same bits.
        name: np.ascontiguousarray(bars.ohlcv[:, i])
        for i, name in enumerate(market_features.OHLCV_COLUMNS)
    }
    bins = (start - origin) // frame.minutes
    return market_bars.Bars(frame, origin, bins, columns, None, np.arange(len(bins)))


def check_columns(spec: MarketSpec, features: tuple[Any, ...], lookback: int) -> None:
    """Refuse features that give other columns than the specification names.

    Raises:
      ValueError: naming the frame.
    """
    if len(features) != len(spec.time_frames):
        raise ValueError(f"features: {len(features)} sets for {len(spec.time_frames)} frames.")
    for i, (frame, one) in enumerate(zip(spec.time_frames, features, strict=True)):
        rows = spec.window_sizes[i] + lookback
        columns = table_of(one, synthetic_bars(frame, rows), frame).columns
        if columns != spec.feature_columns[i]:
            raise ValueError(
                f"features of {frame.name}: the function gives {columns}, expected "
                f"{spec.feature_columns[i]}."
            )


def check_memory(spec: MarketSpec, place: int, features: Any, history: Bars, lookback: int) -> None:
    """Refuse features whose window depends on more than ``lookback`` rows before it.

    Args:
      place: of the frame in ``spec``. history: much longer than window and look-back.

    Raises:
      ValueError: naming the frame and the column.
    """
    frame, size = spec.time_frames[place], spec.window_sizes[place]
    whole = table_of(features, history, frame).values[-size:]
    part = table_of(features, newest_rows(history, size + lookback), frame).values[-size:]
    if whole.shape == part.shape:
        far = ~np.isclose(part, whole, rtol=_MEMORY_TOLERANCE, atol=_MEMORY_TOLERANCE)
        if not far.any():
            return
        columns = spec.feature_columns[place][int(far.any(axis=0).argmax())]
    else:
        columns = "its rows"
    raise ValueError(
        f"features of {frame.name}: {columns} depends on more than {lookback} rows before the "
        "window; raise feature_lookback to what it needs."
    )
