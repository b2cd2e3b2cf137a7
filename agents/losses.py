"""Advantages and the clipped policy objective, as pure functions.

Axes: S rollout steps, N environments, K groups of G members, A actions, M samples of a minibatch.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from agents.devices import mean_over

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
    chosen = log_probability_of(log_probabilities, action)
    log_ratio = chosen - old_log_probability
    gain, clipped = clipped_gain(log_ratio, advantage, clip_range)
    policy_loss = -gain.mean()
    value_loss = 0.5 * jnp.square(value - target).mean()
    entropy = entropy_of(log_probabilities).mean()
    return LossTerms(
        loss=policy_loss + value_coefficient * value_loss - entropy_coefficient * entropy,
        policy_loss=policy_loss,
        value_loss=value_loss,
        entropy=entropy,
        kl=divergence(log_ratio).mean(),
        clip_fraction=clipped.mean(),
        ratio_deviation=jnp.abs(jnp.exp(log_ratio) - 1).max(),
    )


def log_probability_of(log_probabilities: Array, action: Array) -> Array:
    """Logs of the chances of actions, [..., M] of [..., M or 1, A] and int32 [..., M]."""
    return jnp.take_along_axis(log_probabilities, action[..., None], axis=-1)[..., 0]


def clipped_gain(
    log_ratio: Array, advantage: Array, clip_range: Array | float
) -> tuple[Array, Array]:
    """What a sample earns, ``min(r A, clip(r) A)``, and whether its ratio r left the clip range.

    Args:
      log_ratio: [...], log of the probability now over the one when acting. advantage: [...].
    """
    ratio = jnp.exp(log_ratio)
    held = jnp.clip(ratio, 1 - clip_range, 1 + clip_range)
    return jnp.minimum(ratio * advantage, held * advantage), ratio != held


def divergence(log_ratio: Array) -> Array:
    """Estimate ``(r - 1) - log r`` of KL(p || q) from samples of p, [...], nats.

    Never negative, and of lower variance than ``-log r``.

    Args:
      log_ratio: [...], log of q over p at the samples.
    """
    return jnp.expm1(log_ratio) - log_ratio


def entropy_of(log_probabilities: Array) -> Array:
    """Entropy of distributions over the last axis, nats."""
    return -(jnp.exp(log_probabilities) * log_probabilities).sum(-1)


def learning_metrics(loss: Array, norm: Array, terms: dict[str, Array]) -> dict[str, Array]:
    """Sums over gradient steps (leading axes) of the loss, the gradient's norm and named terms."""
    return {
        "minibatches": jnp.asarray(loss.size, jnp.int32),
        "gradient_norm": norm.sum(),
        "nonfinite_losses": (~jnp.isfinite(loss) | ~jnp.isfinite(norm)).sum(dtype=jnp.int32),
        "loss_loss": loss.sum(),
        **{f"loss_{name}": value.sum() for name, value in terms.items()},
    }


# Groups: members share everything but their actions, and are judged by each other ---------------

# Returns that differ by less than a hundredth of a basis point teach next to nothing.
SPREAD_FLOOR = 1e-6

BASELINES = ("mean", "leave_one_out")
SCALES = ("std", "batch", "none")


def group_advantage(
    returns: Array, share: Array | float, baseline: str, scale: str, axis: str | None = None
) -> tuple[Array, Array]:
    """How much better each member did than its group, [K, G], and whether the group differs, [K].

    A group whose members all got the same return says nothing about actions: its advantages are
    exactly 0.

    Args:
      returns: [K, G], of episodes that differ in their actions alone.
      share: [K, G] weights of the members, 1 in sum per group: 1 / G, or the actions' chances.
      baseline: "mean" of the group, or of the others ("leave_one_out": unbiased, G / (G - 1) times
        the same).
      scale: divides by the group's standard deviation ("std"), by the root mean variance of all
        groups ("batch"), or by nothing ("none": in units of the reward).
      axis: of the devices that hold the groups (`agents.devices`).
    """
    differs = returns.max(-1) > returns.min(-1)
    share = jnp.broadcast_to(jnp.asarray(share, returns.dtype), returns.shape)
    # Relative to one member first: adding a constant to a group then costs no digits.
    relative = returns - returns[:, :1]
    advantage = relative - (share * relative).sum(-1, keepdims=True)
    variance = jnp.where(differs, (share * jnp.square(advantage)).sum(-1), 0)
    if baseline == "leave_one_out":
        size = returns.shape[-1]
        advantage = advantage * size / (size - 1)
    if scale == "std":
        advantage = advantage / (jnp.sqrt(variance)[:, None] + SPREAD_FLOOR)
    elif scale == "batch":
        advantage = advantage / (jnp.sqrt(mean_over(axis, variance.mean())) + SPREAD_FLOOR)
    return jnp.where(differs[:, None], advantage, 0), differs


class GroupTerms(NamedTuple):
    """Parts of the group loss and what is watched while learning; each ().

    Attributes:
      loss: what is minimised. policy_loss, entropy, reference_kl: its parts (the latter in nats,
        from this policy to the reference).
      kl, clip_fraction, ratio_deviation: as of `LossTerms`.
    """

    loss: Array
    policy_loss: Array
    entropy: Array
    reference_kl: Array
    kl: Array
    clip_fraction: Array
    ratio_deviation: Array


def group_loss(
    log_probabilities: Array,
    action: Array,
    old_log_probability: Array,
    reference_log_probability: Array,
    advantage: Array,
    weight: Array,
    *,
    clip_range: Array | float,
    kl_coefficient: Array | float,
    entropy_coefficient: Array | float,
    axis: str | None = None,
) -> GroupTerms:
    """Clipped policy objective with a divergence to a reference policy and without a critic.

    Args:
      log_probabilities: [..., G, A], or [..., 1, A] where all members saw the same.
      action: int32 [..., G]. old_log_probability, reference_log_probability: [..., G] of it.
      advantage: [..., G]. weight: [..., G], of each sample; 0 = an episode that was over.
      axis: of the devices that hold the groups: the terms are those of this one's, and their mean
        over the devices is that of all samples.
    """
    chosen = log_probability_of(log_probabilities, action)
    total = mean_over(axis, weight.sum())

    def mean(values: Array) -> Array:
        return (weight * values).sum() / total

    log_ratio = chosen - old_log_probability
    gain, clipped = clipped_gain(log_ratio, advantage, clip_range)
    policy_loss = -mean(gain)
    entropy = mean(entropy_of(log_probabilities))
    reference_kl = mean(divergence(reference_log_probability - chosen))
    return GroupTerms(
        loss=policy_loss + kl_coefficient * reference_kl - entropy_coefficient * entropy,
        policy_loss=policy_loss,
        entropy=entropy,
        reference_kl=reference_kl,
        kl=mean(divergence(log_ratio)),
        clip_fraction=mean(clipped),
        ratio_deviation=jnp.where(weight > 0, jnp.abs(jnp.exp(log_ratio) - 1), 0).max(),
    )
