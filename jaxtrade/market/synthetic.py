"""Synthetic minute prices with regime-switching volatility, for examples and tests."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxtrade.market.times import instant

# Volatility of each regime relative to the base, and its mean length in minutes.
_REGIME_SCALE = np.array([0.5, 1.0, 3.0])
_REGIME_MINUTES = np.array([360.0, 240.0, 45.0])
# Chance of the next regime (column) after each one (row); a regime never follows itself.
_REGIME_NEXT = np.array([[0.0, 0.85, 0.15], [0.6, 0.0, 0.4], [0.3, 0.7, 0.0]])


def minutes(
    key: Any,
    rows: int,
    *,
    start: Any = "2024-01-01",
    price: float = 100.0,
    volatility: float = 0.0006,
    drift: float = 0.0,
    tick: float = 0.001,
) -> pd.DataFrame:
    """A frame of 1-minute bars: a random walk whose volatility switches between three regimes.

    Regimes form a semi-Markov chain (calm, normal, wild) with geometric lengths. Closes move by
    Gaussian log returns; each high and low is drawn from the distribution of the extreme of a
    Brownian bridge between open and close, so wicks fit the volatility of their minute. Volume is
    log-normal and grows with volatility. The same key gives the same frame on every machine of one
    NumPy version; global random state is neither read nor changed.

    Args:
      key: a JAX random key, or a whole number >= 0 as seed.
      rows: number of minutes, >= 1.
      start: START of the first minute (pandas-readable, UTC when naive, or int ns).
      price: first open, in quote currency.
      volatility: standard deviation of the log return of a minute in the normal regime.
      drift: mean log return of a minute.
      tick: price step, quote currency; prices are whole multiples of it and at least one tick.

    Returns: DataFrame with timestamp (START), open, high, low, close, volume.

    Raises:
      ValueError: an argument is outside its range.
    """
    if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or rows < 1:
        raise ValueError(f"rows: must be a whole number >= 1; got {rows!r}.")
    for name, value in (("price", price), ("volatility", volatility), ("tick", tick)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name}: must be a finite number > 0; got {value!r}.")
    generator = np.random.default_rng(_entropy(key))
    deviation = volatility * _REGIME_SCALE[_regimes(generator, int(rows))]
    noise = generator.standard_normal(rows)
    logs = np.log(price) + np.concatenate([[0.0], np.cumsum(drift + deviation * noise)])
    before, after = logs[:-1], logs[1:]
    up, down = (_bridge_reach(after - before, deviation, u) for u in generator.random((2, rows)))
    volume = np.exp(generator.normal(3.0, 0.6, rows)) * deviation / volatility
    close = _on_grid(np.exp(after), tick, np.round)
    open_ = np.concatenate([_on_grid(np.exp(logs[:1]), tick, np.round), close[:-1]])
    high = np.maximum(_on_grid(np.exp(before + up), tick, np.ceil), np.maximum(open_, close))
    low = np.minimum(_on_grid(np.exp(after - down), tick, np.floor), np.minimum(open_, close))
    times = instant(start) + np.arange(rows, dtype=np.int64) * 60_000_000_000
    return pd.DataFrame(
        {
            "timestamp": times.astype("datetime64[ns]"),
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": np.round(volume, 4),
        }
    )


def _entropy(key: Any) -> list[int]:
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if key < 0:
            raise ValueError(f"key: a seed must be >= 0; got {key}.")
        return [int(key)]
    data = key
    if isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(key)
    data = np.asarray(data)
    if data.dtype != np.uint32 or data.ndim != 1:
        raise ValueError("key: expected one JAX random key or a whole number >= 0.")
    # A third word keeps the streams of keys and of seeds apart.
    return [*(int(word) for word in data), len(data)]


def _regimes(generator: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """[rows] regime of each minute; 1 (normal) at the start."""
    cumulative = np.cumsum(_REGIME_NEXT, axis=1)
    path, lengths, total, regime = [], [], 0, 1
    while total < rows:
        length = int(generator.geometric(1.0 / _REGIME_MINUTES[regime]))
        path.append(regime)
        lengths.append(length)
        total += length
        regime = int(np.searchsorted(cumulative[regime], generator.random(), side="right"))
    return np.repeat(path, lengths)[:rows]


def _bridge_reach(
    change: NDArray[np.float64], deviation: NDArray[np.float64], draw: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Maximum of a Brownian bridge from 0 to ``change``: (c + sqrt(c^2 - 2 s^2 ln u)) / 2.

    Inverse of P(max > m) = exp(-2 m (m - c) / s^2). Mirrored in time it is also the depth of the
    minimum below the end point.
    """
    return 0.5 * (change + np.sqrt(change**2 - 2 * deviation**2 * np.log1p(-draw)))


def _on_grid(values: NDArray[np.float64], tick: float, rounding: Any) -> NDArray[np.float64]:
    ticks = np.maximum(rounding(values / tick), 1.0)
    per_unit = np.round(1.0 / tick)
    # Division gives the float64 nearest to the decimal; a product would show 100.12300000000001.
    return ticks / per_unit if abs(per_unit * tick - 1.0) < 1e-9 else ticks * tick
