"""The values of the planner: what it is told, what it remembers, what it answers."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from jaxtrade.core.brackets import CLOSE, HOLD, MODES, SHORT, ActionTable
from jaxtrade.core.levels import RESIZE_TOLERANCE_FRACTION, RESIZE_TOLERANCE_QUOTE
from jaxtrade.core.rules import Rules
from live.allocation import check_allocation
from live.planner.kelly import KellySizing
from live.types import ZERO, Bracket, Intent


class Decision(enum.StrEnum):
    """What a plan does to the position."""

    HOLD = "hold"
    OPEN = "open"
    INCREASE = "increase"
    DECREASE = "decrease"
    CLOSE = "close"
    FLIP = "flip"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionConfig:
    """Everything the planner decides by; static and hashable, one compilation per value.

    Exactly one of ``levels`` and ``table`` is given.

    Attributes:
      symbol: canonical name, written on every intent.
      leverage: >= 1; 1 is a spot account. fee: taker fraction. maintenance_rate: in [0, 1/L).
      levels: level of each action, in [-1, 1]. table: rows of a bracket policy.
      trade_mode, position_fraction, quantity_per_trade: size of a bracket (`core.brackets.Sizing`);
        a fraction of 0 opens nothing.
      lock_position: a held bracket waits for its stop or target.
      equity_buffer: fraction of equity never committed, in [0, 1).
      allocation: what of the equity the symbol may use: None = all, a fraction in (0, 1], or quote
        units above 1.
      kelly: sets ``position_fraction`` from what was won and lost; see `sized_by`.
      rebalance_tolerance: smallest resize as a fraction of the target. min_trade_quote: and in
        quote units; 0 = every one.
      shorts: the venue has them; at leverage 1 there are none.
      closes_residue: a reduce-only order above the position is cut to it by the venue, so that
        what is smaller than the minimum order can still be closed.
    """

    symbol: str
    leverage: float
    fee: float
    maintenance_rate: float
    levels: tuple[float, ...] | None = None
    table: ActionTable | None = None
    trade_mode: str = "fractional"
    position_fraction: float = 1.0
    quantity_per_trade: float = 0.001
    lock_position: bool = False
    equity_buffer: float = 0.0
    allocation: float | None = None
    kelly: KellySizing | None = None
    rebalance_tolerance: float = RESIZE_TOLERANCE_FRACTION
    min_trade_quote: float = RESIZE_TOLERANCE_QUOTE
    rules: Rules = Rules()
    shorts: bool = False
    closes_residue: bool = False

    def __post_init__(self) -> None:
        for name, fits, rule in (
            ("leverage", self.leverage >= 1, ">= 1"),
            ("fee", 0 <= self.fee < 1, "in [0, 1)"),
            ("maintenance_rate", 0 <= self.maintenance_rate < 1 / self.leverage, "in [0, 1/L)"),
            ("position_fraction", 0 <= self.position_fraction <= 1, "in [0, 1]"),
            ("quantity_per_trade", self.quantity_per_trade > 0, "> 0"),
            ("equity_buffer", 0 <= self.equity_buffer < 1, "in [0, 1)"),
            ("rebalance_tolerance", 0 <= self.rebalance_tolerance < 1, "in [0, 1)"),
            ("min_trade_quote", self.min_trade_quote >= 0, ">= 0"),
        ):
            value = getattr(self, name)
            if not (fits and math.isfinite(value)):
                raise ValueError(f"{name}: must be finite and {rule}; got {value}.")
        check_allocation(self.allocation)
        if self.trade_mode not in MODES:
            raise ValueError(f"trade_mode: must be one of {MODES}; got {self.trade_mode!r}.")
        if self.kelly is not None and (self.table is None or self.trade_mode != "fractional"):
            raise ValueError("kelly: sizes brackets in fractional mode; got another one.")
        if self.shorts and self.spot:
            raise ValueError("shorts: need leverage above 1; got shorts=True at leverage 1.")
        self._check_actions()

    def _check_actions(self) -> None:
        if (self.levels is None) == (self.table is None):
            raise ValueError("levels, table: give exactly one of them.")
        if self.levels is not None:
            fits = all(math.isfinite(level) and -1 <= level <= 1 for level in self.levels)
            if not fits or len(self.levels) < 2 or len(set(self.levels)) < len(self.levels):
                raise ValueError(
                    f"levels: need at least 2 different numbers in [-1, 1]; got {self.levels}."
                )
        if self.table is not None and SHORT in self.table.sides and not self.shorts:
            raise ValueError("table: has short rows, which need shorts=True.")

    @property
    def spot(self) -> bool:
        """Whether the account trades without leverage."""
        return self.leverage == 1

    @property
    def num_actions(self) -> int:
        """How many actions there are."""
        return len(self.levels if self.levels is not None else self.table or ())

    def sized_by(self, returns: Sequence[float]) -> DecisionConfig:
        """The configuration after these round trips; without ``kelly`` the same.

        Args:
          returns: see `KellySizing.fraction`; none = the priors alone.
        """
        if self.kelly is None:
            return self
        return replace(self, position_fraction=self.kelly.fraction(returns))


@dataclass(frozen=True, slots=True)
class BracketRow:
    """A row of the action table.

    Attributes:
      side: HOLD, CLOSE, LONG or SHORT of `jaxtrade.core.brackets`.
      stop, target: signed fractions of the entry price.
    """

    side: int
    stop: float
    target: float


@dataclass(frozen=True, slots=True)
class Goal:
    """An action, read.

    Attributes:
      action: its index. level: as configured, None for brackets.
      aimed: the level that is traded: 0 for a negative one where there are no shorts.
      row: None for levels.
    """

    action: int
    level: float | None
    aimed: float
    row: BracketRow | None

    @classmethod
    def of(cls, action: int, config: DecisionConfig) -> Goal:
        """The goal of an action that is known to be in range."""
        if config.levels is not None:
            level = float(config.levels[action])
            return cls(action, level, level if config.shorts else max(level, 0.0), None)
        table = config.table
        assert table is not None  # the configuration has one of both
        row = BracketRow(table.sides[action], table.stops[action], table.targets[action])
        return cls(action, None, 0.0, row)

    @property
    def flat(self) -> bool:
        """Whether it asks for no position."""
        return self.aimed == 0 if self.row is None else self.row.side == CLOSE

    @property
    def opens(self) -> bool:
        """Whether it asks for a position."""
        return not self.flat and (self.row is None or self.row.side != HOLD)


@dataclass(frozen=True, slots=True)
class SymbolState:
    """What the planner remembers of one symbol between bars.

    Attributes:
      last_level: level that is latched, None = none.
      target_quantity: position the last outcome led to, signed, base units.
      target_tolerance: a position that differs by this much is no longer that one.
      bracket: legs confirmed at the venue. held_bars: as observed, 0 = flat or not observed yet.
      direction: sign of the position. invalid_actions: in a row.
      opening: action whose position the second phase of a flip is to open.
    """

    last_level: float | None
    target_quantity: Decimal
    target_tolerance: Decimal
    bracket: Bracket | None
    held_bars: int
    direction: int
    invalid_actions: int
    opening: int | None

    @classmethod
    def start(cls) -> SymbolState:
        """Nothing is known: a position that is found has no level, so that flat always acts."""
        return cls(None, ZERO, ZERO, None, 0, 0, 0, None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent for one decision, in order.

    Attributes:
      intents: of this phase; none for a hold.
      decision: of the whole plan: both phases of a flip say so; CLOSE without intents is a flip
        whose second phase was refused.
      reason: words for the journal. refused: code of what kept a wanted order from being planned.
      action, level, row: what was asked. phase: 2 for what follows the close of a flip.
      price: execution price that sized it, None where none was needed.
      target_quantity, target_tolerance: position it leads to, signed.
      bracket: rounded, around ``price``; of an opening.
    """

    intents: tuple[Intent, ...]
    decision: Decision
    reason: str
    refused: str | None = None
    action: int | None = None
    level: float | None = None
    row: BracketRow | None = None
    phase: int = 1
    price: Decimal | None = None
    target_quantity: Decimal = ZERO
    target_tolerance: Decimal = ZERO
    bracket: Bracket | None = None

    @classmethod
    def still(
        cls, state: SymbolState, goal: Goal | None, reason: str, refused: str | None = None
    ) -> Plan:
        """A plan that sends nothing; the position it leads to is the one there is."""
        return cls(
            intents=(),
            decision=Decision.HOLD,
            reason=reason,
            refused=refused,
            action=None if goal is None else goal.action,
            level=None if goal is None else goal.level,
            row=None if goal is None else goal.row,
            target_quantity=state.target_quantity,
            target_tolerance=state.target_tolerance,
        )

    @property
    def continues(self) -> bool:
        """Whether a second phase opens the other side once this one is confirmed flat."""
        return self.decision is Decision.FLIP and self.phase == 1
