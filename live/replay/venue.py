"""A venue in memory: the account of the environments behind the protocol of the exchanges.

Orders fill by `jaxtrade.core` at the price the environment would execute them at; time is a
virtual clock that `ReplayVenue.advance` alone moves. Reads change nothing and may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from live.clock import VirtualClock
from live.replay.account import SimulatedAccount
from live.replay.book import exact
from live.replay.data import BarRecord, ReplayData
from live.replay.filters import CAPABILITIES, DEFAULT_SYMBOL, unfiltered
from live.replay.money import ReplayTerms, Standing
from live.replay.tape import Tape
from live.types import (
    Absent,
    AccountInfo,
    Answer,
    Balance,
    Bars,
    Bracket,
    Configured,
    Fill,
    Found,
    Instrument,
    Intent,
    MarginMode,
    OrderReport,
    Outcome,
    Position,
    PositionMode,
    Quote,
    Side,
)
from live.venue import EventKind, VenueEvent


class ReplayVenue:
    """`live.venue.Venue` over a frame of past bars.

    At bar n the quote is what an order would execute at: bid for a sale, ask for a purchase, with
    spread, slippage and the step's draw; the mark is the close of bar n. A market order fills at
    once and whole. Stop and target belong to the position; the next bar acts on them.

    Args:
      data: what is replayed (`ReplayData.from_frame`).
      terms: costs and terms of the account.
      symbol: canonical name. instrument: filters of a real one; None = none.
      draws: [steps] uniforms in [0, 1), one per step from the start on, whether or not it trades;
        None = 0.5 each. The environment's draws give the environment's prices.
      start: START of the first bar, ms; None = the first bar with full windows.
      clock: to be moved by `advance`; None = one of its own.

    Attributes:
      clock: the virtual clock. records: one per bar passed since the reset.
    """

    name = "replay"
    capabilities = CAPABILITIES

    def __init__(
        self,
        data: ReplayData,
        terms: ReplayTerms,
        *,
        symbol: str = DEFAULT_SYMBOL,
        instrument: Instrument | None = None,
        draws: Any = None,
        start: int | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        self.data, self.terms = data, terms
        self._tape = Tape(data, draws, start)
        self._queues: list[asyncio.Queue[VenueEvent | None]] = []
        listed = instrument or unfiltered(terms, symbol)
        self._account = SimulatedAccount(terms, listed, self._tell)
        self.clock = VirtualClock() if clock is None else clock
        self.records: list[BarRecord] = []
        self.clock.rewind(self.decision_ms)

    # Time.

    def reset(self, start: int | None = None) -> None:
        """Rewind data, account and clock together.

        Args:
          start: START of the first bar, ms; None = as constructed.

        Raises:
          ValueError: no usable bar starts then.
        """
        self._tape.rewind(start)
        self._account.reset()
        self.records.clear()
        self.clock.rewind(self.decision_ms)

    def advance(self) -> BarRecord:
        """Let the next bar pass over the position, pay funding, and move the clock to its end.

        Raises:
          EndOfDataError: there is no next bar.
        """
        draw = self._tape.draw
        self._tape.advance()
        passed = self._account.pass_bar(
            self._tape.prices, draw, self._tape.funding, self.decision_ms
        )
        record = BarRecord(
            open_ms=self.bar_open_ms,
            exit_kind=passed.kind,
            exit_price=passed.price,
            exit_fee=passed.fee,
            funding=passed.funding,
            equity=self.standing.equity,
        )
        self.records.append(record)
        self.clock.advance_to(self.decision_ms)
        return record

    @property
    def symbol(self) -> str:
        """Canonical name of what is traded."""
        return self._account.instrument.symbol

    @property
    def bar(self) -> int:
        """Number of the newest closed execution bar."""
        return self._tape.bar

    @property
    def bar_open_ms(self) -> int:
        """Its START."""
        return self._tape.open_ms

    @property
    def decision_ms(self) -> int:
        """Its end: the instant at which the venue stands."""
        return self._tape.end_ms

    @property
    def exhausted(self) -> bool:
        """Whether the newest bar is the last one, of the data or that a draw was given for."""
        return self._tape.exhausted

    @property
    def mark(self) -> float:
        """Close of the newest bar."""
        return self._tape.prices[-1]

    @property
    def standing(self) -> Standing:
        """The account at the mark, in float64."""
        return self._account.standing(self.mark)

    @property
    def _base(self) -> float:
        """Un-slipped price of an order sent now."""
        return self._tape.next_open if self.terms.rules.fill_at == "next_open" else self.mark

    def _price(self, side: Side) -> float:
        return self._account.price(self._base, side.sign, self._tape.draw)

    # The protocol.

    async def connect(self) -> None:
        """Nothing to connect."""
        self._tell(VenueEvent(EventKind.CONNECTED))

    async def close(self) -> None:
        """End every stream of events."""
        for queue in self._queues:
            queue.put_nowait(None)
        self._queues.clear()

    async def server_time(self) -> int:
        """The reading of the virtual clock."""
        return self.clock.now_ms()

    async def instrument(self, symbol: str) -> Instrument:
        """The one instrument.

        Raises:
          ValueError: another symbol.
        """
        listed = self._account.instrument
        if symbol != listed.symbol:
            raise ValueError(f"symbol {symbol}: is not listed; the replay has {listed.symbol}.")
        return listed

    async def listing(self, symbol: str) -> Instrument:
        """The one instrument; it always trades."""
        return await self.instrument(symbol)

    async def account(self) -> AccountInfo:
        """An account that may trade in isolated margin."""
        return AccountInfo(
            account_id="replay",
            permissions=frozenset({"trade"}),
            margin_mode=MarginMode.ISOLATED,
            position_mode=PositionMode.ONE_WAY,
        )

    async def configure(
        self,
        symbol: str,
        leverage: Decimal,
        margin_mode: MarginMode,
        position_mode: PositionMode,
        *,
        account_wide: bool = False,
    ) -> Configured:
        """Compare the settings with those the replay was made with; it changes none.

        Raises:
          ValueError: they differ, or the symbol is another.
        """
        del account_wide
        actual = await self.settings(symbol)
        asked = Configured(leverage, margin_mode, position_mode)
        if (float(leverage), margin_mode, position_mode) != (
            self.terms.leverage,
            actual.margin_mode,
            actual.position_mode,
        ):
            raise ValueError(f"replay: runs with {actual}, asked for {asked}; make it with those.")
        return actual

    async def settings(self, symbol: str) -> Configured:
        """Those that the replay was made with."""
        await self.instrument(symbol)
        return Configured(exact(self.terms.leverage), MarginMode.ISOLATED, PositionMode.ONE_WAY)

    async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
        """The newest ``count`` bars that have ended at the venue's instant."""
        await self.instrument(symbol)
        return self.data.closed(frame, self.decision_ms, count)

    async def position(self, symbol: str) -> Position:
        """Flat or held."""
        await self.instrument(symbol)
        return self._account.position(self.mark, self.decision_ms)

    async def balance(self) -> Balance:
        """Equity at the mark, and free cash."""
        return self._account.balance(self.mark, self.decision_ms)

    async def quote(self, symbol: str) -> Quote:
        """Prices that orders execute at, and the mark."""
        await self.instrument(symbol)
        bid, ask = self._price(Side.SELL), self._price(Side.BUY)
        return Quote(exact(bid), exact(ask), exact(self.mark), self.decision_ms)

    async def orders(self, symbol: str) -> tuple[OrderReport, ...]:
        """Stop and target of the position."""
        await self.instrument(symbol)
        return self._account.open_orders

    async def submit(self, intent: Intent) -> Outcome:
        """Carry out one intent; a market order is filled or refused when this returns."""
        return self._account.submit(intent, self._base, self._price(intent.side), self.decision_ms)

    async def cancel(
        self, symbol: str, client_id: str = "", *, venue_order_id: str = ""
    ) -> Outcome:
        """Cancel a stop or a target."""
        await self.instrument(symbol)
        return self._account.cancel(client_id, self.decision_ms, venue_order_id=venue_order_id)

    async def amend_protection(self, symbol: str, bracket: Bracket) -> Outcome:
        """Set, move or (None) remove stop and target of the position."""
        await self.instrument(symbol)
        return self._account.amend(bracket, self.decision_ms)

    async def query(self, symbol: str, client_id: str) -> Answer:
        """What became of an order; refused ones are absent."""
        await self.instrument(symbol)
        report = self._account.report(client_id)
        return Absent("orders") if report is None else Found(report)

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        """Every fill and funding payment since an instant, in order."""
        await self.instrument(symbol)
        return [fill for fill in self._account.fills if fill.venue_time_ms >= since_ms]

    async def events(self) -> AsyncIterator[VenueEvent]:
        """What happens from now on; ends when the venue is closed."""
        queue: asyncio.Queue[VenueEvent | None] = asyncio.Queue()
        self._queues.append(queue)
        while (event := await queue.get()) is not None:
            yield event

    def _tell(self, event: VenueEvent) -> None:
        for queue in self._queues:
            queue.put_nowait(event)
