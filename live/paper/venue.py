"""A paper account: orders fill in memory at the prices that a real venue publishes.

Bars and quotes come from the venue, without keys; no order endpoint is ever called. Brackets act on
the bars that close after the entry, as in the environments.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from live.clock import Clock, newest_closed_bar
from live.paper.account import Line, PaperAccount
from live.replay.account import SimulatedAccount
from live.replay.filters import CAPABILITIES
from live.replay.money import ReplayTerms
from live.types import (
    Absent,
    AccountInfo,
    Answer,
    Balance,
    Bars,
    Bracket,
    Certainty,
    Configured,
    Definitive,
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
    UnreadableError,
)
from live.venue import EventKind, Usage, Venue, VenueEvent, usage_of

_log = logging.getLogger("live.paper")

# The middle of the range: spread and slippage are those of the terms, without luck.
_DRAW = 0.5


class PaperVenue:
    """`live.venue.Venue` with the prices of one venue and an account of its own.

    Args:
      market: where bars, quotes and filters come from. terms: costs and terms of the account.
      frame: name of the execution frame, whose bars act on positions. bar_ms: its length.
      folder: where the account outlives the process; None = in memory alone.
      symbols: canonical names of all that is traded; none = whichever are read.
    """

    capabilities = CAPABILITIES

    def __init__(
        self,
        market: Venue,
        terms: ReplayTerms,
        clock: Clock,
        *,
        frame: str,
        bar_ms: int,
        folder: Path | None = None,
        symbols: Collection[str] = (),
    ) -> None:
        self.name = f"paper on {market.name}"
        self.market, self._clock = market, clock
        self._frame, self._bar_ms = frame, bar_ms
        self._account = PaperAccount(terms, self._tell, folder)
        self._symbols = frozenset(symbols)
        self._settings: dict[str, Configured] = {}
        self._queue: asyncio.Queue[VenueEvent | None] = asyncio.Queue()

    async def connect(self) -> None:
        """Connect to the market data.

        Raises:
          PaperFileError: what an earlier process left cannot be used.
        """
        self._account.resume(self._symbols)
        await self.market.connect()
        self._queue.put_nowait(VenueEvent(EventKind.CONNECTED))

    async def close(self) -> None:
        """Release the market data."""
        self._queue.put_nowait(None)
        await self.market.close()

    def usage(self) -> Usage:
        """That of the market."""
        return usage_of(self.market)

    async def server_time(self) -> int:
        """That of the market."""
        return await self.market.server_time()

    async def instrument(self, symbol: str) -> Instrument:
        """The listed symbol, which the account trades from now on.

        Raises:
          PaperFileError: what an earlier process left of it cannot be used.
        """
        listed = await self.market.instrument(symbol)
        self._account.add(listed)
        return listed

    async def listing(self, symbol: str) -> Instrument:
        """As the market lists it, which the account then goes by."""
        listed = await self.market.listing(symbol)
        if self._account.knows(listed.symbol):
            self._account.add(listed)
        return listed

    async def account(self) -> AccountInfo:
        """An account that may trade."""
        return AccountInfo("paper", frozenset({"trade"}), MarginMode.ISOLATED, PositionMode.ONE_WAY)

    async def configure(
        self,
        symbol: str,
        leverage: Decimal,
        margin_mode: MarginMode,
        position_mode: PositionMode,
        *,
        account_wide: bool = False,
    ) -> Configured:
        """What the account was made with; it changes nothing."""
        del account_wide
        self._settings[symbol] = Configured(leverage, margin_mode, position_mode)
        return self._settings[symbol]

    async def settings(self, symbol: str) -> Configured:
        """What the account was made with.

        Raises:
          UnreadableError: nobody has said.
        """
        if symbol not in self._settings:
            raise UnreadableError("paper: was not configured yet; call configure() first.")
        return self._settings[symbol]

    async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
        """Those of the market."""
        return await self.market.closed_bars(symbol, frame, count)

    async def position(self, symbol: str) -> Position:
        """Flat or held, after every bar that has closed."""
        line = self._account.line(symbol)
        await self._pass(line)
        return line.account.position(await self._marked(line), self._clock.now_ms())

    async def balance(self) -> Balance:
        """Equity at the marks of everything that is held, and free cash."""
        await asyncio.gather(*(self._marked(line) for line in self._account.held))
        return self._account.balance(self._clock.now_ms())

    async def quote(self, symbol: str) -> Quote:
        """That of the market."""
        return await self.market.quote(symbol)

    async def orders(self, symbol: str) -> tuple[OrderReport, ...]:
        """Stop and target; they belong to the position and carry no id of ours."""
        legs = self._account.line(symbol).account.open_orders
        return tuple(replace(leg, client_id="") for leg in legs)

    async def submit(self, intent: Intent) -> Outcome:
        """Fill a market order at the close of the decision bar; nothing is sent anywhere."""
        line = self._account.line(intent.symbol)
        await self._pass(line)
        base = await self._close(intent.symbol)
        price = line.account.price(base, intent.side.sign, _DRAW)
        outcome = line.account.submit(intent, base, price, self._clock.now_ms())
        self._account.keep(line)
        what = f"{intent.side} {intent.quantity} {intent.symbol}"
        if isinstance(outcome, Definitive) and outcome.kind is Certainty.ACCEPTED:
            _log.info("[PAPER] %s @ %s", what, price)
        else:
            _log.warning("[PAPER] refused %s: %s", what, outcome)
        return outcome

    async def cancel(
        self, symbol: str, client_id: str = "", *, venue_order_id: str = ""
    ) -> Outcome:
        """Cancel a stop or a target."""
        line, now_ms = self._account.line(symbol), self._clock.now_ms()
        outcome = line.account.cancel(client_id, now_ms, venue_order_id=venue_order_id)
        self._account.keep(line)
        return outcome

    async def amend_protection(self, symbol: str, bracket: Bracket) -> Outcome:
        """Set, move or (None) remove stop and target of the position."""
        line = self._account.line(symbol)
        outcome = line.account.amend(bracket, self._clock.now_ms())
        self._account.keep(line)
        return outcome

    async def query(self, symbol: str, client_id: str) -> Answer:
        """What became of an order."""
        report = self._account.line(symbol).account.report(client_id)
        return Absent("order") if report is None else Found(report)

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        """Every fill since an instant."""
        account = self._account.line(symbol).account
        return [_shown(fill, account) for fill in account.fills if fill.venue_time_ms >= since_ms]

    async def events(self) -> AsyncIterator[VenueEvent]:
        """What happens to the account."""
        while (event := await self._queue.get()) is not None:
            yield event

    # The pieces.

    def _tell(self, event: VenueEvent) -> None:
        if event.fill is not None and event.symbol is not None:
            account = self._account.line(event.symbol).account
            event = replace(event, fill=_shown(event.fill, account))
        self._queue.put_nowait(event)

    async def _marked(self, line: Line) -> float:
        """The newest mark; the one before where the venue does not answer."""
        symbol = line.account.instrument.symbol
        with contextlib.suppress(UnreadableError):
            line.mark = float((await self.market.quote(symbol)).mark)
        if not line.mark > 0:
            raise UnreadableError(f"paper: no mark price of {symbol} was read yet.")
        return line.mark

    async def _close(self, symbol: str) -> float:
        """Close of the newest execution bar."""
        bars = await self.market.closed_bars(symbol, self._frame, 2)
        return float(bars.ohlcv[-1, 3])

    async def _pass(self, line: Line) -> None:
        """Let every bar that closed since the last look act on the position."""
        async with line.passing:
            newest = newest_closed_bar(self._clock.now_ms(), self._bar_ms)
            if line.passed_ms is None:
                line.passed_ms = newest
            count = (newest - line.passed_ms) // self._bar_ms
            if count < 1:
                return
            symbol = line.account.instrument.symbol
            bars = await self.market.closed_bars(symbol, self._frame, count + 1)
            for open_ms, row in zip(bars.open_time_ms, bars.ohlcv, strict=True):
                if open_ms <= line.passed_ms:
                    continue
                opening, high, low, close = (float(price) for price in row[:4])
                end = int(open_ms) + self._bar_ms
                line.account.pass_bar((opening, high, low, close), _DRAW, 0.0, end)
                line.passed_ms = int(open_ms)
            self._account.keep(line)


def _shown(fill: Fill, account: SimulatedAccount) -> Fill:
    """A fill of a leg as a venue tells it that keeps legs on the position."""
    report = account.report(fill.client_id)
    if report is None or report.role is None or not report.role.protective:
        return fill
    return replace(fill, client_id="", role=report.role)
