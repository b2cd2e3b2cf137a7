"""What must hold of every update, whatever is being learnt."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import learner as learning
from agents import ppo
from agents.summary import summarize
from jaxtrade import SequentialTradingEnv
from tests.agents import probes
from tests.agents.conftest import SMALL, Small, config, hours


@pytest.fixture(scope="module")
def chunk(small: Small) -> Any:
    return small.chunk(small.start())


def equal(a: Any, b: Any) -> bool:
    same = jax.tree.map(lambda x, y: np.array_equal(_plain(x), _plain(y), equal_nan=True), a, b)
    return all(jax.tree.leaves(same))


def _plain(x: jax.Array) -> np.ndarray:
    typed = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if typed else x)


def test_the_first_minibatch_sees_the_policy_that_acted(chunk: Any) -> None:
    _, metrics = chunk
    # Anything but rounding is an error of layout between collecting and learning.
    assert float(metrics["first_ratio_deviation_max"].max()) < 1e-5
    assert float(metrics["loss_kl"][0]) >= 0


@pytest.mark.parametrize(
    ("encoder", "lanes"), [("mlp", 64), pytest.param("conv", 16, marks=pytest.mark.slow)]
)
def test_both_ways_of_encoding_give_the_same_policy(small: Small, encoder: str, lanes: int) -> None:
    # 500 bars: with 192 steps in an update windows are gathered while collecting, with 768 every
    # bar is encoded in advance. Learning always gathers.
    wide = SMALL.replace(encoder=encoder, num_envs=lanes)
    learner = ppo.PPO.create(small.env, wide)
    state = learning.start(
        learner, jax.random.key(0), wide.traced(), small.params, small.normalizer
    )
    _, metrics = learning.train_chunk(state, wide.traced(), small.params, learner=learner, length=1)
    assert float(metrics["first_ratio_deviation_max"].max()) < 1e-5


def test_a_chunk_is_its_updates_and_the_same_key_gives_the_same_run(small: Small) -> None:
    together, _ = small.chunk(small.start(), length=2)
    state, _ = small.chunk(small.start(), length=1)
    apart, _ = small.chunk(state, length=1)
    again, _ = small.chunk(small.start(), length=2)
    assert equal(together, again)
    assert int(apart.update) == 2
    near = partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(near, together.params, apart.params)
    other, _ = small.chunk(small.start(seed=1), length=2)
    assert not equal(together.params, other.params)


def test_the_state_given_is_used_up(small: Small) -> None:
    state = small.start()
    small.chunk(state)
    assert state.params["policy_head"]["kernel"].is_deleted()


class Counting(probes.Probe):
    """Counts how often Python runs through a step: once per trace."""

    traces = 0

    def transition(self, *arguments: Any) -> Any:
        type(self).traces += 1
        return super().transition(*arguments)


def test_a_chunk_is_traced_once_whatever_the_numbers() -> None:
    env = Counting()
    settings = ppo.PPOConfig(num_envs=4, rollout_steps=3, minibatches=1, hidden_sizes=(4,))
    learner = ppo.PPO.create(env, settings)
    params = probes.params_of(probes.MATCH)
    state = learning.start(learner, jax.random.key(0), settings.traced(), params)
    Counting.traces = 0
    seen = []
    for rate in (1e-3, 1e-2, 1):
        traced = settings.replace(learning_rate=rate).traced()
        state, _ = learning.train_chunk(state, traced, params, learner=learner, length=2)
        seen.append(Counting.traces)
    assert seen[0] >= 1
    assert seen == [seen[0]] * 3


@pytest.mark.slow
def test_seeds_side_by_side_are_the_seeds_alone(small: Small) -> None:
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    both = learning.start(small.learner, keys, SMALL.traced(), small.params, small.normalizer)
    both, metrics = small.chunk(both)
    assert metrics["steps"].shape == (2, 2)
    for seed in range(2):
        alone, _ = small.chunk(small.start(seed))
        near = partial(np.testing.assert_allclose, atol=1e-4)
        jax.tree.map(near, jax.tree.map(lambda x, s=seed: x[s], both.params), alone.params)
        np.testing.assert_array_equal(both.lanes.state.bar[seed], alone.lanes.state.bar)


@pytest.mark.slow
def test_whole_runs_can_be_swept(small: Small) -> None:
    train = learning.make_train(small.learner, SMALL, 1, small.normalizer)
    rates = jnp.array([0.0, 1e-3])
    axes = jax.tree.map(lambda _: None, SMALL).replace(learning_rate=0)
    sweep = jax.jit(jax.vmap(train, in_axes=(None, None, axes)))
    state, _ = sweep(jax.random.key(0), small.params, SMALL.replace(learning_rate=rates))
    begin = small.start().params
    same = jax.tree.map(lambda x, y: np.array_equal(x[0], y), state.params, begin)
    assert all(jax.tree.leaves(same))  # learning rate 0 learns nothing
    moved = jax.tree.map(lambda x: bool((x[0] != x[1]).any()), state.params)
    assert any(jax.tree.leaves(moved))


def test_normalised_rewards_have_unit_scale(small: Small) -> None:
    state, metrics = small.chunk(small.start())
    scale = state.return_scale
    spread = float(jnp.sqrt(scale.square_sum / scale.count))
    assert 0 < spread < 1  # log returns are far below 1, their targets are not
    variance = metrics["target_variance_sum"] / metrics["steps"]
    assert 0.05 < float(variance[-1]) < 20


def test_a_nan_in_the_features_is_counted(small: Small) -> None:
    tables = tuple(table.at[200:].set(jnp.nan) for table in small.params.market.features)
    broken = small.params.replace(market=dataclasses.replace(small.params.market, features=tables))
    state = small.start()
    _, metrics = learning.train_chunk(
        state, SMALL.traced(), broken, learner=small.learner, length=2
    )
    assert summarize(metrics)["nonfinite"] > 0


def test_a_summary_is_means_of_sums(small: Small, chunk: Any) -> None:
    _, metrics = chunk
    summary = summarize(metrics)
    assert summary["steps"] == 2 * SMALL.steps_per_update
    assert 0 < summary["entropy"] <= np.log(5) + 1e-6
    np.testing.assert_allclose(summary["action_share"].sum(), 1)
    pooled = summarize({name: x[:, None] for name, x in metrics.items()}, axis=(0, 1))
    np.testing.assert_allclose(pooled["entropy"], summary["entropy"])


def test_settings_are_checked_all_at_once() -> None:
    wrong = ppo.PPOConfig(num_envs=10, minibatches=0, gamma=1.5, encoder="lstm")
    with pytest.raises(ValueError, match=r"gamma.*encoder.*minibatches"):
        wrong.check()
    with pytest.raises(ValueError, match="minibatches: must divide the 10 envs"):
        ppo.PPOConfig(num_envs=10, minibatches=4).check()
    ppo.PPOConfig(num_envs=10, minibatches=4, rollout_steps=2, shuffle="steps").check()


def test_continuous_actions_are_refused() -> None:
    env = SequentialTradingEnv(hours(100), config(action="continuous"))
    with pytest.raises(ValueError, match="discrete"):
        ppo.PPO.create(env, SMALL)
