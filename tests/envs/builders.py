"""Frames and environments for the environment tests.

Environments are cached by their fields: `jit` caches by the identity of the environment, so tests
that share one share its compiled functions.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxtrade import Rules, SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.market import Market

START = pd.Timestamp("2024-01-01")
REFERENCE = Rules.reference()
MINUTES = {"time_frames": "1min", "window_sizes": 1, "execute_on": "1min"}
G_CLOSES = (100, 100, 104, 102, 108, 108, 96, 96, 100, 97, 97, 97, 97)


def label(bar: int) -> pd.Timestamp:
    """START of a one-minute bar."""
    return START + pd.Timedelta(minutes=bar)


def frame_of(rows: Any, step: str = "1min", **columns: Any) -> pd.DataFrame:
    """A frame of (open, high, low, close) rows and further columns."""
    prices = pd.DataFrame(list(rows), columns=["open", "high", "low", "close"], dtype=float)
    times = pd.date_range(START, periods=len(prices), freq=step)
    return prices.assign(volume=1.0, **columns, timestamp=times)


@functools.cache
def golden_frame() -> pd.DataFrame:
    """The series of the golden traces G1 and G2."""
    opens = (G_CLOSES[0], *G_CLOSES[:-1])
    return frame_of(
        (o, max(o, c) + 1, min(o, c) - 1, c) for o, c in zip(opens, G_CLOSES, strict=True)
    )


def flat_frame(bars: int = 13, funding: float | None = None, **changed: Any) -> pd.DataFrame:
    """A flat series at 100; ``bar4={"low": 88}`` changes fields of a bar."""
    rows = [{"open": 100.0, "high": 100.0, "low": 100.0, "close": 100.0} for _ in range(bars)]
    for name, fields in changed.items():
        rows[int(name.removeprefix("bar"))].update(fields)
    for row in rows:
        row["high"] = max(row.values())
        row["low"] = min(row.values())
    columns = {} if funding is None else {"funding": funding}
    return frame_of([tuple(row.values()) for row in rows], **columns)


def walk(
    rows: int,
    seed: int = 0,
    *,
    sigma: float = 1e-3,
    gap: float = 0.0,
    funding: float = 0.0,
    step: str = "1min",
) -> pd.DataFrame:
    """A random walk with wicks; ``gap`` is the spread of the jumps between close and open."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, sigma, rows)))
    open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(generator.normal(0, gap, rows))
    wick = np.exp(np.abs(generator.normal(0, sigma, (2, rows))))
    high, low = np.maximum(open_, close) * wick[0], np.minimum(open_, close) / wick[1]
    frame = frame_of(zip(open_, high, low, close, strict=True), step)
    frame["volume"] = generator.uniform(0, 10, rows)
    if funding:
        frame["funding"] = generator.normal(0, funding, rows)
    return frame


@functools.cache
def walk_market(
    rows: int = 300, seed: int = 0, sigma: float = 2e-2, gap: float = 1e-2, funding: float = 1e-3
) -> Market:
    """A violent market of one-minute bars with gaps and funding."""
    frame = walk(rows, seed, sigma=sigma, gap=gap, funding=funding)
    return Market.from_frame(frame, **MINUTES)


@functools.cache
def walk_env(**fields: Any) -> SequentialTradingEnv:
    """An environment on `walk_market`; one object per set of fields."""
    return SequentialTradingEnv(walk_market(), SequentialTradingEnvConfig(**MINUTES, **fields))


def env_on(frame: pd.DataFrame, **fields: Any) -> SequentialTradingEnv:
    """An environment of one-minute bars with windows of one row."""
    return SequentialTradingEnv(frame, SequentialTradingEnvConfig(**{**MINUTES, **fields}))


@functools.cache
def stepper(env: Any) -> Any:
    """The environment's `transition`, compiled."""
    return jax.jit(env.transition)


@functools.cache
def lanes_stepper(env: Any, axes: Any = None) -> Any:
    """`transition` over lanes: states, actions and draws [N], parameters shared."""
    return jax.jit(jax.vmap(env.transition, in_axes=(0, 0, 0, axes)))


@functools.cache
def episode_runner(env: Any) -> Any:
    """(state, actions [S], draws [S], params) -> (states after each step, rewards, ends, infos)."""

    def run(state, actions, draws, params):
        def one(at, x):
            after, reward, terminated, info = env.transition(at, x[0], x[1], params)
            return after, (after, reward, terminated, info)

        return jax.lax.scan(one, state, (actions, draws))[1]

    return jax.jit(run)


def assert_trees_equal(one: Any, two: Any, message: str = "") -> None:
    """Same structure, dtypes and bits (NaN equals NaN)."""
    ours, theirs = jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(two)
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for (path, a), b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(
            np.asarray(a), np.asarray(b), err_msg=f"{message}{jax.tree_util.keystr(path)}"
        )
