"""Following an accepted market order to its end: poll, cancel the remainder, read what it left.

Pure: the caller performs each command and reports its answer. Accepted is not filled, a cancelled
wait is not an end, and an order whose end is never seen becomes unknown rather than cancelled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from live.orders import IntentState, TrackedOrder, advance, move
from live.types import (
    Absent,
    Answer,
    Category,
    Definitive,
    Fill,
    Found,
    OrderReport,
    Outcome,
    Position,
    Unavailable,
    Unknown,
)


@dataclass(frozen=True, slots=True)
class FollowConfig:
    """When to look at an accepted order, milliseconds.

    Attributes:
      polls_ms: waits before the polls; the last one repeats. deadline_ms: when a remainder is
        cancelled; ``part_ms`` after a part was seen to have filled at the latest, because the part
        may have no stop before the order ends. cancel_attempts: cancels before the order counts as
        unknown. reads: tries at missing fills and at the position.
    """

    polls_ms: tuple[int, ...] = (250, 500, 1000, 2000)
    deadline_ms: int = 10_000
    part_ms: int = 1_500
    cancel_attempts: int = 3
    reads: int = 3


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing to do before an instant, milliseconds; events may come earlier."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask for the order by its id."""


@dataclass(frozen=True, slots=True)
class CancelRemainder:
    """The deadline has passed: cancel what is not filled."""


@dataclass(frozen=True, slots=True)
class FetchFills:
    """The venue reported more than was booked."""


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """The order has ended: read what it left."""


@dataclass(frozen=True, slots=True)
class Done:
    """The order has ended.

    Attributes:
      position: as read afterwards; it may be unknown, and then the symbol is degraded.
    """

    order: TrackedOrder
    position: Position


@dataclass(frozen=True, slots=True)
class Lost:
    """No end was seen after every cancel; the order is unknown and is resolved like one."""

    order: TrackedOrder


FollowCommand = Sleep | Poll | CancelRemainder | FetchFills | ReadPosition | Done | Lost


@dataclass(frozen=True, slots=True)
class FollowUp:
    """An accepted market order on its way to an end: poll, cancel the remainder, read what is left.

    Attributes:
      poll_ms: instant of the next poll. act_ms: instant of the next cancel.
    """

    order: TrackedOrder
    config: FollowConfig
    poll_ms: int
    act_ms: int
    polls: int = 0
    cancels: int = 0
    fetches: int = 0
    reads: int = 0
    position: Position | None = None

    @classmethod
    def start(cls, order: TrackedOrder, now_ms: int, config: FollowConfig) -> FollowUp:
        """Begin when the order was accepted; ``now_ms`` is any clock that never goes back."""
        follow = cls(order, config, now_ms + config.polls_ms[0], now_ms + config.deadline_ms)
        return follow._hurried(now_ms) if order.filled or order.reported else follow

    def command(self, now_ms: int) -> FollowCommand:
        """What to do now."""
        if self.order.state.terminal:
            if self.order.missing_fills > 0 and self.fetches < self.config.reads:
                return FetchFills()
            if self.position is None:
                return ReadPosition()
            return Done(self.order, self.position)
        if now_ms >= self.poll_ms:
            return Poll()
        if now_ms >= self.act_ms:
            if self.cancels < self.config.cancel_attempts:
                return CancelRemainder()
            return Lost(move(self.order, IntentState.UNKNOWN))
        return Sleep(min(self.poll_ms, self.act_ms))

    def noted(self, event: OrderReport | Fill) -> FollowUp:
        """A stream's or a fetch's news of the order."""
        return dataclasses.replace(self, order=advance(self.order, event))

    def polled(self, answer: Answer, now_ms: int) -> FollowUp:
        """The answer to a poll; silence and absence of an accepted order change nothing."""
        polls = self.polls + 1
        wait = self.config.polls_ms[min(polls, len(self.config.polls_ms) - 1)]
        follow = dataclasses.replace(self, polls=polls, poll_ms=now_ms + wait)
        match answer:
            case Found(report):
                first = not (follow.order.filled or follow.order.reported) and report.filled
                follow = follow.noted(report)
                return follow._hurried(now_ms) if first else follow
            case Absent() | Unavailable():
                return follow
            case _:
                assert_never(answer)

    def _hurried(self, now_ms: int) -> FollowUp:
        """A part has filled: the rest gets little time."""
        return dataclasses.replace(self, act_ms=min(self.act_ms, now_ms + self.config.part_ms))

    def cancelled(self, outcome: Outcome, now_ms: int) -> FollowUp:
        """The answer to a cancel. It ends nothing by itself: the order's own report does."""
        wait = self.config.polls_ms[0]
        gone = isinstance(outcome, Definitive) and outcome.category is Category.NOT_FOUND
        cancels = self.cancels + 1
        return dataclasses.replace(
            self,
            cancels=cancels,
            polls=0,
            poll_ms=now_ms if gone else now_ms + wait,
            act_ms=now_ms + wait * 2 ** (cancels + 1),
        )

    def fetched(self, fills: Iterable[Fill]) -> FollowUp:
        """The answer to a fetch of fills, those of other orders left out; an empty one too."""
        follow = dataclasses.replace(self, fetches=self.fetches + 1)
        for fill in fills:
            if fill.client_id == self.order.client_id:
                follow = follow.noted(fill)
        return follow

    def position_read(self, position: Position) -> FollowUp:
        """The position after the end; an unknown one is read again a few times."""
        reads = self.reads + 1
        if isinstance(position, Unknown) and reads < self.config.reads:
            return dataclasses.replace(self, reads=reads)
        return dataclasses.replace(self, reads=reads, position=position)
