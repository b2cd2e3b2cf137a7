"""What a restart remembers of a symbol: the journal's account of it, where the venue agrees."""

from __future__ import annotations

from live.journal import Journal
from live.journal.reading import position_change
from live.orders import IntentState
from live.planner.decision import Decision, SymbolState
from live.planner.memory import sign
from live.reconcile.startup import restore
from live.types import DUST, ZERO, Bracket, Fill, Flat, Held, Instrument, Role

# Where an instrument has no step, base units.


def restored(
    journal: Journal,
    position: Flat | Held,
    instrument: Instrument,
    *,
    bar_ms: int,
    counted_bar_ms: int,
    brackets: bool,
) -> SymbolState:
    """The memory of a symbol as a restart finds it.

    The level is latched only if the position is the one that its decision led to; bars are counted
    from the fill that began the position, up to the bar of ``counted_bar_ms``.

    Args:
      counted_bar_ms: START of the newest closed bar; the next look counts the bars after it.
      brackets: the policy's own stops guard the position.
    """
    symbol = instrument.symbol
    step = max(instrument.quantity_step, DUST)
    begun = beginning(journal, symbol)
    legs = held = None
    if isinstance(position, Held) and begun is not None:
        legs = _legs(journal, symbol, position, begun) if brackets else None
        held = max((counted_bar_ms + bar_ms - begun.venue_time_ms // bar_ms * bar_ms) // bar_ms, 0)
    found = restore(
        position,
        level=_level(journal, symbol, bar_ms),
        target=journal.position(symbol),
        tolerance=step,
        held_bars=held or 0,
        legs=legs,
    )
    quantity = position.quantity if isinstance(position, Held) and not position.residue else ZERO
    return SymbolState(
        last_level=found.last_level,
        target_quantity=quantity,
        target_tolerance=step,
        bracket=found.bracket,
        held_bars=found.held_bars,
        direction=found.direction,
        invalid_actions=0,
        opening=None,
    )


def beginning(journal: Journal, symbol: str) -> Fill | None:
    """The booked fill that began the present position; None when flat, or no fill explains it."""
    total, first = ZERO, None
    for fill in journal.fills(symbol):
        before, total = total, total + position_change(fill)
        if not total:
            first = None
        elif sign(total) != sign(before):
            first = fill
    return first if sign(total) == sign(journal.position(symbol)) else None


def _level(journal: Journal, symbol: str, bar_ms: int) -> float | None:
    """The level of the newest decision, if all of it was done and nothing happened since."""
    bar = journal.last_bar(symbol)
    decisions = [] if bar is None else journal.decisions(symbol, bar)
    if bar is None or not decisions or decisions[-1].refusal is not None:
        return None
    rows = [row for row in journal.intents(symbol, bar) if not row.role.protective]
    done = all(row.state is IntentState.FILLED for row in rows)
    if decisions[-1].decision == Decision.FLIP:
        done = done and any(row.role is Role.ENTRY for row in rows)
    own = {row.client_id for row in rows if row.role in (Role.ENTRY, Role.REDUCE)}
    others = (fill for fill in journal.fills(symbol, bar + bar_ms) if fill.client_id not in own)
    if not done or any(position_change(fill) for fill in others):
        return None
    return decisions[-1].level


def _legs(journal: Journal, symbol: str, held: Held, begun: Fill) -> Bracket | None:
    """The legs of a position: those at the venue, else those last confirmed or asked for."""
    if held.stop_price is not None:
        return Bracket(held.stop_price, held.target_price)
    row = journal.protection(symbol)
    if row is not None and row.confirmed_ms >= begun.venue_time_ms:
        return row.bracket
    if journal.knows(begun.client_id, symbol):
        return journal.intent(begun.client_id).intent().bracket
    return None
