"""Many lanes of one environment on the host: what the vector adapters share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from gymnasium.error import ResetNeeded

from jaxtrade.adapters import stepping
from jaxtrade.adapters.records import Calendar, info_of, record_of
from jaxtrade.envs.config import is_count

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams

Info = dict[str, np.ndarray]


class LaneStep(NamedTuple):
    """One step of every lane; NumPy arrays with a leading axis [N].

    Attributes:
      observation: pytree, of the next episode where done. final_observation: before the reset.
      reward: the run's float dtype. terminated, truncated: bool.
      info, record: of the transition (`records.info_of` and the step record).
      fresh_info: of the state that ``observation`` shows.
    """

    observation: Any
    final_observation: Any
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: Info
    record: Info
    fresh_info: Info

    @property
    def done(self) -> np.ndarray:
        """Lanes whose episode ended, bool [N]."""
        return self.terminated | self.truncated


class Lanes:
    """``num_envs`` lanes of one environment with auto-reset; one transfer to the host per step.

    Args:
      env: the environment. num_envs: lanes, a whole number >= 1.
      params: parameters shared by all lanes; None = the environment's own.
    """

    def __init__(
        self, env: TradingEnv[Any], num_envs: int, params: EnvParams | None = None
    ) -> None:
        if not is_count(num_envs):
            raise ValueError(f"num_envs: must be a whole number >= 1; got {num_envs}.")
        self.env = env
        self.num_envs = int(num_envs)
        self.use(env.default_params if params is None else params)

    def use(self, params: EnvParams) -> None:
        """Take other parameters from the next reset on, which starts anew."""
        self._params = params
        self._calendar = Calendar(self.env, params)
        self._states: Any = None

    def reset(self, seed: np.uint32, *, anew: bool) -> tuple[Any, Info]:
        """Start every lane; observation and info.

        Args:
          seed: decides starts and cash. anew: forget what the environment carries over from one
            episode to the next; always so at the first reset.
        """
        if anew or self._states is None:
            started = stepping.start_lanes(self.env, seed, self._params, self.num_envs)
        else:
            started = stepping.restart_lanes(self.env, seed, self._states, self._params)
        self._states, *seen = started
        observation, columns = stepping.writable(jax.device_get(seen))
        values = columns.unpacked()
        self._starts = values["bar"]
        return observation, self._info(values)

    def step(self, seed: np.uint32, actions: Any) -> LaneStep:
        """Step every lane.

        Args:
          seed: prices the fills and decides the next starts.
          actions: [N] or [N, 1] of the action space.

        Raises:
          ResetNeeded: before the first reset. ValueError: for another number of actions.
        """
        if self._states is None:
            raise ResetNeeded("step: call reset first.")
        actions = stepping.as_actions(self.env, actions, self.num_envs)
        self._states, seen = stepping.step_lanes(
            self.env, seed, self._states, actions, self._params
        )
        observation, final_observation, columns, fresh_columns = stepping.writable(
            jax.device_get(seen)
        )
        values, fresh = columns.unpacked(), fresh_columns.unpacked()
        info = fresh_info = self._info(values)
        done = values["terminated"] | values["truncated"]
        if done.any():
            self._starts = np.where(done, fresh["bar"], self._starts)
            fresh_info = self._info(
                {name: np.where(done, new, values[name]) for name, new in fresh.items()}
            )
        return LaneStep(
            observation=observation,
            final_observation=final_observation,
            reward=values["reward"],
            terminated=values["terminated"],
            truncated=values["truncated"],
            info=info,
            record=record_of(values),
            fresh_info=fresh_info,
        )

    def _info(self, values: Info) -> Info:
        times = self._calendar.times(values["bar"])
        return info_of(values, times, self._calendar.total_steps(self._starts))
