"""How much to trade: the decision of `jaxtrade.core` on an account read from a venue.

The account is rebuilt so that its equity is the venue's; what the offline environment would order
from there is computed by the same functions, in float64, compiled once per configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade.core import brackets, levels, trade
from jaxtrade.core.account import Account, equity
from jaxtrade.core.brackets import Sizing
from jaxtrade.core.rules import Costs, Rules, Terms, slack
from live.allocation import allotted
from live.observation.account import number, positive
from live.planner.decision import DecisionConfig, Goal
from live.types import Balance, Held, Quote, UnreadableError

Array = jax.Array


@dataclass(frozen=True, slots=True)
class Reading:
    """The numbers of a snapshot that size an order, checked, float64.

    Attributes:
      equity: what of the account's this symbol may use. available: of the account, less the
        buffer. Both quote units.
      quantity: signed, 0 = flat. entry, mark: of the position, 1 when flat.
      bid, ask: prices that a sale and a purchase execute at.
    """

    equity: float
    available: float
    quantity: float
    entry: float
    mark: float
    bid: float
    ask: float

    @classmethod
    def of(
        cls, held: Held | None, balance: Balance, quote: Quote, config: DecisionConfig
    ) -> Reading:
        """Read what is needed.

        Raises:
          UnreadableError: a number is not finite, or a price is not above 0 or crossed.
        """
        bid, ask = positive("bid", quote.bid), positive("ask", quote.ask)
        if ask < bid:
            raise UnreadableError(f"quote: the bid {bid} is above the ask {ask}.")
        value = allotted(number("equity", balance.equity), config.allocation)
        available = number("available balance", balance.available)
        quantity, entry, mark = 0.0, 1.0, 1.0
        if held is not None:
            quantity = number("position", held.quantity)
            mark = positive("mark price of the position", held.mark_price)
            # The books of a spot account do not know what was paid.
            entry = mark if config.spot else positive("entry price", held.entry_price)
            if not value > 0:
                raise UnreadableError(f"equity: {value} with an open position.")
        reserved = config.equity_buffer * max(value, 0.0)
        return cls(value, available - reserved, quantity, entry, mark, bid, ask)

    @classmethod
    def unpriced(cls, quantity: float) -> Reading:
        """What serves a decision that depends on no price: a hold, or to go flat."""
        return cls(0.0, 0.0, quantity, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Sized:
    """What the core decided; quantities signed, base units, 0 = none.

    Attributes:
      closing: taken off the position. opening: then added; of a flip only its sign counts, because
        the second phase is sized anew.
      refused: the core cannot pay the opening. price: execution price.
      aimed: target quantity of a level. tolerance: from which on a resize to it is worth trading.
      outlay: margin and fee of one base unit.
      stop, target: bracket prices around ``price``.
      last_level: what the latch keeps unless a venue stands in the way.
    """

    closing: float
    opening: float
    refused: bool
    price: float
    aimed: float
    tolerance: float
    outlay: float
    stop: float
    target: float
    last_level: float | None

    def payable(self, available: float) -> float:
        """How much an available balance pays, base units."""
        return max(available, 0.0) / self.outlay

    def is_payable(self, available: float) -> bool:
        """Whether it pays the opening, up to the slack of float64."""
        bound = self.payable(available) * (1 + slack(np.dtype(np.float64)))
        return abs(self.opening) <= bound


def size(goal: Goal, reading: Reading, last_level: float | None, config: DecisionConfig) -> Sized:
    """The core's decision for one goal."""
    # The mid is the price before costs, half of the spread the cost of either side.
    mid = reading.bid if reading.bid == reading.ask else (reading.bid + reading.ask) / 2
    half_spread = (reading.ask - reading.bid) / (2 * mid)
    numbers = [
        reading.equity,
        config.equity_buffer,
        reading.quantity,
        reading.entry,
        reading.mark,
        math.nan if last_level is None else last_level,
        mid,
        half_spread,
        config.fee,
        config.leverage,
        config.maintenance_rate,
        1.0,
    ]
    row = goal.row
    if row is None:
        level = math.nan if goal.level is None else goal.level
        decide = partial(_levels, rules=config.rules, spot=config.spot)
        numbers += [goal.aimed, level, config.rebalance_tolerance, config.min_trade_quote]
    else:
        decide = partial(
            _brackets,
            rules=config.rules,
            spot=config.spot,
            mode=config.trade_mode,
            lock=config.lock_position,
        )
        numbers += [float(row.side), row.stop, row.target]
        # Numbers, so that a fraction that changes with what was won and lost compiles nothing.
        numbers += [float(config.position_fraction), float(config.quantity_per_trade)]
    with jax.enable_x64(True):
        out = np.asarray(decide(np.asarray(numbers, np.float64))).tolist()
    closing, opening, refused, price, aimed, tolerance, outlay, stop, target, kept = out
    return Sized(
        closing=closing,
        opening=opening,
        refused=bool(refused),
        price=price,
        aimed=aimed,
        tolerance=tolerance,
        outlay=outlay,
        stop=stop,
        target=target,
        last_level=None if math.isnan(kept) else kept,
    )


