"""Findings over time: two snapshots have to agree before anything is traded because of them.

What should have gone because of that and has not is reported again after a while.

`Sightings` remembers what was found before and says when a finding counts as confirmed;
`live.reconcile.reactions.react` says what is done about it.
"""

from __future__ import annotations

import dataclasses
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
    SettingsUnread,
    StaleSnapshot,
    TargetMissing,
)
from live.reconcile.reactions import Degrade, ForeignPolicy, react
from live.types import Position, Unknown

# What was done about a finding is done again after so long where it is still there.
REPEAT_NS = 60_000_000_000
# Why findings degrade; each ends when no finding gives it any more.
REASONS = frozenset({"position", "fills", "mismatch", "foreign", "settings"})
SNAPSHOT_GAP_NS = 2_000_000_000  # two readings closer than this may be one stale answer


@dataclass(frozen=True, slots=True)
class Sighting:
    """A finding and since when it has been there.

    Attributes:
      told_ns: when it was last reported as confirmed; None = not yet.
    """

    finding: Finding
    since_ns: int
    told_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Sightings:
    """What the snapshots before found.

    Attributes:
      policy: what happens to what the journal does not explain.
    """

    seen: tuple[Sighting, ...] = ()
    policy: ForeignPolicy = ForeignPolicy.REFUSE

    def note(
        self,
        findings: Iterable[Finding],
        received_ns: int,
        position: Position,
        gap_ns: int = SNAPSHOT_GAP_NS,
    ) -> tuple[Sightings, tuple[tuple[Finding, bool], ...]]:
        """One snapshot's findings; those to react to, each with whether it is confirmed.

        Every finding is reported when it is new and once more when a later snapshot agrees; one
        that an order of ours should have ended is reported again until it has. What a snapshot
        could not see (the position was unknown, or all of it too old) is kept as it was.

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
            elif _due(old, received_ns, gap_ns):
                report.append((finding, True))
                seen.append(Sighting(finding, old.since_ns, received_ns))
            else:
                seen.append(Sighting(finding, old.since_ns, old.told_ns))
        unseen = (one for one in before.values() if stale or (blind and _needs_position(one)))
        return dataclasses.replace(self, seen=(*seen, *unseen)), tuple(report)

    @property
    def reasons(self) -> frozenset[str]:
        """Reasons of degradation that still hold; the others have been seen to be gone."""
        held = (react(one.finding, self.policy, False) for one in self.seen if self._counts(one))
        return frozenset(
            reaction.reason
            for reactions in held
            for reaction in reactions
            if isinstance(reaction, Degrade)
        )

    @property
    def settled(self) -> bool:
        """Whether venue and journal agree, as far as the last snapshot shows.

        A position that is not what the planner aims at is for the next decision, not against it.
        """
        stale = any(isinstance(one.finding, StaleSnapshot) for one in self.seen)
        return not (stale or self.reasons)

    def _counts(self, one: Sighting) -> bool:
        """Whether a finding still stands in the way: an order of others that was adopted not."""
        adopted = self.policy is ForeignPolicy.ADOPT and isinstance(one.finding, ForeignOrder)
        return not (adopted and one.told_ns is not None)


def _due(old: Sighting, received_ns: int, gap_ns: int) -> bool:
    """Whether a finding that is seen again is to be reported."""
    if old.told_ns is None:
        return received_ns - old.since_ns >= gap_ns
    ends = isinstance(old.finding, ForeignOrder | OrderRevived | TargetMissing)
    return ends and received_ns - old.told_ns >= REPEAT_NS


def _key(finding: Finding) -> tuple[object, ...]:
    """What makes two findings the same."""
    name = type(finding).__name__
    match finding:
        case PositionMismatch(journal, venue):
            return name, journal, venue
        case OwnOrderUnknown(report) | ForeignOrder(report) | OrderRevived(report):
            return name, report.client_id, report.venue_order_id
        case PositionUnknown() | StaleSnapshot() | CashMismatch() | SettingsUnread():
            return (name,)
        case PendingFills(difference):
            return name, difference
        case _:
            return name, finding


def _needs_position(sighting: Sighting) -> bool:
    positional = (DirectionChanged, OffTarget, PendingFills, PositionMismatch, TargetMissing)
    return isinstance(sighting.finding, positional)
