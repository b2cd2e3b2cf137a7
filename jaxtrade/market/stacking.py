"""Several markets as one argument of a compiled function."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxtrade.market.market import Market, host
from jaxtrade.market.spec import MarketSpec
from jaxtrade.timeframe import short_repr

Array = jax.Array


def stack(markets: Sequence[Market]) -> Market:
    """Several markets as one, with a leading axis [K] on every leaf.

    Shorter markets are padded at the end to the longest; ``first`` and ``last`` of each keep
    episodes inside its own data. Padding repeats the last bar, so that it holds valid prices.

    Raises:
      ValueError: no market, or two that differ in frames, windows or features.
    """
    markets = list(markets)
    if not markets:
        raise ValueError("stack: needs at least one market.")
    spec = markets[0].spec
    for k, market in enumerate(markets):
        market.refuse_stack("stack")
        for field in dataclasses.fields(MarketSpec):
            ours, theirs = getattr(spec, field.name), getattr(market.spec, field.name)
            if ours != theirs:
                raise ValueError(
                    f"stack: market {k} differs from market 0 in {field.name}: "
                    f"{short_repr(theirs)} and {short_repr(ours)}; "
                    "build all with one configuration."
                )
    frames = range(len(spec.time_frames))
    funded = any(market.funding is not None for market in markets)
    bars = max(market.num_bars for market in markets)

    def over(leaves: list[Any], rows: int, mode: str) -> Array:
        padded = [_pad(np.asarray(leaf), rows, mode) for leaf in leaves]
        return host(np.stack(padded))

    def funding_of(market: Market) -> Any:
        return np.zeros(market.num_bars) if market.funding is None else market.funding

    return Market(
        ohlcv=over([market.ohlcv for market in markets], bars, "edge"),
        features=tuple(
            over(
                [market.features[i] for market in markets],
                max(market.features[i].shape[0] for market in markets),
                "constant",
            )
            for i in frames
        ),
        newest=over([market.newest for market in markets], bars, "edge"),
        open_minute=over([market.open_minute for market in markets], bars, "edge"),
        funding=over([funding_of(market) for market in markets], bars, "constant")
        if funded
        else None,
        first=host(np.array([int(market.first) for market in markets], np.int32)),
        last=host(np.array([int(market.last) for market in markets], np.int32)),
        spec=spec,
    )


def _pad(leaf: Any, rows: int, mode: Any) -> Any:
    return np.pad(leaf, [(0, rows - leaf.shape[0])] + [(0, 0)] * (leaf.ndim - 1), mode=mode)