@partial(jax.jit, static_argnames=("rules", "spot"))
def _levels(numbers: Array, *, rules: Rules, spot: bool) -> Array:
    account, base, costs, terms = _account(numbers, spot)
    aimed, level, fraction, quote = numbers[12:]
    order = levels.decide(
        account,
        aimed,
        base,
        jnp.zeros_like(base),
        costs,
        terms,
        rules,
        tolerance_fraction=fraction,
        tolerance_quote=quote,
    )
    value = equity(account, order.price, terms)
    target = levels.target_quantity(value, aimed, order.price, costs, terms)
    tolerance = levels.resize_tolerance(target, order.price, fraction, quote)
    after, fill = trade.apply(account, order, costs, terms)
    kept = levels.remember(after, level, fill, rules).last_level
    return _answer(account, order, fill, (target, tolerance), kept, costs, terms)


@partial(jax.jit, static_argnames=("rules", "spot", "mode", "lock"))
def _brackets(numbers: Array, *, rules: Rules, spot: bool, mode: str, lock: bool) -> Array:
    account, base, costs, terms = _account(numbers, spot)
    side, stop, target, fraction, amount = numbers[12:]
    row: Any = (side.astype(jnp.int32), stop, target)
    sizing = Sizing(mode, fraction, amount)
    draw = jnp.zeros_like(base)
    order = brackets.decide(account, row, base, draw, costs, terms, rules, sizing, lock=lock)
    _, fill = trade.apply(account, order, costs, terms)
    none = jnp.full_like(base, jnp.nan)
    return _answer(account, order, fill, (none, none), none, costs, terms)


def _account(numbers: Array, spot: bool) -> tuple[Account, Array, Costs, Terms]:
    """The account whose equity at the mark is the venue's, less the buffer."""
    value, buffer, quantity, entry, mark, last_level, base, half_spread = numbers[:8]
    fee, leverage, maintenance_rate, unit = numbers[8:12]
    zero = jnp.zeros_like(value)
    terms = Terms.of(leverage, maintenance_rate, jnp.full_like(value, jnp.nan), unit, spot=spot)
    account = replace(
        Account.flat(zero), quantity=quantity, entry_price=entry, last_level=last_level
    )
    cash = value - equity(account, mark, terms) - buffer * jnp.maximum(value, 0)
    return replace(account, cash=cash), base, Costs(fee, half_spread, zero), terms


def _answer(
    account: Account,
    order: trade.Order,
    fill: trade.Fill,
    aim: tuple[Array, Array],
    kept: Array,
    costs: Costs,
    terms: Terms,
) -> Array:
    """The fields of `Sized` in order, [10]; ``aim`` is target and tolerance of a level."""
    opening = order.opening + order.opening_per_cash * jnp.maximum(account.cash, 0)
    flips = (order.closing != 0) & ((order.opening != 0) | (order.opening_per_cash != 0))
    opening = jnp.where(flips, jnp.sign(order.opening + order.opening_per_cash), opening)
    refused = (fill.event & trade.REFUSED) != 0
    outlay = trade.outlay(jnp.ones_like(order.price), order.price, costs, terms)
    parts = (
        order.closing,
        opening,
        refused.astype(order.price.dtype),
        order.price,
        *aim,
        outlay,
        order.stop_price,
        order.target_price,
        kept,
    )
    return jnp.stack(parts)
