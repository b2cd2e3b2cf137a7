"""Two venues as one: market data of the first, account and orders of the second.

Given the same venue twice it is the base of what wraps one: whoever changes a few methods inherits
the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

from live.types import (
    AccountInfo,
    Answer,
    Balance,
    Bars,
    Bracket,
    Configured,
    Fill,
    Instrument,
    Intent,
    MarginMode,
    OrderReport,
    Outcome,
    Position,
    PositionMode,
    Quote,
)
from live.venue import Usage, Venue, VenueEvent, deadman_of, usage_of


class SplitVenue:
    """`live.venue.Venue` that reads bars from one venue and trades on another.

    Args:
      data: bars. trades: everything else: time, filters, quotes, account and orders.
    """

    def __init__(self, data: Venue, trades: Venue) -> None:
        self._data, self._trades = data, trades
        self.name, self.capabilities = trades.name, trades.capabilities

    async def connect(self) -> None:
        """Connect both."""
        if self._data is not self._trades:
            await self._data.connect()
        await self._trades.connect()

    async def close(self) -> None:
        """Close both."""
        if self._data is not self._trades:
            await self._data.close()
        await self._trades.close()

    def usage(self) -> Usage:
        """Of the venue that trades."""
        return usage_of(self._trades)

    async def deadman(self) -> int | None:
        """Of the venue that trades."""
        return await deadman_of(self._trades)

    async def server_time(self) -> int:
        """Of the venue that trades."""
        return await self._trades.server_time()

    async def instrument(self, symbol: str) -> Instrument:
        """Of the venue that trades."""
        return await self._trades.instrument(symbol)

    async def listing(self, symbol: str) -> Instrument:
        """Of the venue that trades."""
        return await self._trades.listing(symbol)

    async def account(self) -> AccountInfo:
        """Of the venue that trades."""
        return await self._trades.account()

    async def configure(
        self,
        symbol: str,
        leverage: Decimal,
        margin_mode: MarginMode,
        position_mode: PositionMode,
        *,
        account_wide: bool = False,
    ) -> Configured:
        """Of the venue that trades."""
        return await self._trades.configure(
            symbol, leverage, margin_mode, position_mode, account_wide=account_wide
        )

    async def settings(self, symbol: str) -> Configured:
        """Of the venue that trades."""
        return await self._trades.settings(symbol)

    async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
        """Of the venue with the data."""
        return await self._data.closed_bars(symbol, frame, count)

    async def position(self, symbol: str) -> Position:
        """Of the venue that trades."""
        return await self._trades.position(symbol)

    async def balance(self) -> Balance:
        """Of the venue that trades."""
        return await self._trades.balance()

    async def quote(self, symbol: str) -> Quote:
        """Of the venue that trades."""
        return await self._trades.quote(symbol)

    async def orders(self, symbol: str) -> tuple[OrderReport, ...]:
        """Of the venue that trades."""
        return await self._trades.orders(symbol)

    async def submit(self, intent: Intent) -> Outcome:
        """To the venue that trades."""
        return await self._trades.submit(intent)

    async def cancel(
        self, symbol: str, client_id: str = "", *, venue_order_id: str = ""
    ) -> Outcome:
        """To the venue that trades."""
        return await self._trades.cancel(symbol, client_id, venue_order_id=venue_order_id)

    async def amend_protection(self, symbol: str, bracket: Bracket) -> Outcome:
        """To the venue that trades."""
        return await self._trades.amend_protection(symbol, bracket)

    async def query(self, symbol: str, client_id: str) -> Answer:
        """To the venue that trades."""
        return await self._trades.query(symbol, client_id)

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        """Of the venue that trades."""
        return await self._trades.fills(symbol, since_ms)

    def events(self) -> AsyncIterator[VenueEvent]:
        """Of the venue that trades."""
        return self._trades.events()
