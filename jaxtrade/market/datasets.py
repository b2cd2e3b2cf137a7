"""Price data to start with: bundled samples and the user's files."""

from __future__ import annotations

import dataclasses
import difflib
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from jaxtrade.market.frame import load as read

__all__ = ["load", "names", "read"]


@dataclasses.dataclass(frozen=True)
class _Sample:
    file: str
    description: str


_SAMPLES = {
    "eurusd_1h": _Sample("eurusd_1h.npz", "EUR/USD ask, 1 hour, 2017, UTC, weekends absent"),
    "googl_1d": _Sample("googl_1d.npz", "GOOGL, 1 day, 2009-05-22 to 2018-08-29, split-adjusted"),
}


def names() -> dict[str, str]:
    """Bundled samples: name -> one line of description."""
    return {name: sample.description for name, sample in _SAMPLES.items()}


def load(name: str) -> pd.DataFrame:
    """A bundled sample: timestamp (START, UTC), open, high, low, close, volume.

    Provenance and licence: ``jaxtrade/market/data/README.md``.

    Raises:
      ValueError: no sample has this name.
    """
    if name not in _SAMPLES:
        nearest = difflib.get_close_matches(str(name), _SAMPLES, n=1, cutoff=0.0)
        raise ValueError(
            f"dataset: unknown {str(name)[:80]!r}; did you mean {nearest[0]!r}? "
            f"Known: {', '.join(_SAMPLES)}. Files are read by datasets.read(path)."
        )
    source = resources.files("jaxtrade.market") / "data" / _SAMPLES[name].file
    with source.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return _decode(archive)


def _decode(archive: Any) -> pd.DataFrame:
    """Undo the integer packing described in the README of the data folder."""
    minutes = np.cumsum(archive["minute_steps"].astype(np.int64))
    columns: dict[str, Any] = {"timestamp": (minutes * 60).astype("datetime64[s]")}
    close = np.cumsum(archive["close_steps"].astype(np.int64))
    # Opens step from the close before; highs and lows from open and close of their own bar.
    open_ = np.concatenate([[0], close[:-1]]) + archive["open_steps"]
    ticks = {
        "open": open_,
        "high": np.maximum(open_, close) + archive["high_steps"],
        "low": np.minimum(open_, close) - archive["low_steps"],
        "close": close,
    }
    for column, values in ticks.items():
        columns[column] = values / float(archive["ticks_per_unit"])
    columns["volume"] = archive["volume_units"] / float(archive["units_per_volume"])
    return pd.DataFrame(columns)
