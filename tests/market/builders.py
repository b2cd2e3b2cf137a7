"""Frames for the market tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

PRICES = ["open", "high", "low", "close"]

DEFAULT = SimpleNamespace(nan_prices="error", partial_bars="drop")
REPAIR = SimpleNamespace(nan_prices="repair", partial_bars="drop")
KEEP = SimpleNamespace(nan_prices="error", partial_bars="keep")
REFERENCE = SimpleNamespace(nan_prices="repair", partial_bars="keep")


def minutes(
    rows: int, start: str = "2024-01-01", seed: int = 0, step: str = "1min"
) -> pd.DataFrame:
    """Valid rows of a random walk, all different."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 1e-3, rows)))
    open_ = np.concatenate([[100.0], close[:-1]])
    return pd.DataFrame(
        {
            "timestamp": pd.date_range(start, periods=rows, freq=step),
            "open": open_,
            "high": np.maximum(open_, close) * (1 + generator.uniform(0, 1e-3, rows)),
            "low": np.minimum(open_, close) * (1 - generator.uniform(0, 1e-3, rows)),
            "close": close,
            "volume": generator.uniform(0, 10, rows),
        }
    )


def rows_of(start: str, rows: list[Any], step: str = "1min") -> pd.DataFrame:
    """A frame of (open, high, low, close, volume) tuples; None leaves a row out."""
    times = pd.date_range(start, periods=len(rows), freq=step)
    kept = [(time, *row) for time, row in zip(times, rows, strict=True) if row is not None]
    return pd.DataFrame(kept, columns=["timestamp", *PRICES, "volume"])


def starts(market: Any) -> list[str]:
    """START of the execution bars as HH:MM."""
    stamps = pd.to_datetime(np.asarray(market.open_minute, np.int64) * 60, unit="s")
    return list(stamps.strftime("%H:%M"))
