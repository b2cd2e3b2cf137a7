"""From an action to intents: pure, no clock, no I/O.

`plan` asks `jaxtrade.core` what the offline environment would do on the account of the snapshot and
turns the answer into what a venue accepts: rounded, above its minima, reduce-only wherever the
position cannot grow, a flip in two phases. `settle` and `observe_bar` carry the memory of a symbol
over outcomes and bars.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from live.planner.decision import BracketRow, Decision, DecisionConfig, Goal, Plan, SymbolState
from live.planner.drafting import Draft
from live.planner.legs import disaster_stop, reanchor
from live.planner.memory import counted, observe_bar, settle, synchronise
from live.types import Snapshot

__all__ = [
    "BracketRow",
    "Decision",
    "DecisionConfig",
    "Goal",
    "Plan",
    "SymbolState",
    "disaster_stop",
    "observe_bar",
    "plan",
    "reanchor",
    "second_phase",
    "settle",
    "synchronise",
]


def plan(
    state: SymbolState, snapshot: Snapshot, action: Any, config: DecisionConfig
) -> tuple[SymbolState, Plan]:
    """What one action asks of the venue.

    An action that is no index of the configuration holds and is counted; an unknown position holds.
    The latch of a plan with intents moves in `settle` only.

    Returns: the state to keep, and the plan; of a flip its first phase.

    Raises:
      UnreadableError: a price or the equity that the decision needs cannot be used.
      ValueError: the snapshot is of another symbol.
    """
    _check_symbol(snapshot, config)
    state = replace(synchronise(state, snapshot.position), opening=None)
    index = _index(action, config)
    if index is None:
        state = replace(state, invalid_actions=state.invalid_actions + 1)
        reason = f"the action is not an integer in [0, {config.num_actions})"
        return state, Plan.still(state, None, reason, refused="invalid_action")
    state = replace(state, invalid_actions=0)
    return Draft(state, snapshot, Goal.of(index, config), config).made()


def second_phase(
    state: SymbolState, snapshot: Snapshot, config: DecisionConfig
) -> tuple[SymbolState, Plan]:
    """The opening half of a flip, sized from a snapshot that confirms that the first one is flat.

    Where the position is anything but flat, or the opening is refused, the plan has no intents; of
    a refused opening the decision is CLOSE, which is what the flip came to.

    Raises: as `plan`.
    """
    _check_symbol(snapshot, config)
    waiting = state.opening
    state = replace(synchronise(state, snapshot.position), opening=None)
    if waiting is None:
        return state, Plan.still(state, None, "no flip is waiting", refused="no_flip")
    goal, quantity = Goal.of(waiting, config), counted(snapshot.position)
    if quantity:
        reason = "the position is not closed yet"
        return state, replace(Plan.still(state, goal, reason, refused="not_flat"), phase=2)
    state, planned = Draft(state, snapshot, goal, config).made()
    if quantity is not None:
        decision = Decision.FLIP if planned.intents else Decision.CLOSE
        planned = replace(planned, decision=decision)
    return state, replace(planned, phase=2)


def _check_symbol(snapshot: Snapshot, config: DecisionConfig) -> None:
    symbol = snapshot.instrument.symbol
    if symbol != config.symbol:
        raise ValueError(f"snapshot: must be of {config.symbol}; got {symbol}.")


def _index(action: Any, config: DecisionConfig) -> int | None:
    """``action`` as an index, or None: nothing is clamped, wrapped or rounded."""
    try:
        value = np.asarray(action)
    except (TypeError, ValueError, OverflowError):
        return None
    if value.shape != () or not np.issubdtype(value.dtype, np.integer):
        return None
    index = int(value)
    return index if 0 <= index < config.num_actions else None
