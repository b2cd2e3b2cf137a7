"""How large a bracket is opened, from what earlier ones won and lost; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from jaxtrade.checks import is_count, is_number
from live.types import ZERO, Fill, FillKind

_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("kelly_fraction", lambda value: 0 < value <= 1, "in (0, 1]"),
    ("cap", lambda value: 0 < value <= 1, "in (0, 1]"),
    ("prior_win_rate", lambda value: 0 <= value <= 1, "in [0, 1]"),
    ("prior_average_win", lambda value: value >= 0, ">= 0"),
    ("prior_average_loss", lambda value: value > 0, "> 0"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KellySizing:
    """A fraction of the equity by the rule of Kelly, cut to a cap and then scaled down.

    ``kelly_fraction * clip(W / loss - (1 - W) / win, 0, cap)``, where ``W`` is the share of wins
    and ``win`` and ``loss`` are the averages of what a round trip won and lost, as fractions of its
    entry value. What is assumed before the first one weighs as much as ``prior_count`` round trips.

    Attributes:
      kelly_fraction, cap: in (0, 1]. prior_win_rate: in [0, 1].
      prior_average_win: >= 0. prior_average_loss: > 0. prior_count: whole, >= 1.

    Raises:
      ValueError: a field is outside its range.
    """

    kelly_fraction: float = 0.3
    cap: float = 0.5
    prior_win_rate: float = 0.5
    prior_average_win: float = 0.02
    prior_average_loss: float = 0.01
    prior_count: int = 20

    def __post_init__(self) -> None:
        if not is_count(self.prior_count):
            raise ValueError(f"prior_count: must be a whole number >= 1, was {self.prior_count!r}")
        for name, fits, rule in _RANGES:
            value = getattr(self, name)
            if not (is_number(value) and fits(value)):
                raise ValueError(f"{name}: must be a finite number {rule}, was {value!r}")

    def fraction(self, returns: Sequence[float]) -> float:
        """The fraction of the equity to commit, in [0, 1]; 0 where nothing is to be gained.

        Args:
          returns: of every round trip so far, net, as fractions of its entry value; one that is 0
            counts as lost.

        Raises:
          ValueError: one of them is not finite.
        """
        bad = [value for value in returns if not math.isfinite(value)]
        if bad:
            raise ValueError(f"returns: must be finite; got {bad[0]}.")
        won = [value for value in returns if value > 0]
        lost = [-value for value in returns if not value > 0]
        prior_won = self.prior_win_rate * self.prior_count
        win_rate = (prior_won + len(won)) / (self.prior_count + len(returns))
        win = _average(self.prior_average_win, prior_won, won)
        loss = _average(self.prior_average_loss, self.prior_count - prior_won, lost)
        if not win > 0:
            return 0.0
        edge = win_rate / loss - (1 - win_rate) / win if loss > 0 else math.inf
        return self.kelly_fraction * min(max(edge, 0.0), self.cap)


def _average(prior: float, weight: float, values: list[float]) -> float:
    """The average of values and of a prior with a weight; the prior where both weigh nothing."""
    total = weight + len(values)
    return (prior * weight + math.fsum(values)) / total if total > 0 else prior


def realised_returns(fills: Iterable[Fill]) -> tuple[float, ...]:
    """What every finished round trip of one symbol came to, net of fees and funding, in order.

    A round trip lasts from one flat position to the next; an order through zero ends one and begins
    another. Its return is a fraction of the value of its entries.

    Args:
      fills: of the symbol, oldest first, beginning flat; fees in the quote asset.
    """
    returns: list[float] = []
    held, entered, cash = ZERO, ZERO, ZERO
    for fill in fills:
        if fill.kind is FillKind.FUNDING:
            cash -= fill.fee if held else ZERO
            continue
        rest = fill.quantity
        if held and fill.side.sign * held < 0:
            closed = min(rest, abs(held))
            cash += _flow(fill, closed)
            held += fill.side.sign * closed
            rest -= closed
            if not held:
                returns.append(float(cash / entered))
                entered = cash = ZERO
        if rest:
            cash += _flow(fill, rest)
            entered += rest * fill.price
            held += fill.side.sign * rest
    return tuple(returns)


def _flow(fill: Fill, quantity: Decimal) -> Decimal:
    """Cash of a part of a fill, its share of the fee taken off, quote units."""
    return -fill.side.sign * quantity * fill.price - fill.fee * quantity / fill.quantity
