"""What a decision is made on, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from live.observation.bars import Revision
from live.planner.decision import Decision, Plan
from live.risk.gate import Deny
from live.trading.execution import Sent
from live.types import Ambiguous, Certainty, Intent, Snapshot


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is made on.

    Attributes:
      observation: as the policy sees it. bars_passed: since the view before.
      revised: closed bars that the venue told differently at the view before.
    """

    snapshot: Snapshot
    observation: dict[str, np.ndarray]
    bars_passed: int
    revised: tuple[Revision, ...] = ()

    @property
    def info(self) -> dict[str, int]:
        """What the policy is told beside the observation."""
        return {
            "bar_open_ms": self.snapshot.bar_open_ms,
            "venue_time_ms": self.snapshot.venue_time_ms,
            "missed_bars": self.bars_passed - 1,
        }


@dataclass(frozen=True, slots=True)
class NotActed:
    """A bar that nothing was decided on; ``refused`` is the code of why."""

    refused: str

    @property
    def decision(self) -> Decision:
        """What that amounts to."""
        return Decision.HOLD


@dataclass(frozen=True, slots=True)
class Acted:
    """What a decision came to.

    Attributes:
      plans: one, or two of a flip. sent: in order. denied: by the gate, with its code.
    """

    plans: tuple[Plan, ...]
    sent: tuple[Sent, ...] = ()
    denied: tuple[tuple[Intent, Deny], ...] = ()

    @property
    def changed(self) -> bool:
        """Whether something has left that may have changed the account."""
        return any(
            isinstance(one.outcome, Ambiguous) or one.outcome.kind is not Certainty.NOT_SENT
            for one in self.sent
        )

    @property
    def decision(self) -> Decision:
        """What was done in the end."""
        return self.plans[-1].decision

    @property
    def refused(self) -> str | None:
        """Code of what kept a wanted order from being sent, or None."""
        if self.denied:
            return self.denied[0][1].code
        return self.plans[-1].refused
