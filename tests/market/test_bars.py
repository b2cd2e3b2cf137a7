"""Grid, partial bars, repair, gap warning and the visibility rule."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrade.market.market import Market
from tests.market.builders import DEFAULT, KEEP, PRICES, REFERENCE, REPAIR, minutes, rows_of, starts

NAN = float("nan")


def build(
    frame: Any, time_frames: Any, execute_on: Any, rules: Any = DEFAULT, **options: Any
) -> Market:
    settings: dict[str, Any] = {"window_sizes": 1, "features": "ohlcv", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Market.from_frame(
            frame, time_frames=time_frames, execute_on=execute_on, rules=rules, **settings
        )


def rows_in(market: Market, frame: int = 0) -> np.ndarray:
    return market.features[frame][market.spec.window_sizes[frame] :]


@given(
    st.integers(0, 2**31),
    st.sampled_from([2, 3, 5, 7, 15, 60, 90]),
    st.sampled_from(["2024-01-01 00:00", "2023-05-06 00:07", "1969-12-31 22:58:00"]),
)
def test_aggregates_equal_a_plain_loop(seed: int, length: int, start: str) -> None:
    frame = minutes(400, start, seed)
    market = build(frame, (length, "Minute"), (length, "Minute"), KEEP)
    origin = frame["timestamp"].iloc[0].normalize()
    groups: dict[int, list[Any]] = {}
    for row in frame.itertuples():
        groups.setdefault((row.timestamp - origin) // pd.Timedelta(minutes=length), []).append(row)
    expected = [
        (
            rows[0].open,
            max(row.high for row in rows),
            min(row.low for row in rows),
            rows[-1].close,
            sum(row.volume for row in rows),
        )
        for rows in groups.values()
    ]
    np.testing.assert_allclose(market.ohlcv, expected, rtol=1e-14)
    np.testing.assert_array_equal(market.ohlcv[:, :4], np.array(expected)[:, :4])
    np.testing.assert_array_equal(rows_in(market), market.ohlcv.astype(np.float32))
    first = origin + min(groups) * pd.Timedelta(minutes=length)
    assert market.open_minute[0] * 60 == first.timestamp()
    np.testing.assert_array_equal(np.diff(market.open_minute), length)


def test_partial_bars_example() -> None:
    """1-minute rows 00:07 ... 02:13: 15-minute bars 00:15 ... 01:45 and the hour 01:00 remain."""
    frame = minutes(127, "2024-01-01 00:07")
    assert str(frame["timestamp"].iloc[-1]) == "2024-01-01 02:13:00"
    assert starts(build(frame, "1min", "1min"))[::126] == ["00:07", "02:13"]
    market = build(frame, "15min", "15min")
    assert starts(market) == ["00:15", "00:30", "00:45", "01:00", "01:15", "01:30", "01:45"]
    # The only complete hour ends with the last 15-minute bar: finer execution can still see it.
    observed = build(frame, ["15min", "1min", "1hour"], "1min")
    assert [len(rows_in(observed, i)) for i in range(3)] == [7, 127, 1]
    hour = frame[(frame["timestamp"].dt.hour == 1)]
    np.testing.assert_array_equal(
        rows_in(observed, 2)[0, :4],
        np.float32(
            [hour["open"].iloc[0], hour["high"].max(), hour["low"].min(), hour["close"].iloc[-1]]
        ),
    )
    kept = build(frame, ["15min", "1min", "1hour"], "15min", KEEP)
    assert starts(kept) == ["00:00", *starts(market), "02:00"]
    assert [len(rows_in(kept, i)) for i in range(3)] == [9, 127, 3]


def test_bars_that_rows_cover_are_not_partial() -> None:
    exact = build(minutes(120), "15min", "15min")
    assert len(starts(exact)) == 8
    # Rows half a minute off the grid still cover their bins to within one row.
    assert len(starts(build(minutes(120, "2024-01-01 00:00:30"), "15min", "15min"))) == 8
    assert len(starts(build(minutes(120, "2024-01-01 00:01:00"), "15min", "15min"))) == 7
    # A gap inside the data makes no bar partial.
    holed = minutes(120).drop(index=range(20, 28))
    assert len(starts(build(holed, "15min", "15min"))) == 8
    # A gap at the end does.
    assert len(starts(build(minutes(119), "15min", "15min"))) == 7


def test_partial_follows_the_row_spacing() -> None:
    frame = minutes(24, "2024-01-01 00:00", step="5min")
    assert len(starts(build(frame, "15min", "15min"))) == 8
    assert len(starts(build(frame.iloc[1:], "15min", "15min"))) == 7
    assert len(starts(build(frame.iloc[:-1], "15min", "15min"))) == 7


@pytest.mark.parametrize("length", [7, 11, 45, 100])
def test_grid_of_a_non_divisor_runs_on_over_midnight(length: int) -> None:
    frame = minutes(4000, "2024-01-01 09:13")
    market = build(frame, "1min", (length, "Minute"))
    midnight = pd.Timestamp("2024-01-01").timestamp() / 60
    assert ((market.open_minute - midnight) % length == 0).all()
    np.testing.assert_array_equal(np.diff(market.open_minute), length)


def test_empty_execution_bars_are_flat_and_empty_observation_bars_are_absent() -> None:
    frame = minutes(30).drop(index=range(10, 20))
    market = build(frame, ["5min", "1min"], "5min")
    assert len(starts(market)) == 6
    close = frame.loc[9, "close"]
    np.testing.assert_array_equal(market.ohlcv[2:4], [[close] * 4 + [0.0]] * 2)
    assert len(rows_in(market, 0)) == 4
    assert len(rows_in(market, 1)) == 20
    np.testing.assert_array_equal(market.newest[:, 0], [0, 1, 1, 1, 2, 3])
    np.testing.assert_array_equal(market.newest[:, 1], [4, 9, 9, 9, 14, 19])


FULL = (100.0, 103.0, 99.0, 102.0, 5.0)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # open unknown: opens at the own close, range kept
        ((NAN, 106.0, 103.0, 105.0, 1.0), (105.0, 106.0, 103.0, 105.0, 1.0)),
        # high unknown: own close, raised to the open
        ((106.0, NAN, 103.0, 105.0, 1.0), (106.0, 106.0, 103.0, 105.0, 1.0)),
        ((104.0, NAN, 103.0, 105.0, 1.0), (104.0, 105.0, 103.0, 105.0, 1.0)),
        # low unknown: own close, lowered to the open
        ((104.0, 107.0, NAN, 105.0, 1.0), (104.0, 107.0, 104.0, 105.0, 1.0)),
        ((106.0, 107.0, NAN, 105.0, 1.0), (106.0, 107.0, 105.0, 105.0, 1.0)),
        # close unknown: the last close (102) clipped into the own range
        ((104.0, 107.0, 103.0, NAN, 1.0), (104.0, 107.0, 103.0, 103.0, 1.0)),
        ((101.0, 101.5, 100.0, NAN, 1.0), (101.0, 101.5, 100.0, 101.5, 1.0)),
        ((101.0, 104.0, 100.0, NAN, 1.0), (101.0, 104.0, 100.0, 102.0, 1.0)),
        # only the close known
        ((NAN, NAN, NAN, 105.0, 1.0), (105.0, 105.0, 105.0, 105.0, 1.0)),
        # only the open known: the rest comes from the last close (102)
        ((104.0, NAN, NAN, NAN, 1.0), (104.0, 104.0, 102.0, 102.0, 1.0)),
        # nothing known, volume counts
        ((NAN, NAN, NAN, NAN, 1.0), (102.0, 102.0, 102.0, 102.0, 1.0)),
        ((NAN, NAN, NAN, NAN, NAN), (102.0, 102.0, 102.0, 102.0, 0.0)),
        # no row at all
        (None, (102.0, 102.0, 102.0, 102.0, 0.0)),
    ],
)
def test_repair_of_one_bar(row: Any, expected: tuple[float, ...]) -> None:
    frame = rows_of("2024-01-01", [FULL, FULL, row, FULL, FULL])
    market = build(frame, "1min", "1min", REPAIR)
    np.testing.assert_array_equal(market.ohlcv[2], expected)
    np.testing.assert_array_equal(market.ohlcv[[0, 1, 3, 4]], [FULL] * 4)
    # The observation frame holds complete bars only.
    complete = row is not None and not np.isnan(row[:4]).any()
    assert len(rows_in(market)) == 4 + complete


def test_stale_close_is_the_last_raw_close() -> None:
    """The clipped close of an incomplete bar is not carried on."""
    lacking = (104.0, 107.0, 103.0, NAN, 1.0)
    market = build(rows_of("2024-01-01", [FULL, lacking, None, FULL]), "1min", "1min", REPAIR)
    np.testing.assert_array_equal(market.ohlcv[1], (104.0, 107.0, 103.0, 103.0, 1.0))
    np.testing.assert_array_equal(market.ohlcv[2], (102.0, 102.0, 102.0, 102.0, 0.0))


def test_bar_of_complete_fields_covers_its_open() -> None:
    """The row that held the extreme lacks its range: only the execution bar is repaired."""
    rows = [(100.0, NAN, NAN, 105.0, 1.0), (105.0, 106.0, 104.0, 105.0, 1.0)] * 3
    market = build(rows_of("2024-01-01", rows), "2min", "2min", REPAIR)
    np.testing.assert_array_equal(market.ohlcv[0], (100.0, 106.0, 100.0, 105.0, 2.0))
    np.testing.assert_array_equal(rows_in(market)[0], (100.0, 106.0, 104.0, 105.0, 2.0))


def test_missing_fields_are_skipped_within_a_bin() -> None:
    rows = [
        (NAN, 103.0, 99.0, 100.0, 1.0),
        (101.0, NAN, NAN, 102.0, NAN),
        (102.0, 104.0, 101.0, NAN, 3.0),
    ]
    market = build(rows_of("2024-01-01", rows * 3), "3min", "3min", REPAIR)
    np.testing.assert_array_equal(market.ohlcv, [(101.0, 104.0, 99.0, 102.0, 4.0)] * 3)


def test_bars_before_the_first_known_close_are_dropped() -> None:
    lacking = (104.0, 107.0, 103.0, NAN, 1.0)
    frame = rows_of("2024-01-01", [lacking, lacking, None, FULL, FULL, FULL])
    market = build(frame, "1min", "1min", REFERENCE)
    assert starts(market) == ["00:03", "00:04", "00:05"]
    np.testing.assert_array_equal(market.newest[:, 0], [0, 1, 2])
    assert (int(market.first), int(market.last)) == (0, 2)


def test_price_known_nowhere_is_too_short() -> None:
    frame = minutes(10).assign(close=NAN)
    with pytest.raises(ValueError, match="too short: 0 execution bars of 1Minute"):
        build(frame, "1min", "1min", REFERENCE)


def test_gap_warning() -> None:
    frame = minutes(100).drop(index=[*range(10, 20), *range(40, 70), 99])
    text = (
        "data gaps: 8 of 20 execution bars (40.00 %) had no or incomplete data and were repaired: "
        "2 region(s), longest 6 bars from 2024-01-01 00:40:00."
    )
    with pytest.warns(UserWarning, match=re.escape(text)) as record:
        Market.from_frame(frame, time_frames="5min", execute_on="5min", window_sizes=1, rules=KEEP)
    assert len(record) == 1
    assert record[0].filename == __file__


def test_no_warning_without_repairs() -> None:
    frame = minutes(100).drop(index=[11, 12, 57])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Market.from_frame(frame, time_frames=["1min", "5min"], execute_on="5min", window_sizes=1)


def test_incomplete_bars_count_as_gaps() -> None:
    lacking = (104.0, 107.0, 103.0, NAN, 1.0)
    frame = rows_of("2024-01-01", [FULL, lacking, None, FULL, lacking, FULL])
    text = "data gaps: 3 of 6 execution bars (50.00 %)"
    with pytest.warns(UserWarning, match=re.escape(text)) as record:
        Market.from_frame(
            frame, time_frames="1min", execute_on="1min", window_sizes=1, rules=REPAIR
        )
    assert "2 region(s), longest 2 bars from 2024-01-01 00:01:00." in str(record[0].message)


def test_funding_is_summed_and_zero_in_empty_bars() -> None:
    frame = minutes(30).assign(funding=np.arange(30) * 1e-4).drop(index=range(10, 15))
    market = build(frame, "1min", "5min")
    expected = [sum(range(n, n + 5)) * 1e-4 for n in range(0, 30, 5)]
    expected[2] = 0.0
    np.testing.assert_allclose(market.funding, expected, rtol=1e-12)
    assert build(minutes(30), "1min", "5min").funding is None


@pytest.mark.parametrize(
    ("bar", "hour", "seven"),
    [
        ("00:15", None, "00:28"),
        ("00:30", None, "00:42"),
        ("01:30", "01:00", "01:45"),
        ("04:30", "04:00", "04:40"),
        ("04:45", "05:00", "04:54"),
        ("05:00", "05:00", "05:15"),
    ],
)
def test_visibility_table(bar: str, hour: str | None, seven: str) -> None:
    market = build(minutes(600), ["1hour", "7min", "15min", "1min"], "15min")
    n = market.bar_at(f"2024-01-01 {bar}")
    ends = [
        str(pd.Timestamp("2024-01-01") + pd.Timedelta(minutes=int(newest + 1) * length))[11:16]
        for newest, length in zip(market.newest[n], (60, 7, 15, 1), strict=True)
    ]
    assert ends[0] == (hour or "00:00")
    assert market.newest[n, 0] == (-1 if hour is None else int(hour[:2]) - 1)
    assert ends[1] == seven
    decision = pd.Timestamp(f"2024-01-01 {bar}") + pd.Timedelta("15min")
    assert ends[2] == ends[3] == str(decision)[11:16]


@given(
    st.integers(0, 2**31), st.sampled_from([1, 2, 5, 7, 15, 60]), st.sampled_from([1, 3, 5, 7, 60])
)
def test_newest_is_the_last_bar_that_ended(seed: int, length: int, execute_on: int) -> None:
    generator = np.random.default_rng(seed)
    frame = minutes(700, "2024-01-01 00:05", seed)
    frame = frame[generator.random(len(frame)) > generator.choice([0.0, 0.2, 0.45])]
    market = build(frame, (length, "Minute"), (execute_on, "Minute"), KEEP)
    offsets = (frame["timestamp"] - pd.Timestamp("2024-01-01")).dt.total_seconds() // 60
    ends = (np.unique(offsets // length) + 1) * length
    decisions = market.open_minute - pd.Timestamp("2024-01-01").timestamp() // 60 + execute_on
    expected = [(ends <= decision).sum() - 1 for decision in decisions]
    np.testing.assert_array_equal(market.newest[:, 0], expected)


def test_newest_row_of_the_execution_frame_prices_the_next_order() -> None:
    market = build(minutes(300), ["1min", "5min"], "5min")
    np.testing.assert_array_equal(
        rows_in(market, 1)[market.newest[:, 1]], market.ohlcv.astype(np.float32)
    )


def test_execution_frame_need_not_be_observed() -> None:
    market = build(minutes(300), ["1min", "1hour"], "15min")
    assert starts(market)[:3] == ["00:00", "00:15", "00:30"]
    assert market.spec.keys == ("market_data_1Minute", "market_data_1Hour")
    assert list(market.newest[:5, 0]) == [14, 29, 44, 59, 74]
    assert list(market.newest[:5, 1]) == [-1, -1, -1, 0, 0]


@given(
    st.sampled_from([("5min", "1hour"), (" 5 MINUTES", "60m"), ((5, "m"), (1, "Hour"))]),
    st.sampled_from(["15min", "15 Minute", (15, "min")]),
)
def test_spellings_give_identical_data(time_frames: Any, execute_on: Any) -> None:
    import jax

    frame = minutes(400)
    one = build(frame, list(time_frames), execute_on)
    two = build(frame, ["5Minute", "1Hour"], "15Minute")
    assert one.spec == two.spec
    assert hash(one.spec) == hash(two.spec)
    assert one.spec.feature_hash == two.spec.feature_hash
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_rounded_into_float64() -> None:
    frame = minutes(50)
    market = build(frame, "1min", "1min")
    assert market.ohlcv.dtype == np.float64
    np.testing.assert_array_equal(market.ohlcv[:, :4], frame[PRICES].to_numpy())
