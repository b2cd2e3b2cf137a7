"""A policy sees live what it saw in training, bit for bit, or the bar is unreadable."""

from __future__ import annotations

import dataclasses
import functools
from decimal import Decimal
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.core.account import ACCOUNT_STATE_LABELS
from jaxtrade.market import datasets
from jaxtrade.timeframe import TimeFrame
from live.observation import Observer, packing
from live.observation.bars import (
    HoleError,
    StaleBarsError,
    arrange,
    duration_ms,
    newest_rows,
    revisions,
)
from live.observation.feature_tables import synthetic_bars
from live.types import (
    Balance,
    Bars,
    Flat,
    Held,
    Instrument,
    MarginMode,
    Position,
    Quote,
    Snapshot,
    Unknown,
    UnreadableError,
)
from tests.live.replaying import data_like, observer_like

FIVE = TimeFrame.parse("5min")


def momentum(bars: pd.DataFrame) -> pd.DataFrame:
    """A function that drops the rows it has no past for."""
    close = bars["close"]
    features = {
        "feature_momentum": close / close.shift(3) - 1,
        "feature_range": (bars["high"] - bars["low"]) / close,
    }
    return pd.DataFrame(features).iloc[3:]


# Windows are the environment's ------------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    "coarser": {
        "time_frames": ("5min", "15min", "1hour", "1day"),
        "window_sizes": (10, 8, 24, 3),
        "execute_on": "5min",
    },
    "finer": {
        "time_frames": ("1min", "5min", "30min"),
        "window_sizes": (60, 12, 5),
        "execute_on": "1hour",
    },
    "raw": {
        "time_frames": ("15min", "1min"),
        "window_sizes": (4, 3),
        "execute_on": "1min",
        "features": "ohlcv",
    },
    "function": {
        "time_frames": ("5min", "1hour"),
        "window_sizes": (6, 5),
        "execute_on": "15min",
        "features": (momentum, None),
    },
}


def environment(frame: Any, **fields: Any) -> SequentialTradingEnv:
    return SequentialTradingEnv(frame, SequentialTradingEnvConfig(**fields))


def check_windows(env: SequentialTradingEnv, frame: Any, bars: np.ndarray) -> None:
    data, observer = data_like(env, frame), observer_like(env)
    params = env.default_params
    observe = jax.jit(
        lambda bar, params: env.observe(
            None, env.initial_state(bar, params.cash_low, params), None, params
        )
    )
    for bar in bars:
        decision = data.open_ms(bar) + data.bar_ms
        given = {
            one.name: observer.validate(
                data.closed(one.name, decision, observer.needed(one)), decision
            )
            for one in observer.spec.time_frames
        }
        seen = observer.windows(given)
        expected = observe(np.int32(bar), params)
        assert set(seen) == set(expected) - {"account_state"}
        for key, window in seen.items():
            assert window.dtype == np.float32
            np.testing.assert_array_equal(
                window.view(np.int32), np.asarray(expected[key]).view(np.int32), f"{key} at {bar}"
            )


@pytest.mark.parametrize("case", CASES)
def test_windows_are_bit_equal_with_the_environment_on_real_data(
    case: str, btc_minutes_file: Any
) -> None:
    frame = minutes_of(btc_minutes_file)
    env = environment(frame, **CASES[case])
    first, last = int(env.market.first), int(env.market.last)
    random = np.random.default_rng(1).integers(first, last, 150)
    check_windows(env, frame, np.concatenate([np.arange(first, first + 60), random, [last]]))


@functools.cache
def minutes_of(path: Any) -> pd.DataFrame:
    return datasets.read(path).iloc[:15_000]


@pytest.mark.filterwarnings("ignore:data gaps")
def test_windows_are_bit_equal_where_the_data_has_holes() -> None:
    frame = datasets.load("eurusd_1h").iloc[:2000]  # weekends are absent
    env = environment(
        frame, time_frames=("1hour", "4hour", "1day"), window_sizes=(10, 6, 4), execute_on="1hour"
    )
    first, last = int(env.market.first), int(env.market.last)
    assert len(env.market.ohlcv) > len(frame)
    check_windows(env, frame, np.random.default_rng(2).integers(first, last + 1, 150))


