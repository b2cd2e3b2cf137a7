"""Stoa: an environment in its interface, with termination and truncation told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces as gymnax_spaces

from jaxtrade.extras import missing_extra

try:
    from stoa.env_adapters.base import AdapterStateWithKey
    from stoa.env_types import StepType, TimeStep
    from stoa.environment import Environment
    from stoa.spaces import ArraySpace, BoundedArraySpace, DictSpace, DiscreteSpace, Space
except ModuleNotFoundError as error:
    raise missing_extra("jaxtrade.adapters.stoa", "stoa-env", "stoa") from error

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams

Array = jax.Array


class StoaEnv(Environment):
    """An environment for Stoa's wrappers and for the learners built on them.

    It steps without reset; wrap it in Stoa's ``AutoResetWrapper``. A step that ends the episode is
    TERMINATED with discount 0 by ruin, and TRUNCATED with discount 1 when only time or data ended
    it. ``extras`` are empty.

    ``AutoResetWrapper`` resets without parameters, so an adapter is built with the ones it is to
    use. Under `jit` those are constants of the program unless they are also passed to ``step``.

    Args:
      env: the environment, possibly wrapped. params: parameters; None = the environment's own.
    """

    def __init__(self, env: TradingEnv[Any], params: EnvParams | None = None) -> None:
        super().__init__()
        self._env = env
        self._params = env.default_params if params is None else params

    def reset(self, rng_key: Array, env_params: EnvParams | None = None) -> tuple[Any, TimeStep]:
        """State and first time step of a new episode."""
        params = self._params if env_params is None else env_params
        key, carried = jax.random.split(rng_key)
        observation, state = self._env.reset_env(key, params)
        return AdapterStateWithKey(base_env_state=state, rng_key=carried), TimeStep(
            step_type=StepType.FIRST,
            reward=jnp.zeros((), params.fee.dtype),
            discount=jnp.ones((), params.fee.dtype),
            observation=observation,
            extras={},
        )

    def step(
        self, state: Any, action: Array, env_params: EnvParams | None = None
    ) -> tuple[Any, TimeStep]:
        """One transition without reset."""
        params = self._params if env_params is None else env_params
        key, carried = jax.random.split(state.rng_key)
        observation, stepped, reward, terminated, _ = self._env.step_env(
            key, state.base_env_state, action, params
        )
        truncated = self._env.is_truncated(stepped, params)
        ended = jnp.where(truncated, StepType.TRUNCATED, StepType.MID)
        return AdapterStateWithKey(base_env_state=stepped, rng_key=carried), TimeStep(
            step_type=jnp.where(terminated, StepType.TERMINATED, ended),
            reward=reward,
            discount=1 - terminated.astype(reward.dtype),
            observation=observation,
            extras={},
        )

    def observation_space(self, env_params: EnvParams | None = None) -> Space:
        """The environment's observations."""
        return _converted(self._env.observation_space(env_params))

    def action_space(self, env_params: EnvParams | None = None) -> Space:
        """The environment's actions."""
        return _converted(self._env.action_space(env_params))

    def state_space(self, env_params: EnvParams | None = None) -> Space:
        """The leaves of the environment's state by their path."""
        return _converted(self._env.state_space(env_params))


def _converted(space: Any) -> Space:
    if isinstance(space, gymnax_spaces.Discrete):
        return DiscreteSpace(num_values=space.n, dtype=space.dtype)
    if isinstance(space, gymnax_spaces.Dict):
        return DictSpace({name: _converted(part) for name, part in space.spaces.items()})
    low, high = np.asarray(space.low), np.asarray(space.high)
    if not np.isfinite([low, high]).all():
        return ArraySpace(shape=space.shape, dtype=space.dtype)
    if space.shape == () and np.issubdtype(space.dtype, np.integer) and low == 0:
        return DiscreteSpace(num_values=int(high) + 1, dtype=space.dtype)
    return BoundedArraySpace(shape=space.shape, dtype=space.dtype, minimum=low, maximum=high)
