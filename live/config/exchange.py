"""Fields of every exchange environment, with their rules and messages.

Names, defaults and meanings are those of the offline environments wherever both have a field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from jaxtrade.core.rules import Rules
from jaxtrade.hints import did_you_mean
from jaxtrade.market.spec import parse_window_sizes
from jaxtrade.timeframe import TimeFrame, parse_time_frames
from live.config.constants import (
    BYBIT,
    DEFAULT_MAINTENANCE_RATE,
    MAX_LEVERAGE,
    SYMBOL,
    VenueConstants,
)
from live.fields import (
    Table,
    flag,
    free_rule,
    member_rule,
    number,
    number_rule,
    optional_rule,
    refuse,
    ruled,
    whole,
    word,
)
from live.types import MarginMode, PositionMode

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

_LONGEST_EXECUTION_MINUTES = 1440


def _read_frames(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):  # as JSON and TOML spell pairs
        value = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return tuple(frame.name for frame in parse_time_frames(value))


def _read_frame(value: Any) -> str:
    return TimeFrame.parse(tuple(value) if isinstance(value, list) else value).name


def _read_sizes(value: Any) -> Any:
    # Whether they fit depends on the number of frames.
    return tuple(value) if isinstance(value, list) else value


def read_dataclass(kind: type[T], value: Any) -> T:
    """A value of a dataclass, or a table of its fields, which it checks itself.

    Raises:
      ValueError: an unknown field, or what the dataclass says.
    """
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise refuse()
    known = [field.name for field in fields(kind)]
    for name in value:
        if name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise ValueError(f"unknown field {name!r}; {hint}")
    return kind(**value)


def _read_rules(value: Any) -> Rules:
    return read_dataclass(Rules, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeEnvConfig(Table):
    """Fields of every futures environment; checked completely at construction.

    Attributes:
      symbol: in any spelling of the venue; whether it trades is asked at start.
      time_frames: of the observation, one or several. window_sizes: bars of each; one for all or
        one each.
      execute_on: paces the decisions; at most one day.
      leverage: set at the venue and read back; at 1 the account is spot-like: no shorts.
      margin_mode: set or compared at the venue and read back.
      position_mode: the same; of one side at a time, or of both.
      demo: the venue's demo account; false is one of the two switches of real money.
      transaction_fee: fraction of the notional; None = what the venue says.
      maintenance_margin_rate: in [0, 1 / leverage); None = what the venue says.
      equity_buffer: fraction of the equity that is never committed.
      rebalance_tolerance: a resize by less than this fraction of the target is not traded.
      min_trade_quote: nor is one by fewer quote units.
      done_on_bankruptcy: an equity below the threshold ends it for good.
      bankrupt_threshold: fraction of the initial equity.
      close_position_on_init: what is owned is flattened at the start of a run.
      close_position_on_reset: and at every ``reset`` of an environment.
      foreign_position: what happens to positions and orders that the journal does not explain.
      observation_failure_policy: what happens after too many bars that could not be read.
      unreadable_grace_bars: how many in a row are too many.
      include_base_features: adds ``base_features``, open, high, low and close of the first window.
      allocation: what one symbol may use of the account: a fraction of the equity in (0, 1], or at
        most so many quote units, above 1; None = everything, of several symbols an equal share.
      configure_account: settings that hold for the whole account may be changed.
      seed: of policies that draw. rules: behaviour switches, as offline.
    """

    symbol: str = ruled("BTCUSDT", SYMBOL)
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
    allocation: float | None = ruled(
        None,
        optional_rule(
            free_rule(
                "a fraction of the equity in (0, 1], an amount of quote units above 1",
                number_rule(above=0).read,
            )
        ),
    )
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
