"""What one decision sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from live.types.account import Balance, Position
from live.types.market import Bars, Instrument, Quote
from live.types.orders import OrderReport


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one decision sees of one symbol, read together.

    Attributes:
      bar_open_ms: of the newest closed execution bar; its end is the decision instant.
      bars: canonical frame name -> closed bars.
      orders: open and conditional orders of the symbol.
    """

    bar_open_ms: int
    venue_time_ms: int
    received_monotonic_ns: int
    instrument: Instrument
    position: Position
    balance: Balance
    quote: Quote
    bars: Mapping[str, Bars] = field(default_factory=lambda: MappingProxyType({}))
    orders: tuple[OrderReport, ...] = ()
    market_status: str = "trading"
