"""The same actions on the same bars: environment and replay agree, whoever drives the replay."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxtrade import OneStepTradingEnv, OneStepTradingEnvConfig, Rules, trace
from jaxtrade.core import exits
from tests.envs.builders import walk
from tests.live.parity import (
    STOPS,
    Case,
    Course,
    check_replay,
    data_of,
    real_minutes,
    repeated,
    stepped,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# Every value of every axis, and below every pair of values.
AXES: dict[str, tuple[str, ...]] = {
    "decision": ("levels", "fractional", "notional", "quantity"),
    "leverage": ("1", "1.5", "5", "20"),
    "extra": ("plain", "close", "lock"),
    "fee": ("free", "4bp"),
    "spread": ("tight", "wide"),
    "slippage": ("still", "slips"),
    "funding": ("unfunded", "funded"),
    "rules": ("default", "reference", "next open"),
    "frames": ("one", "four", "finer"),
    "prices": ("walk", "real"),
}
RULES = {
    "default": Rules(),
    "reference": Rules.reference(),
    "next open": Rules(fill_at="next_open"),
}
FRAMES: dict[str, dict[str, Any]] = {
    "one": {"time_frames": ("5min",), "window_sizes": (6,), "execute_on": "5min"},
    "four": {
        "time_frames": ("1min", "5min", "15min", "1hour"),
        "window_sizes": (7, 6, 4, 3),
        "execute_on": "5min",
    },
    "finer": {"time_frames": ("1min",), "window_sizes": (9,), "execute_on": "5min"},
}
MODES: dict[str, dict[str, Any]] = {
    "levels": {},
    "fractional": {"trade_mode": "fractional", "position_fraction": 0.8},
    "notional": {"trade_mode": "notional", "quantity_per_trade": 8_000.0},
    "quantity": {"trade_mode": "quantity", "quantity_per_trade": 80.0},
}
EXTRAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "close": {"include_close_action": True},
    "lock": {"lock_position_until_sltp": True},
}

EPISODE = 250


def case_of(chosen: Mapping[str, str]) -> Case:
    """The case that a value of every axis describes."""
    brackets = chosen["decision"] != "levels"
    return Case(
        brackets=brackets,
        leverage=float(chosen["leverage"]),
        frames=FRAMES[chosen["frames"]],
        costs={
            "transaction_fee": 0.0004 * (chosen["fee"] == "4bp"),
            "half_spread": 0.0001 * (chosen["spread"] == "wide"),
            "slippage": 0.001 * (chosen["slippage"] == "slips"),
        },
        rules=RULES[chosen["rules"]],
        fields={**MODES[chosen["decision"]], **EXTRAS[chosen["extra"]]} if brackets else {},
    )


@functools.cache
def minutes(funded: bool) -> pd.DataFrame:
    """Minutes that jump over stops, targets and liquidations, near 100."""
    return walk(11_000, 3, sigma=2e-3, gap=1.5e-3, funding=1e-4 * funded)


@functools.cache
def real(path: Path, funded: bool) -> pd.DataFrame:
    """Real minutes, scaled to start at 100; a rate for every minute where funding is paid."""
    frame = real_minutes(path).iloc[4_000:15_000].reset_index(drop=True)
    prices = ["open", "high", "low", "close"]
    frame[prices] = frame[prices] * (100 / frame["open"].iloc[0])
    if funded:
        frame["funding"] = np.random.default_rng(1).normal(0, 1e-4, len(frame))
    return frame


def compare(case: Case, frame: pd.DataFrame, seed: int, bars: int) -> tuple[int, set[int]]:
    """Trade ``bars`` bars on both; steps held, kinds of exit.

    An account begins anew when it is lost, and after `EPISODE` bars: one that has become too small
    for its orders trades no more.
    """
    course, data = Course(case, frame), data_of(case, frame)
    generator = np.random.default_rng(seed)
    bar, held, kinds = data.first, 0, set[int]()
    while bar < data.first + bars:
        left = min(data.first + bars - bar, EPISODE)
        draws = generator.random(left)
        actions = repeated(generator, left, course.env.num_actions)
        made = course.run(bar, left, stepped(actions), draws)
        held += check_replay(case, data, bar, made, draws)
        kinds |= {int(step.info["exit_kind"]) for step in made}
        bar += len(made)
    return held, kinds


# A few, quickly ---------------------------------------------------------------------------------

QUICK: dict[str, dict[str, str]] = {
    "levels": {"rules": "next open", "frames": "four"},
    "fractional": {"extra": "close", "frames": "one"},
    "notional": {"rules": "reference", "frames": "finer", "extra": "lock"},
}
USUAL = {
    "leverage": "5",
    "extra": "plain",
    "fee": "4bp",
    "spread": "wide",
    "slippage": "slips",
    "funding": "funded",
    "rules": "default",
}


@pytest.mark.parametrize("decision", QUICK)
def test_a_replay_is_the_environment(decision: str) -> None:
    case = case_of({**USUAL, **QUICK[decision], "decision": decision})
    held, kinds = compare(case, minutes(True), list(QUICK).index(decision), 120)
    # The test can fail: positions were held, and ended by bars.
    assert held > 20
    assert decision == "levels" or kinds >= {exits.STOP, exits.TARGET}


# Every pair of values, slowly -------------------------------------------------------------------


def pairwise(axes: Mapping[str, Sequence[str]], seed: int) -> Iterator[dict[str, str]]:
    """Rows in which every two values of two axes meet at least once, greedily."""
    generator = random.Random(seed)
    names = list(axes)
    missing = {
        frozenset({(a, x), (b, y)})
        for a, b in itertools.combinations(names, 2)
        for x, y in itertools.product(axes[a], axes[b])
    }
    while missing:

        def gain(row: dict[str, str], missing: set[Any] = missing) -> int:
            pairs = itertools.combinations(row.items(), 2)
            return sum(frozenset(pair) in missing for pair in pairs)

        drawn = [{n: generator.choice(axes[n]) for n in names} for _ in range(200)]
        # One pair that is missing, so that every row adds something.
        wanted = dict(generator.choice(sorted(map(sorted, missing))))
        best = max(({**row, **wanted} for row in drawn), key=gain)
        missing -= {frozenset(pair) for pair in itertools.combinations(best.items(), 2)}
        yield best


ROWS = list(pairwise(AXES, 1))


def test_every_pair_of_values_is_tried() -> None:
    for a, b in itertools.combinations(AXES, 2):
        met = {(row[a], row[b]) for row in ROWS}
        assert met == set(itertools.product(AXES[a], AXES[b])), (a, b)
    assert len(ROWS) <= 26


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=["-".join(row.values()) for row in ROWS])
def test_two_thousand_bars_of_a_combination(
    row: dict[str, str], request: pytest.FixtureRequest
) -> None:
    case, funded = case_of(row), row["funding"] == "funded"
    if row["prices"] == "real":
        frame = real(request.getfixturevalue("btc_minutes_file"), funded)
    else:
        frame = minutes(funded)
    held, kinds = compare(case, frame, ROWS.index(row), 2_000)
    assert held > 400
    assert not case.brackets or kinds >= {exits.STOP, exits.TARGET}


@pytest.mark.slow
def test_lost_accounts_are_lost_alike() -> None:
    case = case_of({**USUAL, "decision": "levels", "leverage": "20", "frames": "one"})
    violent = walk(3_000, 5, sigma=6e-3, gap=8e-3)
    _, kinds = compare(case, violent, 5, 400)
    assert exits.LIQUIDATION in kinds


# Policies that decide once ----------------------------------------------------------------------


@pytest.mark.parametrize("leverage", [1.0, pytest.param(5.0, marks=pytest.mark.slow)])
def test_a_locked_bracket_ends_as_the_one_step_environment_says(leverage: float) -> None:
    episodes = 6 if leverage == 1 else 60
    fields = {"trade_mode": "fractional", "lock_position_until_sltp": True}
    case = Case(
        brackets=True,
        leverage=leverage,
        frames=FRAMES["one"],
        costs={"transaction_fee": 0.0004},
        fields=fields,
    )
    frame = minutes(False)
    course, data = Course(case, frame), data_of(case, frame)
    once = OneStepTradingEnv(
        frame,
        OneStepTradingEnvConfig(
            **FRAMES["one"],
            **STOPS,
            **case.cost,
            trade_mode="fractional",
            leverage=leverage,
            initial_cash=case.cash,
            maintenance_margin_rate=case.maintenance_rate,
            random_start=False,
            rollout_steps=None,
        ),
    )
    generator = np.random.default_rng(7)
    actions = generator.integers(1, once.num_actions, episodes)
    bars = generator.integers(data.first, data.first + 1_000, episodes)
    starts = [data.open_ms(int(bar)) * 1_000_000 for bar in bars]
    told = trace(once, actions, start=np.asarray(starts), float64=True)
    found = set()
    for i, (bar, action) in enumerate(zip(bars, actions, strict=True)):
        lasting = int(told["ep_rollout_bars"][i])
        # While it is locked nothing else that a policy says matters.
        said = [int(action), *generator.integers(0, once.num_actions, lasting - 1).tolist()]
        made = course.run(int(bar), lasting, said.__getitem__, np.full(lasting, 0.5))
        check_replay(case, data, int(bar), made, np.full(lasting, 0.5))
        last = made[-1]
        assert (len(made), last.quantity) == (lasting, 0), i
        assert last.equity == pytest.approx(told["ep_final_portfolio_value"][i], abs=1e-9 * 1e4), i
        assert last.info["exit_kind"] == told["ep_exit_kind"][i], i
        assert float(last.info["exit_price"]) == pytest.approx(told["ep_exit_price"][i], rel=1e-9)
        assert sum(step.reward for step in made) == pytest.approx(told["ep_reward"][i], abs=1e-8)
        found.add(int(told["ep_exit_kind"][i]))
    assert found >= {exits.STOP, exits.TARGET}
