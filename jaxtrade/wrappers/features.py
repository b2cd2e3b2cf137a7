"""Moving averages and momentum of the execution closes, appended to a flat observation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrade.envs import spaces
from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.config import is_count
from jaxtrade.envs.state import EnvParams
from jaxtrade.wrappers.base import Wrapper

Array = jax.Array

MOMENTUM = 5  # bars


class FeatureEngineeringWrapper(Wrapper):
    """Appends ``len(periods) + 1`` numbers of the execution closes to a flat observation, float32.

    Per period p the newest close over the mean of the last p closes (1 while fewer than p exist in
    the data), then the relative change over 5 bars (0 while fewer than 6 exist). The numbers
    depend on the bar alone: closes before the start of an episode count, later ones never do.

    Args:
      env: environment with observations of mode "flat". periods: whole numbers >= 1, at least one.

    Example:
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> env = make("SequentialTradingEnv", datasets.load("eurusd_1h"), observation="flat")
      >>> FeatureEngineeringWrapper(env).observation_space().shape  # 10 * 5 + 6 before
      (60,)
    """

    def __init__(self, env: TradingEnv[Any], periods: Sequence[int] = (5, 10, 20)) -> None:
        if not isinstance(periods, Sequence) or not periods or not all(map(is_count, periods)):
            raise ValueError(f"periods: must be whole numbers >= 1, at least one; got {periods!r}.")
        self.periods = tuple(int(period) for period in periods)
        super().__init__(env)

    def _wrap(self, env: TradingEnv[Any]) -> None:
        super()._wrap(env)
        if env.config.observation != "flat":
            raise ValueError(
                f"{type(self).__name__}: needs observations 'flat'; got {env.config.observation!r}."
            )

    def observe(self, key: Array | None, state: Any, action: Any, params: EnvParams) -> Array:
        """The flat observation with the features behind it, float32 [D + len(periods) + 1]."""
        observation = self.env.observe(key, state, action, params)
        return jnp.concatenate([observation, self.features(state, params)])

    def features(self, state: Any, params: EnvParams) -> Array:
        """The appended numbers at the bar of a state, float32 [len(periods) + 1]."""
        start = self.data_start(state, params)
        length = max(*self.periods, MOMENTUM + 1)
        bars = state.bar - jnp.arange(length, dtype=jnp.int32)  # newest first
        closes = params.market.ohlcv[jnp.maximum(bars, start), 3]
        newest = closes[0]
        # Means of differences: equal closes then give exactly 1.
        difference = closes - newest
        existing = state.bar - start + 1
        averages = [
            jnp.where(existing >= p, newest / (newest + difference[:p].sum() / p), 1)
            for p in self.periods
        ]
        change = -difference[MOMENTUM] / closes[MOMENTUM]
        momentum = jnp.where(existing > MOMENTUM, change, 0)
        return jnp.stack([*averages, momentum]).astype(jnp.float32)

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """An unbounded box of the longer vector."""
        (size,) = self.env.observation_space(params).shape
        return spaces.unbounded((size + len(self.periods) + 1,))
