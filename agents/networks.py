"""Policies: an observation goes in, action logits and a value come out.

A policy is an `ActorCritic` (flax) and the `Normalizer` of its market features. The first layer is
split: the market part depends on the bar alone (`ActorCritic.embed`), the account enters beside it
(`ActorCritic.decide`), so that learners may encode bars without running the account.

Axes: B any batch axes, W window rows, F features, A actions, H width of the first layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxtrade.market.windows import windows as windows_of

Array = jax.Array
Observation = Mapping[str, Array]

ENCODERS = ("mlp", "conv")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "tanh": jnp.tanh}

# Normalised features beyond this many deviations say nothing more, but would dominate a layer.
FEATURE_CLIP = 8.0
ACCOUNT_STATE = "account_state"
BAR = "bar"


def expand(observation: Observation, market: Any) -> Observation:
    """An observation in index form as windows; any other observation as it is.

    Args:
      observation: {"bar": int32 [B], "account_state": float32 [B, 6]}, or windows already.
      market: `jaxtrade.market.Market` the bars belong to.

    Returns: {window key: float32 [B, W, F], ..., "account_state": [B, 6]}, the numbers of the
      environment's observation mode "dict".
    """
    if BAR not in observation:
        return observation
    bar = observation[BAR]
    gathered = jax.vmap(windows_of, in_axes=(None, 0))(market, bar.reshape(-1))
    parts = {key: part.reshape(*bar.shape, *part.shape[1:]) for key, part in gathered.items()}
    return {**parts, ACCOUNT_STATE: observation[ACCOUNT_STATE]}


@struct.dataclass
class Normalizer:
    """Fixed shift and scale of every feature column, taken from the training range once.

    Attributes:
      mean, scale: window key -> float32 [F]; a feature x becomes ``clip((x - mean) * scale, +-8)``.
    """

    mean: dict[str, Array]
    scale: dict[str, Array]

    @classmethod
    def fit(cls, market: Any) -> Normalizer:
        """Statistics of the rows that decisions of this range look at (host; nothing after them).

        Args:
          market: host `Market`, one range.
        """
        mean: dict[str, Any] = {}
        scale: dict[str, Any] = {}
        newest = np.asarray(market.newest)
        # The last bar of a range only ends it: no decision is made there.
        begin, end = int(market.first), int(market.last) - 1
        for i, (key, size) in enumerate(
            zip(market.spec.keys, market.spec.window_sizes, strict=True)
        ):
            table = np.asarray(market.features[i], np.float64)
            rows = table[max(int(newest[begin, i]) + 1, size) : int(newest[end, i]) + size + 1]
            deviation = rows.std(axis=0)
            # A constant column carries nothing: it becomes 0 instead of dividing by its rounding.
            varies = deviation > 1e-6 * np.abs(rows).max(axis=0)
            mean[key] = rows.mean(axis=0).astype(np.float32)
            scale[key] = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
        return cls(mean=mean, scale=scale)

    @classmethod
    def none(cls) -> Normalizer:
        """A normalizer for observations without windows."""
        return cls(mean={}, scale={})

    def _apply(self, key: str, values: Array) -> Array:
        scaled = (values - self.mean[key]) * self.scale[key]
        return jnp.clip(scaled, -FEATURE_CLIP, FEATURE_CLIP)

    def observation(self, observation: Observation) -> Observation:
        """The observation with normalised windows; what a policy outside the learner does."""
        return {
            key: self._apply(key, part) if key in self.mean else part
            for key, part in observation.items()
        }

    def market(self, market: Any) -> Any:
        """The device market with normalised tables: its windows need no further work.

        Gives the same numbers as normalising each window, once per table row instead.
        """
        if not self.mean:
            return market
        tables = tuple(
            self._apply(key, table)
            for key, table in zip(market.spec.keys, market.features, strict=True)
        )
        return market.__class__(**{**_fields(market), "features": tables})


def _fields(market: Any) -> dict[str, Any]:
    return {name: getattr(market, name) for name in market.__dataclass_fields__}


def account_features(account_state: Array) -> Array:
    """The account numbers on scales a network can use: sign(x) log(1 + abs(x)), [..., P].

    Only the holding time and the leverage leave [-1, 1]; small numbers pass unchanged.
    """
    return jnp.sign(account_state) * jnp.log1p(jnp.abs(account_state))


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


def reach_of(layers: int, width: int, growth: int) -> int:
    """Rows before the newest that an output of `CausalConvolution` depends on."""
    return sum((width - 1) * growth**layer for layer in range(layers))


class CausalConvolution(nn.Module):
    """Dilated causal convolutions over rows; each layer is a product with ``width`` shifted rows.

    Only rows that the outputs wanted depend on are computed. Neighbouring outputs share what they
    have in common, so that encoding a stretch of n bars costs far less than n windows.

    Attributes:
      channels: output channels of each layer. width: taps per layer.
      growth: dilations are growth**layer.
    """

    channels: tuple[int, ...]
    width: int
    growth: int
    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array, rows: int = 1) -> Array:
        """Outputs of the newest ``rows`` rows: [B, W, F] -> [B, rows, channels[-1]].

        Rows before the first count as zero.
        """
        needed = rows + reach_of(len(self.channels), self.width, self.growth)
        missing = max(needed - x.shape[-2], 0)
        x = x[..., max(x.shape[-2] - needed, 0) :, :]
        x = jnp.concatenate([jnp.zeros((*x.shape[:-2], missing, x.shape[-1]), x.dtype), x], axis=-2)
        for layer, channels in enumerate(self.channels):
            step = self.growth**layer
            left = x.shape[-2] - (self.width - 1) * step
            shape = (self.width * x.shape[-1], channels)
            kernel = self.param(f"kernel_{layer}", orthogonal(math.sqrt(2)), shape)
            bias = self.param(f"bias_{layer}", nn.initializers.zeros, (channels,))
            # One product over all taps side by side: on a CPU twice as fast as one product per tap.
            taps = [x[..., tap * step : tap * step + left, :] for tap in range(self.width)]
            x = self.activation(jnp.concatenate(taps, axis=-1) @ kernel + bias)
        return x


class ActorCritic(nn.Module):
    """A shared torso with a head for discrete actions and one for the value.

    Attributes:
      num_actions: A.
      hidden_sizes: widths of the torso, at least one; the first layer is split into a market and
        an account part.
      encoder: "mlp" flattens every window, "conv" runs `CausalConvolution` per time frame.
      activation: "relu" or "tanh".
      channels, width, growth: of the convolutions.
    """

    num_actions: int
    hidden_sizes: tuple[int, ...] = (256, 64)
    encoder: str = "mlp"
    activation: str = "relu"
    channels: tuple[int, ...] = (32, 32, 32)
    width: int = 3
    growth: int = 2

    @property
    def reach(self) -> int:
        """Rows before the newest that the convolutions look at."""
        return reach_of(len(self.channels), self.width, self.growth)

    def setup(self) -> None:
        """Create the layers."""
        first, *rest = self.hidden_sizes
        hidden = orthogonal(math.sqrt(2))
        self.market_layer = nn.Dense(first, kernel_init=hidden)
        self.account_layer = nn.Dense(first, use_bias=False, kernel_init=hidden)
        self.torso = [nn.Dense(size, kernel_init=hidden) for size in rest]
        # Nearly equal probabilities at first: the first rollouts explore.
        self.policy_head = nn.Dense(self.num_actions, kernel_init=orthogonal(0.01))
        self.value_head = nn.Dense(1, kernel_init=orthogonal(1.0))

    def __call__(self, observation: Observation) -> tuple[Array, Array]:
        """Logits [B, A] and value [B] of an observation with normalised windows."""
        return self.decide(self.embed(observation), observation[ACCOUNT_STATE])

    @nn.compact
    def embed(self, observation: Observation, places: Mapping[str, Array] | None = None) -> Array:
        """The market's part of the first layer; a function of the bars alone.

        Args:
          observation: window key -> [B, W, F]; or, to encode S consecutive bars at once ("conv"
            only), rows [B, reach + L, F] that all of them look at.
          places: window key -> int32 [B, S], which of the newest L rows is the newest visible one
            at each of the bars.

        Returns: [B, H], of several bars [B, S, H].
        """
        # Sorted, because dictionaries leave `jit` and `vmap` sorted: the order is that of the keys
        # wherever the observation was built.
        parts = {key: observation[key] for key in sorted(observation) if key != ACCOUNT_STATE}
        if not parts:
            shape = observation[ACCOUNT_STATE].shape[:-1]
            return self.market_layer(jnp.zeros((*shape, 1)))
        if self.encoder == "mlp":
            flat = [part.reshape(*part.shape[:-2], -1) for part in parts.values()]
            return self.market_layer(jnp.concatenate(flat, axis=-1))
        encoded = []
        for i, (key, part) in enumerate(parts.items()):
            if places is None:
                encoded.append(self._convolution(i)(part)[..., 0, :])
            else:
                rows = self._convolution(i)(part, rows=part.shape[-2] - self.reach)
                encoded.append(jnp.take_along_axis(rows, places[key][..., None], axis=-2))
        return self.market_layer(jnp.concatenate(encoded, axis=-1))

    def _convolution(self, i: int) -> CausalConvolution:
        """Encoder of the i-th window, in the order of the keys."""
        return CausalConvolution(
            self.channels,
            self.width,
            self.growth,
            ACTIVATIONS[self.activation],
            name=f"convolution_{i}",
        )

    def decide(self, embedding: Array, account_state: Array) -> tuple[Array, Array]:
        """Logits [B, A] and value [B] from the embedding [B, H] and account state [B, P]."""
        activation = ACTIVATIONS[self.activation]
        x = activation(embedding + self.account_layer(account_features(account_state)))
        for layer in self.torso:
            x = activation(layer(x))
        return self.policy_head(x), self.value_head(x)[..., 0]


def count_parameters(params: Any) -> int:
    """Number of trained numbers in a parameter tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
