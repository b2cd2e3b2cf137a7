"""Advantages and the clipped policy objective, as pure functions.

Axes: S rollout steps, N environments, A actions, M samples of one minibatch.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


def gae(
    reward: Array,
    value: Array,
    final_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: Array | float,
    gae_lambda: Array | float,
) -> tuple[Array, Array]:
    """Generalised advantage estimates (Schulman et al. 2016) that tell an end from a cut.

    A terminated step is worth its reward alone. A truncated one bootstraps from the value of the
    observation before the reset. Neither lets the trace pass into the next episode.

    Args:
      reward: [S, N].
      value: [S + 1, N], of the observations acted on; the last row is the one after the rollout.
      final_value: [S, N], read only where truncated and not terminated.
      terminated, truncated: bool [S, N].
      gamma, gae_lambda: ().

    Returns: advantage and value target, both [S, N].
    """
    following = jnp.where(truncated, final_value, value[1:])
    delta = reward + gamma * jnp.where(terminated, 0, following) - value[:-1]
    carry_on = gamma * gae_lambda * ~(terminated | truncated)

    def back(advantage: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        advantage = x[0] + x[1] * advantage
        return advantage, advantage

    _, advantage = jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, carry_on), reverse=True)
    return advantage, advantage + value[:-1]


class LossTerms(NamedTuple):
    """Parts of the loss and what is watched while learning; each ().

    Attributes:
      loss: what is minimised. policy_loss, value_loss, entropy: its parts (entropy in nats).
      kl: mean estimate of the divergence from the sampling policy to this one, nats.
      clip_fraction: share of samples whose probability ratio was clipped.
      ratio_deviation: largest abs(ratio - 1); 0 but for rounding before the first step.
    """

    loss: Array
    policy_loss: Array
    value_loss: Array
    entropy: Array
    kl: Array
    clip_fraction: Array
    ratio_deviation: Array


def ppo_loss(
    logits: Array,
    value: Array,
    action: Array,
    old_log_probability: Array,
    advantage: Array,
    target: Array,
    *,
    clip_range: Array | float,
    value_coefficient: Array | float,
    entropy_coefficient: Array | float,
) -> LossTerms:
    """Clipped surrogate objective (Schulman et al. 2017) with value and entropy terms.

    Args:
      logits: [M, A]. value, target: [M]. action: int32 [M].
      old_log_probability: [M], of the policy that acted. advantage: [M], normalised by the caller.
    """
    log_probabilities = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probabilities, action[:, None], axis=-1)[:, 0]
    log_ratio = chosen - old_log_probability
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1 - clip_range, 1 + clip_range)
    policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
    value_loss = 0.5 * jnp.square(value - target).mean()
    entropy = -(jnp.exp(log_probabilities) * log_probabilities).sum(-1).mean()
    return LossTerms(
        loss=policy_loss + value_coefficient * value_loss - entropy_coefficient * entropy,
        policy_loss=policy_loss,
        value_loss=value_loss,
        entropy=entropy,
        # Never negative and of low variance: E[(r - 1) - log r].
        kl=(ratio - 1 - log_ratio).mean(),
        clip_fraction=(ratio != clipped).mean(),
        ratio_deviation=jnp.abs(ratio - 1).max(),
    )
