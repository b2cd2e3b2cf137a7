"""What is done about a finding: reactions by policy, and none that trades unless it is confirmed.

The stop of a position is not decided here: `live.orders.protection.Guard` reacts to a missing one
at once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import assert_never

from live.reconcile.findings import (
    CashMismatch,
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
    SettingsUnread,
    StaleSnapshot,
    TargetMissing,
)
from live.risk import Latch, TradingState
from live.types import ZERO, OrderReport


class ForeignPolicy(enum.StrEnum):
    """What happens to positions and orders that the journal does not explain."""

    REFUSE = "refuse"
    ADOPT = "adopt"
    FLATTEN = "flatten"


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Take another snapshot, at least `live.reconcile.SNAPSHOT_GAP_NS` after this one."""


@dataclass(frozen=True, slots=True)
class FetchFills:
    """Read the fills since the watermark and book them."""


@dataclass(frozen=True, slots=True)
class QueryOrder:
    """Ask for an order by its id; if it stays unseen it is unknown."""

    client_id: str


@dataclass(frozen=True, slots=True)
class ResetPlanner:
    """Take the direction that the venue has now: hold count 0, no level, no bracket."""


@dataclass(frozen=True, slots=True)
class ForgetLevel:
    """Release the same-level latch, so that the policy may correct."""


@dataclass(frozen=True, slots=True)
class AdoptOrder:
    """Take an order into the journal, by its id or as another's."""

    report: OrderReport


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Cancel an order at the venue, by whatever id it has."""

    report: OrderReport


@dataclass(frozen=True, slots=True)
class PlaceTarget:
    """Place the target of the bracket again, quote units."""

    price: Decimal


@dataclass(frozen=True, slots=True)
class CheckProtection:
    """Look at the stop of the position now."""


@dataclass(frozen=True, slots=True)
class RecordAdjustment:
    """Journal what the venue did and the journal cannot explain.

    Attributes:
      quantity: signed base units. cash: quote units. acknowledged: it counts in the journal's
        position at once; else a person has to acknowledge it.
    """

    kind: str
    quantity: Decimal
    cash: Decimal
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class FlattenPosition:
    """Close what the venue holds: cancel entries, reduce-only market, confirm by reading."""

    reason: str


@dataclass(frozen=True, slots=True)
class Degrade:
    """Open nothing while the reason lasts."""

    reason: str


@dataclass(frozen=True, slots=True)
class SetLatch:
    """Journal a latched state."""

    latch: Latch


Reaction = (
    LookAgain
    | FetchFills
    | QueryOrder
    | ResetPlanner
    | ForgetLevel
    | AdoptOrder
    | CancelOrder
    | PlaceTarget
    | CheckProtection
    | RecordAdjustment
    | FlattenPosition
    | Degrade
    | SetLatch
)

TRADES = (CancelOrder, PlaceTarget, FlattenPosition)


def react(finding: Finding, policy: ForeignPolicy, confirmed: bool) -> tuple[Reaction, ...]:
    """What to do about a finding.

    Args:
      confirmed: two snapshots agree on it; without that nothing is traded and nothing is latched
        that a stale answer could have caused.
    """
    match finding:
        case PositionUnknown():
            return (Degrade("position"),)
        case StaleSnapshot():
            return (LookAgain(),)
        case DirectionChanged():
            return () if confirmed else (FetchFills(), ResetPlanner(), CheckProtection())
        case OffTarget():
            return () if confirmed else (ForgetLevel(),)
        case PendingFills() | MissingFills():
            return (Degrade("fills"), FetchFills())
        case PositionMismatch():
            if not confirmed:
                return (Degrade("mismatch"), FetchFills(), LookAgain())
            return _mismatch(finding, policy)
        case OwnOrderUnknown(report):
            return () if confirmed else (AdoptOrder(report), FetchFills())
        case ForeignOrder(report):
            if not confirmed:
                return (Degrade("foreign"), LookAgain())
            return _foreign_order(report, policy)
        case OrderMissing(client_id):
            return () if confirmed else (QueryOrder(client_id), FetchFills())
        case OrderRevived(report):
            if not confirmed:
                return (Degrade("mismatch"), QueryOrder(report.client_id), LookAgain())
            return (CancelOrder(report), _reducing("mismatch", f"{report.client_id} came to life"))
        case TargetMissing(price):
            return (PlaceTarget(price),) if confirmed else (LookAgain(),)
        case SettingsChanged(wanted, found):
            return () if confirmed else (_reducing("settings", f"{found} instead of {wanted}"),)
        case SettingsUnread():
            return (Degrade("settings"),)
        case CashMismatch(expected, equity):
            if not confirmed:
                return (FetchFills(), LookAgain())
            return (RecordAdjustment("cash", ZERO, equity - expected, False),)
        case ForcedFill(cause, fill):
            detail = f"trade {fill.trade_id}"
            latch = SetLatch(Latch(TradingState.HALTED, cause.value, detail))
            return () if confirmed else (latch, CheckProtection())
        case _:
            assert_never(finding)


def _reducing(reason: str, detail: str) -> SetLatch:
    return SetLatch(Latch(TradingState.REDUCING, reason, detail))


def _mismatch(found: PositionMismatch, policy: ForeignPolicy) -> tuple[Reaction, ...]:
    detail = f"the venue holds {found.venue}, the journal {found.journal}"
    kind, quantity, none = "manual" if found.foreign else "mismatch", found.difference, ZERO
    if not found.foreign or policy is ForeignPolicy.REFUSE:
        reason = "foreign" if found.foreign else "mismatch"
        recorded = RecordAdjustment(kind, quantity, none, acknowledged=False)
        return (recorded, _reducing(reason, detail), CheckProtection())
    recorded = RecordAdjustment(kind, quantity, none, acknowledged=True)
    if policy is ForeignPolicy.ADOPT:
        return (recorded, ForgetLevel(), CheckProtection())
    return (recorded, FlattenPosition("foreign"))


def _foreign_order(report: OrderReport, policy: ForeignPolicy) -> tuple[Reaction, ...]:
    match policy:
        case ForeignPolicy.REFUSE:
            return (_reducing("foreign", f"order {report.venue_order_id}"),)
        case ForeignPolicy.ADOPT:
            return (AdoptOrder(report),)
        case ForeignPolicy.FLATTEN:
            return (CancelOrder(report),)
        case _:
            assert_never(policy)
