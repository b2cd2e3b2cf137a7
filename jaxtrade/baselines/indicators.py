"""Indicators of closes, newest last on the last axis; pure, any leading axes.

Indices do not depend on the scale or the zero of the closes; averages and bands follow both.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array

NEUTRAL = 50.0  # of an index from 0 to 100 where nothing moved


def rolling_mean(values: Array, period: int) -> Array:
    """Means of every ``period`` neighbours: [..., T] -> [..., T - period + 1]."""
    count = values.shape[-1] - period + 1
    # A sum of shifted slices: sums of zeros stay exactly 0, as differences of running sums do not.
    shifted = [values[..., k : k + count] for k in range(period)]
    return sum(shifted[1:], start=shifted[0]) / period


def moving_average(closes: Array, period: int) -> Array:
    """Mean of the last ``period`` closes: [..., T] -> [...]."""
    return closes[..., -period:].mean(axis=-1)


def bollinger_bands(closes: Array, window: int, deviations: float) -> tuple[Array, Array]:
    """Lower and upper band [...]: the mean of the last ``window`` closes -+ deviations.

    The deviation is that of the population (divided by ``window``).
    """
    recent = closes[..., -window:]
    middle, width = recent.mean(axis=-1), deviations * recent.std(axis=-1)
    return middle - width, middle + width


def relative_strength(closes: Array, period: int) -> Array:
    """Relative strength index in [0, 100]: [..., T] -> [..., T - period].

    ``100 * gain / (gain + loss)`` with plain means of the last ``period`` rises and falls, so that
    a value depends on ``period + 1`` closes and on nothing before them; 50 where nothing moved.
    """
    change = jnp.diff(closes, axis=-1)
    gain = rolling_mean(jnp.maximum(change, 0), period)
    loss = rolling_mean(jnp.maximum(-change, 0), period)
    return _percent(gain, gain + loss)


def stochastic_strength(closes: Array, strength_period: int, period: int) -> Array:
    """Where the newest relative strength lies within its last ``period`` values, in [0, 100].

    0 is their lowest, 100 their highest; 50 where they are equal. [..., T] -> [...], of which the
    last ``strength_period + period`` closes count.
    """
    strength = relative_strength(closes, strength_period)[..., -period:]
    low, high = strength.min(axis=-1), strength.max(axis=-1)
    return _percent(strength[..., -1] - low, high - low)


def _percent(part: Array, whole: Array) -> Array:
    moved = whole > 0
    return jnp.where(moved, 100 * part / jnp.where(moved, whole, 1), NEUTRAL)
