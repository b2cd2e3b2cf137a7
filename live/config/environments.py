"""Configurations of the exchange environments: every field, rule and message.

Names, defaults and meanings are those of the offline environments wherever both have a field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar

from jaxtrade.checks import is_number
from jaxtrade.core.brackets import MODES, ActionTable
from jaxtrade.core.rules import Rules
from jaxtrade.hints import did_you_mean
from jaxtrade.market.market import parse_window_sizes
from jaxtrade.timeframe import TimeFrame, parse_time_frames, short_repr, warn_user
from live.fields import (
    Table,
    flag,
    free_rule,
    list_rule,
    member_rule,
    number,
    number_rule,
    optional_rule,
    refuse,
    ruled,
    text,
    whole,
    word,
)
from live.types import MarginMode, PositionMode

MAX_LEVERAGE = 125
DEFAULT_MAINTENANCE_RATE = 0.004
_LONGEST_EXECUTION_MINUTES = 1440

_IGNORED_SIZE = (
    "an environment with action_levels sizes by level and would ignore it; remove it, or use the "
    "SLTP environment"
)
_IGNORED_LEVELS = (
    "an SLTP environment takes its actions from stoploss_levels and takeprofit_levels; remove it, "
    "or use the environment without SLTP"
)


@dataclass(frozen=True, slots=True)
class VenueConstants:
    """What is known of an exchange before it is asked.

    Attributes:
      taker_fee: fraction, if the account's own cannot be read. frames: bar lengths it offers.
      secrets: constructor argument -> environment variables that may hold it.
    """

    venue: str
    taker_fee: float
    max_leverage: float
    frames: frozenset[TimeFrame]
    secrets: Mapping[str, tuple[str, ...]]


def _frames(minutes: tuple[int, ...], hours: tuple[int, ...]) -> frozenset[TimeFrame]:
    return frozenset(
        [TimeFrame(n, "Minute") for n in minutes]
        + [TimeFrame(n, "Hour") for n in hours]
        + [TimeFrame(1, "Day")]
    )


BYBIT = VenueConstants(
    venue="bybit",
    taker_fee=0.00055,
    max_leverage=100,
    frames=_frames((1, 3, 5, 15, 30), (1, 2, 4, 6, 12)),
    secrets=MappingProxyType({"api_key": ("BYBIT_API_KEY",), "api_secret": ("BYBIT_API_SECRET",)}),
)

# Readers ----------------------------------------------------------------------------------------


def _read_frames(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):  # as JSON and TOML spell pairs
        value = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return tuple(frame.name for frame in parse_time_frames(value))


def _read_frame(value: Any) -> str:
    return TimeFrame.parse(tuple(value) if isinstance(value, list) else value).name


def _read_sizes(value: Any) -> Any:
    # Whether they fit depends on the number of frames.
    return tuple(value) if isinstance(value, list) else value


def _read_rules(value: Any) -> Rules:
    if isinstance(value, Rules):
        return value
    if not isinstance(value, Mapping):
        raise refuse()
    known = [field.name for field in fields(Rules)]
    for name in value:
        if name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise ValueError(f"unknown field {name!r}; {hint}")
    return Rules(**value)


def _read_disaster(value: Any) -> float | str:
    if isinstance(value, str) and value.lower() == "auto":
        return "auto"
    if not is_number(value) or not 0 < value < 1:
        raise refuse()
    return float(value)


def _read_level(value: Any) -> float:
    if not is_number(value):
        raise refuse()
    return float(value)


# Environments -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeEnvConfig(Table):
    """Fields of every futures environment; checked completely at construction.

    Attributes:
      symbol: in any spelling of the venue; whether it trades is asked at start.
      time_frames: one or several; canonical names. window_sizes: one for all or one each.
      execute_on: paces the decisions; at most one day.
      leverage: at 1 the account is spot-like: no shorts.
      demo: the venue's demo account.
      transaction_fee: None = what the venue says. maintenance_margin_rate: the same.
      equity_buffer: fraction of the equity that is never committed.
      rebalance_tolerance, min_trade_quote: resizes closer than this fraction of the target, or than
        this many quote units, are not traded.
      bankrupt_threshold: fraction of the initial equity.
      close_position_on_init, close_position_on_reset: flatten what is owned.
      foreign_position: what happens to positions and orders that the journal does not explain.
      observation_failure_policy: after unreadable_grace_bars bars that could not be read.
      include_base_features: adds ``base_features`` float32 [W, 4].
      allocation: None, a fraction of the equity in (0, 1], or quote units above 1.
      configure_account: settings that hold for the whole account may be changed.
      seed: of replay slippage and sampling policies. rules: behaviour switches, as offline.
    """

    symbol: str = text(
        "BTCUSDT",
        "a symbol such as 'BTCUSDT', 'BTC/USDT' or 'BTC/USDT:USDT'",
        r"[A-Z0-9]{2,30}|[A-Z0-9]{1,20}/[A-Z0-9]{2,10}(:[A-Z0-9]{2,10})?",
    )
    time_frames: tuple[str, ...] = ruled(
        "1Hour", free_rule("a time frame or several", _read_frames)
    )
    window_sizes: tuple[int, ...] = ruled(
        10, free_rule("a whole number >= 1, or one per time frame", _read_sizes)
    )
    execute_on: str = ruled("1Hour", free_rule("a time frame", _read_frame))
    leverage: float = number(1.0, least=1, most=MAX_LEVERAGE)
    margin_mode: MarginMode = ruled(
        MarginMode.ISOLATED, member_rule(MarginMode, (MarginMode.ISOLATED, MarginMode.CROSS))
    )
    position_mode: PositionMode = ruled(
        PositionMode.ONE_WAY, member_rule(PositionMode, tuple(PositionMode))
    )
    demo: bool = flag(True)
    transaction_fee: float | None = number(None, optional=True, least=0, below=1)
    maintenance_margin_rate: float | None = number(None, optional=True, least=0, below=1)
    equity_buffer: float = number(0.0, least=0, below=1)
    rebalance_tolerance: float = number(0.02, least=0, below=1)
    min_trade_quote: float = number(1.0, least=0)
    done_on_bankruptcy: bool = flag(True)
    bankrupt_threshold: float = number(0.1, least=0, below=1)
    close_position_on_init: bool = flag(False)
    close_position_on_reset: bool = flag(False)
    foreign_position: str = word("refuse", "refuse", "adopt", "flatten")
    observation_failure_policy: str = word("halt", "halt", "flatten", "hold")
    unreadable_grace_bars: int = whole(3, 1)
    include_base_features: bool = flag(False)
    allocation: float | None = number(None, optional=True, above=0)
    configure_account: bool = flag(False)
    seed: int = whole(42, 0)
    rules: Rules = ruled(Rules(), free_rule("a table of switches", _read_rules))

    constants: ClassVar[VenueConstants] = BYBIT
    has_brackets: ClassVar[bool] = False

    @property
    def frames(self) -> tuple[TimeFrame, ...]:
        """The observation time frames, in the order given."""
        return parse_time_frames(self.time_frames)

    @property
    def windows(self) -> tuple[int, ...]:
        """Rows per window, one per time frame."""
        return self.window_sizes

    @property
    def execution_frame(self) -> TimeFrame:
        """The time frame that paces the decisions."""
        return TimeFrame.parse(self.execute_on)

    @property
    def market_data_keys(self) -> tuple[str, ...]:
        """Keys of the windows in the observation."""
        return tuple(f"market_data_{name}" for name in self.time_frames)

    @property
    def spot(self) -> bool:
        """Whether the account trades without leverage and so without shorts."""
        return self.leverage == 1

    @property
    def shorts(self) -> bool:
        """Whether positions below zero are possible."""
        return not self.spot

    def maintenance_rate(self, read: float | None = None) -> float:
        """The rate in force; ``read`` is what the venue says."""
        if self.maintenance_margin_rate is not None:
            return self.maintenance_margin_rate
        return DEFAULT_MAINTENANCE_RATE if read is None else read

    def problems(self) -> Iterator[str]:
        """What does not fit together."""
        try:  # one size serves every frame
            sizes = parse_window_sizes(self.window_sizes, len(self.time_frames))
            object.__setattr__(self, "window_sizes", sizes)
        except ValueError as error:
            yield str(error).rstrip(".")
        yield from self._frame_problems()
        yield from self._margin_problems()

    def _frame_problems(self) -> Iterator[str]:
        known = self.constants
        for field, names in (("time_frames", self.time_frames), ("execute_on", (self.execute_on,))):
            missing = [name for name in names if TimeFrame.parse(name) not in known.frames]
            if missing:
                offered = ", ".join(frame.name for frame in sorted(known.frames))
                yield f"{field}: {known.venue} offers {offered}; was {', '.join(missing)}"
        if self.execution_frame.minutes > _LONGEST_EXECUTION_MINUTES:
            yield f"execute_on: must be at most one day, was {self.execute_on}"

    def _margin_problems(self) -> Iterator[str]:
        most = min(MAX_LEVERAGE, self.constants.max_leverage)
        if self.leverage > most:
            yield (
                f"leverage: {self.constants.venue} allows at most {most:g}, was {self.leverage:g}"
            )
        rate = self.maintenance_margin_rate
        if rate is not None and not rate < 1 / self.leverage:
            yield (
                f"maintenance_margin_rate: must be in [0, {1 / self.leverage:g}) at leverage "
                f"{self.leverage:g}, was {rate:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FractionalEnvConfig(ExchangeEnvConfig):
    """A futures environment whose actions are levels.

    Attributes:
      action_levels: at least two different numbers in [-1, 1], order kept.
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
        dict.fromkeys(("quantity_per_trade", "trade_mode", "position_fraction"), _IGNORED_SIZE)
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
      stoploss_levels: fractions of the entry price, each in (-1, 0).
      takeprofit_levels: each > 0, and < 1 where shorts are possible.
      include_short_positions: None = with leverage.
      lock_position_until_sltp: a held position waits for its stop or target.
      trade_mode: "fractional", "notional" or "quantity".
      position_fraction: of the equity, fractional mode.
      quantity_per_trade: base units (quantity) or quote units (notional).
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
        count = len(self.action_table)
        if count < 2:
            yield f"actions: only {count}; add levels or include_hold_action"
        yield from ExchangeEnvConfig.problems(self)

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
