"""Deep Q-learning solves every probe, with each of its variants."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import dqn, gradients, transitions
from jaxtrade import SequentialTradingEnv
from tests.agents import probes, solving
from tests.agents.conftest import config, hours
from tests.agents.solving import SHOWN

CONFIG = dqn.DQNConfig(
    learning_rate=3e-3,
    gamma=0.9,
    max_gradient_norm=10.0,
    num_envs=16,
    rollout_steps=4,
    replay_capacity=2048,
    batch_size=128,
    gradient_steps=8,
    target_rate=0.1,
    exploration_steps=2000,
    n_steps=1,
    hidden_sizes=(32,),
    activation="tanh",
    normalize_rewards=False,
)
LEARNERS: dict[Any, dqn.DQN] = {}


def values(
    kind: probes.Kind, updates: int, settings: dqn.DQNConfig = CONFIG, shown: Any = SHOWN
) -> Any:
    """Action values [B, 2] that were learnt on a probe."""
    shapes = tuple(
        getattr(settings, name) for name in ("n_steps", "double", "prioritised", "target_period")
    )
    learner = LEARNERS.setdefault(shapes, dqn.DQN.create(probes.Probe(), settings))
    state = solving.on_probe(learner, settings, kind, updates)
    return np.asarray(
        gradients.action_values(solving.outputs(learner.network, state.params, shown))
    )


def test_constant_reward_is_the_value() -> None:
    np.testing.assert_allclose(values(probes.CONSTANT, 40), 1, atol=0.05)


def test_values_follow_the_observation() -> None:
    np.testing.assert_allclose(values(probes.OBSERVED, 40), [[1, 1], [-1, -1]], atol=0.1)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_values_discount_one_step(n_steps: int) -> None:
    found = values(
        probes.DELAYED, 80, CONFIG.replace(n_steps=n_steps), [[1, 0], [-1, 0], [1, 1], [-1, 1]]
    )
    np.testing.assert_allclose(found.max(-1), [0.9, 0.9, 1, 1], atol=0.07)


def test_the_paying_action_is_picked() -> None:
    np.testing.assert_allclose(values(probes.ACTION, 40), [[-1, 1], [-1, 1]], atol=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_steps": 3, "double": False},
        {"prioritised": True},
        {"target_rate": 1.0, "target_period": 20},
    ],
    ids=str,
)
def test_the_action_is_conditioned_on_the_observation(changes: dict[str, Any]) -> None:
    found = values(probes.MATCH, 40, CONFIG.replace(**changes))
    np.testing.assert_allclose(found, [[-1, 1], [1, -1]], atol=0.15)


def test_a_cut_is_not_an_end_and_an_end_not_a_cut() -> None:
    shown = [[1, 1], [-1, 1]]
    longer = CONFIG.replace(n_steps=3)
    # 1 / (1 - 0.9); a learner that takes the cut for an end settles at 4.1 or below.
    np.testing.assert_allclose(values(probes.CUT, 200, longer, shown).max(-1), 10, atol=0.7)
    assert values(probes.ENDED, 80, longer, shown).max() < 4.2


@pytest.mark.parametrize("double", [True, False])
def test_the_target_is_that_of_the_definition(double: bool) -> None:
    settings = CONFIG.replace(double=double)
    learner = dqn.DQN.create(probes.Probe(), settings)
    keys = jax.random.split(jax.random.key(0), 6)
    now, following = jax.random.normal(keys[0], (2, 64, 2))
    init = jax.jit(learner.network.init)
    network, target = (init(key, {"account_state": now})["params"] for key in keys[1:3])
    batch = transitions.Transition(
        observation={"account_state": now},
        action=jax.random.randint(keys[3], (64,), 0, 2),
        reward=jax.random.normal(keys[4], (64,)),
        following={"account_state": following},
        discount=jnp.where(jnp.arange(64) % 3 == 0, 0.0, 0.81),
    )

    def q(network: Any, shown: Any) -> np.ndarray:
        advantage, value = solving.outputs(learner.network, network, shown)
        return value[:, None] + advantage - advantage.mean(-1, keepdims=True)

    every = np.arange(64)
    later = q(target, following)
    picked = (q(network, following) if double else later).argmax(-1)
    assert (q(network, following).argmax(-1) != later.argmax(-1)).any()
    wanted = np.asarray(batch.reward) + np.asarray(batch.discount) * later[every, picked]
    value = q(network, now)[every, np.asarray(batch.action)]
    found, at = jax.jit(lambda *given: learner._errors(*given, batch, settings, None))(
        network, target
    )
    np.testing.assert_allclose(at, value, atol=1e-5)
    np.testing.assert_allclose(found, wanted - value, atol=1e-5)
    # The target is not learnt from.
    gradient = jax.jit(
        jax.grad(lambda one: learner._errors(network, one, batch, settings, None)[0].sum())
    )
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient(target)))


def test_exploration_falls_and_then_stays() -> None:
    settings = CONFIG.replace(exploration_steps=64 * 5, exploration_end=0.2)
    learner = dqn.DQN.create(probes.Probe(), settings)
    params = probes.params_of(probes.ACTION)
    state = learner.init(jax.random.key(0), settings, params)
    observation = {"account_state": jnp.array(SHOWN, jnp.float32)}
    shares = []
    for update in (0, 1, 5, 50):
        act, _ = learner._behaviour(state.replace(update=jnp.int32(update)), settings, params)
        logits, value = act(observation)
        shares.append(2 * float(np.exp(logits).min()))
        np.testing.assert_allclose(np.exp(logits).sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares, [1, 0.84, 0.2, 0.2], rtol=1e-5)
    np.testing.assert_allclose(
        value,
        gradients.action_values(learner.network.apply({"params": state.params}, observation)).max(
            -1
        ),
        rtol=1e-6,
    )


def test_the_target_moves_when_it_is_due() -> None:
    slow = CONFIG.replace(target_rate=0.25, target_period=3)
    moves = [float(gradients.move(0.0, 8.0, jnp.int32(step), slow)) for step in range(6)]
    assert moves == [0, 0, 2, 0, 0, 2]


def test_numbers_as_actions_are_refused() -> None:
    env = SequentialTradingEnv(hours(100), config(action="continuous"))
    with pytest.raises(ValueError, match="DQN has a discrete head"):
        dqn.DQN.create(env, CONFIG)
