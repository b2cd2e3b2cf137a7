"""The metrics: golden values, properties, round trips, agreement with known libraries."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import empyrical
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrade import metrics
from jaxtrade.timeframe import TimeFrame

CURVE = [1000.0, 1010, 1005, 900, 950, 1200, 1100, 1150]
TWO_PEAKS = [100.0, 110, 105, 110, 99, 104, 110, 111]

CURVE_METRICS = {
    "total_return": metrics.total_return,
    "annual_return": lambda e: metrics.annual_return(e, 252),
    "volatility": lambda e: metrics.volatility(e, 252),
    "sharpe_ratio": lambda e: metrics.sharpe_ratio(e, 252, 0.02),
    "sortino_ratio": lambda e: metrics.sortino_ratio(e, 252, 0.02, 0.0001),
    "max_drawdown": metrics.max_drawdown,
    "max_drawdown_duration": metrics.max_drawdown_duration,
    "recovery": metrics.recovery,
    "current_drawdown": metrics.current_drawdown,
    "peak_value": metrics.peak_value,
    "trough_value": metrics.trough_value,
    "calmar_ratio": lambda e: metrics.calmar_ratio(e, 252),
    "win_rate": lambda e: metrics.win_statistics(metrics.returns(e)).win_rate,
    "avg_win": lambda e: metrics.win_statistics(metrics.returns(e)).avg_win,
    "avg_loss": lambda e: metrics.win_statistics(metrics.returns(e)).avg_loss,
    "profit_factor": lambda e: metrics.win_statistics(metrics.returns(e)).profit_factor,
}
IN_MONEY = ("peak_value", "trough_value")
all_curve_metrics = jax.jit(lambda e: {name: metric(e) for name, metric in CURVE_METRICS.items()})


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def random_curves(count: int, steps: int, seed: int = 0, volatility: float = 0.01) -> np.ndarray:
    """Equity curves [count, steps + 1] of normal log returns with a small drift."""
    draws = np.random.default_rng(seed).normal(0.0003, volatility, (count, steps))
    return 1000 * np.exp(np.cumsum(np.pad(draws, ((0, 0), (1, 0))), axis=1))


def test_golden_drawdown_and_wins() -> None:
    fall = metrics.deepest_drawdown(CURVE)
    expected = (-0.1089108911, 2, 2, -0.0416666667, 1010, 900)
    np.testing.assert_allclose(fall, expected, rtol=0, atol=1e-9)
    assert metrics.total_return(CURVE) == pytest.approx(0.15, abs=1e-12)
    wins = metrics.win_statistics(metrics.returns(CURVE))
    expected = (0.5714285714, 0.0935419989, -0.0642538134, 1.9410935876)
    np.testing.assert_allclose(wins, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("ppy", "expected"),
    [
        (8760, (20.0637759231, 20.0620257664, 47.9863067979, 11.3147867765, 10, 91.8181818182)),
        (252, (3.4029916714, 3.3926724890, 8.1388968357, 1.9190866819, 10, 91.8181818182)),
        (7, (0.5671652786, 0.5051649608, 1.3564828059, 0.3198477803, 0.15, 1.3772727273)),
    ],
)
def test_golden_ratios(ppy: float, expected: tuple[float, ...]) -> None:
    found = (
        metrics.sharpe_ratio(CURVE, ppy),
        metrics.sharpe_ratio(CURVE, ppy, 0.02),
        metrics.sortino_ratio(CURVE, ppy),
        metrics.volatility(CURVE, ppy),
        metrics.annual_return(CURVE, ppy),
        metrics.calmar_ratio(CURVE, ppy),
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_peak_that_is_attained_twice_starts_the_drawdown_the_second_time() -> None:
    fall = metrics.deepest_drawdown(TWO_PEAKS)
    assert (fall.depth, fall.duration, fall.recovery) == (pytest.approx(-0.1), 1, 2)


def test_trough_that_is_attained_twice_counts_the_first_time() -> None:
    fall = metrics.deepest_drawdown([100.0, 90, 95, 90, 80, 90, 80, 99])
    assert (fall.duration, fall.recovery, fall.trough) == (4, -1, 80)


def test_curve_without_a_drawdown() -> None:
    rising = [100.0, 101, 103]
    assert tuple(metrics.deepest_drawdown(rising)) == (0, 0, 0, 0, 100, 100)
    assert metrics.sortino_ratio(rising, 252) == 1000
    assert metrics.calmar_ratio(rising, 252) == 1000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("growth", [1e-6, 1e-4, 0.01, -0.01])
def test_constant_returns_have_no_sharpe_ratio(dtype: str, growth: float) -> None:
    curve = jnp.asarray(1000 * (1 + growth) ** np.arange(500), dtype)
    if dtype == "float64":
        assert metrics.sharpe_ratio(curve, 8760) == 0
    else:  # a curve rounded to float32 has returns that differ, by a few 1e-8
        assert abs(metrics.sharpe_ratio(curve, 8760)) < 0.01 * abs(growth) / 1e-8 * np.sqrt(8760)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_equity_gives_zero(dtype: str) -> None:
    curve = jnp.full(50, 1234.5, dtype)
    for name, value in all_curve_metrics(curve).items():
        assert value.dtype == jnp.dtype(dtype)
        if name == "sortino_ratio":  # short of its target in every period: no reward for silence
            assert value < 0
        else:
            assert value == (1234.5 if name in IN_MONEY else 0), name


def test_single_return_and_no_return() -> None:
    assert metrics.sharpe_ratio([100.0, 110], 252) == 0
    assert metrics.volatility([100.0, 110], 252) == 0
    assert metrics.sortino_ratio([100.0, 110], 252) == 1000
    for name, value in all_curve_metrics(np.array([100.0])).items():
        assert value == (100 if name in IN_MONEY else 0), name


@pytest.mark.parametrize("end", [[0.0], [0.0, 0.0, 0.0], [-5.0], [-5.0, -5.0]])
def test_ruin_is_finite_and_never_rewarded(end: list[float]) -> None:
    curve = [1000.0, 1010, 1005, 1015, *end]
    values = {name: float(value) for name, value in all_curve_metrics(np.array(curve)).items()}
    assert all(np.isfinite(value) for value in values.values())
    assert values["annual_return"] == -1
    assert values["total_return"] <= -1
    assert values["max_drawdown"] <= -1
    for name in ("sharpe_ratio", "sortino_ratio", "calmar_ratio"):
        assert values[name] < 0


def test_annual_return_is_capped_and_compounded() -> None:
    assert metrics.annual_return([1.0, 1.1], 2) == pytest.approx(0.21, abs=1e-12)
    assert metrics.annual_return([1.0, 2.0], 525600) == pytest.approx(10, abs=1e-12)
    assert metrics.annual_return([1.0, 0.5], 525600) == -1


@pytest.mark.parametrize("at", [0, 3, 7])
def test_nan_in_gives_nan_out(at: int) -> None:
    curve = np.array(CURVE)
    curve[at] = np.nan
    for name, value in all_curve_metrics(curve).items():
        assert np.isnan(value), name


def test_vmapped_equals_looped() -> None:
    curves = random_curves(5, 80)
    together = jax.jit(jax.vmap(all_curve_metrics))(curves)
    for k, curve in enumerate(curves):
        for name, value in all_curve_metrics(curve).items():
            np.testing.assert_allclose(together[name][k], value, rtol=1e-12, err_msg=name)


@given(curve=st.lists(st.floats(0.5, 2), min_size=12, max_size=12), scale=st.floats(1e-6, 1e6))
def test_metrics_are_invariant_to_scaling_equity(curve: list[float], scale: float) -> None:
    # Scaling by a power of two is exact, so that even comparisons of rounded numbers agree.
    scale = 2.0 ** round(np.log2(scale))
    with jax.enable_x64(True):
        plain = all_curve_metrics(np.array(curve))
        scaled = all_curve_metrics(np.array(curve) * scale)
    for name, value in plain.items():
        expected = value * scale if name in IN_MONEY else value
        np.testing.assert_allclose(scaled[name], expected, rtol=1e-12, err_msg=name)


def test_time_frame_is_accepted_as_periods_per_year() -> None:
    hour = SimpleNamespace(periods_per_year=8760.0)
    assert metrics.sharpe_ratio(CURVE, hour) == metrics.sharpe_ratio(CURVE, 8760)
    frame = TimeFrame.parse("1hour")
    assert metrics.sharpe_ratio(CURVE, frame) == metrics.sharpe_ratio(CURVE, 8760)


@pytest.mark.parametrize("ppy", [0, -1.0, float("nan"), float("inf")])
def test_refused_periods_per_year(ppy: float) -> None:
    with pytest.raises(ValueError) as caught:
        metrics.sharpe_ratio(CURVE, ppy)
    assert str(caught.value) == (
        f"ppy: must be a number > 0 (8760 for hours) or a TimeFrame; got {ppy!r}."
    )


def test_float32_is_close_to_float64() -> None:
    curve = random_curves(1, 2000)[0]
    expected = all_curve_metrics(curve)
    for name, found in all_curve_metrics(jnp.asarray(curve, jnp.float32)).items():
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected[name], rtol=2e-3, err_msg=name)


# -- against an established library ------------------------------------------------------------

RISK_FREE, TARGET = 0.03, 0.0005  # per year, per period


@jax.jit
@partial(jax.vmap, in_axes=(0, None))
def compared(curve: Any, ppy: float) -> dict[str, Any]:
    """Every metric that the library has too."""
    outcomes = metrics.win_statistics(metrics.returns(curve))
    return {
        "returns": metrics.returns(curve),
        "total_return": metrics.total_return(curve),
        "annual_return": metrics.annual_return(curve, ppy),
        "volatility": metrics.volatility(curve, ppy),
        "sharpe_ratio": metrics.sharpe_ratio(curve, ppy),
        "sharpe_ratio above the risk-free": metrics.sharpe_ratio(curve, ppy, RISK_FREE),
        "sortino_ratio": metrics.sortino_ratio(curve, ppy),
        "sortino_ratio above a target": metrics.sortino_ratio(
            curve, ppy, jnp.expm1(ppy * jnp.log1p(TARGET)), TARGET
        ),
        "drawdown_curve": metrics.drawdown_curve(curve)[1:],
        "max_drawdown": metrics.max_drawdown(curve),
        "current_drawdown": metrics.current_drawdown(curve),
        "calmar_ratio": metrics.calmar_ratio(curve, ppy),
        "win_rate": outcomes.win_rate,
        "profit_factor": outcomes.profit_factor,
    }


def of_the_library(curve: np.ndarray, ppy: float) -> dict[str, Any]:
    """The same metrics by empyrical-reloaded."""
    r, year = empyrical.simple_returns(curve), {"annualization": ppy}
    falls = empyrical.stats.drawdown_series(r)
    # Annual returns are capped here, and the ratio to the drawdown as well.
    growth = min(empyrical.cagr(r, **year), 10)
    assert growth == min(empyrical.annual_return(r, **year), 10)
    capped = growth / empyrical.annual_return(r, **year)
    return {
        "returns": r,
        "total_return": empyrical.cum_returns_final(r),
        "annual_return": growth,
        "volatility": empyrical.annual_volatility(r, **year),
        "sharpe_ratio": empyrical.sharpe_ratio(r, 0, **year),
        "sharpe_ratio above the risk-free": empyrical.sharpe_ratio(
            r, (1 + RISK_FREE) ** (1 / ppy) - 1, **year
        ),
        "sortino_ratio": empyrical.sortino_ratio(r, 0, **year),
        "sortino_ratio above a target": empyrical.sortino_ratio(r, TARGET, **year),
        "drawdown_curve": falls,
        "max_drawdown": empyrical.max_drawdown(r),
        "current_drawdown": falls[-1],
        "calmar_ratio": np.clip(empyrical.calmar_ratio(r, **year) * capped, -1000, 1000),
        "win_rate": empyrical.batting_average(r, np.zeros_like(r))["batting average"],
        "profit_factor": empyrical.omega_ratio(r, annualization=1),
    }


@pytest.mark.parametrize("ppy", [252, 365, 8760])
@pytest.mark.parametrize("volatility", [0.001, 0.01, 0.05])
def test_agrees_with_empyrical(ppy: int, volatility: float) -> None:
    curves = random_curves(12, 700, seed=ppy, volatility=volatility)
    found = compared(curves, float(ppy))
    for k, curve in enumerate(curves):
        for name, value in of_the_library(curve, ppy).items():
            # A return is a difference of numbers near 1: its last digits are rounding.
            np.testing.assert_allclose(found[name][k], value, rtol=1e-8, atol=1e-12, err_msg=name)


def test_the_days_of_the_deepest_drawdown_agree_with_a_plain_search() -> None:
    for curve in random_curves(40, 120, seed=3):
        falls = [value / max(curve[: k + 1]) - 1 for k, value in enumerate(curve)]
        bottom = falls.index(min(falls))
        peak = list(curve).index(max(curve[: bottom + 1]))
        later = [k for k in range(bottom, len(curve)) if curve[k] >= curve[peak]]
        found = metrics.deepest_drawdown(curve)
        expected = (bottom - peak, later[0] - bottom if later else -1, curve[peak], curve[bottom])
        assert (found.duration, found.recovery, found.peak, found.trough) == expected


def test_mean_wins_and_losses_agree_with_numpy() -> None:
    for curve in random_curves(5, 200, seed=4):
        r = np.diff(curve) / curve[:-1]
        found = metrics.win_statistics(r)
        expected = (r[r > 0].mean(), r[r <= 0].mean())
        np.testing.assert_allclose((found.avg_win, found.avg_loss), expected, rtol=1e-12)


# -- round trips --------------------------------------------------------------------------------

CLOSES = [100, 100, 104, 102, 108, 108, 96, 96, 100, 97, 97, 97, 97]
LEVELS_G1 = [1.0, 1, 0.5, 1, 1, 0, 0.5, 0]
LEVELS_G2 = [0.5, 1, 0.5, -0.5, -1, 0, 1, -1, -1]
EVENTS_G1 = [2, 0, 8, 4, 0, 1, 2, 1]
EVENTS_G2 = [2, 16, 4, 3, 4, 1, 2, 3, 0]


def replay(levels: list[float], events: list[int], leverage: float, fee: float) -> dict[str, Any]:
    """Record of a golden trace from its levels and events; formulas of "Account" and "Levels"."""
    cash, quantity, entry = 1000.0, 0.0, 0.0
    rows: dict[str, list[Any]] = {"cash": [cash], "quantity": [0.0], "equity": [cash]}
    steps: dict[str, list[Any]] = {"closed_cash": [], "cost": [], "traded_notional": []}

    def equity(price: float) -> float:
        return cash + abs(quantity) * entry / leverage + quantity * (price - entry)

    def size(balance: float, level: float, price: float) -> float:
        return balance * level * leverage / (1 + leverage * fee) / price

    for k, (level, event) in enumerate(zip(levels, events, strict=True)):
        price, mark, closed, paid = CLOSES[k + 1], CLOSES[k + 2], np.nan, 0.0
        target = size(equity(price), level, price)
        if event & 9:  # closed or decreased
            gone = quantity - (target if event & 8 else 0.0)
            leg_fee = fee * abs(gone) * price
            cash += gone * (price - entry) - leg_fee + abs(gone) * entry / leverage
            quantity, paid = quantity - gone, paid + leg_fee
            if event & 1:
                closed, entry = cash, 0.0
                target = size(cash, level, price)
        if event & 6:  # opened or increased
            added = target - quantity
            leg_fee = fee * abs(added) * price
            cash -= abs(added) * price / leverage + leg_fee
            entry = (entry * abs(quantity) + price * abs(added)) / abs(target)
            quantity, paid = target, paid + leg_fee
        rows["cash"].append(cash)
        rows["quantity"].append(quantity)
        rows["equity"].append(equity(mark))
        steps["closed_cash"].append(closed)
        steps["cost"].append(paid)
        steps["traded_notional"].append(paid / fee)
    record = {name: np.array(values) for name, values in {**rows, **steps}.items()}
    exposure = abs(record["quantity"]) * np.array(CLOSES[1 : len(levels) + 2]) / record["equity"]
    state = np.zeros((len(levels) + 1, 6))
    state[:, 0] = exposure
    return {
        **record,
        "account_state": state,
        "event": np.array(events, np.int32),
        "exit_kind": np.zeros(len(levels), np.int32),
    }


def trips_of(record: dict[str, Any]) -> metrics.RoundTrips:
    """The round trips of a record."""
    names = ("cash", "quantity", "event", "closed_cash", "exit_kind")
    return metrics.round_trips(*(record[name] for name in names))


def test_golden_trace_g1() -> None:
    record = replay(LEVELS_G1, EVENTS_G1, 1, 0.001)
    assert record["equity"][-1] == pytest.approx(949.016980, abs=1e-6)
    check_g1(record)


def check_g1(record: dict[str, Any]) -> None:
    """Statistics of the spot golden trace."""
    trips = trips_of(record)
    found = np.asarray(metrics.trade_returns(trips))[np.asarray(trips.completed)]
    np.testing.assert_allclose(found, [-0.0694020723, 0.0197927073], rtol=0, atol=1e-9)
    table = metrics.summarize(record, 525600)
    expected = {
        "num_trades": 2,
        "win_rate": 0.5,
        "avg_win": 0.0197927073,
        "avg_loss": -0.0694020723,
        "profit_factor": 0.2653962885,
        "costs": 3.8974689621,
        "turnover": 3.9346731140,
        "exposure_time": 0.75,
        "open_trade": 0,
    }
    for name, value in expected.items():
        assert table[name] == pytest.approx(value, abs=1e-9), name
    assert record["traded_notional"].sum() == pytest.approx(3897.4689621, abs=1e-6)


def test_golden_trace_g2() -> None:
    record = replay(LEVELS_G2, EVENTS_G2, 5, 0.0005)
    assert record["equity"][-1] == pytest.approx(2566.387816, abs=1e-6)
    check_g2(record)


def check_g2(record: dict[str, Any]) -> None:
    """Statistics of the leveraged golden trace, which ends with an open short."""
    trips = trips_of(record)
    found = np.asarray(metrics.trade_returns(trips))[np.asarray(trips.completed)]
    expected = [0.2010338025, 0.5487745723, 0.2027223608]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    table = metrics.summarize(record, 525600)
    expected_table = {
        "num_trades": 3,
        "win_rate": 1,
        "avg_loss": 0,
        "profit_factor": 1000,
        "costs": 23.3672032331,
        "turnover": 28.0740488588,
        "open_trade": 1,
    }
    for name, value in expected_table.items():
        assert table[name] == pytest.approx(value, abs=1e-8), name


def golden_bars() -> Any:
    """The series of the golden traces as minute bars."""
    closes = np.array(CLOSES, float)
    opens = np.concatenate([closes[:1], closes[:-1]])
    columns = {
        "timestamp": pd.date_range("2024-01-01", periods=closes.size, freq="1min"),
        "open": opens,
        "high": np.maximum(opens, closes) + 1,
        "low": np.minimum(opens, closes) - 1,
        "close": closes,
        "volume": np.ones(closes.size),
    }
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("config", "levels", "check"),
    [
        ({"transaction_fee": 0.001, "action_levels": (0, 0.5, 1)}, LEVELS_G1, check_g1),
        (
            {"transaction_fee": 0.0005, "leverage": 5, "maintenance_margin_rate": 0.004},
            LEVELS_G2,
            check_g2,
        ),
    ],
    ids=["G1", "G2"],
)
def test_statistics_of_the_traced_golden_episodes(config: Any, levels: Any, check: Any) -> None:
    """The environment's own record gives the same numbers as the one computed by hand."""
    from jaxtrade import Rules, SequentialTradingEnv, SequentialTradingEnvConfig, trace

    with jax.enable_x64(False):
        env = SequentialTradingEnv(
            golden_bars(),
            SequentialTradingEnvConfig(
                time_frames="1min",
                window_sizes=1,
                execute_on="1min",
                initial_cash=1000,
                random_start=False,
                rules=Rules.reference(),
                **config,
            ),
        )
        actions = [int(np.flatnonzero(np.isclose(env.levels, level))[0]) for level in levels]
        record = trace(env, np.array(actions), start="2024-01-01 00:01", float64=True)
    check(record)


