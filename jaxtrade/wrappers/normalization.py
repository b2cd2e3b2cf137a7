"""Observations scaled by what has been seen of them, in one lane or shared by many."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxtrade.envs import spaces
from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.config import is_number
from jaxtrade.envs.state import EnvParams
from jaxtrade.envs.vectorized import VectorizedTradingEnv
from jaxtrade.wrappers.base import Transition, Wrapper, WrapperState
from jaxtrade.wrappers.statistics import Statistics, merge, normalize

Array = jax.Array


@struct.dataclass(kw_only=True)
class NormalizationState(WrapperState):
    """The wrapped state, and the statistics of all observations up to and including its own."""

    statistics: Statistics


class NormalizationWrapper(Wrapper):
    """Observations as ``clip((x - mean) / sqrt(variance + epsilon), -clip, clip)``, per element.

    Mean and variance are those of all observations so far; an observation is counted first and
    normalised then. The statistics are in the state (``state.statistics``) and outlive episodes;
    `reset` starts them anew from what the wrapper was given. Lanes under `vmap` each have their
    own: `VectorizedNormalizationWrapper` shares them.

    Args:
      env: environment with observations of mode "dict" or "flat".
      clip: bound of the result, > 0. epsilon: > 0, added to the variance.
      statistics: to start from; None = nothing seen.
      frozen: the statistics given are used as they are.

    Example:
      >>> import jax
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> env = NormalizationWrapper(make("SequentialTradingEnv", datasets.load("eurusd_1h")))
      >>> _, state = env.reset(jax.random.key(0))
      >>> for k in range(3):
      ...     state = env.step(jax.random.key(k), state, 0)[1]
      >>> saved = state.statistics.to_arrays()
      >>> evaluation = env.freeze(Statistics.from_arrays(saved))
      >>> float(saved["normalization/count"])
      4.0
    """

    stateful = True

    def __init__(
        self,
        env: TradingEnv[Any],
        clip: float = 1.0,
        epsilon: float = 1e-8,
        *,
        statistics: Statistics | None = None,
        frozen: bool = False,
    ) -> None:
        for name, value in (("clip", clip), ("epsilon", epsilon)):
            if not is_number(value) or value <= 0:
                raise ValueError(f"{name}: must be a finite number > 0; got {value}.")
        if frozen and statistics is None:
            raise ValueError("frozen: needs the statistics to use; got none.")
        self.clip, self.epsilon, self.is_frozen = float(clip), float(epsilon), bool(frozen)
        # On the host: nothing of a device is kept on the environment.
        self.statistics = None if statistics is None else jax.tree.map(np.asarray, statistics)
        super().__init__(env)

    def _wrap(self, env: TradingEnv[Any]) -> None:
        super()._wrap(env)
        if env.config.observation == "index":
            raise ValueError(
                f"{type(self).__name__}: needs observations 'dict' or 'flat'; got 'index'. "
                "Normalise where the windows are gathered."
            )
        if self.statistics is None:
            return
        shapes = {"mean": self.statistics.mean, "m2": self.statistics.m2}
        expected = jax.tree.map(lambda leaf: leaf.shape, _example(env))
        for name, tree in shapes.items():
            found = jax.tree.map(np.shape, tree)
            if found != expected:
                raise ValueError(
                    f"statistics: {name} must have the shapes of an observation, {expected}; "
                    f"got {found}. Build the environment as for training."
                )

    @property
    def carries_over(self) -> bool:
        """Whether something outlives an episode: the statistics, unless they are frozen."""
        return not self.is_frozen or super().carries_over

    def freeze(self, statistics: Statistics) -> NormalizationWrapper:
        """The same wrapper with statistics that no longer move, for evaluation."""
        return NormalizationWrapper(
            self.env, self.clip, self.epsilon, statistics=statistics, frozen=True
        )

    def initial_statistics(self) -> Statistics:
        """What a reset starts from, before its own observation is counted."""
        if self.statistics is None:
            return Statistics.empty(_example(self.env))
        return jax.tree.map(jnp.asarray, self.statistics)

    def _started(self, inner: Any, params: EnvParams) -> NormalizationState:
        statistics = self._counting(self.initial_statistics(), inner, params)
        return NormalizationState(inner=inner, statistics=statistics)

    def _counting(self, statistics: Statistics, inner: Any, params: EnvParams) -> Statistics:
        if self.is_frozen:
            return statistics
        return merge(statistics, Statistics.one(self.env.observe(None, inner, None, params)))

    def initial_state(self, bar: Array, cash: Array, params: EnvParams) -> Any:
        """A flat account with ``cash`` at execution bar ``bar``."""
        return self._started(self.env.initial_state(bar, cash, params), params)

    def fresh_state(self, start_bits: Array, cash_draw: Array, params: EnvParams) -> Any:
        """A start from supplied draws."""
        return self._started(self.env.fresh_state(start_bits, cash_draw, params), params)

    def restarted(
        self,
        done: Array,
        state: NormalizationState,
        start_bits: Array,
        cash_draw: Array,
        params: EnvParams,
    ) -> Any:
        """``state``, or the next episode where ``done``, with its first observation counted."""
        inner = self.env.restarted(done, state.inner, start_bits, cash_draw, params)
        counted = self._counting(state.statistics, inner, params)
        statistics = jax.tree.map(
            lambda new, old: jnp.where(done, new, old), counted, state.statistics
        )
        return NormalizationState(inner=inner, statistics=statistics)

    def transition(
        self, state: NormalizationState, action: Array, draw: Array, params: EnvParams
    ) -> Transition:
        """One step; the observation it leads to is counted."""
        inner, reward, terminated, info = self.env.transition(state.inner, action, draw, params)
        statistics = self._counting(state.statistics, inner, params)
        stepped = NormalizationState(inner=inner, statistics=statistics)
        return stepped, reward, terminated, info

    def observe(
        self, key: Array | None, state: NormalizationState, action: Any, params: EnvParams
    ) -> Any:
        """The normalised observation of a state."""
        return self.normalize(state.statistics, self.env.observe(key, state.inner, action, params))

    def normalize(self, statistics: Statistics, observation: Any) -> Any:
        """An observation, or a batch of them, under these statistics."""
        return normalize(statistics, observation, self.clip, self.epsilon)

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """Boxes of the same shapes within ±clip."""
        del params

        def box(leaf: Any) -> spaces.Box:
            return spaces.Box(-self.clip, self.clip, leaf.shape, leaf.dtype)

        boxes = jax.tree.map(box, _example(self.env))
        return spaces.Dict(boxes) if isinstance(boxes, dict) else boxes


def _example(env: TradingEnv[Any]) -> Any:
    """Shapes and dtypes of an observation."""
    space = env.observation_space()
    if isinstance(space, spaces.Dict):
        return {name: _shape_of(box) for name, box in space.spaces.items()}
    return _shape_of(space)


def _shape_of(box: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(box.shape, box.dtype)


class VectorizedNormalizationWrapper(VectorizedTradingEnv):
    """``num_envs`` lanes that share one set of statistics, merged once per step.

    The statistics are those of one long pass over the observations of all lanes. The state is a
    `NormalizationState` whose ``inner`` has a leading axis [num_envs] and whose ``statistics``
    have none.

    Args:
      env: the environment of one lane, not normalised yet. num_envs: lanes.
      clip, epsilon, statistics, frozen: as of `NormalizationWrapper`.
    """

    def __init__(
        self,
        env: TradingEnv[Any],
        num_envs: int = 64,
        clip: float = 1.0,
        epsilon: float = 1e-8,
        *,
        statistics: Statistics | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__(env, num_envs)
        self.normalization = NormalizationWrapper(
            env, clip, epsilon, statistics=statistics, frozen=frozen
        )
        self._reset = jax.jit(self._reset_lanes)
        self._step = jax.jit(self._step_lanes)

    def freeze(self, statistics: Statistics) -> VectorizedNormalizationWrapper:
        """The same lanes with statistics that no longer move, for evaluation."""
        one = self.normalization
        return VectorizedNormalizationWrapper(
            self.env, self.num_envs, one.clip, one.epsilon, statistics=statistics, frozen=True
        )

    def _reset_lanes(self, keys: Array, params: EnvParams) -> tuple[Any, NormalizationState]:
        observation, inner = jax.vmap(self.env.reset, in_axes=(0, None))(keys, params)
        statistics = self._counting(self.normalization.initial_statistics(), observation)
        state = NormalizationState(inner=inner, statistics=statistics)
        return self.normalization.normalize(statistics, observation), state

    def _step_lanes(
        self, keys: Array, state: NormalizationState, action: Array, params: EnvParams
    ) -> tuple[Any, NormalizationState, Array, Array, Array, dict[str, Any]]:
        step = jax.vmap(self.env.step, in_axes=(0, 0, 0, None))
        observation, inner, reward, terminated, truncated, info = step(
            keys, state.inner, action, params
        )
        final = info["final_observation"]
        statistics = self._counting(state.statistics, final)
        # The first observation of a new episode was seen beside the last one of the old.
        statistics = self._counting(statistics, observation, terminated | truncated)
        info = {**info, "final_observation": self.normalization.normalize(statistics, final)}
        return (
            self.normalization.normalize(statistics, observation),
            NormalizationState(inner=inner, statistics=statistics),
            reward,
            terminated,
            truncated,
            info,
        )

    def _counting(
        self, statistics: Statistics, batch: Any, counted: Array | None = None
    ) -> Statistics:
        if self.normalization.is_frozen:
            return statistics
        return merge(statistics, Statistics.of(batch, counted))
