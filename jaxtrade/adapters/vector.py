"""gymnasium: many lanes as `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxtrade.adapters import spaces, stepping
from jaxtrade.adapters.gym import build
from jaxtrade.adapters.lanes import Info, Lanes

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams


class GymVectorEnv(VectorEnv[Any, Any, np.ndarray]):
    """``num_envs`` lanes as a `gymnasium.vector.VectorEnv` that resets in the same step.

    One compiled step and one transfer to the host per call, whatever the number of lanes.

    - **Observation**, **action**: those of `GymEnv` with a leading axis [N].
    - **Where a lane is done**, its observation is the first of the next episode. Then ``infos``
      has ``final_obs``, the observations before the reset of the *whole* batch (the stock vector
      environments deliver an object array with one per lane), and ``final_info``; both are valid
      where ``_final_obs`` and ``_final_info`` say so.
    - **infos**: the entries of `GymEnv`'s info, [N], each with its mask ``_name``. Where a lane is
      done they describe the new episode, its step record is in ``final_info`` alone. NaN marks what
      did not happen; ``virtual_time`` is an object array of texts.

    gymnasium 1.3's ``RecordEpisodeStatistics`` leaves out the first transition of every episode
    after the first of a lane, with any environment that resets in the same step.

    Args:
      env: the environment, possibly wrapped. num_envs: lanes, a whole number >= 1.
      params: parameters shared by all lanes; None = the environment's own.

    Example:
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> envs = GymVectorEnv(make("SequentialTradingEnv", datasets.load("eurusd_1h")), 16)
      >>> observations, infos = envs.reset(seed=0)
      >>> observations["market_data_1Hour"].shape, infos["equity"].shape
      ((16, 10, 5), (16,))
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - gymnasium's own convention
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def __init__(
        self, env: TradingEnv[Any], num_envs: int, params: EnvParams | None = None
    ) -> None:
        self._lanes = Lanes(env, num_envs, params)
        self.trading_env = env
        self.num_envs = self._lanes.num_envs
        self.single_observation_space = spaces.observation_space(env)
        self.single_action_space = spaces.action_space(env)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start every lane: observations and infos.

        Args:
          seed: one number for all lanes; None goes on with the generator.
          options: ``"params"``, parameters from now on.

        Raises:
          ValueError: for another option or a list of seeds.
        """
        if seed is not None and not isinstance(seed, int | np.integer):
            raise ValueError(f"seed: must be one whole number for all lanes; got {seed!r}.")
        super().reset(seed=None if seed is None else int(seed))
        options = options or {}
        if set(options) - {"params"}:
            raise ValueError(f"options: only 'params' is known; got {sorted(options)}.")
        if "params" in options:
            self._lanes.use(options["params"])
        draw = stepping.draw_seed(self.np_random)
        observations, info = self._lanes.reset(draw, anew=seed is not None)
        return observations, self._masked(info, np.ones(self.num_envs, bool))

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One transition of every lane: observations, rewards, terminations, truncations, infos.

        Args:
          actions: [N], or [N, 1] with continuous actions.

        Raises:
          ResetNeeded: before the first reset. ValueError: for another number of actions.
        """
        step = self._lanes.step(stepping.draw_seed(self.np_random), actions)
        done = step.done
        infos = self._masked(step.fresh_info, np.ones_like(done))
        infos.update(self._masked(step.record, ~done))
        if done.any():
            final = self._masked({**step.info, **step.record}, done)
            infos.update(final_obs=step.final_observation, _final_obs=done)
            infos.update(final_info=final, _final_info=done)
        return step.observation, step.reward, step.terminated, step.truncated, infos

    def _masked(self, info: Info, mask: np.ndarray) -> dict[str, Any]:
        return {**info, **{f"_{name}": mask for name in info}}


def make_vector_env(
    environment: str, num_envs: int, frame: Any = None, **fields: Any
) -> GymVectorEnv:
    """What `gymnasium.make_vec` calls for the ids of `jaxtrade.adapters.gym`; see its `build`."""
    return GymVectorEnv(build(environment, frame, fields), num_envs)
