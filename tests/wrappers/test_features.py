"""Engineered features of the execution closes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade.market import Market, stack
from jaxtrade.wrappers import FeatureEngineeringWrapper, Randomization
from tests.envs.builders import MINUTES, env_on
from tests.wrappers.builders import KEY, closes, env_of


def looked_up(wrapper, bar, params=None):
    """The features at a bar."""
    params = wrapper.default_params if params is None else params
    state = wrapper.initial_state(jnp.int32(bar), params.cash_low, params)
    return np.asarray(wrapper.observe(None, state, None, params)[-len(wrapper.periods) - 1 :])


@pytest.fixture(scope="module")
def rising():
    return FeatureEngineeringWrapper(env_on(closes(range(100, 130)), observation="flat"))


@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        (0, (1, 1, 1, 0)),
        (3, (1, 1, 1, 0)),
        (4, (104 / 102, 1, 1, 0)),
        (5, (1.0194174757, 1, 1, 0.05)),
        (11, (1.0183486239, 1.0422535211, 1, 0.0471698113)),
        (19, (119 / 117, 119 / 114.5, 119 / 109.5, 5 / 114)),
    ],
)
def test_worked_values(rising, bar, expected):
    np.testing.assert_allclose(looked_up(rising, bar), expected, rtol=2e-7, atol=1e-10)


def test_equal_closes_give_exactly_one_and_zero():
    env = FeatureEngineeringWrapper(env_on(closes([123.45] * 30), observation="flat"), (3, 7))
    assert looked_up(env, 20).tolist() == [1, 1, 0]


def test_agrees_with_pandas_on_a_random_walk():
    env = env_of(observation="flat")
    wrapper = FeatureEngineeringWrapper(env, [2, 13])
    import pandas as pd

    close = pd.Series(np.asarray(env.market.ohlcv)[:, 3])
    expected = pd.DataFrame(
        {p: close / close.rolling(p).mean() for p in (2, 13)} | {"m": close.pct_change(5)}
    ).fillna({2: 1, 13: 1, "m": 0})
    look = jax.jit(jax.vmap(lambda bar: wrapper.features(start(bar), wrapper.default_params)))

    def start(bar):
        return env.initial_state(bar, env.default_params.cash_low, env.default_params)

    found = look(jnp.arange(len(close)))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected.to_numpy(), rtol=1e-6, atol=1e-6)


def test_the_flat_observation_comes_first():
    env = env_of(observation="flat")
    wrapper = FeatureEngineeringWrapper(env)
    plain, _ = env.reset(KEY)
    observation, state = wrapper.reset(KEY)
    np.testing.assert_array_equal(observation[:-4], plain)
    assert observation.dtype == jnp.float32
    assert observation.shape == wrapper.observation_space().shape
    assert type(state) is type(env.reset(KEY)[1])


def test_later_closes_do_not_matter(rising):
    params = rising.default_params
    later = jnp.arange(params.market.ohlcv.shape[0])[:, None] >= 13
    changed = jnp.where(later, 3 * params.market.ohlcv, params.market.ohlcv)
    other = params.replace(market=dataclasses.replace(params.market, ohlcv=changed))
    np.testing.assert_array_equal(looked_up(rising, 12), looked_up(rising, 12, other))
    assert not np.array_equal(looked_up(rising, 13), looked_up(rising, 13, other))


def test_ranges_of_a_split_see_the_past(rising):
    _, test = rising.market.split("2024-01-01T00:15")
    params = rising.params(test)
    assert int(params.market.first) > 10
    np.testing.assert_array_equal(looked_up(rising, 19, params), looked_up(rising, 19))


def test_another_market_before_it_in_the_table_is_not_its_past():
    one, two = (
        Market.from_frame(closes(values), **MINUTES)
        for values in (np.linspace(500, 900, 40), np.arange(100, 130))
    )
    alone = FeatureEngineeringWrapper(env_on(closes(np.arange(100, 130)), observation="flat"))
    both = FeatureEngineeringWrapper(Randomization(alone.env, markets=stack([one, two])))
    for bar in (0, 4, 11, 19):
        np.testing.assert_array_equal(looked_up(both, 40 + bar), looked_up(alone, bar))


@pytest.mark.parametrize("periods", [(), 5, (5, 0), (2.5,), (True,), None])
def test_periods_are_checked(periods):
    with pytest.raises(ValueError, match=r"^periods: must be whole numbers >= 1, at least one\b"):
        FeatureEngineeringWrapper(env_of(observation="flat"), periods)


@pytest.mark.parametrize("mode", ["dict", "index"])
def test_other_observations_are_refused(mode):
    message = f"^FeatureEngineeringWrapper: needs observations 'flat'; got '{mode}'"
    with pytest.raises(ValueError, match=message):
        FeatureEngineeringWrapper(env_of(observation=mode))
