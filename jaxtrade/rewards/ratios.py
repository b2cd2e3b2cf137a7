"""Rewards that are ratios of the returns so far: Sharpe, Sortino, their changes and differentials.

All give ``ruin_reward`` when the account is wiped out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxtrade.rewards.parts import (
    Array,
    Reward,
    RewardInput,
    RewardParams,
    Ring,
    check_choice,
    check_window,
    clip_ratio,
    empty_ring,
    log_gain,
    masked_mean,
    or_ruin,
    push,
    root,
    simple_gain,
    zero,
)

_RATIO_EPSILON = 1e-9  # added to the deviation of the ratio rewards
_DEVIATION_FLOOR = 1e-8  # smallest deviation of the change rewards
_VARIANCE_FLOOR = 1e-12  # below it the differential rewards are 0


def _mean_and_deviation(ring: Ring, kind: str, target: float) -> tuple[Array, Array]:
    """Mean, and standard (population) or downside deviation, of the values in the ring."""
    mean = masked_mean(ring, ring.values)
    off = ring.values - mean if kind == "sharpe" else jnp.minimum(ring.values - target, 0)
    return mean, root(masked_mean(ring, off * off))


class _Moments(NamedTuple):
    seen: Array  # int32
    mean: Array
    squares: Array  # sum of squared deviations from the mean


def sharpe(window: int | None = None, risk_free: float = 0.0, clip: float | None = 10.0) -> Reward:
    """(mean - risk_free) / (std + 1e-9) of the log returns of the episode or the last ``window``.

    ``risk_free`` is per step. 0 with fewer than 2 returns; ``ruin_reward`` when wiped out.
    """
    if window is not None:
        return _ratio(window, log_gain, "sharpe", risk_free, risk_free, clip)

    def init(params: RewardParams) -> _Moments:
        seen = jnp.zeros((), jnp.int32)
        return _Moments(seen=seen, mean=zero(params), squares=zero(params))

    def update(carry: _Moments, x: RewardInput, params: RewardParams) -> tuple[Array, _Moments]:
        value = log_gain(x)
        seen = carry.seen + 1
        size = seen.astype(value.dtype)
        mean = carry.mean + (value - carry.mean) / size
        squares = carry.squares + (value - carry.mean) * (value - mean)
        ratio = (mean - risk_free) / (root(squares / size) + _RATIO_EPSILON)
        ratio = jnp.where(seen < 2, 0, clip_ratio(ratio, clip))
        return or_ruin(ratio, x, params), _Moments(seen, mean, squares)

    return Reward(init, update)


def _ratio(
    window: int,
    returns: Callable[[RewardInput], Array],
    kind: str,
    risk_free: float,
    target: float,
    clip: float | None,
    smallest_count: int = 2,
) -> Reward:
    check_window(window, 2)

    def init(params: RewardParams) -> Ring:
        return empty_ring(window, params)

    def update(ring: Ring, x: RewardInput, params: RewardParams) -> tuple[Array, Ring]:
        ring = push(ring, returns(x))
        mean, deviation = _mean_and_deviation(ring, kind, target)
        ratio = clip_ratio((mean - risk_free) / (deviation + _RATIO_EPSILON), clip)
        return or_ruin(jnp.where(ring.pushed < smallest_count, 0, ratio), x, params), ring

    return Reward(init, update)


def risk_adjusted(
    ratio: str = "sharpe",
    window: int = 30,
    risk_free: float = 0.0,
    target: float | None = None,
    clip: float | None = 10.0,
) -> Reward:
    """Sharpe or Sortino ratio of the last ``window`` simple returns.

    ``risk_free`` and ``target`` are per step; ``target=None`` is ``risk_free``. 0 with fewer than
    2 returns; ``ruin_reward`` when wiped out.
    """
    check_choice("ratio", ratio, ("sharpe", "sortino"))
    target = risk_free if target is None else target
    return _ratio(window, simple_gain, ratio, risk_free, target, clip)


def sortino(
    window: int = 30,
    annual_risk_free: float = 0.02,
    clip: float | None = 10.0,
    *,
    periods_per_year: float,
) -> Reward:
    """Sortino ratio of the last ``window`` returns against an annual rate; 0 until it is full.

    Args:
      window: returns kept, >= 2.
      annual_risk_free: fraction per year, both the risk-free rate and the target.
      clip: bound of the absolute value, None = unbounded.
      periods_per_year: execution bars in a year (8760 for hours); the name "sortino" in a
        configuration fills it in.
    """
    rate = annual_risk_free / periods_per_year
    return _ratio(window, simple_gain, "sortino", rate, rate, clip, smallest_count=window)


def sharpe_change(window: int = 50, clip: float | None = 10.0) -> Reward:
    """Change of the clipped Sharpe ratio of the last ``window`` simple returns."""
    return _ratio_change("sharpe", window, clip)


def sortino_change(window: int = 50, clip: float | None = 10.0) -> Reward:
    """Change of the clipped Sortino ratio (target 0) of the last ``window`` simple returns."""
    return _ratio_change("sortino", window, clip)


class _RatioCarry(NamedTuple):
    ring: Ring
    ratio: Array


def _ratio_change(kind: str, window: int, clip: float | None) -> Reward:
    check_window(window, 2)

    def init(params: RewardParams) -> _RatioCarry:
        return _RatioCarry(ring=empty_ring(window, params), ratio=zero(params))

    def update(
        carry: _RatioCarry, x: RewardInput, params: RewardParams
    ) -> tuple[Array, _RatioCarry]:
        ring = push(carry.ring, simple_gain(x))
        mean, deviation = _mean_and_deviation(ring, kind, 0.0)
        ratio = clip_ratio(mean / jnp.maximum(deviation, _DEVIATION_FLOOR), clip)
        ratio = jnp.where(ring.pushed < 2, 0, ratio)
        return or_ruin(ratio - carry.ratio, x, params), _RatioCarry(ring, ratio)

    return Reward(init, update)


class _Averages(NamedTuple):
    first: Array  # moving average of the return
    second: Array  # of its square, or of the square of its negative part


def _averages(params: RewardParams) -> _Averages:
    return _Averages(first=zero(params), second=zero(params))


def differential_sharpe(eta: float = 0.01, clip: float | None = 10.0) -> Reward:
    """Marginal effect of a return on the exponentially averaged Sharpe ratio (rate ``eta``).

    0 while the averaged variance is at most 1e-12; ``ruin_reward`` when wiped out.
    """

    def update(carry: _Averages, x: RewardInput, params: RewardParams) -> tuple[Array, _Averages]:
        value, (first, second) = simple_gain(x), carry
        first_change, second_change = value - first, value * value - second
        variance = second - first * first
        usable = variance > _VARIANCE_FLOOR
        safe = jnp.where(usable, variance, 1)
        ratio = (second * first_change - first * second_change / 2) / (safe * jnp.sqrt(safe))
        ratio = clip_ratio(jnp.where(usable, ratio, 0), clip)
        carry = _Averages(first + eta * first_change, second + eta * second_change)
        return or_ruin(ratio, x, params), carry

    return Reward(_averages, update)


def differential_sortino(eta: float = 0.01, clip: float | None = 10.0) -> Reward:
    """As `differential_sharpe` with the averaged square of the losses in place of the variance."""

    def update(carry: _Averages, x: RewardInput, params: RewardParams) -> tuple[Array, _Averages]:
        value, (first, downside) = simple_gain(x), carry
        usable = downside > _VARIANCE_FLOOR
        safe = jnp.where(usable, downside, 1)
        gain = value - first / 2
        loss = (safe * gain - first * value * value / 2) / (safe * jnp.sqrt(safe))
        ratio = jnp.where(value > 0, gain / jnp.sqrt(safe), loss)
        ratio = clip_ratio(jnp.where(usable, ratio, 0), clip)
        negative = jnp.minimum(value, 0)
        carry = _Averages(
            first + eta * (value - first), downside + eta * (negative * negative - downside)
        )
        return or_ruin(ratio, x, params), carry

    return Reward(_averages, update)
