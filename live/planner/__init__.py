"""The planner: a snapshot and an action become intents. Pure; money is float64 inside."""

from live.planner.decision import BracketRow, Decision, DecisionConfig, Plan, SymbolState
from live.planner.kelly import KellySizing, realised_returns
from live.planner.legs import disaster_stop, reanchor
from live.planner.memory import synchronise
from live.planner.planning import observe_bar, plan, second_phase, settle

__all__ = [
    "BracketRow",
    "Decision",
    "DecisionConfig",
    "KellySizing",
    "Plan",
    "SymbolState",
    "disaster_stop",
    "observe_bar",
    "plan",
    "realised_returns",
    "reanchor",
    "second_phase",
    "settle",
    "synchronise",
]
