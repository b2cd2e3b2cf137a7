"""Venue rounding: quantities to steps, prices to ticks, numbers to the text that is sent.

The only place that rounds. Steps and ticks are exact decimals; a step or tick of 0 leaves numbers
alone, which only the replay venue may use. Whatever is rounded is rounded toward safety: quantities
down, stops toward the mark.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext

from live.types import ZERO, Instrument

# Wider than any product of a step with a count, whatever the caller's context is.
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_SLACK, _RELATIVE_SLACK = Decimal("1e-9"), Decimal("1e-12")


def exact(number: float) -> Decimal:
    """The shortest decimal that reads back as the same float64.

    Raises:
      ValueError: it is NaN or infinite.
    """
    value = Decimal(repr(float(number)))
    if not value.is_finite():
        raise ValueError(f"number: must be finite; got {number}.")
    return value


def floor_quantity(quantity: Decimal, instrument: Instrument) -> Decimal:
    """The largest multiple of the quantity step that is not above ``quantity``, base units.

    A quantity that misses a multiple by less than the noise of float64 counts as that multiple:
    the slack is 1e-9 steps, for very many steps 1e-12 of their number.

    Raises:
      ValueError: the quantity is negative or not finite.
    """
    return _whole_steps(quantity, instrument.quantity_step, ROUND_FLOOR, "quantity")


def smallest_order(price: Decimal, instrument: Instrument) -> Decimal:
    """The smallest quantity that meets step, minimum quantity and minimum notional, base units.

    0 where the instrument knows none of them.

    Args:
      price: > 0, values the minimum notional.
    """
    least, step = smallest_trade(price, instrument), instrument.quantity_step
    if step == 0:
        return least
    with localcontext(_CONTEXT):
        # Both are the venue's own numbers: no noise to forgive.
        return (least / step).to_integral_value(ROUND_CEILING) * step


def smallest_trade(price: Decimal | None, instrument: Instrument) -> Decimal:
    """What the venue cannot tell apart: the largest of its minima, not rounded, base units.

    Args:
      price: > 0, values the minimum notional; None leaves that out.
    """
    least = max(instrument.quantity_step, instrument.min_quantity)
    if price is not None and instrument.min_notional > 0:
        with localcontext(_CONTEXT):
            least = max(least, instrument.min_notional / price)
    return least


def trim(held: Decimal, difference: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """How much of an unsigned position an order takes off; 0 where no order fits, base units.

    Rounded down, but not below the smallest order. Everything goes only if the rest that is wanted
    is itself below the minimum quantity.

    Args:
      held, difference: 0 < difference < held. price: > 0.
    """
    least = instrument.min_quantity
    if held - difference < least:
        return held
    quantity = max(floor_quantity(difference, instrument), smallest_order(price, instrument))
    return quantity if quantity < held and held - quantity >= least else ZERO


def closing(held: Decimal, instrument: Instrument) -> Decimal:
    """How much of an unsigned position one order takes off: all of it where it is on the grid.

    A step that grew while a position was held leaves a rest below it that no order fits.
    """
    step = instrument.quantity_step
    if is_multiple(held, step):
        return held
    with localcontext(_CONTEXT):
        # The venue's own number has no noise to forgive: never more than is held.
        return held // step * step


def nearest_tick(price: Decimal, instrument: Instrument) -> Decimal:
    """The multiple of the tick nearest to ``price``; 0 for a price below half a tick.

    Raises:
      ValueError: the price is negative or not finite.
    """
    return _whole_steps(price, instrument.tick, ROUND_HALF_EVEN, "price")


def stop_tick(
    price: Decimal, mark: Decimal, side_of_position: int, instrument: Instrument
) -> Decimal:
    """A stop on the grid of ticks: toward the mark, on its losing side, at least a tick away.

    Args:
      price: wanted stop. mark: mark price, both > 0.
      side_of_position: +1 guards a long from below, -1 a short from above.

    Raises:
      ValueError: a number is not usable, or no tick lies between 0 and the mark.
    """
    tick = instrument.tick
    if not (mark.is_finite() and mark > 0):
        raise ValueError(f"mark: must be finite and > 0; got {mark}.")
    if side_of_position not in (1, -1):
        raise ValueError(f"side_of_position: must be +1 or -1; got {side_of_position}.")
    if tick == 0:
        return _whole_steps(price, tick, ROUND_FLOOR, "stop")
    with localcontext(_CONTEXT):
        if side_of_position > 0:
            wanted = _whole_steps(price, tick, ROUND_CEILING, "stop")
            nearest = (mark / tick - 1).to_integral_value(ROUND_FLOOR) * tick
            stop = min(wanted, nearest)
        else:
            wanted = _whole_steps(price, tick, ROUND_FLOOR, "stop")
            nearest = (mark / tick + 1).to_integral_value(ROUND_CEILING) * tick
            stop = max(wanted, nearest)
    if not stop > 0:
        raise ValueError(f"stop: no tick of {tick} lies between 0 and the mark {mark}.")
    return stop


def is_multiple(number: Decimal, step: Decimal) -> bool:
    """Whether ``number`` lies on the grid of ``step`` exactly; a step of 0 takes every number."""
    if not number.is_finite():
        return False
    with localcontext(_CONTEXT):
        return step == 0 or number % step == 0


def wire(number: Decimal, step: Decimal) -> str:
    """``number`` as a venue reads it: fixed point with the decimals of ``step``, no exponent.

    Raises:
      ValueError: the number is not finite or not on the grid; it is not rounded a second time.
    """
    if not is_multiple(number, step):
        raise ValueError(f"number: must be a multiple of {step}; got {number}.")
    if number == 0:
        number = abs(number)
    if step == 0:
        return f"{number:f}"
    return f"{number:.{decimals(step)}f}"


def decimals(step: Decimal) -> int:
    """How many decimals a multiple of ``step`` needs: 2 for 0.10E-1, 0 for 5."""
    exponent = step.normalize(_CONTEXT).as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"step: must be finite; got {step}.")
    return max(0, -exponent)


def _whole_steps(number: Decimal, step: Decimal, rounding: str, name: str) -> Decimal:
    """``number`` in whole steps; rounding up or down forgives the noise of float64."""
    if not (number.is_finite() and number >= 0):
        raise ValueError(f"{name}: must be finite and >= 0; got {number}.")
    if not (step.is_finite() and step >= 0):
        raise ValueError(f"step: must be finite and >= 0; got {step}.")
    if step == 0:
        return number
    with localcontext(_CONTEXT):
        ratio = number / step
        slack = max(_SLACK, ratio * _RELATIVE_SLACK)
        if rounding == ROUND_FLOOR:
            ratio += slack
        elif rounding == ROUND_CEILING:
            ratio = max(ratio - slack, ZERO)
        return ratio.to_integral_value(rounding) * step
