"""Policies that follow indicators of the closes in an observation's window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrade.baselines.indicators import bollinger_bands, moving_average, stochastic_strength
from jaxtrade.baselines.simple import DIRECTION, Policy, action_for, action_table
from jaxtrade.checks import is_count, is_number
from jaxtrade.timeframe import TimeFrame, TimeFrameLike

Array = jax.Array
# Observation -> relative distance of closes [..., n] from the newest, which comes last and is 0.
Closes = Callable[[Mapping[str, Array]], Array]


def mean_reversion(
    env: Any,
    time_frame: TimeFrameLike | None = None,
    window: int = 20,
    deviations: float = 2.0,
    rsi_period: int = 14,
    stochastic_period: int = 14,
    oversold: float = 20.0,
    overbought: float = 80.0,
) -> Policy:
    """Buys what has fallen far and sells what has risen far.

    Long where the newest close is below the lower Bollinger band and the stochastic relative
    strength below ``oversold``; short (flat where there are no shorts) above the upper band and
    ``overbought``; else the side held is kept.

    Args:
      env: environment whose windows hold "ohlcv" or "default" features.
      time_frame: whose window is read; None = the first.
      window, deviations: of the bands. rsi_period, stochastic_period: of the strength, which
        needs rsi_period + stochastic_period closes. oversold, overbought: in [0, 100].

    Raises:
      ValueError: an argument, the window or the actions do not serve.
    """
    name = "mean_reversion"
    _check_counts(name, window=window, rsi_period=rsi_period, stochastic_period=stochastic_period)
    if not is_number(deviations) or deviations < 0:
        raise ValueError(f"{name}: deviations must be a number >= 0; got {deviations}.")
    if not (is_number(oversold) and is_number(overbought) and 0 <= oversold < overbought <= 100):
        raise ValueError(
            f"{name}: needs 0 <= oversold < overbought <= 100; got {oversold} and {overbought}."
        )
    closes = closes_of(env, time_frame, max(window, rsi_period + stochastic_period), name)

    def wanted(observation: Mapping[str, Array]) -> tuple[Array, Array]:
        series = closes(observation)
        lower, upper = bollinger_bands(series, window, deviations)
        strength = stochastic_strength(series, rsi_period, stochastic_period)
        newest = series[..., -1]
        return (newest < lower) & (strength < oversold), (newest > upper) & (strength > overbought)

    return _following(env, name, wanted)


def moving_average_cross(
    env: Any, fast: int = 5, slow: int = 20, time_frame: TimeFrameLike | None = None
) -> Policy:
    """Long while the fast moving average of the closes is above the slow one, short while below.

    Flat instead of short where there are no shorts; the side held is kept while they are equal.

    Args:
      env: environment whose windows hold "ohlcv" or "default" features.
      fast, slow: closes per average, fast < slow.
      time_frame: whose window is read; None = the first.

    Raises:
      ValueError: an argument, the window or the actions do not serve.
    """
    name = "moving_average_cross"
    _check_counts(name, fast=fast, slow=slow)
    if fast >= slow:
        raise ValueError(f"{name}: fast must be below slow; got {fast} and {slow}.")
    closes = closes_of(env, time_frame, slow, name)

    def wanted(observation: Mapping[str, Array]) -> tuple[Array, Array]:
        series = closes(observation)
        quick, steady = moving_average(series, fast), moving_average(series, slow)
        return quick > steady, quick < steady

    return _following(env, name, wanted)


def _following(env: Any, name: str, wanted: Callable[..., tuple[Array, Array]]) -> Policy:
    """The policy that takes the wanted side (long, short), or keeps the one it holds."""
    flat, long = action_for(env, 0, name), action_for(env, 1, name)
    short = env.action_for(-1)
    table = action_table(flat if short is None else short, flat, long)

    def policy(observation: Mapping[str, Array], draw: Array) -> Array:
        rise, fall = wanted(observation)
        held = jnp.sign(observation["account_state"][..., DIRECTION])
        side = jnp.where(rise, 1, jnp.where(fall, -1, held)).astype(jnp.int32)
        return jnp.asarray(table)[side + 1]

    return policy


def closes_of(env: Any, time_frame: TimeFrameLike | None, count: int, name: str) -> Closes:
    """What reads the last ``count`` closes out of an observation, as ``close / newest - 1``.

    That is all an indicator needs, and equal closes are exactly 0. With the default features it is
    recovered from the log returns.

    Args:
      name: of the policy that asks, for messages.

    Raises:
      ValueError: the environment has no such window, it is too short, or its features are others.
    """
    spec = env.market.spec
    frame = spec.time_frames[0] if time_frame is None else TimeFrame.parse(time_frame)
    if frame not in spec.time_frames:
        known = ", ".join(one.name for one in spec.time_frames)
        raise ValueError(f"{name}: the observation has no window of {frame.name}; it has {known}.")
    place = spec.time_frames.index(frame)
    key, size, features = spec.keys[place], spec.window_sizes[place], spec.feature_names[place]
    column = {"ohlcv": "close", "default": "feature_log_return"}.get(features)
    if column is None:
        raise ValueError(
            f"{name}: reads closes from the feature sets 'ohlcv' and 'default'; {frame.name} has "
            f"{features!r}."
        )
    if size < count:
        raise ValueError(
            f"{name}: needs {count} closes of {frame.name}, its window has {size}; set "
            f"window_sizes to at least {count}."
        )
    index = spec.feature_columns[place].index(column)

    def closes(observation: Mapping[str, Array]) -> Array:
        if key not in observation:
            raise ValueError(
                f"{name}: the observation has no {key!r}, it has {sorted(observation)}; use "
                "observation='dict'."
            )
        series = observation[key][..., -count:, index]
        if features == "ohlcv":
            return (series - series[..., -1:]) / series[..., -1:]
        # Minus the sum of the returns after a close is its logarithm over the newest.
        later = jnp.flip(jnp.cumsum(jnp.flip(series[..., 1:], -1), -1), -1)
        return jnp.expm1(-jnp.concatenate([later, jnp.zeros_like(series[..., :1])], axis=-1))

    return closes


def _check_counts(name: str, **counts: Any) -> None:
    for argument, value in counts.items():
        if not is_count(value):
            raise ValueError(f"{name}: {argument} must be a whole number >= 1; got {value}.")
