"""Stored transitions: what learners from a replay buffer or from recordings learn from.

A transition is stored in index form, some 80 bytes; windows are gathered when it is learnt from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from agents import rollout
from agents.learner_config import LearnerConfig, count, number, switch

Array = jax.Array

# Scaled rewards beyond this say nothing more, but would dominate a minibatch.
REWARD_CLIP = 10.0


@struct.dataclass
class StoredConfig(LearnerConfig):
    """Settings of every learner from stored transitions, besides those of `LearnerConfig`.

    Attributes:
      batch_size: transitions per gradient step. gradient_steps: of one update.
    """

    batch_size: int = count(1024)
    gradient_steps: int = count(16)

    @property
    def steps_per_update(self) -> int:
        """Transitions learnt from in one update."""
        return self.batch_size * self.gradient_steps


@struct.dataclass
class ValueConfig(StoredConfig):
    """Settings of every learner of action values, besides those of `StoredConfig`.

    Attributes:
      normalize_rewards: divide rewards by the mean size of those stored that are not 0, so that
        action values of any market are near 1.
      target_rate: share of the way from the target network to the learnt one that the target moves
        at a time; 1 copies it.
      target_period: gradient steps between two such moves.
    """

    normalize_rewards: bool = switch(True)
    target_rate: float = number(0.01, 0, 1)
    target_period: int = count(1)


class Transition(NamedTuple):
    """What a value is learnt from, [M, ...].

    Attributes:
      observation: acted on, in index form. action: int32, or float32 where continuous.
      reward: float32, discounted sum over the steps taken.
      following: the observation after them, before any reset.
      discount: of its value: gamma**steps, 0 where the episode terminated.
    """

    observation: Any
    action: Array
    reward: Array
    following: Any
    discount: Array


def n_step(batch: rollout.Transitions, gamma: Array | float, steps: int = 1) -> Transition:
    """The transitions of a rollout over ``steps`` steps each, flattened to [S * N].

    Fewer steps where the episode ends or the rollout does. What terminated is worth its rewards
    alone, what was cut bootstraps from the observation before the reset.

    Args:
      batch: [S, N]. gamma: (). steps: static, >= 1.
    """
    stops = (batch.terminated | batch.truncated).at[-1].set(True)
    alone = (batch.reward, gamma * jnp.where(batch.terminated, 0.0, 1.0), batch.final_observation)
    reward, discount, following = alone

    def select(stopped: Array, longer: Array) -> Array:
        where = stops.reshape(stops.shape + (1,) * (stopped.ndim - 2))
        return jnp.where(where, stopped, longer)

    for _ in range(steps - 1):
        # One step, and then one less than now from the next row on.
        later = jax.tree.map(lambda x: jnp.roll(x, -1, axis=0), (reward, discount, following))
        longer = (alone[0] + gamma * later[0], gamma * later[1], later[2])
        reward, discount, following = jax.tree.map(select, alone, longer)
    whole = Transition(batch.observation, batch.action, reward, following, discount)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), whole)


def take(transitions: Transition, places: Array) -> Transition:
    """The transitions at ``places`` (int32 [M])."""
    return jax.tree.map(lambda x: jnp.take(x, places, axis=0), transitions)


def reward_scale(transitions: Transition, config: ValueConfig) -> Array:
    """What rewards are divided by, (): the mean size of the stored ones that are not 0.

    The mean size instead of the root mean square, because one ruin would set the scale of all; and
    without the zeros, because the more an agent stays flat, the more of them there are.
    """
    if not config.normalize_rewards:
        return jnp.ones((), jnp.float32)
    reward = transitions.reward
    some = (reward != 0).sum()
    return jnp.where(some > 0, jnp.abs(reward).sum() / jnp.maximum(some, 1), 1)


def scaled(transitions: Transition, scale: Array, config: ValueConfig) -> Transition:
    """Transitions with rewards in units of ``scale``, within +-10."""
    if not config.normalize_rewards:
        return transitions
    reward = jnp.clip(transitions.reward / scale, -REWARD_CLIP, REWARD_CLIP)
    return transitions._replace(reward=reward)
