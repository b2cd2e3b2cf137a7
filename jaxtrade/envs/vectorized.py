"""Many lanes of one environment behind a jitted, vmapped step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.bracket import SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig
from jaxtrade.envs.config import is_count
from jaxtrade.envs.sequential import SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.envs.state import EnvParams, EnvState

Array = jax.Array


class VectorizedTradingEnv:
    """``num_envs`` lanes of one environment; every array gains a leading axis [num_envs].

    A lane computes what the single environment computes from the same key, state and action.

    Args:
      env: the environment. num_envs: lanes, a whole number >= 1.

    Attributes:
      env: the single environment. default_params: its parameters, shared by all lanes.
    """

    def __init__(self, env: TradingEnv[Any], num_envs: int = 64) -> None:
        if not is_count(num_envs):
            raise ValueError(f"num_envs: must be a whole number >= 1; got {num_envs}.")
        self.env = env
        self.num_envs = num_envs
        self._reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))
        self._step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None)))

    @property
    def default_params(self) -> EnvParams:
        """Parameters shared by all lanes."""
        return self.env.default_params

    def reset(self, key: Array, params: EnvParams | None = None) -> tuple[Any, EnvState]:
        """Start every lane.

        Args:
          key: one key, split into one per lane, or [num_envs] keys.
        """
        return self._reset(self._lane_keys(key), self.default_params if params is None else params)

    def step(
        self, key: Array, state: EnvState, action: Array, params: EnvParams | None = None
    ) -> tuple[Any, EnvState, Array, Array, Array, dict[str, Any]]:
        """Step every lane with auto-reset.

        Args:
          key: one key, split into one per lane, or [num_envs] keys.
          state: of `reset` or `step`. action: [num_envs].
        """
        if self.env.check:
            self.env.check_action(action)
        params = self.default_params if params is None else params
        return self._step(self._lane_keys(key), state, jnp.asarray(action), params)

    def _lane_keys(self, key: Array) -> Array:
        single = 0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1
        return jax.random.split(key, self.num_envs) if key.ndim == single else key


class VectorizedSequentialTradingEnv(VectorizedTradingEnv):
    """`SequentialTradingEnv` over ``num_envs`` lanes."""

    def __init__(
        self,
        frame: Any,
        config: SequentialTradingEnvConfig | None = None,
        *,
        num_envs: int = 64,
        check: bool = False,
    ) -> None:
        super().__init__(SequentialTradingEnv(frame, config, check=check), num_envs)


class VectorizedSequentialTradingEnvSLTP(VectorizedTradingEnv):
    """`SequentialTradingEnvSLTP` over ``num_envs`` lanes."""

    def __init__(
        self,
        frame: Any,
        config: SequentialTradingEnvSLTPConfig | None = None,
        *,
        num_envs: int = 64,
        check: bool = False,
    ) -> None:
        super().__init__(SequentialTradingEnvSLTP(frame, config, check=check), num_envs)
