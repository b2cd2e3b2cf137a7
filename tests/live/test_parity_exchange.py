"""The same actions on the environment and, through the real SDK, on the local exchange.

On prices with gaps the two are comparable at a bar's last price, before the jump to the next open,
and on bars whose inside decides nothing (docs/live-vs-backtest.md, "On an exchange").
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxtrade import Rules
from jaxtrade.core import exits
from live.exchange.opening import default_instrument
from live.replay.data import ReplayData
from tests.envs.builders import walk
from tests.live.harness import minutes
from tests.live.parity import (
    Case,
    Course,
    Seen,
    check_exchange,
    check_replay,
    cut,
    data_of,
    real_minutes,
    repeated,
    stepped,
    unit_steps,
    wildest,
)
from tests.reference import recordings

HISTORY = 300
FRAMES = {"time_frames": ("1min", "5min"), "window_sizes": (8, 4), "execute_on": "1min"}
FEE = {"transaction_fee": 0.0004}
# Offline a target is a limit order and pays no spread; the exchange triggers a market order.
SPREAD = {**FEE, "half_spread": 0.0001}
# With it, a bar whose inside decides can be sat out.
CLOSE = {"include_close_action": True}
DECISIONS: dict[str, dict[str, Any]] = {
    "levels": {"costs": SPREAD},
    "fractional": {
        "brackets": True,
        "costs": FEE,
        "fields": {**CLOSE, "trade_mode": "fractional", "position_fraction": 0.9},
    },
    "notional": {
        "brackets": True,
        "costs": FEE,
        "fields": {**CLOSE, "trade_mode": "notional", "quantity_per_trade": 9_000.0},
    },
    "quantity": {
        "brackets": True,
        "costs": FEE,
        "fields": {**CLOSE, "trade_mode": "quantity"},
    },
}


def case_on(prices: pd.DataFrame, decision: str, leverage: float, rules: Rules = Rules()) -> Case:
    """A case whose stops, targets and sizes are of the scale of the prices."""
    given = DECISIONS[decision]
    fields = dict(given.get("fields", {}))
    # Every exit of the exchange pays the spread; offline the rules decide.
    costs = given["costs"] if rules.exit_slippage else FEE
    width = min(float((prices["high"] / prices["low"] - 1).quantile(0.9)), 0.05)
    if given.get("brackets"):
        fields["stoploss_levels"] = (-2 * width, -5 * width)
        fields["takeprofit_levels"] = (2 * width, 7 * width)
    if decision == "quantity":
        fields["quantity_per_trade"] = 8_000.0 / float(prices["close"].iloc[0])
    return Case(
        **{**given, "costs": costs, "fields": fields},
        leverage=leverage,
        frames=FRAMES,
        rules=rules,
        maintenance_rate=0.005,
    )


def compare(prices: pd.DataFrame, case: Case, seed: int, steps: int, *, exact: bool = True) -> Seen:
    """One course on environment, replay and exchange."""
    course = Course(case, prices, clear=case.brackets)
    actions = repeated(np.random.default_rng(seed), steps, course.env.num_actions)
    made = course.run(HISTORY - 1, steps, stepped(actions), np.full(steps, 0.5))
    # The test can fail: something was traded, held, and seldom sat out.
    assert len(made) > steps // 3
    assert sum(a != step.action for a, step in zip(actions, made, strict=False)) <= steps // 5
    held = check_replay(case, data_of(case, prices), HISTORY - 1, made, np.full(steps, 0.5))
    instrument = unit_steps(prices) if exact else default_instrument()
    seen = check_exchange(case, prices, HISTORY, made, instrument, exact=exact)
    assert held > len(made) // 4
    assert seen.held == held
    return seen


# Generated and real prices ----------------------------------------------------------------------

STEPS = 90


@functools.cache
def real(path: Path, steps: int) -> pd.DataFrame:
    """The wildest hours of the month: bars of 2 %, and opens that are not the close before."""
    frame = real_minutes(path)
    part = cut(frame, 7_007, HISTORY + 20, steps + 20)
    assert (part["open"].to_numpy()[1:] != part["close"].to_numpy()[:-1]).mean() > 0.05
    return part


QUICK = [("levels", 3.0), ("fractional", 3.0)]
REAL = [(decision, leverage) for decision in DECISIONS for leverage in (1.0, 3.0)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("decision", "leverage"), QUICK)
def test_the_exchange_does_what_the_environment_does(
    btc_minutes_file: Path, decision: str, leverage: float
) -> None:
    prices = real(btc_minutes_file, 40)
    found = compare(prices, case_on(prices, decision, leverage), 1, 40).exits
    assert decision == "levels" or found >= {exits.STOP}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("exact", [True, False], ids=["unit lots", "real lots"])
@pytest.mark.parametrize(("decision", "leverage"), REAL)
def test_real_prices_through_the_exchange(
    btc_minutes_file: Path, decision: str, leverage: float, exact: bool
) -> None:
    prices = real(btc_minutes_file, STEPS)
    found = compare(prices, case_on(prices, decision, leverage), 1, STEPS, exact=exact).exits
    assert decision == "levels" or found & {exits.STOP, exits.TARGET}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("decision", "leverage"), REAL)
def test_generated_prices_through_the_exchange(decision: str, leverage: float) -> None:
    prices = minutes(HISTORY + STEPS + 30, volatility=0.002)
    compare(prices, case_on(prices, decision, leverage), 1, STEPS)


# Funding ----------------------------------------------------------------------------------------

# Long and short, each paying and receiving.
EVERY_PAYMENT = {(side, sign) for side in (1, -1) for sign in (1, -1)}
LEVERAGES = (1.0, 2.0, 5.0, 10.0)


def funded(prices: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The prices with a payment in every third row, now to the one side, now to the other."""
    rates = np.random.default_rng(seed).normal(0, 5e-4, len(prices))
    return prices.assign(funding=np.where(np.arange(len(prices)) % 3 == 1, rates, 0.0))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("decision", "leverage"), [("levels", 3.0), ("quantity", 10.0)])
