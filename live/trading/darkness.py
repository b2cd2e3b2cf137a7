"""Bars that cannot be read: what is done in the dark, and for how long."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from live.journal import Journal
from live.risk import Latch, TradingState
from live.trading.closing import Closing
from live.trading.desk import Desk
from live.trading.progress import Progress, SymbolConfig
from live.trading.trader import SymbolTrader
from live.types import Flat, Held, Snapshot, Unknown, UnreadableError

_log = logging.getLogger("live.trading.darkness")


@dataclass(slots=True)
class Darkness:
    """The configured policy for bars of one symbol that nobody can see.

    Attributes:
      read: looks at the account without bars. known: the position when it was last known.
    """

    trader: SymbolTrader
    journal: Journal
    desk: Desk
    config: SymbolConfig
    progress: Progress
    closing: Closing
    read: Callable[[str], Awaitable[Snapshot]]
    known: Flat | Held | None = None

    def seen(self, snapshot: Snapshot) -> None:
        """Remember the position of a look, unless it is unknown."""
        if not isinstance(snapshot.position, Unknown):
            self.known = snapshot.position

    def note(self, error: UnreadableError) -> None:
        """Something could not be read: nothing is opened until it can."""
        symbol = self.trader.symbol
        self.desk.degrade("unreadable", symbol)
        self.journal.event("unreadable", symbol, {"detail": str(error)})
        _log.warning("%s: bar could not be read: %s", symbol, error)

    async def missed(self, error: UnreadableError) -> bool:
        """Count a bar that could not be read; whether it was one too many and everything stops."""
        self.progress.unreadable += 1
        self.note(error)
        if self.progress.unreadable < self.config.grace_bars:
            return False
        if self.config.unreadable == "hold" and await self._covered():
            return False
        await self.give_up(str(error))
        return True

    async def give_up(self, detail: str) -> None:
        """Stop, and close what is held where that is asked for; protective orders stay."""
        # First the latch: a crash in between must not forget why.
        self.desk.latch(Latch(TradingState.HALTED, "observation", detail))
        if self.config.unreadable == "flatten":
            self.desk.close(self.trader.symbol, "observation")  # tried again until flat was read
            await self.trader.following.cancel_resting()
            await self.closing.as_asked()

    async def _covered(self) -> bool:
        """Whether nothing is held or its stop is at the venue: now, or when last known."""
        with contextlib.suppress(UnreadableError):
            await self.read("hold")
        match self.known:
            case Flat():
                return True
            case Held() as held:
                return held.stop_price is not None
            case _:
                return False
