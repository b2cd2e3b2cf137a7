"""Reading and refusing frames: every row of the table of messages."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxtrade.market import frame as frame_module
from jaxtrade.market import times
from jaxtrade.market.market import Market
from tests.market.builders import DEFAULT, PRICES, REPAIR, minutes


def refusal(frame: Any, rules: SimpleNamespace = DEFAULT, **options: Any) -> str:
    """The message with which a frame is refused."""
    settings: dict[str, Any] = {"time_frames": "1min", "execute_on": "1min", "window_sizes": 2}
    with pytest.raises(ValueError) as error:
        Market.from_frame(frame, rules=rules, **{**settings, **options})
    assert len(str(error.value)) < 1000
    return str(error.value)


def changed(column: str, row: int, value: Any, rows: int = 20) -> pd.DataFrame:
    frame = minutes(rows)
    frame.loc[row, column] = value
    return frame


def test_not_a_frame() -> None:
    expected = "frame: expected a DataFrame with columns timestamp, open, high, low, close, volume;"
    assert refusal([1, 2]) == f"{expected} got list."
    assert refusal(None) == f"{expected} got NoneType."
    assert refusal(np.zeros((10**6, 6))) == f"{expected} got ndarray."


def test_no_rows() -> None:
    assert refusal(minutes(5).iloc[:0]) == "frame: has no rows."
    assert refusal(pd.DataFrame()) == "frame: has no rows."


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "absent.csv"
    assert refusal(missing) == f"{missing}: cannot be read: No such file or directory."
    for name in ("broken.csv.gz", "broken.parquet", "broken.npz"):
        path = tmp_path / name
        path.write_bytes(b"neither of these")
        message = refusal(path)
        assert message.startswith(f"{path}: cannot be read: ")
        assert message.endswith(".")
        assert not message.endswith("..")
    single = tmp_path / "single.npz"
    with single.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert refusal(single) == f"{single}: cannot be read: not an archive of named arrays."
    uneven = tmp_path / "uneven.npz"
    np.savez(uneven, open=np.ones(3), close=np.ones(4))
    assert refusal(uneven).startswith(f"{uneven}: cannot be read: ")
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, open=np.array([{}], dtype=object))
    assert refusal(pickled).startswith(f"{pickled}: cannot be read: ")


def test_unknown_file_type(tmp_path: Path) -> None:
    path = tmp_path / "data.xlsx"
    expected = f"{path}: unknown file type; expected .csv, .csv.gz, .parquet or .npz."
    assert refusal(str(path)) == expected
    assert refusal("timestamp,open\n" * 10_000).endswith(
        "unknown file type; expected .csv, .csv.gz, .parquet or .npz."
    )


def test_missing_columns() -> None:
    frame = minutes(5).rename(columns={"close": "Close", "high": "High"})
    assert refusal(frame) == (
        "frame: missing column(s) ['close', 'high']; "
        "present: ['timestamp', 'open', 'High', 'low', 'Close', 'volume']."
    )
    no_time = minutes(5).drop(columns="timestamp")
    assert refusal(no_time).startswith("frame: missing column(s) ['timestamp']; present: ['open'")
    wide = pd.DataFrame(np.zeros((3, 5000)), columns=[f"column_{i}" for i in range(5000)])
    assert "present: ['column_0'" in refusal(wide)


def test_columns_on_two_levels() -> None:
    frame = minutes(5).set_index("timestamp")
    frame.columns = pd.MultiIndex.from_product([frame.columns, ["BTC"]])
    assert refusal(frame).startswith(
        "frame: missing column(s) ['close', 'high', 'low', 'open', 'volume']; "
        "present: [('open', 'BTC')"
    )


def test_extra_columns_of_any_kind_are_harmless() -> None:
    extra = minutes(20).assign(venue="x", seen=True, wave=1j, when=pd.Timestamp("2024-01-01"))
    market = Market.from_frame(extra, time_frames="1min", execute_on="1min", window_sizes=2)
    assert market.num_bars == 20
    assert list(frame_module.read(extra).auxiliary) == ["seen"]


def test_column_given_twice() -> None:
    frame = pd.concat([minutes(5), minutes(5)[["open"]]], axis=1)
    assert refusal(frame) == "frame: column(s) ['open'] given more than once."


@pytest.mark.parametrize("column", [*PRICES, "volume", "funding"])
def test_columns_must_be_numeric(column: str) -> None:
    frame = minutes(5).assign(funding=0.0)
    kind = frame[column].astype(str).dtype
    assert refusal(frame.astype({column: str})) == f"{column}: must be numeric; got {kind}."
    assert refusal(frame.astype({column: object})) == f"{column}: must be numeric; got object."
    assert refusal(frame.astype({column: bool})) == f"{column}: must be numeric; got bool."


@pytest.mark.parametrize(
    ("value", "shown"), [("garbage", "'garbage'"), ("now", "'now'"), ("01/02/2024", "'01/02/2024'")]
)
def test_text_that_is_not_a_time(value: str, shown: str) -> None:
    frame = minutes(8)
    frame["timestamp"] = frame["timestamp"].astype(str)
    frame.loc[3, "timestamp"] = value
    assert refusal(frame) == f"timestamp: row 3 is not a time; got {shown}."


def test_values_that_are_not_a_time() -> None:
    frame = minutes(8)
    frame.loc[2, "timestamp"] = pd.NaT
    assert refusal(frame) == "timestamp: row 2 is not a time; got NaT."
    frame["timestamp"] = np.arange(8) * 60.0
    assert refusal(frame).startswith("timestamp: row 0 is not a time; got ")
    frame["timestamp"] = [pd.Timestamp("2024-01-01"), 17, *["2024-01-02"] * 6]
    assert refusal(frame) == "timestamp: row 1 is not a time; got 17."
    frame["timestamp"] = np.full(8, 2**63 + 5, np.uint64)
    assert refusal(frame).startswith("timestamp: row 0 is not a time; got ")
    frame["timestamp"] = pd.array([1, 2, None, 4, 5, 6, 7, 8], dtype="Int64")
    assert refusal(frame) == "timestamp: row 2 is not a time; got <NA>."
    frame["timestamp"] = np.array(["2024-01-01"] * 7 + ["2900-01-01"], "datetime64[s]")
    assert refusal(frame).startswith("timestamp: row 7 is not a time; got Timestamp('2900")


def test_unsorted_rows() -> None:
    frame = minutes(6).iloc[[0, 1, 3, 2, 4, 5]]
    assert refusal(frame) == (
        "timestamp: row 3 (2024-01-01 00:02:00) comes before row 2 (2024-01-01 00:03:00); "
        "sort the frame."
    )


def test_duplicate_times() -> None:
    frame = minutes(6).iloc[[0, 1, 1, 1, 2, 3, 3, 4]]
    assert refusal(frame) == (
        "timestamp: 3 duplicate(s), first 2024-01-01 00:01:00 at row 2; aggregate or drop them."
    )


@pytest.mark.parametrize("column", PRICES)
def test_bad_prices(column: str) -> None:
    frame = minutes(20)
    frame.loc[[4, 9], column] = np.nan
    assert refusal(frame) == (
        f"{column}: 2 of 20 values are NaN, first at row 4 (2024-01-01 00:04:00); "
        'drop these rows or use Rules(nan_prices="repair").'
    )
    frame.loc[[4, 9], column] = [np.inf, -np.inf]
    for rules in (DEFAULT, REPAIR):
        assert refusal(frame, rules) == (
            f"{column}: 2 of 20 values are infinite, first at row 4 (2024-01-01 00:04:00)."
        )
    frame.loc[[4, 9], column] = [-1.5, 0.0]
    for rules in (DEFAULT, REPAIR):
        assert refusal(frame, rules) == (
            f"{column}: 2 of 20 prices are not positive, "
            "first at row 4 (2024-01-01 00:04:00): -1.5."
        )


@pytest.mark.parametrize(
    ("column", "value"), [("high", 98.5), ("low", 100.5), ("open", 103.0), ("close", 90.0)]
)
def test_range_that_does_not_cover(column: str, value: float) -> None:
    frame = minutes(20)
    row = {"open": 99.0, "high": 102.0, "low": 98.0, "close": 100.0, column: value}
    frame.loc[7, PRICES] = [row[name] for name in PRICES]
    assert refusal(frame) == (
        "high/low: 1 of 20 rows do not cover open and close, first at row 7 (2024-01-01 00:07:00): "
        f"open {row['open']:g}, high {row['high']:g}, low {row['low']:g}, close {row['close']:g}."
    )


def test_range_equal_to_the_prices_is_fine() -> None:
    frame = minutes(20)
    frame["high"] = frame[["open", "close"]].max(axis=1)
    frame["low"] = frame[["open", "close"]].min(axis=1)
    Market.from_frame(frame, time_frames="1min", execute_on="1min", window_sizes=2)


def test_missing_price_does_not_hide_a_bad_range() -> None:
    frame = changed("open", 7, np.nan)
    frame.loc[7, "close"] = frame.loc[7, "high"] + 1
    assert refusal(frame, REPAIR).startswith("high/low: 1 of 20 rows do not cover open and close")


@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan])
def test_bad_volume(value: float) -> None:
    frame = changed("volume", 5, value)
    assert refusal(frame) == (
        "volume: 1 of 20 values are negative or not finite, first at row 5 (2024-01-01 00:05:00)."
    )
    if np.isnan(value):
        market = Market.from_frame(
            frame, time_frames="1min", execute_on="1min", window_sizes=2, rules=REPAIR
        )
        assert market.ohlcv[5, 4] == 0
    else:
        assert refusal(frame, REPAIR).startswith("volume: 1 of 20")


def test_bad_funding() -> None:
    frame = minutes(20).assign(funding=0.0)
    frame.loc[[3, 4], "funding"] = [np.nan, np.inf]
    for rules in (DEFAULT, REPAIR):
        assert refusal(frame, rules) == (
            "funding: 2 of 20 values are not finite, first at row 3 (2024-01-01 00:03:00)."
        )


def test_finer_than_the_data() -> None:
    frame = minutes(100, step="5min")
    assert refusal(frame) == "time_frames: 1Minute is finer than the data (rows every 5Minute)."
    assert refusal(frame, time_frames=["15min", "3min"]) == (
        "time_frames: 3Minute is finer than the data (rows every 5Minute)."
    )
    assert refusal(frame, time_frames="5min") == (
        "execute_on: 1Minute is finer than the data (rows every 5Minute)."
    )
    assert "(rows every 90 seconds)" in refusal(minutes(100, step="90s"))
    assert "(rows every 1Day)" in refusal(minutes(100, step="1D"))


def test_spacing_is_the_most_frequent_step_smallest_on_ties() -> None:
    frame = minutes(7)
    times = [0, 1, 3, 5, 6, 60, 65]
    frame["timestamp"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(times, unit="min")
    assert frame_module.read(frame).spacing == 60_000_000_000
    assert frame_module.read(frame.iloc[[1, 2, 3, 6]]).spacing == 120_000_000_000
    assert frame_module.read(frame.iloc[:1]).spacing is None


def test_too_short() -> None:
    assert refusal(minutes(10), window_sizes=10) == (
        "frame: too short: 10 execution bars of 1Minute; the windows are complete at bar 9 "
        "and one more bar is needed."
    )
    assert refusal(minutes(9), window_sizes=10) == (
        "frame: too short: 9 execution bars of 1Minute; the windows are complete at bar none "
        "and one more bar is needed."
    )
    Market.from_frame(minutes(11), time_frames="1min", execute_on="1min", window_sizes=10)
    assert "too short: 1 execution bars" in refusal(minutes(1))
    assert "too short: 0 execution bars of 1Hour" in refusal(minutes(20), execute_on="1hour")


def test_checks_come_in_the_order_of_the_table() -> None:
    frame = minutes(20)
    frame.loc[3, "volume"] = -1
    frame.loc[4, "close"] = -2
    frame.loc[5, "low"] = np.inf
    frame.loc[6, "high"] = np.nan
    assert refusal(frame).startswith("high: 1 of 20 values are NaN")
    assert refusal(frame, REPAIR).startswith("low: 1 of 20 values are infinite")
    frame = frame.assign(low=minutes(20)["low"])
    assert refusal(frame, REPAIR).startswith("close: 1 of 20 prices are not positive")
    frame.loc[7, "timestamp"] = frame.loc[6, "timestamp"]
    assert refusal(frame, REPAIR).startswith("timestamp: 1 duplicate")
    frame.loc[8, "timestamp"] = frame.loc[1, "timestamp"]
    assert refusal(frame, REPAIR).startswith("timestamp: row 8")
    assert refusal(frame.astype({"volume": str})).startswith("volume: must be numeric")
    assert refusal(frame.drop(columns="open")).startswith("frame: missing")


def leaves(frame: Any) -> list[Any]:
    import jax

    market = Market.from_frame(frame, time_frames="5min", execute_on="5min", window_sizes=3)
    return jax.tree.leaves(market)


def assert_same(one: list[Any], two: list[Any]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_every_resolution_is_the_same_instant(unit: str) -> None:
    frame = minutes(60, "2024-03-05 10:00")
    expected = leaves(frame)
    frame["timestamp"] = frame["timestamp"].astype(f"datetime64[{unit}]")
    assert_same(leaves(frame), expected)
    assert_same(leaves(frame.set_index("timestamp")), expected)
    assert_same(leaves(frame.set_index("timestamp").rename_axis(None)), expected)
    zoned = frame.assign(
        timestamp=frame["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    )
    assert_same(leaves(zoned), expected)


@pytest.mark.parametrize("kind", ["int64", "uint64", "Int64", "object", "text", "python", "iso"])
def test_every_spelling_of_a_time(kind: str) -> None:
    frame = minutes(60, "2024-03-05 10:00")
    expected = leaves(frame)
    stamps = frame["timestamp"].astype("datetime64[ns]")
    if kind == "text":
        frame["timestamp"] = stamps.astype(str)
    elif kind == "iso":
        frame["timestamp"] = stamps.map(lambda stamp: stamp.isoformat() + "+00:00")
    elif kind == "python":
        frame["timestamp"] = pd.Series(list(stamps.dt.to_pydatetime()), dtype=object)
    else:
        frame["timestamp"] = stamps.astype("int64").astype(kind)
    assert_same(leaves(frame), expected)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".npz", ".CSV"])
@pytest.mark.parametrize("integers", [False, True])
def test_files_hold_the_same_frame(tmp_path: Path, suffix: str, integers: bool) -> None:
    frame = minutes(60, "2024-03-05 10:00")
    expected = leaves(frame)
    if integers or suffix == ".npz":
        frame["timestamp"] = frame["timestamp"].astype("datetime64[ns]").astype("int64")
    path = tmp_path / f"rows{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: frame[name].to_numpy() for name in frame})
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    assert_same(leaves(path), expected)
    assert_same(leaves(str(path)), expected)


def test_reading_changes_nothing() -> None:
    frame = minutes(60)
    before = frame.copy(deep=True)
    leaves(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_instant() -> None:
    ns = 1_704_067_200_000_000_000
    for time in (ns, np.int64(ns), "2024-01-01", "2024-01-01T01:00+01:00", pd.Timestamp(ns)):
        assert times.instant(time) == ns
    for time in ("garbage", None, True, pd.NaT):
        with pytest.raises(ValueError, match="time: expected a date or whole nanoseconds"):
            times.instant(time)


@pytest.mark.parametrize("per_second", [1, 1000])
def test_integers_that_are_not_nanoseconds_are_pointed_out(per_second):
    start = 1_700_000_000 * per_second
    column = pd.Series(start + 60 * per_second * np.arange(5))
    with pytest.warns(UserWarning, match="timestamp: integers are nanoseconds, and the last"):
        times.nanoseconds(column)
