"""Stop and target of a simulated position: one of each, that follow its size and end with it."""

from __future__ import annotations

from decimal import Decimal

from live.replay.book import Book
from live.replay.filters import refused
from live.replay.money import Money
from live.types import (
    Bracket,
    Category,
    Certainty,
    Definitive,
    Intent,
    IntentKind,
    OrderStatus,
    Outcome,
    Role,
)

_FIELDS = {Role.STOP: "stop", Role.TARGET: "target"}


class Protection:
    """The legs of one account: their prices are in its money, their orders in its book."""

    def __init__(self, money: Money, book: Book) -> None:
        self._money, self._book = money, book

    def amend(self, bracket: Bracket, now_ms: int) -> Outcome:
        """Set, move or (None) remove stop and target of the position."""
        return self._protect(
            {Role.STOP: bracket.stop_price, Role.TARGET: bracket.target_price}, now_ms
        )

    def rest(self, intent: Intent, now_ms: int) -> Outcome:
        """A stop or target order of its own; it guards the whole position."""
        if intent.trigger_price is None:
            return refused(Category.PRECISION, "a stop or target needs a trigger price")
        if self._money.held * intent.side.sign >= 0:
            return refused(Category.REDUCE_ONLY, "there is nothing to reduce")
        role = Role.STOP if intent.kind is IntentKind.STOP else Role.TARGET
        return self._protect({role: intent.trigger_price}, now_ms, intent.client_id)

    def _protect(
        self, prices: dict[Role, Decimal | None], now_ms: int, client_id: str | None = None
    ) -> Outcome:
        """Set the legs that ``prices`` names; None ends one.

        Args:
          client_id: of the new order; None keeps the order that is open.
        """
        held = self._money.held
        if held == 0:
            return refused(Category.NOT_FOUND, "there is no position to protect")
        for price in prices.values():
            if price is not None and not (price.is_finite() and price > 0):
                return refused(Category.PRECISION, f"price {price} is not > 0")
        for role, price in prices.items():
            self._money.protect(**{_FIELDS[role]: float(price or 0)})
            if price is None:
                self._book.end_leg(role, OrderStatus.CANCELLED, now_ms)
            else:
                self._book.set_leg(role, held, float(price), now_ms, client_id)
        return Definitive(Certainty.ACCEPTED, venue_order_id=self._book.next_id("p"))

    def cancel(self, client_id: str, now_ms: int, *, venue_order_id: str = "") -> Outcome:
        """End a stop or a target by either id; everything else is filled already."""
        wanted = client_id or venue_order_id
        for leg in self._book.open_orders:
            if leg.role is not None and wanted in (leg.client_id, leg.venue_order_id):
                return self._protect({leg.role: None}, now_ms)
        return refused(Category.NOT_FOUND, f"no open order has the id {wanted}")

    def align(self, entry: str, now_ms: int) -> None:
        """Bring the leg orders in line with the account after the trade of order ``entry``."""
        for role, price in self._prices.items():
            if price == 0:
                self._book.end_leg(role, OrderStatus.CANCELLED, now_ms)
                continue
            new = None if role in self._book.legs else ""
            if new is not None and entry.endswith(Role.ENTRY.value):
                # The id of the entry with another role letter, as the journal would give it.
                new = entry[:-1] + role.value
            self._book.set_leg(role, self._money.held, price, now_ms, new)

    def drop(self, now_ms: int) -> None:
        """End every leg, as there is nothing left to protect."""
        for role in tuple(self._book.legs):
            self._book.end_leg(role, OrderStatus.CANCELLED, now_ms)

    @property
    def _prices(self) -> dict[Role, float]:
        account = self._money.account
        return {
            Role.STOP: float(account.stop_price),
            Role.TARGET: float(account.target_price),
        }
