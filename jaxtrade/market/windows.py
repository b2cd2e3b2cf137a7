"""Observation windows: one contiguous slice per time frame (offline.md, "Windows")."""

from __future__ import annotations

import jax

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
