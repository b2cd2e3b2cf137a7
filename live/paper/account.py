"""A paper account of several symbols: one wallet, and positions that are held in isolation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from live.paper import store
from live.replay.account import SimulatedAccount
from live.replay.book import exact
from live.replay.money import ReplayTerms, Wallet
from live.types import Balance, Instrument, UnreadableError
from live.venue import VenueEvent


@dataclass(slots=True)
class Line:
    """One symbol.

    Attributes:
      account: position, orders and fills. path: of its file, None = in memory alone.
      passed_ms: START of the newest bar that has acted on it, None = none has.
      mark: newest known, 0 = none. passing: held while bars act.
    """

    account: SimulatedAccount
    path: Path | None = None
    passed_ms: int | None = None
    mark: float = 0.0
    passing: asyncio.Lock = field(default_factory=asyncio.Lock)


class PaperAccount:
    """Every symbol of the account.

    Args:
      terms: costs, terms and the initial cash. tell: gets every event.
      folder: where it outlives the process; None = in memory alone.
    """

    def __init__(
        self, terms: ReplayTerms, tell: Callable[[VenueEvent], None], folder: Path | None
    ) -> None:
        self._terms, self._tell, self._folder = terms, tell, folder
        self._wallet = Wallet(terms.initial_cash)
        self._lines: dict[str, Line] = {}
        self._written = 0

    def resume(self, symbols: Collection[str]) -> None:
        """Take up the cash that earlier processes left.

        Args:
          symbols: that are to be traded; none = whichever come.

        Raises:
          PaperFileError: a file cannot be used, or there is a position in another symbol.
        """
        if self._folder is None:
            return
        for one in store.left(self._folder):
            if one.held and symbols and one.symbol not in symbols:
                raise store.PaperFileError(
                    f"{self._folder}: the paper account holds {one.symbol}, which is not traded "
                    "now; add it to [runner] symbols, or begin anew with another state_dir."
                )
            self._written, self._wallet.cash = one.written, one.cash

    def add(self, listed: Instrument) -> None:
        """Trade a symbol, or go by what its listing says now.

        Raises:
          PaperFileError: what an earlier process left of it cannot be used.
        """
        line = self._lines.get(listed.symbol)
        if line is None:
            line = Line(SimulatedAccount(self._terms, listed, self._tell, self._wallet))
            if self._folder is not None:
                cash = self._wallet.cash
                line.path = store.path_of(self._folder, listed.venue_symbol)
                line.passed_ms = store.load(line.path, line.account)
                self._wallet.cash = cash  # that file may be older than another one
            self._lines[listed.symbol] = line
        line.account.relist(listed)

    def knows(self, symbol: str) -> bool:
        """Whether a symbol was added."""
        return symbol in self._lines

    def line(self, symbol: str) -> Line:
        """What there is of a symbol.

        Raises:
          UnreadableError: it was not added.
        """
        if symbol not in self._lines:
            raise UnreadableError(f"paper: {symbol} was not read yet.")
        return self._lines[symbol]

    @property
    def held(self) -> list[Line]:
        """Symbols with a position."""
        return [line for line in self._lines.values() if line.account.held]

    def balance(self, now_ms: int) -> Balance:
        """Equity at the newest marks, and the cash that is free.

        Raises:
          UnreadableError: no symbol was added.
        """
        if not self._lines:
            raise UnreadableError("paper: no symbol was read yet.")
        cash = equity = self._wallet.cash
        maintenance = 0.0
        for place, line in enumerate(self.held):
            at = line.account.standing(line.mark)
            equity = at.equity if place == 0 else equity + (at.equity - cash)
            maintenance += at.maintenance
        return Balance(
            equity=exact(equity),
            available=exact(max(cash, 0.0)),
            maintenance_margin=exact(maintenance),
            asset=next(iter(self._lines.values())).account.instrument.settle,
            venue_time_ms=now_ms,
        )

    def keep(self, line: Line) -> None:
        """What has happened to a symbol is on the disk before anybody is told."""
        if line.path is not None:
            self._written += 1
            store.save(line.path, line.account, line.passed_ms, self._written)
