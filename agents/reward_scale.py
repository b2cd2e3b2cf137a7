"""Rewards on the scale that a value function is quick to learn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from agents import rollout
from agents.devices import sum_over

Array = jax.Array


@struct.dataclass
class ReturnScale:
    """Running spread of the discounted return, for a learner's `normalize_rewards`.

    Attributes:
      discounted: [N], running discounted return. square_sum, count: ().
    """

    discounted: Array
    square_sum: Array
    count: Array


def scaled(
    scale: ReturnScale, batch: rollout.Transitions, config: Any, axis: str | None
) -> tuple[ReturnScale, Array]:
    """Rewards over the root mean square of the discounted return seen so far, within +-10."""
    if not config.normalize_rewards:
        return scale, batch.reward
    done = batch.terminated | batch.truncated

    def add(discounted: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, done = x
        discounted = config.gamma * discounted + reward
        return jnp.where(done, 0, discounted), discounted

    discounted, seen = jax.lax.scan(add, scale.discounted, (batch.reward, done))
    square_sum = scale.square_sum + sum_over(axis, jnp.square(seen).sum())
    count = scale.count + sum_over(axis, seen.size)
    deviation = jnp.sqrt(square_sum / count)
    reward = jnp.clip(batch.reward / jnp.maximum(deviation, 1e-8), -10, 10)
    return ReturnScale(discounted, square_sum, count), reward
