"""What is stored, what is drawn of it, and what it is worth."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import dqn, replay, rollout, transitions
from agents import learner as learning
from agents.networks import Normalizer
from agents.transitions import Transition
from jaxtrade import SequentialTradingEnv
from tests.agents.conftest import config, hours

STEPS, LANES = 12, 5


@pytest.fixture(scope="module")
def batch() -> rollout.Transitions:
    """A rollout with ends, cuts and both at once; observations say lane and time."""
    generator = np.random.default_rng(0)
    time, lane = np.meshgrid(np.arange(STEPS), np.arange(LANES), indexing="ij")
    shape = (STEPS, LANES)
    return rollout.Transitions(
        observation={"x": jnp.asarray(100 * lane + time)},
        final_observation={"x": jnp.asarray(100 * lane + time + 1)},
        action=jnp.asarray(generator.integers(0, 3, shape), jnp.int32),
        log_probability=jnp.zeros(shape),
        value=jnp.zeros(shape),
        reward=jnp.asarray(generator.normal(size=shape), jnp.float32),
        terminated=jnp.asarray(generator.random(shape) < 0.15),
        truncated=jnp.asarray(generator.random(shape) < 0.15),
    )


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_returns_over_steps_stop_at_ends_and_tell_them_from_cuts(
    batch: rollout.Transitions, steps: int
) -> None:
    gamma = 0.9
    found = jax.jit(transitions.n_step, static_argnames="steps")(batch, gamma, steps=steps)
    assert batch.terminated.any()
    assert (batch.truncated & ~batch.terminated).any()
    for t in range(STEPS):
        for lane in range(LANES):
            reward, discount, at = 0.0, 1.0, t
            while True:
                reward += discount * float(batch.reward[at, lane])
                discount *= gamma
                ended, cut = bool(batch.terminated[at, lane]), bool(batch.truncated[at, lane])
                if ended or cut or at == STEPS - 1 or at == t + steps - 1:
                    break
                at += 1
            row = t * LANES + lane
            np.testing.assert_allclose(found.reward[row], reward, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found.discount[row], 0 if ended else discount, rtol=1e-6)
            assert int(found.following["x"][row]) == 100 * lane + at + 1
            assert int(found.observation["x"][row]) == 100 * lane + t
            assert int(found.action[row]) == int(batch.action[t, lane])


def rows(first: int, amount: int) -> Transition:
    numbers = jnp.arange(first, first + amount, dtype=jnp.float32)
    return Transition({"x": numbers}, numbers.astype(jnp.int32), numbers, {"x": numbers}, numbers)


def test_the_ring_keeps_the_newest() -> None:
    buffer = replay.Buffer.empty({"x": jnp.zeros((1,))}, jnp.int32, 12)
    seen = set()
    for first in range(0, 20, 4):
        buffer = jax.jit(replay.Buffer.add)(buffer, rows(first, 4))
        places = buffer.uniform(jax.random.key(first), 400)
        seen = set(np.asarray(transitions.take(buffer.data, places).reward).astype(int))
        # All that is stored, and nothing else: no empty place is ever drawn.
        assert seen == set(range(max(0, first + 4 - 12), first + 4))
    assert int(buffer.size) == 12
    data = transitions.take(buffer.data, jnp.arange(12))
    np.testing.assert_array_equal(data.observation["x"], data.reward)
    np.testing.assert_array_equal(data.action, data.reward)


def test_chances_follow_the_priorities_and_weights_undo_them() -> None:
    buffer = replay.Buffer.empty({"x": jnp.zeros((1,))}, jnp.int32, 4096).add(rows(0, 4))
    buffer = buffer.prioritise(jnp.arange(4), jnp.array([1.0, -4.0, 0.0, 9.0]))
    draw = jax.jit(replay.Buffer.prioritised, static_argnames="amount")
    places, weight = draw(buffer, jax.random.key(0), amount=6000, exponent=0.5, correction=1.0)
    share = np.bincount(places, minlength=4096) / 6000
    mass = np.sqrt(np.array([1.001, 4.001, 0.001, 9.001]))
    np.testing.assert_allclose(share[:4], mass / mass.sum(), atol=2e-3)
    assert share[4:].sum() == 0
    # With full correction every transition counts the same on average.
    total = np.bincount(places, weight, 4)
    np.testing.assert_allclose(total / total.mean(), 1, atol=0.15)
    assert float(weight.max()) == 1
    _, alike = draw(buffer, jax.random.key(0), amount=6000, exponent=0.5, correction=0.0)
    assert (alike == 1).all()
    # What is new is as urgent as the most urgent.
    assert buffer.add(rows(4, 4)).priority[4:8].tolist() == [float(buffer.priority.max())] * 4


def test_a_draw_never_leaves_what_is_stored() -> None:
    buffer = replay.Buffer.empty({"x": jnp.zeros((1,))}, jnp.int32, 4096).add(rows(0, 1024))
    for seed in range(20):
        places, weight = buffer.prioritised(jax.random.key(seed), 256, 0.6, 0.4)
        assert int(places.max()) < 1024
        assert np.isfinite(weight).all()


def test_rewards_are_measured_by_those_that_are_not_zero() -> None:
    reward = jnp.array([0.0, 0.0, 2e-3, -4e-3, 0.0, -10.0])
    some = rows(0, 6)._replace(reward=reward)
    settings = dqn.DQNConfig()
    scale = transitions.reward_scale(some._replace(reward=reward[:5]), settings)
    np.testing.assert_allclose(scale, 3e-3)
    found = transitions.scaled(some, scale, settings).reward
    np.testing.assert_allclose(found, [0, 0, 2 / 3, -4 / 3, 0, -10], rtol=1e-6)  # the last is cut
    plain = settings.replace(normalize_rewards=False)
    assert transitions.scaled(some, transitions.reward_scale(some, plain), plain) is some
    assert float(transitions.reward_scale(rows(0, 1), settings)) == 1  # only zeros: as they are


def test_settings_are_checked() -> None:
    assert dqn.DQNConfig(num_envs=10, rollout_steps=3, replay_capacity=100).capacity == 120
    with pytest.raises(ValueError, match="n_steps: must be <= rollout_steps"):
        dqn.DQNConfig(n_steps=5, rollout_steps=4).check()
    with pytest.raises(ValueError, match=r"batch_size.*prioritised"):
        dqn.DQNConfig(batch_size=0, prioritised=1).check()


@pytest.fixture(scope="module")
def trained() -> Any:
    """(changed settings) -> state and metrics of four prioritised updates on a market."""
    env = SequentialTradingEnv(hours(), config())
    settings = dqn.DQNConfig(
        num_envs=4,
        rollout_steps=5,
        batch_size=16,
        gradient_steps=2,
        replay_capacity=50,
        hidden_sizes=(8,),
        prioritised=True,
    )
    learner = dqn.DQN.create(env, settings)
    params, normalizer = learner.env.default_params, Normalizer.fit(env.market)

    def run(**changes: Any) -> Any:
        traced = settings.replace(**changes).traced()
        state = learning.start(learner, jax.random.key(0), traced, params, normalizer)
        return learning.train_chunk(state, traced, params, learner=learner, length=4)

    return run


@pytest.mark.slow
def test_windows_are_never_stored(trained: Any) -> None:
    state, _ = trained()
    stored = sum(leaf.nbytes for leaf in jax.tree.leaves(state.buffer.data)) / 60
    assert stored <= 80


def test_what_is_stored_happened(trained: Any) -> None:
    state, metrics = trained()
    assert int(state.update) == 4
    assert int(state.buffer.size) == 60
    assert metrics["steps"].tolist() == [20] * 4
    assert int(metrics["nonfinite"].sum() + metrics["nonfinite_losses"].sum()) == 0
    data = state.buffer.data
    # Episodes have 20 steps and there are no ruins: three bars on, or fewer before an end.
    gap = np.asarray(data.following["bar"] - data.observation["bar"])
    assert set(gap.ravel()) == {1, 2, 3}
    np.testing.assert_allclose(data.discount, 0.99**gap, rtol=1e-5)
    flat = (data.following["account_state"][:, 1] == 0) & (
        data.observation["account_state"][:, 1] == 0
    )
    assert (flat & (gap == 1)).any()
    # Without a position at either end of one step nothing was earned.
    assert np.abs(np.asarray(data.reward))[flat & (gap == 1)].max() < 1e-9
    assert np.abs(np.asarray(data.reward)).max() > 1e-4


def test_priorities_are_those_of_the_errors_and_weights_enter_the_loss(trained: Any) -> None:
    state, metrics = trained()
    priority = np.asarray(state.buffer.priority)
    # 4 updates of 2 steps with 16 of up to 60 transitions: many were seen.
    assert np.unique(priority).size > 20
    size = metrics["loss_error"].sum() / metrics["minibatches"].sum()
    np.testing.assert_allclose(np.median(priority), size, rtol=0.9)
    other, _ = trained(priority_correction=0.0)
    kernel, another = (one.params["value_head"]["kernel"] for one in (state, other))
    assert not np.array_equal(kernel, another)