# Which rows ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def observer() -> Observer:
    return Observer.create(
        time_frames="5min", window_sizes=8, execute_on="5min", lookback=4, leverage=5
    )


@pytest.fixture
def bars() -> Bars:
    return synthetic_bars(FIVE, 40)


def end_of(bars: Bars, bar: int = -1) -> int:
    return int(bars.open_time_ms[bar]) + duration_ms(FIVE)


def changed(bars: Bars, row: int, column: int, value: float) -> Bars:
    ohlcv = bars.ohlcv.copy()
    ohlcv[row, column] = value
    return dataclasses.replace(bars, ohlcv=ohlcv)


def without(bars: Bars, row: int) -> Bars:
    return Bars(bars.frame, np.delete(bars.open_time_ms, row), np.delete(bars.ohlcv, row, axis=0))


def test_what_is_requested_covers_window_lookback_and_the_forming_bar(observer: Observer) -> None:
    assert observer.needed("5min") == 8 + 4 + 2
    paced = Observer.create(time_frames="1min", window_sizes=3, execute_on="5min")
    assert paced.needed("1min") == 3 + 50 + 2
    assert paced.needed(FIVE) == 3
    assert [frame.name for frame in paced.frames] == ["1Minute", "5Minute"]
    with pytest.raises(ValueError, match="is not observed; observed are 1Minute, 5Minute"):
        paced.needed("1hour")


def test_the_future_is_cut_off_before_anything_is_said_about_it(
    observer: Observer, bars: Bars
) -> None:
    decision = end_of(bars, 29)
    expected = observer.windows({"5Minute": observer.validate(bars, decision)})
    poisoned = bars.ohlcv.copy()
    poisoned[30:] = np.nan
    for later in (poisoned, np.abs(poisoned)):
        seen = observer.validate(Bars("5Minute", bars.open_time_ms, later), decision)
        assert end_of(seen) == decision
        np.testing.assert_array_equal(
            observer.windows({"5Minute": seen})["market_data_5Minute"],
            expected["market_data_5Minute"],
        )
    # The last bar that the decision may see does count.
    moved = observer.validate(changed(bars, 29, 3, bars.ohlcv[29, 2]), decision)
    window = observer.windows({"5Minute": moved})["market_data_5Minute"]
    assert (window[-1] != expected["market_data_5Minute"][-1]).any()
    np.testing.assert_array_equal(window[:-1], expected["market_data_5Minute"][:-1])


def test_coarser_bars_are_visible_only_once_they_have_ended() -> None:
    observer = Observer.create(time_frames="1hour", window_sizes=2, execute_on="5min", lookback=1)
    hours = synthetic_bars(TimeFrame.parse("1hour"), 10)
    end = int(hours.open_time_ms[-1])
    for minutes in range(0, 60, 5):
        seen = observer.validate(hours, end + minutes * 60_000)
        assert int(seen.open_time_ms[-1]) == int(hours.open_time_ms[-2])
    assert observer.validate(hours, end + 3_600_000).open_time_ms[-1] == end


def test_rows_come_in_any_order_and_more_than_once(observer: Observer, bars: Bars) -> None:
    order = np.random.default_rng(0).permutation(np.tile(np.arange(40), 2))
    mixed = Bars("5Minute", bars.open_time_ms[order], bars.ohlcv[order])
    seen = observer.validate(mixed, end_of(bars))
    np.testing.assert_array_equal(seen.ohlcv, bars.ohlcv[-12:])
    np.testing.assert_array_equal(seen.open_time_ms, bars.open_time_ms[-12:])


