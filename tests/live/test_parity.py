"""The same actions on the same bars: environment and replay agree, whoever drives the replay."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import (
    Rules,
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
)
from jaxtrade.market import synthetic
from live.config.environments import BybitFuturesSLTPTradingEnvConfig, BybitFuturesTradingEnvConfig
from live.env import BybitFuturesSLTPTradingEnv, BybitFuturesTradingEnv
from live.replay import ReplayVenue
from live.replay.data import ReplayData
from live.replay.money import ReplayTerms

CASH = 10_000.0
STEPS = 250
SYMBOL = "BTC/USDT:USDT"
ONE = {"time_frames": ("5min",), "window_sizes": (6,), "execute_on": "5min"}
MIXED = {
    "time_frames": ("1min", "5min", "15min"),
    "window_sizes": (7, 6, 4),
    "execute_on": "5min",
}
COSTS = {"transaction_fee": 0.0004, "half_spread": 0.0001, "slippage": 0.001}
FREE = {"transaction_fee": 0.0, "half_spread": 0.0, "slippage": 0.0}
STOPS = {"stoploss_levels": (-0.004, -0.01), "takeprofit_levels": (0.004, 0.015)}


class Case(NamedTuple):
    """One combination: what both sides are told."""

    brackets: bool
    leverage: float
    frames: dict[str, Any] = MIXED
    costs: dict[str, float] = COSTS
    rules: Rules = Rules()
    fields: dict[str, Any] = {}


CASES = {
    "levels": Case(False, 5.0),
    "levels, spot": Case(False, 1.0, costs=FREE),
    "levels, fractional leverage": Case(False, 1.5, ONE),
    "levels, high leverage": Case(False, 20.0, ONE),
    "levels, reference rules": Case(False, 5.0, ONE, rules=Rules.reference()),
    "levels, next open": Case(False, 5.0, ONE, rules=Rules(fill_at="next_open")),
    "brackets, fractional": Case(True, 5.0, fields={"trade_mode": "fractional"}),
    "brackets, notional": Case(
        True, 5.0, ONE, fields={"trade_mode": "notional", "quantity_per_trade": 8_000.0}
    ),
    "brackets, quantity": Case(
        True, 5.0, ONE, FREE, fields={"trade_mode": "quantity", "quantity_per_trade": 0.2}
    ),
    "brackets, closed by hand": Case(
        True, 5.0, ONE, fields={"trade_mode": "fractional", "include_close_action": True}
    ),
    "brackets, locked": Case(
        True, 5.0, ONE, fields={"trade_mode": "fractional", "lock_position_until_sltp": True}
    ),
    "brackets, spot": Case(
        True, 1.0, ONE, fields={"trade_mode": "fractional", "position_fraction": 0.5}
    ),
}
QUICK = ("levels", "levels, next open", "brackets, fractional", "brackets, notional")
LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def frame() -> Any:
    """Minutes volatile enough that brackets and liquidations happen."""
    return synthetic.minutes(3, 2_500, volatility=0.001)


def offline(case: Case, frame: Any) -> Any:
    """The environment; the account lives on until nothing is left."""
    kind, config = (
        (SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig)
        if case.brackets
        else (SequentialTradingEnv, SequentialTradingEnvConfig)
    )
    fields = {**case.frames, **case.costs, **case.fields}
    fields |= STOPS if case.brackets else {"action_levels": LEVELS}
    return kind(
        frame,
        config(
            **fields,
            leverage=case.leverage,
            initial_cash=CASH,
            rules=case.rules,
            random_start=False,
            max_steps=10_000,
            bankrupt_threshold=0.0,
            observation="dict",
        ),
    )


def live(case: Case, frame: Any, draws: np.ndarray) -> tuple[Any, ReplayVenue]:
    """The exchange environment over a replay."""
    terms = ReplayTerms(initial_cash=CASH, leverage=case.leverage, rules=case.rules, **case.costs)
    data = ReplayData.from_frame(frame, **case.frames, rules=case.rules)
    venue = ReplayVenue(data, terms, symbol=SYMBOL, draws=draws)
    kind, config = (
        (BybitFuturesSLTPTradingEnv, BybitFuturesSLTPTradingEnvConfig)
        if case.brackets
        else (BybitFuturesTradingEnv, BybitFuturesTradingEnvConfig)
    )
    fields = {**case.frames, **case.fields}
    fields |= STOPS if case.brackets else {"action_levels": LEVELS}
    with_costs = config(
        **fields,
        symbol=SYMBOL,
        leverage=case.leverage,
        transaction_fee=case.costs["transaction_fee"],
        maintenance_margin_rate=0.004,
        bankrupt_threshold=0.0,
        done_on_bankruptcy=False,
        rules=case.rules,
    )
    return kind(with_costs, observer=venue, trader=venue), venue


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES],
)
def test_a_replay_is_the_environment(name: str, frame: Any) -> None:
    case = CASES[name]
    generator = np.random.default_rng(list(CASES).index(name))
    draws = generator.random(STEPS)
    env, venue = live(case, frame, draws)

    with jax.enable_x64(True):
        reference = offline(case, frame)
        params = reference.default_params
        actions = generator.integers(0, reference.num_actions, STEPS)
        state = reference.initial_state(
            jnp.int32(venue.bar), jnp.asarray(CASH, jnp.float64), params
        )
        step, seen = (
            jax.jit(reference.transition),
            jax.jit(lambda state: reference.observe(None, state, None, params)),
        )
        expected = []
        for action, draw in zip(actions, draws, strict=True):
            observation = jax.device_get(seen(state))
            state, reward, terminated, info = jax.device_get(
                step(state, jnp.int32(action), jnp.float64(draw), params)
            )
            expected.append((observation, state, float(reward), float(info["equity"])))
            if terminated:
                break

    async def trade() -> int:
        observation, _ = await env.reset()
        opened = 0
        for i, (shown, state, reward, equity) in enumerate(expected):
            for key, part in shown.items():
                np.testing.assert_array_equal(observation[key], part, err_msg=f"{i} {key}")
            observation, gained, *_ = await env.step(int(actions[i]))
            standing = venue.standing
            within = 1e-9 * CASH
            assert standing.equity == pytest.approx(equity, abs=within), i
            assert standing.cash == pytest.approx(float(state.account.cash), abs=within), i
            assert standing.quantity == pytest.approx(
                float(state.account.quantity), rel=1e-9, abs=1e-12
            ), i
            assert standing.entry == pytest.approx(float(state.account.entry_price), rel=1e-9), i
            if case.brackets:
                assert standing.stop == pytest.approx(float(state.account.stop_price)), i
                assert standing.target == pytest.approx(float(state.account.target_price)), i
            assert gained == pytest.approx(reward, abs=1e-8), i
            opened += standing.quantity != 0
        await env.close()
        return opened

    # The test can fail: positions were held.
    assert asyncio.run(trade()) > len(expected) // 10
    assert len(expected) > 40
