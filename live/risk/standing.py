"""Trading states, what each permits, and the limits of a run.

A state is the worst of what holds: latches, which only a person clears, and reasons of degradation,
which end by themselves once they are gone and the account has been reconciled. The checks of single
intents are in `live.risk.gate`, the breakers in `live.risk.breakers`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, assert_never

from jaxtrade.hints import did_you_mean
from live.fields import Table, list_rule, number, refuse, ruled, whole, word
from live.types import Intent, IntentKind, Role


class TradingState(enum.StrEnum):
    """What may be done, from everything to nearly nothing."""

    ACTIVE = "ACTIVE"
    DEGRADED = "DEGRADED"
    REDUCING = "REDUCING"
    HALTED = "HALTED"

    @property
    def latched(self) -> bool:
        """Whether only an operator ends it."""
        return self in (TradingState.REDUCING, TradingState.HALTED)


_SEVERITY = {state: rank for rank, state in enumerate(TradingState)}


def worst(states: Iterable[TradingState]) -> TradingState:
    """The most restrictive of some states; ACTIVE if there are none."""
    return max(states, key=_SEVERITY.__getitem__, default=TradingState.ACTIVE)


class Effect(enum.StrEnum):
    """What an intent does to the risk."""

    INCREASE = "increase"  # opens, adds, or might
    REDUCE = "reduce"  # the policy's own exit
    FLATTEN = "flatten"  # an operator's or a breaker's exit
    PROTECT = "protect"
    CANCEL = "cancel"


EXITS = frozenset({Effect.REDUCE, Effect.FLATTEN, Effect.PROTECT, Effect.CANCEL})

PERMITTED: Mapping[TradingState, frozenset[Effect]] = MappingProxyType(
    {
        TradingState.ACTIVE: frozenset(Effect),
        TradingState.DEGRADED: EXITS,
        TradingState.REDUCING: EXITS,
        TradingState.HALTED: EXITS - {Effect.REDUCE},
    }
)


def effect(intent: Intent) -> Effect:
    """What an intent does, by its fields: only what cannot add to a position counts as an exit."""
    match intent.kind:
        case IntentKind.CANCEL:
            return Effect.CANCEL
        case IntentKind.AMEND:
            return Effect.PROTECT
        case IntentKind.BRACKET:
            return Effect.INCREASE
        case IntentKind.MARKET | IntentKind.STOP | IntentKind.TARGET:
            if not intent.reduce_only:
                return Effect.INCREASE
            if intent.kind is not IntentKind.MARKET or intent.role.protective:
                return Effect.PROTECT
            return Effect.FLATTEN if intent.role is Role.FLATTEN else Effect.REDUCE
        case _:
            assert_never(intent.kind)


# The standing of an account -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Latch:
    """A state that stays until a person clears it; a row of the journal."""

    state: TradingState
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if not self.state.latched:
            raise ValueError(
                f"latch: {self.state} is not a latched state; got reason {self.reason}."
            )


@dataclass(frozen=True, slots=True)
class Standing:
    """Latches and reasons of degradation together.

    Attributes:
      degraded: reasons that hold now. recovering: the last of them is gone, but nothing has been
        reconciled since.
    """

    latches: tuple[Latch, ...] = ()
    degraded: frozenset[str] = frozenset()
    recovering: bool = False

    @property
    def state(self) -> TradingState:
        """The worst that holds."""
        states = [latch.state for latch in self.latches]
        if self.degraded or self.recovering:
            states.append(TradingState.DEGRADED)
        return worst(states)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, the latches first."""
        waiting = ("reconciliation",) if self.recovering and not self.degraded else ()
        return (*(latch.reason for latch in self.latches), *sorted(self.degraded), *waiting)

    def latched(self, latch: Latch) -> Standing:
        """With one latch more; the same state and reason again changes nothing."""
        known = {(one.state, one.reason) for one in self.latches}
        if (latch.state, latch.reason) in known:
            return self
        return dataclasses.replace(self, latches=(*self.latches, latch))

    def degrade(self, reason: str) -> Standing:
        """A reason has come up."""
        return dataclasses.replace(self, degraded=self.degraded | {reason})

    def recover(self, reason: str) -> Standing:
        """A reason is gone; what it hid is reconciled before anything new is risked."""
        if reason not in self.degraded:
            return self
        return dataclasses.replace(self, degraded=self.degraded - {reason}, recovering=True)

    def reconciled(self) -> Standing:
        """A complete reconciliation passed."""
        if self.degraded:
            return self
        return dataclasses.replace(self, recovering=False)

    def cleared(self) -> Standing:
        """An operator resumed: no latch is left, degradation is untouched."""
        return dataclasses.replace(self, latches=())


