"""The fast rollout is the environment, step by step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import rollout
from tests.agents.conftest import Small

STEPS, LANES = 45, 4  # episodes of 20 steps: every lane is reset twice


def act(observation: Any) -> tuple[jax.Array, jax.Array]:
    """A made-up policy that depends on bar and account."""
    account = observation["account_state"]
    phase = observation["bar"].astype(jnp.float32)[:, None] + account.sum(-1, keepdims=True)
    logits = jnp.sin(phase * jnp.arange(1, 6))
    return logits, jnp.cos(phase[:, 0])


@pytest.fixture(scope="module")
def collected(small: Small) -> Any:
    env = small.learner.env
    draws = rollout.Draws.of(jax.random.key(3), (STEPS, LANES))
    begin = jax.tree.map(lambda x: x[0], rollout.Draws.of(jax.random.key(4), (1, LANES)))
    lanes = rollout.start(env, begin, small.params)

    @jax.jit
    def run(lanes: Any, draws: Any, params: Any) -> Any:
        return rollout.collect(env, lanes, draws, params, act)

    return draws, lanes, run(lanes, draws, small.params)


def test_it_equals_stepping_the_environment(small: Small, collected: Any) -> None:
    draws, lanes, (after, batch, metrics) = collected
    env, params = small.learner.env, small.params
    advance, decide = jax.jit(env.transition), jax.jit(act)
    observe = jax.jit(lambda state, params: env.observe(None, state, None, params))
    opened = cost = 0.0
    finished: list[float] = []
    for lane in range(LANES):
        state = jax.tree.map(lambda x, lane=lane: x[lane], lanes.state)
        total = 0.0
        for t in range(STEPS):
            observation = observe(state, params)
            logits, value = decide(jax.tree.map(lambda x: x[None], observation))
            weights = np.exp(np.asarray(jax.nn.log_softmax(logits)[0], np.float64))
            action = int(np.searchsorted(np.cumsum(weights)[:-1], draws.action[t, lane], "right"))
            assert int(batch.action[t, lane]) == action
            assert int(batch.observation["bar"][t, lane]) == int(observation["bar"])
            np.testing.assert_allclose(
                batch.observation["account_state"][t, lane],
                observation["account_state"],
                rtol=1e-5,
                atol=1e-6,
            )
            np.testing.assert_allclose(
                batch.log_probability[t, lane], np.log(weights[action]), rtol=1e-4
            )
            np.testing.assert_allclose(batch.value[t, lane], value[0], atol=1e-4)
            state, reward, terminated, info = advance(state, action, draws.cost[t, lane], params)
            truncated = env.is_truncated(state, params)
            np.testing.assert_allclose(batch.reward[t, lane], reward, atol=1e-6)
            assert bool(batch.terminated[t, lane]) == bool(terminated)
            assert bool(batch.truncated[t, lane]) == bool(truncated)
            assert int(batch.final_observation["bar"][t, lane]) == int(state.bar)
            opened += int(info["event"]) // 2 % 2
            cost += float(info["cost"] / state.initial_equity)
            total += float(reward)
            if terminated | truncated:
                finished.append(total)
                total = 0.0
                state = env.fresh_state(draws.start[t, lane], draws.cash[t, lane], params)
        assert int(after.state.bar[lane]) == int(state.bar)
        np.testing.assert_allclose(after.episode_return[lane], total, atol=1e-5)
    assert int(metrics["steps"]) == STEPS * LANES
    assert int(metrics["episodes"]) == len(finished) == 2 * LANES
    assert int(metrics["truncations"]) + int(metrics["ruins"]) == len(finished)
    assert int(metrics["trades"]) == opened
    np.testing.assert_allclose(metrics["cost"], cost, rtol=1e-4)
    np.testing.assert_allclose(metrics["return_sum"], sum(finished), atol=1e-5)
    np.testing.assert_allclose(
        metrics["return_square_sum"], sum(x * x for x in finished), rtol=1e-4
    )
    counts = [int((batch.action == action).sum()) for action in range(5)]
    assert metrics["action_counts"].tolist() == counts
    assert int(metrics["nonfinite"]) == 0


def test_nothing_that_is_kept_grows_with_the_windows(collected: Any) -> None:
    _, _, (_, batch, _) = collected
    sample_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(batch)) / (STEPS * LANES)
    assert sample_bytes <= 100


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_final_values_are_those_of_a_full_pass_where_an_episode_was_cut(
    collected: Any, block: int
) -> None:
    _, _, (_, batch, _) = collected
    cut = np.random.default_rng(0).random((STEPS, LANES)) < 0.3
    batch = batch._replace(truncated=jnp.asarray(cut))

    def value_of(observation: Any) -> jax.Array:
        return act(observation)[1]

    found = rollout.final_values(value_of, batch, block)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch.final_observation)
    everywhere = np.asarray(value_of(flat)).reshape(STEPS, LANES)
    wanted = cut & ~np.asarray(batch.terminated)
    np.testing.assert_allclose(found, np.where(wanted, everywhere, 0), atol=1e-6)


def test_samples_follow_the_probabilities_and_stay_in_range() -> None:
    probabilities = jnp.array([0.1, 0.0, 0.6, 0.3])
    draws = jnp.linspace(0, 1, 1000, endpoint=False)
    logs = jnp.tile(jnp.log(probabilities), (1000, 1))
    actions = rollout.sample(logs, draws)
    assert np.bincount(actions, minlength=4).tolist() == [100, 0, 600, 300]
    # Rounding may leave the probabilities' sum below the largest draw.
    almost_one = np.nextafter(np.float32(1), np.float32(0))
    assert int(rollout.sample(logs[:1], jnp.array([almost_one]))[0]) == 3
