"""The reward of a step, by the functions and the numbers of the offline environments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from jaxtrade import rewards
from jaxtrade.core.rules import slack
from jaxtrade.timeframe import TimeFrame
from live.env.report import Told
from live.trading.acts import View

_RUIN_REWARD = -10.0


def is_wiped(equity: float, initial: float) -> bool:
    """Whether nothing is left of an account, within rounding."""
    return not equity > slack(np.dtype(np.float64)) * initial


class Earning:
    """The configured reward over the steps of one episode, in float64.

    Args:
      reward: a name, a pair or weights, as the offline configuration takes them.
      execute_on: paces the decisions.

    Raises:
      ValueError: the reward is none of these.
    """

    def __init__(self, reward: Any, execute_on: TimeFrame) -> None:
        self._reward, weights = rewards.resolve(reward, execute_on.periods_per_year)
        parameters: Any = SimpleNamespace(
            cash_low=np.float64(1),
            ruin_reward=np.float64(_RUIN_REWARD),
            reward_weights=np.asarray(weights),
        )
        self._parameters = parameters
        self._update = jax.jit(lambda carry, seen: self._reward.update(carry, seen, parameters))
        self._carry: Any = ()
        self._action: Any = None
        self._initial = 0.0

    def begin(self, view: View) -> None:
        """A new episode: its first equity."""
        self._initial = float(view.snapshot.balance.equity)
        with jax.enable_x64(True):
            self._carry = self._reward.init(self._parameters)
        self._action = None

    def earned(self, before: View, after: View, told: Told, action: Any) -> float:
        """The reward of what lies between two views."""
        equity = float(after.snapshot.balance.equity)
        seen: dict[str, Any] = {
            "equity_before": np.float64(float(before.snapshot.balance.equity)),
            "equity_after": np.float64(equity),
            "initial_equity": np.float64(self._initial),
            "price_before": np.float64(float(before.snapshot.quote.mark)),
            "price_after": np.float64(float(after.snapshot.quote.mark)),
            "quantity": np.float64(told.quantity(before)),
            "filled": np.bool_(told.traded),
            "action_changed": np.bool_(self._changed(action)),
            "wiped": np.bool_(is_wiped(equity, self._initial)),
        }
        with jax.enable_x64(True):
            value, self._carry = self._update(self._carry, rewards.RewardInput(**seen))
        return float(value)

    def _changed(self, action: Any) -> bool:
        """Whether the action is another one than that of the step before."""
        before, self._action = self._action, action
        return before is not None and action != before
