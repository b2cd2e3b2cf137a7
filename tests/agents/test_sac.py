"""Soft actor-critic solves every probe, by an index and by a number as action."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from agents import gradients, rollout, sac
from agents import learner as learning
from agents.networks import ACCOUNT_STATE, Normalizer
from jaxtrade import SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig
from tests.agents import probes, solving
from tests.agents.conftest import hours
from tests.agents.solving import SHOWN


class NumberProbe(probes.Probe):
    """The probes for an action in [-1, 1]: above one half it counts as action 1."""

    continuous = True

    def transition(self, state: Any, action: Any, draw: Any, params: Any) -> Any:
        index = (action > 0.5).astype(jnp.int32)
        return super().transition(state, index, draw, params)


CONFIG = sac.SACConfig(
    learning_rate=3e-3,
    gamma=0.9,
    max_gradient_norm=10.0,
    num_envs=16,
    rollout_steps=4,
    replay_capacity=2048,
    batch_size=128,
    gradient_steps=8,
    target_rate=0.1,
    hidden_sizes=(32,),
    activation="tanh",
    normalize_rewards=False,
)
DISCRETE = sac.SAC.create(probes.Probe(), CONFIG)
CONTINUOUS = sac.SAC.create(NumberProbe(), CONFIG)
BOTH = pytest.mark.parametrize("learner", [DISCRETE, CONTINUOUS], ids=["index", "number"])


def solve(
    learner: sac.SAC, kind: probes.Kind, updates: int, shown: Any = SHOWN
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy actions (0 or 1) and their values by the lower critic, [B] each."""
    state = solving.on_probe(learner, CONFIG, kind, updates)
    seen = {ACCOUNT_STATE: jnp.asarray(shown, jnp.float32)}
    first, _ = solving.outputs(learner.network, state.params, shown)
    if learner.continuous:
        action = sac.deterministic(jnp.asarray(first))
        index = np.asarray(action > 0.5)
    else:
        action = jnp.asarray(first.argmax(-1))
        index = np.asarray(action)
    return index.astype(int), np.asarray(learner._values(state.critics, seen, action).min(0))


@pytest.mark.slow
@BOTH
def test_constant_reward_is_the_value(learner: sac.SAC) -> None:
    np.testing.assert_allclose(solve(learner, probes.CONSTANT, 40)[1], 1, atol=0.05)


@pytest.mark.slow
@BOTH
def test_value_follows_the_observation(learner: sac.SAC) -> None:
    np.testing.assert_allclose(solve(learner, probes.OBSERVED, 40)[1], [1, -1], atol=0.1)


@pytest.mark.slow
@BOTH
def test_value_discounts_one_step(learner: sac.SAC) -> None:
    # Within what the entropy adds, which the temperature lets go.
    _, value = solve(learner, probes.DELAYED, 120, [[1, 0], [-1, 0], [1, 1], [-1, 1]])
    np.testing.assert_allclose(value, [0.9, 0.9, 1, 1], atol=0.1)


@pytest.mark.slow
@BOTH
def test_the_paying_action_is_picked(learner: sac.SAC) -> None:
    action, value = solve(learner, probes.ACTION, 60)
    assert action.tolist() == [1, 1]
    np.testing.assert_allclose(value, 1, atol=0.15)


@pytest.mark.slow
@BOTH
def test_the_action_is_conditioned_on_the_observation(learner: sac.SAC) -> None:
    action, value = solve(learner, probes.MATCH, 60)
    assert action.tolist() == [1, 0]
    np.testing.assert_allclose(value, 1, atol=0.15)


