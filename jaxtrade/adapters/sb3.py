"""Stable-Baselines3: many lanes as its ``VecEnv``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxtrade.adapters import spaces, stepping
from jaxtrade.adapters.lanes import Info, Lanes
from jaxtrade.adapters.tracker import EpisodeCurves
from jaxtrade.extras import missing_extra

try:
    from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
except ModuleNotFoundError as error:
    raise missing_extra("jaxtrade.adapters.sb3", "stable-baselines3", "sb3") from error

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams
    from jaxtrade.tracking import MetricWriter

Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):
    """``num_envs`` lanes as a Stable-Baselines3 ``VecEnv``.

    One compiled step and one transfer to the host per call, whatever the number of lanes. Where a
    lane is done its observation is the first of the next episode, ``terminal_observation`` in its
    info the last of the old one, and ``TimeLimit.truncated`` says whether time or data ended it
    without termination, so that learners bootstrap.

    Each lane's info has the entries of `GymEnv`'s, of the transition, with NaN for what did not
    happen. Observations of mode "flat" go with ``MlpPolicy``, "dict" with ``MultiInputPolicy``.

    Args:
      env: the environment, possibly wrapped. num_envs: lanes, a whole number >= 1.
      params: parameters shared by all lanes; None = the environment's own.
      infos: False: only lanes that are done have an info, with the two entries above. Saves about
        2 microseconds per lane and step.

    Example:
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> env = make("SequentialTradingEnv", datasets.load("eurusd_1h"), observation="flat")
      >>> SB3VecEnv(env, 16).reset().shape
      (16, 56)
    """

    def __init__(
        self,
        env: TradingEnv[Any],
        num_envs: int,
        params: EnvParams | None = None,
        *,
        infos: bool = True,
    ) -> None:
        self._lanes = Lanes(env, num_envs, params)
        self.trading_env = env
        self.with_infos = infos
        self._generator = np.random.default_rng()
        self._actions: Any = None
        self.render_mode = None
        super().__init__(
            self._lanes.num_envs, spaces.observation_space(env), spaces.action_space(env)
        )

    def reset(self) -> Any:
        """Start every lane: observations. Uses the seed given to `seed` since the last reset."""
        seed = self._seeds[0]
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        draw = stepping.draw_seed(self._generator)
        observation, info = self._lanes.reset(draw, anew=seed is not None)
        self.reset_infos = _rows(info)
        self._reset_seeds()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Take note of the actions, [N] or [N, 1]."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step every lane: observations, rewards float32, dones and one info per lane."""
        step = self._lanes.step(stepping.draw_seed(self._generator), self._actions)
        infos: list[dict[str, Any]]
        if self.with_infos:
            infos = _rows({**step.info, **step.record})
        else:
            infos = [{} for _ in range(self.num_envs)]
        done = step.done
        ended = np.flatnonzero(done)
        for lane in ended.tolist():
            infos[lane]["terminal_observation"] = jax.tree.map(
                lambda leaf, lane=lane: leaf[lane], step.final_observation
            )
            infos[lane]["TimeLimit.truncated"] = bool(
                step.truncated[lane] and not step.terminated[lane]
            )
        if self.with_infos and ended.size:
            fresh = _rows({name: values[ended] for name, values in step.fresh_info.items()})
            for lane, info in zip(ended.tolist(), fresh, strict=True):
                self.reset_infos[lane] = info
        return step.observation, step.reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Nothing is held open."""

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Refused: lanes differ in nothing but their random numbers.

        Raises:
          ValueError: for any option.
        """
        if options:
            raise ValueError("set_options: no options are known; give params to the constructor.")

    # The lanes have no environments of their own: attributes and methods are those of the whole.

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """The attribute of this object, or of the environment, once per lane."""
        owner = self if attr_name in self.__dict__ else self.trading_env
        return [getattr(owner, attr_name)] * len(self._lane_numbers(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Refused: lanes have no attributes of their own.

        Raises:
          ValueError: always.
        """
        raise ValueError(f"set_attr: lanes share one environment; {attr_name!r} cannot differ.")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """The result of the environment's method, computed once and given once per lane."""
        result = getattr(self.trading_env, method_name)(*method_args, **method_kwargs)
        return [result] * len(self._lane_numbers(indices))

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Indices = None) -> list[bool]:
        """Whether a lane is inside a gymnasium wrapper: never."""
        return [False] * len(self._lane_numbers(indices))

    def _lane_numbers(self, indices: Indices) -> Sequence[int]:
        return list(self._get_indices(indices))


class SB3TrainingTracker(VecEnvWrapper):
    """`jaxtrade.adapters.tracker.TrainingTracker` around an `SB3VecEnv`; see there.

    Args:
      venv: `SB3VecEnv` with infos, possibly wrapped. writer: see `jaxtrade.tracking`.

    Raises:
      ValueError: for another environment.
    """

    def __init__(self, venv: VecEnv, writer: MetricWriter) -> None:
        lanes = venv.unwrapped
        if not isinstance(lanes, SB3VecEnv) or not lanes.with_infos:
            raise ValueError(f"SB3TrainingTracker: expected an SB3VecEnv with infos; got {venv}.")
        super().__init__(venv)
        self._writer = writer
        self._innermost = lanes
        self._curves = EpisodeCurves(lanes.trading_env, venv.num_envs)
        self._steps = 0

    def reset(self) -> Any:
        """Start every lane; episodes that were not finished are not written."""
        observation = self.venv.reset()
        self._curves.begin([info["equity"] for info in self._innermost.reset_infos])
        return observation

    def step_wait(self) -> Any:
        """One transition of every lane, passed on unchanged."""
        observation, rewards, dones, infos = self.venv.step_wait()
        self._steps += self.num_envs
        reached = {
            name: np.array([info[name] for info in infos])
            for name in ("equity", "event", "exit_kind")
        }
        fresh = np.array([info["equity"] for info in self._innermost.reset_infos])
        ended = self._curves.step(reached, rewards, dones, fresh)
        if ended is not None:
            self._writer.write(self._steps, ended)
        return observation, rewards, dones, infos


def _rows(info: Info) -> list[dict[str, Any]]:
    """One dictionary of Python scalars per lane."""
    columns = (values.tolist() for values in info.values())
    return [dict(zip(info, row, strict=True)) for row in zip(*columns, strict=True)]