def test_exit_of_a_bar_ends_a_trip_also_in_the_step_that_opened_it() -> None:
    # Step 0 opens and is stopped out, step 1 opens, step 2 flips and the bar liquidates the flip.
    trips = metrics.round_trips(
        cash=[100.0, 90, 10, 50],
        quantity=[0.0, 0, 1, 0],
        event=[2, 2, 3],
        closed_cash=[np.nan, np.nan, 120],
        exit_kind=[2, 0, 1],
    )
    np.testing.assert_array_equal(trips.completed, [[False, True], [False, False], [True, True]])
    np.testing.assert_array_equal(trips.profit, [[0, -10], [0, 0], [30, -70]])
    np.testing.assert_array_equal(trips.balance_before, [[0, 100], [0, 0], [90, 120]])
    assert not trips.open_trade


def test_flip_whose_second_half_was_refused_only_closes() -> None:
    trips = metrics.round_trips(
        cash=[100.0, 10, 95, 95],
        quantity=[0.0, 1, 0, 0],
        event=[2, 17, 16],
        closed_cash=[np.nan, 95, np.nan],
        exit_kind=[0, 0, 0],
    )
    assert int(metrics.num_trades(trips)) == 1
    assert float(metrics.trade_returns(trips).sum()) == pytest.approx(-0.05)


