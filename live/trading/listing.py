"""The instrument of a symbol as its venue lists it: filters, status and a coming delisting.

It is read again now and then, and at once after an order that was not taken: whatever has changed,
the next decision is made on it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from dataclasses import dataclass

from live.clock import Clock
from live.types import (
    Ambiguous,
    Category,
    Certainty,
    Configured,
    Definitive,
    Instrument,
    Outcome,
    UnreadableError,
)
from live.venue import Venue

_log = logging.getLogger("live.trading.listing")

# Statuses of our own; every one but "trading" closes the market to entries.
UNLISTED, UNREAD = "unlisted", "unread"
# Rejections that say nothing of the market.
_OF_THE_ACCOUNT = (
    Category.MARGIN,
    Category.DUPLICATE,
    Category.THROTTLED,
    Category.CLOCK,
    Category.AUTH,
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A symbol that is ready to be traded: how it is listed, and the settings as read back."""

    instrument: Instrument
    settings: Configured


class ListingWatch:
    """Reads the listing of one symbol again.

    Args:
      instrument: as it was read at the start.
      every: between two readings, seconds. stale: age beyond which a status that cannot be read
        again counts as unread, seconds. deadline: of one reading, seconds.
      age: of the instrument, seconds.

    Attributes:
      asked: an order was not taken since; the next look reads.
    """

    def __init__(
        self,
        venue: Venue,
        instrument: Instrument,
        clock: Clock,
        *,
        every: float = 60.0,
        stale: float = 300.0,
        deadline: float = 5.0,
        age: float = 0.0,
    ) -> None:
        if not 0 < every <= stale:
            raise ValueError(f"listing: expected 0 < every <= stale; got {every} and {stale}.")
        self._venue, self._clock = venue, clock
        self._every, self._stale, self._deadline = every, stale, deadline
        self._read, self._read_at = instrument, clock.monotonic() - age
        self.asked = False

    def note(self, outcome: Outcome) -> None:
        """How an order went: one that was not taken may say that the listing has changed."""
        match outcome:
            case Definitive(kind=Certainty.REJECTED, category=category):
                self.asked = self.asked or category not in _OF_THE_ACCOUNT
            case Ambiguous():
                self.asked = True

    async def look(self) -> Instrument:
        """The newest listing that is known; one that cannot be read is the one before."""
        age = self._clock.monotonic() - self._read_at
        if not self.asked and age < self._every:
            return self._read
        try:
            async with asyncio.timeout(self._deadline):
                found = await self._venue.listing(self._read.symbol)
        except (TimeoutError, UnreadableError) as error:
            _log.warning("%s: the listing could not be read: %s", self._read.symbol, error)
            if age < self._stale:
                return self._read
            return dataclasses.replace(self._read, status=UNREAD)
        except ValueError as error:
            _log.warning("%s", error)
            found = dataclasses.replace(self._read, status=UNLISTED)
        self._read, self._read_at, self.asked = found, self._clock.monotonic(), False
        return found


def changes(before: Instrument, after: Instrument) -> dict[str, str]:
    """What differs between two listings of a symbol, for the journal."""
    names = (field.name for field in dataclasses.fields(Instrument))
    return {
        name: f"{getattr(before, name)} -> {getattr(after, name)}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    }
