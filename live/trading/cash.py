"""Whether the equity of an account is explained: money that came or went is written down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal

from live.clock import Clock
from live.journal import Journal
from live.reconcile.cash import CashBook
from live.reconcile.findings import CashMismatch
from live.types import Balance, Fill, Held, Position, Quote, Unknown, UnreadableError
from live.venue import Venue

_log = logging.getLogger("live.trading.cash")

# Fills are read again from this long before the last look: some are told late.
_OVERLAP_MS = 600_000


class CashWatch:
    """Compares equity with what explains it, from readings of its own.

    Args:
      symbols: all that the daemon trades. second_look: before a difference is believed, seconds.
      deadline: of one reading, seconds.
    """

    def __init__(
        self,
        venue: Venue,
        journal: Journal,
        symbols: Sequence[str],
        clock: Clock,
        *,
        second_look: float = 3.0,
        deadline: float = 10.0,
    ) -> None:
        self._venue, self._journal, self._clock = venue, journal, clock
        self._symbols = tuple(symbols)
        self._second_look, self._deadline = second_look, deadline
        self._book = CashBook()
        self._since_ms = clock.now_ms()

    async def look(self) -> tuple[CashMismatch, ...]:
        """One check; what two readings agree on is journalled, for a person to acknowledge."""
        if not await self._compare():
            return ()
        await self._clock.sleep(self._second_look)
        found = await self._compare()
        for one in found:
            self._book = self._book.recorded(one)
            cash = one.equity - one.expected
            _log.warning("equity moved by %s for no known reason", cash)
            evidence = {"expected": str(one.expected), "equity": str(one.equity)}
            self._journal.adjust(self._symbols[0], "cash", Decimal(0), cash, evidence)
        return found

    async def _compare(self) -> tuple[CashMismatch, ...]:
        """What one reading leaves unexplained; nothing where it cannot be made."""
        now_ms = self._clock.now_ms()
        try:
            async with asyncio.timeout(self._deadline):
                seen = await asyncio.gather(*(self._seen(symbol) for symbol in self._symbols))
                balance: Balance = await self._venue.balance()
                # Last: whatever is in the others is in the fills.
                fills = await asyncio.gather(*(self._fills(symbol) for symbol in self._symbols))
        except (TimeoutError, UnreadableError) as error:
            _log.info("the equity was not checked: %s", error or "no answer in time")
            return ()
        at: dict[str, tuple[Decimal, Decimal]] = {}
        for symbol, (position, quote) in zip(self._symbols, seen, strict=True):
            if isinstance(position, Unknown):
                return ()
            quantity = position.quantity if isinstance(position, Held) else Decimal(0)
            at[symbol] = (quantity, quote.mark)
        told = dict(zip(self._symbols, fills, strict=True))
        self._book, found = self._book.look(balance.equity, at, told)
        if not self._book.puzzled:
            self._since_ms = now_ms
        return found

    async def _seen(self, symbol: str) -> tuple[Position, Quote]:
        return await self._venue.position(symbol), await self._venue.quote(symbol)

    async def _fills(self, symbol: str) -> list[Fill]:
        return await self._venue.fills(symbol, self._since_ms - _OVERLAP_MS)
