"""Policies see the same numbers however the observation comes, and nothing of the future."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.networks import (
    ENCODERS,
    ActorCritic,
    Normalizer,
    count_parameters,
    expand,
)
from jaxtrade import SequentialTradingEnv
from tests.agents.conftest import Small, config


@pytest.mark.parametrize("encoder", ENCODERS)
def test_index_and_dict_observations_give_the_same_numbers(small: Small, encoder: str) -> None:
    fresh = jax.jit(jax.vmap(small.env.fresh_state, in_axes=(0, 0, None)))
    states = fresh(jnp.arange(7, dtype=jnp.uint32) * 1000, jnp.linspace(0, 0.9, 7), small.params)

    def seen(mode: str) -> dict[str, jax.Array]:
        env = SequentialTradingEnv(small.env.market, config(observation=mode))
        return jax.jit(jax.vmap(lambda state: env.observe(None, state, None, small.params)))(states)

    market = small.params.market
    expanded, windows = expand(seen("index"), market), seen("dict")
    assert set(expanded) == set(windows)
    for key, part in windows.items():
        np.testing.assert_array_equal(expanded[key], part)

    network = ActorCritic(3, hidden_sizes=(8,), encoder=encoder, channels=(4,))
    params = jax.jit(network.init)(jax.random.key(0), windows)
    apply = jax.jit(network.apply)
    from_windows = apply(params, small.normalizer.observation(windows))
    # What the learner does: the tables are normalised once, the windows cut out of them.
    from_index = apply(params, expand(seen("index"), small.normalizer.market(market)))
    for ours, theirs in zip(from_index, from_windows, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_call_is_its_two_halves(small: Small) -> None:
    network = small.learner.network
    observation = expand(
        {"bar": jnp.array([30, 40]), "account_state": jnp.ones((2, 6))}, small.params.market
    )
    params = jax.jit(network.init)(jax.random.key(0), observation)
    whole = network.apply(params, observation)
    embedding = network.apply(params, observation, method="embed")
    halves = network.apply(params, embedding, observation["account_state"], method="decide")
    np.testing.assert_array_equal(whole[0], halves[0])
    np.testing.assert_array_equal(whole[1], halves[1])


def test_the_normalizer_sees_the_training_range_only(small: Small) -> None:
    train, test = small.env.market.split("2024-01-16")
    rows = [int(train.newest[int(train.last) - 1, i]) for i in range(2)]
    spoiled = []
    for table, size, newest in zip(train.features, train.spec.window_sizes, rows, strict=True):
        changed = np.array(table)
        changed[newest + size + 1 :] += 100  # everything after the last decision's newest row
        spoiled.append(changed)
    before = Normalizer.fit(train)
    after = Normalizer.fit(dataclasses.replace(train, features=tuple(spoiled)))
    for key in before.mean:
        np.testing.assert_array_equal(before.mean[key], after.mean[key])
        np.testing.assert_array_equal(before.scale[key], after.scale[key])
    # The test can fail: the row the last decision sees does count.
    spoiled[1][rows[1] + train.spec.window_sizes[1]] += 100
    seen = Normalizer.fit(dataclasses.replace(train, features=tuple(spoiled)))
    assert (seen.mean["market_data_1Hour"] != before.mean["market_data_1Hour"]).all()
    assert int(test.first) > int(train.last) - 1


def test_normalised_features_have_unit_spread_and_constant_columns_vanish(small: Small) -> None:
    train, _ = small.env.market.split("2024-01-16")
    table = np.array(train.features[1])
    table[:, 0] = 7.25
    market = dataclasses.replace(train, features=(train.features[0], table))
    normalised = Normalizer.fit(market).market(market.to_device())
    first, last = int(train.newest[int(train.first), 1]) + 1, int(train.newest[int(train.last), 1])
    rows = np.asarray(normalised.features[1])[max(first, 6) : last]
    assert (rows[:, 0] == 0).all()
    np.testing.assert_allclose(rows[:, 1:].std(0), 1, atol=0.1)
    assert np.abs(rows).max() <= 8


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_order_in_which_windows_are_given_means_nothing(small: Small, encoder: str) -> None:
    observation = expand(
        {"bar": jnp.array([60]), "account_state": jnp.ones((1, 6))}, small.params.market
    )
    network = ActorCritic(3, hidden_sizes=(8,), encoder=encoder, channels=(4,))
    params = jax.jit(network.init)(jax.random.key(0), observation)
    apply = jax.jit(network.apply)
    turned = dict(reversed(observation.items()))
    assert list(turned) != list(observation)
    np.testing.assert_array_equal(apply(params, turned)[0], apply(params, observation)[0])


def test_the_default_network_of_the_four_frames_has_its_stated_size() -> None:
    network = ActorCritic(5)
    observation = {
        "market_data": jnp.zeros((1, 52, 5)),
        "account_state": jnp.zeros((1, 6)),
    }
    params = jax.eval_shape(network.init, jax.random.key(0), observation)
    assert count_parameters(params) == 85_190
