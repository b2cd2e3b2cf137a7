"""Prices that guard a position: the legs of a bracket and the stop of last resort."""

from __future__ import annotations

from decimal import Decimal

from live.planner import rounding
from live.planner.decision import BracketRow, DecisionConfig
from live.planner.memory import sign
from live.types import Bracket, Held, Instrument

_FARTHEST_DISASTER_STOP = 0.25


def on_grid(
    stop: Decimal, target: Decimal, side: int, mark: Decimal, instrument: Instrument
) -> Bracket:
    """Both legs on ticks, each on its side of the mark.

    Args:
      side: +1 guards a long, -1 a short.

    Raises:
      ValueError: the ticks are too coarse for one of them, or a price is not usable.
    """
    aim = rounding.nearest_tick(target, instrument)
    # Without ticks these are the offline prices, whatever the mark is.
    beyond = instrument.tick == 0 or side * (aim - mark) > 0
    if not (aim > 0 and beyond):
        raise ValueError(f"target: must lie beyond the mark {mark} for side {side:+d}; got {aim}.")
    return Bracket(rounding.stop_tick(stop, mark, side, instrument), aim)


def reanchor(
    row: BracketRow, average_price: Decimal, mark: Decimal, instrument: Instrument
) -> Bracket:
    """Stop and target of a row around what the entry really cost.

    Raises:
      ValueError: as `on_grid`.
    """
    anchor = float(average_price)
    if not anchor > 0:
        raise ValueError(f"average_price: must be > 0; got {average_price}.")
    stop = rounding.exact(anchor * (1 + row.stop))
    target = rounding.exact(anchor * (1 + row.target))
    return on_grid(stop, target, row.side, mark, instrument)


def disaster_stop(
    held: Held, config: DecisionConfig, instrument: Instrument, fraction: float | None = None
) -> Decimal:
    """Where the safety net of a position without a stop of its own rests.

    ``entry * (1 - side * fraction)``, rounded toward the mark.

    Args:
      fraction: of the entry price, in (0, 1); None: half of the way to the liquidation of an
        isolated position, 0.25 at most.

    Raises:
      ValueError: the fraction is out of range, or no such price exists.
    """
    if fraction is None:
        room = 1 / config.leverage - config.maintenance_rate
        fraction = min(room / 2, _FARTHEST_DISASTER_STOP)
    if not 0 < fraction < 1:
        raise ValueError(f"disaster_stop_fraction: must be in (0, 1); got {fraction}.")
    side = sign(held.quantity)
    price = held.entry_price * (1 - side * rounding.exact(fraction))
    return rounding.stop_tick(price, held.mark_price, side, instrument)
