"""What exists between the first `reset` and `close` of an environment, and how its bars pass."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from live.clock import Clock, newest_closed_bar, next_tick
from live.config.environments import ExchangeEnvConfig
from live.env.earning import is_wiped
from live.env.halt import LiveObservationHalt
from live.env.report import Listener, Told
from live.journal import Journal, JournalError
from live.orders import IntentState
from live.replay import EndOfDataError
from live.risk import Latch, TradingState
from live.trading.acts import View
from live.trading.beginning import agree, take_up
from live.trading.desk import Desk
from live.trading.steward import Steward
from live.types import Category, Role, UnreadableError
from live.venue import Venue

_log = logging.getLogger("live.env")

_ACCEPTED = (IntentState.ACKED, IntentState.PARTIAL, IntentState.FILLED)


class Running:
    """A connected venue, its account and its one symbol.

    Args:
      listener: hears of what the steward does.
      bar_delay: waited after a bar before it is read, seconds. look_every: between looks at the
        account while a step waits for its bar, seconds.

    Attributes:
      view: the newest one; None = nothing may be decided. told: since the view before.
      replay: the venue is one whose time the environment moves.
    """

    def __init__(
        self,
        config: ExchangeEnvConfig,
        venue: Venue,
        clock: Clock,
        journal: Journal,
        desk: Desk,
        steward: Steward,
        listener: Listener,
        *,
        bar_delay: float,
        look_every: float,
    ) -> None:
        self.config, self.venue, self.clock, self.journal = config, venue, clock, journal
        self.desk, self.trader, self.replay = desk, steward.trader, steward.config.simulated
        self.view: View | None = None
        # Keeps the clock on the venue's time; ends with `close`.
        self.keeping: asyncio.Future[None] | None = None
        self._steward, self._listener = steward, listener
        self._explained = self.replay
        self._delay_ms, self._look_every = round(bar_delay * 1000), look_every
        self._shown_at = clock.monotonic()
        self._asked = False
        steward.again = self._look_soon
        self._counted, journal.health.told = journal.health.told, self._committed

    @property
    def told(self) -> Told:
        """What happened since the view before."""
        return self._listener.told

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

    async def begin(self, closing: str | None) -> None:
        """Before the first view of an episode: what there is gets explained, once.

        Args:
          closing: why what is held is to be closed first; None = it is not.

        Raises:
          UnreadableError: the account cannot be read; nothing has changed.
        """
        self._listener.told = Told()
        if not self._explained:
            await take_up(self._steward, patient=False)
        if closing is not None:
            await self._steward.clear(closing)
        if not self._explained:
            await agree(self._steward, self.clock, None)
            self._explained = True

    async def look(self) -> View:
        """The newest closed bar, and what happened to the account since the one before.

        Raises:
          UnreadableError: it cannot be read; nothing has changed.
        """
        bar = getattr(self.venue, "bar_open_ms", None)
        if bar is None:
            bar = newest_closed_bar(self.clock.now_ms(), self.trader.bar_ms)
        view = await self._steward.see(bar)
        # Nobody knows when the next decision comes, which is what sees to the stop in a daemon.
        await self._steward.protect(view.snapshot)
        await self._steward.closing.if_asked()
        self.view, self._shown_at = view, self.clock.monotonic()
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
                await self._watch(after)
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

    async def _watch(self, after: int) -> None:
        """Look at the account now and then until the bar that follows ``after`` is about to end."""
        end_ms = after + 2 * self.trader.bar_ms
        while True:
            pause = self._steward.config.second_look if self._asked else self._look_every
            if not self.clock.now_ms() + pause * 1000 < end_ms:
                return  # the bar itself looks at everything
            await self.clock.sleep(pause)
            self._asked = False
            await self._steward.reconcile()
            await self._steward.closing.if_asked()

    def _look_soon(self) -> None:
        """A finding wants a second look before anything is done about it."""
        self._asked = True

    # Acting.

    async def act(self, action: Any) -> None:
        """Apply an action to the newest view; `told` says what came of it."""
        assert self.view is not None
        self._listener.told = told = Told()
        told.latencies.policy_ms = self._since(self._shown_at)
        begun = self.clock.monotonic()
        told.acted = await self._steward.carry_out(
            self.view, action, policy_ms=told.latencies.policy_ms
        )
        told.latencies.submit_ms = self._since(begun)

    # What ends an environment.

    async def ruined(self) -> bool:
        """Whether the account is worth too little to go on; of a venue two readings must say so."""
        assert self.view is not None
        if not self._too_little(float(self.view.snapshot.balance.equity)):
            return False
        if self.replay:
            return True
        again = await self._steward.reconcile()
        # Where it could not be read the next bar asks again.
        return again is not None and self._too_little(float(again.balance.equity))

    def _too_little(self, equity: float) -> bool:
        baseline = self.baseline
        enough = equity >= self.config.bankrupt_threshold * baseline
        return not enough or is_wiped(equity, baseline)

    async def end(self) -> None:
        """Bankrupt: nothing adds risk any more, and what is held is closed."""
        detail = f"equity below {self.config.bankrupt_threshold:g} of {self.baseline:g}"
        self.desk.latch(Latch(TradingState.HALTED, "bankrupt", detail))
        await self._steward.closing.flatten("bankrupt")

    def rearm(self, by: str, reason: str) -> None:
        """Accept what no order explains and clear every latch; what persists halts again.

        Raises:
          ValueError: a cause persists.
        """
        self.desk.acknowledge(by)
        self.desk.resume(by, reason, reset_baseline=True)
        self._steward.examiner.doubt(settings=True)
        self.view = None

    async def _missed(self, error: UnreadableError) -> None:
        """A bar that could not be read: go on to the next one, or stop.

        Raises:
          LiveObservationHalt: it was one too many, or the key was refused.
        """
        darkness, failure = self._steward.darkness, None
        try:
            ended = await darkness.missed(error)
            if not ended and getattr(error, "category", None) is Category.AUTH:
                ended = True  # asking again would only be worse
                await darkness.give_up(str(error))
        except (JournalError, UnreadableError) as problem:
            ended, failure = True, str(problem)
        if ended:
            # What was seen last is no observation of now.
            self.view = None
            raise self._halt(error, failure) from error

    def _halt(self, error: UnreadableError, failure: str | None) -> LiveObservationHalt:
        """What to tell of an end in the dark: how far closing came, where that was asked for."""
        policy, symbol = self.config.observation_failure_policy, self.trader.symbol
        if policy != "flatten":
            return LiveObservationHalt(error, policy)
        confirmed = failure is None and self.desk.flatten_reason(symbol) is None
        if not confirmed and failure is None:
            failure = "the account could not be read to be flat"
        sent = [
            row.state in _ACCEPTED
            for row in self.journal.intents(symbol, self.trader.bar)
            if row.role is Role.FLATTEN
        ]
        accepted = any(sent) if sent else None
        return LiveObservationHalt(error, policy, accepted, failure, confirmed)

    async def close(self) -> None:
        """Stop asking about orders in doubt, and release the venue."""
        self.journal.health.told = self._counted
        if self.keeping is not None:
            self.keeping.cancel()
            await asyncio.wait({self.keeping})
        await self.trader.close()
        await self.venue.close()

    def _committed(self, milliseconds: float) -> None:
        self.told.latencies.journal_ms += milliseconds
        if self._counted is not None:
            self._counted(milliseconds)

    def _since(self, begun: float) -> float:
        return (self.clock.monotonic() - begun) * 1000
