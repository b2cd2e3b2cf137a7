"""What is known, put in front of the risk gate; what the gate denies, put in the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from live.allocation import allotted
from live.clock import Clock, denial_of, uncertainty_of
from live.journal import Journal
from live.risk.context import RiskContext
from live.risk.gate import Allow, Deny, check
from live.trading.desk import Desk
from live.trading.judged import readings_of
from live.trading.terms import TraderConfig
from live.types import Instrument, Intent, Position, Snapshot
from live.venue import Venue

Denied = tuple[tuple[Intent, Deny], ...]


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """The gate of one symbol.

    Attributes:
      frame: name of the execution frame, bar_ms: its length.
      sending: whether a request that changes the symbol is on its way.
      proven: host, mode and account are what the configuration says.
    """

    venue: Venue
    journal: Journal
    clock: Clock
    desk: Desk
    config: TraderConfig
    frame: str
    bar_ms: int
    sending: Callable[[], bool]
    proven: bool = True

    def passed(
        self, intents: Sequence[Intent], snapshot: Snapshot
    ) -> tuple[tuple[Intent, ...], Denied]:
        """Those that pass, up to the first that does not: what follows it depends on it."""
        allowed: list[Intent] = []
        for intent in intents:
            denial = self.denial(intent, snapshot.instrument, snapshot.position, snapshot)
            if denial is not None:
                return tuple(allowed), ((intent, denial),)
            allowed.append(intent)
        return tuple(allowed), ()

    def denial(
        self,
        intent: Intent,
        instrument: Instrument,
        position: Position,
        snapshot: Snapshot | None = None,
    ) -> Deny | None:
        """Why an intent may not be sent; journalled. None: it may, or the gate only reports.

        Args:
          snapshot: what it was decided on; exits and protection go without one.
        """
        context = self.context(instrument, position, snapshot)
        verdict = check(intent, context, self.config.risk)
        if isinstance(verdict, Allow):
            return None
        enforced = self.config.enforce_risk
        body: dict[str, Any] = {
            "code": verdict.code,
            "detail": verdict.detail,
            "role": intent.role,
        }
        if snapshot is not None:
            # What the gate was told is gone afterwards: clock, disk, rates, states.
            body |= {"bar_open_ms": snapshot.bar_open_ms, "readings": readings_of(context)}
        self.journal.event("denied" if enforced else "would_deny", instrument.symbol, body)
        return verdict if enforced else None

    def context(
        self, instrument: Instrument, position: Position, snapshot: Snapshot | None
    ) -> RiskContext:
        """Everything the gate asks for; what a decision alone knows is missing without one."""
        symbol, decision = instrument.symbol, self.config.decision
        now, rate = self.clock.now_ms(), self.desk.rate.at(self.clock.now_ms())
        free = self.journal.free_bytes()
        known = RiskContext(
            state=self.desk.standing_of(symbol).state,
            frozen=bool(self.journal.unresolved(symbol)),
            in_flight=self.sending(),
            allowed_symbols=frozenset({symbol}),
            environment_proven=self.proven,
            venue_time_ms=now,
            entry_window_ms=self.config.entry_window * 1000,
            clock_uncertainty_ms=uncertainty_of(self.clock),
            clock_limit_ms=self.config.sends.good_clock_ms,
            clock_denial=denial_of(self.clock),
            journal_writable=self.journal.health.failure is None,
            disk_ok=free is None or free > 0,
            instrument=instrument,
            position=position,
            journal_quantity=self.journal.position(symbol),
            leverage=Decimal(repr(decision.leverage)),
            fee=Decimal(repr(decision.fee)),
            other_notional=self.desk.other_notional(symbol),
            orders_minute=rate.minute,
            orders_day=rate.of_day,
            repeated=False,
            stop_possible=self.venue.capabilities.venue_stops,
            venue_reduce_only=self.venue.capabilities.reduce_only,
        )
        return known if snapshot is None else self._decided(known, snapshot, now)

    def _decided(self, known: RiskContext, snapshot: Snapshot, now_ms: int) -> RiskContext:
        age = self.clock.monotonic() * 1e3 - snapshot.received_monotonic_ns / 1e6
        bars = snapshot.bars.get(self.frame)
        return replace(
            known,
            market_status=snapshot.market_status,
            snapshot_age_ms=max(age, 0.0),
            lateness_ms=now_ms - (snapshot.bar_open_ms + self.bar_ms),
            quote=snapshot.quote,
            last_close=None if bars is None else Decimal(repr(float(bars.ohlcv[-1, 3]))),
            equity=allotted(snapshot.balance.equity, self.config.decision.allocation),
            account_equity=snapshot.balance.equity,
            available=snapshot.balance.available,
        )