@pytest.mark.slow
@BOTH
def test_a_cut_is_not_an_end_and_an_end_not_a_cut(learner: sac.SAC) -> None:
    shown = [[1, 1], [-1, 1]]
    np.testing.assert_allclose(solve(learner, probes.CUT, 300, shown)[1], 10, atol=0.7)
    assert solve(learner, probes.ENDED, 100, shown)[1].max() < 4.3


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.8, 0.5), (-1.5, 1.6)])
def test_the_density_is_the_slope_of_the_distribution(mean: float, deviation: float) -> None:
    action = np.linspace(-0.98, 0.98, 41)

    def below(action: np.ndarray) -> np.ndarray:
        return stats.norm.cdf((np.arctanh(action) - mean) / deviation)

    slope = (below(action + 1e-6) - below(action - 1e-6)) / 2e-6
    noise = jnp.asarray((np.arctanh(action) - mean) / deviation, jnp.float32)
    output = jnp.broadcast_to(jnp.array([mean, np.log(deviation)]), (41, 2))
    found, log_density = sac.squashed(output, noise)
    np.testing.assert_allclose(found, action, atol=1e-5)
    np.testing.assert_allclose(log_density, np.log(slope), atol=1e-3)


def test_the_density_is_finite_where_the_action_rounds_to_one() -> None:
    _, density = sac.squashed(jnp.array([30.0, 0.0]), jnp.float32(0))
    np.testing.assert_allclose(density, -0.5 * np.log(2 * np.pi) + 60 - 2 * np.log(2), rtol=1e-5)


def test_numbers_are_drawn_by_their_distribution() -> None:
    draws = jnp.linspace(0, 1, 1001)[:-1]
    output = jnp.broadcast_to(jnp.array([0.5, -1.0]), (1000, 2))
    action, log_density = sac.choose_number(output, draws)
    assert np.isfinite(action).all()
    assert np.isfinite(log_density).all()
    np.testing.assert_allclose(np.median(action), np.tanh(0.5), atol=0.01)
    assert (np.diff(action) >= 0).all()
    np.testing.assert_allclose(sac.deterministic(output), np.tanh(0.5), rtol=1e-5)


def test_numbers_are_counted_in_equal_parts() -> None:
    env, params = NumberProbe(), probes.params_of(probes.MATCH)
    draws = rollout.Draws.of(jax.random.key(0), (50, 8))
    lanes = rollout.start(env, jax.tree.map(lambda x: x[0], draws), params)

    def act(observation: Any) -> tuple[Any, Any]:
        shown = observation["account_state"][:, 0]
        return jnp.stack([jnp.where(shown > 0, 0.6, -0.4), jnp.full(8, -5.0)], -1), shown

    _, batch, metrics = rollout.collect(env, lanes, draws, params, act, sac.choose_number)
    positive = int((batch.action > 0).sum())
    assert 0 < positive < 400
    assert metrics["action_counts"].tolist() == [400 - positive, positive]
    assert (np.sign(batch.action) == batch.observation["account_state"][..., 0]).all()


@pytest.mark.slow
@BOTH
def test_the_temperature_holds_the_entropy(learner: sac.SAC) -> None:
    config = CONFIG.replace(target_entropy=0.5, learning_rate=1e-2)
    params = probes.params_of(probes.MATCH)
    state = solving.train(learner, config, params, 100)
    _, metrics = learning.train_chunk(
        state, config.traced(), params, learner=learner, length=solving.CHUNK
    )
    entropy = float(metrics["loss_entropy"].sum() / metrics["minibatches"].sum())
    wanted = 0.0 if learner.continuous else 0.5 * np.log(2)  # log(2 * 0.5); half of log(2)
    np.testing.assert_allclose(entropy, wanted, atol=0.12)


