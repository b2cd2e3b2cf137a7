"""Orders in doubt: asked about in the background until the venue has said what became of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from live.journal import Journal
from live.orders import IntentState
from live.trading.following import Following
from live.types import Bracket, IntentKind

_log = logging.getLogger("live.trading.unknowns")


class Unknowns:
    """The searches of one symbol.

    Args:
      settled: called when an order's end is known.
    """

    def __init__(
        self, journal: Journal, symbol: str, following: Following, settled: Callable[[], None]
    ) -> None:
        self._journal, self._symbol, self._following = journal, symbol, following
        self._settled = settled
        self.searches: dict[str, asyncio.Task[None]] = {}

    async def settle(self) -> None:
        """Ask about every intent without an end, all at once, and wait for the answers."""
        asked = []
        for row in self._journal.unresolved(self._symbol):
            if row.sent_ms is None:
                # It never left: the mark is set before the one attempt.
                self._journal.resolve(row.client_id, IntentState.NOT_SENT)
            else:
                asked.append(row)
        searches = [self._following.resolve(row.client_id, row.intent().bracket) for row in asked]
        ends = [
            self._following.finish(row.client_id)
            for row in self._journal.working(self._symbol)
            if row.kind in (IntentKind.MARKET, IntentKind.BRACKET)
        ]
        await asyncio.gather(*searches, *ends)

    def search(self, client_id: str, bracket: Bracket | None = None) -> None:
        """Ask about an order in the background; one search for each."""
        if client_id not in self.searches:
            self.searches[client_id] = asyncio.ensure_future(self._search(client_id, bracket))

    async def _search(self, client_id: str, bracket: Bracket | None) -> None:
        _log.warning("%s: what became of %s is not known; asking", self._symbol, client_id)
        try:
            await self._following.resolve(client_id, bracket)
        finally:
            del self.searches[client_id]
        found = self._journal.tracked(client_id)
        _log.info("%s: %s is %s, %s filled", self._symbol, client_id, found.state, found.filled)
        self._settled()

    async def close(self) -> None:
        """Stop searching; the journal keeps what is unknown."""
        running = tuple(self.searches.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
