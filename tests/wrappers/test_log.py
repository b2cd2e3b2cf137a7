"""What is logged about episodes."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.wrappers.purerl import LogWrapper as GymnaxLogWrapper

from jaxtrade.wrappers import LogWrapper
from tests.wrappers.builders import KEY, env_of, run

ACTIONS = np.random.default_rng(0).integers(0, 5, 20).astype(np.int32)


@pytest.fixture(scope="module")
def env():
    return env_of(observation="index", max_steps=6)


@pytest.fixture(scope="module")
def walked(env):
    return run(LogWrapper(env), ACTIONS)


def test_returns_lengths_and_equity_of_every_episode(walked):
    total, length, last = 0.0, 0, (0.0, 0, 0.0)
    for _, state, reward, terminated, truncated, info in walked[1:]:
        done = bool(terminated | truncated)
        total, length = total + float(reward), length + 1
        if done:
            last = (total, length, float(info["equity"]))
            total, length = 0.0, 0
        assert bool(info["returned_episode"]) == done
        assert float(state.episode_return) == pytest.approx(total, abs=1e-6)
        assert int(state.episode_length) == length
        assert float(info["returned_episode_returns"]) == pytest.approx(last[0], abs=1e-6)
        assert int(info["returned_episode_lengths"]) == last[1]
        assert float(info["returned_episode_equity"]) == pytest.approx(last[2], rel=1e-6)
        assert bool(info["returned_episode_valid"]) == (last[1] > 0)
    assert last[1] == 6


def test_agrees_with_the_log_wrapper_of_gymnax(env, walked):
    theirs = run(GymnaxLogWrapper(env), ACTIONS)
    names = [name for name in theirs[1][5] if name.startswith("returned_episode")]
    assert len(names) == 4
    for one, two in zip(walked[1:], theirs[1:], strict=True):
        for name in names:
            np.testing.assert_array_equal(one[5][name], two[5][name], err_msg=name)
        for ours, other in zip(jax.tree.leaves(one[0]), jax.tree.leaves(two[0]), strict=True):
            np.testing.assert_array_equal(ours, other)


def test_the_given_info_is_left_alone(env):
    given = {"equity": jnp.float32(5.0)}
    within = copy.copy(env)
    within.transition = lambda state, *_: (state, jnp.float32(0.5), jnp.bool_(True), given)
    wrapper = LogWrapper(within)
    _, state = wrapper.reset(KEY)
    info = wrapper.transition(state, 0, jnp.float32(0.5), within.default_params)[3]
    assert list(given) == ["equity"]
    assert float(info["returned_episode_equity"]) == 5


def test_fields_of_the_account_are_read_through_the_state(env):
    state = LogWrapper(LogWrapper(env)).reset(KEY)[1]
    inner = state.inner.inner
    for name in ("time", "bar", "price", "account", "initial_equity", "last_action"):
        assert getattr(state, name) is getattr(inner, name)
