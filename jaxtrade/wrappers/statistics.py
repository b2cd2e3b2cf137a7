"""Running mean and variance of observations, element by element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Array = jax.Array

# Where statistics are kept among the parameters of a policy.
PREFIX = "normalization"


@struct.dataclass
class Statistics:
    """What has been seen of observations.

    Attributes:
      count: float (), number of observations.
      mean: tree of an observation, mean of every element.
      m2: the same tree, sum of squared deviations from the mean.
    """

    count: Array
    mean: Any
    m2: Any

    @classmethod
    def empty(cls, observation: Any) -> Statistics:
        """Nothing seen yet of observations with this tree, these shapes and dtypes."""
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), observation)
        dtype = jax.tree.leaves(zeros)[0].dtype
        return cls(count=jnp.zeros((), dtype), mean=zeros, m2=zeros)

    @classmethod
    def one(cls, observation: Any) -> Statistics:
        """Statistics of a single observation."""
        dtype = jax.tree.leaves(observation)[0].dtype
        m2 = jax.tree.map(jnp.zeros_like, observation)
        return cls(count=jnp.ones((), dtype), mean=observation, m2=m2)

    @classmethod
    def of(cls, batch: Any, counted: Array | None = None) -> Statistics:
        """Statistics of a batch.

        Args:
          batch: observations with a leading axis [B].
          counted: bool [B], which of them count; None = all. With none of them, count is 0.
        """
        first = jax.tree.leaves(batch)[0]
        weight = jnp.ones(first.shape[:1]) if counted is None else counted
        weight = weight.astype(first.dtype)
        count = weight.sum()

        def summed(leaf: Array) -> Array:
            # Not a matrix product: accelerators round those.
            return (leaf * jnp.expand_dims(weight, range(1, leaf.ndim))).sum(axis=0)

        mean = jax.tree.map(lambda leaf: summed(leaf) / jnp.maximum(count, 1), batch)
        m2 = jax.tree.map(lambda leaf, m: summed(jnp.square(leaf - m)), batch, mean)
        return cls(count=count, mean=mean, m2=m2)

    @property
    def variance(self) -> Any:
        """Sample variance of every element, 1 with fewer than 2 observations."""
        few = self.count < 2
        divisor = jnp.where(few, 1, self.count - 1)
        return jax.tree.map(lambda leaf: jnp.where(few, 1, leaf / divisor), self.m2)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """As named NumPy arrays, to be saved among the parameters of a policy."""
        leaves = jax.tree_util.tree_leaves_with_path(_fields(self))
        return {
            "/".join((PREFIX, *(str(step.key) for step in path))): np.asarray(leaf)
            for path, leaf in leaves
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Statistics:
        """Statistics that `to_arrays` named; other entries are left alone.

        Raises:
          ValueError: no statistics are among the arrays.
        """
        tree: dict[str, Any] = {}
        for name, values in arrays.items():
            start, *steps = name.split("/")
            if start != PREFIX:
                continue
            node = tree
            for step in steps[:-1]:
                node = node.setdefault(step, {})
            node[steps[-1]] = np.asarray(values)
        if set(tree) != {"count", "mean", "m2"}:
            raise ValueError(
                f"statistics: expected arrays named {PREFIX}/count, {PREFIX}/mean and {PREFIX}/m2; "
                f"got {sorted(arrays)}."
            )
        return cls(**tree)


def _fields(statistics: Statistics) -> dict[str, Any]:
    return {"count": statistics.count, "mean": statistics.mean, "m2": statistics.m2}


def merge(statistics: Statistics, batch: Statistics) -> Statistics:
    """Statistics of everything seen by either, as if seen in one pass; pure.

    Counts that the dtype can no longer add up (8 million in float32) stop growing: older
    observations then fade out, instead of rounding deciding what counts.
    """
    total = statistics.count + batch.count
    divisor = jnp.maximum(total, 1)
    limit = 1 / jnp.finfo(total.dtype).eps
    fade = jnp.minimum(limit / divisor, 1)

    def mean(old: Array, new: Array) -> Array:
        return old + (new - old) * (batch.count / divisor)

    def m2(old: Array, new: Array, old_mean: Array, new_mean: Array) -> Array:
        between = jnp.square(new_mean - old_mean) * (statistics.count * (batch.count / divisor))
        return (old + new + between) * fade

    return Statistics(
        count=jnp.minimum(total, limit),
        mean=jax.tree.map(mean, statistics.mean, batch.mean),
        m2=jax.tree.map(m2, statistics.m2, batch.m2, statistics.mean, batch.mean),
    )


def normalize(statistics: Statistics, observation: Any, clip: float, epsilon: float) -> Any:
    """Every element over its deviation from its mean: ``clip((x - mean) / sqrt(var + epsilon))``.

    Args:
      observation: tree of the statistics, with any leading axes.
    """

    def one(leaf: Array, mean: Array, variance: Array) -> Array:
        return jnp.clip((leaf - mean) / jnp.sqrt(variance + epsilon), -clip, clip)

    return jax.tree.map(one, observation, statistics.mean, statistics.variance)
