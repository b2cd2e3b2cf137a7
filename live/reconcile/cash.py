"""Equity over time: what marks, fills and funding explain of it, and what nothing explains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from live.reconcile.compare import CASH_TOLERANCE, Leg, cash_finding, explained_equity
from live.reconcile.findings import CashMismatch
from live.types import Fill

# Looks whose fills do not lead to the positions, after which the book begins anew: the difference
# of the position is a finding of its own.
_PATIENCE = 10
_DUST = Decimal("1e-9")  # base units


@dataclass(frozen=True, slots=True)
class CashBook:
    """The equity of an account as it should be, carried from one look to the next.

    What a look cannot explain is not forgotten: small amounts add up until somebody is told.

    Attributes:
      expected: quote units; None before the first look. at: symbol -> signed position, base units,
        and mark, quote units, of the last look. counted: symbol and trade id of the fills in it.
      puzzled: looks since then whose fills did not lead to the positions.
    """

    expected: Decimal | None = None
    at: Mapping[str, tuple[Decimal, Decimal]] = field(
        default_factory=lambda: MappingProxyType(dict[str, tuple[Decimal, Decimal]]())
    )
    counted: frozenset[tuple[str, str]] = frozenset()
    puzzled: int = 0

    def look(
        self,
        equity: Decimal,
        at: Mapping[str, tuple[Decimal, Decimal]],
        fills: Mapping[str, Iterable[Fill]],
        tolerance: Decimal = CASH_TOLERANCE,
    ) -> tuple[CashBook, tuple[CashMismatch, ...]]:
        """One look at the account, everything of one instant.

        Args:
          equity: quote units. at: as the attribute, of every symbol.
          fills: by symbol, everything that the venue told of the last minutes, trades of others
            too; what was counted before is left out.
          tolerance: fraction of the expected equity.

        Returns: the book after it, and what is unexplained; the book as it was where the fills do
          not lead to the positions (yet).
        """
        keys = frozenset((symbol, one.trade_id) for symbol in at for one in fills.get(symbol, ()))
        anew = CashBook(equity, MappingProxyType(dict(at)), keys)
        if self.expected is None or self.at.keys() != at.keys():
            return anew, ()
        legs = {
            symbol: Leg(*self.at[symbol], mark, self._new(symbol, fills.get(symbol, ())))
            for symbol, (_, mark) in at.items()
        }
        if not all(_leads_to(leg, at[symbol][0]) for symbol, leg in legs.items()):
            if self.puzzled >= _PATIENCE:
                return anew, ()
            return dataclasses.replace(self, puzzled=self.puzzled + 1), ()
        found = cash_finding(self.expected, legs.values(), equity, tolerance)
        expected = explained_equity(self.expected, legs.values())
        return dataclasses.replace(anew, expected=expected), found

    def recorded(self, finding: CashMismatch) -> CashBook:
        """A difference was taken down: it is part of what is expected from now on."""
        if self.expected is None:
            return self
        difference = finding.equity - finding.expected
        return dataclasses.replace(self, expected=self.expected + difference)

    def _new(self, symbol: str, fills: Iterable[Fill]) -> tuple[Fill, ...]:
        return tuple(one for one in fills if (symbol, one.trade_id) not in self.counted)


def _leads_to(leg: Leg, quantity: Decimal) -> bool:
    """Whether the fills of a leg end in a position."""
    moved = sum((one.signed for one in leg.fills), start=leg.quantity)
    return abs(moved - quantity) <= _DUST