def test_funding_is_the_same_on_all_three(
    btc_minutes_file: Path, decision: str, leverage: float
) -> None:
    prices = funded(real(btc_minutes_file, 40), 1)
    found = compare(prices, case_on(prices, decision, leverage), 2, 40)
    assert found.paid == EVERY_PAYMENT


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("leverage", LEVERAGES)
@pytest.mark.parametrize("decision", DECISIONS)
def test_funding_over_many_bars(btc_minutes_file: Path, decision: str, leverage: float) -> None:
    prices = funded(real(btc_minutes_file, 60), 3)
    # Real lots once for each kind of decision.
    exact = leverage != LEVERAGES[list(DECISIONS).index(decision)]
    found = compare(prices, case_on(prices, decision, leverage), 4, 60, exact=exact)
    # Leverage 1 is a spot account here, which is never short.
    assert found.paid >= {pair for pair in EVERY_PAYMENT if leverage > 1 or pair[0] > 0}


# Orders that fill at the next open --------------------------------------------------------------

NEXT_OPEN = Rules(fill_at="next_open")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("decision", "leverage"), QUICK)
def test_orders_fill_at_the_next_open(
    btc_minutes_file: Path, decision: str, leverage: float
) -> None:
    prices = funded(real(btc_minutes_file, 40), 1)
    found = compare(prices, case_on(prices, decision, leverage, NEXT_OPEN), 1, 40)
    assert decision == "levels" or found.exits >= {exits.STOP}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_order_at_the_next_open_goes_before_the_stops_that_the_jump_reaches() -> None:
    prices = walk(HISTORY + 70, 3, sigma=1e-3, gap=4e-3)
    case = case_on(prices, "fractional", 2.0, NEXT_OPEN)
    near = {"stoploss_levels": (-0.003, -0.005), "takeprofit_levels": (0.05, 0.06)}
    case = dataclasses.replace(case, fields={**case.fields, **near})
    found = compare(prices, case, 1, 50)
    assert found.exits >= {exits.STOP}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("decision", "leverage"), REAL)
def test_orders_fill_at_the_next_open_of_many_bars(
    btc_minutes_file: Path, decision: str, leverage: float
) -> None:
    prices = funded(real(btc_minutes_file, STEPS), 3)
    case = case_on(prices, decision, leverage, NEXT_OPEN)
    found = compare(prices, case, 1, STEPS, exact=leverage > 1)
    assert decision == "levels" or found.exits & {exits.STOP, exits.TARGET}


# Recorded frames --------------------------------------------------------------------------------

DATASETS = (
    "calm",
    "crash",
    "gaps",
    "high_price",
    "holes",
    "long_volatile",
    "long_walk",
    "low_price",
    "nan_fields",
    "ticks",
    "trend_down",
    "trend_up",
    "volatile",
)


@functools.cache
def recorded(dataset: str, steps: int) -> pd.DataFrame:
    """Every minute of a recorded frame around its wildest bar, as an exchange would publish it."""
    frame = recordings.frame(dataset)
    data = ReplayData.from_frame(
        frame, time_frames="1min", window_sizes=2, execute_on="1min", rules=Rules.reference()
    )
    bars = data.execution
    columns = dict(zip(("open", "high", "low", "close", "volume"), bars.ohlcv.T, strict=True))
    times = pd.to_datetime(bars.open_time_ms, unit="ms", utc=True)
    whole = pd.DataFrame({"timestamp": times, **columns})
    return cut(whole, wildest(whole, HISTORY + 40), HISTORY + 30, steps)


@pytest.mark.slow
@pytest.mark.skipif(
    not (recordings.FOLDER / "index.json").is_file(),
    reason="needs ../shared/reference (recorded frames), which is absent",
)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["levels", "brackets"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_recorded_prices_through_the_exchange(dataset: str, kind: str) -> None:
    number = DATASETS.index(dataset)
    modes = [name for name in DECISIONS if name != "levels"]
    decision = kind if kind == "levels" else modes[number % len(modes)]
    leverage = (3.0, 1.0, 5.0, 1.5)[(number + (kind == "levels")) % 4]
    rules = (Rules(), Rules.reference())[number % 2]
    prices = recorded(dataset, 60)
    compare(prices, case_on(prices, decision, leverage, rules), number, 60)
