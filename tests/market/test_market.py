"""The market: first usable bar, windows, ranges, stacks, devices and look-ups by time."""

from __future__ import annotations

import dataclasses
import doctest
import re
import subprocess
import sys
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrade import timeframe
from jaxtrade.market import market as market_module
from jaxtrade.market import synthetic
from jaxtrade.market.market import Market
from jaxtrade.market.stacking import stack
from jaxtrade.market.windows import windows
from tests.market.builders import minutes

OPTIONS: dict[str, Any] = {
    "time_frames": ["1min", "5min"],
    "window_sizes": [4, 3],
    "execute_on": "5min",
    "features": "ohlcv",
}


def build(frame: Any = None, **options: Any) -> Market:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Market.from_frame(minutes(600) if frame is None else frame, **{**OPTIONS, **options})


@pytest.mark.parametrize(
    ("time_frames", "window_sizes", "execute_on", "start", "newest"),
    [
        ("1m", 1, "1m", "2024-01-01 00:00", [0]),
        ("1m", 10, "1m", "2024-01-01 00:09", [9]),
        (["1m", "5m"], [10, 5], "1m", "2024-01-01 00:24", [24, 4]),
        (["1m", "5m", "15m"], [12, 8, 8], "5m", "2024-01-01 01:55", [119, 23, 7]),
        (["1m", "1h"], [12, 24], "15m", "2024-01-01 23:45", [1439, 23]),
        (["1m", "5m", "15m", "1h"], [12, 8, 8, 24], "5m", "2024-01-01 23:55", [1439, 287, 95, 23]),
        ("1h", 10, "1h", "2024-01-01 09:00", [9]),
    ],
)
def test_first_usable_bar_table(
    time_frames: Any, window_sizes: Any, execute_on: str, start: str, newest: list[int]
) -> None:
    market = build(
        minutes(3000), time_frames=time_frames, window_sizes=window_sizes, execute_on=execute_on
    )
    first = int(market.first)
    assert market.bar_at(start) == first
    assert list(market.newest[first]) == newest
    assert int(market.last) == market.num_bars - 1
    sizes = np.array(market.spec.window_sizes)
    assert first == 0 or (market.newest[first - 1] + 1 < sizes).any()


def test_first_usable_bar_counts_rows_not_time() -> None:
    frame = minutes(200).drop(index=range(3, 60))
    market = build(frame, time_frames="1min", window_sizes=10, execute_on="5min")
    assert market.bar_at("2024-01-01 01:05") == int(market.first)


def test_leaves_have_the_promised_types() -> None:
    market = build(minutes(600).assign(funding=1e-4))
    dtypes = {
        "ohlcv": np.float64,
        "newest": np.int32,
        "open_minute": np.int32,
        "funding": np.float64,
        "first": np.int32,
        "last": np.int32,
    }
    for name, dtype in dtypes.items():
        leaf = getattr(market, name)
        assert isinstance(leaf, np.ndarray)
        assert leaf.dtype == dtype, name
    assert all(table.dtype == np.float32 for table in market.features)
    assert market.ohlcv.shape == (120, 5)
    assert market.newest.shape == (120, 2)
    assert market.first.shape == market.last.shape == ()
    assert len(jax.tree.leaves(market)) == 8
    assert jax.tree.structure(market) == jax.tree.structure(build(minutes(99).assign(funding=0.0)))


def test_window_messages() -> None:
    for value in (0, -1, 2.5, "10", True, [4, 0], [4, None], None):
        with pytest.raises(ValueError) as error:
            build(window_sizes=value)
        assert str(error.value) == f"window_sizes: must be whole numbers >= 1; got {value!r}."
    with pytest.raises(ValueError) as error:
        build(window_sizes=[4, 3, 2])
    assert str(error.value) == "window_sizes: 3 sizes for 2 time frames; give one size or 2."
    assert build(window_sizes=3).spec.window_sizes == (3, 3)
    assert build(window_sizes=np.array([3, 4])).spec.window_sizes == (3, 4)


