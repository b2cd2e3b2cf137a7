"""What every metric is made of: floats of one dtype, NaN in - NaN out, bounded ratios."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtrade.timeframe import TimeFrame

Array = jax.Array

RATIO_CAP = 1000.0  # of ratios whose denominator may vanish


def periods_per_year(ppy: float | Array | TimeFrame) -> Any:
    """The number of periods in a year that ``ppy`` means; ValueError unless finite and > 0."""
    periods = getattr(ppy, "periods_per_year", ppy)
    if isinstance(periods, int | float) and not (periods > 0 and math.isfinite(periods)):
        raise ValueError(f"ppy: must be a number > 0 (8760 for hours) or a TimeFrame; got {ppy!r}.")
    return periods


def or_nan(value: Array, *inputs: Array) -> Array:
    """The value, or NaN when an input has one that comparisons may have swallowed."""
    unknown = jnp.stack([jnp.isnan(x).any() for x in inputs]).any()
    return jnp.where(unknown, jnp.nan, value)


def like(value: float | Array, curve: Array) -> Array:
    """The value in the dtype of the curve."""
    return jnp.asarray(value, curve.dtype)


def as_curve(values: Array) -> Array:
    """The values as an array of floats; those that are floats keep their dtype."""
    values = jnp.asarray(values)
    floats = jnp.issubdtype(values.dtype, jnp.floating)
    return values if floats else values.astype(jnp.result_type(float))


def capped_ratio(numerator: Array, denominator: Array, otherwise: Array | float) -> Array:
    """Quotient clipped to ±1000; ``otherwise`` where the denominator is not positive."""
    usable = denominator > 0
    quotient = numerator / jnp.where(usable, denominator, 1)
    return jnp.where(usable, jnp.clip(quotient, -RATIO_CAP, RATIO_CAP), otherwise)