@pytest.mark.slow
def test_each_loss_moves_its_part_only() -> None:
    state = solving.on_probe(DISCRETE, CONFIG, probes.MATCH, 20)
    parts = {"actor": state.params, "critics": state.critics, "temperature": state.temperature}
    batch = jax.tree.map(lambda x: x[:32], state.buffer.data)
    noise = jnp.zeros((2, 32))
    params = probes.params_of(probes.MATCH)

    def loss(parts: Any, batch: Any) -> Any:
        return DISCRETE._loss(parts, state.target, batch, noise, CONFIG, params)[0]

    gradient = jax.grad(loss)(parts, batch)
    # Other rewards change what the critics learn, and nothing else.
    other = jax.grad(loss)(parts, batch._replace(reward=batch.reward + 1))
    for name, same in (("actor", True), ("temperature", True), ("critics", False)):
        equal = jax.tree.map(lambda a, b: bool((a == b).all()), gradient[name], other[name])
        assert all(jax.tree.leaves(equal)) == same
    # The policy's gradient is that of its own loss: nothing of the critics' error leaks into it.
    values = gradients.action_values(DISCRETE._judge(state.critics, batch.observation)).min(0)
    temperature = jnp.exp(state.temperature)

    def policy_loss(actor: Any) -> Any:
        logits, _ = DISCRETE.outputs(actor, batch.observation)
        logs = jax.nn.log_softmax(logits)
        return (jnp.exp(logs) * (temperature * logs - values)).sum(-1).mean()

    # What the critics learn: the reward and the soft value of what follows, by the lower target.
    judged = gradients.action_values(DISCRETE._judge(state.target, batch.following)).min(0)
    logs = jax.nn.log_softmax(DISCRETE.outputs(state.params, batch.following)[0])
    later = (jnp.exp(logs) * (judged - temperature * logs)).sum(-1)
    wanted = batch.reward + 0.9 * later
    batch = batch._replace(discount=jnp.full(32, 0.9))
    values = gradients.action_values(DISCRETE._judge(state.critics, batch.observation))
    taken = np.asarray(values)[:, np.arange(32), np.asarray(batch.action)]
    _, terms = DISCRETE._loss(parts, state.target, batch, noise, CONFIG, params)
    error = 0.5 * np.square(taken - np.asarray(wanted)).sum(0).mean()
    np.testing.assert_allclose(terms["critic_loss"], error, rtol=1e-4)
    near = partial(np.testing.assert_allclose, atol=1e-6)
    jax.tree.map(near, gradient["actor"], jax.grad(policy_loss)(state.params))


@pytest.mark.slow
def test_brackets_are_learnt_like_levels() -> None:
    env = SequentialTradingEnvSLTP(
        hours(),
        SequentialTradingEnvSLTPConfig(
            window_sizes=4,
            leverage=3,
            transaction_fee=0.0005,
            max_steps=20,
            stoploss_levels=(-0.01,),
            takeprofit_levels=(0.01, 0.02),
        ),
    )
    settings = sac.SACConfig(
        num_envs=8,
        rollout_steps=5,
        batch_size=32,
        gradient_steps=2,
        replay_capacity=200,
        hidden_sizes=(8,),
    )
    learner = sac.SAC.create(env, settings)
    params, traced = learner.env.default_params, settings.traced()
    state = learning.start(learner, jax.random.key(0), traced, params, Normalizer.fit(env.market))
    before = jax.tree.map(jnp.copy, state.critics)
    state, metrics = learning.train_chunk(state, traced, params, learner=learner, length=3)
    assert metrics["action_counts"].sum(0).shape == (env.num_actions,)
    assert metrics["action_counts"].sum(1).tolist() == [40] * 3
    assert int(metrics["nonfinite"].sum() + metrics["nonfinite_losses"].sum()) == 0
    assert float(metrics["trades"].sum()) > 0
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before, state.critics)
    assert all(jax.tree.leaves(changed["policy_head"]))
    # The target follows at its rate: 6 moves of a hundredth.
    name = "value_head"

    def share(old: Any, new: Any, target: Any) -> float:
        return float(jnp.abs(target - old).sum() / jnp.abs(new - old).sum())

    shares = jax.tree.map(share, before[name], state.critics[name], state.target[name])
    assert all(0.01 < one < 0.06 for one in jax.tree.leaves(shares))
