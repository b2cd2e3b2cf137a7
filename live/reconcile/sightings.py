"""Findings over time: two snapshots have to agree before anything is traded because of them.

`Sightings` remembers what was found before and says when a finding counts as confirmed;
`live.reconcile.reactions.react` says what is done about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from live.reconcile.findings import (
    CashMismatch,
    DirectionChanged,
    Finding,
    ForeignOrder,
    OffTarget,
    OrderRevived,
    OwnOrderUnknown,
    PendingFills,
    PositionMismatch,
    PositionUnknown,
    StaleSnapshot,
    TargetMissing,
)
from live.reconcile.reactions import Degrade, ForeignPolicy, react
from live.types import Position, Unknown

SNAPSHOT_GAP_NS = 2_000_000_000  # two readings closer than this may be one stale answer


@dataclass(frozen=True, slots=True)
class Sighting:
    """A finding and since when it has been there.

    Attributes:
      told: it was reported as confirmed.
    """

    finding: Finding
    since_ns: int
    told: bool = False


@dataclass(frozen=True, slots=True)
class Sightings:
    """What the snapshots before found."""

    seen: tuple[Sighting, ...] = ()

    def note(
        self,
        findings: Iterable[Finding],
        received_ns: int,
        position: Position,
        gap_ns: int = SNAPSHOT_GAP_NS,
    ) -> tuple[Sightings, tuple[tuple[Finding, bool], ...]]:
        """One snapshot's findings; those to react to, each with whether it is confirmed.

        Every finding is reported when it is new and once more when a later snapshot agrees. What a
        snapshot could not see (the position was unknown, or all of it too old) is kept as it was.

        Args:
          received_ns: when the snapshot was received, monotonic.
        """
        found = {_key(finding): finding for finding in findings}
        blind = isinstance(position, Unknown)
        stale = any(isinstance(finding, StaleSnapshot) for finding in found.values())
        before = {_key(one.finding): one for one in self.seen}
        seen: list[Sighting] = []
        report: list[tuple[Finding, bool]] = []
        for key, finding in found.items():
            old = before.pop(key, None)
            if old is None:
                report.append((finding, False))
                seen.append(Sighting(finding, received_ns))
            elif not old.told and received_ns - old.since_ns >= gap_ns:
                report.append((finding, True))
                seen.append(Sighting(finding, old.since_ns, True))
            else:
                seen.append(Sighting(finding, old.since_ns, old.told))
        unseen = (one for one in before.values() if stale or (blind and _needs_position(one)))
        return Sightings((*seen, *unseen)), tuple(report)

    @property
    def reasons(self) -> frozenset[str]:
        """Reasons of degradation that still hold; the others have been seen to be gone."""
        held = (react(one.finding, ForeignPolicy.REFUSE, False) for one in self.seen)
        return frozenset(
            reaction.reason
            for reactions in held
            for reaction in reactions
            if isinstance(reaction, Degrade)
        )


def _key(finding: Finding) -> tuple[object, ...]:
    """What makes two findings the same."""
    name = type(finding).__name__
    match finding:
        case PositionMismatch(journal, venue):
            return name, journal, venue
        case OwnOrderUnknown(report) | ForeignOrder(report) | OrderRevived(report):
            return name, report.client_id, report.venue_order_id
        case PositionUnknown() | StaleSnapshot() | CashMismatch():
            return (name,)
        case PendingFills(difference):
            return name, difference
        case _:
            return name, finding


def _needs_position(sighting: Sighting) -> bool:
    positional = (DirectionChanged, OffTarget, PendingFills, PositionMismatch, TargetMissing)
    return isinstance(sighting.finding, positional)
