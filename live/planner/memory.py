"""What the planner remembers of a symbol, carried over snapshots, outcomes and bars.

Only what a venue confirmed moves it. An unknown position leaves everything as it is, except that a
level whose outcome is not known is never latched.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import assert_never

from live.planner.decision import Plan, SymbolState
from live.types import ZERO, Bracket, Flat, Held, Position, Role, Unknown

# Two quantities that differ by less, relatively, are one: both went through float64.
_NOISE = Decimal("1e-9")


def sign(quantity: Decimal | float) -> int:
    """+1 for a long, -1 for a short, 0 for none."""
    return (quantity > 0) - (quantity < 0)


def counted(position: Position) -> Decimal | None:
    """The signed quantity that decisions are about, base units; None where nothing is certain.

    A residue, which is below the smallest order, counts as none.
    """
    match position:
        case Unknown():
            return None
        case Flat():
            return ZERO
        case Held(quantity=quantity, residue=residue):
            if not (quantity.is_finite() and quantity != 0):
                return None
            return ZERO if residue else quantity
        case _:
            assert_never(position)


def synchronise(state: SymbolState, position: Position) -> SymbolState:
    """The state in step with what the venue reports; an unknown position changes nothing.

    Another direction forgets level, bracket and holding time. A size that is not the one the last
    plan led to forgets the level, so that the policy may correct it.
    """
    quantity = counted(position)
    if quantity is None:
        return state
    if sign(quantity) != state.direction:
        return _at(replace(state, last_level=None, bracket=None, held_bars=0), quantity)
    if quantity and _differs(quantity, state.target_quantity, state.target_tolerance):
        return _at(replace(state, last_level=None), quantity)
    return state


def observe_bar(state: SymbolState, position: Position, bars_passed: int) -> SymbolState:
    """Count the holding time; to be called once per bar, with the snapshot that is decided on.

    The first bar of a position, also after a flip, counts 1 however many passed.
    """
    state = synchronise(state, position)
    if counted(position) is None or bars_passed < 1:
        return state
    if state.direction == 0:
        return replace(state, held_bars=0)
    return replace(state, held_bars=state.held_bars + bars_passed if state.held_bars else 1)


def settle(
    state: SymbolState,
    planned: Plan,
    executed: bool,
    position: Position,
    bracket: Bracket | None = None,
) -> SymbolState:
    """What the outcome of a plan does to the memory.

    The level is latched only if the venue executed everything and the position is what the plan
    aimed at. A flip goes on to its second phase only if the first one ended flat.

    Args:
      executed: every intent of the plan was filled.
      position: read after the outcome; unknown releases the latch and changes nothing else.
      bracket: legs of an opening that are confirmed at the venue.
    """
    if not planned.intents:
        return state
    released = replace(state, last_level=None, opening=None)
    quantity = counted(position)
    if quantity is None:
        return released
    if sign(quantity) != state.direction:
        entered = any(intent.role is Role.ENTRY for intent in planned.intents)
        legs = bracket if quantity and entered else None
        released = replace(released, bracket=legs, held_bars=0)
    if planned.continues:
        waits = executed and not quantity
        return _at(replace(released, opening=state.opening if waits else None), quantity)
    aim, tolerance = planned.target_quantity, planned.target_tolerance
    if not executed or _differs(quantity, aim, tolerance):
        return _at(released, quantity)
    reached = replace(released, last_level=planned.level, direction=sign(quantity))
    return replace(reached, target_quantity=aim, target_tolerance=tolerance)


def _at(state: SymbolState, quantity: Decimal) -> SymbolState:
    return replace(state, target_quantity=quantity, direction=sign(quantity))


def _differs(quantity: Decimal, target: Decimal, tolerance: Decimal) -> bool:
    gap = abs(quantity - target)
    return gap >= tolerance and gap > _NOISE * max(abs(quantity), abs(target))
