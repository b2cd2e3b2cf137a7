"""A paper account: orders fill in memory at the prices that a real venue publishes.

Bars and quotes come from the venue, without keys; no order endpoint is ever called. Brackets act on
the bars that close after the entry, as in the environments.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from live.clock import Clock, newest_closed_bar
from live.paper import store as paper_store
from live.replay.account import SimulatedAccount
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
from live.venue import Capabilities, EventKind, Usage, Venue, VenueEvent, usage_of

_log = logging.getLogger("live.paper")

# The middle of the range: spread and slippage are those of the terms, without luck.
_DRAW = 0.5


class PaperVenue:
    """`live.venue.Venue` with the prices of one venue and an account of its own.

    Args:
      market: where bars, quotes and filters come from. terms: costs and terms of the account.
      frame: name of the execution frame, whose bars act on the position. bar_ms: its length.
      folder: where the account of a symbol outlives the process; None = in memory alone.
    """

    capabilities = Capabilities(
        bracket_with_entry=True,
        protects_position=True,
        reduce_only=True,
        closed_flag=False,
        refuses_repeated_id=True,
    )

    def __init__(
        self,
        market: Venue,
        terms: ReplayTerms,
        clock: Clock,
        *,
        frame: str,
        bar_ms: int,
        folder: Path | None = None,
    ) -> None:
        self.name = f"paper on {market.name}"
        self._market, self._terms, self._clock = market, terms, clock
        self._frame, self._bar_ms, self._folder = frame, bar_ms, folder
        self._account: SimulatedAccount | None = None
        self._instrument: Instrument | None = None
        self._path: Path | None = None
        self._settings: dict[str, Configured] = {}
        self._mark = 0.0
        self._passed_ms: int | None = None
        self._queue: asyncio.Queue[VenueEvent | None] = asyncio.Queue()
        self._passing = asyncio.Lock()

    async def connect(self) -> None:
        """Connect to the market data."""
        await self._market.connect()
        self._queue.put_nowait(VenueEvent(EventKind.CONNECTED))

    async def close(self) -> None:
        """Release the market data."""
        self._queue.put_nowait(None)
        await self._market.close()

    def usage(self) -> Usage:
        """That of the market."""
        return usage_of(self._market)

    async def server_time(self) -> int:
        """That of the market."""
        return await self._market.server_time()

    async def instrument(self, symbol: str) -> Instrument:
        """The listed symbol; with the first one the account is there.

        Raises:
          PaperFileError: what an earlier process left cannot be used.
        """
        if self._instrument is None:
            listed = await self._market.instrument(symbol)
            self._instrument = listed
            self._account = SimulatedAccount(self._terms, listed, self._tell)
            if self._folder is not None:
                self._path = self._folder / f"paper-{listed.venue_symbol}.json"
                self._passed_ms = paper_store.load(self._path, self._account)
        return self._instrument

    async def listing(self, symbol: str) -> Instrument:
        """As the market lists it."""
        return await self._market.listing(symbol)

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
        return await self._market.closed_bars(symbol, frame, count)

    async def position(self, symbol: str) -> Position:
        """Flat or held, after every bar that has closed."""
        await self._pass(symbol)
        return self._simulated.position(await self._marked(symbol), self._clock.now_ms())

    async def balance(self) -> Balance:
        """Equity at the mark, and free cash."""
        symbol = self._simulated.instrument.symbol
        return self._simulated.balance(await self._marked(symbol), self._clock.now_ms())

    async def quote(self, symbol: str) -> Quote:
        """That of the market."""
        return await self._market.quote(symbol)

    async def orders(self, symbol: str) -> tuple[OrderReport, ...]:
        """Stop and target; they belong to the position and carry no id of ours."""
        del symbol
        return tuple(replace(leg, client_id="") for leg in self._simulated.open_orders)

    async def submit(self, intent: Intent) -> Outcome:
        """Fill a market order at the close of the decision bar; nothing is sent anywhere."""
        await self._pass(intent.symbol)
        base = await self._close(intent.symbol)
        price = self._simulated.price(base, intent.side.sign, _DRAW)
        outcome = self._simulated.submit(intent, base, price, self._clock.now_ms())
        self._keep()
        if isinstance(outcome, Definitive) and outcome.kind is Certainty.ACCEPTED:
            _log.info("[PAPER] %s %s @ %s", intent.side, intent.quantity, price)
        else:
            _log.warning("[PAPER] refused %s %s: %s", intent.side, intent.quantity, outcome)
        return outcome

    async def cancel(
        self, symbol: str, client_id: str = "", *, venue_order_id: str = ""
    ) -> Outcome:
        """Cancel a stop or a target."""
        del symbol
        now_ms = self._clock.now_ms()
        outcome = self._simulated.cancel(client_id, now_ms, venue_order_id=venue_order_id)
        self._keep()
        return outcome

    async def amend_protection(self, symbol: str, bracket: Bracket) -> Outcome:
        """Set, move or (None) remove stop and target of the position."""
        del symbol
        outcome = self._simulated.amend(bracket, self._clock.now_ms())
        self._keep()
        return outcome

    async def query(self, symbol: str, client_id: str) -> Answer:
        """What became of an order."""
        del symbol
        report = self._simulated.report(client_id)
        return Absent("order") if report is None else Found(report)

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        """Every fill since an instant."""
        del symbol
        fills = self._simulated.fills
        return [self._shown(fill) for fill in fills if fill.venue_time_ms >= since_ms]

    async def events(self) -> AsyncIterator[VenueEvent]:
        """What happens to the account."""
        while (event := await self._queue.get()) is not None:
            yield event

    # The pieces.

    def _tell(self, event: VenueEvent) -> None:
        shown = event if event.fill is None else replace(event, fill=self._shown(event.fill))
        self._queue.put_nowait(shown)

    def _shown(self, fill: Fill) -> Fill:
        """A fill of a leg as a venue tells it that keeps legs on the position."""
        report = self._simulated.report(fill.client_id)
        if report is None or report.role is None or not report.role.protective:
            return fill
        return replace(fill, client_id="", role=report.role)

    @property
    def _simulated(self) -> SimulatedAccount:
        if self._account is None:
            raise UnreadableError("paper: the instrument was not read yet.")
        return self._account

    async def _marked(self, symbol: str) -> float:
        """The newest mark; the one before where the venue does not answer."""
        with contextlib.suppress(UnreadableError):
            self._mark = float((await self._market.quote(symbol)).mark)
        if not self._mark > 0:
            raise UnreadableError("paper: no mark price was read yet.")
        return self._mark

    async def _close(self, symbol: str) -> float:
        """Close of the newest execution bar."""
        bars = await self._market.closed_bars(symbol, self._frame, 2)
        return float(bars.ohlcv[-1, 3])

    async def _pass(self, symbol: str) -> None:
        """Let every bar that closed since the last look act on the position."""
        async with self._passing:
            newest = newest_closed_bar(self._clock.now_ms(), self._bar_ms)
            if self._passed_ms is None:
                self._passed_ms = newest
            count = (newest - self._passed_ms) // self._bar_ms
            if count < 1:
                return
            bars = await self._market.closed_bars(symbol, self._frame, count + 1)
            for open_ms, row in zip(bars.open_time_ms, bars.ohlcv, strict=True):
                if open_ms <= self._passed_ms:
                    continue
                opening, high, low, close = (float(price) for price in row[:4])
                end = int(open_ms) + self._bar_ms
                self._simulated.pass_bar((opening, high, low, close), _DRAW, 0.0, end)
                self._passed_ms = int(open_ms)
            self._keep()

    def _keep(self) -> None:
        """What has happened is on the disk before anybody is told."""
        if self._path is not None:
            paper_store.save(self._path, self._simulated, self._passed_ms)
