"""Equity over time: what marks, fills and funding explain of it, and what nothing explains."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from live.reconcile.compare import CASH_TOLERANCE, Leg, cash_finding, explained_equity
from live.reconcile.findings import CashMismatch
from live.types import DUST, ZERO, Fill

# Looks whose fills do not lead to the positions, after which the book begins anew: the difference
# of the position is a finding of its own.
_PATIENCE = 10


@dataclass(frozen=True, slots=True)
class CashBook:
    """The equity of an account as it should be, carried from one look to the next.

    What a look cannot explain is not forgotten: small amounts add up until somebody is told.

    Attributes:
      expected: quote units; None before the first look. at: symbol -> signed position, base units,
        and mark, quote units, of the last look. counted: symbol and trade id of the fills in it.
      puzzled: looks since then whose fills did not lead to the positions.
      begun: times that it began anew because they never did; what moved before is not known.
    """

    expected: Decimal | None = None
    at: Mapping[str, tuple[Decimal, Decimal]] = field(
        default_factory=lambda: MappingProxyType(dict[str, tuple[Decimal, Decimal]]())
    )
    counted: frozenset[tuple[str, str]] = frozenset()
    puzzled: int = 0
    begun: int = 0

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
                return dataclasses.replace(anew, begun=self.begun + 1), ()
            return dataclasses.replace(self, puzzled=self.puzzled + 1), ()
        found = cash_finding(self.expected, legs.values(), equity, tolerance)
        expected = explained_equity(self.expected, legs.values())
        return dataclasses.replace(anew, expected=expected, begun=self.begun), found

    def recorded(self, finding: CashMismatch) -> CashBook:
        """A difference was taken down: it is part of what is expected from now on."""
        if self.expected is None:
            return self
        difference = finding.equity - finding.expected
        return dataclasses.replace(self, expected=self.expected + difference)

    def over(self, symbols: Collection[str]) -> CashBook | None:
        """The same money with these symbols; None where another one was held, which nobody reads.

        A symbol that is new counts as flat then: if it was not, its fills lead nowhere.
        """
        flat = (ZERO, ZERO)
        if any(quantity for name, (quantity, _) in self.at.items() if name not in symbols):
            return None
        at = MappingProxyType({name: self.at.get(name, flat) for name in symbols})
        return dataclasses.replace(self, at=at)

    def plain(self) -> dict[str, Any]:
        """As a journal keeps it.

        Raises:
          ValueError: it has not begun.
        """
        if self.expected is None:
            raise ValueError("cash: a book that has not begun says nothing.")
        return {
            "expected": str(self.expected),
            "at": {name: [str(number) for number in pair] for name, pair in self.at.items()},
            "counted": sorted(map(list, self.counted)),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> CashBook:
        """What `plain` gave.

        Raises:
          ValueError: something is missing or of another kind.
        """
        try:
            at = {
                str(name): (Decimal(quantity), Decimal(mark))
                for name, (quantity, mark) in plain["at"].items()
            }
            counted = frozenset((str(name), str(trade)) for name, trade in plain["counted"])
            return cls(Decimal(plain["expected"]), MappingProxyType(at), counted)
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"cash: cannot be read ({type(error).__name__}: {error})") from None

    def _new(self, symbol: str, fills: Iterable[Fill]) -> tuple[Fill, ...]:
        return tuple(one for one in fills if (symbol, one.trade_id) not in self.counted)


def _leads_to(leg: Leg, quantity: Decimal) -> bool:
    """Whether the fills of a leg end in a position."""
    moved = sum((one.signed for one in leg.fills), start=leg.quantity)
    return abs(moved - quantity) <= DUST
