"""What the journal says of a symbol, and with it why a fill has happened."""

from __future__ import annotations

from dataclasses import dataclass, field

from live.journal import Journal
from live.reconcile.compare import JournalView, cause_of
from live.reconcile.findings import Cause
from live.types import Fill, Role, Snapshot

# Orders of venue legs that are remembered; a fill comes soon or never.
_LEGS_KEPT = 100


@dataclass(slots=True)
class Explainer:
    """Knows the orders of one symbol, the position's own legs included.

    Attributes:
      brackets: the policy sets stops; without, every stop is the safety net.
      followed: client ids of orders whose end is being awaited.
    """

    journal: Journal
    symbol: str
    brackets: bool
    followed: set[str] = field(default_factory=set)
    _legs: dict[str, Role] = field(default_factory=dict)  # by the venue's order id

    def view(self, since_ms: int | None = None) -> JournalView:
        """What the journal says of the symbol, for comparisons with the venue.

        Args:
          since_ms: orders created since then count too if they have ended and fills of theirs are
            not booked yet; None = those that have not ended.
        """
        rows = (*self.journal.working(self.symbol), *self.journal.unresolved(self.symbol))
        orders = {row.client_id: self.journal.tracked(row.client_id) for row in rows}
        if since_ms is not None:
            short = self.journal.short_of_fills(self.symbol, since_ms)
            orders |= {order.client_id: order for order in short}
        return JournalView(
            tag=self.journal.tag(self.symbol),
            position=self.journal.position(self.symbol),
            orders=orders,
            following=frozenset(self.followed),
        )

    def cause_of(self, fill: Fill) -> Cause:
        """Why a fill happened."""
        return cause_of(fill, self.view(), legs=self._legs, disaster=not self.brackets)

    def note_legs(self, snapshot: Snapshot) -> None:
        """Remember whose fills those of the position's own legs would be."""
        for order in snapshot.orders:
            if order.role is not None and order.role.protective:
                self._legs[order.venue_order_id] = order.role
        while len(self._legs) > _LEGS_KEPT:
            del self._legs[next(iter(self._legs))]
