"""Every probe environment is solved, each of which isolates one fault of a learner."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from agents import learner as learning
from agents import ppo
from agents.networks import Normalizer, expand
from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
from tests.agents import probes

CONFIG = ppo.PPOConfig(
    learning_rate=5e-3,
    gamma=0.9,
    entropy_coefficient=0.0,
    num_envs=32,
    rollout_steps=16,
    epochs=4,
    minibatches=2,
    hidden_sizes=(32,),
    activation="tanh",
    normalize_rewards=False,
)


CHUNK = 20
LEARNERS: dict[Any, ppo.PPO] = {}


def train(kind: probes.Kind, updates: int, config: ppo.PPOConfig = CONFIG) -> tuple[Any, Any]:
    """A policy trained on one probe, and the metrics of every update."""
    shapes = (config.shuffle, config.rollout_steps, config.normalize_rewards)
    learner = LEARNERS.setdefault(shapes, ppo.PPO.create(probes.Probe(), config))
    params = probes.params_of(kind)
    state = learning.start(learner, jax.random.key(0), config.traced(), params)
    truncations = ruins = 0
    for _ in range(updates // CHUNK):
        state, metrics = learning.train_chunk(
            state, config.traced(), params, learner=learner, length=CHUNK
        )
        truncations += int(metrics["truncations"].sum())
        ruins += int(metrics["ruins"].sum())

    def policy(shown: Any) -> tuple[np.ndarray, np.ndarray]:
        observation = {"account_state": jnp.asarray(shown, jnp.float32)}
        logits, value = learner.network.apply({"params": state.params}, observation)
        return np.asarray(jax.nn.softmax(logits)), np.asarray(value)

    return policy, (truncations, ruins)


def test_constant_reward_is_the_value() -> None:
    policy, _ = train(probes.CONSTANT, 40)
    np.testing.assert_allclose(policy([[1, 0], [-1, 0]])[1], 1, atol=0.05)


def test_value_follows_the_observation() -> None:
    policy, _ = train(probes.OBSERVED, 60)
    np.testing.assert_allclose(policy([[1, 0], [-1, 0]])[1], [1, -1], atol=0.1)


def test_value_discounts_one_step() -> None:
    policy, _ = train(probes.DELAYED, 80)
    np.testing.assert_allclose(policy([[1, 0], [1, 1]])[1], [0.9, 1.0], atol=0.07)


def test_the_paying_action_is_picked() -> None:
    policy, _ = train(probes.ACTION, 40)
    assert policy([[1, 0], [-1, 0]])[0][:, 1].min() > 0.95


@pytest.mark.parametrize(
    "changes", [{}, {"shuffle": "steps"}, {"normalize_rewards": True}], ids=str
)
def test_the_action_is_conditioned_on_the_observation(changes: dict[str, Any]) -> None:
    policy, _ = train(probes.MATCH, 60, CONFIG.replace(**changes))
    probabilities = policy([[1, 0], [-1, 0]])[0]
    assert probabilities[0, 1] > 0.95
    assert probabilities[1, 0] > 0.95


@pytest.mark.parametrize("rollout_steps", [5, 16])
def test_a_cut_is_not_an_end(rollout_steps: int) -> None:
    # 1 / (1 - 0.9); a learner that takes the cut for an end settles at 4.1 or below.
    policy, (truncations, ruins) = train(
        probes.CUT, 300, CONFIG.replace(rollout_steps=rollout_steps)
    )
    np.testing.assert_allclose(policy([[1, 1], [-1, 1]])[1], 10, atol=0.7)
    assert truncations > 0
    assert ruins == 0


def test_an_end_is_not_a_cut() -> None:
    policy, (truncations, ruins) = train(probes.ENDED, 160)
    assert policy([[1, 1], [-1, 1]])[1].max() < 4.1
    assert truncations == 0
    assert ruins > 0


def zigzag(rows: int = 400, move: float = 0.004) -> pd.DataFrame:
    """A price that goes up and down by ``move`` on alternate hours."""
    close = np.where(np.arange(rows) % 2, 100 * (1 + move), 100.0)
    opening = np.concatenate([[100.0], close[:-1]])
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-01-01", periods=rows, freq="h"),
            "open": opening,
            "high": np.maximum(opening, close),
            "low": np.minimum(opening, close),
            "close": close,
            "volume": 1.0,
        }
    )


@pytest.mark.slow
def test_an_alternating_price_is_traded_only_below_its_fee() -> None:
    env = SequentialTradingEnv(
        zigzag(),
        SequentialTradingEnvConfig(
            window_sizes=2,
            leverage=2,
            action_levels=(-0.5, 0.0, 0.5),
            max_steps=64,
        ),
    )
    config = CONFIG.replace(
        num_envs=64, rollout_steps=32, gamma=0.5, normalize_rewards=True, learning_rate=3e-3
    )
    learner = ppo.PPO.create(env, config)
    flat = jnp.tile(jnp.array([0, 0, 0, 0, 2, 1], jnp.float32), (2, 1))
    for fee, best in ((0.0, [2, 0]), (0.006, [1, 1])):
        params = learner.env.default_params.replace(fee=jnp.float32(fee))
        state = learning.start(
            learner, jax.random.key(0), config.traced(), params, Normalizer.fit(env.market)
        )
        state, _ = learning.train_chunk(state, config.traced(), params, learner=learner, length=40)
        # Bar 20 closes low, bar 21 high.
        bars = {"bar": jnp.array([20, 21]), "account_state": flat}
        seen = state.normalizer.observation(expand(bars, params.market))
        logits, _ = learner.network.apply({"params": state.params}, seen)
        assert logits.argmax(-1).tolist() == best
