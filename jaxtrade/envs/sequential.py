"""Fractional position sizing, step by step: `SequentialTradingEnv`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade.core import levels, trade
from jaxtrade.core.account import Account
from jaxtrade.core.rules import Costs, Terms
from jaxtrade.envs import spaces
from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.config import SequentialConfig, check_choice, is_number, warn_spot_shorts
from jaxtrade.envs.state import EnvParams

Array = jax.Array

ACTIONS = ("discrete", "continuous")
SPOT_LEVELS = (0.0, 0.5, 1.0)
FUTURES_LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialTradingEnvConfig(SequentialConfig):
    """Configuration of `SequentialTradingEnv`: the fields of `SequentialConfig` and these.

    Attributes:
      action: "discrete" picks one of ``action_levels``; "continuous" is one number in [-1, 1], used
        as the level.
      action_levels: at least two different numbers in [-1, 1], order kept; None = (0, 0.5, 1) in
        spot and (-1, -0.5, 0, 0.5, 1) in futures.
    """

    action: str = "discrete"
    action_levels: tuple[float, ...] | None = None

    @property
    def levels(self) -> tuple[float, ...]:
        """The action levels in force."""
        if self.action_levels is not None:
            return tuple(float(level) for level in self.action_levels)
        return SPOT_LEVELS if self.spot else FUTURES_LEVELS

    def _check_actions(self) -> None:
        check_choice("action", self.action, ACTIONS)
        given = self.action_levels
        if given is None:
            return
        fits = (
            isinstance(given, tuple | list | np.ndarray)
            and len(given) >= 2
            and all(is_number(level) and -1 <= level <= 1 for level in given)
            and len({float(level) for level in given}) == len(given)
        )
        if not fits:
            raise ValueError(
                f"action_levels: need at least 2 different finite numbers in [-1, 1]; got {given}."
            )
        if self.spot:
            warn_spot_shorts(given)

    def _directions(self) -> tuple[bool, bool]:
        if self.action == "continuous":
            return True, True
        return any(level > 0 for level in self.levels), any(level < 0 for level in self.levels)


class SequentialTradingEnv(TradingEnv[SequentialTradingEnvConfig]):
    """Trade one asset bar by bar with fractional levels, in spot or leveraged futures.

    - **Action**: ``Discrete(A)``, an index into ``levels`` (or a number in [-1, 1] with
      ``action="continuous"``): the fraction of equity to commit, signed by side.
    - **Observation** (``"dict"``): ``market_data_{frame}`` float32 [W, F] per time frame, newest
      row last, and ``account_state`` float32 [6]; ``"flat"``: the same in one float32 vector;
      ``"index"``: ``bar`` int32 and ``account_state``.
    - **Reward**: ``config.reward``, by default the log return of the equity.
    - **End**: terminated below ``bankrupt_threshold`` of the initial equity or wiped out; truncated
      after ``max_steps`` or at the last bar.
    - **State**: `EnvState`; **parameters**: `EnvParams`.

    Example:
      >>> import jax
      >>> from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
      >>> from jaxtrade.market import datasets
      >>> env = SequentialTradingEnv(
      ...     datasets.load("eurusd_1h"),
      ...     SequentialTradingEnvConfig(leverage=5, transaction_fee=0.0004),
      ... )
      >>> observation, state = env.reset(jax.random.key(0))
      >>> observation["market_data_1Hour"].shape, observation["account_state"].shape
      ((10, 5), (6,))
    """

    config_class = SequentialTradingEnvConfig

    @property
    def continuous(self) -> bool:  # type: ignore[override]  # a constant of the other environments
        """Whether the action is a number instead of an index."""
        return self.config.action == "continuous"

    @property
    def levels(self) -> np.ndarray:
        """float64 [A], the level of each action index."""
        return np.asarray(self.config.levels, np.float64)

    @property
    def num_actions(self) -> int:
        """Number of discrete actions."""
        return len(self.config.levels)

    def action_space(self, params: EnvParams | None = None) -> Any:
        """`Discrete(A)`, or `Box(-1, 1, ())` with continuous actions."""
        return spaces.Box(-1.0, 1.0, ()) if self.continuous else super().action_space(params)

    def action_description(self) -> dict[str, Any]:
        """The kind of action, the level of each index, and whether the account is spot."""
        spot = bool(self.config.spot)
        if self.continuous:
            return {"kind": "continuous", "spot": spot}
        return {"kind": "levels", "levels": self.levels.tolist(), "spot": spot}

    def action_for(self, side: int) -> int | float | None:
        """The action of the outermost level on ``side``, of level 0 for side 0; else None."""
        if self.continuous:
            return None if side < 0 and self.config.spot else float(side)
        levels = self.levels
        if side == 0:
            return int(np.argmax(levels == 0)) if (levels == 0).any() else None
        best = int(np.argmax(levels * side))
        exists = levels[best] * side > 0 and not (side < 0 and self.config.spot)
        return best if exists else None

    def _decide(
        self,
        account: Account,
        action: Array,
        base: Array,
        draw: Array,
        costs: Costs,
        terms: Terms,
    ) -> trade.Order:
        level = self._level(action, account)
        return levels.decide(account, level, base, draw, costs, terms, self.config.rules)

    def _remember(self, account: Account, action: Array, fill: trade.Fill) -> Account:
        return levels.remember(account, self._level(action, account), fill, self.config.rules)

    def _level(self, action: Array, account: Account) -> Array:
        if self.continuous:
            return action
        return jnp.asarray(self.levels, account.cash.dtype)[action]

    def _clamped(self, action: Array, params: EnvParams) -> Array:
        if self.continuous:
            return jnp.clip(jnp.asarray(action, params.fee.dtype), -1, 1)
        return super()._clamped(action, params)

    def _action_dtype(self, params: EnvParams) -> Any:
        return params.fee.dtype if self.continuous else super()._action_dtype(params)

    def _in_action_space(self, values: np.ndarray) -> np.ndarray:
        if self.continuous:
            return (values >= -1) & (values <= 1)
        return super()._in_action_space(values)

    @property
    def _action_range(self) -> str:
        return "[-1, 1]" if self.continuous else super()._action_range
