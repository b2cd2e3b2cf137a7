"""How a symbol is looked after, and what has become of it so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from live.reconcile.reactions import ForeignPolicy
from live.trading.acts import Acted
from live.types import Snapshot

_SHOWN_DECISIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolConfig:
    """How a symbol is looked after; seconds.

    Attributes:
      policy: deadline of a decision. fills_every: between reads of the fills while nothing asks
        for them.
      second_look: before the start believes what it read.
      foreign: what happens to what the journal does not explain. unreadable: "halt", "flatten" or
        "hold" after ``grace_bars`` bars that could not be read.
      close_on_start: what is owned is closed before the first bar.
      simulated: an account that is nobody else's and moves with its bars alone: its fills are
        booked, and nothing is compared or protected between them.
    """

    policy: float = 20.0
    fills_every: float = 60.0
    second_look: float = 2.0
    foreign: ForeignPolicy = ForeignPolicy.REFUSE
    unreadable: str = "halt"
    grace_bars: int = 3
    close_on_start: bool = False
    simulated: bool = False


@dataclass(slots=True)
class Progress:
    """What the page and the tests look at; ``seen`` is the newest look at the account."""

    steps: int = 0
    missed_bars: int = 0
    unreadable: int = 0
    last: Acted | None = None
    seen: Snapshot | None = None
    decisions: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_SHOWN_DECISIONS))
