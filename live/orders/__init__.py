"""The life of an order: its states, what follows an outcome, how it is searched for. Pure."""

from live.orders.lifecycle import TRANSITIONS, ZERO, IntentState, TrackedOrder, advance, fold, move

__all__ = ["TRANSITIONS", "ZERO", "IntentState", "TrackedOrder", "advance", "fold", "move"]