# How many orders were sent ------------------------------------------------------------------------

_MINUTE_MS, _DAY_MS = 60_000, 86_400_000


@dataclass(frozen=True, slots=True)
class OrderRate:
    """Orders that increased risk, of the last minute and of the UTC day.

    Attributes:
      times_ms: of the orders of the last minute, ascending, venue time. day: days since 1970.
    """

    times_ms: tuple[int, ...] = ()
    day: int = 0
    of_day: int = 0

    @classmethod
    def of(cls, times_ms: Iterable[int], now_ms: int) -> OrderRate:
        """From the times of journalled orders; what a restart begins with."""
        rate = cls()
        for time_ms in sorted(times_ms):
            rate = rate.sent(time_ms)
        return rate.at(now_ms)

    def at(self, now_ms: int) -> OrderRate:
        """At an instant; a clock that went back forgets nothing."""
        day = max(self.day, now_ms // _DAY_MS)
        times = tuple(time for time in self.times_ms if now_ms - time < _MINUTE_MS)
        return OrderRate(times, day, self.of_day if day == self.day else 0)

    def sent(self, now_ms: int) -> OrderRate:
        """After one more order."""
        now = self.at(now_ms)
        return OrderRate((*now.times_ms, now_ms), now.day, now.of_day + 1)

    @property
    def minute(self) -> int:
        """Orders of the last minute."""
        return len(self.times_ms)


# The limits ---------------------------------------------------------------------------------------

# Limits, as opposed to facts: a frozen symbol or a wrong account cannot be switched off.
DISABLEABLE = frozenset(
    {
        *("market_closed", "stale_snapshot", "late", "clock", "disk", "collar"),
        *("order_notional", "position_notional", "gross_notional", "leverage", "available"),
        *("rate_minute", "rate_day", "unprotectable"),
        *("daily_loss", "drawdown", "rejections", "rate_denied", "invalid_action", "slow_journal"),
    }
)


def _limit(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse()
    if value not in DISABLEABLE:
        hint = did_you_mean(value, DISABLEABLE) or f"known: {', '.join(sorted(DISABLEABLE))}"
        raise ValueError(f"{value!r} is no limit that can be switched off; {hint}")
    return value


_DISABLED = list_rule("a list of limits", _limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskConfig(Table):
    """The limits of a run; the defaults follow equity and leverage.

    Attributes:
      max_order_notional: quote units; None = 1.05 * leverage * what of the equity the symbol may
        use. max_position_notional: of one symbol; None = 1.05 * equity * leverage.
      max_gross_notional: of all symbols; None = 1.05 * equity * leverage.
      price_collar: distance of the sizing price from mark and last close.
      snapshot_age_seconds: of what an order is sized on.
      orders_per_minute: orders of a minute that increase risk. orders_per_day: and of a day.
      delisting_hours: before a delisting nothing is opened.
      daily_loss_limit: fraction of the equity at 00:00 UTC. max_drawdown: of its peak.
      max_rejections: refused orders in a row. max_rate_denied_bars: bars in a row on which the
        limits of orders denied one. max_invalid_actions: actions in a row that make no sense.
      max_slow_writes: slow commits of the journal in a row.
      breaker_action: "flatten" or "reduce", after a loss limit. disabled: limits switched off.
      deadman_seconds: the venue cancels resting orders once this program has been silent for so
        long, set with every connection; 3 to 300 on Bybit; 0 = its timer is left alone.
    """

    max_order_notional: float | None = number(None, optional=True, above=0)
    max_position_notional: float | None = number(None, optional=True, above=0)
    max_gross_notional: float | None = number(None, optional=True, above=0)
    price_collar: float = number(0.05, above=0, below=1)
    snapshot_age_seconds: float = number(5.0, above=0, most=600)
    orders_per_minute: int = whole(10, 1)
    orders_per_day: int = whole(200, 1)
    delisting_hours: float = number(24.0, least=0)
    daily_loss_limit: float = number(0.03, above=0, below=1)
    max_drawdown: float = number(0.05, above=0, below=1)
    max_rejections: int = whole(5, 1)
    max_rate_denied_bars: int = whole(3, 1)
    max_invalid_actions: int = whole(3, 1)
    max_slow_writes: int = whole(3, 1)
    breaker_action: str = word("flatten", "flatten", "reduce")
    disabled: tuple[str, ...] = ruled((), _DISABLED)
    deadman_seconds: float = number(0.0, least=0, most=3600)