def test_feature_hash_depends_on_what_a_policy_sees() -> None:
    base = build()
    assert len(base.spec.feature_hash) == 64
    assert base.spec.feature_hash == build(minutes(700, seed=1)).spec.feature_hash
    others = [
        build(window_sizes=[4, 4]),
        build(time_frames=["5min", "1min"], window_sizes=[4, 3]),
        build(execute_on="1min"),
        build(features="default"),
        build(features=lambda bars: bars.rename(columns=lambda name: f"feature_{name}")),
    ]
    hashes = {market.spec.feature_hash for market in (base, *others)}
    assert len(hashes) == 6


def gather(market: Market, frame: int, bar: int) -> np.ndarray:
    size = market.spec.window_sizes[frame]
    end = market.newest[bar, frame]
    rows = np.arange(end - size + 1, end + 1)
    data = market.features[frame][size:]
    return np.where(rows[:, None] >= 0, data[np.maximum(rows, 0)], 0.0)


def test_windows_are_the_newest_rows_with_zero_rows_in_front() -> None:
    market = build(minutes(600).drop(index=range(0, 30, 2)), time_frames=["1min", "1hour", "7min"],
                   window_sizes=[12, 5, 3])  # fmt: skip
    device = market.to_device()
    every = jax.jit(jax.vmap(windows, in_axes=(None, 0)))(device, jnp.arange(market.num_bars))
    assert set(every) == set(market.spec.keys)
    for i, key in enumerate(market.spec.keys):
        expected = np.stack([gather(market, i, bar) for bar in range(market.num_bars)])
        np.testing.assert_array_equal(every[key], expected)
        assert every[key].dtype == jnp.float32
    one = jax.jit(windows)(device, 0)
    assert one["market_data_1Hour"].shape == (5, 5)
    assert not one["market_data_1Hour"].any()
    assert tuple(windows(device, jnp.int32(3))) == market.spec.keys


def test_to_device() -> None:
    market = build(minutes(600).assign(funding=1e-4))
    device = market.to_device()
    assert device.ohlcv.dtype == device.funding.dtype == jnp.float32
    with jax.enable_x64(True):
        wide = market.to_device()
        assert wide.ohlcv.dtype == wide.funding.dtype == jnp.float64
        np.testing.assert_array_equal(wide.ohlcv, market.ohlcv)
        assert market.to_device(jnp.float32).ohlcv.dtype == jnp.float32
        leaves = (*wide.features, wide.newest, wide.open_minute, wide.first, wide.last)
        assert {leaf.dtype.name for leaf in leaves} == {"float32", "int32"}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(device))
    assert all(not leaf.weak_type for leaf in jax.tree.leaves(device))
    assert device.spec is market.spec
    assert build().to_device().funding is None


def test_bar_at() -> None:
    market = build(minutes(600, "2024-01-01 02:00"))
    ns = pd.Timestamp("2024-01-01 02:10").value
    for when in ("2024-01-01 02:10", ns, np.int64(ns), pd.Timestamp("2024-01-01 04:10+02:00")):
        assert market.bar_at(when) == 2
    assert market.to_device().bar_at(ns) == 2
    assert market.bar_at(int(market.open_minute[-1]) * 60_000_000_000) == 119
    for when in ("2024-01-01 02:11", ns + 1, "2024-01-01 01:55", "2024-01-01 12:00", 2**63 - 1):
        with pytest.raises(ValueError, match="no bar of 5Minute starts then") as error:
            market.bar_at(when)
        assert "from 2024-01-01 02:00:00 to 2024-01-01 11:55:00." in str(error.value)


def decisions(market: Market) -> range:
    return range(int(market.first), int(market.last))


def test_split_on_the_grid_shares_tables_and_no_decision() -> None:
    market = build()
    train, validation, test = market.split("2024-01-01 04:00", "2024-01-01 07:30")
    for part in (train, validation, test):
        assert part.ohlcv is market.ohlcv
        assert part.features[0] is market.features[0]
        assert part.newest is market.newest
        assert part.spec is market.spec
    covered = [n for part in (train, validation, test) for n in decisions(part)]
    assert covered == list(decisions(market))
    # Decided at 04:00 means: bar 03:55 is the newest; it is also the last bar of training.
    assert int(validation.first) == int(train.last) == market.bar_at("2024-01-01 03:55")
    assert int(test.first) == int(validation.last) == market.bar_at("2024-01-01 07:25")


