"""Life of one order as the journal sees it: its states, what moves them, its fills.

Pure values. An order's status and its fills are two facts: a status bounds what was filled, only
fills change a position, and the same fills in any order and any number of times give one result.
"""

from __future__ import annotations

import dataclasses
import decimal
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import assert_never

from live.types import (
    ZERO,
    Ambiguous,
    Category,
    Certainty,
    Definitive,
    Fill,
    FillKind,
    IntentKind,
    OrderReport,
    OrderStatus,
    Outcome,
    Role,
    Side,
)

# A simulated account without steps fills in float64; no step of a venue is finer than this.
_ROUNDED = 1 + Decimal("1e-9")
# Wide enough that no sum of quantities is ever rounded: a rounded sum depends on its order.
_EXACT = decimal.Context(prec=2500, traps=[decimal.InvalidOperation, decimal.Overflow])


class IntentState(enum.StrEnum):
    """What is known of the order of an intent."""

    INTENT = "INTENT"  # durable, perhaps sent
    ACKED = "ACKED"
    PARTIAL = "PARTIAL"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    NOT_SENT = "NOT_SENT"
    UNKNOWN = "UNKNOWN"
    NOT_ARRIVED = "NOT_ARRIVED"

    @property
    def terminal(self) -> bool:
        """Whether the state never moves again; a late fill is booked all the same."""
        return not TRANSITIONS[self]

    @property
    def unresolved(self) -> bool:
        """Whether the venue has to be asked before anything new is risked."""
        return self in (IntentState.INTENT, IntentState.UNKNOWN)


_S = IntentState

TRANSITIONS: Mapping[IntentState, frozenset[IntentState]] = MappingProxyType(
    {
        _S.INTENT: frozenset(set(_S) - {_S.INTENT}),
        _S.UNKNOWN: frozenset(set(_S) - {_S.INTENT, _S.UNKNOWN, _S.NOT_SENT}),
        # An acknowledgement may precede the venue's own checks, so it may still be rejected.
        _S.ACKED: frozenset({_S.PARTIAL, _S.FILLED, _S.CANCELLED, _S.REJECTED, _S.UNKNOWN}),
        _S.PARTIAL: frozenset({_S.FILLED, _S.CANCELLED, _S.UNKNOWN}),
        _S.FILLED: frozenset(),
        _S.CANCELLED: frozenset(),
        _S.REJECTED: frozenset(),
        _S.NOT_SENT: frozenset(),
        _S.NOT_ARRIVED: frozenset(),
    }
)

_OF_STATUS: Mapping[OrderStatus, IntentState] = MappingProxyType(
    {
        OrderStatus.OPEN: _S.ACKED,
        OrderStatus.TRIGGERED: _S.ACKED,
        OrderStatus.UNRECOGNISED: _S.ACKED,
        OrderStatus.PARTIALLY_FILLED: _S.PARTIAL,
        OrderStatus.FILLED: _S.FILLED,
        OrderStatus.CANCELLED: _S.CANCELLED,
        OrderStatus.EXPIRED: _S.CANCELLED,
        OrderStatus.REJECTED: _S.REJECTED,
    }
)


@dataclass(frozen=True, slots=True)
class TrackedOrder:
    """An intent and everything the venue has said about its order.

    Attributes:
      quantity, filled, reported: base units, unsigned; ``filled`` is the sum of booked fills,
        ``reported`` the most that a report of the venue spoke of.
      trade_ids: of the booked fills.
    """

    client_id: str
    symbol: str
    kind: IntentKind
    role: Role
    side: Side
    quantity: Decimal
    reduce_only: bool
    state: IntentState = IntentState.INTENT
    filled: Decimal = ZERO
    reported: Decimal = ZERO
    trade_ids: frozenset[str] = frozenset()
    venue_order_id: str | None = None
    code: str | None = None

    @property
    def remaining(self) -> Decimal:
        """What may still be filled, base units: 0 once the order has ended and all is booked."""
        if self.state is IntentState.FILLED or self.state is IntentState.CANCELLED:
            return self.missing_fills
        if self.state.terminal:
            return ZERO
        return max(_EXACT.subtract(self.quantity, self.filled), ZERO)

    @property
    def missing_fills(self) -> Decimal:
        """Filled according to the venue and not booked yet: a reason to fetch, never to infer."""
        return max(_EXACT.subtract(self.reported, self.filled), ZERO)

    @property
    def contradicted(self) -> bool:
        """Whether fills say what the state or the size excludes."""
        never_live = (IntentState.REJECTED, IntentState.NOT_SENT, IntentState.NOT_ARRIVED)
        more = self.filled > self.quantity * _ROUNDED
        return more or (self.filled > 0 and self.state in never_live)


