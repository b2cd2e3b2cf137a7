"""`OneStepTradingEnv`: the golden cases, its sum of step rewards, scores and outcome tables."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import (
    OneStepTradingEnv,
    OneStepTradingEnvConfig,
    Rules,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
    rewards,
    trace,
)
from jaxtrade.core import exits
from tests.envs.builders import MINUTES, REFERENCE, flat_frame, label, walk_market

G5 = {
    **MINUTES,
    "leverage": 10,
    "transaction_fee": 0.0004,
    "stoploss_levels": (-0.05, -0.15),
    "takeprofit_levels": (0.1,),
    "random_start": False,
}
WALK = {
    **MINUTES,
    "leverage": 5,
    "transaction_fee": 0.0004,
    "stoploss_levels": (-0.02, -0.3),
    "takeprofit_levels": (0.03, 0.3),
}


def decided(action, bar4, **fields):
    """The record of one decision at bar 1 of the flat series."""
    config = OneStepTradingEnvConfig(**{**G5, "position_fraction": 0.5, **fields})
    env = OneStepTradingEnv(flat_frame(bar4=bar4), config)
    record = trace(env, np.array([action]), start=label(1), float64=True)
    return {name: values[0] if np.ndim(values) else values for name, values in record.items()}


LOW = {"low": 94}
G5_CASES = {
    # fields, action, bar 4 -> exit kind, cash, final bar, reward, terminated
    "stop": ({"rollout_steps": 5}, 1, LOW, exits.STOP, 7471.115538, 4, -0.291540769, True),
    "on the last bar": ({"rollout_steps": 3}, 1, LOW, exits.STOP, 7471.115538, 4, -0.291540769, 1),
    "horizon": ({"rollout_steps": 2}, 1, LOW, exits.NO_EXIT, 5000, 3, -0.001994019, False),
    "closed": (
        {"rollout_steps": 2, "close_at_horizon": True},
        *(1, LOW, exits.HORIZON, 9960.159363, 3, -0.003992021, True),
    ),
    "hold": ({"rollout_steps": 5}, 0, LOW, exits.NO_EXIT, 10000, 2, 0, True),
    "target": ({}, 1, {"high": 112}, exits.TARGET, 14938.247012, 4, 0.401339745, True),
    "ruin": (
        {"rollout_steps": 5, "position_fraction": 1},
        *(1, {"open": 85}, exits.LIQUIDATION, 0, 4, -10.003992021, True),
    ),
}


@pytest.mark.parametrize("rules", [{}, {"rules": REFERENCE}], ids=["default", "reference"])
@pytest.mark.parametrize("case", G5_CASES)
def test_golden_cases(case, rules):
    fields, action, bar4, kind, cash, bar, reward, terminated = G5_CASES[case]
    record = decided(action, bar4, **fields, **rules)
    assert record["ep_exit_kind"] == kind
    assert record["ep_final_balance"] == pytest.approx(cash, abs=1e-6)
    assert record["ep_final_bar_time"] == label(bar).value
    assert record["ep_reward"] == pytest.approx(reward, abs=1e-9)
    assert (record["ep_terminated"], record["ep_truncated"]) == (terminated, not terminated)


def test_the_position_open_at_the_horizon_has_its_age():
    record = decided(1, LOW, rollout_steps=2)
    assert record["ep_final_position_size"] == pytest.approx(498.007968127, abs=1e-9)
    assert record["ep_final_hold_counter"] == record["ep_rollout_bars"] == 2


def test_closing_at_the_horizon_is_a_market_order():
    costs = {"half_spread": 0.0005, "slippage": 0.001}
    record = decided(1, {}, rollout_steps=2, close_at_horizon=True, **costs)
    assert record["ep_exec_price"] == pytest.approx(100.1)
    assert record["ep_exit_price"] == pytest.approx(99.9)
    short = decided(3, {}, rollout_steps=2, close_at_horizon=True, **costs)
    assert short["ep_exit_price"] == pytest.approx(100.1)


# The sum of the step rewards of the bracket environment -----------------------------------------


def both(fields, rollout_steps, **onestep_fields):
    """The one-step environment and the bracket environment with the lock, on one market."""
    market = walk_market(rows=400, seed=3, sigma=8e-3, gap=2e-2, funding=2e-4)
    one = OneStepTradingEnvConfig(**fields, rollout_steps=rollout_steps, **onestep_fields)
    locked = SequentialTradingEnvSLTPConfig(
        **fields, lock_position_until_sltp=True, bankrupt_threshold=0
    )
    return OneStepTradingEnv(market, one), SequentialTradingEnvSLTP(market, locked)


def summed(env, action, start, horizon):
    """Rewards of the bracket environment from the entry to the exit, added up."""
    record = trace(env, np.full(horizon, action), start=start, float64=True)
    ended = (record["exit_kind"] > 0) | (record["quantity"][1:] == 0) | record["terminated"]
    last = int(np.argmax(ended)) if ended.any() else len(ended) - 1
    return record["reward"][: last + 1].sum(), record["exit_kind"][last], record["equity"][last + 1]


CASES = {
    "log return": {},
    "spot": {"leverage": 1, "takeprofit_levels": (0.03, 2.0)},
    "all in at 50x": {"leverage": 50, "maintenance_margin_rate": 0.005},
    "money": {"reward": "pnl", "trade_mode": "notional", "quantity_per_trade": 500},
    "with a memory": {"reward": "composite"},
    "next open": {"rules": Rules(fill_at="next_open")},
}


@pytest.mark.parametrize("horizon", [7, 90])  # within one block of the search, and beyond it
@pytest.mark.parametrize("case", CASES)
def test_the_reward_is_the_sum_of_the_step_rewards(case, horizon):
    one, locked = both({**WALK, **CASES[case]}, horizon)
    generator = np.random.default_rng(7)
    bars = generator.integers(int(one.market.first), 390, 24)
    actions = generator.integers(0, one.num_actions, 24)
    starts = one.market.bar_time[bars]
    record = trace(one, actions, start=starts, float64=True)
    kinds = set()
    for k, (action, start) in enumerate(zip(actions, starts, strict=True)):
        reward, kind, equity = summed(locked, action, start, horizon)
        assert record["ep_reward"][k] == pytest.approx(reward, rel=1e-8, abs=1e-8)
        assert record["ep_exit_kind"][k] == kind
        assert record["ep_final_portfolio_value"][k] == pytest.approx(equity, rel=1e-10)
        kinds.add(int(kind))
    assert len(kinds - {exits.NO_EXIT}) >= 2


def test_funding_may_wipe_a_position_out():
    # 4 % of the notional per bar at 10x: the free cash pays it until nothing is left.
    frame = flat_frame(30, funding=0.04)
    fields = {**G5, "position_fraction": 0.5, "stoploss_levels": (-0.9,)}
    env = OneStepTradingEnv(frame, OneStepTradingEnvConfig(**fields))
    record = trace(env, np.array([1]), start=label(1), float64=True)
    locked = SequentialTradingEnvSLTPConfig(
        **fields, lock_position_until_sltp=True, bankrupt_threshold=0
    )
    steps = trace(
        SequentialTradingEnvSLTP(frame, locked), np.ones(24, int), start=label(1), float64=True
    )
    assert steps["terminated"][-1]
    assert record["ep_terminated"][0]
    assert record["ep_final_bar_time"][0] == steps["bar_time"][-1]
    assert record["ep_reward"][0] == pytest.approx(steps["reward"].sum(), abs=1e-8)
    assert record["ep_funding"][0] == pytest.approx(steps["funding"].sum())


def test_a_reward_of_ones_own_counts_the_bars():
    def init(params):
        return 0

    def update(count, x, params):
        return 1.0, count + 1

    one, _ = both({**WALK, "reward": (init, update)}, 12)
    record = trace(one, np.arange(one.num_actions), float64=True)
    np.testing.assert_array_equal(record["ep_reward"], np.maximum(record["ep_rollout_bars"], 1))


# Episodes ---------------------------------------------------------------------------------------


def test_every_step_ends_the_episode():
    env, _ = both(WALK, 6)
    keys = jax.random.split(jax.random.key(0), 64)
    _, states = jax.jit(jax.vmap(env.reset))(keys)
    actions = jnp.arange(64) % env.num_actions
    _, after, _, terminated, truncated, _ = jax.jit(jax.vmap(env.step))(keys, states, actions)
    assert (np.asarray(terminated) ^ np.asarray(truncated)).all()
    assert np.asarray(truncated).any()
    assert (np.asarray(after.time) == 0).all()
    # A start leaves room for the whole roll-out.
    assert np.asarray(after.bar).max() <= int(env.market.last) - 6


def test_a_finished_episode_stays_as_it_is():
    env, _ = both(WALK, 6)
    params = env.default_params
    state = env.initial_state(jnp.int32(50), params.cash_low, params)
    draw = jnp.float32(0.5)
    after, *_ = jax.jit(env.transition)(state, jnp.int32(2), draw, params)
    again, reward, _, info = jax.jit(env.transition)(after, jnp.int32(1), draw, params)
    assert float(reward) == 0
    assert int(info["event"]) == 0
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_higher_fee_lowers_the_reward():
    env, _ = both({**WALK, "trade_mode": "quantity", "quantity_per_trade": 1}, 24)
    fees = jnp.linspace(0, 8e-4, 5)
    bars, actions = np.repeat(np.arange(20, 220, 10), 4), np.tile([1, 3, 5, 7], 20)
    scores = np.stack(
        [env.score(bars, actions, env.default_params.replace(fee=fee)) for fee in fees]
    )
    assert (np.diff(scores, axis=0) < 0).all()


def test_a_sweep_may_shorten_the_rollout_but_not_lengthen_it():
    env, _ = both(WALK, 12)
    short, _ = both(WALK, 5)
    bars, actions = np.arange(10, 100), np.arange(90) % env.num_actions
    swept = env.default_params.replace(max_steps_in_episode=jnp.int32(5))
    np.testing.assert_array_equal(env.score(bars, actions, swept), short.score(bars, actions))
    beyond = env.default_params.replace(max_steps_in_episode=jnp.int32(99))
    np.testing.assert_array_equal(env.score(bars, actions, beyond), env.score(bars, actions))


# Scores -----------------------------------------------------------------------------------------


def test_scores_are_the_rewards_of_traced_episodes():
    env, _ = both({**WALK, "slippage": 1e-3, "initial_cash": (500.0, 900.0)}, 24)
    bars = np.arange(10, 300, 7)
    actions = np.arange(bars.size) % env.num_actions
    record = trace(env, actions, start=env.market.bar_time[bars])
    np.testing.assert_allclose(env.score(bars, actions), record["ep_reward"], rtol=1e-6, atol=1e-6)
    grid = env.score(bars[:, None], np.arange(env.num_actions)[None])
    assert grid.shape == (bars.size, env.num_actions)
    np.testing.assert_array_equal(grid[np.arange(bars.size), actions], env.score(bars, actions))


def test_the_outcome_table_holds_the_scores():
    env, _ = both(WALK, 24)
    table = np.asarray(env.outcome_table(block=64))
    assert table.shape == (env.market.num_bars, env.num_actions)
    last = int(env.market.last)
    assert np.isnan(table[last:]).all()
    scores = env.score(np.arange(last)[:, None], np.arange(env.num_actions)[None])
    np.testing.assert_allclose(table[:last], scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bar", [-1, 399, 2.5])
def test_a_bar_that_cannot_be_scored(bar):
    env, _ = both(WALK, 24)
    with pytest.raises(
        ValueError,
        match=re.escape(f"score: bar must be in [0, {int(env.market.last)}); got {bar}."),
    ):
        env.score([10, bar], [1, 1])


def test_actions_outside_the_table_are_not_scored():
    env, _ = both(WALK, 24)
    with pytest.raises(ValueError, match=r"action: must be in \[0, 9\); got 9\."):
        env.score([10], [9])


def test_no_table_with_slippage():
    env, _ = both({**WALK, "slippage": 1e-3}, 24)
    with pytest.raises(ValueError, match="outcome_table: needs slippage 0"):
        env.outcome_table()


# Configuration ----------------------------------------------------------------------------------


def test_policies_are_exchangeable_with_the_bracket_environment():
    one, locked = both(WALK, 24)
    assert one.action_description() == locked.action_description()
    assert one.window_shapes == locked.window_shapes


@pytest.mark.parametrize("steps", [0, 1.5, True])
def test_rollout_steps_are_checked(steps):
    with pytest.raises(
        ValueError, match=rf"^rollout_steps: must be None or a whole number >= 1; got {steps}\.$"
    ):
        OneStepTradingEnvConfig(rollout_steps=steps)


@pytest.mark.parametrize("field", ["max_steps", "lock_position_until_sltp", "action_levels"])
def test_fields_of_other_environments_are_unknown(field):
    with pytest.raises(TypeError, match=field):
        OneStepTradingEnvConfig(**{field: None})


def test_starts_per_action_must_match():
    env, _ = both(WALK, 24)
    with pytest.raises(ValueError, match="start: 2 labels for 3 actions; give one or 3"):
        trace(env, np.array([0, 1, 2]), start=env.market.bar_time[20:22])


def test_rewards_that_telescope_say_so():
    pair = rewards.resolve({"log_return": 1.0, "pnl": 0.5}, 8760.0)[0]
    assert pair.telescopes
    assert not rewards.resolve({"log_return": 1.0, "drawdown": 0.5}, 8760.0)[0].telescopes
