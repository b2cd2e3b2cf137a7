"""The gymnax shell: keys, auto-reset, observations and spaces around `TradingMechanics`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment

from jaxtrade.envs import spaces
from jaxtrade.envs.mechanics import TradingMechanics
from jaxtrade.envs.parameters import Config
from jaxtrade.envs.state import EnvParams, EnvState
from jaxtrade.market.windows import windows

Array = jax.Array


class TradingEnv(TradingMechanics[Config], environment.Environment[EnvState, EnvParams]):
    """Base of every trading environment: a gymnax 1.x `Environment`.

    `reset` and `step` draw from a key and call the key-free pieces of `TradingMechanics`
    (`initial_state`, `fresh_state`, `restarted`, `transition`), which learners, `jaxtrade.trace`
    and evaluation use directly.

    Hold on to one environment object: `jit` caches by its identity.

    Args:
      frame: DataFrame or file of rows (see `jaxtrade.market`), or a ready `Market`.
      config: the configuration; None = the defaults of ``config_class``.
      check: raise for an action outside the action space wherever its value is known (outside
        `jit`); inside `jit` such actions are clamped.
    """

    def __init__(self, frame: Any, config: Config | None = None, *, check: bool = False) -> None:
        super().__init__(frame, config)
        self.check = check

    # The gymnax 1.x contract.

    def reset_env(self, key: Array, params: EnvParams) -> tuple[Any, EnvState]:
        """Observation and state of a new episode; start and cash use separate sub-keys."""
        state = self.fresh_state(*self._reset_draws(key, params), params)
        return self.observe(key, state, None, params), state

    def _reset_draws(self, key: Array, params: EnvParams) -> tuple[Array, Array]:
        key_start, key_cash = jax.random.split(key)
        bits = jax.random.bits(key_start, (), jnp.uint32)
        return bits, jax.random.uniform(key_cash, (), params.cash_low.dtype)

    def step_env(
        self, key: Array, state: EnvState, action: Array, params: EnvParams
    ) -> tuple[Any, EnvState, Array, Array, dict[str, Array]]:
        """One transition without reset: observation, state, reward, terminated, info.

        One uniform draw is taken from ``key`` whatever the action does.
        """
        draw = jax.random.uniform(key, (), params.fee.dtype)
        stepped, reward, terminated, info = self.transition(state, action, draw, params)
        return self.observe(key, stepped, None, params), stepped, reward, terminated, info

    def is_truncated(self, state: EnvState, params: EnvParams) -> Array:
        """Whether time or data ran out, bool ()."""
        return (state.time >= params.max_steps_in_episode) | (state.bar >= params.market.last)

    def step(
        self, key: Array, state: EnvState, action: Any, params: EnvParams | None = None
    ) -> tuple[Any, EnvState, Array, Array, Array, dict[str, Any]]:
        """One transition with auto-reset: obs, state, reward, terminated, truncated, info.

        When done, observation and state are the first of the next episode; reward, flags and info
        belong to the transition that ended. ``info["final_observation"]`` is the observation before
        the reset, present on every step.
        """
        if self.check:
            self.check_action(action)
        return self._step(key, state, action, self.default_params if params is None else params)

    def reset(self, key: Array, params: EnvParams | None = None) -> tuple[Any, EnvState]:
        """Observation and state of a new episode."""
        return self._reset(key, self.default_params if params is None else params)

    # The market is an argument of both compiled functions, never a constant inside them.

    @partial(jax.jit, static_argnames=("self",))
    def _step(
        self, key: Array, state: EnvState, action: Array, params: EnvParams
    ) -> tuple[Any, EnvState, Array, Array, Array, dict[str, Any]]:
        key_step, key_reset = jax.random.split(key)
        final_observation, stepped, reward, terminated, info = self.step_env(
            key_step, state, action, params
        )
        truncated = self.is_truncated(stepped, params)
        done = terminated | truncated
        # Select the state (about 60 bytes) and observe once, instead of selecting observations.
        following = self.restarted(done, stepped, *self._reset_draws(key_reset, params), params)
        observation = self.observe(key_step, following, None, params)
        info = {
            **info,
            "terminated": terminated,
            "truncated": truncated,
            "final_observation": final_observation,
        }
        return observation, following, reward, terminated, truncated, info

    @partial(jax.jit, static_argnames=("self",))
    def _reset(self, key: Array, params: EnvParams) -> tuple[Any, EnvState]:
        return self.reset_env(key, params)

    def observe(self, key: Array | None, state: EnvState, action: Any, params: EnvParams) -> Any:
        """The observation of a state, in the configuration's mode; a function of state alone."""
        del key, action
        account_state = self.account_state(state, params)
        if self.config.observation == "index":
            return {"bar": state.bar, "account_state": account_state}
        parts = {**windows(params.market, state.bar), "account_state": account_state}
        if self.config.observation == "flat":
            return jnp.concatenate([part.reshape(-1) for part in parts.values()])
        return parts

    # Spaces.

    @property
    def name(self) -> str:
        """Name of the environment."""
        return type(self).__name__

    def action_space(self, params: EnvParams | None = None) -> Any:
        """`Discrete(num_actions)`, or the environment's own."""
        del params
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """Unbounded boxes of the configured observation mode."""
        del params
        account_state = spaces.unbounded((6,))
        if self.config.observation == "index":
            bars = spaces.Box(0, self.market.num_bars - 1, (), jnp.int32)
            return spaces.Dict({"bar": bars, "account_state": account_state})
        shapes = self.window_shapes
        if self.config.observation == "flat":
            return spaces.unbounded((sum(int(np.prod(s)) for s in shapes.values()) + 6,))
        parts = {name: spaces.unbounded(shape) for name, shape in shapes.items()}
        return spaces.Dict({**parts, "account_state": account_state})

    @property
    def window_shapes(self) -> dict[str, tuple[int, int]]:
        """Observation key -> (rows, features) of each window."""
        spec = self.market.spec
        return {
            key: (size, len(columns))
            for key, size, columns in zip(
                spec.keys, spec.window_sizes, spec.feature_columns, strict=True
            )
        }

    def state_space(self, params: EnvParams | None = None) -> Any:
        """Unbounded boxes with the shapes and dtypes of the state's leaves."""
        params = self.default_params if params is None else params
        leaves = jax.eval_shape(
            lambda p: self.fresh_state(jnp.uint32(0), jnp.zeros((), p.fee.dtype), p), params
        )
        flat, _ = jax.tree_util.tree_flatten_with_path(leaves)
        return spaces.Dict(
            {
                jax.tree_util.keystr(path, simple=True, separator="."): spaces.unbounded(
                    leaf.shape, leaf.dtype
                )
                for path, leaf in flat
            }
        )

    def check_action(self, action: Any) -> None:
        """Raise for an action outside the action space; traced values are left alone.

        Raises:
          ValueError: naming the first offending value.
        """
        if isinstance(action, jax.core.Tracer):
            return
        values = np.atleast_1d(np.asarray(action))
        bad = values[~self._in_action_space(values)]
        if bad.size:
            raise ValueError(f"action: must be in {self._action_range}; got {bad.flat[0]}.")

    def _in_action_space(self, values: np.ndarray) -> np.ndarray:
        return (values >= 0) & (values < self.num_actions) & (values == np.floor(values))

    @property
    def _action_range(self) -> str:
        return f"[0, {self.num_actions})"