@given(st.lists(st.integers(40, 560), min_size=1, max_size=3, unique=True), st.integers(0, 3))
def test_split_ranges(offsets: list[int], embargo: int) -> None:
    market = build()
    begin = pd.Timestamp("2024-01-01")
    dates = [begin + pd.Timedelta(minutes=offset) for offset in sorted(offsets)]
    if min(np.diff([0, *sorted(offsets), 600])) < 5 * (embargo + 3):
        return  # may be too narrow for a transition; see test_split_messages
    parts = market.split(*dates, embargo_bars=embargo)
    assert len(parts) == len(dates) + 1
    edges = [pd.Timestamp.min, *dates, pd.Timestamp.max]
    ends = pd.to_datetime((np.asarray(market.open_minute, np.int64) + 5) * 60, unit="s")
    seen: set[int] = set()
    for j, part in enumerate(parts):
        assert int(part.first) < int(part.last)
        assert all(edges[j] <= ends[n] < edges[j + 1] for n in decisions(part))
        assert ends[int(part.last)] <= edges[j + 1]
        assert seen.isdisjoint(decisions(part))
        seen |= set(decisions(part))
    # Lost are the embargo and, for a date off the grid, the bar that straddles it.
    lost = [n for n in decisions(market) if n not in seen]
    assert len(lost) <= len(dates) * (embargo + 1)
    if not embargo and all(offset % 5 == 0 for offset in offsets):
        assert not lost


def test_split_again() -> None:
    market = build()
    train, rest = market.split("2024-01-01 04:00")
    validation, test = rest.split("2024-01-01 07:30")
    again = market.split("2024-01-01 04:00", "2024-01-01 07:30")
    for one, two in zip((train, validation, test), again, strict=True):
        assert (int(one.first), int(one.last)) == (int(two.first), int(two.last))


def test_split_embargo_and_device() -> None:
    market = build()
    plain = market.split("2024-01-01 04:00")
    gapped = market.to_device().split("2024-01-01 04:00", embargo_bars=6)
    assert int(gapped[0].last) == int(plain[0].last)
    assert int(gapped[1].first) == int(plain[1].first) + 6
    assert market.split() != ()


def test_split_messages() -> None:
    market = build()
    with pytest.raises(ValueError, match="split: dates must increase; got"):
        market.split("2024-01-01 07:00", "2024-01-01 04:00")
    with pytest.raises(ValueError, match=re.escape("range 0 (from the start to 2023-")):
        market.split("2023-01-01")
    with pytest.raises(ValueError, match=re.escape("00:00:00 to the end) has no transition")):
        market.split("2025-01-01")
    with pytest.raises(ValueError, match="time: expected a date"):
        market.split("soon")
    for value in (-1, 1.5, True):
        with pytest.raises(ValueError, match="embargo_bars: must be a whole number >= 0"):
            market.split("2024-01-01 04:00", embargo_bars=value)
    with pytest.raises(ValueError, match="split: works on one market"):
        stack([market]).split("2024-01-01 04:00")
    with pytest.raises(ValueError, match="bar_at: works on one market"):
        stack([market]).bar_at("2024-01-01 04:00")


