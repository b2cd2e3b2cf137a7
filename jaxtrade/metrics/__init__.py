"""Metrics of an equity curve and of the round trips in it, in jax.numpy.

An equity curve is ``equity`` [n + 1]: the value before the first step and after each of n steps.
Every function is a reduction of one curve, runs under ``jit`` and ``vmap`` (over many curves of one
length) and computes in the dtype of its input. A NaN in the input gives NaN, also for counts, which
are therefore floats. Scaling the curve changes no ratio. Definitions: docs/semantics.md, "Metrics".

``ppy`` is the number of periods (steps) in a year, or a `TimeFrame`: markets are taken to be open
all year, so hours are 8760.
"""

from jaxtrade.metrics.curve import (
    Drawdown,
    annual_return,
    calmar_ratio,
    current_drawdown,
    deepest_drawdown,
    drawdown_curve,
    max_drawdown,
    max_drawdown_duration,
    peak_value,
    recovery,
    returns,
    sharpe_ratio,
    sortino_ratio,
    total_return,
    trough_value,
    volatility,
)
from jaxtrade.metrics.summary import (
    summarize,
)
from jaxtrade.metrics.trades import (
    RoundTrips,
    WinStatistics,
    average_exposure,
    avg_loss,
    avg_win,
    costs,
    exposure_time,
    num_trades,
    profit_factor,
    round_trips,
    trade_returns,
    trade_statistics,
    turnover,
    win_rate,
    win_statistics,
)

__all__ = [
    "Drawdown",
    "RoundTrips",
    "WinStatistics",
    "annual_return",
    "average_exposure",
    "avg_loss",
    "avg_win",
    "calmar_ratio",
    "costs",
    "current_drawdown",
    "deepest_drawdown",
    "drawdown_curve",
    "exposure_time",
    "max_drawdown",
    "max_drawdown_duration",
    "num_trades",
    "peak_value",
    "profit_factor",
    "recovery",
    "returns",
    "round_trips",
    "sharpe_ratio",
    "sortino_ratio",
    "summarize",
    "total_return",
    "trade_returns",
    "trade_statistics",
    "trough_value",
    "turnover",
    "volatility",
    "win_rate",
    "win_statistics",
]
