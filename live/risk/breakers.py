"""Breakers: a pure state machine over what is read and what happens to an account.

Losses are judged on two readings in a row: the better of the two has to be beyond the limit, and
only what two readings agree on raises the peak. One wrong number neither trips a breaker nor
prepares one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import assert_never

from live.risk import Latch, RiskConfig, TradingState
from live.risk.circuit import loss
from live.risk.readings import (
    Answered,
    AuthFailed,
    BarDecided,
    EquityRead,
    ForcedEvent,
    JournalWrite,
    Reading,
    Transfer,
    Trip,
    UnknownOverdue,
)
from live.types import ZERO, Category, Certainty, Definitive, Outcome

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Breakers:
    """What the breakers remember. Money in quote units, net of transfers.

    Attributes:
      initial: equity of the first start; 0 is refused. bankrupt_threshold: fraction of it; None =
        no test. peak, day_start, day: of the journal. last: the reading before. peak_ms: when the
        peak was raised.
      rejections: in a row. rate_denied, invalid_actions: bars in a row, by symbol.
      tripped: codes that were told and not cleared since.
    """

    initial: Decimal
    peak: Decimal
    day_start: Decimal
    day: int
    bankrupt_threshold: float | None = 0.1
    transfers: Decimal = ZERO
    last: EquityRead | None = None
    peak_ms: int = 0
    rejections: int = 0
    rate_denied: Mapping[str, int] = field(default_factory=dict)
    invalid_actions: Mapping[str, int] = field(default_factory=dict)
    tripped: frozenset[str] = frozenset()

    @classmethod
    def start(
        cls,
        initial: Decimal,
        venue_ms: int,
        *,
        peak: Decimal | None = None,
        day_start: Decimal | None = None,
        bankrupt_threshold: float | None = 0.1,
        transfers: Decimal = ZERO,
    ) -> Breakers:
        """From the baselines of the journal; without any, from the initial equity.

        Args:
          day_start: equity at 00:00 UTC of the day of ``venue_ms``. transfers: acknowledged since
            the initial equity was taken.

        Raises:
          ValueError: a baseline is not a number above 0.
        """
        baselines = [("initial", initial), ("peak", peak), ("day start", day_start)]
        for name, value in baselines:
            if value is not None and not (value.is_finite() and value > 0):
                raise ValueError(
                    f"{name} equity: must be a finite number > 0; got {value}. Fund the account, or"
                    " take new baselines with: jaxtrade live resume --reset-baseline."
                )
        return cls(
            initial=initial,
            peak=initial if peak is None else max(peak, initial),
            day_start=initial if day_start is None else day_start,
            day=venue_ms // _DAY_MS,
            bankrupt_threshold=bankrupt_threshold,
            transfers=transfers,
        )

    def update(self, reading: Reading, config: RiskConfig) -> tuple[Breakers, tuple[Trip, ...]]:
        """What one reading changes, and the breakers that it trips; each is told once."""
        state, trips = _update(self, reading, config)
        new = tuple(trip for trip in trips if trip.code not in state.tripped)
        told = state.tripped | {trip.code for trip in new}
        return dataclasses.replace(state, tripped=told), new

    def persisting(self, config: RiskConfig) -> tuple[Trip, ...]:
        """Loss breakers whose cause still holds on the last reading; why a resume is refused."""
        return () if self.last is None else _losses(self, self.last.equity, config)

    def resumed(self, *, equity: Decimal | None = None) -> Breakers:
        """After an operator's resume; ``equity`` (net of nothing) takes new baselines from it.

        Raises:
          ValueError: that equity cannot be a baseline.
        """
        state = dataclasses.replace(
            self, rejections=0, rate_denied={}, invalid_actions={}, tripped=frozenset()
        )
        if equity is None:
            return state
        fresh = Breakers.start(
            equity, self.day * _DAY_MS, bankrupt_threshold=self.bankrupt_threshold
        )
        return dataclasses.replace(fresh, last=None)

    @property
    def drawdown(self) -> Decimal:
        """Fraction below the peak at the last reading; 0 before the first."""
        return ZERO if self.last is None else loss(self.peak, self.last.equity)

    @property
    def daily_loss(self) -> Decimal:
        """Fraction below the equity at 00:00 UTC at the last reading, 0 or more."""
        return ZERO if self.last is None else loss(self.day_start, self.last.equity)


def _update(
    state: Breakers, reading: Reading, config: RiskConfig
) -> tuple[Breakers, tuple[Trip, ...]]:
    match reading:
        case EquityRead():
            return _equity(state, reading, config)
        case Transfer():
            return _transferred(state, reading), ()
        case Answered(outcome):
            return _answered(state, outcome, config)
        case AuthFailed(detail):
            return state, (_halt("auth", detail),)
        case BarDecided():
            return _decided(state, reading, config)
        case JournalWrite():
            return state, _journal(reading, config)
        case ForcedEvent(cause, detail):
            return state, (_halt(cause.value, detail, flatten=True),)
        case UnknownOverdue(client_id):
            return state, (Trip(f"unknown_order:{client_id}", None, False, client_id),)
        case _:
            assert_never(reading)


def _halt(code: str, detail: str, *, flatten: bool = False) -> Trip:
    return Trip(code, Latch(TradingState.HALTED, code, detail), flatten, detail)


def _reduce(code: str, detail: str) -> Trip:
    return Trip(code, Latch(TradingState.REDUCING, code, detail), False, detail)


def _counted(
    code: str, count: int, limit: int, detail: str, config: RiskConfig
) -> tuple[Trip, ...]:
    if count < limit or code in config.disabled:
        return ()
    return (_reduce(code, f"{count} {detail} in a row"),)


def _answered(
    state: Breakers, outcome: Outcome, config: RiskConfig
) -> tuple[Breakers, tuple[Trip, ...]]:
    if not isinstance(outcome, Definitive) or outcome.kind is Certainty.NOT_SENT:
        return state, ()
    if outcome.kind is Certainty.ACCEPTED:
        return dataclasses.replace(state, rejections=0), ()
    state = dataclasses.replace(state, rejections=state.rejections + 1)
    trips = _counted(
        "rejections", state.rejections, config.max_rejections, "orders were rejected", config
    )
    if outcome.category is Category.AUTH:
        trips = (_halt("auth", outcome.detail or f"code {outcome.code}"), *trips)
    return state, trips


def _decided(
    state: Breakers, bar: BarDecided, config: RiskConfig
) -> tuple[Breakers, tuple[Trip, ...]]:
    denied = state.rate_denied.get(bar.symbol, 0) + 1 if bar.rate_denied else 0
    invalid = state.invalid_actions.get(bar.symbol, 0) + 1 if bar.invalid_action else 0
    state = dataclasses.replace(
        state,
        rate_denied={**state.rate_denied, bar.symbol: denied},
        invalid_actions={**state.invalid_actions, bar.symbol: invalid},
    )
    rate, action = config.max_rate_denied_bars, config.max_invalid_actions
    return state, (
        *_counted("rate_denied", denied, rate, "bars were over the order rate", config),
        *_counted("invalid_action", invalid, action, "actions were invalid", config),
    )


def _journal(write: JournalWrite, config: RiskConfig) -> tuple[Trip, ...]:
    if not write.written:
        return (_reduce("journal", "a write failed"),)
    limit = config.max_slow_writes
    return _counted("slow_journal", write.slow, limit, "writes were slow", config)


def _transferred(state: Breakers, transfer: Transfer) -> Breakers:
    """Readings between a deposit and its acknowledgement counted it as profit: take it out."""
    cash, day = transfer.cash, transfer.venue_ms // _DAY_MS
    last, peak, day_start = state.last, state.peak, state.day_start
    if last is not None and last.venue_ms >= transfer.venue_ms:
        last = EquityRead(last.equity - cash, last.venue_ms)
    if cash > 0 and state.peak_ms >= transfer.venue_ms:
        peak = max(peak - cash, state.initial)
    if day < state.day and day_start - cash > 0:
        day_start -= cash
    return dataclasses.replace(
        state, transfers=state.transfers + cash, last=last, peak=peak, day_start=day_start
    )


def _equity(
    state: Breakers, read: EquityRead, config: RiskConfig
) -> tuple[Breakers, tuple[Trip, ...]]:
    before = state.last
    if before is not None and read.venue_ms <= before.venue_ms:
        return state, ()  # the same snapshot again, or an older one
    now = EquityRead(read.equity - state.transfers, read.venue_ms)
    state = dataclasses.replace(state, last=now)
    day = now.venue_ms // _DAY_MS
    if day > state.day:
        # The day begins with what it was reached with: the lower of the readings around midnight,
        # so that one wrong high number does not make the whole day a loss.
        around = now.equity if before is None else min(before.equity, now.equity)
        start = around if around > 0 else state.day_start
        state = dataclasses.replace(state, day=day, day_start=start)
    if before is None:
        return state, ()
    agreed_low, agreed_high = max(before.equity, now.equity), min(before.equity, now.equity)
    if agreed_high > state.peak:
        state = dataclasses.replace(state, peak=agreed_high, peak_ms=now.venue_ms)
    return state, _losses(state, agreed_low, config)


def _losses(state: Breakers, equity: Decimal, config: RiskConfig) -> tuple[Trip, ...]:
    """The loss breakers at an equity, quote units net of transfers."""
    trips = []
    threshold = state.bankrupt_threshold
    if threshold is not None and (equity <= 0 or equity < state.initial * Decimal(repr(threshold))):
        trips.append(_halt("bankrupt", f"equity {equity:f}", flatten=True))
    for code, baseline, limit in (
        ("daily_loss", state.day_start, config.daily_loss_limit),
        ("drawdown", state.peak, config.max_drawdown),
    ):
        lost = loss(baseline, equity)
        if code in config.disabled or lost < Decimal(repr(limit)):
            continue
        detail = f"{float(lost):.2%} of {baseline:f}, the limit is {limit:.2%}"
        reduces = config.breaker_action == "reduce"
        trips.append(_reduce(code, detail) if reduces else _halt(code, detail, flatten=True))
    return tuple(trips)