def test_stack_pads_to_one_length() -> None:
    markets = [
        build(minutes(600)),
        build(minutes(300, "2023-06-01 12:00", seed=1).assign(funding=1e-4)),
        build(minutes(450, seed=2).drop(index=range(100, 130))),
    ]
    many = stack(markets)
    assert many.spec == markets[0].spec
    assert many.num_bars == 120
    assert {leaf.shape[0] for leaf in jax.tree.leaves(many)} == {3}
    assert np.isfinite(many.ohlcv).all()
    assert (many.ohlcv[..., :4] > 0).all()
    for k, market in enumerate(markets):
        lane = jax.tree.map(lambda leaf, k=k: leaf[k], many)
        bars, rows = market.num_bars, [len(table) for table in market.features]
        np.testing.assert_array_equal(lane.ohlcv[:bars], market.ohlcv)
        np.testing.assert_array_equal(lane.newest[:bars], market.newest)
        np.testing.assert_array_equal(lane.open_minute[:bars], market.open_minute)
        assert (int(lane.first), int(lane.last)) == (int(market.first), int(market.last))
        for ours, table, count in zip(lane.features, market.features, rows, strict=True):
            np.testing.assert_array_equal(ours[:count], table)
        expected = np.zeros(bars) if market.funding is None else market.funding
        np.testing.assert_array_equal(lane.funding[:bars], expected)
    assert [leaf.dtype for leaf in jax.tree.leaves(many)] == [
        leaf.dtype for leaf in jax.tree.leaves(markets[1])
    ]


def test_stacked_windows_are_those_of_each_market() -> None:
    markets = [build(minutes(600)), build(minutes(300, seed=1))]
    many = stack([market.to_device() for market in markets]).to_device()
    bars = jnp.array([[5, 59], [5, 59]])
    stacked = jax.vmap(jax.vmap(windows, in_axes=(None, 0)))(many, bars)
    for k, market in enumerate(markets):
        alone = jax.vmap(windows, in_axes=(None, 0))(market.to_device(), bars[k])
        for key, value in alone.items():
            np.testing.assert_array_equal(stacked[key][k], value)


def test_stack_messages() -> None:
    with pytest.raises(ValueError, match="stack: needs at least one market"):
        stack([])
    with pytest.raises(ValueError, match="stack: market 1 differs from market 0 in window_sizes"):
        stack([build(), build(window_sizes=[4, 4])])
    with pytest.raises(ValueError, match="stack: works on one market"):
        stack([stack([build()])])
    assert stack([build()]).funding is None


def test_a_market_is_an_argument_not_a_constant() -> None:
    """Markets of one shape and spec share one compiled function."""
    traces = 0

    @jax.jit
    def last_close(market: Market) -> jax.Array:
        nonlocal traces
        traces += 1
        return market.ohlcv[market.last, 3]

    one, two = build(), build(minutes(600, seed=5))
    for market in (one, two, *one.split("2024-01-01 04:00")):
        expected = np.float32(market.ohlcv[int(market.last), 3])
        assert last_close(market.to_device()) == expected
    assert traces == 1


def test_spec_is_hashable_and_frozen() -> None:
    spec = build().spec
    assert {spec: 1}[build(minutes(700)).spec] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.window_sizes = (1, 1)  # type: ignore[misc]


def test_half_a_million_rows_take_under_a_second() -> None:
    frame = synthetic.minutes(0, 500_000)
    options: dict[str, Any] = {
        "time_frames": ["1min", "5min", "15min", "1hour"],
        "window_sizes": [12, 8, 8, 24],
        "execute_on": "5min",
    }
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        market = Market.from_frame(frame, **options)
        seconds.append(time.perf_counter() - begin)
    assert market.num_bars == 100_000
    assert min(seconds) < 1.0


def test_import_starts_no_backend() -> None:
    code = (
        "import jaxtrade.timeframe, jaxtrade.market, jaxtrade.market.market\n"
        "import jaxtrade.market.windows, jaxtrade.market.datasets, jaxtrade.market.synthetic\n"
        "from jaxtrade.market import Market, MarketSpec, stack\n"
        "frame = jaxtrade.market.datasets.load('googl_1d')\n"
        "Market.from_frame(frame, time_frames='1d', execute_on='1d')\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, xla_bridge._backends\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.filterwarnings("ignore:data gaps")
@pytest.mark.parametrize("module", [timeframe, market_module])
def test_examples_in_docstrings(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_unknown_name_of_the_package() -> None:
    import jaxtrade.market as package

    assert {"Market", "MarketSpec", "stack"} <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        package.absent  # noqa: B018
