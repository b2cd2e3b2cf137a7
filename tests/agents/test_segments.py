"""Encoding a stretch of bars once is encoding every window of it; the rollout is stepping."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import learner as learning
from agents import ppo, rollout, segments
from agents.experience import Steps
from agents.learner import normalised
from agents.networks import Normalizer, expand
from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
from tests.agents.conftest import hours

CONFIG = ppo.PPOConfig(
    num_envs=12,
    rollout_steps=16,
    epochs=2,
    minibatches=3,
    hidden_sizes=(16, 8),
    encoder="conv",
    channels=(4, 4),  # 7 rows
    rollout="segments",
    restart_updates=3,
)


def environment(rows: int = 400, **fields: Any) -> SequentialTradingEnv:
    """Frames coarser and finer than the execution bars, and a hole in the data."""
    frame = hours(rows).drop(index=range(150, 163))
    config = SequentialTradingEnvConfig(
        **{
            "time_frames": ("4hour", "1hour", "2hour"),
            "window_sizes": (8, 9, 7),
            "execute_on": "2hour",
            "leverage": 5,
            "transaction_fee": 0.0005,
            "initial_cash": (5_000, 15_000),
            **fields,
        }
    )
    return SequentialTradingEnv(frame, config)


RECURRENT = CONFIG.replace(encoder="recurrent", memory=4)  # 7 rows as well


@pytest.fixture(
    scope="module",
    params=[CONFIG, pytest.param(RECURRENT, marks=pytest.mark.slow)],
    ids=["conv", "recurrent"],
)
def learner(request: pytest.FixtureRequest) -> ppo.PPO:
    with pytest.warns(UserWarning, match="data gaps"):
        return ppo.PPO.create(environment(), request.param)


@pytest.fixture(scope="module")
def started(learner: ppo.PPO) -> Any:
    params = learner.env.default_params
    normalizer = Normalizer.fit(learner.env.market)
    return learning.start(learner, jax.random.key(0), CONFIG.traced(), params, normalizer)


def test_a_stretch_encodes_what_its_windows_encode(learner: ppo.PPO, started: Any) -> None:
    market = normalised(started.normalizer, learner.env.default_params).market
    plan = learner.view.plan
    first, last = int(market.first), int(market.last)
    # All starts: those at the end of the data slice elsewhere.
    starts = jnp.arange(first, last - plan.steps + 1, dtype=jnp.int32)
    bars = starts[:, None] + jnp.arange(plan.steps + 1, dtype=jnp.int32)

    @jax.jit
    def both(params: Any, market: Any) -> Any:
        segment = segments.cut(market, starts, plan)
        found = learner.outputs(params, segment.rows, segment.places, method="embed")
        seen = expand({"bar": bars, "account_state": jnp.zeros((*bars.shape, 6))}, market)
        return found, learner.outputs(params, seen, method="embed")

    found, windows = both(started.params, market)
    assert found.shape == windows.shape == (*bars.shape, 16)
    np.testing.assert_allclose(found, windows, atol=2e-5)
    assert float(jnp.abs(windows).max()) > 0.1


def test_a_stretch_sees_nothing_of_the_future(learner: ppo.PPO, started: Any) -> None:
    market = normalised(started.normalizer, learner.env.default_params).market
    plan = learner.view.plan
    bar, before = int(market.first) + 30, 10
    start = jnp.array([bar - before], jnp.int32)

    @jax.jit
    def embedded(market: Any) -> jax.Array:
        segment = segments.cut(market, start, plan)
        return learner.outputs(started.params, segment.rows, segment.places, method="embed")[0]

    newest = np.asarray(market.newest)[bar]
    tables = tuple(
        table.at[int(row) + size + 1 :].add(7.0)
        for table, size, row in zip(market.features, market.spec.window_sizes, newest, strict=True)
    )
    clean, spoiled = embedded(market), embedded(dataclasses.replace(market, features=tables))
    np.testing.assert_array_equal(clean[: before + 1], spoiled[: before + 1])
    assert (clean[before + 2] != spoiled[before + 2]).any()


def test_collecting_by_stretches_is_stepping(learner: ppo.PPO, started: Any) -> None:
    params = normalised(started.normalizer, learner.env.default_params)
    key = jax.random.key(5)
    draws = rollout.Draws.of(key, (CONFIG.rollout_steps + 1, CONFIG.num_envs))

    @jax.jit
    def both(state: Any, params: Any) -> Any:
        fast = learner.view.collect(learner, state.params, state.lanes, draws, params, jnp.int32(1))
        # The same lanes, after those that move have moved.
        first = jax.tree.map(lambda x: x[0], draws)
        lanes, _ = learner.view._moved(learner.env, state.lanes, first, params, jnp.int32(1))
        unlimited = params.replace(max_steps_in_episode=jnp.int32(2**30))
        slow = Steps().collect(learner, state.params, lanes, draws, unlimited, jnp.int32(1))
        return fast, slow

    fast, slow = both(started, params)
    for name in ("action", "terminated"):
        np.testing.assert_array_equal(getattr(fast.batch, name), getattr(slow.batch, name))
    for name in ("reward", "value", "log_probability"):
        np.testing.assert_allclose(
            getattr(fast.batch, name), getattr(slow.batch, name), atol=2e-5, err_msg=name
        )
    np.testing.assert_array_equal(fast.batch.observation["bar"], slow.batch.observation["bar"])
    assert len(np.unique(fast.batch.action)) == 5


@pytest.mark.slow
def test_what_is_learnt_from_is_what_was_acted_on(learner: ppo.PPO, started: Any) -> None:
    state = jax.tree.map(lambda leaf: leaf.copy(), started)
    state, metrics = learning.train_chunk(
        state, CONFIG.traced(), learner.env.default_params, learner=learner, length=7
    )
    assert float(metrics["first_ratio_deviation_max"].max()) < 1e-5
    assert int(metrics["nonfinite"].sum() + metrics["nonfinite_losses"].sum()) == 0
    # A third of the lanes moves in every update, which ends an episode; the others go on.
    truncations = np.asarray(metrics["truncations"])
    assert (truncations[3:] >= 4).all()
    assert truncations[3:].mean() < 12


@pytest.mark.slow
def test_the_clock_goes_on_between_updates(learner: ppo.PPO, started: Any) -> None:
    state = jax.tree.map(lambda leaf: leaf.copy(), started)
    bars = []
    for _ in range(4):
        bars.append(np.asarray(state.lanes.state.bar).copy())
        state, _ = learning.train_chunk(
            state, CONFIG.traced(), learner.env.default_params, learner=learner, length=1
        )
    moves = np.diff(bars, axis=0)
    assert (moves == CONFIG.rollout_steps).mean() > 0.4
    # Lanes that moved are anywhere in the data, with a whole rollout before them.
    market = learner.env.market
    starts = np.array(bars[1:])[moves != CONFIG.rollout_steps] - CONFIG.rollout_steps
    assert len(starts) >= CONFIG.num_envs
    assert len(set(starts)) > 0.7 * len(starts)
    assert starts.min() >= int(market.first)
    assert starts.max() <= int(market.last) - CONFIG.rollout_steps


def test_refusals() -> None:
    with pytest.warns(UserWarning, match="data gaps"):
        env = environment(window_sizes=(8, 9, 6))
    with pytest.raises(ValueError, match=r"window_sizes: must be at least 7.*was \(8, 9, 6\)"):
        ppo.PPO.create(env, CONFIG)
    with pytest.raises(
        ValueError, match=r"encoder: must be one of \('conv'.*shuffle: must be one of"
    ):
        CONFIG.replace(encoder="mlp", shuffle="steps").check()
    with pytest.warns(UserWarning, match="data gaps"):
        env = environment()
    with pytest.raises(ValueError, match=r"rollout_steps: must be below the .* was 4000"):
        ppo.PPO.create(env, CONFIG.replace(rollout_steps=4000))
