"""What is read at a bar: its prices, and one contiguous window per time frame.

See docs/semantics.md, "Windows".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxtrade.market.market import Market

Array = jax.Array


def windows(market: Market, bar: Array) -> dict[str, Array]:
    """Windows of every time frame at the decision after an execution bar.

    A window holds the newest visible row and the rows before it, oldest first; rows that do not
    exist are zero rows in front. It is a function of the bar alone.

    Args:
      market: one market (not a stack; map over its leading axis with ``vmap``).
      bar: int32 (), number of the newest execution bar.

    Returns: ``spec.keys`` -> float32 [W, F], in the order of the time frames.
    """
    newest = jax.lax.dynamic_index_in_dim(market.newest, bar, keepdims=False)
    # W zero rows in front of the table put row r of the data at r + W: the slice that ends there
    # starts at newest + 1, which is never negative.
    return {
        key: jax.lax.dynamic_slice_in_dim(table, newest[i] + 1, size)
        for i, (key, table, size) in enumerate(
            zip(market.spec.keys, market.features, market.spec.window_sizes, strict=True)
        )
    }


def execution_bar(market: Market, bar: Array) -> tuple[Array, Array, Array, Array]:
    """Open, high, low and close of execution bar ``bar`` (int32 ()); each () in the price dtype."""
    row = jax.lax.dynamic_slice(market.ohlcv, (bar, jnp.zeros_like(bar)), (1, 4))[0]
    return row[0], row[1], row[2], row[3]


def close_price(market: Market, bar: Array) -> Array:
    """Close of execution bar ``bar`` (int32 ()); ()."""
    return jax.lax.dynamic_slice(market.ohlcv, (bar, jnp.full_like(bar, 3)), (1, 1))[0, 0]
