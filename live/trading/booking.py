"""The fills of one symbol: read, told apart, and put in the books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from live.journal import Journal
from live.reconcile.findings import Cause
from live.types import Fill, UnreadableError
from live.venue import Venue

_REMEMBERED = 500


class Books:
    """What was traded.

    Args:
      deadline: of a read, seconds. cause_of: why a fill happened; what is not ours is kept apart
        and never booked.
      booked: called with every fill that is new to the journal, and its cause.

    Attributes:
      manual: trades of others, by trade id, until an adjustment takes them up.
    """

    def __init__(
        self,
        venue: Venue,
        journal: Journal,
        symbol: str,
        deadline: float,
        *,
        cause_of: Callable[[Fill], Cause],
        booked: Callable[[Fill, Cause], None],
    ) -> None:
        self._venue, self._journal = venue, journal
        self._symbol, self._deadline = symbol, deadline
        self._cause_of, self._booked = cause_of, booked
        self.manual: dict[str, Fill] = {}
        # Booked ones by trade id, the newest last: what is read overlaps with what was read before.
        self._known: dict[str, Fill] = {}

    def book(self, fills: Iterable[Fill], source: str) -> int:
        """Record the fills that are ours; how many were new."""
        new = 0
        for fill in fills:
            if self._known.get(fill.trade_id) == fill:
                continue
            cause = self._cause_of(fill)
            if not cause.ours:
                self.manual[fill.trade_id] = fill
            elif self._journal.book(self._symbol, fill, source):
                self._booked(fill, cause)
                new += 1
            if cause.ours:
                self._remember(fill)
        return new

    async def fetch(self, since_ms: int) -> tuple[Fill, ...] | None:
        """Fills since an instant, booked; None where the venue did not say."""
        try:
            async with asyncio.timeout(self._deadline):
                fills = tuple(await self._venue.fills(self._symbol, since_ms))
        except (TimeoutError, UnreadableError):
            return None
        if fills:
            await self._journal.grouped(self.book, fills, "read")
        return fills

    def _remember(self, fill: Fill) -> None:
        self._known[fill.trade_id] = fill
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
