"""`StoaEnv` under Stoa's own wrappers."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("stoa", reason="needs the extra 'stoa': pip install 'jaxtrade[stoa]'")

from stoa.core_wrappers.auto_reset import AutoResetWrapper
from stoa.core_wrappers.episode_metrics import RecordEpisodeMetrics
from stoa.core_wrappers.vmap import VmapWrapper
from stoa.env_types import StepType
from stoa.spaces import BoundedArraySpace, DiscreteSpace

from jaxtrade.adapters.stoa import StoaEnv
from tests.adapters.builders import crash_env, env_of

ACTIONS = jnp.array([2, 1, 0])  # long, flat, short
MID, TERMINATED, TRUNCATED = (
    int(kind) for kind in (StepType.MID, StepType.TERMINATED, StepType.TRUNCATED)
)


@pytest.fixture(scope="module")
def played():
    """Six steps of three lanes under auto-reset, metrics and vmap."""
    lanes = AutoResetWrapper(StoaEnv(crash_env()), next_obs_in_extras=True)
    envs = VmapWrapper(RecordEpisodeMetrics(lanes), num_envs=3)
    state, first = jax.jit(envs.reset)(jax.random.key(0))
    step, steps = jax.jit(envs.step), []
    for _ in range(6):
        state, timestep = step(state, ACTIONS)
        steps.append(timestep)
    return first, steps


def test_ruin_is_terminated_and_time_is_truncated(played):
    first, steps = played
    assert np.asarray(first.first()).all()
    kinds = np.stack([one.step_type for one in steps]).T
    assert kinds[0].tolist() == [MID, MID, TERMINATED] * 2
    assert kinds[1].tolist() == kinds[2].tolist() == [MID] * 5 + [TRUNCATED]
    discounts = np.stack([one.discount for one in steps])
    np.testing.assert_array_equal(discounts, (kinds.T != TERMINATED).astype(np.float32))


def test_the_next_observation_is_the_one_before_the_reset(played):
    first, steps = played
    env = crash_env()
    params, key = env.default_params, jax.random.key(0)
    _, state = env.reset_env(key, params)
    rewards = []
    for _ in range(6):
        observation, state, reward, *_ = jax.jit(env.step_env)(key, state, ACTIONS[2], params)
        rewards.append(float(reward))
    last = steps[5]
    for name, part in observation.items():
        np.testing.assert_allclose(last.extras["next_obs"][name][2], part, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(last.observation[name][2], first.observation[name][2])
    assert float(last.extras["next_obs"]["account_state"][2][1]) == -1
    np.testing.assert_allclose([one.reward[2] for one in steps], rewards, rtol=1e-5, atol=1e-7)
    metrics = last.extras["episode_metrics"]
    assert metrics["episode_length"].tolist() == [3, 6, 6]
    assert float(metrics["episode_return"][2]) == pytest.approx(sum(rewards), rel=1e-5)


def test_resets_draw_new_starts():
    env = AutoResetWrapper(StoaEnv(env_of(leverage=2, max_steps=2)))
    state, _ = env.reset(jax.random.key(0))
    step, bars = jax.jit(env.step), []
    for _ in range(8):
        state, timestep = step(state, jnp.int32(2))
        if bool(timestep.last()):
            bars.append(int(state.base_env_state.bar))
    assert len(bars) == 4
    assert len(set(bars)) > 1


def test_parameters_are_the_constructors_or_the_calls():
    trading = crash_env()
    params = trading.default_params
    costly = params.replace(fee=jnp.asarray(0.0005, jnp.float32))
    env = StoaEnv(trading, costly)
    state, _ = env.reset(jax.random.key(0))
    own = env.step(state, jnp.int32(2))[1].reward
    free = env.step(state, jnp.int32(2), params)[1].reward
    assert float(own) < float(free) == 0


def test_spaces_are_mapped():
    env = StoaEnv(env_of(action="continuous", observation="index"))
    actions = env.action_space()
    assert isinstance(actions, BoundedArraySpace)
    assert (float(actions.minimum), float(actions.maximum)) == (-1, 1)
    bars = env.observation_space().spaces["bar"]
    assert isinstance(bars, DiscreteSpace)
    assert bars.num_values == 120
    discrete = StoaEnv(env_of(leverage=2))
    assert discrete.action_space().num_values == 5
    state, first = discrete.reset(jax.random.key(0))
    spaces = discrete.environment_space()
    assert bool(spaces.observations.contains(first.observation))
    assert bool(spaces.rewards.contains(first.reward))
    leaves = spaces.state.spaces
    assert leaves["account.cash"].dtype == state.base_env_state.account.cash.dtype


def test_a_missing_package_is_named(hidden):
    hidden("stoa", "jaxtrade.adapters.stoa")
    message = (
        r"^jaxtrade\.adapters\.stoa: needs the package 'stoa-env'; "
        r"install it with: pip install 'jaxtrade\[stoa\]'\.$"
    )
    with pytest.raises(ImportError, match=message):
        importlib.import_module("jaxtrade.adapters.stoa")