def test_two_different_rows_of_one_time_are_unreadable(observer: Observer, bars: Bars) -> None:
    twice = Bars(
        "5Minute",
        np.append(bars.open_time_ms, bars.open_time_ms[35]),
        np.vstack([bars.ohlcv, bars.ohlcv[35] * [1, 1, 1, 1, 2]]),
    )
    with pytest.raises(UnreadableError, match="two different rows for 2024-01-01 02:55:00"):
        observer.validate(twice, end_of(bars))


def test_a_late_bar_is_stale(observer: Observer, bars: Bars) -> None:
    with pytest.raises(StaleBarsError, match="newest is of 2024-01-01 03:15:00, the decision"):
        observer.validate(bars, end_of(bars) + duration_ms(FIVE))
    with pytest.raises(StaleBarsError, match="newest is of none"):
        observer.validate(Bars("5Minute", np.zeros(0, np.int64), np.zeros((0, 5))), end_of(bars))


def test_a_missing_bar_is_a_hole(observer: Observer, bars: Bars) -> None:
    with pytest.raises(HoleError, match="the one of 2024-01-01 02:55:00 UTC is missing"):
        observer.validate(without(bars, 35), end_of(bars))
    # Beyond what the observation depends on, nobody minds.
    observer.validate(without(bars, 27), end_of(bars))


def test_too_few_bars_are_refused_however_good(observer: Observer, bars: Bars) -> None:
    few = newest_rows(bars, 11)
    with pytest.raises(UnreadableError, match="11 closed ones, the window and its look-back"):
        observer.validate(few, end_of(bars))


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_a_price_that_is_none_is_named(
    column: int, value: float, observer: Observer, bars: Bars
) -> None:
    name = ("open", "high", "low", "close")[column]
    with pytest.raises(UnreadableError, match=rf"{name} is no positive price at 2024-01-01 03:00"):
        observer.validate(changed(bars, 36, column, value), end_of(bars))


@pytest.mark.parametrize("volume", [np.nan, -1.0, np.inf])
def test_a_volume_that_is_none_is_named(volume: float, observer: Observer, bars: Bars) -> None:
    with pytest.raises(UnreadableError, match="volume is negative or not finite"):
        observer.validate(changed(bars, 36, 4, volume), end_of(bars))


def test_high_and_low_cover_the_bar(observer: Observer, bars: Bars) -> None:
    with pytest.raises(UnreadableError, match="do not cover open and close"):
        observer.validate(changed(bars, 36, 1, bars.ohlcv[36, 2]), end_of(bars))


def test_bars_start_on_the_grid_and_have_five_columns(observer: Observer, bars: Bars) -> None:
    shifted = dataclasses.replace(bars, open_time_ms=bars.open_time_ms + 1000)
    with pytest.raises(UnreadableError, match="no bar starts at 2024-01-01 00:00:01"):
        observer.validate(shifted, end_of(bars))
    with pytest.raises(UnreadableError, match="do not fit together"):
        observer.validate(dataclasses.replace(bars, ohlcv=bars.ohlcv[:, :4]), end_of(bars))


def test_a_venue_that_publishes_no_empty_bars_leaves_rows_out(bars: Bars) -> None:
    sparse = Observer.create(
        time_frames="5min", window_sizes=8, execute_on="5min", lookback=4, sparse=True
    )
    holed, decision = without(without(bars, 39), 33), end_of(bars)
    seen = sparse.validate(holed, decision, quote_ms=decision)
    np.testing.assert_array_equal(seen.ohlcv, holed.ohlcv[-12:])
    for quote_ms in (None, decision - 1):  # nobody knows that the venue was quiet
        with pytest.raises(StaleBarsError):
            sparse.validate(holed, decision, quote_ms=quote_ms)


def test_revised_bars_are_found(bars: Bars) -> None:
    before = Bars(bars.frame, bars.open_time_ms[:30], bars.ohlcv[:30])
    later = changed(newest_rows(bars, 20), 5, 4, 77.0)
    (found,) = revisions(before, later)
    assert found.open_time_ms == later.open_time_ms[5]
    assert (found.before[4], found.after[4]) == (bars.ohlcv[25, 4], 77.0)
    assert revisions(None, later) == ()
    assert revisions(bars, bars) == ()