def test_no_steps_and_no_trades() -> None:
    empty = metrics.round_trips([100.0], [0.0], np.zeros(0, int), np.zeros(0), np.zeros(0, int))
    assert int(metrics.num_trades(empty)) == 0
    assert tuple(metrics.trade_statistics(empty)) == (0, 0, 0, 0)
    assert tuple(metrics.win_statistics(np.zeros(0))) == (0, 0, 0, 0)


def test_win_statistics_corners() -> None:
    assert tuple(metrics.win_statistics([1.0, 3.0])) == (1, 2, 0, 1000)  # a perfect run
    assert tuple(metrics.win_statistics([-1.0, -3.0])) == (0, 0, -2, 0)
    assert tuple(metrics.win_statistics([0.0, 0.0])) == (0, 0, 0, 0)  # profit 0 is no win
    assert metrics.win_statistics([1e9, -1e-9]).profit_factor == 1000
    assert all(np.isnan(metrics.win_statistics([1.0, np.nan])))


def test_round_trips_are_vmappable() -> None:
    spot = replay(LEVELS_G1, EVENTS_G1, 1, 0.001)
    futures = replay(LEVELS_G2[:8], EVENTS_G2[:8], 5, 0.0005)
    both = {name: np.stack([spot[name], futures[name]]) for name in spot}
    trips = jax.vmap(lambda record: trips_of(record))(both)
    np.testing.assert_array_equal(jax.vmap(metrics.num_trades)(trips), [2, 3])
    assert trips.open_trade.tolist() == [False, True]


