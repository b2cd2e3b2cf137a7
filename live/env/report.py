"""What a step tells beside the observation: its info, and its row of the history."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from live.clock import Clock
from live.trading.acts import Acted, NotActed, View
from live.trading.execution import Sent
from live.trading.meter import Meter
from live.types import Fill, FillKind, Flat, Held, Position

Observation = dict[str, np.ndarray]


@dataclass(slots=True)
class Latencies:
    """How long the parts of a step took, milliseconds of the clock; 0 where nothing was done.

    Attributes:
      snapshot_ms: reading everything of the newest bar. policy_ms: between an observation and the
        action that answers it. submit_ms: from the action to the end of its orders, their stop
        included.
      journal_ms: the commits of the step together.
    """

    snapshot_ms: float = 0.0
    policy_ms: float = 0.0
    submit_ms: float = 0.0
    journal_ms: float = 0.0


@dataclass(slots=True)
class Told:
    """What happened between two observations.

    Attributes:
      acted: what an action came to; None = nobody was asked.
      fills: that were new to the journal, funding included.
    """

    acted: Acted | NotActed | None = None
    fills: list[Fill] = field(default_factory=list)
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def sent(self) -> tuple[Sent, ...]:
        """What left, in order."""
        return self.acted.sent if isinstance(self.acted, Acted) else ()

    @property
    def traded(self) -> bool:
        """Whether the position changed: by an order, a stop, a target or by force."""
        return any(fill.kind is not FillKind.FUNDING for fill in self.fills)

    def quantity(self, before: View) -> float:
        """Signed base units that the next bar found, NaN while unknown."""
        position = before.snapshot.position
        for sent in self.sent:
            position = position if sent.position is None else sent.position
        return quantity_of(position)


class Listener(Meter):
    """Puts what happens to a symbol down where the next step tells it.

    Attributes:
      told: since the newest observation.
    """

    def __init__(self) -> None:
        self.told = Told()

    def looked(self, seconds: float) -> None:
        """The snapshot of a bar was read."""
        self.told.latencies.snapshot_ms = seconds * 1000

    def filled(self, fill: Fill) -> None:
        """A fill is new to the journal."""
        self.told.fills.append(fill)


def quantity_of(position: Position) -> float:
    """Signed base units; NaN where the position is unknown."""
    match position:
        case Held():
            return float(position.quantity)
        case Flat():
            return 0.0
        case _:
            return math.nan


def info_of(
    view: View, told: Told, clock: Clock, bar_ms: int, *, terminated: bool
) -> dict[str, Any]:
    """The info of a step or a reset (docs/live.md, "Environment classes").

    Args:
      bar_ms: length of an execution bar.
    """
    snapshot = view.snapshot
    # A clock that is the venue's own has no offset.
    offset = float(getattr(clock, "offset_ms", 0.0))
    acted = told.acted
    return {
        "bar_open_ms": snapshot.bar_open_ms,
        "venue_time_ms": snapshot.venue_time_ms,
        "local_time_ms": snapshot.venue_time_ms - (0.0 if math.isnan(offset) else offset),
        "bar_age_ms": snapshot.venue_time_ms - (snapshot.bar_open_ms + bar_ms),
        "missed_bars": max(view.bars_passed - 1, 0),
        "decision": None if acted is None else str(acted.decision),
        "refused": None if acted is None else acted.refused,
        "client_ids": [one.order.client_id for one in told.sent],
        "fills": tuple(told.fills),
        "equity": float(snapshot.balance.equity),
        "position": snapshot.position,
        "clock_offset_ms": offset,
        "latencies": dataclasses.asdict(told.latencies),
        "terminated": terminated,
    }


def row_of(view: View, told: Told, action: Any) -> dict[str, Any]:
    """One row of the history: everything after the bar."""
    plan = told.acted.plans[0] if isinstance(told.acted, Acted) else None
    return {
        "bar_open_ms": view.snapshot.bar_open_ms,
        "price": float(view.snapshot.quote.mark),
        "action": action,
        "level": None if plan is None else plan.level,
        "side": None if plan is None or plan.row is None else plan.row.side,
        "equity": float(view.snapshot.balance.equity),
        "quantity": quantity_of(view.snapshot.position),
    }