def test_arranged_bars_are_those_that_have_ended(bars: Bars) -> None:
    seen = arrange(FIVE, bars.open_time_ms, bars.ohlcv, end_of(bars, 10) - 1)
    assert len(seen.open_time_ms) == 10


# Features ---------------------------------------------------------------------------------------


def cumulative(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"feature_total": bars["volume"].cumsum()})


def broken(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"feature_ratio": bars["close"] / bars["volume"]})


class Scaler:
    def fit(self, bars: pd.DataFrame) -> Any:
        return momentum


def test_features_with_a_longer_memory_than_declared_are_refused() -> None:
    common = {"time_frames": "5min", "window_sizes": 5, "execute_on": "5min"}
    with pytest.raises(ValueError, match="feature_total depends on more than 50 rows"):
        Observer.create(**common, features=cumulative)
    with pytest.raises(ValueError, match="feature_log_return depends on more than 0 rows"):
        Observer.create(**common, lookback=0)
    Observer.create(**common, lookback=1)
    with pytest.raises(ValueError, match="its rows depends on more than 2 rows"):
        Observer.create(**common, features=momentum, lookback=2)
    Observer.create(**common, features=momentum, lookback=3)


def test_nothing_is_fitted_on_live_bars() -> None:
    with pytest.raises(ValueError, match="Scaler must be fitted before"):
        Observer.create(time_frames="5min", window_sizes=5, execute_on="5min", features=Scaler())


def test_a_feature_that_is_not_finite_is_named(bars: Bars) -> None:
    observer = Observer.create(
        time_frames="5min", window_sizes=8, execute_on="5min", features=broken, lookback=4
    )
    seen = observer.validate(changed(bars, 36, 4, 0.0), end_of(bars))
    with pytest.raises(UnreadableError, match="feature_ratio is not finite in 1 of 12 rows"):
        observer.windows({"5Minute": seen})
    with pytest.raises(UnreadableError, match="bars of 5Minute: are absent"):
        observer.windows({})


def test_frames_that_do_not_divide_a_day_are_refused() -> None:
    with pytest.raises(ValueError, match="7Minute: bars must divide a day"):
        Observer.create(time_frames="7min", window_sizes=5, execute_on="1min")


def test_features_give_the_columns_of_the_specification(observer: Observer) -> None:
    with pytest.raises(ValueError, match=r"the function gives .*feature_momentum"):
        dataclasses.replace(observer, features=(momentum,))
    with pytest.raises(ValueError, match="2 sets for 1 frames"):
        dataclasses.replace(observer, features=("default", "default"))


def test_base_features_are_the_prices_of_the_window(bars: Bars) -> None:
    observer = Observer.create(
        time_frames="5min",
        window_sizes=8,
        execute_on="5min",
        features=momentum,
        base_features=True,
    )
    observer = dataclasses.replace(observer, lookback=10)
    seen = observer.windows({"5Minute": observer.validate(bars, end_of(bars))})
    np.testing.assert_array_equal(seen["base_features"], bars.ohlcv[-8:, :4].astype(np.float32))
    assert observer.shapes == {
        "market_data_5Minute": (8, 2),
        "base_features": (8, 4),
        "account_state": (6,),
    }


# The account ------------------------------------------------------------------------------------

INSTRUMENT = Instrument(
    "test", "BTC/USDT:USDT", "BTCUSDT", "BTC", "USDT", "USDT", *[Decimal(1)] * 9
)


def snapshot(
    position: Position, equity: str = "1000", maintenance: str | None = "5", **fields: Any
) -> Snapshot:
    amount = None if maintenance is None else Decimal(maintenance)
    price = Decimal(100)
    return Snapshot(
        bar_open_ms=fields.get("bar_open_ms", 0),
        venue_time_ms=fields.get("venue_time_ms", 0),
        received_monotonic_ns=0,
        instrument=INSTRUMENT,
        position=position,
        balance=Balance(Decimal(equity), Decimal(equity), amount, "USDT", 0),
        quote=Quote(price, price, price, fields.get("venue_time_ms", 0)),
        bars=fields.get("bars", {}),
    )