def test_summarize_matches_the_single_functions() -> None:
    record = replay(LEVELS_G1, EVENTS_G1, 1, 0.001)
    table = metrics.summarize(record, 252)
    assert all(type(value) is float for value in table.values())
    for name in ("total_return", "volatility", "max_drawdown", "peak_value", "calmar_ratio"):
        assert table[name] == pytest.approx(float(CURVE_METRICS[name](record["equity"])), rel=1e-12)
    assert table["sharpe_ratio"] == pytest.approx(
        float(metrics.sharpe_ratio(record["equity"], 252)), rel=1e-12
    )
    trips = trips_of(record)
    for name in ("win_rate", "avg_win", "avg_loss", "profit_factor"):
        assert table[name] == pytest.approx(float(getattr(metrics, name)(trips)), rel=1e-12)


def test_summarize_computes_in_float64_whatever_the_setting() -> None:
    record = replay(LEVELS_G1, EVENTS_G1, 1, 0.001)
    with jax.enable_x64(False):
        check_g1_cost = metrics.summarize(record, 525600)["costs"]
    assert check_g1_cost == pytest.approx(3.8974689621, abs=1e-9)


def test_summarize_names_what_a_record_lacks() -> None:
    record = replay(LEVELS_G1, EVENTS_G1, 1, 0.001)
    del record["cost"], record["event"]
    with pytest.raises(ValueError) as caught:
        metrics.summarize(record, 252)
    assert str(caught.value) == (
        "summarize: the record has no event, cost; pass what jaxtrade.trace returns."
    )
