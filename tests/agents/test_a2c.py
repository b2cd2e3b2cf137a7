"""PPO with the settings of A2C is A2C."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import a2c, losses, ppo
from agents import learner as learning
from tests.agents import probes, solving

CONFIG = a2c.A2CConfig(
    learning_rate=5e-3,
    gamma=0.9,
    entropy_coefficient=0.0,
    num_envs=32,
    rollout_steps=8,
    hidden_sizes=(32,),
    activation="tanh",
    normalize_rewards=False,
)
LEARNER = ppo.PPO.create(probes.Probe(), CONFIG)


def solve(kind: probes.Kind, updates: int, shown: Any = solving.SHOWN) -> Any:
    """Probabilities [B, 2] and values [B] that were learnt on a probe."""
    state = solving.on_probe(LEARNER, CONFIG, kind, updates)
    logits, value = solving.outputs(LEARNER.network, state.params, shown)
    return np.asarray(jax.nn.softmax(logits)), value


@pytest.mark.slow
def test_constant_reward_is_the_value() -> None:
    np.testing.assert_allclose(solve(probes.CONSTANT, 100)[1], 1, atol=0.05)


@pytest.mark.slow
def test_value_follows_the_observation() -> None:
    np.testing.assert_allclose(solve(probes.OBSERVED, 160)[1], [1, -1], atol=0.1)


@pytest.mark.slow
def test_value_discounts_one_step() -> None:
    np.testing.assert_allclose(solve(probes.DELAYED, 300, [[1, 0], [1, 1]])[1], [0.9, 1], atol=0.07)


@pytest.mark.slow
def test_the_paying_action_is_picked() -> None:
    assert solve(probes.ACTION, 120)[0][:, 1].min() > 0.95


@pytest.mark.slow
def test_the_action_is_conditioned_on_the_observation() -> None:
    probabilities, _ = solve(probes.MATCH, 160)
    assert probabilities[0, 1] > 0.95
    assert probabilities[1, 0] > 0.95


def test_the_gradient_is_that_of_log_probability_times_advantage() -> None:
    keys = jax.random.split(jax.random.key(1), 4)
    observation = {"account_state": jax.random.normal(keys[0], (64, 2))}
    network = jax.jit(LEARNER.network.init)(keys[1], observation)["params"]
    action = jax.random.randint(keys[2], (64,), 0, 2)
    advantage, target = jax.random.normal(keys[3], (2, 64))

    def outputs(network: Any) -> tuple[Any, Any, Any]:
        logits, value = LEARNER.network.apply({"params": network}, observation)
        logs = jax.nn.log_softmax(logits)
        return logits, value, logs

    acted = jax.jit(outputs)(network)[2][jnp.arange(64), action]

    def clipped(network: Any) -> Any:
        logits, value, _ = outputs(network)
        return losses.ppo_loss(
            logits,
            value,
            action,
            acted,
            advantage,
            target,
            clip_range=CONFIG.clip_range,
            value_coefficient=0.5,
            entropy_coefficient=0.1,
        ).loss

    def plain(network: Any) -> Any:
        _, value, logs = outputs(network)
        taken = (logs * jax.nn.one_hot(action, 2)).sum(-1)
        entropy = -(jnp.exp(logs) * logs).sum(-1)
        return (-taken * advantage + 0.25 * jnp.square(value - target) - 0.1 * entropy).mean()

    gradients = jax.jit(jax.grad(clipped))(network), jax.jit(jax.grad(plain))(network)
    near = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(near, *gradients)
    assert float(learning.gradient_norm(gradients[0])) > 0.01


def test_an_update_is_one_step_on_the_whole_rollout() -> None:
    traced, params = CONFIG.traced(), probes.params_of(probes.MATCH)
    state = learning.start(LEARNER, jax.random.key(0), traced, params)
    _, metrics = learning.train_chunk(state, traced, params, learner=LEARNER, length=solving.CHUNK)
    assert metrics["minibatches"].tolist() == [1] * solving.CHUNK
    # Whatever was learnt before, the policy is the one that acted: nothing is ever clipped.
    assert float(metrics["loss_clip_fraction"].max()) == 0
    assert float(metrics["first_ratio_deviation_max"].max()) < 1e-5


def test_more_than_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"epochs: must be 1 in A2C, was 3.*minibatches"):
        a2c.A2CConfig(epochs=3, minibatches=2).check()
    a2c.A2CConfig().check()
    with pytest.raises(ValueError, match="encoder: must be one of"):
        a2c.A2CConfig(rollout="segments").check()
