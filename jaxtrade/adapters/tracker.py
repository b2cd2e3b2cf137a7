"""Curves of every episode that any learner plays through gymnasium, written as it trains."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from jaxtrade import metrics
from jaxtrade.core import exits, trade
from jaxtrade.tracking import (
    EPISODE_TAGS,
    LENGTH,
    MAX_DRAWDOWN,
    RETURN_ON_INVESTMENT,
    REWARD,
    SHARPE_RATIO,
    TRADES,
    MetricWriter,
)

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv

_FIRST_CAPACITY = 256


class EpisodeCurves:
    """Equity, reward and trades of the running episodes of N lanes, and metrics where they end.

    The equity of every step is kept until the episode ends: 8 bytes per step and lane.

    Args:
      env: the environment, which gives the time frame. num_envs: lanes N.
    """

    def __init__(self, env: TradingEnv[Any], num_envs: int) -> None:
        # A decision that is repeated for several bars makes one step of all of them.
        bars = getattr(env, "n_steps", 1)
        self._periods_per_year = env.config.execution_frame.periods_per_year / bars
        self._lanes = np.arange(num_envs)
        self._equity = np.zeros((_FIRST_CAPACITY, num_envs))
        self._length = np.zeros(num_envs, np.int64)
        self._reward = np.zeros(num_envs)
        self._trades = np.zeros(num_envs, np.int64)

    def begin(self, equity: Any) -> None:
        """Every lane starts an episode with ``equity`` [N]."""
        self._equity[0] = equity
        self._length[:] = self._reward[:] = self._trades[:] = 0

    def step(
        self, info: dict[str, Any], reward: Any, done: Any, fresh_equity: Any
    ) -> dict[str, float] | None:
        """Take a step of every lane.

        Args:
          info: ``equity`` reached, ``event`` and ``exit_kind`` of the transition, [N] each.
          reward: [N]. done: bool [N]. fresh_equity: [N], of the next episode where done.

        Returns: the tags of `jaxtrade.tracking`, the mean over the episodes that ended (which share
          this step); None when none did.
        """
        self._length += 1
        if self._length.max() == len(self._equity):
            self._equity = np.concatenate([self._equity, np.zeros_like(self._equity)])
        self._equity[self._length, self._lanes] = info["equity"]
        self._reward += reward
        # An episode begins flat, so whatever closes a position ends a round trip.
        closed = (np.asarray(info["event"]) & trade.CLOSED) != 0
        self._trades += closed.astype(int) + (np.asarray(info["exit_kind"]) != exits.NO_EXIT)
        ended = np.flatnonzero(done)
        if not ended.size:
            return None
        found = {
            **self._of_curves(ended),
            TRADES: self._trades[ended],
            REWARD: self._reward[ended],
            LENGTH: self._length[ended],
        }
        self._equity[0, ended] = np.asarray(fresh_equity)[ended]
        self._length[ended] = self._reward[ended] = self._trades[ended] = 0
        return {tag: float(np.mean(found[tag])) for tag in EPISODE_TAGS}

    def _of_curves(self, ended: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics of the equity curves of lanes, [lanes] each in some order."""
        parts = []
        for length in np.unique(self._length[ended]):
            curves = self._equity[: length + 1, ended[self._length[ended] == length]].T
            # Few sizes, so that few programs are compiled; what is repeated is cut off again.
            size = 1 << (len(curves) - 1).bit_length()
            padded = np.pad(curves, ((0, size - len(curves)), (0, 0)), "edge")
            with jax.enable_x64(True):
                measure = _measure(size, int(length), self._periods_per_year)
                found = jax.device_get(measure(padded))
            parts.append({tag: values[: len(curves)] for tag, values in found.items()})
        return {tag: np.concatenate([part[tag] for part in parts]) for tag in parts[0]}


@functools.lru_cache(maxsize=64)
def _measure(size: int, length: int, periods_per_year: float) -> Callable[..., Any]:
    """Compiled metrics of [size, length + 1] curves; the oldest are freed, with their programs."""
    del size, length

    def measure(equity: jax.Array) -> dict[str, jax.Array]:
        return {
            RETURN_ON_INVESTMENT: metrics.total_return(equity),
            SHARPE_RATIO: metrics.sharpe_ratio(equity, periods_per_year),
            MAX_DRAWDOWN: metrics.max_drawdown(equity),
        }

    return jax.jit(jax.vmap(measure))


def _trading_env(env: Any) -> TradingEnv[Any]:
    found = getattr(env.unwrapped, "trading_env", None)
    if found is None:
        raise ValueError(
            f"TrainingTracker: expected GymEnv or GymVectorEnv, possibly wrapped; got {env}."
        )
    return found


class TrainingTracker(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Writes every finished episode of a `GymEnv`, or of the lanes of a `GymVectorEnv`.

    Per episode, under the tags of `jaxtrade.tracking`: return on investment, Sharpe ratio at the
    environment's time frame, maximal drawdown (`jaxtrade.metrics`, in float64), round trips,
    cumulative reward and length. They are written at the number of environment steps so far; lanes
    that end in one step share a point, their mean.

    Around a vector environment this gives a `VectorTrainingTracker`. The writer stays open: who
    opened it closes it. Of an environment in `BatchStepWrapper` only the last bar of a step tells
    its trades.

    Args:
      env: `GymEnv` or `GymVectorEnv`, possibly wrapped. writer: see `jaxtrade.tracking`.

    Raises:
      ValueError: for another environment.
    """

    def __new__(cls, env: Any = None, writer: Any = None) -> Any:
        """This wrapper, or the one for vector environments."""
        if isinstance(env, VectorEnv):
            return VectorTrainingTracker(env, writer)
        return super().__new__(cls)

    def __init__(self, env: gymnasium.Env[Any, Any], writer: MetricWriter) -> None:
        super().__init__(env)
        self._writer = writer
        self._curves = EpisodeCurves(_trading_env(env), 1)
        self._steps = 0

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode; one that was not finished is not written."""
        observation, info = super().reset(**arguments)
        self._curves.begin(info["equity"])
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One transition, passed on unchanged."""
        observation, reward, terminated, truncated, info = super().step(action)
        self._steps += 1
        ended = self._curves.step(info, reward, [terminated or truncated], [info["equity"]])
        if ended is not None:
            self._writer.write(self._steps, ended)
        return observation, reward, terminated, truncated, info


class VectorTrainingTracker(VectorWrapper):
    """`TrainingTracker` around a vector environment; see there.

    Raises:
      ValueError: for an environment that does not reset in the same step, as `GymVectorEnv` does.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], writer: MetricWriter) -> None:
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"TrainingTracker: expected a GymVectorEnv; got {env} ({mode}).")
        self._writer = writer
        self._curves = EpisodeCurves(_trading_env(env), env.num_envs)
        self._steps = 0

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Start every lane; episodes that were not finished are not written."""
        out: tuple[Any, dict[str, Any]] = super().reset(**arguments)
        self._curves.begin(out[1]["equity"])
        return out

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One transition of every lane, passed on unchanged."""
        out: tuple[Any, Any, Any, Any, dict[str, Any]] = super().step(actions)
        rewards, terminations, truncations, infos = out[1:]
        self._steps += self.num_envs
        reached = infos
        if "final_info" in infos:
            done = infos["_final_info"]
            final = infos["final_info"]
            names = ("equity", "event", "exit_kind")
            reached = {name: np.where(done, final[name], infos[name]) for name in names}
        ended = self._curves.step(reached, rewards, terminations | truncations, infos["equity"])
        if ended is not None:
            self._writer.write(self._steps, ended)
        return out