def move(order: TrackedOrder, state: IntentState) -> TrackedOrder:
    """The order in a state, if the table allows it; news that comes too late changes nothing."""
    if state not in TRANSITIONS[order.state]:
        return order
    return dataclasses.replace(order, state=state)


def advance(order: TrackedOrder, event: Outcome | OrderReport | Fill) -> TrackedOrder:
    """What one reply, report or fill tells about an order; events of other orders are refused.

    Raises:
      ValueError: the event belongs to another client id.
    """
    match event:
        case Definitive():
            return _answered(order, event)
        case Ambiguous():
            # Only silence is made unknown by silence: an order seen at the venue stays seen.
            return move(order, IntentState.UNKNOWN) if order.state is IntentState.INTENT else order
        case OrderReport():
            _same_id(order, event.client_id)
            order = dataclasses.replace(
                order,
                reported=max(order.reported, event.filled),
                venue_order_id=event.venue_order_id or order.venue_order_id,
            )
            return move(order, _OF_STATUS[event.status])
        case Fill():
            _same_id(order, event.client_id)
            return _filled(order, event)
        case _:
            assert_never(event)


def _same_id(order: TrackedOrder, client_id: str) -> None:
    if client_id != order.client_id:
        raise ValueError(f"order {order.client_id}: got an event of {client_id or 'no id'}.")


def _answered(order: TrackedOrder, outcome: Definitive) -> TrackedOrder:
    named = dataclasses.replace(
        order,
        venue_order_id=outcome.venue_order_id or order.venue_order_id,
        code=outcome.code or order.code,
    )
    match outcome.kind:
        case Certainty.ACCEPTED:
            return move(named, IntentState.ACKED)
        case Certainty.REJECTED:
            if outcome.category is Category.DUPLICATE:
                # An order with this id exists: whether it is this one, only the venue can say.
                unsure = order.state is IntentState.INTENT
                return move(named, IntentState.UNKNOWN) if unsure else order
            # A stream may have shown the order alive already; then the order is what counts.
            return move(named, IntentState.REJECTED) if order.state.unresolved else order
        case Certainty.NOT_SENT:
            return move(named, IntentState.NOT_SENT) if order.state.unresolved else order
        case _:
            assert_never(outcome.kind)


def _filled(order: TrackedOrder, fill: Fill) -> TrackedOrder:
    if fill.kind is FillKind.FUNDING or fill.trade_id in order.trade_ids:
        return order
    filled = _EXACT.add(order.filled, fill.quantity)
    order = dataclasses.replace(order, filled=filled, trade_ids=order.trade_ids | {fill.trade_id})
    return move(order, IntentState.FILLED if filled >= order.quantity else IntentState.PARTIAL)


def fold(fills: Iterable[Fill]) -> Decimal:
    """Signed position that fills of one symbol add up to; repeats count once, order is nothing.

    Raises:
      ValueError: one trade id came with two different sizes or sides.
    """
    known: dict[str, Decimal] = {}
    for fill in fills:
        if known.setdefault(fill.trade_id, fill.signed) != fill.signed:
            raise ValueError(
                f"fills: trade {fill.trade_id} was reported as {known[fill.trade_id]} and as"
                f" {fill.signed}; neither is booked by guess."
            )
    total = ZERO
    for signed in known.values():
        total = _EXACT.add(total, signed)
    return total
