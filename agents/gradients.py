"""Gradient steps of learners made of several parts, and the targets they learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from agents.learner import gradient_norm
from agents.learner_config import LearnerConfig
from agents.losses import learning_metrics

Array = jax.Array
# Name of a part that learns -> its parameters.
Parts = dict[str, Any]


def start_optimizers(parts: Parts, config: LearnerConfig) -> Parts:
    """The optimizer state of every part of a learner."""
    optimizer = config.traced().optimizer()
    return {name: optimizer.init(part) for name, part in parts.items()}


def descend(
    loss: Callable[[Parts], tuple[Array, Any]],
    parts: Parts,
    optimizers: Parts,
    config: LearnerConfig,
) -> tuple[Parts, Parts, tuple[Array, Array, Any]]:
    """One gradient step of every part, each with its own moments and clipping.

    Args:
      loss: parts -> (loss, what else is wanted of it). Where one part must not learn from
        another's term it stops the gradient itself.

    Returns: the parts and optimizer states after, and (loss, gradient norm, what else).
    """
    optimizer = config.optimizer()
    (value, wanted), gradients = jax.value_and_grad(loss, has_aux=True)(parts)
    following, states = {}, {}
    for name, part in parts.items():
        change, states[name] = optimizer.update(gradients[name], optimizers[name])
        following[name] = optax.apply_updates(part, change)
    return following, states, (value, gradient_norm(gradients), wanted)


def by_parts(function: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """``function`` of equal parts of a batch, one after another; results stacked, [parts, ...].

    What one part needs at once is all that is in memory, or in a cache.

    Args:
      batch: pytree [S, N, ...], cut along N.
    """

    def cut(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(x.shape[0], parts, -1, *x.shape[2:]), 1, 0)

    if parts == 1:
        return jax.tree.map(lambda x: x[None], function(batch))
    return jax.lax.map(function, jax.tree.map(cut, batch))


def iterate(
    step: Callable[[Any, tuple[Array, Array]], tuple[Any, Any]],
    carry: Any,
    key: Array,
    update: Array,
    config: Any,
) -> tuple[Any, dict[str, Array]]:
    """``gradient_steps`` times ``step``, and the metrics of learning.

    Args:
      step: (carry, (key, number of the gradient step from the first update on)) -> (carry, (loss,
        gradient norm, {name: term})). update: int32 (), updates before this one.
    """
    keys = jax.random.split(key, config.gradient_steps)
    steps = update * config.gradient_steps + jnp.arange(config.gradient_steps)
    carry, learned = jax.lax.scan(step, carry, (keys, steps))
    return carry, learning_metrics(*learned)


def move(target: Any, learnt: Any, steps: Array, config: Any) -> Any:
    """The target network after gradient step number ``steps`` (int32, from 0).

    Every ``target_period`` steps it moves ``target_rate`` of the way to the learnt one.
    """
    due = (steps + 1) % config.target_period == 0
    rate = jnp.where(due, config.target_rate, 0.0)
    return jax.tree.map(lambda old, new: old + rate * (new - old), target, learnt)


def action_values(outputs: tuple[Array, Array]) -> Array:
    """Values of every action [..., A] of a network's outputs: the first one, centred, over V.

    The best action has the highest first output, as that of a policy has.
    """
    advantage, value = outputs
    return value[..., None] + advantage - advantage.mean(-1, keepdims=True)


def chosen(values: Array, action: Array) -> Array:
    """What belongs to the actions taken, [..., M] of [..., M, A] and int32 [M]."""
    places = jnp.broadcast_to(action[..., None], (*values.shape[:-1], 1))
    return jnp.take_along_axis(values, places, axis=-1)[..., 0]
