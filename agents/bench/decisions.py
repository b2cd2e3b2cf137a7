"""One-step decisions per second: scored pairs of bar and action, and the table of all of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents.bench import markets
from agents.bench.timing import Measurement, measure
from jaxtrade.market import Market

SETTING = "four frames"
PAIRS = 1 << 20
HORIZONS = (24, 240)


def one_step(market: Market, repeats: int) -> dict[str, Any]:
    """Rows of ``score`` at random bars, and of ``outcome_table`` over all bars."""
    generator = np.random.default_rng(0)
    rows = []
    for horizon in HORIZONS:
        env = markets.one_step(market, SETTING, horizon)
        params = env.default_params
        bars = jnp.asarray(generator.integers(0, int(market.last), PAIRS), jnp.int32)
        actions = jnp.asarray(generator.integers(0, env.num_actions, PAIRS), jnp.int32)
        score = jax.vmap(env.score_one, in_axes=(0, 0, None))
        measured = measure(score, bars, actions, params, repeats=repeats)
        rows.append(_row("score, random pairs", horizon, measured, PAIRS))
        measured = measure(lambda p, env=env: env.outcome_table(p), params, repeats=repeats)
        rows.append(_row("outcome table", horizon, measured, market.num_bars * env.num_actions))
    return {
        "setting": (
            f"{market.num_bars:,} execution bars, {env.num_actions} actions, 5x, fee 0.04 %. "
            f"`score`: {PAIRS:,} random (bar, action) pairs per call; the table: every action at "
            "every bar, blocks of 8192 bars. Pairs with their bracket exits, fees, liquidation."
        ),
        "rows": rows,
    }


def _row(what: str, horizon: int, measured: Measurement, count: int) -> dict[str, Any]:
    return {
        "what": what,
        "bars": horizon,
        "pairs_per_second": measured.rates(count),
        "compile_seconds": measured.compile_seconds,
    }
