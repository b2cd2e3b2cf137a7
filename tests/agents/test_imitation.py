"""A rule is repeated by a network, which then runs, is bundled and learns on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from agents import evaluate, imitation, policies, ppo, recorded
from agents import learner as learning
from agents.networks import Normalizer
from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
from tests.agents.conftest import hours

CONFIG = imitation.CloningConfig(
    learning_rate=1e-2,
    batch_size=128,
    gradient_steps=25,
    hidden_sizes=(32,),
)


def follow(observation: Any, draw: Any) -> Any:
    """Long after a rise of the last two bars, short after a fall, else flat."""
    changes = observation["market_data_1Hour"][..., -2:, 0]
    side = (changes > 0).all(-1).astype(jnp.int32) - (changes < 0).all(-1).astype(jnp.int32)
    return side + 1


@pytest.fixture(scope="module")
def env() -> SequentialTradingEnv:
    return SequentialTradingEnv(
        hours(),
        SequentialTradingEnvConfig(
            window_sizes=3, leverage=2, action_levels=(-1, 0, 1), max_steps=50
        ),
    )


@pytest.fixture(scope="module")
def cloned(env: SequentialTradingEnv) -> Any:
    learner = imitation.Cloning.create(env, CONFIG)
    data = recorded.play(env, follow, env.default_params, jax.random.key(0), num_envs=16, steps=100)
    state = learning.start(
        learner, jax.random.key(1), CONFIG.traced(), data, Normalizer.fit(env.market)
    )
    before = float(imitation.accuracy(learner, state, data))
    state, metrics = learning.train_chunk(state, CONFIG.traced(), data, learner=learner, length=20)
    return learner, data, state, metrics, before


def test_the_rule_is_repeated(cloned: Any) -> None:
    learner, data, state, metrics, before = cloned
    share = metrics["loss_accuracy"] / metrics["minibatches"]
    assert before < 0.7
    assert float(share[-1]) > 0.95
    assert float(imitation.accuracy(learner, state, data)) > 0.95
    assert (metrics["loss_loss"][-1] < metrics["loss_loss"][0]).all()
    assert set(np.unique(data.transitions.action)) == {0, 1, 2}


def test_accuracy_counts_every_recorded_action(cloned: Any) -> None:
    learner, data, state, _, _ = cloned
    known = learning.normalised(state.normalizer, data)
    logits, _ = learner.apply(state.params, data.transitions.observation, known)
    right = np.asarray(logits).argmax(-1) == np.asarray(data.transitions.action)
    np.testing.assert_allclose(imitation.accuracy(learner, state, data), right.mean(), rtol=1e-6)


def test_the_clone_trades_and_is_bundled_like_any_policy(
    env: SequentialTradingEnv, cloned: Any
) -> None:
    learner, _, state, _, _ = cloned
    variables = evaluate.variables_of(jax.tree.map(lambda x: x[None], state))
    (record,) = evaluate.run(env, evaluate.NetworkPolicy(learner.network), variables)
    (wanted,) = evaluate.run(env, evaluate.RulePolicy(follow))
    steps = min(len(record["reward"]), len(wanted["reward"]))
    assert steps > 300
    same = np.sign(record["quantity"][:steps]) == np.sign(wanted["quantity"][:steps])
    assert same.mean() > 0.93
    bundle = policies.bundle_of(env, learner.network, policies.select_seed(variables, 0))
    network, loaded = policies.from_bundle(bundle)
    assert network == learner.network
    jax.tree.map(np.testing.assert_array_equal, loaded["params"], state.params)


@pytest.mark.slow
def test_another_learner_begins_with_the_clone(env: SequentialTradingEnv, cloned: Any) -> None:
    learner, data, state, _, _ = cloned
    settings = ppo.PPOConfig(
        num_envs=8, rollout_steps=8, minibatches=1, epochs=1, hidden_sizes=CONFIG.hidden_sizes
    )
    other = ppo.PPO.create(env, settings)
    params = other.env.default_params
    fresh = learning.start(other, jax.random.key(0), settings.traced(), params)
    begun = imitation.begin_with(fresh, state)
    copied = jax.tree.map(jnp.copy, begun.params)
    assert float(imitation.accuracy(learner, state.replace(params=copied), data)) > 0.95
    assert set(begun.normalizer.mean) == set(state.normalizer.mean) == set(env.market.spec.keys)
    begun, metrics = learning.train_chunk(begun, settings.traced(), params, learner=other, length=1)
    # Its first rollout acts by the clone, and the clone can still be used.
    assert float(metrics["first_ratio_deviation_max"].max()) < 1e-4
    assert float(metrics["loss_entropy"].max()) < 0.5 * np.log(3)
    assert not state.params["policy_head"]["kernel"].is_deleted()


@struct.dataclass
class Copies:
    """A state that keeps its network more than once."""

    params: Any
    reference: Any
    target: Any
    normalizer: Any
    update: Any


def test_every_seed_and_every_copy_of_the_network_begins_with_it() -> None:
    policy = {"kernel": jnp.arange(6.0).reshape(2, 3)}
    known = Normalizer({"a": jnp.ones(2)}, {"a": jnp.ones(2)})
    cloned = Copies(policy, None, None, known, jnp.zeros(()))
    own, twins = {"kernel": jnp.zeros((4, 2, 3))}, {"kernel": jnp.zeros((4, 2, 2, 3))}
    state = Copies(own, own, twins, Normalizer.none(), jnp.zeros(4))
    begun = imitation.begin_with(state, cloned)
    for name in ("params", "reference"):
        found = getattr(begun, name)["kernel"]
        np.testing.assert_array_equal(found, np.broadcast_to(policy["kernel"], (4, 2, 3)))
    # Twin critics judge actions; their target is no copy of the policy.
    np.testing.assert_array_equal(begun.target["kernel"], twins["kernel"])
    np.testing.assert_array_equal(begun.normalizer.mean["a"], 1)
    wider = {"kernel": jnp.zeros((4, 2, 5))}
    with pytest.raises(ValueError, match="begin_with: the networks differ"):
        imitation.begin_with(state.replace(params=wider), cloned)


def test_smoothing_keeps_every_action_possible(env: SequentialTradingEnv, cloned: Any) -> None:
    learner, data, state, _, _ = cloned
    known = learning.normalised(state.normalizer, data)

    def least(network: Any) -> float:
        logits, _ = learner.apply(network, data.transitions.observation, known)
        return float(np.median(np.asarray(jax.nn.softmax(logits)).min(-1)))

    smooth = CONFIG.replace(label_smoothing=0.3).traced()
    soft = learning.start(learner, jax.random.key(1), smooth, data, Normalizer.fit(env.market))
    soft, _ = learning.train_chunk(soft, smooth, data, learner=learner, length=20)
    assert least(state.params) < 0.01
    np.testing.assert_allclose(least(soft.params), 0.1, atol=0.015)
