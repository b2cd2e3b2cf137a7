"""The market: a listed symbol, its prices and its bars."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np


@dataclass(frozen=True, slots=True)
class Instrument:
    """One traded symbol as its venue lists it.

    Attributes:
      venue: name of the adapter. symbol: canonical. venue_symbol: as the venue spells it.
      contract_size: base units of one contract (1 where the wire speaks of base units).
      quantity_step, tick: exact steps of quantity and price; 0 = no rounding (replay only).
      min_quantity, max_market_quantity: base units, 0 = none. min_notional: quote units, 0 = none.
      status: "trading" or the venue's word. delist_ms: when trading ends, or None.
    """

    venue: str
    symbol: str
    venue_symbol: str
    base: str
    quote: str
    settle: str
    contract_size: Decimal
    quantity_step: Decimal
    min_quantity: Decimal
    max_market_quantity: Decimal
    tick: Decimal
    min_notional: Decimal
    max_leverage: Decimal
    taker_fee: Decimal
    maintenance_rate: Decimal
    status: str = "trading"
    delist_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """Best prices and the mark, quote units; without a cheap book all three are the mark."""

    bid: Decimal
    ask: Decimal
    mark: Decimal
    venue_time_ms: int


@dataclass(frozen=True, slots=True)
class Bars:
    """Closed bars of one time frame, ascending and contiguous.

    Attributes:
      frame: canonical name ("5Minute"). open_time_ms: int64 [N]. ohlcv: float64 [N, 5].
    """

    frame: str
    open_time_ms: np.ndarray
    ohlcv: np.ndarray
