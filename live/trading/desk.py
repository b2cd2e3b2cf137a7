"""The standing of an account: latches, degradation, breakers and equity, in one place.

Everything that may stop trading passes here, is journalled here, and is told from here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal

from live.journal import Journal
from live.risk import Latch, RiskConfig, Standing, TradingState
from live.risk.breakers import Breakers
from live.risk.readings import EquityRead, Reading, Trip
from live.types import Balance, Snapshot

_log = logging.getLogger("live.trading.desk")


class Desk:
    """The mutable standing of one account.

    Args:
      tell: called with what people should hear of: a word and a sentence.
    """

    def __init__(
        self,
        journal: Journal,
        risk: RiskConfig,
        *,
        bankrupt_threshold: float | None = 0.1,
        tell: Callable[[str, str], None] = lambda kind, text: None,
    ) -> None:
        self._journal, self._risk, self._tell = journal, risk, tell
        self._threshold = bankrupt_threshold
        self._breakers: Breakers | None = None
        latches = (
            Latch(TradingState(row.state), row.reason, row.detail) for row in journal.latches()
        )
        self.standing = Standing(tuple(latches))
        self.balance: Balance | None = None
        # What a breaker asked for and nobody has carried out yet.
        self.flatten_reason: str | None = None

    @property
    def state(self) -> TradingState:
        """What is permitted now."""
        return self.standing.state

    @property
    def breakers(self) -> Breakers | None:
        """What losses are measured from; None before the first equity."""
        return self._breakers

    def latch(self, latch: Latch) -> None:
        """Stop until a person resumes; the same reason twice is one."""
        before = self.standing
        self.standing = before.latched(latch)
        if self.standing == before:
            return
        self._journal.latch(latch.state, latch.reason, latch.detail)
        _log.warning("latched %s(%s): %s", latch.state, latch.reason, latch.detail)
        self._tell(str(latch.state), f"{latch.reason}: {latch.detail}")

    def degrade(self, reason: str) -> None:
        """Open nothing while a reason lasts."""
        if reason not in self.standing.degraded:
            _log.warning("degraded: %s", reason)
        self.standing = self.standing.degrade(reason)

    def recover(self, reason: str) -> None:
        """A reason is gone; the next complete look ends the degradation."""
        self.standing = self.standing.recover(reason)

    def reconciled(self) -> None:
        """A complete look at the venue agreed with the journal."""
        self.standing = self.standing.reconciled()

    def resume(self, by: str, reason: str, *, reset_baseline: bool = False) -> int:
        """Clear every latch, with the name and the words of who does it; their number.

        Raises:
          ValueError: a cause persists.
        """
        if self._breakers is not None:
            equity = None
            if reset_baseline and self.balance is not None:
                equity = self.balance.equity
                self._journal.reset_baseline(
                    self.balance.venue_time_ms, equity, self.balance.available
                )
            resumed = self._breakers.resumed(equity=equity)
            persisting = resumed.persisting(self._risk)
            if persisting:
                causes = "; ".join(trip.detail for trip in persisting)
                raise ValueError(f"resume: the cause persists: {causes}")
            self._breakers = resumed
        cleared = self._journal.clear_latches(by, reason)
        self.standing = self.standing.cleared()
        self.flatten_reason = None
        return cleared

    def read(self, snapshot: Snapshot) -> None:
        """One reading of equity: journalled, and told to the breakers."""
        balance = snapshot.balance
        position = snapshot.position
        self.balance = balance
        self._journal.record_equity(
            balance.venue_time_ms,
            balance.equity,
            balance.available,
            quantity=getattr(position, "quantity", Decimal(0)),
            mark=snapshot.quote.mark,
        )
        if self._breakers is None:
            initial = self._journal.baseline() or balance.equity
            self._breakers = Breakers.start(
                initial,
                balance.venue_time_ms,
                peak=self._journal.peak(),
                day_start=self._journal.day_start(),
                bankrupt_threshold=self._threshold,
            )
        self.note(EquityRead(balance.equity, balance.venue_time_ms))

    def note(self, reading: Reading) -> tuple[Trip, ...]:
        """Something the breakers watch; what they ask for is latched here."""
        if self._breakers is None:
            return ()
        self._breakers, trips = self._breakers.update(reading, self._risk)
        for trip in trips:
            if trip.latch is not None:
                self.latch(trip.latch)
            else:
                self._tell("alarm", f"{trip.code}: {trip.detail}")
            if trip.flatten and self.flatten_reason is None:
                self.flatten_reason = trip.code
        return trips
