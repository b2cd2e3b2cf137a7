"""What a start believes of what it reads, and what it takes up of what the planner knew. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from live.reconcile.sightings import SNAPSHOT_GAP_NS
from live.types import Bracket, Flat, Held, OrderReport, Position, Snapshot


def disagreement(first: Snapshot, second: Snapshot) -> str | None:
    """Why two snapshots are not one fact; None = they agree."""
    if second.received_monotonic_ns - first.received_monotonic_ns < SNAPSHOT_GAP_NS:
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
