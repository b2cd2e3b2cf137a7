"""Several markets laid end to end in one, so that an episode's market is a range of bars.

Reading a bar of market k then costs what reading any bar costs. Indexing a stack by a number that
differs between lanes would copy a whole market per lane.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from flax import struct

from jaxtrade.market.market import Market


@struct.dataclass
class Spans:
    """Where each of K markets lies in their joint one, int32 [K].

    Attributes:
      begin: first bar of its data. first, last: first usable bar and last bar of its range.
    """

    begin: Any
    first: Any
    last: Any

    @classmethod
    def single(cls, market: Market) -> Spans:
        """Of one market by itself."""
        ends = (0, market.first, market.last)
        return cls(*(np.atleast_1d(np.asarray(bar, np.int32)) for bar in ends))


def end_to_end(stack: Market) -> tuple[Market, Spans]:
    """The markets of a stack (`jaxtrade.market.stack`) as one host market, and their places.

    The range of the joint market is that of the first. A window never reaches into the market
    before: the tables keep the zero rows between them.
    """
    ohlcv = np.asarray(stack.ohlcv)
    count, bars = ohlcv.shape[:2]
    # Row r of table k moves down by k tables.
    rows = np.array([np.asarray(table).shape[1] for table in stack.features])
    newest = np.asarray(stack.newest) + np.arange(count)[:, None, None] * rows

    def joined(leaf: Any) -> Any:
        values = np.asarray(leaf)
        return values.reshape(-1, *values.shape[2:])

    begin = (np.arange(count) * bars).astype(np.int32)
    first, last = begin + np.asarray(stack.first), begin + np.asarray(stack.last)
    spans = Spans(begin, first.astype(np.int32), last.astype(np.int32))
    market = dataclasses.replace(
        stack,
        ohlcv=joined(ohlcv),
        features=tuple(joined(table) for table in stack.features),
        newest=joined(newest.astype(np.int32)),
        open_minute=joined(stack.open_minute),
        funding=None if stack.funding is None else joined(stack.funding),
        first=spans.first[0],
        last=spans.last[0],
    )
    return market, spans
