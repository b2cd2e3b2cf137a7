"""Metrics of an equity curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrade.metrics.parts import (
    RATIO_CAP,
    Array,
    as_curve,
    capped_ratio,
    like,
    or_nan,
    periods_per_year,
)

if TYPE_CHECKING:
    from jaxtrade.timeframe import TimeFrame

_ANNUAL_RETURN_CAP = 10.0
_CONSTANT_RETURNS = 1e-6  # returns whose deviation is below this share of their mean are constant


def returns(equity: Array) -> Array:
    """Simple returns [n] of a curve [n + 1]; from an equity of 0 on, 0."""
    equity = as_curve(equity)
    before, after = equity[:-1], equity[1:]
    gone = before == 0
    return jnp.where(gone, 0 * after, (after - before) / jnp.where(gone, 1, before))


def total_return(equity: Array) -> Array:
    """Last equity over the first, minus 1."""
    equity = as_curve(equity)
    return or_nan(equity[-1] / equity[0] - 1, equity)


def annual_return(equity: Array, ppy: float | Array | TimeFrame) -> Array:
    """Compounded growth per year, at most 10 (1000 %); -1 after ruin; 0 without a step."""
    equity = as_curve(equity)
    steps = equity.shape[0] - 1
    if steps == 0:
        return or_nan(like(0.0, equity), equity)
    ratio = equity[-1] / equity[0]
    alive = ratio > 0
    growth = jnp.log(jnp.where(alive, ratio, 1)) * (periods_per_year(ppy) / steps)
    value = jnp.expm1(jnp.minimum(growth, math.log1p(_ANNUAL_RETURN_CAP)))
    return or_nan(jnp.where(alive, value, -1), equity)


def volatility(equity: Array, ppy: float | Array | TimeFrame) -> Array:
    """Sample standard deviation of the returns times sqrt(ppy); 0 with fewer than 2 returns."""
    equity, periods = as_curve(equity), periods_per_year(ppy)
    if equity.shape[0] < 3:
        return or_nan(like(0.0, equity), equity)
    return or_nan(jnp.std(returns(equity), ddof=1) * jnp.sqrt(periods), equity)


def _excess(equity: Array, periods: Any, risk_free: float | Array) -> Array:
    return returns(equity) - jnp.expm1(jnp.log1p(like(risk_free, equity)) / periods)


def sharpe_ratio(
    equity: Array, ppy: float | Array | TimeFrame, risk_free: float | Array = 0.0
) -> Array:
    """Annualised mean of the excess returns over their sample standard deviation.

    ``risk_free`` is a fraction per year. 0 with fewer than 2 returns and for constant returns,
    whose deviation is nothing but rounding.
    """
    equity, periods = as_curve(equity), periods_per_year(ppy)
    if equity.shape[0] < 3:
        return or_nan(like(0.0, equity), equity)
    excess = _excess(equity, periods, risk_free)
    mean, deviation = jnp.mean(excess), jnp.std(excess, ddof=1)
    # A return is a difference of numbers near 1, so its last digit is eps whatever its size: at
    # working precision a deviation below that is the exact zero of the definition.
    floor = jnp.maximum(_CONSTANT_RETURNS * jnp.abs(mean), jnp.finfo(equity.dtype).eps)
    varies = deviation > floor
    ratio = mean / jnp.where(varies, deviation, 1) * jnp.sqrt(periods)
    return or_nan(jnp.where(varies, ratio, 0), equity)


def sortino_ratio(
    equity: Array,
    ppy: float | Array | TimeFrame,
    risk_free: float | Array = 0.0,
    target: float | Array = 0.0,
) -> Array:
    """Annualised mean of the excess returns over their downside deviation, within ±1000.

    ``risk_free`` is a fraction per year, ``target`` a return per period. Without a return below
    the target: 1000 for a positive mean, else 0.
    """
    equity, periods = as_curve(equity), periods_per_year(ppy)
    if equity.shape[0] < 2:
        return or_nan(like(0.0, equity), equity)
    mean = jnp.mean(_excess(equity, periods, risk_free))
    downside = jnp.sqrt(jnp.mean(jnp.minimum(returns(equity) - target, 0) ** 2))
    perfect = jnp.where(mean > 0, RATIO_CAP, 0)
    return or_nan(capped_ratio(mean * jnp.sqrt(periods), downside, perfect), equity)


class Drawdown(NamedTuple):
    """The deepest drawdown of a curve; counts are steps, as floats.

    Attributes:
      depth: fraction <= 0. duration: from the last peak before the trough to the trough.
      recovery: from the trough to the first equity at the peak again, -1 if never.
      current: drawdown at the end, <= 0. peak, trough: equity there.
    """

    depth: Array
    duration: Array
    recovery: Array
    current: Array
    peak: Array
    trough: Array


def drawdown_curve(equity: Array) -> Array:
    """Equity over its running maximum, minus 1: [n + 1], <= 0."""
    equity = as_curve(equity)
    return equity / jax.lax.cummax(equity) - 1


def deepest_drawdown(equity: Array) -> Drawdown:
    """All facts of the deepest drawdown; the first where several are equally deep."""
    equity = as_curve(equity)
    falls, index = drawdown_curve(equity), jnp.arange(equity.shape[0])
    bottom = jnp.argmin(falls)
    peak = jax.lax.cummax(equity)[bottom]
    start = jnp.max(jnp.where((index <= bottom) & (equity == peak), index, 0))
    back = (index >= bottom) & (equity >= peak)
    recovery = jnp.where(back.any(), jnp.argmax(back) - bottom, -1)
    found = Drawdown(
        depth=falls[bottom],
        duration=like(bottom - start, equity),
        recovery=like(recovery, equity),
        current=falls[-1],
        peak=peak,
        trough=equity[bottom],
    )
    return Drawdown(*(or_nan(value, equity) for value in found))


def max_drawdown(equity: Array) -> Array:
    """Deepest fall from a running maximum, a fraction <= 0."""
    return deepest_drawdown(equity).depth


def max_drawdown_duration(equity: Array) -> Array:
    """Steps from the last peak before the deepest trough to that trough."""
    return deepest_drawdown(equity).duration


def recovery(equity: Array) -> Array:
    """Steps from the deepest trough until the peak is reached again; -1 if never."""
    return deepest_drawdown(equity).recovery


def current_drawdown(equity: Array) -> Array:
    """Drawdown at the end of the curve, <= 0."""
    return deepest_drawdown(equity).current


def peak_value(equity: Array) -> Array:
    """Equity at the peak before the deepest trough."""
    return deepest_drawdown(equity).peak


def trough_value(equity: Array) -> Array:
    """Equity at the deepest trough."""
    return deepest_drawdown(equity).trough


def calmar_ratio(equity: Array, ppy: float | Array | TimeFrame) -> Array:
    """Annual return over the depth of the deepest drawdown, within ±1000.

    Without a drawdown: 1000 for a positive annual return, else 0.
    """
    growth, depth = annual_return(equity, ppy), -max_drawdown(equity)
    perfect = jnp.where(growth > 0, RATIO_CAP, 0)
    return or_nan(capped_ratio(growth, depth, perfect), growth, depth)
