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

from agents.encoders import CausalConvolution, LinearRecurrence, orthogonal
from jaxtrade.market.windows import windows as windows_of

Array = jax.Array
Observation = Mapping[str, Array]

# Encoders that share work between neighbouring bars.
SHARING = ("conv", "recurrent")
ENCODERS = ("mlp", *SHARING)
PRECISIONS = ("float32", "bfloat16")
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

    def market(self, market: Any, precision: str = "float32") -> Any:
        """The device market with normalised tables: its windows need no further work.

        Gives the same numbers as normalising each window, once per table row instead.

        Args:
          precision: of the tables, one of `PRECISIONS`; half the bytes for half the digits.
        """
        if not self.mean:
            return market
        tables = tuple(
            self._apply(key, table).astype(precision)
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


class ActorCritic(nn.Module):
    """A shared torso with a head for discrete actions and one for the value.

    Attributes:
      num_actions: A.
      hidden_sizes: widths of the torso, at least one; the first layer is split into a market and
        an account part.
      encoder: "mlp" flattens every window; "conv" runs a `CausalConvolution` per time frame,
        "recurrent" a `LinearRecurrence`.
      activation: "relu" or "tanh".
      channels: of both encoders. width, growth: of the convolutions. memory: of the recurrences.
      precision: in which the market's part is computed; everything after it is float32.
    """

    num_actions: int
    hidden_sizes: tuple[int, ...] = (256, 64)
    encoder: str = "mlp"
    activation: str = "relu"
    channels: tuple[int, ...] = (32, 32, 32)
    width: int = 3
    growth: int = 2
    memory: int = 16
    precision: str = "float32"

    @property
    def reach(self) -> int:
        """Rows before the newest that an encoder which shares work along time looks at."""
        return self._encoder().reach

    def setup(self) -> None:
        """Create the layers."""
        first, *rest = self.hidden_sizes
        hidden = orthogonal(math.sqrt(2))
        self.market_layer = nn.Dense(first, kernel_init=hidden, dtype=self.precision)
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
          observation: window key -> [B, W, F]; or, to encode S consecutive bars at once (not
            "mlp"), rows [B, reach + L, F] that all of them look at.
          places: window key -> int32 [B, S], which of the newest L rows is the newest visible one
            at each of the bars.

        Returns: float32 [B, H], of several bars [B, S, H].
        """
        # Sorted, because dictionaries leave `jit` and `vmap` sorted: the order is that of the keys
        # wherever the observation was built.
        parts = {
            key: observation[key].astype(self.precision)
            for key in sorted(observation)
            if key != ACCOUNT_STATE
        }
        if not parts:
            shape = observation[ACCOUNT_STATE].shape[:-1]
            return self.market_layer(jnp.zeros((*shape, 1))).astype(jnp.float32)
        if self.encoder == "mlp":
            encoded = [part.reshape(*part.shape[:-2], -1) for part in parts.values()]
        elif places is None:
            encoded = [self._encoder(i)(part)[..., 0, :] for i, part in enumerate(parts.values())]
        else:
            encoded = []
            for i, (key, part) in enumerate(parts.items()):
                rows = self._encoder(i)(part, rows=part.shape[-2] - self.reach)
                encoded.append(jnp.take_along_axis(rows, places[key][..., None], axis=-2))
        return self.market_layer(jnp.concatenate(encoded, axis=-1)).astype(jnp.float32)

    def _encoder(self, window: int | None = None) -> CausalConvolution | LinearRecurrence:
        """Encoder of one window, numbered in the order of the keys; None = none in particular."""
        activation = ACTIVATIONS[self.activation]
        # Without a parent it is no part of this network: only its shape is asked for.
        placed = {"parent": None} if window is None else {"name": f"{self.encoder}_{window}"}
        if self.encoder == "recurrent":
            return LinearRecurrence(self.channels, self.memory, activation, **placed)
        return CausalConvolution(self.channels, self.width, self.growth, activation, **placed)

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