def held(quantity: str = "10", liquidation: str | None = "81", **fields: Any) -> Held:
    values = {
        "quantity": Decimal(quantity),
        "entry_price": Decimal(90),
        "mark_price": Decimal(100),
        "unrealised_pnl": Decimal(100),
        "leverage": Decimal(5),
        "margin_mode": MarginMode.ISOLATED,
        "liquidation_price": None if liquidation is None else Decimal(liquidation),
        "venue_time_ms": 0,
    }
    return Held(**{**values, **fields})


def test_the_six_numbers_of_a_long_and_of_a_short(observer: Observer) -> None:
    state = observer.account_state(snapshot(held()), 3)
    assert state.dtype == np.float32
    np.testing.assert_array_equal(state, np.float32([1, 1, 1 / 9, 3, 5, 0.19]))
    short = held("-4", "130")
    state = observer.account_state(snapshot(short, "800"), 1)
    np.testing.assert_array_equal(state, np.float32([0.5, -1, -1 / 9, 1, 5, 0.3]))
    assert len(ACCOUNT_STATE_LABELS) == len(state)


def test_a_flat_account_shows_nothing_held(observer: Observer) -> None:
    for equity in ("1000", "0", "-3"):
        state = observer.account_state(snapshot(Flat(), equity), 7)
        np.testing.assert_array_equal(state, np.float32([0, 0, 0, 0, 5, 1]))


@pytest.mark.parametrize(
    ("allocation", "exposure"), [(None, 1), (0.5, 2), (500.0, 2), (2000.0, 1), (1.0, 1)]
)
def test_exposure_is_relative_to_the_allocation(
    allocation: float | None, exposure: float, observer: Observer
) -> None:
    alone = dataclasses.replace(observer, allocation=allocation)
    state = alone.account_state(snapshot(held()), 3)
    assert state[0] == exposure
    np.testing.assert_array_equal(state[1:], observer.account_state(snapshot(held()), 3)[1:])
    with pytest.raises(UnreadableError, match="equity"):
        alone.account_state(snapshot(held(), "0"), 3)
    with pytest.raises(ValueError, match="allocation"):
        dataclasses.replace(observer, allocation=0.0)


def test_spot_has_no_liquidation() -> None:
    spot = Observer.create(time_frames="5min", window_sizes=8, execute_on="5min")
    state = spot.account_state(snapshot(held(liquidation="120")), 3)
    np.testing.assert_array_equal(state, np.float32([1, 1, 1 / 9, 3, 1, 1]))


@pytest.mark.parametrize("price", [None, "0", "NaN", "Infinity", "-1"])
@pytest.mark.parametrize(("quantity", "expected"), [("10", 72.36), ("-10", 107.64)])
def test_without_a_price_of_the_venue_the_isolated_formula_counts(
    price: str | None, quantity: str, expected: float, observer: Observer
) -> None:
    state = observer.account_state(snapshot(held(quantity, price)), 1)
    side = 1 if quantity == "10" else -1
    assert state[5] == np.float32(max(0, side * (100 - expected) / 100))


@pytest.mark.parametrize(("quantity", "price"), [("10", "100.5"), ("-10", "99.5")])
def test_a_price_on_the_winning_side_is_unreadable(
    quantity: str, price: str, observer: Observer
) -> None:
    with pytest.raises(UnreadableError, match="winning side of the mark 100"):
        observer.account_state(snapshot(held(quantity, price)), 1)


