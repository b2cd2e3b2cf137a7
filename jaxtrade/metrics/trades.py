"""Metrics of what was traded: exposure, turnover, costs, and round trips from flat to flat."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtrade.core.trade import CLOSED, OPENED
from jaxtrade.metrics.parts import RATIO_CAP, Array, as_curve, capped_ratio, like, or_nan


def _mean_after_first(values: Array) -> Array:
    if values.shape[0] < 2:
        return or_nan(like(0.0, values), values)
    return jnp.mean(values[1:])


def exposure_time(quantity: Array) -> Array:
    """Share of the states 1 ... n of ``quantity`` [n + 1] in which a position is held."""
    quantity = as_curve(quantity)
    return or_nan(_mean_after_first(like(quantity != 0, quantity)), quantity)


def average_exposure(exposure: Array) -> Array:
    """Mean of ``exposure_pct`` [n + 1] (notional over equity) over the states 1 ... n."""
    return _mean_after_first(as_curve(exposure))


def turnover(traded_notional: Array, equity: Array) -> Array:
    """Traded notional of all steps [n] over the mean equity [n + 1]."""
    return jnp.sum(as_curve(traded_notional)) / jnp.mean(as_curve(equity))


def costs(cost: Array) -> Array:
    """Sum of the costs of all steps [n], quote currency."""
    return jnp.sum(as_curve(cost))


class RoundTrips(NamedTuple):
    """Round trips of a record of T steps; at most two end in a step.

    Attributes:
      profit: [T, 2] flat balance after minus flat balance before; column 0 are trips closed by the
        order of the step, column 1 those closed by its bar (stop, target, liquidation, horizon).
      balance_before: [T, 2] flat balance before the trip. Both are 0 where no trip ended.
      completed: bool [T, 2], a trip ended here.
      open_trade: bool, a position is open at the end; it is no round trip.
    """

    profit: Array
    balance_before: Array
    completed: Array
    open_trade: Array


class WinStatistics(NamedTuple):
    """Shares and means of outcomes; all 0 without outcomes."""

    win_rate: Array
    avg_win: Array
    avg_loss: Array
    profit_factor: Array


def round_trips(
    cash: Array, quantity: Array, event: Array, closed_cash: Array, exit_kind: Array
) -> RoundTrips:
    """Find the round trips in a trace record.

    A trip runs from the fill that leaves flat (or the opening leg of a flip) to the fill that
    returns to flat (or the closing leg of a flip), resizes included. Between flat balances lie all
    its fees, spread, slippage and funding.

    Args:
      cash, quantity: per state [T + 1].
      event: int per step [T], bits of the order.
      closed_cash: [T] cash right after an order's closing leg, NaN when it closed nothing.
      exit_kind: int [T], 0 = the bar closed nothing.
    """
    cash, quantity, closed_cash = as_curve(cash), as_curve(quantity), as_curve(closed_cash)
    event, exit_kind = jnp.asarray(event), jnp.asarray(exit_kind)
    closed, opened = (event & CLOSED) != 0, (event & OPENED) != 0
    step = jnp.arange(event.shape[0])
    flat_before = jnp.where(closed, closed_cash, cash[:-1])  # balance at which an opening begins
    opening = jax.lax.cummax(jnp.where(opened, step, -1))
    earlier = jnp.concatenate([jnp.full((1,), -1, opening.dtype), opening[:-1]])[: step.shape[0]]
    ended = jnp.stack([closed, exit_kind != 0], axis=-1)
    begun = jnp.stack([earlier, opening], axis=-1)
    after = jnp.stack([closed_cash, cash[1:]], axis=-1)
    completed = ended & (begun >= 0)  # a position from before the record has no known start
    if step.shape[0] == 0:
        before = after
    else:
        before = flat_before[jnp.maximum(begun, 0)]
    return RoundTrips(
        profit=jnp.where(completed, after - before, 0),
        balance_before=jnp.where(completed, before, 0),
        completed=completed,
        open_trade=quantity[-1] != 0,
    )


def _statistics(profit: Array, outcome: Array, counted: Array) -> WinStatistics:
    wins, others = counted & (profit > 0), counted & ~(profit > 0)
    wins_count, others_count = jnp.sum(wins), jnp.sum(others)
    gained = jnp.sum(jnp.where(wins, profit, 0))
    lost = -jnp.sum(jnp.where(others, profit, 0))
    value = WinStatistics(
        win_rate=wins_count / jnp.maximum(wins_count + others_count, 1).astype(outcome.dtype),
        avg_win=jnp.sum(jnp.where(wins, outcome, 0)) / jnp.maximum(wins_count, 1),
        avg_loss=jnp.sum(jnp.where(others, outcome, 0)) / jnp.maximum(others_count, 1),
        profit_factor=capped_ratio(gained, lost, jnp.where(gained > 0, RATIO_CAP, 0)),
    )
    known = jnp.where(counted, profit, 0)
    return WinStatistics(*(or_nan(part, known) for part in value))


def win_statistics(outcomes: Array) -> WinStatistics:
    """Win rate, mean win, mean of the others and profit factor of any array of outcomes."""
    outcomes = as_curve(outcomes)
    return _statistics(outcomes, outcomes, jnp.ones(outcomes.shape, bool))


def num_trades(trips: RoundTrips) -> Array:
    """Completed round trips, int32."""
    return jnp.sum(trips.completed, dtype=jnp.int32)


def trade_returns(trips: RoundTrips) -> Array:
    """Profit over the flat balance before: [T, 2], 0 where no trip ended."""
    usable = trips.balance_before > 0
    return jnp.where(usable, trips.profit / jnp.where(usable, trips.balance_before, 1), 0)


def trade_statistics(trips: RoundTrips) -> WinStatistics:
    """`win_statistics` of round trips: means of their returns, profit factor of their profits."""
    return _statistics(trips.profit, trade_returns(trips), trips.completed)


def win_rate(trips: RoundTrips) -> Array:
    """Share of round trips with a profit."""
    return trade_statistics(trips).win_rate


def avg_win(trips: RoundTrips) -> Array:
    """Mean return of the round trips with a profit."""
    return trade_statistics(trips).avg_win


def avg_loss(trips: RoundTrips) -> Array:
    """Mean return of the others, <= 0."""
    return trade_statistics(trips).avg_loss


def profit_factor(trips: RoundTrips) -> Array:
    """Profits over losses, at most 1000, which is also the value without a loss."""
    return trade_statistics(trips).profit_factor
