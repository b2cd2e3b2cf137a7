"""Entries with a stop and a target, step by step: `SequentialTradingEnvSLTP`."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax
import numpy as np

from jaxtrade.core import brackets, trade
from jaxtrade.core.account import Account
from jaxtrade.core.brackets import ActionTable, Sizing
from jaxtrade.core.rules import Costs, Terms
from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.config import SequentialConfig, TradingEnvConfig, is_number

Array = jax.Array
Bracket = TypeVar("Bracket", bound="BracketTradingEnvConfig")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BracketTradingEnvConfig(TradingEnvConfig):
    """What every environment with bracket actions is configured by, besides `TradingEnvConfig`.

    Attributes:
      stoploss_levels: fractions of the entry price, each in (-1, 0), at least one.
      takeprofit_levels: fractions of the entry price, each > 0 and, in futures, < 1.
      include_hold_action, include_close_action: whether the table starts with HOLD and CLOSE.
      trade_mode: "fractional", "notional" or "quantity", in any case.
      position_fraction: fraction of equity per position, in (0, 1]; fractional mode only.
      quantity_per_trade: quote units (notional) or base units (quantity) per position, > 0.
    """

    stoploss_levels: tuple[float, ...] = (-0.025, -0.05, -0.1)
    takeprofit_levels: tuple[float, ...] = (0.05, 0.1, 0.2)
    include_hold_action: bool = True
    include_close_action: bool = False
    trade_mode: str = "fractional"
    position_fraction: float = 1.0
    quantity_per_trade: float = 0.001

    @property
    def action_table(self) -> ActionTable:
        """The actions in force; shorts exist in futures."""
        return ActionTable.of(
            self.stoploss_levels,
            self.takeprofit_levels,
            hold=self.include_hold_action,
            close=self.include_close_action,
            shorts=not self.spot,
        )

    @property
    def sizing(self) -> Sizing:
        """How large a bracket is opened."""
        return Sizing(
            self.trade_mode.lower(), float(self.position_fraction), float(self.quantity_per_trade)
        )

    def _check_actions(self) -> None:
        stops, targets = self.stoploss_levels, self.takeprofit_levels
        if not _numbers(stops) or not all(-1 < stop < 0 for stop in stops):
            raise ValueError(
                f"stoploss_levels: each must lie in (-1, 0), at least one; got {stops}."
            )
        ceiling = float("inf") if self.spot else 1.0
        if not _numbers(targets) or not all(0 < target < ceiling for target in targets):
            shorts = "" if self.spot else " and < 1 when shorts are possible"
            raise ValueError(
                f"takeprofit_levels: each must be > 0{shorts}, at least one; got {targets}."
            )
        count = len(self.action_table)
        if count < 2:
            raise ValueError(f"actions: only {count} action(s); add levels or include_hold_action.")
        mode = self.trade_mode
        if not isinstance(mode, str) or mode.lower() not in brackets.MODES:
            raise ValueError(
                f"trade_mode: must be 'fractional', 'notional' or 'quantity'; got {mode!r}."
            )
        fraction, quantity = self.position_fraction, self.quantity_per_trade
        if mode.lower() == "fractional":
            if not is_number(fraction) or not 0 < fraction <= 1:
                raise ValueError(f"position_fraction: must be in (0, 1]; got {fraction}.")
        elif not is_number(quantity) or quantity <= 0:
            raise ValueError(f"quantity_per_trade: must be > 0; got {quantity}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialTradingEnvSLTPConfig(BracketTradingEnvConfig, SequentialConfig):
    """Configuration of `SequentialTradingEnvSLTP`: the fields above and these.

    Attributes:
      lock_position_until_sltp: a held position waits for its stop or target.
    """

    lock_position_until_sltp: bool = False


def _numbers(values: Any) -> bool:
    fits = isinstance(values, tuple | list | np.ndarray) and len(values) > 0
    return fits and all(is_number(value) for value in values)


class BracketTradingEnv(TradingEnv[Bracket]):
    """What the environments with bracket actions share: the table and what a row orders."""

    has_brackets = True

    @property
    def locks(self) -> bool:
        """Whether a held position waits for its stop or target, whatever the action."""
        return False

    @property
    def action_table(self) -> ActionTable:
        """The actions in force."""
        return self.config.action_table

    @property
    def num_actions(self) -> int:
        """Number of discrete actions."""
        return len(self.action_table)

    def action_description(self) -> dict[str, Any]:
        """Rows of the table (side, stop, target), their hash, and whether the account is spot."""
        table = self.action_table
        rows = zip(table.sides, table.stops, table.targets, strict=True)
        return {
            "kind": "brackets",
            "rows": [list(row) for row in rows],
            "hash": table.hash,
            "spot": bool(self.config.spot),
        }

    def action_for(self, side: int) -> int | None:
        """The widest bracket on ``side``; for side 0 CLOSE, or HOLD where there is no CLOSE."""
        table = self.action_table
        if side == 0:
            without = [a for a in (brackets.CLOSE, brackets.HOLD) if a in table.sides]
            return table.sides.index(without[0]) if without else None
        rows = [k for k, one in enumerate(table.sides) if one == side]
        return max(rows, key=lambda k: (abs(table.stops[k]), abs(table.targets[k])), default=None)

    def _decide(
        self,
        account: Account,
        action: Array,
        base: Array,
        draw: Array,
        costs: Costs,
        terms: Terms,
    ) -> trade.Order:
        config = self.config
        return brackets.decide(
            account,
            self.action_table.row(action, account.cash.dtype),
            base,
            draw,
            costs,
            terms,
            config.rules,
            config.sizing,
            lock=self.locks,
        )


class SequentialTradingEnvSLTP(BracketTradingEnv[SequentialTradingEnvSLTPConfig]):
    """Open brackets and let the bars resolve them, in spot or leveraged futures.

    - **Action**: ``Discrete(A)``, a row of ``action_table``: hold, close, or a side with its stop
      and target. The held direction is ignored, the opposite one closes and reverses.
    - **Observation**, **reward**, **end**, **state**, **parameters**: as `SequentialTradingEnv`.

    Example:
      >>> from jaxtrade import SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig
      >>> from jaxtrade.market import datasets
      >>> config = SequentialTradingEnvSLTPConfig(
      ...     leverage=5, stoploss_levels=(-0.02, -0.05), takeprofit_levels=(0.03, 0.06, 0.1)
      ... )
      >>> SequentialTradingEnvSLTP(datasets.load("eurusd_1h"), config).num_actions
      13
    """

    config_class = SequentialTradingEnvSLTPConfig

    @property
    def locks(self) -> bool:
        """Whether a held position waits for its stop or target, whatever the action."""
        return self.config.lock_position_until_sltp
