"""Declared settings: what every learner is told, what each value must be, and their network."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from agents.networks import ACTIVATIONS, ENCODERS, PRECISIONS, ActorCritic


def number(default: float, low: float = 0.0, high: float = np.inf) -> Any:
    """A setting that is a number in [low, high]; traced, may be swept with `vmap`."""
    return struct.field(default=default, metadata={"range": (low, high)})


def count(default: int) -> Any:
    """A static setting that is a whole number >= 1."""
    return struct.field(pytree_node=False, default=default, metadata={"count": True})


def power_of_two(default: int) -> Any:
    """A static setting that is 1, 2, 4, 8 ..."""
    return struct.field(pytree_node=False, default=default, metadata={"count": True, "power": True})


def counts(default: tuple[int, ...]) -> Any:
    """A static setting of whole numbers >= 1, at least one."""
    return struct.field(pytree_node=False, default=default, metadata={"counts": True})


def choice(default: str, choices: tuple[str, ...]) -> Any:
    """A static setting that is one of ``choices``."""
    return struct.field(pytree_node=False, default=default, metadata={"choices": choices})


def switch(default: bool) -> Any:
    """A static setting that is on or off."""
    return struct.field(pytree_node=False, default=default, metadata={"switch": True})


@struct.dataclass
class LearnerConfig:
    """Settings of every learner. Numbers may be swept with `vmap`; the rest is static.

    Attributes:
      learning_rate: of Adam.
      gamma: discount per step; 1 / (1 - gamma) steps is how far rewards are seen.
      max_gradient_norm: global norm the gradient is clipped to.
      num_envs: environments stepped together.
      hidden_sizes: widths of the torso; the first layer takes the encoded market and the account.
      encoder: "mlp" flattens the windows, "conv" runs causal convolutions over each, "recurrent"
        linear recurrences.
      activation: "relu" or "tanh". channels: of both encoders, one number per layer.
      width: taps of a convolution. growth: its dilation is growth**layer.
      memory: rows that a layer of recurrences remembers, a power of two.
      precision: "bfloat16" keeps features and encodes them with half the bytes; the account, the
        heads, losses and parameters are float32 always.
    """

    learning_rate: float = number(3e-4)
    gamma: float = number(0.99, 0, 1)
    max_gradient_norm: float = number(0.5)
    num_envs: int = count(1024)
    hidden_sizes: tuple[int, ...] = counts((256, 64))
    encoder: str = choice("mlp", ENCODERS)
    activation: str = choice("relu", tuple(ACTIVATIONS))
    channels: tuple[int, ...] = counts((32, 32, 32))
    width: int = count(3)
    growth: int = count(2)
    memory: int = power_of_two(16)
    precision: str = choice("float32", PRECISIONS)

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one update."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise one `ValueError` that lists every static or concrete value out of range."""
        problems = [
            problem
            for field in dataclasses.fields(self)
            if (problem := _problem(field, getattr(self, field.name))) is not None
        ]
        problems = problems or self._conflicts()
        if problems:
            raise ValueError("; ".join(problems))

    def _conflicts(self) -> list[str]:
        """Problems between settings that are each within their range."""
        return []

    def network(self, num_actions: int) -> ActorCritic:
        """The network these settings describe."""
        return ActorCritic(
            num_actions=num_actions,
            hidden_sizes=tuple(self.hidden_sizes),
            encoder=self.encoder,
            activation=self.activation,
            channels=tuple(self.channels),
            width=self.width,
            growth=self.growth,
            memory=self.memory,
            precision=self.precision,
        )

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with a clipped global gradient norm."""
        return optax.chain(
            optax.clip_by_global_norm(self.max_gradient_norm),
            optax.adam(self.learning_rate, eps=1e-5),
        )

    def traced(self) -> Self:
        """The same settings with float32 arrays as leaves, so that no value causes a new trace."""
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), self)


def _problem(field: dataclasses.Field[Any], value: Any) -> str | None:
    """What is wrong with the value of one setting."""
    name, rule = field.name, field.metadata
    if "count" in rule and not _is_count(value):
        return f"{name}: must be a whole number >= 1, was {value!r}"
    if "power" in rule and value & (value - 1):
        return f"{name}: must be a power of two, was {value!r}"
    if "counts" in rule and not (isinstance(value, tuple) and value and all(map(_is_count, value))):
        return f"{name}: must be whole numbers >= 1, at least one, was {value!r}"
    if "choices" in rule and value not in rule["choices"]:
        return f"{name}: must be one of {rule['choices']}, was {value!r}"
    if "switch" in rule and not isinstance(value, bool):
        return f"{name}: must be True or False, was {value!r}"
    if "range" in rule and not isinstance(value, jax.Array | np.ndarray):  # an array is a sweep
        low, high = rule["range"]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (low <= value <= high and np.isfinite(value)):
            return f"{name}: must be in [{low:g}, {high:g}] and finite, was {value!r}"
    return None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1
