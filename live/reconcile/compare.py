"""Where the venue, the journal and the planner disagree in one snapshot.

A position that could not be read is a finding of its own; nothing else is concluded from it. The
venue is the truth, the journal explains it, and what orders still under way may explain is waited
for before it counts as unexplained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, assert_never

from live.journal.ids import is_ours
from live.orders import TrackedOrder, fold
from live.reconcile.findings import (
    CashMismatch,
    Cause,
    DirectionChanged,
    Finding,
    ForcedFill,
    ForeignOrder,
    MissingFills,
    OffTarget,
    OrderMissing,
    OrderRevived,
    OwnOrderUnknown,
    PendingFills,
    PositionMismatch,
    PositionUnknown,
    SettingsChanged,
    StaleSnapshot,
    TargetMissing,
)
from live.types import (
    DUST,
    ZERO,
    Bracket,
    Configured,
    Fill,
    FillKind,
    Flat,
    Held,
    IntentKind,
    OrderReport,
    Role,
    Snapshot,
    Unknown,
)

CASH_TOLERANCE = Decimal("0.005")  # of equity


@dataclass(frozen=True, slots=True)
class JournalView:
    """What the journal says of one symbol.

    Attributes:
      tag: in the client ids of the owner. position: booked fills and acknowledged adjustments,
        signed base units. orders: by client id, those that may still matter. following: client ids
        of market orders whose end is being awaited.
    """

    tag: str
    position: Decimal
    orders: Mapping[str, TrackedOrder]
    following: frozenset[str] = frozenset()


class PlannerView(Protocol):
    """What the planner remembers of one symbol."""

    @property
    def direction(self) -> int:
        """-1, 0 or 1."""

    @property
    def target_quantity(self) -> Decimal:
        """Signed position it aims at, base units."""

    @property
    def target_tolerance(self) -> Decimal:
        """Closer than this the target is reached, base units."""

    @property
    def bracket(self) -> Bracket | None:
        """Legs confirmed at the venue."""


def cause_of(
    fill: Fill,
    view: JournalView,
    *,
    legs: Mapping[str, Role] | None = None,
    disaster: bool = False,
) -> Cause:
    """Why a fill happened.

    Args:
      legs: venue order id -> role, of legs that belong to the position and carry no id of ours.
      disaster: the stop of this symbol is the safety net of a policy without stops.
    """
    match fill.kind:
        case FillKind.LIQUIDATION:
            return Cause.LIQUIDATION
        case FillKind.ADL:
            return Cause.ADL
        case FillKind.FUNDING:
            return Cause.FUNDING
        case FillKind.SETTLEMENT:
            return Cause.SETTLEMENT
        case FillKind.TRADE:
            order = view.orders.get(fill.client_id) if fill.client_id else None
            named = fill.role or (legs or {}).get(fill.venue_order_id)
            role = order.role if order is not None else named
            if role is Role.STOP:
                return Cause.DISASTER_STOP if disaster else Cause.STOP
            if role is Role.TARGET:
                return Cause.TARGET
            own = order is not None or is_ours(fill.client_id, view.tag)
            return Cause.ORDER if own else Cause.MANUAL
        case _:
            assert_never(fill.kind)


def forced(fills: Iterable[tuple[Fill, Cause]]) -> tuple[ForcedFill, ...]:
    """Those fills that halt."""
    halting = (Cause.LIQUIDATION, Cause.ADL, Cause.DISASTER_STOP)
    return tuple(ForcedFill(cause, fill) for fill, cause in fills if cause in halting)


def compare(
    view: JournalView,
    planner: PlannerView,
    snapshot: Snapshot,
    *,
    fills_read: bool,
    manual: Iterable[Fill] = (),
    not_before_ms: int = 0,
    position_legs: bool = False,
) -> tuple[Finding, ...]:
    """What a snapshot says that the journal and the planner do not.

    Args:
      fills_read: every fill up to this snapshot was read and booked; else no difference is judged.
      manual: fills of others that no adjustment has taken up yet. not_before_ms: venue time of the
        newest outcome; an older snapshot would undo it. position_legs: the venue keeps stop and
        target on the position and lists them without our ids.
    """
    if snapshot.venue_time_ms < not_before_ms:
        return (StaleSnapshot(snapshot.venue_time_ms),)
    found = list(_orders(view, snapshot.orders, position_legs))
    position = snapshot.position
    match position:
        case Unknown(reason):
            found.append(PositionUnknown(reason))
        case Flat():
            found += _position(view, planner, snapshot, ZERO, manual, fills_read)
        case Held(quantity=quantity):
            found += _position(view, planner, snapshot, quantity, manual, fills_read)
            found += _target(view, planner, position, snapshot.orders)
        case _:
            assert_never(position)
    return tuple(found)


def _position(
    view: JournalView,
    planner: PlannerView,
    snapshot: Snapshot,
    quantity: Decimal,
    manual: Iterable[Fill],
    fills_read: bool,
) -> Iterator[Finding]:
    step = snapshot.instrument.quantity_step
    tolerance = step if step > 0 else DUST
    difference = quantity - view.position
    if abs(difference) >= tolerance:
        # An adjustment that took up a fill which is booked later would count it twice.
        if not fills_read or _under_way(view, snapshot.orders):
            yield PendingFills(difference)
        else:
            explained = abs(difference - fold(manual)) < tolerance
            foreign = explained or abs(view.position) < tolerance
            yield PositionMismatch(view.position, quantity, foreign)
    residue = isinstance(snapshot.position, Held) and snapshot.position.residue
    direction = 0 if residue or abs(quantity) <= DUST else 1 if quantity > 0 else -1
    if direction != planner.direction:
        yield DirectionChanged(planner.direction, direction)
    elif direction and abs(quantity - planner.target_quantity) >= planner.target_tolerance:
        yield OffTarget(quantity, planner.target_quantity)


def _under_way(view: JournalView, reports: tuple[OrderReport, ...]) -> bool:
    """Whether fills of own orders may exist that are not booked yet."""
    listed = {report.client_id: report.filled for report in reports}
    for client_id, order in view.orders.items():
        if order.kind in (IntentKind.AMEND, IntentKind.CANCEL):
            continue
        if order.missing_fills > 0 or listed.get(client_id, order.filled) > order.filled:
            return True
        # What rests at the venue has filled what it says; what is not listed, nobody knows.
        if client_id not in listed and not order.state.terminal:
            return True
    return False


def _orders(
    view: JournalView, reports: tuple[OrderReport, ...], position_legs: bool
) -> Iterator[Finding]:
    listed: set[str] = set()
    for report in reports:
        listed.add(report.client_id)
        tracked = view.orders.get(report.client_id) if report.client_id else None
        if tracked is not None:
            if tracked.state.terminal and not report.status.terminal:
                yield OrderRevived(report)
            if report.filled > tracked.filled:
                yield MissingFills(report.client_id)
        elif is_ours(report.client_id, view.tag):
            yield OwnOrderUnknown(report)
        elif not report.status.terminal and not (position_legs and _position_leg(report)):
            yield ForeignOrder(report)
    for client_id in _resting(view) - listed:
        yield OrderMissing(client_id)


def _position_leg(report: OrderReport) -> bool:
    leg = report.role is not None and report.role.protective
    return leg and report.reduce_only and not report.client_id


def _resting(view: JournalView) -> AbstractSet[str]:
    """Orders that an order listing has to show; what is searched or followed is left to that."""
    unlisted = (IntentKind.AMEND, IntentKind.CANCEL)
    return {
        client_id
        for client_id, order in view.orders.items()
        if not (order.state.terminal or order.state.unresolved or order.kind in unlisted)
        and client_id not in view.following
    }


def _target(
    view: JournalView, planner: PlannerView, held: Held, reports: tuple[OrderReport, ...]
) -> Iterator[Finding]:
    wanted = None if planner.bracket is None else planner.bracket.target_price
    if wanted is None or held.target_price is not None:
        return
    live = (r for r in reports if r.role is Role.TARGET and not r.status.terminal)
    if not any(report.client_id in view.orders for report in live):
        yield TargetMissing(wanted)


@dataclass(frozen=True, slots=True)
class Leg:
    """One symbol between two readings of equity.

    Attributes:
      quantity, mark_before: at the first reading. mark_now: at the second. fills: in between.
    """

    quantity: Decimal
    mark_before: Decimal
    mark_now: Decimal
    fills: tuple[Fill, ...] = ()


def explained_equity(before: Decimal, legs: Iterable[Leg]) -> Decimal:
    """Equity that an earlier one, the moves of the marks and the fills since lead to, quote units;
    fees are taken to be in the settlement asset."""
    total = before
    for leg in legs:
        total += leg.quantity * (leg.mark_now - leg.mark_before)
        known: set[str] = set()
        for fill in leg.fills:
            if fill.trade_id not in known:
                known.add(fill.trade_id)
                total += fill.signed * (leg.mark_now - fill.price) - fill.fee
    return total


def cash_finding(
    before: Decimal, legs: Iterable[Leg], equity: Decimal, tolerance: Decimal = CASH_TOLERANCE
) -> tuple[CashMismatch, ...]:
    """Whether equity moved for no known reason, beyond a fraction of it."""
    expected = explained_equity(before, legs)
    if abs(equity - expected) <= tolerance * abs(before):
        return ()
    return (CashMismatch(expected, equity),)


def settings_finding(wanted: Configured, found: Configured) -> tuple[SettingsChanged, ...]:
    """Whether the account's settings of a symbol are no longer those that were set."""
    return () if wanted == found else (SettingsChanged(wanted, found),)
