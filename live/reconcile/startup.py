"""The start of the daemon as data, and what it does with what it finds.

Nothing is traded before the sequence is complete, and nothing is opened in the bar in which the
process starts. Everything here is pure: the runner performs the steps in order and asks.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal

from live.reconcile.compare import JournalView, PlannerView, compare
from live.reconcile.findings import Finding, MissingFills, OrderMissing, PendingFills
from live.reconcile.reactions import (
    Degrade,
    FlattenPosition,
    ForeignPolicy,
    LookAgain,
    Reaction,
    react,
)
from live.types import Bracket, Fill, Flat, Held, OrderReport, Position, Snapshot, Unknown


class Failure(enum.StrEnum):
    """What a step that does not succeed leads to."""

    REFUSE = "refuse"  # the process ends and says why
    WAIT = "wait"  # it is tried again; protection that exists stays


class StartStep(enum.StrEnum):
    """One step of the start."""

    LOCK = "lock"
    JOURNAL = "journal"
    SECRETS = "secrets"
    CONNECT = "connect"
    CLOCK = "clock"
    ACCOUNT = "account"
    PERMISSIONS = "permissions"
    INSTRUMENT = "instrument"
    HANDSHAKE = "handshake"
    RESOLVE = "resolve"
    READ = "read"
    COMPARE = "compare"
    AGREE = "agree"
    PROTECT = "protect"
    RESTORE = "restore"
    NEXT_BAR = "next_bar"


@dataclass(frozen=True, slots=True)
class StartRow:
    """What a step does, and what its failure means."""

    step: StartStep
    does: str
    failure: Failure


START: tuple[StartRow, ...] = (
    StartRow(StartStep.LOCK, "take the lock of the account", Failure.REFUSE),
    StartRow(StartStep.JOURNAL, "check and open the journal", Failure.REFUSE),
    StartRow(StartStep.SECRETS, "read the keys", Failure.REFUSE),
    StartRow(StartStep.CONNECT, "build clients and streams", Failure.WAIT),
    StartRow(StartStep.CLOCK, "measure the venue's time", Failure.WAIT),
    StartRow(StartStep.ACCOUNT, "prove that this is the configured account", Failure.REFUSE),
    StartRow(StartStep.PERMISSIONS, "check what the keys may do", Failure.REFUSE),
    StartRow(StartStep.INSTRUMENT, "read the filters of the symbol", Failure.REFUSE),
    StartRow(StartStep.HANDSHAKE, "set leverage and modes, read them back", Failure.REFUSE),
    StartRow(StartStep.RESOLVE, "resolve every intent without an end", Failure.WAIT),
    StartRow(StartStep.READ, "read orders, position, balance and fills", Failure.WAIT),
    StartRow(StartStep.COMPARE, "compare the venue with the journal", Failure.WAIT),
    StartRow(StartStep.AGREE, "take a second snapshot that agrees", Failure.WAIT),
    StartRow(StartStep.PROTECT, "restore protection, the local watcher first", Failure.WAIT),
    StartRow(StartStep.RESTORE, "restore what the planner knew", Failure.WAIT),
    StartRow(StartStep.NEXT_BAR, "wait for the next bar", Failure.WAIT),
)

FILLS_OVERLAP_MS = 600_000  # fills are read again from this long before the watermark
START_GAP_NS = 2_000_000_000  # between the two snapshots


@dataclass(frozen=True, slots=True)
class NotYet:
    """The start cannot go on; the step is repeated.

    Attributes:
      step: to repeat. client_ids: of orders to resolve first.
    """

    step: StartStep
    why: str
    client_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proceed:
    """Both snapshots agree: carry out the reactions in order, then verify protection.

    Attributes:
      position: of the venue, known. findings: behind the reactions.
    """

    position: Flat | Held
    findings: tuple[Finding, ...]
    reactions: tuple[Reaction, ...]


def decide_start(
    view: JournalView,
    planner: PlannerView,
    first: Snapshot,
    second: Snapshot | None,
    policy: ForeignPolicy,
    *,
    close_on_init: bool = False,
    manual: tuple[Fill, ...] = (),
    position_legs: bool = False,
) -> NotYet | Proceed:
    """What to do with what a start has found, once the fills are booked.

    Args:
      close_on_init: flatten the position that the journal owns.
      manual, position_legs: as for `compare`.
    """
    unresolved = tuple(i for i, order in view.orders.items() if order.state.unresolved)
    if unresolved:
        return NotYet(StartStep.RESOLVE, "orders without an end", unresolved)
    if isinstance(first.position, Unknown):
        return NotYet(StartStep.READ, f"the position is unknown: {first.position.reason}")
    if second is None:
        return NotYet(StartStep.AGREE, "one snapshot is not a fact")
    position = second.position
    if isinstance(position, Unknown):
        return NotYet(StartStep.READ, f"the position is unknown: {position.reason}")
    differ = disagreement(first, second)
    if differ is not None:
        return NotYet(StartStep.AGREE, differ)
    findings = compare(
        view, planner, second, fills_read=True, manual=manual, position_legs=position_legs
    )
    missing = tuple(one.client_id for one in findings if isinstance(one, OrderMissing))
    if missing:
        return NotYet(StartStep.RESOLVE, "orders that the venue does not list", missing)
    if any(isinstance(one, PendingFills | MissingFills) for one in findings):
        return NotYet(StartStep.READ, "fills that are not booked yet")
    reactions: list[Reaction] = []
    for finding in findings:
        # What a single snapshot asks for, then what the agreement of two allows.
        both = (*react(finding, policy, False), *react(finding, policy, True))
        reactions += [one for one in both if not isinstance(one, LookAgain | Degrade)]
    owned = isinstance(position, Held) and view.position * position.quantity > 0
    if close_on_init and owned and not any(isinstance(r, FlattenPosition) for r in reactions):
        reactions.append(FlattenPosition("close_position_on_init"))
    return Proceed(position, findings, tuple(dict.fromkeys(reactions)))


def disagreement(first: Snapshot, second: Snapshot) -> str | None:
    """Why two snapshots are not one fact; None = they agree."""
    if second.received_monotonic_ns - first.received_monotonic_ns < START_GAP_NS:
        return "the snapshots are too close together"
    if second.venue_time_ms <= first.venue_time_ms:
        return "the second snapshot is not newer"
    if _held(first.position) != _held(second.position):
        return "the position changed in between"
    if _listed(first.orders) != _listed(second.orders):
        return "the orders changed in between"
    return None


def _held(position: Position) -> tuple[Decimal, Decimal] | None:
    if isinstance(position, Held):
        return position.quantity, position.entry_price
    return None


def _listed(orders: tuple[OrderReport, ...]) -> frozenset[tuple[object, ...]]:
    return frozenset((o.client_id, o.venue_order_id, o.status, o.filled) for o in orders)


# What the planner knew ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Restored:
    """What the planner of a symbol starts with.

    Attributes:
      last_level: None = unknown, so that every action acts. held_bars: closed bars of the position.
    """

    last_level: float | None
    direction: int
    held_bars: int
    bracket: Bracket | None


def restore(
    position: Flat | Held,
    *,
    level: float | None,
    target: Decimal,
    tolerance: Decimal,
    held_bars: int,
    legs: Bracket | None,
) -> Restored:
    """The planner's memory after a restart, as far as the venue agrees with it.

    Args:
      level, target, tolerance, held_bars: of the journal; the bars counted up to now.
      legs: that were found at the venue, at their prices there; no others are remembered.
    """
    if isinstance(position, Flat):
        reached = abs(target) <= tolerance and level == 0
        return Restored(level if reached else None, 0, 0, None)
    direction = 0 if position.residue else 1 if position.quantity > 0 else -1
    same_side = direction != 0 and direction * target > 0
    reached = same_side and abs(position.quantity - target) < tolerance
    if not same_side:
        return Restored(None, direction, 0, None)
    return Restored(level if reached else None, direction, held_bars, legs)
