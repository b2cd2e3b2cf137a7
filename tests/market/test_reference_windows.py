"""Bars and windows equal the recorded reference trajectories bit for bit."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jaxtrade.market.market import Market
from jaxtrade.market.windows import windows
from jaxtrade.timeframe import TimeFrame

REFERENCE = Path(__file__).resolve().parents[2] / ".." / "shared" / "reference"
RULES = SimpleNamespace(nan_prices="repair", partial_bars="keep")

pytestmark = [
    pytest.mark.skipif(not REFERENCE.is_dir(), reason="../shared/reference is not there"),
    pytest.mark.filterwarnings("ignore:data gaps", "ignore:time frame"),
]

INDEX = json.loads((REFERENCE / "index.json").read_text()) if REFERENCE.is_dir() else {"runs": []}
RUNS = [run for run in INDEX["runs"] if run["config"]["env"] != "onestep"]


def market_of(config: dict) -> Market:
    with np.load(REFERENCE / INDEX["datasets"][config["dataset"]]) as archive:
        frame = pd.DataFrame({name: archive[name] for name in archive.files})
    # The recordings trade on float32 prices.
    prices = ["open", "high", "low", "close"]
    frame[prices] = frame[prices].astype(np.float32).astype(np.float64)
    return Market.from_frame(
        frame,
        time_frames=config["time_frames"],
        window_sizes=config["window_sizes"],
        execute_on=config["execute_on"],
        features="ohlcv",
        rules=RULES,
    )


def gather(market: Market, frame: int, bars: np.ndarray) -> np.ndarray:
    """[N, W, F] windows by NumPy; bars before the data give zero rows."""
    newest = np.where(bars < 0, -1, market.newest[np.maximum(bars, 0), frame])
    rows = newest[:, None] + 1 + np.arange(market.spec.window_sizes[frame])
    return market.features[frame][rows]


def test_all_recordings_are_here() -> None:
    assert len(RUNS) == 70


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["id"])
def test_windows_and_bars(run: dict) -> None:
    market = market_of(run["config"])
    spec = market.spec
    with np.load(REFERENCE / run["file"]) as record:
        minute = record["state_bar_time"] // 60_000_000_000
        bars = np.searchsorted(market.open_minute, minute)
        np.testing.assert_array_equal(market.open_minute[bars], minute)
        np.testing.assert_array_equal(
            market.ohlcv[bars].astype(np.float32), record["state_bar_ohlcv"]
        )
        for i, spelling in enumerate(run["config"]["time_frames"]):
            assert spec.time_frames[i] == TimeFrame.parse(spelling)
            # A coarser frame is recorded one execution bar late.
            late = spec.time_frames[i] > spec.execute_on
            ours = gather(market, i, bars - 1 if late else bars)
            head = record[f"obs_{spelling}_window"]
            np.testing.assert_array_equal(ours[: len(head)], head)
            ours = np.ascontiguousarray(ours, "<f4")
            checksums = [zlib.crc32(window.tobytes()) for window in ours]
            np.testing.assert_array_equal(
                np.array(checksums, np.uint32), record[f"obs_{spelling}_crc32"]
            )


def test_windows_function_gives_the_same_slices() -> None:
    import jax

    run = next(run for run in RUNS if len(run["config"]["time_frames"]) == 4)
    market = market_of(run["config"])
    bars = np.arange(0, market.num_bars, 7, dtype=np.int32)
    ours = jax.jit(jax.vmap(windows, in_axes=(None, 0)))(market.to_device(), bars)
    assert set(ours) == set(market.spec.keys)
    for i, key in enumerate(market.spec.keys):
        np.testing.assert_array_equal(np.asarray(ours[key]), gather(market, i, bars))
