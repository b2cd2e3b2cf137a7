"""Wrappers are environments: the contract, alone and stacked."""

from __future__ import annotations

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig, trace
from jaxtrade.envs import TradingEnv, VectorizedTradingEnv
from jaxtrade.market import stack
from jaxtrade.testing import check_env, conformance
from jaxtrade.testing.checks import episodes, purity
from jaxtrade.testing.probe import Probe
from jaxtrade.wrappers import (
    BatchStepWrapper,
    ContinuingEpisodes,
    FeatureEngineeringWrapper,
    LogWrapper,
    NormalizationWrapper,
    Randomization,
)
from tests.envs.builders import assert_trees_equal
from tests.wrappers.builders import FRAMES, KEY, env_of, keys, market, run

# What compares a step's restart with a reset; and lanes to within the rounding of observations,
# which a division by a small deviation enlarges.
_RESTARTS = (episodes.auto_reset, episodes.base_class)
_ROUNDING = (purity.lanes,)


def stacked(name):
    """Wrapped environments by name."""
    flat, index = env_of(observation="flat"), env_of(observation="index")
    return {
        "randomized": lambda: Randomization(
            index, slippage=(0, 2e-3), leverage=(2, 5), start=(20, 130)
        ),
        "log, features, continuing": lambda: LogWrapper(
            FeatureEngineeringWrapper(ContinuingEpisodes(flat))
        ),
        "log, normalized, batched, randomized": lambda: LogWrapper(
            NormalizationWrapper(BatchStepWrapper(Randomization(env_of(), slippage=(0, 2e-3)), 1))
        ),
        "four steps": lambda: BatchStepWrapper(LogWrapper(index), 4),
    }[name]()


@pytest.mark.slow
def test_conformance():
    check_env(stacked("randomized"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["log, features, continuing", "log, normalized, batched, randomized"]
)
def test_conformance_of_what_outlives_episodes(name):
    env = stacked(name)
    assert env.carries_over
    probe = Probe(env, KEY)
    left_out = (*_RESTARTS, *(_ROUNDING if "normalized" in name else ()))
    checks = [one for one in conformance._CHECKS if one not in left_out]
    assert len(checks) == len(conformance._CHECKS) - len(left_out)
    for check in checks:
        check(probe)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["log, normalized, batched, randomized", "four steps"])
def test_a_stack_under_vmap_is_the_stack(name):
    env = stacked(name)
    lanes = VectorizedTradingEnv(env, 3)
    _, states = lanes.reset(KEY)
    singles = [env.reset(key)[1] for key in jax.random.split(KEY, 3)]
    for k in range(6):
        step_keys = jax.random.split(jax.random.fold_in(KEY, k), 3)
        out = lanes.step(step_keys, states, jnp.full(3, k % 5))
        states = out[1]
        for i, single in enumerate(singles):
            alone = env.step(step_keys[i], single, jnp.int32(k % 5))
            singles[i] = alone[1]
            np.testing.assert_allclose(out[2][i], alone[2], atol=2e-6)
            np.testing.assert_array_equal(out[1].bar[i], alone[1].bar)
            np.testing.assert_allclose(
                out[5]["returned_episode_returns"][i], alone[5]["returned_episode_returns"],
                atol=1e-5,
            )  # fmt: skip


def test_key_free_pieces_and_keys_agree():
    """What `step` does with a key is what a learner does with the draws."""
    env = LogWrapper(NormalizationWrapper(env_of(max_steps=3)))
    params = env.default_params
    state = env.reset(KEY)[1]
    advance, restart = jax.jit(env.transition), jax.jit(env.restarted)
    observe = jax.jit(lambda state: env.observe(None, state, None, params))
    for k, key in enumerate(keys(8)):
        out = env.step(key, state, k % 5)
        key_step, key_reset = jax.random.split(key)
        stepped, reward, terminated, _ = advance(
            state, jnp.int32(k % 5), jax.random.uniform(key_step), params
        )
        done = terminated | env.is_truncated(stepped, params)
        assert bool(done) == (k % 3 == 2)
        draws = env._reset_draws(key_reset, params)
        following = restart(done, stepped, *draws, params)
        assert float(reward) == pytest.approx(float(out[2]), abs=1e-6)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
            (following, observe(following)),
            (out[1], out[0]),
        )
        state = out[1]


