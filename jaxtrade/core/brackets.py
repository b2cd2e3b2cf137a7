"""Bracket actions: a side with a stop and a target, sized once and left until the bar exits it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade.core.account import Account
from jaxtrade.core.levels import quantity_per_capital
from jaxtrade.core.rules import Costs, Rules, Terms, order_price
from jaxtrade.core.trade import Order

Array = jax.Array

# What an action does; of LONG and SHORT the value is the side.
HOLD, CLOSE, LONG, SHORT = 0, 2, 1, -1
MODES = ("fractional", "notional", "quantity")


@dataclasses.dataclass(frozen=True)
class ActionTable:
    """The discrete actions of a bracket environment; static and hashable.

    Attributes:
      sides: HOLD, CLOSE, LONG or SHORT per action.
      stops, targets: signed fractions of the entry price per action; 0 for HOLD and CLOSE.
    """

    sides: tuple[int, ...]
    stops: tuple[float, ...]
    targets: tuple[float, ...]

    @classmethod
    def of(
        cls,
        stoploss_levels: Sequence[float],
        takeprofit_levels: Sequence[float],
        *,
        hold: bool,
        close: bool,
        shorts: bool,
    ) -> ActionTable:
        """HOLD and CLOSE if wanted, then longs, then shorts; stops outside, targets inside.

        Short k is long k with both fractions negated.
        """
        rows = [(HOLD, 0.0, 0.0)] * hold + [(CLOSE, 0.0, 0.0)] * close
        for side in (LONG, SHORT) if shorts else (LONG,):
            rows += [
                (side, side * float(stop), side * float(target))
                for stop, target in itertools.product(stoploss_levels, takeprofit_levels)
            ]
        sides, stops, targets = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(sides, stops, targets)

    def __len__(self) -> int:
        return len(self.sides)

    @property
    def hash(self) -> str:
        """SHA-256 hex of the table's canonical text."""
        rows = zip(self.sides, self.stops, self.targets, strict=True)
        text = "\n".join(f"{side:+d} {stop!r} {target!r}" for side, stop, target in rows)
        return hashlib.sha256(text.encode()).hexdigest()

    def row(self, action: Array, dtype: np.dtype) -> tuple[Array, Array, Array]:
        """Side (int32), stop and target fraction (``dtype``) of ``action``; each [...]."""
        return (
            jnp.asarray(self.sides, jnp.int32)[action],
            jnp.asarray(self.stops, dtype)[action],
            jnp.asarray(self.targets, dtype)[action],
        )


@dataclasses.dataclass(frozen=True)
class Sizing:
    """How large a bracket is opened; static.

    Attributes:
      mode: "fractional": ``fraction`` of the equity as margin and entry fee; "notional": ``amount``
        quote units of position; "quantity": ``amount`` base units. Leverage lowers the margin of
        the last two, it does not enlarge them.
    """

    mode: str
    fraction: float
    amount: float


def decide(
    account: Account,
    row: tuple[Array, Array, Array],
    base: Array,
    draw: Array,
    costs: Costs,
    terms: Terms,
    rules: Rules,
    sizing: Sizing,
    *,
    lock: bool,
) -> Order:
    """The order of one bracket action; all its quantities are 0 for a hold.

    The held direction is ignored (its brackets stay), the opposite one closes first. Nothing is
    resized.

    Args:
      account: leaves [...]. row: `ActionTable.row` of the action.
      base: [...] un-slipped order price. draw: [...] uniform in [0, 1).
      lock: static; a held position waits for its stop or target, whatever the action.
    """
    action, stop, target = row
    held = account.quantity
    dtype = held.dtype
    closes = action == CLOSE
    direction = jnp.where(closes, 0, action).astype(dtype)
    opens = (direction != 0) & (direction != jnp.sign(held))
    ends = (held != 0) & (closes | opens)
    if lock:
        opens, ends = opens & (held == 0), jnp.zeros_like(ends)

    price = order_price(base, jnp.where(closes, -jnp.sign(held), direction), draw, costs, rules)
    none = jnp.zeros_like(price)
    opening, per_cash = none, none
    if sizing.mode == "fractional":
        level = direction * jnp.asarray(sizing.fraction, dtype)
        per_cash = jnp.where(opens, quantity_per_capital(level, price, costs, terms), 0)
    else:
        size = jnp.asarray(sizing.amount, dtype)
        size = size / price if sizing.mode == "notional" else size
        opening = jnp.where(opens, direction * size, 0)
    return Order(
        closing=jnp.where(ends, held, 0),
        opening=opening,
        opening_per_cash=per_cash,
        base=base,
        price=price,
        stop_price=price * (1 + stop),
        target_price=price * (1 + target),
    )
