"""Feature sets: worked numbers, user functions, fits and messages."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxtrade.market.features import DEFAULT_COLUMNS, OHLCV_COLUMNS
from jaxtrade.market.market import Market
from tests.market.builders import KEEP, minutes, rows_of

WORKED = [
    (100, 102, 99, 101, 10),
    (101, 104, 100, 103, 20),
    (103, 104, 101, 102, 0),
    (102, 103, 100, 102, 5),
]


def build(frame: Any = None, features: Any = "default", **options: Any) -> Market:
    settings: dict[str, Any] = {"time_frames": "5min", "execute_on": "5min", "window_sizes": 3}
    return Market.from_frame(
        minutes(200) if frame is None else frame, features=features, **{**settings, **options}
    )


def table(market: Market, frame: int = 0) -> np.ndarray:
    return market.features[frame][market.spec.window_sizes[frame] :]


def returns(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"feature_return": bars["close"].pct_change()}).dropna()


def refusal(features: Any, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        build(features=features, **options)
    assert len(str(error.value)) < 1000
    return str(error.value)


def test_default_features_worked() -> None:
    frame = rows_of("2024-01-01", WORKED, step="5min")
    market = build(frame, window_sizes=1)
    assert market.spec.feature_columns == (DEFAULT_COLUMNS,)
    expected = np.array(
        [
            [0, 0.0196084714, -0.0097561749, 0],
            [-0.0099009901, -0.0194174757, 0.0098039216, 0],
            [0.0099009901, 0.0097087379, 0.0196078431, 0.0098039216],
            [-0.0198019802, -0.0291262136, -0.0098039216, -0.0196078431],
            [0, 0.6931471806, 0, 0],
        ]
    ).T
    # Ten decimals are given; the table is their float32 neighbour.
    np.testing.assert_allclose(table(market), expected, rtol=2.0**-24, atol=1e-10)
    assert table(market).dtype == np.float32


def test_ohlcv_is_raw() -> None:
    market = build(rows_of("2024-01-01", WORKED, step="5min"), "ohlcv", window_sizes=1)
    np.testing.assert_array_equal(table(market), WORKED)
    assert market.spec.feature_columns == (OHLCV_COLUMNS,)


def test_windows_have_zero_rows_in_front() -> None:
    market = build(features="ohlcv", window_sizes=7)
    np.testing.assert_array_equal(market.features[0][:7], 0)
    assert market.features[0].shape == (7 + 40, 5)


def test_function_sees_the_bars_of_each_frame_once() -> None:
    seen: list[pd.DataFrame] = []

    def record(bars: pd.DataFrame) -> pd.DataFrame:
        seen.append(bars)
        return bars.assign(feature_close=bars["close"])

    market = build(features=record, time_frames=["5min", "15min"])
    assert [len(bars) for bars in seen] == [40, 13]
    for bars, minutes_ in zip(seen, (5, 15), strict=True):
        assert list(bars.columns) == list(OHLCV_COLUMNS)
        assert bars.index.name == "timestamp"
        assert bars.index[1] - bars.index[0] == pd.Timedelta(minutes=minutes_)
        assert bars.index.dtype == "datetime64[ns]"
    np.testing.assert_array_equal(table(market)[:, 0], seen[0]["close"].astype(np.float32))
    assert market.spec.feature_columns == (("feature_close",),) * 2


def test_order_and_prefixes_of_columns() -> None:
    def many(bars: pd.DataFrame) -> pd.DataFrame:
        out = bars.copy()
        out["features_b"] = 2
        out["other"] = "text"
        out["feature_a"] = 1.0
        out["Feature_c"] = 3.0
        return out

    market = build(features=many)
    assert market.spec.feature_columns == (("features_b", "feature_a"),)
    np.testing.assert_array_equal(table(market), [[2, 1]] * 40)


def test_function_may_write_into_its_argument() -> None:
    def careless(bars: pd.DataFrame) -> pd.DataFrame:
        bars["feature_zero"] = 0.0
        bars[["open", "high", "low", "close"]] = -1.0
        return bars

    frame = minutes(200)
    market = build(frame, careless)
    np.testing.assert_array_equal(market.ohlcv, build(frame).ohlcv)


def test_dropped_rows_are_warm_up_and_move_the_first_usable_bar() -> None:
    def smooth(bars: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"feature_mean": bars["close"].rolling(6).mean()}).dropna()

    market = build(features=smooth)
    assert table(market).shape == (35, 1)
    assert int(market.first) == 5 + 3 - 1
    np.testing.assert_array_equal(market.newest[:, 0], np.arange(-5, 35).clip(-1))
    bars = market.ohlcv[:, 3]
    np.testing.assert_allclose(table(market)[10, 0], bars[10:16].mean(), rtol=1e-6)


def test_times_may_come_as_a_column_in_any_order_and_zone() -> None:
    def column(bars: pd.DataFrame) -> pd.DataFrame:
        out = returns(bars).reset_index()
        out["timestamp"] = out["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
        return out.iloc[::-1]

    one, two = build(features=returns), build(features=column)
    np.testing.assert_array_equal(one.features[0], two.features[0])
    np.testing.assert_array_equal(one.newest, two.newest)


def test_per_frame_list() -> None:
    market = build(
        features=[None, returns, "ohlcv"], time_frames=["5min", "10min", "15min"], window_sizes=2
    )
    assert market.spec.feature_columns == (DEFAULT_COLUMNS, ("feature_return",), OHLCV_COLUMNS)
    module = returns.__module__
    assert market.spec.feature_names == ("default", f"{module}:returns", "ohlcv")


def test_auxiliary_columns_are_the_last_known_value() -> None:
    seen: dict[int, pd.DataFrame] = {}

    def record(bars: pd.DataFrame) -> pd.DataFrame:
        seen[len(bars)] = bars
        return bars.assign(feature_close=bars["close"])

    frame = minutes(40)
    frame["interest"] = [np.nan] * 7 + [1.0, np.nan, 3.0] + [np.nan] * 20 + list(range(10))
    frame["count"] = np.arange(40)
    frame["venue"] = "text"
    frame = frame.drop(index=range(10, 15))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        market = build(frame, record, window_sizes=1)
    (bars,) = seen.values()
    assert list(bars.columns) == [*OHLCV_COLUMNS, "interest", "count"]
    np.testing.assert_array_equal(bars["interest"], [0, 3, 3, 3, 3, 4, 9])
    np.testing.assert_array_equal(bars["count"], [4, 9, 19, 24, 29, 34, 39])
    assert market.spec.feature_columns == (("feature_close",),)


def test_messages_about_what_a_function_returns() -> None:
    assert refusal(lambda bars: bars["close"]) == (
        "features: 5Minute: the function must return a DataFrame; got Series."
    )
    assert refusal(lambda bars: bars[["open", "close"]]) == (
        "features: 5Minute: no column starts with 'feature_' or 'features_'; got ['open', 'close']."
    )

    def not_finite(bars: pd.DataFrame) -> pd.DataFrame:
        return bars.assign(feature_ok=1.0, feature_mean=bars["close"].rolling(4).mean())

    assert refusal(not_finite) == (
        "features: 5Minute: feature_mean is not finite in 3 of 40 rows, "
        "first at 2024-01-01 00:00:00; drop warm-up rows or fill them."
    )
    assert "feature_x is not finite in 40 of 40" in refusal(
        lambda bars: bars.assign(feature_x=1e300)
    )
    assert refusal(lambda bars: bars.assign(feature_x="a")).startswith(
        "features: 5Minute: 'feature_x' must be numeric; got "
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda out: out.set_index(out.index + pd.Timedelta("1min")),
        lambda out: out.set_index(out.index + pd.Timedelta("100D")),
        lambda out: out.set_index(out.index - pd.Timedelta("100D")),
        lambda out: out.reset_index(drop=True),
        lambda out: pd.concat([out, out.iloc[:1]]),
        lambda out: out.set_index(out["close"]),
        lambda out: out.assign(timestamp="soon"),
    ],
)
def test_times_that_are_not_among_the_bars(spoil: Any) -> None:
    assert refusal(lambda bars: spoil(bars.assign(feature_x=1.0))) == (
        "features: 5Minute: returned times that are not among the bars given."
    )


@pytest.mark.parametrize("value", ["rsi", 3, [None], [None] * 3, [None, 5], {"5min": None}, True])
def test_not_a_feature_set(value: Any) -> None:
    assert refusal(value, time_frames=["5min", "15min"]) == (
        "features: expected 'default', 'ohlcv', a function or one per time frame (2); "
        f"got {value!r}."
    )


def test_a_function_is_not_called_when_the_frame_is_too_short() -> None:
    def never(bars: pd.DataFrame) -> pd.DataFrame:
        raise AssertionError

    with pytest.raises(ValueError, match="too short: 2 execution bars"):
        build(minutes(10), never)


def test_warm_up_longer_than_the_data_is_too_short() -> None:
    text = "the windows are complete at bar none"
    assert text in refusal(lambda bars: bars.assign(feature_x=1.0).iloc[:0])
    assert text in refusal(lambda bars: bars.assign(feature_x=1.0).iloc[-2:])


class Scaler:
    """Standardises the close by what it was fitted on."""

    def __init__(self) -> None:
        self.seen: list[pd.DataFrame] = []

    def fit(self, bars: pd.DataFrame) -> Any:
        self.seen.append(bars)
        mean, deviation = bars["close"].mean(), bars["close"].std()

        def transform(bars: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame({"feature_z": (bars["close"] - mean) / deviation})

        return transform


def test_a_function_may_say_how_far_it_looks_back(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = {"time_frames": ["5min", "10min"], "window_sizes": 2}
    for sets in ("default", "ohlcv", returns):
        assert build(features=sets, window_sizes=2).spec.feature_lookback is None
    monkeypatch.setattr(returns, "feature_lookback", 0, raising=False)
    assert build(features=returns, **frames).spec.feature_lookback == 0
    assert build(features=["ohlcv", returns], **frames).spec.feature_lookback == 0
    # The log return of the usual set needs the bar before.
    assert build(features=["default", returns], **frames).spec.feature_lookback == 1
    # One that says nothing may need anything.
    fitted = build(features=[Scaler(), returns], fit_until="2024-01-01 01:44", **frames)
    assert fitted.spec.feature_lookback is None
    for wrong in (-1, 1.5, True, "3"):
        monkeypatch.setattr(returns, "feature_lookback", wrong)
        assert f"feature_lookback must be a whole number >= 0; got {wrong!r}" in refusal(returns)


def test_fit_sees_bars_that_ended_by_fit_until() -> None:
    scaler = Scaler()
    market = build(features=scaler, time_frames=["5min", "15min"], fit_until="2024-01-01 01:44")
    newest = [str(bars.index[-1]) for bars in scaler.seen]
    assert newest == ["2024-01-01 01:35:00", "2024-01-01 01:15:00"]
    assert market.spec.fit_until == pd.Timestamp("2024-01-01 01:44").value
    assert market.spec.feature_names == (f"{__name__}:Scaler",) * 2
    closes = market.ohlcv[:20, 3]
    expected = (market.ohlcv[:, 3] - closes.mean()) / closes.std(ddof=1)
    np.testing.assert_allclose(table(market)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_fit_does_not_see_later_rows() -> None:
    frame = minutes(200)
    later = frame["timestamp"] >= "2024-01-01 01:40"
    shifted = frame.copy()
    shifted.loc[later, ["open", "high", "low", "close"]] *= 2
    one, two = (build(f, Scaler(), fit_until="2024-01-01 01:40") for f in (frame, shifted))
    np.testing.assert_array_equal(table(one)[:20], table(two)[:20])
    assert not np.array_equal(table(one)[20:], table(two)[20:])


def test_fit_needs_a_training_range() -> None:
    assert refusal(Scaler()) == (
        "features: 5Minute: fitted features need fit_until=..., the end of the training range."
    )
    assert refusal(Scaler(), fit_until="2023-01-01").startswith(
        "features: 5Minute: no bar ends by fit_until (2023-01-01 00:00:00)"
    )
    with pytest.raises(ValueError, match="time: expected a date"):
        build(features=Scaler(), fit_until="soon")


def test_split_after_a_fit() -> None:
    market = build(features=Scaler(), fit_until="2024-01-01 01:40")
    train, test = market.split("2024-01-01 01:40")
    assert int(train.last) == int(test.first) == 19
    with pytest.raises(ValueError, match="the first date must not be earlier") as error:
        market.split("2024-01-01 01:35", "2024-01-01 02:00")
    assert str(error.value) == (
        "split: the features were fitted on data up to 2024-01-01 01:40:00; "
        "the first date must not be earlier, got 2024-01-01 01:35:00."
    )
    # Nothing was fitted: the date is not a promise.
    build(fit_until="2024-01-01 01:40").split("2024-01-01 01:35")


def test_default_features_do_not_divide_by_absent_volume() -> None:
    frame = minutes(60)
    frame.loc[[3, 4, 10, 30], "volume"] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        market = build(frame, time_frames="1min", execute_on="1min", rules=KEEP)
    change = table(market)[:, 4]
    np.testing.assert_array_equal(change[[3, 4, 5, 10, 11, 30, 31]], 0)
    volume = frame["volume"].to_numpy()
    np.testing.assert_allclose(change[20], np.log(volume[20] / volume[19]), rtol=1e-6)
