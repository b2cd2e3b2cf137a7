"""What a market is made of, and the sizes of its windows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from jaxtrade.timeframe import TimeFrame, short_repr


@dataclasses.dataclass(frozen=True)
class MarketSpec:
    """What a market is made of; static and hashable.

    Attributes:
      time_frames: observation frames, in observation order.
      window_sizes: rows per window, one per frame.
      execute_on: length of the execution bars.
      feature_columns: per frame, names of the feature columns in order.
      feature_names: per frame ``"default"``, ``"ohlcv"`` or ``"module:qualname"``.
      fit_until: ns since 1970-01-01 UTC up to which fitted features saw data; None when none is
        fitted.
      feature_lookback: rows before a window that its features depend on, if the functions say so.
    """

    time_frames: tuple[TimeFrame, ...]
    window_sizes: tuple[int, ...]
    execute_on: TimeFrame
    feature_columns: tuple[tuple[str, ...], ...]
    feature_names: tuple[str, ...]
    fit_until: int | None = None
    feature_lookback: int | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Observation keys, ``market_data_{canonical frame}``."""
        return tuple(f"market_data_{frame.name}" for frame in self.time_frames)

    @property
    def feature_hash(self) -> str:
        """SHA-256 hex of frames, windows, execution frame, feature columns and set names.

        Two markets with one hash feed a policy the same columns in the same places.
        """
        text = json.dumps(
            {
                "time_frames": [frame.name for frame in self.time_frames],
                "window_sizes": self.window_sizes,
                "execute_on": self.execute_on.name,
                "feature_columns": self.feature_columns,
                "feature_names": self.feature_names,
            },
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()


def parse_window_sizes(window_sizes: Any, frames: int) -> tuple[int, ...]:
    """One window size per time frame; a single number serves all.

    Raises:
      ValueError: a size is not a whole number >= 1, or their number does not match.
    """
    if isinstance(window_sizes, (list, tuple, np.ndarray)):
        given = list(window_sizes)
    else:
        given = [window_sizes] * frames
    if not all(is_whole(size) and size >= 1 for size in given):
        raise ValueError(
            f"window_sizes: must be whole numbers >= 1; got {short_repr(window_sizes)}."
        )
    if len(given) != frames:
        raise ValueError(
            f"window_sizes: {len(given)} sizes for {frames} time frames; give one size or {frames}."
        )
    return tuple(int(size) for size in given)


def is_whole(value: Any) -> bool:
    """Whether a value is an integer of Python or NumPy; a bool is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
