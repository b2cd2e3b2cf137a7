"""How one symbol is traded: what the planner decides by, limits, deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field

from live.orders.followup import FollowConfig
from live.orders.resolution import ResolveConfig
from live.planner.decision import DecisionConfig
from live.risk import RiskConfig
from live.trading.snapshots import ReadTiming


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTiming:
    """How long sending and asking may take.

    Attributes:
      submit: of one send, seconds; longer than the SDK's own deadline. read: of one read, seconds.
      entry_ttl: how old an entry may be when it leaves, seconds; None = any age.
      good_clock_ms: a venue whose time is known worse than this may be showing an old list.
      follow, resolve: of accepted orders and of unknown ones.
    """

    submit: float = 10.0
    read: float = 5.0
    entry_ttl: float | None = None
    good_clock_ms: float = 1_000.0
    follow: FollowConfig = field(default_factory=FollowConfig)
    resolve: ResolveConfig = field(default_factory=ResolveConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraderConfig:
    """The terms of one symbol.

    Attributes:
      decision: of the planner. risk: limits. reads, sends: deadlines.
      enforce_risk: the gate acts; False: it only reports (a replay that is to equal the
        environment). entry_window: how late after its bar an entry may be, seconds.
      disaster_stop: fraction of the entry where the stop of last resort rests; "auto", None = none.
      stop_deadline: how long a position may be without its stop, seconds.
    """

    decision: DecisionConfig
    risk: RiskConfig = field(default_factory=RiskConfig)
    reads: ReadTiming = field(default_factory=ReadTiming)
    sends: SendTiming = field(default_factory=SendTiming)
    enforce_risk: bool = True
    entry_window: float = 30.0
    disaster_stop: float | str | None = None
    stop_deadline: float = 5.0

    @property
    def needs_stop(self) -> bool:
        """Whether a position must have a stop at the venue."""
        return self.decision.table is not None or self.disaster_stop is not None
