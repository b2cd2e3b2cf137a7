"""The life of an order: its states, what follows an outcome, how it is searched for. Pure."""

from live.orders.lifecycle import TRANSITIONS, IntentState, TrackedOrder, advance, fold, move

__all__ = ["TRANSITIONS", "IntentState", "TrackedOrder", "advance", "fold", "move"]