def test_order_of_two_wrappers_does_not_change_the_episode():
    env = env_of(observation="flat", max_steps=5)
    actions = np.arange(9) % 5
    one = run(LogWrapper(FeatureEngineeringWrapper(env)), actions)
    two = run(FeatureEngineeringWrapper(LogWrapper(env)), actions)
    for ours, theirs in zip(one, two, strict=True):
        assert_trees_equal(ours, theirs)


def test_what_a_wrapper_passes_on():
    config = SequentialTradingEnvSLTPConfig(**FRAMES, leverage=3, include_close_action=True)
    env = SequentialTradingEnvSLTP(market(), config, check=True)
    wrapper = LogWrapper(ContinuingEpisodes(env))
    assert isinstance(wrapper, TradingEnv)
    for name in ("config", "market", "name", "num_actions", "has_brackets", "continuous"):
        assert getattr(wrapper, name) == getattr(env, name), name
    assert wrapper.default_params is env.default_params
    assert wrapper.action_description() == env.action_description()
    assert [wrapper.action_for(side) for side in (1, -1, 0)] == [
        env.action_for(side) for side in (1, -1, 0)
    ]
    assert wrapper.action_table == env.action_table  # no attribute of a wrapper
    assert wrapper.action_space().n == env.num_actions
    with pytest.raises(ValueError, match=rf"^action: must be in \[0, {env.num_actions}\); got 99"):
        wrapper.step(KEY, wrapper.reset(KEY)[1], 99)
    with pytest.raises(AttributeError, match="no_such_name"):
        wrapper.no_such_name  # noqa: B018 - reading it is the test


def test_a_wrapped_episode_can_be_traced():
    env = env_of(max_steps=8)
    actions = [4, 0, 2, 1, 4]
    plain = trace(env, actions)
    found = trace(LogWrapper(ContinuingEpisodes(env)), actions)
    for name, values in plain.items():
        np.testing.assert_array_equal(values, found[name], err_msg=name)
    assert found["returned_episode"].tolist() == [False] * 5


def test_copies():
    env = stacked("log, normalized, batched, randomized")
    for duplicate in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert_trees_equal(env.reset(KEY), duplicate.reset(KEY))


def test_the_same_wrappers_around_another_environment():
    index = env_of(observation="index")
    env = LogWrapper(Randomization(env_of(), slippage=(0, 2e-3), markets=stack([market()] * 2)))
    other = env.around(env.env.around(index))
    assert other.config.observation == "index"
    assert env.config.observation == "dict"
    _, state = other.reset(KEY)
    assert_trees_equal(state, env.reset(KEY)[1])
    with pytest.raises(ValueError, match="needs observations 'flat'; got 'index'"):
        FeatureEngineeringWrapper(env_of(observation="flat")).around(index)


def test_a_trace_reads_the_account_under_the_terms_of_its_episode():
    env = Randomization(env_of(leverage=3), leverage=(7, 7.5))
    record = trace(env, [4] * 5, key=KEY)
    held = record["quantity"] != 0
    assert held.any()
    leverage = record["account_state"][held, 4]
    assert ((leverage >= 7) & (leverage <= 7.5)).all()
    margin = np.abs(record["quantity"]) * record["entry_price"] / record["account_state"][:, 4]
    profit = record["quantity"] * (record["close"] - record["entry_price"])
    np.testing.assert_allclose(record["equity"], record["cash"] + margin + profit, rtol=1e-5)
