"""Exits before entries, over all symbols of an account."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

# An entry waits this long, real seconds: a symbol that cannot be read must not delay the others.
_PATIENCE_SECONDS = 0.25


class Turns:
    """At every bar the entries wait until each symbol has sent its exits, or has none.

    Args:
      symbols: that are traded. patience: how long an entry waits at most, real seconds.
    """

    def __init__(self, symbols: Iterable[str], patience: float = _PATIENCE_SECONDS) -> None:
        self._symbols = frozenset(symbols)
        self._patience = patience
        self._bar: int | None = None
        self._pending: set[str] = set()
        self._free = asyncio.Event()

    def begin(self, bar_open_ms: int) -> None:
        """A symbol has begun a bar; the first one begins it for all."""
        if self._bar is None or bar_open_ms > self._bar:
            self._bar, self._pending = bar_open_ms, set(self._symbols)
            self._free.clear()

    def passed(self, symbol: str, bar_open_ms: int) -> None:
        """The symbol has no exit to send in this bar any more; again is harmless."""
        if bar_open_ms == self._bar:
            self._pending.discard(symbol)
            if not self._pending:
                self._free.set()

    async def entry(self, symbol: str, bar_open_ms: int) -> None:
        """Return when an entry of the symbol may go."""
        self.passed(symbol, bar_open_ms)
        if bar_open_ms != self._bar or not self._pending:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._free.wait(), self._patience)
