"""Environments for the wrapper tests, cached by their fields as `jit` caches by identity."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.market import Market
from tests.envs.builders import walk

FRAMES = {"time_frames": ("1min", "5min"), "window_sizes": (4, 3), "execute_on": "1min"}
KEY = jax.random.key(7)


@functools.cache
def market(rows: int = 160, seed: int = 3, sigma: float = 1e-2) -> Market:
    """A random walk seen through two frames."""
    return Market.from_frame(walk(rows, seed, sigma=sigma), **FRAMES)


@functools.cache
def env_of(seed: int = 3, rows: int = 160, **fields: Any) -> SequentialTradingEnv:
    """An environment of futures with costs on `market`."""
    given = {"leverage": 3, "transaction_fee": 1e-4, "slippage": 1e-3, **fields}
    return SequentialTradingEnv(market(rows, seed), SequentialTradingEnvConfig(**FRAMES, **given))


def keys(count: int, seed: int = 0) -> jax.Array:
    """[count] keys."""
    return jax.random.split(jax.random.key(seed), count)


def closes(values: Any) -> pd.DataFrame:
    """One-minute bars with these closes."""
    values = np.asarray(values, float)
    opens = np.concatenate([values[:1], values[:-1]])
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-01-01", periods=values.size, freq="1min"),
            "open": opens,
            "high": np.maximum(opens, values),
            "low": np.minimum(opens, values),
            "close": values,
            "volume": 1.0,
        }
    )


def run(env: Any, actions: Any, seed: int = 0, params: Any = None) -> list[Any]:
    """`reset`, then what `step` returns for each action: [(observation, state), step, ...]."""
    params = env.default_params if params is None else params
    out = [env.reset(jax.random.key(seed), params)]
    state = out[0][1]
    for k, action in enumerate(actions):
        out.append(env.step(jax.random.fold_in(KEY, 1000 * seed + k), state, action, params))
        state = out[-1][1]
    return out
