"""Several steps per decision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade.wrappers import BatchStepWrapper
from tests.envs.builders import assert_trees_equal
from tests.wrappers.builders import KEY, closes, env_of, keys

N = 4


@pytest.fixture(scope="module")
def env():
    return env_of(observation="index", max_steps=10, reward="drawdown_penalty")


@pytest.fixture(scope="module")
def wrapper(env):
    return BatchStepWrapper(env, N)


def by_hand(env, wrapper, state, action, draw, params):
    """The steps one by one: sum of rewards, number of steps, last transition."""
    total, taken, step = 0.0, 0, jax.jit(env.transition)
    over = False
    draws = iter([draw, *wrapper._further_draws(draw)])
    while not over and taken < wrapper.n_steps:
        state, reward, terminated, info = step(state, action, next(draws), params)
        total, taken = total + float(reward), taken + 1
        over = bool(terminated | env.is_truncated(state, params))
    return total, taken, (state, terminated, info)


def test_rewards_add_up_until_the_first_done(env, wrapper):
    params = env.default_params
    state = env.reset(KEY)[1]
    taken = []
    advance = jax.jit(wrapper.transition)
    for k in range(3):
        draw = jnp.float32(0.1 + 0.3 * k)
        total, steps, (stepped, terminated, info) = by_hand(
            env, wrapper, state, jnp.int32(k + 2), draw, params
        )
        found = advance(state, jnp.int32(k + 2), draw, params)
        assert float(found[1]) == pytest.approx(total, abs=1e-6)
        assert int(found[0].time) == int(stepped.time)
        np.testing.assert_array_equal(found[0].bar, stepped.bar)
        np.testing.assert_array_equal(found[2], terminated)
        for name, value in info.items():  # of the last step taken
            np.testing.assert_allclose(found[3][name], value, rtol=1e-5, atol=0.02, err_msg=name)
        taken.append(steps)
        state = stepped
    assert taken == [4, 4, 2]
    assert bool(wrapper.is_truncated(state, params))


def test_each_of_the_steps_has_its_own_draw(wrapper):
    draws = [0.5, *wrapper._further_draws(jnp.float32(0.5)).tolist()]
    assert len(set(draws)) == N
    many = jax.vmap(wrapper._further_draws)(jnp.linspace(0, 1, 500, endpoint=False))
    assert 0.45 < float(many.mean()) < 0.55
    assert float(many.min()) >= 0
    assert float(many.max()) < 1
    assert abs(float(jnp.corrcoef(many[:, 0], many[:, 1])[0, 1])) < 0.2


def test_a_new_episode_begins_once(env, wrapper):
    state = env.reset(KEY)[1]
    for k in range(9):
        key = jax.random.fold_in(KEY, k)
        observation, following, _, terminated, truncated, info = wrapper.step(key, state, 3)
        assert bool(truncated) == (k % 3 == 2)
        assert not bool(terminated)
        assert int(following.time) == (0 if bool(truncated) else int(state.time) + N)
        assert int(info["final_observation"]["bar"]) == int(state.bar) + (2 if truncated else N)
        if bool(truncated):
            _, fresh = wrapper.reset(jax.random.split(key)[1])
            assert_trees_equal(fresh, following)
        assert int(observation["bar"]) == int(following.bar)
        state = following


def test_ruin_stops_the_repetition():
    values = [100.0] * 8 + [100, 60, 160, 160, 160, 160]  # a liquidation, and a rise after it
    from tests.envs.builders import env_on

    env = env_on(closes(values), leverage=5, bankrupt_threshold=0.5, observation="index")
    wrapper = BatchStepWrapper(env, 5)
    params = env.default_params
    state = env.initial_state(jnp.int32(7), params.cash_low, params)
    stepped, reward, terminated, info = wrapper.transition(
        state, jnp.int32(4), jnp.float32(0.5), params
    )
    assert (int(stepped.bar), bool(terminated)) == (9, True)
    assert int(info["exit_kind"]) == 1
    total, steps, _ = by_hand(env, wrapper, state, jnp.int32(4), jnp.float32(0.5), params)
    assert steps == 2
    assert float(reward) == pytest.approx(total, rel=1e-6)


def test_one_step_per_decision_is_the_environment(env):
    wrapper = BatchStepWrapper(env, 1)
    state = env.reset(KEY)[1]
    for k, key in enumerate(keys(12)):
        one, two = env.step(key, state, k % 5), wrapper.step(key, state, k % 5)
        assert_trees_equal(one, two)
        state = one[1]


@pytest.mark.parametrize("n_steps", [0, -1, 2.0, True, None])
def test_the_number_of_steps_is_checked(env, n_steps):
    with pytest.raises(ValueError, match=r"^n_steps: must be a whole number >= 1; got"):
        BatchStepWrapper(env, n_steps)
