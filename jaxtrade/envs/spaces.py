"""gymnax's spaces, with the parts of them that do not work mended by subclassing.

Consumers test for gymnax's own classes, so these stay subclasses of them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

Array = jax.Array
Discrete = spaces.Discrete
Box = spaces.Box


class Dict(spaces.Dict):
    """A dictionary space whose samples are plain dictionaries and which contains them."""

    def sample(self, key: Array) -> dict[str, Array]:
        """One sample per child space, as a plain ``dict`` (the observation's tree type)."""
        keys = jax.random.split(key, self.num_spaces)
        return {
            name: space.sample(child)
            for (name, space), child in zip(self.spaces.items(), keys, strict=True)
        }

    def contains(self, x: Any) -> Any:
        """Whether ``x`` has the same keys and every child contains its value; bool ()."""
        if set(x) != set(self.spaces):
            return jnp.zeros((), bool)
        inside = jnp.ones((), bool)
        for name, space in self.spaces.items():
            inside &= jnp.asarray(space.contains(x[name]))
        return inside


class Unbounded(spaces.Box):
    """A box without bounds; sampled from a standard normal, since it has no uniform."""

    def sample(self, key: Array) -> Array:
        """A standard normal sample of the box's shape and dtype."""
        return jax.random.normal(key, self.shape).astype(self.dtype)


def unbounded(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Unbounded:
    """An unbounded box of ``shape`` and ``dtype``."""
    return Unbounded(-jnp.inf, jnp.inf, shape, dtype)
