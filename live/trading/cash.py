"""Whether the equity of an account is explained: money that came or went is written down.

The journal keeps the last comparison, so that a new process goes on where the one before ended:
fills, fees and funding since then are the venue's own. Nobody can say what moved where the venue
does not show them any more, where a position changed without a fill, or where a symbol was held
that is not traded now; then the comparison begins anew, and the journal says so. Interest and
trades of the account in what is not traded here look like money that moved.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from decimal import Decimal

from live.clock import Clock
from live.journal import Journal
from live.reconcile.cash import CashBook
from live.reconcile.findings import CashMismatch
from live.types import (
    ZERO,
    Balance,
    Fill,
    Position,
    Quote,
    Unknown,
    UnreadableError,
    confirmed_quantity,
)
from live.venue import FILLS_OVERLAP_MS, Venue

_log = logging.getLogger("live.trading.cash")

_KEPT, _LOST = "cash_book", "cash_unchecked"  # events
_KEEP_MS = 3_600_000
# Looks that could not be made, after which what an earlier process kept is given up.
_PATIENCE = 60


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
        self._book, self._since_ms = CashBook(), clock.now_ms()
        self._kept_ms: int | None = None
        self._failed = 0
        self._restore()

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
            self._failed += 1
            if self._failed == _PATIENCE and self._kept_ms is None and self._book != CashBook():
                self._begin_anew(f"it cannot be read: {error or 'no answer in time'}")
            return ()
        at: dict[str, tuple[Decimal, Decimal]] = {}
        for symbol, (position, quote) in zip(self._symbols, seen, strict=True):
            if isinstance(position, Unknown):
                return ()
            at[symbol] = (confirmed_quantity(position), quote.mark)
        told = dict(zip(self._symbols, fills, strict=True))
        before, (self._book, found) = self._book, self._book.look(balance.equity, at, told)
        if self._book.begun > before.begun:
            self._lost("positions changed without fills")
        if not self._book.puzzled:
            self._since_ms = now_ms
            if self._kept_ms is None or now_ms - self._kept_ms >= _KEEP_MS:
                self._keep(now_ms)
        return found

    # Between processes.

    def _keep(self, now_ms: int) -> None:
        rows = self._journal.adjustments()
        body = {"since_ms": now_ms, "adjustments": len(rows), **self._book.plain()}
        self._journal.event(_KEPT, None, body)
        self._kept_ms = now_ms

    def _restore(self) -> None:
        """Go on where an earlier process ended, as far as it told."""
        kept = self._journal.history(kind=_KEPT, limit=1)
        if not kept:
            return
        body = kept[0].body
        try:
            book = CashBook.of(body).over(self._symbols)
            since_ms, known = int(body["since_ms"]), int(body["adjustments"])
        except (KeyError, TypeError, ValueError) as error:
            self._lost(str(error))
            return
        if book is None or book.expected is None:
            self._lost("a symbol was held that is not traded now")
            return
        # What was taken down after it was kept is known.
        later = self._journal.adjustments()[known:]
        moved = sum((row.cash for row in later if row.kind == "cash"), start=ZERO)
        self._book = dataclasses.replace(book, expected=book.expected + moved)
        self._since_ms = since_ms

    def _begin_anew(self, why: str) -> None:
        self._book, self._since_ms = CashBook(), self._clock.now_ms()
        self._lost(why)

    def _lost(self, why: str) -> None:
        """Nobody can say whether money moved meanwhile."""
        _log.warning("whether money moved since the last check is not known: %s", why)
        self._journal.event(_LOST, None, {"reason": why, "since_ms": self._since_ms})

    async def _seen(self, symbol: str) -> tuple[Position, Quote]:
        return await self._venue.position(symbol), await self._venue.quote(symbol)

    async def _fills(self, symbol: str) -> list[Fill]:
        return await self._venue.fills(symbol, self._since_ms - FILLS_OVERLAP_MS)
