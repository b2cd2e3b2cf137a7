"""What every environment configuration shares: fields, checks with their messages, JSON form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, Self

from jaxtrade.checks import is_count, is_number
from jaxtrade.core.rules import Rules
from jaxtrade.envs.config_json import from_json, names_function, refuse_unknown, to_json
from jaxtrade.market.features import resolve as resolve_features
from jaxtrade.market.spec import parse_window_sizes
from jaxtrade.timeframe import TimeFrame, parse_time_frames, warn_user

FrameSpec = str | tuple[int, str] | TimeFrame
FeatureSpec = str | Callable[..., Any] | Sequence[Callable[..., Any] | None]
RewardSpec = str | Mapping[str, float] | tuple[Callable[..., Any], Callable[..., Any]]

MAX_LEVERAGE = 125
OBSERVATIONS = ("dict", "flat", "index")
# Fields that may hold Python functions; they have no JSON form.
_FUNCTION_FIELDS = ("features", "reward")


def check_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{field}: must be one of {choices}; got {value!r}.")


def check_fraction(field: str, value: Any) -> None:
    """Raise unless ``value`` is a number in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{field}: must be in [0, 1); got {value}.")


def check_count(field: str, value: Any) -> None:
    """Raise unless ``value`` is None or a whole number >= 1."""
    if value is not None and not is_count(value):
        raise ValueError(f"{field}: must be None or a whole number >= 1; got {value}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TradingEnvConfig:
    """Fields shared by every environment; checked completely at construction, never mutated.

    Attributes:
      symbol: label in records and figures only.
      time_frames: one spelling or several ("5min", "1hour", (5, "Minute")), no two equal.
      window_sizes: rows per window; one whole number >= 1, or one per time frame.
      execute_on: time frame that paces the decisions; need not be among ``time_frames``.
      features: "default", "ohlcv", a function ``bars -> DataFrame``, or one function or None per
        time frame.
      initial_cash: quote units > 0, or a pair (low, high) drawn uniformly per episode.
      transaction_fee: fraction of traded notional, in [0, 1).
      half_spread, slippage: fractions of the price, each in [0, 1), sum < 1.
      leverage: in [1, 125]; 1 is spot, above 1 is futures.
      maintenance_margin_rate: fraction of notional in [0, 1/leverage) (spot: [0, 1)).
      margin_call_threshold: None, or the margin ratio in [0, 1) that liquidates instead.
      bankrupt_threshold: fraction of initial equity below which an episode terminates, in [0, 1).
      random_start: False: every episode starts at the first usable bar.
      reward: name, dict of weights, or pair (init, update); see ``jaxtrade.rewards``.
      ruin_reward: reward of the step that wipes the account out.
      observation: "dict", "flat" or "index".
      rules: behaviour switches.
    """

    symbol: str = "BTC/USD"
    time_frames: FrameSpec | Sequence[FrameSpec] = "1Hour"
    window_sizes: int | Sequence[int] = 10
    execute_on: FrameSpec = "1Hour"
    features: FeatureSpec = "default"
    initial_cash: float | tuple[float, float] = 10000.0
    transaction_fee: float = 0.0
    half_spread: float = 0.0
    slippage: float = 0.0
    leverage: float = 1
    maintenance_margin_rate: float = 0.004
    margin_call_threshold: float | None = None
    bankrupt_threshold: float = 0.1
    random_start: bool = True
    reward: RewardSpec = "log_return"
    ruin_reward: float = -10.0
    observation: str = "dict"
    rules: Rules = dataclasses.field(default_factory=Rules)

    def __post_init__(self) -> None:
        # Each reading in normal form checks its field.
        _ = self.windows, self.execution_frame
        resolve_features(self.features, len(self.frames))
        self._check_cash()
        for field in ("transaction_fee", "half_spread", "slippage"):
            check_fraction(field, getattr(self, field))
        total = self.half_spread + self.slippage
        if total >= 1:
            raise ValueError(f"half_spread + slippage: must be < 1; got {total}.")
        self._check_margin()
        self._check_actions()
        self._check_fee_fits_margin()
        self._check_length()
        self._check_reward()
        if not is_number(self.ruin_reward):
            raise ValueError(f"ruin_reward: must be a finite number; got {self.ruin_reward}.")
        check_choice("observation", self.observation, OBSERVATIONS)
        if not isinstance(self.rules, Rules):
            raise ValueError(f"rules: must be a Rules object; got {self.rules!r}.")

    # What the fields mean, in one normal form.

    @property
    def frames(self) -> tuple[TimeFrame, ...]:
        """The observation time frames, in the order given."""
        return parse_time_frames(self.time_frames)

    @property
    def windows(self) -> tuple[int, ...]:
        """Rows per window, one per time frame."""
        return parse_window_sizes(self.window_sizes, len(self.frames))

    @property
    def execution_frame(self) -> TimeFrame:
        """The time frame that paces the decisions."""
        return TimeFrame.parse(self.execute_on)

    @property
    def cash_range(self) -> tuple[float, float]:
        """(low, high) of the initial cash; equal when it is fixed."""
        given: Any = self.initial_cash
        low, high = (given, given) if isinstance(given, Real) else given
        return float(low), float(high)

    @property
    def spot(self) -> bool:
        """Whether the account trades without leverage (and so without shorts and liquidation)."""
        return self.leverage == 1

    @property
    def episode_bars(self) -> int | None:
        """Bars an episode may take; None = to the end of the data."""
        raise NotImplementedError

    def _check_length(self) -> None:
        """Checks of the fields behind `episode_bars`, supplied by each kind of environment."""

    @property
    def effective_maintenance_rate(self) -> float:
        """Rate that places the liquidation price."""
        if self.margin_call_threshold is None:
            return self.maintenance_margin_rate
        return self.margin_call_threshold / self.leverage

    # Checks, in the order of the fields.

    def _check_cash(self) -> None:
        given: Any = self.initial_cash
        if is_number(given):
            fits = given > 0
        else:
            fits = (
                isinstance(given, Sequence)
                and len(given) == 2
                and all(is_number(value) for value in given)
                and 0 < given[0] <= given[1]
            )
        if not fits:
            raise ValueError(
                "initial_cash: must be > 0, or a pair (low, high) with 0 < low <= high; "
                f"got {given}."
            )

    def _check_margin(self) -> None:
        leverage = self.leverage
        if not is_number(leverage) or not 1 <= leverage <= MAX_LEVERAGE:
            raise ValueError(
                f"leverage: must be a finite number in [1, {MAX_LEVERAGE}]; got {leverage}. "
                "Use 1 for spot."
            )
        rate, limit = self.maintenance_margin_rate, 1 / leverage
        if not is_number(rate) or not 0 <= rate < limit:
            raise ValueError(
                f"maintenance_margin_rate: must be in [0, {limit:g}) at leverage {leverage:g}; "
                f"got {rate}."
            )
        threshold = self.margin_call_threshold
        if threshold is not None and (not is_number(threshold) or not 0 <= threshold < 1):
            raise ValueError(f"margin_call_threshold: must be None or in [0, 1); got {threshold}.")
        check_fraction("bankrupt_threshold", self.bankrupt_threshold)

    def _check_actions(self) -> None:
        """Checks of the action fields, supplied by each environment's configuration."""

    def _directions(self) -> tuple[bool, bool]:
        """Whether the environment can be (long, short)."""
        return True, True

    def _check_fee_fits_margin(self) -> None:
        # Otherwise the bankruptcy price lies beyond the liquidation price and a liquidation could
        # pay money out: long f (1 - 1/L + m) <= m, short f (1 + 1/L - m) <= m.
        if self.spot:
            return
        fee, rate, leverage = self.transaction_fee, self.effective_maintenance_rate, self.leverage
        room = 1 / leverage - rate
        for traded, name, share in zip(
            self._directions(), ("long", "short"), (1 - room, 1 + room), strict=True
        ):
            if traded and fee * share > rate * (1 + 1e-9):
                raise ValueError(
                    f"transaction_fee: {fee:g} does not fit inside the margin left at liquidation "
                    f"of a {name} position (leverage {leverage:g}, rate {rate:g}); the limit is "
                    f"{rate / share:.6g}."
                )

    def _check_reward(self) -> None:
        from jaxtrade import rewards

        rewards.resolve(self.reward, self.execution_frame.periods_per_year)

    # JSON form.

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values; a function appears as {"function": "module:name"}.

        `from_dict` reads it back.
        """
        values = {
            field.name: to_json(getattr(self, field.name)) for field in dataclasses.fields(self)
        }
        values["rules"] = dataclasses.asdict(self.rules)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **functions: Any) -> Self:
        """A configuration from `to_dict`'s form, or from a JSON file's; missing fields default.

        Args:
          values: field name -> value.
          functions: the Python functions of ``features`` or ``reward`` where the form only names
            them: no code is imported by name.

        Raises:
          ValueError: for an unknown field (with the nearest name), a function that was not
            supplied, or a value that does not fit.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        refuse_unknown(cls.__name__, [*values, *functions], names)
        given = {name: from_json(value) for name, value in values.items()}
        given.update(functions)
        for name in _FUNCTION_FIELDS:
            if names_function(given.get(name)):
                raise ValueError(
                    f"{name}: this configuration uses a Python function ({given[name]}); "
                    f"pass it as {name}=... ."
                )
        if isinstance(given.get("rules"), Mapping):
            refuse_unknown("rules", given["rules"], [f.name for f in dataclasses.fields(Rules)])
            given["rules"] = Rules(**given["rules"])
        return cls(**given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialConfig(TradingEnvConfig):
    """Adds what only environments that go bar by bar have.

    Attributes:
      max_steps: None or transitions per episode, >= 1.
    """

    max_steps: int | None = None

    @property
    def episode_bars(self) -> int | None:
        """Bars an episode may take; None = to the end of the data."""
        return self.max_steps

    def _check_length(self) -> None:
        check_count("max_steps", self.max_steps)


def warn_spot_shorts(levels: Sequence[float]) -> None:
    """Warn once at construction that negative levels mean flat in spot."""
    if any(level < 0 for level in levels):
        warn_user("action_levels: negative levels mean flat at leverage 1.")