def test_cross_margin_takes_the_nearer_price(observer: Observer) -> None:
    def distance(quantity: str, equity: str, maintenance: str | None = "10") -> float:
        position = held(quantity, None, margin_mode=MarginMode.CROSS)
        return float(observer.account_state(snapshot(position, equity, maintenance), 1)[5])

    # 10 held, 4 of their own maintenance: others need 6; (10*100 + 6 - E) / (10 - 0.04).
    assert distance("10", "200") == pytest.approx(1 - 806 / 9.96 / 100, rel=1e-6)
    assert distance("10", "5000") == pytest.approx(1 - 0.7236, rel=1e-6)  # isolated is nearer
    assert distance("-10", "50") == pytest.approx((-1000 + 6 - 50) / -10.04 / 100 - 1, rel=1e-6)
    with pytest.raises(UnreadableError, match="maintenance margin of the account"):
        distance("10", "200", None)


def test_an_unknown_margin_mode_without_a_price_is_unreadable(observer: Observer) -> None:
    unknown = held(liquidation=None, margin_mode=MarginMode.UNKNOWN)
    with pytest.raises(UnreadableError, match="nor the margin mode"):
        observer.account_state(snapshot(unknown), 1)
    priced = held(margin_mode=MarginMode.UNKNOWN)
    assert observer.account_state(snapshot(priced), 1)[5] == np.float32(0.19)


@pytest.mark.parametrize(
    ("position", "equity", "message"),
    [
        (Unknown("timeout"), "1000", r"position: unknown \(timeout\)"),
        (held(), "0", "equity 0 under a position"),
        (held(), "-1", "equity -1 under a position"),
        (held(), "NaN", "equity: must be a finite number"),
        (Flat(), "NaN", "equity: must be a finite number"),
        (held("NaN"), "1000", "position quantity: must be a finite number"),
        (held(mark_price=Decimal(0)), "1000", "mark price: must be > 0"),
        (held(entry_price=Decimal("NaN")), "1000", "entry price: must be a finite"),
        (held("1E+60", mark_price=Decimal("1E+60")), "1000", "exposure_pct is not finite"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_is_unreadable(
    position: Position, equity: str, message: str, observer: Observer
) -> None:
    with pytest.raises(UnreadableError, match=message):
        observer.account_state(snapshot(position, equity), 1)


# The whole --------------------------------------------------------------------------------------


def test_an_observation_has_the_shapes_it_declares(observer: Observer, bars: Bars) -> None:
    seen = observer.observe(
        snapshot(
            held(),
            bar_open_ms=int(bars.open_time_ms[-1]),
            venue_time_ms=end_of(bars),
            bars={"5Minute": bars},
        ),
        2,
    )
    assert {key: part.shape for key, part in seen.items()} == observer.shapes
    assert list(seen) == list(observer.shapes)
    packed = packing.pack(seen)
    again = packing.unpack(packed)
    assert packing.pack(again) == packed
    for key, part in seen.items():
        np.testing.assert_array_equal(again[key], part)
        assert again[key].dtype == np.float32


def test_a_bar_that_has_not_ended_at_the_venue_is_unreadable(
    observer: Observer, bars: Bars
) -> None:
    early = snapshot(
        Flat(),
        bar_open_ms=int(bars.open_time_ms[-1]),
        venue_time_ms=end_of(bars) - 1,
        bars={"5Minute": bars},
    )
    with pytest.raises(UnreadableError, match="03:15:00 UTC: has not ended"):
        observer.observe(early, 0)


@pytest.mark.parametrize("damage", [b"", b"\x05\0\0\0hello", b"\xff\xff\xff\xff", b"\x02\0\0\0[]"])
def test_bytes_that_are_no_observation_are_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match="observation"):
        packing.unpack(damage)


def test_a_cut_observation_is_refused() -> None:
    packed = packing.pack({"account_state": np.zeros(6, np.float32)})
    with pytest.raises(ValueError, match="holds 5 numbers, its header says 6"):
        packing.unpack(packed[:-4])
    with pytest.raises(ValueError, match="must be float32; got float64"):
        packing.pack({"account_state": np.zeros(6)})
