"""Bundled samples and synthetic minutes."""

from __future__ import annotations

import hashlib
import re
import warnings
from importlib import resources
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from jaxtrade.market import datasets, synthetic
from jaxtrade.market.market import Market
from tests.market.builders import PRICES, minutes


def checksum(frame: pd.DataFrame) -> str:
    values = frame.assign(timestamp=frame["timestamp"].astype("datetime64[s]").astype("int64"))
    columns = [np.ascontiguousarray(values[name].to_numpy(), "<f8") for name in values]
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "rows", "first", "last", "expected"),
    [
        ("eurusd_1h", 6225, "2017-01-01 22:00", "2017-12-29 21:00", "e19e4eccf092dae0"),
        ("googl_1d", 2335, "2009-05-22", "2018-08-29", "951feddc030020e9"),
    ],
)
def test_bundled_samples(name: str, rows: int, first: str, last: str, expected: str) -> None:
    frame = datasets.load(name)
    assert list(frame.columns) == ["timestamp", *PRICES, "volume"]
    assert len(frame) == rows
    assert frame["timestamp"].iloc[[0, -1]].tolist() == [pd.Timestamp(first), pd.Timestamp(last)]
    assert checksum(frame) == expected
    length = "1hour" if name.endswith("1h") else "1day"
    with pytest.warns(UserWarning, match="data gaps"):
        market = Market.from_frame(frame, time_frames=length, execute_on=length)
    assert market.features[0].shape[0] == 10 + rows


def test_first_rows_of_the_samples() -> None:
    """Written off the source: nothing shifted on the way through the integer files."""
    euro, alphabet = datasets.load("eurusd_1h"), datasets.load("googl_1d")
    assert euro.iloc[1, 1:].tolist() == [1.05227, 1.05426, 1.05226, 1.05282, 253139999.4]
    assert euro.iloc[-1, 1:5].tolist() == [1.19984, 1.2013, 1.19931, 1.20075]
    assert alphabet.iloc[1, 1:].tolist() == [196.171173, 202.702698, 195.19519, 202.382385, 6202700]


def test_samples_are_small_and_explained() -> None:
    folder = resources.files("jaxtrade.market") / "data"
    for path in folder.iterdir():
        if path.name.endswith(".npz"):
            assert len(path.read_bytes()) < 300_000
            assert path.name in (folder / "README.md").read_text()
    assert set(datasets.names()) == {"eurusd_1h", "googl_1d"}


def test_each_load_is_a_fresh_frame() -> None:
    frame = datasets.load("googl_1d")
    frame["close"] = 0.0
    assert (datasets.load("googl_1d")["close"] > 0).all()


def test_unknown_sample() -> None:
    text = "dataset: unknown 'eurusd'; did you mean 'eurusd_1h'? Known: eurusd_1h, googl_1d."
    with pytest.raises(ValueError, match=re.escape(text)):
        datasets.load("eurusd")
    with pytest.raises(ValueError, match="unknown"):
        datasets.load("x" * 10_000)


def test_read_gives_the_frame_of_a_file(tmp_path: Path) -> None:
    frame = minutes(10)
    frame.to_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_frame_equal(datasets.read(tmp_path / "rows.parquet"), frame)


def test_synthetic_minutes_are_valid() -> None:
    frame = synthetic.minutes(7, 5000, start="2023-03-01 00:07", price=0.5, tick=1e-4)
    assert list(frame.columns) == ["timestamp", *PRICES, "volume"]
    assert frame["timestamp"].iloc[0] == pd.Timestamp("2023-03-01 00:07")
    assert (frame["timestamp"].diff().dropna() == pd.Timedelta("1min")).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        market = Market.from_frame(frame, time_frames=["1min", "7min"], execute_on="5min")
    assert np.isfinite(market.features[0]).all()
    np.testing.assert_array_equal(frame["open"].to_numpy()[1:], frame["close"].to_numpy()[:-1])
    for column in PRICES:
        ticks = frame[column] * 1e4
        np.testing.assert_allclose(ticks, ticks.round(), atol=1e-6)


def test_synthetic_minutes_follow_the_key() -> None:
    one = synthetic.minutes(3, 500)
    pd.testing.assert_frame_equal(one, synthetic.minutes(3, 500))
    assert not one["close"].equals(synthetic.minutes(4, 500)["close"])
    key = jax.random.key(3)
    keyed = synthetic.minutes(key, 500)
    pd.testing.assert_frame_equal(keyed, synthetic.minutes(jax.random.PRNGKey(3), 500))
    pd.testing.assert_frame_equal(keyed, synthetic.minutes(jax.random.key(3), 500))
    assert not keyed["close"].equals(one["close"])
    other = synthetic.minutes(jax.random.split(key)[0], 500)
    assert not keyed["close"].equals(other["close"])


def test_synthetic_minutes_leave_global_state_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    synthetic.minutes(0, 100)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_synthetic_volatility_switches() -> None:
    frame = synthetic.minutes(0, 100_000, tick=1e-6)
    change = np.log(frame["close"]).diff().dropna()
    hourly = change.groupby(np.arange(len(change)) // 60).std()
    # A constant volatility would stay within a few percent of 10 % per hour of 60 returns.
    assert hourly.quantile(0.95) / hourly.quantile(0.05) > 3
    assert change.kurt() > 3
    assert abs(change.autocorr()) < 0.02
    assert abs(change).autocorr() > 0.1
    # Mean range of a Brownian minute with independent wicks lies between 1.2 and 1.7 deviations.
    reach = np.log(frame["high"] / frame["low"]).mean() / change.abs().mean()
    assert 1.6 < reach < 2.1


def test_synthetic_messages() -> None:
    for rows in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="rows: must be a whole number >= 1"):
            synthetic.minutes(0, rows)  # type: ignore[arg-type]
    for name in ("price", "volatility", "tick"):
        with pytest.raises(ValueError, match=f"{name}: must be a finite number > 0"):
            synthetic.minutes(0, 10, **{name: 0.0})
    for key in (-1, 1.5, "seed", np.zeros((2, 2), np.uint32)):
        with pytest.raises(ValueError, match="key: "):
            synthetic.minutes(key, 10)
