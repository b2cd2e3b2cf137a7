"""Ruin restarts the account, not the market."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import rollout
from jaxtrade import (
    OneStepTradingEnv,
    OneStepTradingEnvConfig,
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
)
from jaxtrade.wrappers import ContinuingEpisodes, LogWrapper, Randomization
from tests.wrappers.builders import FRAMES, KEY, market

LANES, STEPS = 6, 60


@pytest.fixture(scope="module")
def env():
    """Ruin is frequent: half of the equity is lost within a few bars at leverage 20."""
    config = SequentialTradingEnvConfig(
        **FRAMES,
        leverage=20,
        bankrupt_threshold=0.8,
        initial_cash=(1000, 2000),
        max_steps=25,
        observation="index",
    )
    return SequentialTradingEnv(market(), config)


@pytest.fixture(scope="module")
def collected(env):
    """Transitions of `rollout.collect` with a policy that is always long."""
    wrapper = ContinuingEpisodes(env)
    draws = rollout.Draws.of(KEY, (STEPS, LANES))
    lanes = rollout.start(wrapper, jax.tree.map(lambda x: x[0], draws), env.default_params)

    def act(observation):
        long = jnp.array([-50.0, -50, -50, -50, 50])
        bars = observation["bar"]
        return jnp.broadcast_to(long, (*bars.shape, 5)), jnp.zeros(bars.shape)

    run = jax.jit(lambda lanes, draws, params: rollout.collect(wrapper, lanes, draws, params, act))
    return run(lanes, draws, env.default_params)[1]


def test_a_learners_rollout_keeps_the_bar_running_on_ruin(collected):
    batch = collected
    bars, after = batch.observation["bar"], batch.final_observation["bar"]
    ruined = np.asarray(batch.terminated & ~batch.truncated)[:-1]
    cut = np.asarray(batch.truncated)[:-1]
    following = np.asarray(bars[1:])
    assert ruined.sum() > LANES
    assert cut.sum() >= LANES / 2
    np.testing.assert_array_equal(following[~cut], np.asarray(after)[:-1][~cut])
    assert (following[cut] != np.asarray(after)[:-1][cut]).any()


def test_after_ruin_the_account_is_new(env):
    wrapper = ContinuingEpisodes(env)
    state = wrapper.reset(KEY)[1]
    cash = set()
    for k in range(STEPS):
        out = wrapper.step(jax.random.fold_in(KEY, k), state, 4)
        following, terminated, truncated, info = out[1], bool(out[3]), bool(out[4]), out[5]
        if terminated and not truncated:
            assert int(following.bar) == int(state.bar) + 1
            assert int(following.time) == 0
            assert float(following.account.quantity) == 0
            assert 1000 <= float(following.account.cash) < 2000
            assert float(following.initial_equity) == float(following.account.cash)
            assert float(following.price) == float(
                env.market.ohlcv[int(following.bar), 3].astype("f4")
            )
            assert int(out[0]["bar"]) == int(info["final_observation"]["bar"])
            cash.add(float(following.account.cash))
        elif not truncated:
            assert int(following.time) == int(state.time) + 1
        state = following
    assert len(cash) > 1


@pytest.fixture(scope="module")
def restart(env):
    """The wrapper's and the environment's `restarted`, compiled."""
    return jax.jit(ContinuingEpisodes(env).restarted), jax.jit(env.restarted)


@pytest.mark.parametrize(("time", "bar"), [(25, 60), (3, 159), (25, 159)])
def test_time_and_data_restart_as_usual(env, restart, time, bar):
    """Also when the account was ruined on the same step."""
    params = env.default_params
    ended = env.initial_state(jnp.int32(bar), params.cash_low, params).replace(time=jnp.int32(time))
    given = (jnp.bool_(True), ended, jnp.uint32(123456789), jnp.float32(0.3), params)
    one, two = (function(*given) for function in restart)
    assert int(one.bar) == int(two.bar) != bar
    assert float(one.account.cash) == float(two.account.cash)


def test_nothing_happens_unless_done(env, restart):
    params = env.default_params
    state = env.initial_state(jnp.int32(50), params.cash_low, params).replace(time=jnp.int32(4))
    following = restart[0](jnp.bool_(False), state, jnp.uint32(1), jnp.float32(0.3), params)
    assert (int(following.time), int(following.bar)) == (4, 50)


def test_through_another_wrapper(env):
    wrapper = ContinuingEpisodes(LogWrapper(env))
    assert wrapper.keeps_clock
    state = wrapper.reset(KEY)[1]
    ruins = 0
    for k in range(20):
        out = wrapper.step(jax.random.fold_in(KEY, k), state, 4)
        if bool(out[3] & ~out[4]):
            ruins += 1
            assert int(out[1].bar) == int(state.bar) + 1
            assert int(out[1].episode_length) == 0
        state = out[1]
    assert ruins


def test_what_it_cannot_be_put_around(env):
    with pytest.raises(ValueError, match=r"use Randomization\(ContinuingEpisodes\(env\), ...\)"):
        ContinuingEpisodes(LogWrapper(Randomization(env)))
    one_step = OneStepTradingEnv(market(), OneStepTradingEnvConfig(**FRAMES))
    with pytest.raises(ValueError, match=r"episodes of several steps; got OneStepTradingEnv"):
        ContinuingEpisodes(one_step)
