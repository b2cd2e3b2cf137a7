"""Whether a venue still has the settings that a symbol was set up with; it changes nothing."""

from __future__ import annotations

import asyncio

from live.reconcile.compare import settings_finding
from live.reconcile.findings import SettingsChanged, SettingsUnread
from live.types import Configured, UnreadableError
from live.venue import Venue


class SettingsWatch:
    """Reads leverage and modes of one symbol again, now and then and when it is asked to.

    Args:
      wanted: as they were read back at the start. every_bars: closed bars between two checks.
      deadline: of one, seconds.
      bars: that count as passed already. gate: how many symbols are read at once; the others stay
        due.

    Attributes:
      due: the next look reads them. What could not be read stays due.
    """

    def __init__(
        self,
        venue: Venue,
        symbol: str,
        wanted: Configured,
        *,
        every_bars: int = 60,
        deadline: float = 5.0,
        bars: int = 0,
        gate: asyncio.Semaphore | None = None,
    ) -> None:
        if not every_bars >= 1:
            raise ValueError(f"every_bars: must be at least 1; got {every_bars}.")
        self._venue, self._symbol, self._wanted = venue, symbol, wanted
        self._every, self._deadline = every_bars, deadline
        self._bars, self._gate = bars, gate or asyncio.Semaphore()
        self.due = False

    def passed(self, bars: int) -> None:
        """So many bars have closed since the last call."""
        self._bars += bars
        self.due = self.due or self._bars >= self._every

    def ask(self) -> None:
        """What happened since the last check is not known: a stream was lost, a latch cleared."""
        self.due = True

    async def look(self) -> tuple[SettingsChanged | SettingsUnread, ...]:
        """What differs; nothing where no check is due."""
        if not self.due or self._gate.locked():
            return ()
        async with self._gate:
            return await self._read()

    async def _read(self) -> tuple[SettingsChanged | SettingsUnread, ...]:
        try:
            async with asyncio.timeout(self._deadline):
                found = await self._venue.settings(self._symbol)
        except TimeoutError:
            return (SettingsUnread(f"settings: no answer within {self._deadline:g} s"),)
        except UnreadableError as error:
            return (SettingsUnread(str(error)),)
        self._bars, self.due = 0, False
        return settings_finding(self._wanted, found)
