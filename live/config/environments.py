"""Configurations of the exchange environments: levels, brackets, and who trades them where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from jaxtrade.checks import is_number
from jaxtrade.core.brackets import MODES, ActionTable
from jaxtrade.timeframe import short_repr, warn_user
from live.config.constants import BYBIT, VenueConstants
from live.config.exchange import ExchangeEnvConfig, read_dataclass
from live.fields import (
    flag,
    free_rule,
    list_rule,
    number,
    number_rule,
    optional_rule,
    refuse,
    ruled,
    word,
)
from live.planner.kelly import KellySizing

__all__ = [
    "BYBIT",
    "ENVIRONMENTS",
    "BracketEnvConfig",
    "BybitFuturesSLTPTradingEnvConfig",
    "BybitFuturesTradingEnvConfig",
    "EnvConfig",
    "ExchangeEnvConfig",
    "FractionalEnvConfig",
    "VenueConstants",
]

_IGNORED_SIZE = (
    "an environment with action_levels sizes by level and would ignore it; remove it, or use the "
    "SLTP environment"
)
_IGNORED_LEVELS = (
    "an SLTP environment takes its actions from stoploss_levels and takeprofit_levels; remove it, "
    "or use the environment without SLTP"
)


def _read_disaster(value: Any) -> float | str:
    if isinstance(value, str) and value.lower() == "auto":
        return "auto"
    if not is_number(value) or not 0 < value < 1:
        raise refuse()
    return float(value)


def _read_kelly(value: Any) -> KellySizing:
    return read_dataclass(KellySizing, value)


def _read_level(value: Any) -> float:
    if not is_number(value):
        raise refuse()
    return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class FractionalEnvConfig(ExchangeEnvConfig):
    """A futures environment whose actions are levels.

    Attributes:
      action_levels: share of the equity, as margin and fee, that each action commits; below 0
        short.
      disaster_stop_fraction: distance of the stop that rests at the venue, a fraction of the entry
        price; "auto" = half the way to liquidation, at most a quarter; None only in paper mode.
    """

    action_levels: tuple[float, ...] = ruled(
        (-1.0, 0.0, 1.0),
        list_rule("at least 2 different finite numbers in [-1, 1]", _read_level, least=2),
    )
    disaster_stop_fraction: float | str | None = ruled(
        "auto", optional_rule(free_rule("'auto' or a number in (0, 1)", _read_disaster))
    )

    misplaced: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(
            ("quantity_per_trade", "trade_mode", "position_fraction", "kelly"), _IGNORED_SIZE
        )
    )

    @property
    def levels(self) -> tuple[float, ...]:
        """The level of every action."""
        return self.action_levels

    def problems(self) -> Iterator[str]:
        """What does not fit together."""
        levels = self.action_levels
        if not all(-1 <= level <= 1 for level in levels) or len(set(levels)) < len(levels):
            yield (
                "action_levels: must be at least 2 different finite numbers in [-1, 1], was "
                f"{short_repr(levels)}"
            )
        yield from ExchangeEnvConfig.problems(self)

    def remarks(self) -> None:
        """Levels that mean flat."""
        if self.spot and any(level < 0 for level in self.action_levels):
            warn_user("action_levels: negative levels mean flat at leverage 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BracketEnvConfig(ExchangeEnvConfig):
    """A futures environment whose actions are entries with a stop and a target.

    Attributes:
      stoploss_levels: distance of the stop, signed fractions of the entry price of a long.
      takeprofit_levels: of the target; below 1 where shorts are possible.
      include_short_positions: the table has short entries; None = with leverage.
      include_hold_action: the first action holds. include_close_action: the next one closes.
      lock_position_until_sltp: a held position waits for its stop or target.
      trade_mode: what sizes an entry, a fraction of the equity or an amount of quote or base units.
      position_fraction: of the equity, as margin and fee, in mode fractional.
      quantity_per_trade: base units in mode quantity, quote units in mode notional.
      kelly: a fraction that follows what was won and lost; in mode fractional, for a fixed one.
    """

    stoploss_levels: tuple[float, ...] = ruled(
        (-0.025, -0.05, -0.1),
        list_rule("numbers in (-1, 0), at least one", number_rule(above=-1, below=0).read, least=1),
    )
    takeprofit_levels: tuple[float, ...] = ruled(
        (0.05, 0.1, 0.2),
        list_rule("finite numbers > 0, at least one", number_rule(above=0).read, least=1),
    )
    include_short_positions: bool | None = flag(None, optional=True)
    include_hold_action: bool = flag(True)
    include_close_action: bool = flag(False)
    lock_position_until_sltp: bool = flag(False)
    trade_mode: str = word("quantity", *MODES)
    position_fraction: float = number(1.0, above=0, most=1)
    quantity_per_trade: float = number(0.001, above=0)
    kelly: KellySizing | None = ruled(
        None, optional_rule(free_rule("a table such as { cap = 0.5 }", _read_kelly))
    )

    has_brackets: ClassVar[bool] = True
    misplaced: ClassVar[Mapping[str, str]] = MappingProxyType(
        dict.fromkeys(("action_levels", "disaster_stop_fraction"), _IGNORED_LEVELS)
    )

    @property
    def shorts(self) -> bool:
        """Whether the table has short entries."""
        asked = self.include_short_positions
        return not self.spot if asked is None else asked

    @property
    def action_table(self) -> ActionTable:
        """The actions: HOLD and CLOSE if enabled, longs, shorts."""
        return ActionTable.of(
            self.stoploss_levels,
            self.takeprofit_levels,
            hold=self.include_hold_action,
            close=self.include_close_action,
            shorts=self.shorts,
        )

    @property
    def action_map(self) -> dict[int, tuple[int, float, float]]:
        """Action -> (side, stop, target); side 0 holds, 2 closes, 1 is long, -1 short."""
        table = self.action_table
        rows = zip(table.sides, table.stops, table.targets, strict=True)
        return dict(enumerate(rows))

    def problems(self) -> Iterator[str]:
        """What does not fit together."""
        if self.spot and self.include_short_positions:
            yield "include_short_positions: shorts need leverage above 1; was True at leverage 1"
        if self.shorts and not all(target < 1 for target in self.takeprofit_levels):
            yield (
                "takeprofit_levels: each must be < 1 when shorts are possible, was "
                f"{short_repr(self.takeprofit_levels)}"
            )
        yield from self._kelly_problems()
        count = len(self.action_table)
        if count < 2:
            yield f"actions: only {count}; add levels or include_hold_action"
        yield from ExchangeEnvConfig.problems(self)

    def _kelly_problems(self) -> Iterator[str]:
        if self.kelly is None:
            return
        if self.trade_mode != "fractional":
            yield f"kelly: needs trade_mode 'fractional', was {self.trade_mode!r}"
        if self.position_fraction != 1:
            yield (
                "position_fraction: kelly would take its place, was "
                f"{self.position_fraction:g}; remove one of both"
            )

    def remarks(self) -> None:
        """Stops that the venue's liquidation comes before."""
        if self.spot:
            return
        distance = 1 / self.leverage - self.maintenance_rate()
        late = [stop for stop in self.stoploss_levels if not -stop < distance]
        if late:
            warn_user(
                f"stoploss_levels: {', '.join(f'{stop:g}' for stop in late)} lie at or beyond the "
                f"liquidation distance {distance:g} of leverage {self.leverage:g}; the venue "
                "liquidates first."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BybitFuturesTradingEnvConfig(FractionalEnvConfig):
    """Configuration of `BybitFuturesTradingEnv`: USDT perpetuals of Bybit, fractional levels."""

    constants: ClassVar[VenueConstants] = BYBIT


@dataclass(frozen=True, slots=True, kw_only=True)
class BybitFuturesSLTPTradingEnvConfig(BracketEnvConfig):
    """Configuration of `BybitFuturesSLTPTradingEnv`: USDT perpetuals of Bybit, brackets."""

    constants: ClassVar[VenueConstants] = BYBIT


EnvConfig = FractionalEnvConfig | BracketEnvConfig

ENVIRONMENTS: Mapping[str, type[FractionalEnvConfig] | type[BracketEnvConfig]] = MappingProxyType(
    {
        "BybitFuturesTradingEnv": BybitFuturesTradingEnvConfig,
        "BybitFuturesSLTPTradingEnv": BybitFuturesSLTPTradingEnvConfig,
    }
)
