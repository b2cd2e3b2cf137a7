"""What exists between the first `reset` and `close` of an environment, and how its bars pass."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from live.clock import Clock, newest_closed_bar, next_tick
from live.config.environments import ExchangeEnvConfig
from live.env.earning import is_wiped
from live.env.halt import LiveObservationHalt
from live.env.report import Told, quantity_of
from live.journal import AlreadyDecidedError, Journal, JournalError
from live.orders import IntentState
from live.replay import EndOfDataError
from live.risk import Latch, TradingState
from live.risk.readings import Answered, AuthFailed, BarDecided, JournalWrite
from live.trading.acts import View
from live.trading.desk import Desk
from live.trading.trader import SymbolTrader
from live.types import Category, Fill, Flat, Held, Role, UnreadableError
from live.venue import Venue

_log = logging.getLogger("live.env")

# Fills are read again from this long before the newest view: clocks differ a little.
_FILL_OVERLAP_MS = 60_000
_ACCEPTED = (IntentState.ACKED, IntentState.PARTIAL, IntentState.FILLED)


class Running:
    """A connected venue, its account and its one symbol.

    Args:
      replay: the venue is one whose time the environment moves.
      bar_delay: waited after a bar before it is read, seconds.

    Attributes:
      view: the newest one; None = nothing may be decided. told: since the view before.
    """

    def __init__(
        self,
        config: ExchangeEnvConfig,
        venue: Venue,
        clock: Clock,
        journal: Journal,
        desk: Desk,
        trader: SymbolTrader,
        *,
        replay: bool,
        bar_delay: float,
    ) -> None:
        self.config, self.venue, self.clock, self.journal = config, venue, clock, journal
        self.desk, self.trader, self.replay = desk, trader, replay
        self.view: View | None = None
        self.told = Told()
        # Keeps the clock on the venue's time; ends with `close`.
        self.keeping: asyncio.Future[None] | None = None
        self._delay_ms = round(bar_delay * 1000)
        self._shown_at = clock.monotonic()
        self._unreadable = 0
        self._heard, trader.filled = trader.filled, self._filled
        self._counted, journal.health.told = journal.health.told, self._committed

    @property
    def exhausted(self) -> bool:
        """Whether a replay stands on its last bar."""
        return self.replay and bool(getattr(self.venue, "exhausted", False))

    @property
    def baseline(self) -> float:
        """Equity that bankruptcy is measured from: of the first start, or as taken again since."""
        baseline = self.journal.baseline()
        assert baseline is not None  # every view is journalled
        return float(baseline)

    # Looking.

    async def look(self) -> View:
        """The newest closed bar, and what happened to the account since the one before.

        Raises:
          UnreadableError: it cannot be read; nothing has changed.
        """
        bar = getattr(self.venue, "bar_open_ms", None)
        if bar is None:
            bar = newest_closed_bar(self.clock.now_ms(), self.trader.bar_ms)
        before, begun = self.view, self.clock.monotonic()
        view = await self.trader.look(bar)
        self.told.latencies.snapshot_ms = self._since(begun)
        self.view, self._unreadable = view, 0
        self.desk.recover("unreadable", self.trader.symbol)
        self.desk.read(view.snapshot)
        since = view if before is None else before
        overlap = 0 if self.replay else _FILL_OVERLAP_MS
        fills = await self.trader.executor.fetch_fills(since.snapshot.venue_time_ms - overlap)
        booked = float(self.journal.position(self.trader.symbol))
        if fills is not None and booked == quantity_of(view.snapshot.position):
            self.desk.reconciled(self.trader.symbol)
        if not self.replay:
            await self.trader.protect(view.snapshot)
        await self._flatten_if_asked()
        self._shown_at = self.clock.monotonic()
        return view

    async def next(self) -> View:
        """The next bar that can be read.

        Raises:
          LiveObservationHalt: too many bars in a row could not be.
        """
        assert self.view is not None
        after = self.view.snapshot.bar_open_ms
        while True:
            if self.replay:
                self._advance()
            else:
                tick = await next_tick(
                    self.clock, self.trader.bar_ms, after=after, delay_ms=self._delay_ms
                )
                after = tick.bar_open_ms
            try:
                return await self.look()
            except UnreadableError as error:
                await self._missed(error)

    def _advance(self) -> None:
        """Let the next bar of a replay pass; the last one may turn out not to be readable."""
        if self.exhausted:
            self.view = None
            error = EndOfDataError("replay: the data ended before a bar could be read.")
            raise LiveObservationHalt(error, self.config.observation_failure_policy)
        advance: Any = self.venue
        advance.advance()

    # Acting.

    async def act(self, action: Any) -> None:
        """Apply an action to the newest view; `told` says what came of it."""
        assert self.view is not None
        self.told = told = Told()
        told.latencies.policy_ms = self._since(self._shown_at)
        begun, symbol = self.clock.monotonic(), self.trader.symbol
        try:
            acted = await self.trader.act(self.view, action, policy_ms=told.latencies.policy_ms)
        except AlreadyDecidedError as error:  # by an earlier life of this journal
            self.trader.forget_level()
            self.journal.event("repeated_bar", symbol, {"detail": str(error)})
            told.refused = "repeated_bar"
            return
        except UnreadableError as error:
            self._noted(error)
            told.refused = "unreadable"
            return
        finally:
            told.latencies.submit_ms = self._since(begun)
        told.acted = acted
        for sent in acted.sent:
            self.desk.note(Answered(sent.outcome))
        health = self.journal.health
        self.desk.note(JournalWrite(health.failure is None, health.slow_in_a_row))
        codes = {deny.code for _, deny in acted.denied}
        self.desk.note(
            BarDecided(
                rate_denied=bool(codes & {"rate_minute", "rate_day"}),
                invalid_action=acted.plans[0].refused == "invalid_action",
                symbol=symbol,
            )
        )

    async def _flatten_if_asked(self) -> None:
        """Carry out what a breaker asked for, where limits act."""
        symbol = self.trader.symbol
        reason = self.desk.flatten_reason(symbol)
        if reason is None or not self.trader.config.enforce_risk:
            return
        if await self.trader.flatten(f"breaker: {reason}"):
            self.desk.flattened(symbol)

    # What ends an environment.

    async def ruined(self) -> bool:
        """Whether the account is worth too little to go on; of a venue two readings must say so."""
        assert self.view is not None
        if not self._too_little(float(self.view.snapshot.balance.equity)):
            return False
        if self.replay:
            return True
        try:
            again = await self.trader.glance(self.view.snapshot.bar_open_ms)
        except UnreadableError as error:
            self._noted(error)
            return False  # the next bar asks again
        return self._too_little(float(again.balance.equity))

    def _too_little(self, equity: float) -> bool:
        baseline = self.baseline
        enough = equity >= self.config.bankrupt_threshold * baseline
        return not enough or is_wiped(equity, baseline)

    async def end(self) -> None:
        """Bankrupt: nothing adds risk any more, and what is held is closed."""
        detail = f"equity below {self.config.bankrupt_threshold:g} of {self.baseline:g}"
        self.desk.latch(Latch(TradingState.HALTED, "bankrupt", detail))
        await self.trader.flatten("bankrupt")

    def _noted(self, error: UnreadableError) -> None:
        """Something could not be read: nothing is opened until it can."""
        self.desk.degrade("unreadable", self.trader.symbol)
        self.journal.event("unreadable", self.trader.symbol, {"detail": str(error)})
        _log.warning("bar could not be read: %s", error)

    async def _missed(self, error: UnreadableError) -> None:
        """A bar that could not be read: go on to the next one, or stop.

        Raises:
          LiveObservationHalt: it was one too many, or the key was refused.
        """
        self._noted(error)
        self._unreadable += 1
        policy = self.config.observation_failure_policy
        refused = getattr(error, "category", None) is Category.AUTH
        if refused:  # asking again would only be worse
            self.desk.note(AuthFailed(str(error)))
        elif self._unreadable < self.config.unreadable_grace_bars or self._may_wait(policy):
            return
        self.desk.latch(Latch(TradingState.HALTED, "observation", str(error)))
        halt = LiveObservationHalt(error, policy)
        if policy == "flatten":
            halt = await self._flattened(error)
        # What was seen last is no observation of now.
        self.view = None
        raise halt from error

    def _may_wait(self, policy: str) -> bool:
        """Whether a position that nobody can see is safe with its venue."""
        assert self.view is not None
        match self.view.snapshot.position:
            case Flat():
                return policy == "hold"
            case Held() as held:
                return policy == "hold" and held.stop_price is not None
            case _:
                return False

    async def _flattened(self, error: UnreadableError) -> LiveObservationHalt:
        """Cancel what rests, close what is held, and say how far that came."""
        failure, confirmed = None, False
        try:
            await self.trader.cancel_resting()
            confirmed = await self.trader.flatten("unreadable")
        except (JournalError, UnreadableError) as problem:
            failure = str(problem)
        if not confirmed and failure is None:
            failure = "the account could not be read to be flat"
        sent = [
            row.state in _ACCEPTED
            for row in self.journal.intents(self.trader.symbol, self.trader.bar)
            if row.role is Role.FLATTEN
        ]
        accepted = any(sent) if sent else None
        return LiveObservationHalt(error, "flatten", accepted, failure, confirmed)

    async def close(self) -> None:
        """Stop asking about orders in doubt, and release the venue."""
        self.journal.health.told = self._counted
        if self.keeping is not None:
            self.keeping.cancel()
            await asyncio.wait({self.keeping})
        await self.trader.close()
        await self.venue.close()

    # Listening.

    def _filled(self, fill: Fill, cause: Any) -> None:
        self.told.fills.append(fill)
        self._heard(fill, cause)

    def _committed(self, milliseconds: float) -> None:
        self.told.latencies.journal_ms += milliseconds
        if self._counted is not None:
            self._counted(milliseconds)

    def _since(self, begun: float) -> float:
        return (self.clock.monotonic() - begun) * 1000
