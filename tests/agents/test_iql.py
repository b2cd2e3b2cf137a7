"""Implicit Q-learning from what was recorded: probes, files, and more than the behaviour."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import iql, recorded
from agents.networks import ACCOUNT_STATE
from jaxtrade import SequentialTradingEnv, baselines, tracing
from tests.agents import probes, solving
from tests.agents.conftest import config, hours
from tests.agents.solving import SHOWN

CONFIG = iql.IQLConfig(
    learning_rate=3e-3,
    gamma=0.9,
    max_gradient_norm=10.0,
    batch_size=128,
    gradient_steps=8,
    target_rate=0.1,
    hidden_sizes=(32,),
    activation="tanh",
    normalize_rewards=False,
)
PROBE = probes.Probe()
LEARNER = iql.IQL.create(PROBE, CONFIG)
RANDOM = baselines.random(2)


def solve(kind: probes.Kind, updates: int, shown: Any = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [B, 2] and values of states [B] from random actions recorded on a probe."""
    params = probes.params_of(kind)
    data = recorded.play(PROBE, RANDOM, params, jax.random.key(7), num_envs=16, steps=64)
    state = solving.train(LEARNER, CONFIG, data, updates)
    logits, _ = solving.outputs(LEARNER.network, state.params, shown)
    _, value = solving.outputs(LEARNER.judge, state.value, shown)
    return np.asarray(jax.nn.softmax(logits)), value


@pytest.mark.slow
def test_constant_reward_is_the_value() -> None:
    np.testing.assert_allclose(solve(probes.CONSTANT, 40)[1], 1, atol=0.05)


@pytest.mark.slow
def test_value_follows_the_observation() -> None:
    np.testing.assert_allclose(solve(probes.OBSERVED, 40)[1], [1, -1], atol=0.1)


@pytest.mark.slow
def test_value_discounts_one_step() -> None:
    _, value = solve(probes.DELAYED, 80, [[1, 0], [-1, 0], [1, 1], [-1, 1]])
    np.testing.assert_allclose(value, [0.9, 0.9, 1, 1], atol=0.07)


@pytest.mark.slow
def test_the_paying_action_is_picked_and_sets_the_value() -> None:
    probabilities, value = solve(probes.ACTION, 60)
    assert probabilities[:, 1].min() > 0.95
    # The expectile e of +1 and -1 with even chances is e - (1 - e).
    np.testing.assert_allclose(value, 0.6, atol=0.1)


@pytest.mark.slow
def test_the_action_is_conditioned_on_the_observation() -> None:
    probabilities, _ = solve(probes.MATCH, 60)
    assert probabilities[0, 1] > 0.95
    assert probabilities[1, 0] > 0.95


@pytest.mark.slow
def test_a_cut_is_not_an_end_and_an_end_not_a_cut() -> None:
    shown = [[1, 1], [-1, 1]]
    np.testing.assert_allclose(solve(probes.CUT, 300, shown)[1], 10, atol=0.7)
    assert solve(probes.ENDED, 100, shown)[1].max() < 4.3


# Recordings -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def env() -> SequentialTradingEnv:
    return SequentialTradingEnv(hours(), config())


@pytest.fixture(scope="module")
def actions() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 5, 30)  # longer than the episode of 20 steps


def test_a_record_becomes_the_transitions_of_its_episode(
    env: SequentialTradingEnv, actions: np.ndarray
) -> None:
    record = tracing.trace(env, actions, start=int(env.market.open_minute[100]) * 60_000_000_000)
    found = recorded.from_record(env, record, actions)
    np.testing.assert_array_equal(found.observation["bar"], np.arange(100, 120))
    np.testing.assert_array_equal(found.following["bar"], np.arange(101, 121))
    np.testing.assert_allclose(found.observation[ACCOUNT_STATE], record["account_state"][:-1])
    np.testing.assert_allclose(found.following[ACCOUNT_STATE][-1], record["account_state"][-1])
    np.testing.assert_array_equal(found.action, actions[:20])
    np.testing.assert_allclose(found.reward, record["reward"], rtol=1e-6)
    assert record["truncated"][-1]
    assert found.discount.tolist() == [1] * 20  # cut, not ended
    ended = dict(record, terminated=np.arange(20) == 19)
    assert recorded.from_record(env, ended, actions).discount.tolist() == [1] * 19 + [0]
    joined = recorded.recording(env, [found, found])
    assert joined.size == 40


def test_files_of_the_trace_command_are_read(
    env: SequentialTradingEnv, actions: np.ndarray, tmp_path: Any
) -> None:
    record = tracing.trace(env, actions)
    np.savez(tmp_path / "trace.npz", **record)
    np.save(tmp_path / "actions.npy", actions)
    found = recorded.load(env, tmp_path / "trace.npz", tmp_path / "actions.npy")
    wanted = recorded.from_record(env, record, actions)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    np.savez(tmp_path / "whole.npz", **record)
    jax.tree.map(np.testing.assert_array_equal, recorded.load(env, tmp_path / "whole.npz"), wanted)
    with pytest.raises(ValueError, match=r"actions.npy: holds one array; expected a .npz file"):
        recorded.load(env, tmp_path / "actions.npy")
    with pytest.raises(ValueError, match=r"none.npz: cannot be read"):
        recorded.load(env, tmp_path / "none.npz")


def test_what_is_wrong_with_a_record_is_said(
    env: SequentialTradingEnv, actions: np.ndarray
) -> None:
    record = tracing.trace(env, actions)
    if "action" not in record:
        with pytest.raises(ValueError, match="actions: the record holds none"):
            recorded.from_record(env, record)
    with pytest.raises(ValueError, match="actions: expected 20 of them"):
        recorded.from_record(env, record, actions[:7])
    with pytest.raises(ValueError, match=r"action: must be in \[0, 5\)"):
        recorded.from_record(env, record, actions + 3)
    some = {name: record[name] for name in ("account_state", "reward")}
    with pytest.raises(ValueError, match="record: has no bar_time, terminated"):
        recorded.from_record(env, some, actions)
    with pytest.raises(ValueError, match="record: its columns have"):
        recorded.from_record(env, dict(record, reward=record["reward"][:-2]), actions)
    with pytest.raises(ValueError, match="no bar of 1Hour starts then"):
        recorded.from_record(env, dict(record, bar_time=record["bar_time"] + 1), actions)
    with pytest.raises(ValueError, match="recording: no episodes"):
        recorded.recording(env, [])


def test_playing_a_rule_records_what_it_does(env: SequentialTradingEnv) -> None:
    def rule(observation: Any, draw: Any) -> Any:
        # By the newest price change, as it is in the market: not normalised.
        newest = observation["market_data_1Hour"][..., -1, 0]
        return jnp.where(newest > 0, 4, 0).astype(jnp.int32)

    data = recorded.play(env, rule, env.default_params, jax.random.key(0), num_envs=3, steps=25)
    close = np.asarray(env.market.ohlcv)[:, 3]
    bars = np.asarray(data.transitions.observation["bar"])
    rising = close[bars] > close[bars - 1]
    np.testing.assert_array_equal(data.transitions.action, np.where(rising, 4, 0))
    np.testing.assert_array_equal(data.transitions.following["bar"], bars + 1)


def test_numbers_as_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="IQL has a discrete head"):
        iql.IQL.create(SequentialTradingEnv(hours(100), config(action="continuous")), CONFIG)
