"""Encoders of market windows that share work along time: the market's part of a network.

Both look at a bounded number of rows, so that a stretch of n bars, encoded once, gives exactly what
its n windows give one by one. Rows before the first one count as zero.

Axes: B any batch axes, W rows, F features, C channels of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


def orthogonal(gain: float) -> Callable[..., Array]:
    """Initializer: a random matrix with orthogonal rows or columns, times ``gain``.

    The polar factor of a Gaussian matrix (uniform over orthogonal matrices, like the factor Q of
    its QR decomposition), by Newton-Schulz iteration: matrix products alone. Several batched QR
    decompositions in one program, which is what seeds under `vmap` would ask for, can hang on a CPU
    with few cores (seen with jaxlib 0.10.2).
    """

    def init(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        rows, columns = shape
        x = jax.random.normal(key, (max(shape), min(shape)), dtype)
        # The iteration converges for singular values in (0, sqrt(3)); this bounds them by about 1.
        x = x / (math.sqrt(rows) + math.sqrt(columns))

        def step(_: Array, x: Array) -> Array:
            gram = jnp.matmul(x.T, x, precision="highest")
            return 1.5 * x - 0.5 * jnp.matmul(x, gram, precision="highest")

        # Small singular values grow by half in a step: 40 steps lift 1e-6 to 1.
        x = jax.lax.fori_loop(0, 40, step, x)
        return gain * (x if rows >= columns else x.T)

    return init


class CausalConvolution(nn.Module):
    """Dilated causal convolutions over rows; each layer is a product with ``width`` shifted rows.

    Attributes:
      channels: output channels of each layer. width: taps per layer.
      growth: dilations are growth**layer.
    """

    channels: tuple[int, ...]
    width: int
    growth: int
    activation: Callable[[Array], Array]

    @property
    def reach(self) -> int:
        """Rows before the newest that an output depends on."""
        return sum((self.width - 1) * self.growth**layer for layer in range(len(self.channels)))

    @nn.compact
    def __call__(self, x: Array, rows: int = 1) -> Array:
        """Outputs of the newest ``rows`` rows: [B, W, F] -> [B, rows, channels[-1]]."""
        x = _newest(x, rows + self.reach)
        for layer, channels in enumerate(self.channels):
            step = self.growth**layer
            left = x.shape[-2] - (self.width - 1) * step
            shape = (self.width * x.shape[-1], channels)
            kernel = self.param(f"kernel_{layer}", orthogonal(math.sqrt(2)), shape)
            bias = self.param(f"bias_{layer}", nn.initializers.zeros, (channels,))
            # One product over all taps side by side: on a CPU twice as fast as one product per tap.
            taps = [x[..., tap * step : tap * step + left, :] for tap in range(self.width)]
            x = jnp.concatenate(taps, axis=-1) @ kernel.astype(x.dtype) + bias.astype(x.dtype)
            x = self.activation(x)
        return x


class LinearRecurrence(nn.Module):
    """Linear recurrences along time with decays of their own, and a nonlinearity between layers.

    Of each layer and channel ``s_t = sum(decay**k * u_(t - k), k < memory)`` with ``u = x B``; the
    layer's output is ``activation(norm * s_t C + x_t D)``. A recurrence with a diagonal real matrix
    (Orvieto et al. 2023) that forgets wholly after ``memory`` rows.

    Attributes:
      channels: of each layer. memory: rows a layer remembers, a power of two.
    """

    channels: tuple[int, ...]
    memory: int
    activation: Callable[[Array], Array]

    @property
    def reach(self) -> int:
        """Rows before the newest that an output depends on."""
        return len(self.channels) * (self.memory - 1)

    @nn.compact
    def __call__(self, x: Array, rows: int = 1) -> Array:
        """Outputs of the newest ``rows`` rows: [B, W, F] -> [B, rows, channels[-1]]."""
        x = _newest(x, rows + self.reach)
        for layer, channels in enumerate(self.channels):
            shape = (x.shape[-1], channels)
            rate = self.param(f"rate_{layer}", _spread_of_rates(self.memory), (channels,))
            decay = jnp.exp(-jnp.exp(rate))
            # Keeps the spread of independent inputs, however slow the decay.
            norm = jnp.sqrt(1 - jnp.square(decay)).astype(x.dtype)
            bias = self.param(f"bias_{layer}", nn.initializers.zeros, (channels,))
            remembered = _remembered(
                x @ self._matrix(f"into_{layer}", shape, x), decay, self.memory
            )
            beside = x[..., self.memory - 1 :, :] @ self._matrix(f"beside_{layer}", shape, x)
            out = self._matrix(f"out_{layer}", (channels, channels), x)
            x = self.activation((remembered * norm) @ out + beside + bias.astype(x.dtype))
        return x

    def _matrix(self, name: str, shape: tuple[int, int], like: Array) -> Array:
        """A parameter in the precision of ``like``."""
        return self.param(name, orthogonal(1.0), shape).astype(like.dtype)


def _newest(x: Array, rows: int) -> Array:
    """The newest ``rows`` rows of [B, W, F]; missing ones are zero."""
    missing = max(rows - x.shape[-2], 0)
    x = x[..., max(x.shape[-2] - rows, 0) :, :]
    if not missing:
        return x
    return jnp.concatenate([jnp.zeros((*x.shape[:-2], missing, x.shape[-1]), x.dtype), x], axis=-2)


def _remembered(x: Array, decay: Array, memory: int) -> Array:
    """Sums of the last ``memory`` rows that decay with age: [B, W, C] -> [B, W - memory + 1, C].

    By doubling: the sum over 2 n rows is that over the newer n plus the decayed one over the n
    before. A fixed order of operations, whatever lies before: windows and stretches agree.
    """
    span = 1
    while span < memory:
        aged = (decay**span).astype(x.dtype) * x[..., :-span, :]
        x = x[..., span:, :] + aged
        span *= 2
    return x


def _spread_of_rates(memory: int) -> Callable[..., Array]:
    """Initializer: logs of 1 / tau with tau from 1 row to ``memory`` rows, evenly in the log."""

    def init(key: Array, shape: tuple[int], dtype: Any = jnp.float32) -> Array:
        del key
        return -jnp.linspace(0.0, math.log(memory), shape[0], dtype=dtype)

    return init
