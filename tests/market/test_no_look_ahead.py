"""Nothing visible at a decision depends on rows that end after it."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from jaxtrade.market.market import Market
from tests.market.builders import PRICES, minutes

FRAMES = [1, 2, 3, 5, 7, 11, 15, 60]


def smooth(bars: pd.DataFrame) -> pd.DataFrame:
    """Warm-up rows, an auxiliary column and an expanding statistic: all causal."""
    out = pd.DataFrame(
        {
            "feature_mean": bars["close"].rolling(3).mean(),
            "feature_aux": bars["interest"],
            "feature_rank": bars["close"] / bars["high"].expanding().max(),
        }
    )
    return out.dropna()


def gappy(seed: int, holes: float, missing: float) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    start = pd.Timestamp("2024-01-01") + pd.Timedelta(minutes=int(generator.integers(0, 1440)))
    frame = minutes(500, str(start), seed)
    frame["funding"] = generator.normal(0, 1e-4, len(frame))
    frame["interest"] = np.where(generator.random(len(frame)) < 0.5, np.nan, frame["volume"])
    for column in (*PRICES, "volume"):
        frame.loc[generator.random(len(frame)) < missing, column] = np.nan
    # Singles and a run of holes.
    keep = generator.random(len(frame)) >= holes
    if holes:
        at = int(generator.integers(100, 400))
        keep[at : at + 40] = False
    keep[[0, 1, 2, -1]] = True
    return frame[keep].reset_index(drop=True)


def other_future(frame: pd.DataFrame, instant: pd.Timestamp, seed: int) -> pd.DataFrame:
    """The same rows, but everything in rows that end after ``instant`` is different."""
    generator = np.random.default_rng(seed + 1)
    later = frame["timestamp"] + pd.Timedelta("1min") > instant
    changed = frame.copy()
    scale = np.exp(generator.normal(0, 1, later.sum()))
    for column in PRICES:
        changed.loc[later, column] = frame.loc[later, column] * scale
    for column in ("volume", "funding", "interest"):
        changed.loc[later, column] = generator.random(later.sum())
    return changed


def assert_same_past(one: Market, two: Market, n: int) -> None:
    """Everything up to the decision after bar n is bit-identical."""
    np.testing.assert_array_equal(one.open_minute[: n + 1], two.open_minute[: n + 1])
    np.testing.assert_array_equal(one.ohlcv[: n + 1], two.ohlcv[: n + 1])
    np.testing.assert_array_equal(one.funding[: n + 1], two.funding[: n + 1])
    np.testing.assert_array_equal(one.newest[: n + 1], two.newest[: n + 1])
    for i, size in enumerate(one.spec.window_sizes):
        count = size + int(one.newest[n, i]) + 1
        np.testing.assert_array_equal(one.features[i][:count], two.features[i][:count])
    assert (int(one.first) <= n) == (int(two.first) <= n)
    if int(one.first) <= n:
        assert int(one.first) == int(two.first)


CASE = {
    "seed": st.integers(0, 2**31),
    "frames": st.lists(st.sampled_from(FRAMES), min_size=1, max_size=3, unique=True),
    "execute_on": st.sampled_from([1, 3, 5, 7, 15]),
    "features": st.sampled_from(["default", "ohlcv", smooth]),
    "holes": st.sampled_from([0.0, 0.2]),
    "missing": st.sampled_from([0.0, 0.05]),
    "at": st.floats(0, 1),
}


def build(frame: pd.DataFrame, case: dict[str, Any], partial_bars: str) -> Market:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Market.from_frame(
            frame,
            time_frames=[(minutes_, "min") for minutes_ in case["frames"]],
            window_sizes=2,
            execute_on=(case["execute_on"], "min"),
            features=case["features"],
            rules=SimpleNamespace(nan_prices="repair", partial_bars=partial_bars),
        )


def decision(market: Market, at: float) -> tuple[int, pd.Timestamp]:
    n = int(at * (market.num_bars - 1))
    end = int(market.open_minute[n]) + market.spec.execute_on.minutes
    return n, pd.Timestamp(end * 60, unit="s")


@given(st.fixed_dictionaries(CASE), st.sampled_from(["drop", "keep"]))
def test_other_future_same_past(case: dict[str, Any], partial_bars: str) -> None:
    frame = gappy(case["seed"], case["holes"], case["missing"])
    market = build(frame, case, partial_bars)
    n, instant = decision(market, case["at"])
    changed = build(other_future(frame, instant, case["seed"]), case, partial_bars)
    assert_same_past(market, changed, n)
    later = market.ohlcv[n + 1 :, 3] != changed.ohlcv[n + 1 :, 3]
    assert n == market.num_bars - 1 or later.any()


@given(st.fixed_dictionaries(CASE))
def test_no_future_same_past(case: dict[str, Any]) -> None:
    """Rows that end later may as well not exist: what a live run would know."""
    frame = gappy(case["seed"], case["holes"], case["missing"])
    market = build(frame, case, "keep")
    n, instant = decision(market, 0.5 + case["at"] / 2)
    known = frame[frame["timestamp"] + pd.Timedelta("1min") <= instant]
    shorter = build(known, case, "keep")
    assert shorter.num_bars <= n + 1
    assert_same_past(market, shorter, shorter.num_bars - 1)


def test_the_check_can_fail() -> None:
    def whole_sample(bars: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"feature_z": bars["close"] - bars["close"].mean()})

    case = {"frames": [5], "execute_on": 5, "features": whole_sample}
    frame = gappy(3, 0.0, 0.0)
    market = build(frame, case, "keep")
    n, instant = decision(market, 0.5)
    changed = build(other_future(frame, instant, 3), case, "keep")
    try:
        assert_same_past(market, changed, n)
    except AssertionError:
        return
    raise RuntimeError("a feature of the whole sample went unnoticed")
