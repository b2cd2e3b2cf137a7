"""Welford's statistics: alone, merged over lanes, frozen, saved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrade.bundle import Bundle
from jaxtrade.wrappers import (
    LogWrapper,
    NormalizationWrapper,
    Statistics,
    VectorizedNormalizationWrapper,
    merge,
    normalize,
)
from tests.envs.builders import assert_trees_equal
from tests.wrappers.builders import KEY, env_of, keys, run

ACTIONS = np.random.default_rng(1).integers(0, 5, 15).astype(np.int32)
LANES = 5


@pytest.fixture(scope="module")
def flat():
    return env_of(observation="flat", max_steps=6)


@pytest.fixture(scope="module")
def dictionary():
    return env_of(max_steps=6)


@pytest.fixture(scope="module")
def plain(flat):
    """The observations without the wrapper, and the actions that made them."""
    return run(flat, ACTIONS)


@pytest.fixture(scope="module")
def walked(flat):
    return run(NormalizationWrapper(flat), ACTIONS)


def welford(rows):
    """Count, mean, sum of squares of deviations by the textbook loop in float64."""
    count, mean, m2 = 0, 0.0, 0.0
    for row in rows:
        count += 1
        difference = np.asarray(row, np.float64) - mean
        mean = mean + difference / count
        m2 = m2 + difference * (row - mean)
    return count, mean, m2


def expected(row, rows, clip=1.0):
    count, mean, m2 = welford(rows)
    variance = m2 / (count - 1) if count > 1 else np.ones_like(row)
    return np.clip((row - mean) / np.sqrt(variance + 1e-8), -clip, clip)


def test_worked_sequence():
    statistics = Statistics.empty(jnp.float32(0))
    shown = []
    for x in (1.0, 3.0, 2.0):
        statistics = merge(statistics, Statistics.one(jnp.float32(x)))
        shown.append(float(normalize(statistics, jnp.float32(x), 1.0, 1e-8)))
    np.testing.assert_allclose(shown, [0, 0.7071067794, 0], atol=1e-7)
    assert (float(statistics.count), float(statistics.mean), float(statistics.m2)) == (3, 2, 2)


def test_clip():
    statistics = Statistics(jnp.float32(3), jnp.float32(0), jnp.float32(2))
    shown = normalize(statistics, jnp.array([-9.0, -1.5, 0.5, 9.0]), 2.0, 1e-8)
    np.testing.assert_allclose(shown, [-2, -1.5, 0.5, 2], rtol=1e-6)


def test_every_observation_counts_once_and_before_it_is_shown(plain, walked):
    seen = [plain[0][0]]
    np.testing.assert_allclose(walked[0][0], 0, atol=1e-6)
    episodes = 0
    for one, two in zip(plain[1:], walked[1:], strict=True):
        final = one[5]["final_observation"]
        seen.append(final)
        # Elements that do not vary are a division of rounding by the square root of epsilon.
        close = {"rtol": 2e-3, "atol": 2e-3}
        np.testing.assert_allclose(two[5]["final_observation"], expected(final, seen), **close)
        if bool(one[3] | one[4]):
            seen.append(one[0])
            episodes += 1
        np.testing.assert_allclose(two[0], expected(one[0], seen), **close)
        count, mean, m2 = welford(seen)
        statistics = two[1].statistics
        assert float(statistics.count) == count
        np.testing.assert_allclose(statistics.mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(statistics.m2, m2, rtol=1e-4, atol=1e-7)
    assert episodes == 2


def test_nothing_but_observations_changes(plain, walked):
    for one, two in zip(plain[1:], walked[1:], strict=True):
        infos = ({k: v for k, v in x[5].items() if k != "final_observation"} for x in (one, two))
        assert_trees_equal(one[2:5], two[2:5])
        assert_trees_equal(*infos)
        assert_trees_equal(one[1], two[1].inner)


def test_dict_and_flat_show_the_same(dictionary, walked):
    order = [*dictionary.market.spec.keys, "account_state"]
    for one, two in zip(run(NormalizationWrapper(dictionary), ACTIONS), walked, strict=True):
        parts = np.concatenate([np.asarray(one[0][name]).reshape(-1) for name in order])
        np.testing.assert_allclose(parts, two[0], atol=1e-5)


def test_observation_space(flat, dictionary):
    for env in (flat, dictionary):
        wrapper = NormalizationWrapper(env, clip=2.5)
        space = wrapper.observation_space()
        observation, _ = wrapper.reset(KEY)
        assert bool(space.contains(observation))
        assert not bool(space.contains(jax.tree.map(lambda leaf: leaf + 3, observation)))


@pytest.fixture(scope="module")
def lanes(flat):
    """A walk of several lanes: [(observation, state), steps], and the plain one."""
    env = VectorizedNormalizationWrapper(flat, LANES)
    out = [env.reset(KEY)]
    for k, action in enumerate(ACTIONS):
        actions = jnp.full(LANES, action).at[0].set(4 - action)
        out.append(env.step(jax.random.fold_in(KEY, k), out[-1][1], actions))
    return env, out


def test_merged_lanes_are_one_long_pass(flat, lanes):
    env, out = lanes
    step = jax.jit(jax.vmap(flat.step, in_axes=(0, 0, 0, None)))
    observation, state = jax.vmap(flat.reset, in_axes=(0, None))(
        jax.random.split(KEY, LANES), flat.default_params
    )
    seen = [*observation]
    sequential = Statistics.empty(observation[0])
    add = jax.jit(lambda statistics, row: merge(statistics, Statistics.one(row)))
    for row in observation:
        sequential = add(sequential, row)
    for k, action in enumerate(ACTIONS):
        actions = jnp.full(LANES, action).at[0].set(4 - action)
        step_keys = jax.random.split(jax.random.fold_in(KEY, k), LANES)
        plain = step(step_keys, state, actions, flat.default_params)
        state = plain[1]
        for row in plain[5]["final_observation"]:
            seen.append(row)
            sequential = add(sequential, row)
        for row in plain[0][np.asarray(plain[3] | plain[4])]:
            seen.append(row)
            sequential = add(sequential, row)
    merged = out[-1][1].statistics
    count, mean, m2 = welford(seen)
    assert float(merged.count) == float(sequential.count) == count > LANES * (ACTIONS.size + 1)
    for found in (merged, sequential):
        np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.m2, m2, rtol=1e-4, atol=1e-7)
    assert merged.mean.shape == flat.observation_space().shape
    # What is shown at last is what these statistics make of it.
    shown = env.normalization.normalize(merged, plain[0])
    np.testing.assert_allclose(out[-1][0], shown, atol=2e-4)


def test_final_observation_equals_the_observation_unless_done(lanes):
    ended = 0
    for step in lanes[1][1:]:
        done = np.asarray(step[3] | step[4])
        same = (np.asarray(step[0]) == np.asarray(step[5]["final_observation"])).all(axis=1)
        assert same[~done].all()
        assert not same[done].any()
        ended += done.sum()
    assert ended


def test_one_lane_is_the_single_environment(flat, walked):
    env = VectorizedNormalizationWrapper(flat, 1)
    _, state = env.reset(keys(1, 0)[:1])
    alone = NormalizationWrapper(flat)
    _, single = alone.reset(keys(1, 0)[0])
    for k in range(9):
        key = jax.random.fold_in(KEY, k)
        one = env.step(key[None], state, jnp.array([k % 5]))
        two = alone.step(key, single, k % 5)
        state, single = one[1], two[1]
        np.testing.assert_allclose(one[0][0], two[0], atol=1e-4)
    np.testing.assert_allclose(state.statistics.m2, single.statistics.m2, rtol=1e-4, atol=1e-7)


@given(
    rows=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20),
    cut=st.integers(0, 20),
)
def test_merging_two_parts_is_one_pass(rows, cut):
    batch = jnp.asarray(rows, jnp.float32)[:, None]
    counted = jnp.arange(len(rows)) < cut
    both = merge(Statistics.of(batch, counted), Statistics.of(batch, ~counted))
    count, mean, m2 = welford(np.asarray(batch))
    assert float(both.count) == count
    np.testing.assert_allclose(both.mean, mean, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(both.m2, m2, rtol=1e-4, atol=1e-2)


def test_merging_nothing_changes_nothing():
    seen = Statistics.of(jnp.array([[1.0], [3.0], [2.0]]))
    none = Statistics.of(jnp.array([[7.0], [8.0]]), jnp.zeros(2, bool))
    assert_trees_equal(merge(seen, none), seen)
    assert_trees_equal(merge(none, seen), seen)


def test_very_many_observations_do_not_inflate_the_variance():
    """Past the counts that float32 can add up, old observations fade instead."""
    limit = 2.0**23
    full = Statistics(jnp.float32(limit), jnp.float32(0), jnp.float32(limit))
    batch = Statistics.of(jnp.tile(jnp.array([-2.0, 2.0]), 2**19))  # variance 4
    merged = jax.lax.fori_loop(0, 400, lambda _, s: merge(s, batch), full)
    assert float(merged.count) == limit
    assert float(merged.variance) == pytest.approx(4, rel=1e-3)


def test_frozen_statistics_do_not_move(flat, walked):
    learned = walked[-1][1].statistics
    env = NormalizationWrapper(flat).freeze(learned)
    lanes = VectorizedNormalizationWrapper(flat, LANES).freeze(learned)
    plain = run(flat, ACTIONS[:8], seed=5)
    for one, two in zip(plain, run(env, ACTIONS[:8], seed=5), strict=True):
        assert_trees_equal(two[1].statistics, learned)
        np.testing.assert_allclose(two[0], env.normalize(learned, one[0]), atol=1e-5)
    _, state = lanes.reset(KEY)
    for k in range(8):
        state = lanes.step(jax.random.fold_in(KEY, k), state, jnp.zeros(LANES, jnp.int32))[1]
        assert_trees_equal(state.statistics, learned)


def test_statistics_can_be_continued(flat, walked):
    learned = walked[-1][1].statistics
    _, state = NormalizationWrapper(flat, statistics=learned).reset(KEY)
    assert float(state.statistics.count) == float(learned.count) + 1


@pytest.mark.parametrize("kind", ["flat", "dict"])
def test_statistics_survive_a_policy_bundle(kind, flat, dictionary, tmp_path):
    env = {"flat": flat, "dict": dictionary}[kind]
    learned = run(NormalizationWrapper(env), ACTIONS[:4])[-1][1].statistics
    arrays = learned.to_arrays()
    assert all(isinstance(values, np.ndarray) for values in arrays.values())
    weights = {"params/bias": np.zeros(5, np.float32)}

    def policy(observation):
        batch = observation["account_state"].shape[0]
        return jnp.zeros((batch, 5)) + weights["params/bias"]

    bundle = Bundle.of(dictionary, policy, {**weights, **arrays})
    loaded = Bundle.load(bundle.save(tmp_path / "bundle.zip")).parameters
    found = Statistics.from_arrays(loaded)
    assert_trees_equal(jax.tree.map(np.asarray, learned), found)
    shown = NormalizationWrapper(env).freeze(found).reset(KEY)[0]
    expected = NormalizationWrapper(env).freeze(learned).reset(KEY)[0]
    assert_trees_equal(shown, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda env: NormalizationWrapper(env, clip=0), "^clip: must be a finite number > 0"),
        (lambda env: NormalizationWrapper(env, epsilon=-1), "^epsilon: must be a finite number"),
        (lambda env: NormalizationWrapper(env, frozen=True), "^frozen: needs the statistics"),
        (
            lambda env: NormalizationWrapper(env_of(observation="index")),
            "^NormalizationWrapper: needs observations 'dict' or 'flat'; got 'index'",
        ),
        (
            lambda env: NormalizationWrapper(env).freeze(Statistics.one(jnp.zeros(3))),
            r"^statistics: mean must have the shapes of an observation, \(41,\); got \(3,\)",
        ),
        (lambda env: NormalizationWrapper(None), "^NormalizationWrapper: needs an environment"),
        (lambda env: VectorizedNormalizationWrapper(env, 0), "^num_envs: must be a whole number"),
        (
            lambda env: Statistics.from_arrays({"params/bias": np.zeros(2)}),
            r"^statistics: expected arrays named normalization/count, .* got \['params/bias'\]",
        ),
    ],
)  # fmt: skip
def test_errors(make, message, flat):
    with pytest.raises(ValueError, match=message):
        make(flat)


def test_a_chain_carries_over_what_one_of_it_does(flat):
    learned = Statistics.one(jnp.zeros(flat.observation_space().shape))
    frozen = NormalizationWrapper(flat).freeze(learned)
    assert NormalizationWrapper(flat).carries_over
    assert not frozen.carries_over
    assert NormalizationWrapper(LogWrapper(flat)).freeze(learned).carries_over
