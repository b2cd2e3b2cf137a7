"""Advantages against a loop over single elements, and the clipped objective by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from agents import losses


def gae_by_loop(reward, value, final, terminated, truncated, gamma, lam):
    steps, lanes = reward.shape
    advantage = np.zeros((steps, lanes))
    for lane in range(lanes):
        running = 0.0
        for t in reversed(range(steps)):
            if terminated[t, lane]:
                bootstrap, running = 0.0, 0.0
            elif truncated[t, lane]:
                bootstrap, running = final[t, lane], 0.0
            else:
                bootstrap = value[t + 1, lane]
            delta = reward[t, lane] + gamma * bootstrap - value[t, lane]
            running = delta + gamma * lam * running
            advantage[t, lane] = running
    return advantage


@pytest.mark.parametrize("seed", range(5))
def test_gae_equals_the_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = (17, 6)
    reward, final = generator.normal(size=(2, *shape))
    value = generator.normal(size=(18, 6))
    terminated, truncated = generator.random((2, *shape)) < 0.2  # both at once happens too
    expected = gae_by_loop(reward, value, final, terminated, truncated, 0.97, 0.9)
    arrays = [jnp.asarray(x, jnp.float32) for x in (reward, value, final)]
    advantage, target = losses.gae(
        *arrays, jnp.asarray(terminated), jnp.asarray(truncated), 0.97, 0.9
    )
    np.testing.assert_allclose(advantage, expected, atol=5e-6)
    np.testing.assert_allclose(target, expected + value[:-1], atol=5e-6)


def test_final_values_are_read_only_where_an_episode_was_cut() -> None:
    ones = jnp.ones((3, 1))
    truncated = jnp.array([[False], [True], [False]])
    terminated = jnp.array([[False], [False], [True]])
    final = jnp.array([[jnp.nan], [5.0], [jnp.nan]])
    advantage, _ = losses.gae(ones, jnp.zeros((4, 1)), final, terminated, truncated, 0.5, 1.0)
    # Last step ends: 1. Second is cut: 1 + 5/2. First: 1 + 3.5/2.
    assert advantage[:, 0].tolist() == [2.75, 3.5, 1.0]


def terms(**changes):
    logits = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
    arguments = {
        "logits": logits,
        "value": jnp.array([1.0, 3.0]),
        "action": jnp.array([0, 1]),
        "old_log_probability": jnp.log(jnp.array([0.5, 0.75])),
        "advantage": jnp.array([1.0, -2.0]),
        "target": jnp.array([2.0, 1.0]),
    }
    weights = {"clip_range": 0.2, "value_coefficient": 0.5, "entropy_coefficient": 0.1}
    return losses.ppo_loss(**{**arguments, **changes}, **weights)


def test_loss_of_an_unchanged_policy() -> None:
    found = terms()
    entropy = (np.log(2) - (0.25 * np.log(0.25) + 0.75 * np.log(0.75))) / 2
    np.testing.assert_allclose(found.policy_loss, 0.5, rtol=1e-6)  # -mean(1, -2)
    np.testing.assert_allclose(found.value_loss, 0.5 * (1 + 4) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-6)
    np.testing.assert_allclose(found.loss, 0.5 + 0.5 * 1.25 - 0.1 * entropy, rtol=1e-6)
    assert float(found.clip_fraction) == 0
    np.testing.assert_allclose([found.kl, found.ratio_deviation], 0, atol=1e-6)


def test_a_ratio_beyond_the_clip_earns_nothing_more() -> None:
    # Ratios 2 and 0.5: the good action's is held at 1.2, the bad one's at 0.8.
    old = jnp.log(jnp.array([0.25, 1.5]))
    found = terms(old_log_probability=old)
    np.testing.assert_allclose(found.policy_loss, -(1.2 - 2 * 0.8) / 2, rtol=1e-5)
    assert float(found.clip_fraction) == 1
