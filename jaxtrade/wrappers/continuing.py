"""Ruin ends an account, not the market."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.state import EnvParams
from jaxtrade.wrappers.base import Wrapper

Array = jax.Array


class ContinuingEpisodes(Wrapper):
    """After ruin the next episode begins at the bar at which the account was ruined.

    The account restarts with newly drawn cash and its time at 0, the market clock goes on. An
    episode that time or data end (also on the step of its ruin) is followed by a start as usual.

    Args:
      env: environment whose episodes have several steps; without `Randomization`, which is put
        around this wrapper instead.

    Example:
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> ContinuingEpisodes(make("SequentialTradingEnv", datasets.load("eurusd_1h"))).keeps_clock
      True
    """

    _outlives_episodes = True

    def _wrap(self, env: TradingEnv[Any]) -> None:
        super()._wrap(env)
        if not hasattr(env.config, "max_steps"):
            raise ValueError(
                f"{type(self).__name__}: needs an environment with episodes of several steps; "
                f"got {env.name}."
            )
        if getattr(env, "randomizes", False):
            raise ValueError(
                f"{type(self).__name__}: cannot be put around Randomization, whose next episode "
                "may be in another market; use Randomization(ContinuingEpisodes(env), ...)."
            )

    @property
    def keeps_clock(self) -> bool:
        """Whether an episode may begin at the bar at which the one before ended in ruin."""
        return True

    def restarted(
        self, done: Array, state: Any, start_bits: Array, cash_draw: Array, params: EnvParams
    ) -> Any:
        """``state``, or the next episode where ``done``; at the same bar if ruin alone ended it."""
        ruined = done & ~self.is_truncated(state, params)
        market = params.market
        # A range with a single possible start is all it takes.
        market = dataclasses.replace(
            market,
            first=jnp.where(ruined, state.bar, market.first),
            last=jnp.where(ruined, state.bar + 1, market.last),
        )
        return self.env.restarted(done, state, start_bits, cash_draw, params.replace(market=market))
