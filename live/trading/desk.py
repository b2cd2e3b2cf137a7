"""The standing of an account: latches, degradation, breakers and what all symbols share.

Everything that may stop trading passes here, is journalled here, and is told from here. Latches
hold for the account; what degrades does so symbol by symbol.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from decimal import Decimal

from live.clock import Clock
from live.journal import Journal
from live.journal.reading import DAY_MS
from live.journal.rows import EquityMarks
from live.risk import Latch, OrderRate, RiskConfig, Standing, TradingState
from live.risk.breakers import Breakers
from live.risk.readings import EquityRead, Reading, Transfer, Trip
from live.trading.unexplained import refuse_unexplained
from live.types import Balance, Snapshot, confirmed_quantity

_log = logging.getLogger("live.trading.desk")


class Desk:
    """The mutable standing of one account.

    Args:
      symbols: that are traded, canonical.
      tell: called with what people should hear of: a word and a sentence.

    Attributes:
      balance: newest reading of the account. rate: orders that were sent and add risk.
    """

    def __init__(
        self,
        journal: Journal,
        risk: RiskConfig,
        symbols: Iterable[str],
        clock: Clock,
        *,
        bankrupt_threshold: float | None = 0.1,
        tell: Callable[[str, str], None] = lambda kind, text: None,
    ) -> None:
        self._journal, self._risk, self._tell = journal, risk, tell
        self._threshold = bankrupt_threshold
        self._breakers: Breakers | None = None
        self._latches = Standing(
            tuple(
                Latch(TradingState(row.state), row.reason, row.detail) for row in journal.latches()
            )
        )
        self._symbols = dict.fromkeys(symbols, Standing())
        self._notional = dict.fromkeys(self._symbols, Decimal(0))
        self._to_flatten: dict[str, str] = {}
        self.balance: Balance | None = None
        now = clock.now_ms()
        self.rate = OrderRate.of(journal.entries_sent(now - DAY_MS), now)

    # Standing.

    def standing_of(self, symbol: str) -> Standing:
        """What holds for a symbol: the account's latches and its own reasons."""
        return dataclasses.replace(self._symbols[symbol], latches=self._latches.latches)

    @property
    def standing(self) -> Standing:
        """The worst of all symbols."""
        reasons = (one.degraded for one in self._symbols.values())
        return Standing(
            self._latches.latches,
            frozenset().union(*reasons),
            any(one.recovering for one in self._symbols.values()),
        )

    @property
    def state(self) -> TradingState:
        """What is permitted now, in the symbol where least is."""
        return self.standing.state

    @property
    def breakers(self) -> Breakers | None:
        """What losses are measured from; None before the first equity."""
        return self._breakers

    def latch(self, latch: Latch) -> None:
        """Stop until a person resumes; the same reason twice is one."""
        before = self._latches
        self._latches = before.latched(latch)
        if self._latches == before:
            return
        self._journal.latch(latch.state, latch.reason, latch.detail)
        _log.warning("latched %s(%s): %s", latch.state, latch.reason, latch.detail)
        self._tell(str(latch.state), f"{latch.reason}: {latch.detail}")

    def degrade(self, reason: str, symbol: str | None = None) -> None:
        """Open nothing in a symbol, or in any, while a reason lasts."""
        for one in self._named(symbol):
            if reason not in self._symbols[one].degraded:
                _log.warning("degraded: %s: %s", one, reason)
            self._symbols[one] = self._symbols[one].degrade(reason)

    def recover(self, reason: str, symbol: str | None = None) -> None:
        """A reason is gone; the next complete look ends the degradation."""
        for one in self._named(symbol):
            self._symbols[one] = self._symbols[one].recover(reason)

    def reconciled(self, symbol: str) -> None:
        """A complete look at the symbol agreed with the journal."""
        self._symbols[symbol] = self._symbols[symbol].reconciled()

    def _named(self, symbol: str | None) -> Iterable[str]:
        return tuple(self._symbols) if symbol is None else (symbol,)

    def resume(self, by: str, reason: str, *, reset_baseline: bool = False) -> int:
        """Clear every latch, with the name and the words of who does it; their number.

        Raises:
          ValueError: a cause persists, or changes that no order explains wait for somebody.
        """
        refuse_unexplained(self._journal)
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
        self._latches = self._latches.cleared()
        self._to_flatten.clear()
        _log.info("resumed by %s: %s (%d latches cleared)", by, reason, cleared)
        return cleared

    def acknowledge(self, by: str, symbol: str | None = None) -> int:
        """Accept changes that no order explains, of a symbol or of all; their number.

        Money that came or went is no profit and no loss: what losses are measured from moves by it.
        """
        moved = [
            row
            for row in self._journal.adjustments(acknowledged=False)
            if row.cash and symbol in (None, row.symbol)
        ]
        number = self._journal.acknowledge(by, symbol)
        for row in moved:
            self.note(Transfer(row.cash, row.venue_ms))
        breakers, balance = self._breakers, self.balance
        if moved and breakers is not None and balance is not None:
            came = breakers.transfers
            marks = (breakers.initial + came, breakers.peak + came, breakers.day_start + came)
            self._journal.restate(
                EquityMarks(*marks, balance.venue_time_ms), balance.equity, balance.available
            )
        return number

    # What breakers ask for.

    def flatten_reason(self, symbol: str) -> str | None:
        """Why a position is to be closed, as long as nobody has closed it."""
        return self._to_flatten.get(symbol)

    def close(self, symbol: str, reason: str) -> None:
        """Ask for a position to be closed, until it is; the first reason stays."""
        self._to_flatten.setdefault(symbol, reason)

    def flattened(self, symbol: str) -> None:
        """That was done."""
        self._to_flatten.pop(symbol, None)

    # What all symbols share.

    def entered(self, now_ms: int) -> None:
        """An order that adds risk was sent."""
        self.rate = self.rate.sent(now_ms)

    def other_notional(self, symbol: str) -> Decimal:
        """Gross notional of the positions in other symbols as last read, quote units."""
        return sum(
            (value for one, value in self._notional.items() if one != symbol), start=Decimal(0)
        )

    def read(self, snapshot: Snapshot) -> None:
        """One reading of the account: equity is journalled, and told to the breakers."""
        balance, position = snapshot.balance, snapshot.position
        symbol = snapshot.instrument.symbol
        alone, quantity = len(self._symbols) == 1, confirmed_quantity(position)
        self._notional[symbol] = abs(quantity) * snapshot.quote.mark
        if self.balance is not None and balance.venue_time_ms <= self.balance.venue_time_ms:
            return  # many symbols share one reading
        self.balance = balance
        self._journal.record_equity(
            balance.venue_time_ms,
            balance.equity,
            balance.available,
            # Of one symbol these explain the equity; of several they would not.
            quantity=quantity if alone else None,
            mark=snapshot.quote.mark if alone else None,
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

    def note(self, reading: Reading, symbol: str | None = None) -> tuple[Trip, ...]:
        """Something the breakers watch; what they ask for is latched here.

        Args:
          symbol: whose position a breaker would close; None = every one.
        """
        if self._breakers is None:
            return ()
        self._breakers, trips = self._breakers.update(reading, self._risk)
        for trip in trips:
            if trip.latch is not None:
                self.latch(trip.latch)
            else:
                self._tell("alarm", f"{trip.code}: {trip.detail}")
            if trip.flatten:
                for one in self._named(symbol):
                    self.close(one, trip.code)
        return trips
