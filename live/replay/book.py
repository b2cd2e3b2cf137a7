"""What a simulated venue writes down: order reports, the legs of a position, fills, their ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, localcontext
from typing import Any

from live.types import ZERO, Fill, FillKind, OrderReport, OrderStatus, Role, Side
from live.venue import EventKind, VenueEvent

# Differences of any two float64 numbers are exact with this many digits.
_EXACT = Context(prec=800)
# Orders and fills that outlive a process.
_KEPT = 500


def exact(number: float) -> Decimal:
    """The shortest decimal that is this float64; reads back as the same number."""
    return Decimal(repr(float(number)))


class Book:
    """Orders by client id, legs by role, fills in order; tells of everything it writes.

    Ids carry the number of the run, so that they never repeat, not even after a `clear`.

    Args:
      symbol, asset: of the account. notify: gets every event.

    Attributes:
      fills: of this run. legs: role -> client id of the open stop or target.
    """

    def __init__(self, symbol: str, asset: str, notify: Callable[[VenueEvent], None]) -> None:
        self._symbol, self._asset, self._notify = symbol, asset, notify
        self._run = -1
        self.clear()

    def clear(self) -> None:
        """Begin another run with an empty book."""
        self._run += 1
        self._number = 0
        self._reports: dict[str, OrderReport] = {}
        self.legs: dict[Role, str] = {}
        self.fills: list[Fill] = []

    def state(self) -> dict[str, Any]:
        """What has to outlive a process; of old orders and fills the newest."""
        open_legs = set(self.legs.values())
        old = [name for name in self._reports if name not in open_legs][:-_KEPT]
        return {
            "run": self._run,
            "number": self._number,
            "legs": dict(self.legs),
            "reports": [row for name, row in self._reports.items() if name not in old],
            "fills": self.fills[-_KEPT:],
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave; ids go on where they ended."""
        self._run, self._number = state["run"], state["number"]
        self._reports = {row.client_id: row for row in state["reports"]}
        self.legs = dict(state["legs"])
        self.fills = list(state["fills"])

    def next_id(self, letter: str) -> str:
        """An id nobody has had."""
        self._number += 1
        return f"replay-{self._run}-{letter}{self._number}"

    def report(self, client_id: str) -> OrderReport | None:
        """An order by its client id."""
        return self._reports.get(client_id)

    @property
    def open_orders(self) -> tuple[OrderReport, ...]:
        """The open legs."""
        return tuple(self._reports[client_id] for client_id in self.legs.values())

    # Writing.

    def write(self, report: OrderReport) -> None:
        """Keep and tell of an order."""
        self._reports[report.client_id] = report
        self._notify(VenueEvent(EventKind.ORDER, self._symbol, order=report))

    def tell_fill(self, fill: Fill) -> None:
        """Tell of a fill that is booked."""
        self._notify(VenueEvent(EventKind.FILL, self._symbol, fill=fill))

    def tell_account(self) -> None:
        """Tell that position and balance have changed."""
        for kind in (EventKind.POSITION, EventKind.BALANCE):
            self._notify(VenueEvent(kind, self._symbol))

    def fill(
        self,
        before: float,
        after: float,
        price: float,
        fee: float,
        *,
        client_id: str,
        order: str,
        now_ms: int,
        kind: FillKind = FillKind.TRADE,
    ) -> Fill:
        """Book a change of the position from ``before`` to ``after``, signed base units.

        The quantity is their difference without rounding, so that the fills of a position add up
        to it exactly.
        """
        with localcontext(_EXACT):
            change = exact(after) - exact(before)
        fill = Fill(
            trade_id=self.next_id("t"),
            client_id=client_id,
            venue_order_id=order,
            side=Side.of(change),
            quantity=change.copy_abs(),
            price=exact(price),
            fee=exact(fee),
            fee_asset=self._asset,
            kind=kind,
            venue_time_ms=now_ms,
        )
        self.fills.append(fill)
        return fill

    def pay(self, amount: float, price: float, held: float, now_ms: int) -> None:
        """Book and tell of funding paid (negative: received) on a position."""
        fill = Fill(
            trade_id=self.next_id("t"),
            client_id="",
            venue_order_id="",
            side=Side.of(held),
            quantity=ZERO,
            price=exact(price),
            fee=exact(amount),
            fee_asset=self._asset,
            kind=FillKind.FUNDING,
            venue_time_ms=now_ms,
        )
        self.fills.append(fill)
        self.tell_fill(fill)

    # Legs.

    def set_leg(
        self, role: Role, held: float, price: float, now_ms: int, client_id: str | None = None
    ) -> None:
        """Open the leg of ``role``, or bring the open one in line with position and price.

        Args:
          held: the position, signed. client_id: of a new order; None keeps the open one.
        """
        name = self.legs.get(role)
        if name is not None and client_id is not None:
            self.end_leg(role, OrderStatus.CANCELLED, now_ms)
            name = None
        if name is None:
            order = self.next_id(role.value)
            name = client_id if client_id and client_id not in self._reports else order
        else:
            order = self._reports[name].venue_order_id
        self.legs[role] = name
        report = OrderReport(
            client_id=name,
            venue_order_id=order,
            role=role,
            side=Side.of(-held),
            quantity=exact(abs(held)),
            filled=ZERO,
            average_price=None,
            trigger_price=exact(price),
            reduce_only=True,
            status=OrderStatus.OPEN,
            venue_time_ms=now_ms,
        )
        if self._reports.get(name) != report:
            self.write(report)

    def end_leg(
        self, role: Role, status: OrderStatus, now_ms: int, fill: Fill | None = None
    ) -> None:
        """Close the leg of ``role``, if there is one, as cancelled or filled."""
        name = self.legs.pop(role, None)
        if name is None:
            return
        self.write(
            dataclasses.replace(
                self._reports[name],
                filled=ZERO if fill is None else fill.quantity,
                average_price=None if fill is None else fill.price,
                status=status,
                venue_time_ms=now_ms,
            )
        )
