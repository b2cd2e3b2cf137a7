"""What the exchange knows: market, account, book, and the time; who may look, and who listens."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any, Literal

from live.exchange import ledger
from live.exchange.book import (
    Book,
    Execution,
    OrderKind,
)
from live.exchange.deadman import DeadMan
from live.exchange.funding import funding_of
from live.exchange.ledger import Account, Key, Settings
from live.exchange.prices import PricePath, to_step
from live.types import (
    Instrument,
    MarginMode,
    PositionMode,
    Quote,
    Side,
)

Topic = Literal["order", "execution", "position", "wallet", "time"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something the streams tell of.

    Attributes:
      body: Order, Execution, the key of the position, or None (wallet, time has passed).
    """

    topic: Topic
    symbol: str
    body: Any


@dataclass(frozen=True, slots=True)
class Gap:
    """A time during which a position had no live stop; ``end_ms`` None = still."""

    symbol: str
    index: int
    start_ms: int
    end_ms: int | None


class Desk:
    """State of the exchange.

    Args:
      paths, instruments: by venue symbol. start_ms: when the exchange opens.
      half_spread: fraction of the mark that every market order pays.
      funding_rate: longs pay it every eight hours where the bars bring no rates of their own.
    """

    def __init__(
        self,
        paths: Mapping[str, PricePath],
        instruments: Mapping[str, Instrument],
        *,
        start_ms: int,
        initial_balance: Decimal,
        seed: int = 0,
        half_spread: Decimal = Decimal(0),
        funding_rate: Decimal = Decimal(0),
        margin_mode: MarginMode = MarginMode.ISOLATED,
        position_mode: PositionMode = PositionMode.ONE_WAY,
        leverage: Decimal = Decimal(10),
    ) -> None:
        self.paths = dict(paths)
        self.instruments = dict(instruments)
        self.now_ms = start_ms
        self.half_spread = half_spread
        self.funding = {
            symbol: funding_of(path.series, funding_rate) for symbol, path in paths.items()
        }
        self.account = Account.start(initial_balance)
        self.settings = {
            symbol: Settings(leverage, leverage, margin_mode, position_mode) for symbol in paths
        }
        self.book = Book()
        self.gaps: list[Gap] = []
        # What each position has brought since the opening, fees paid.
        self.realised: dict[Key, Decimal] = {}
        # How far the times that replies show are ahead of the truth.
        self.offset_ms = 0
        self.listeners: list[Callable[[Sequence[Event]], None]] = []
        self.deadman = DeadMan()
        self._random = random.Random(seed)  # noqa: S311 - ids of a simulation
        self._lock = threading.RLock()
        self._depth = 0
        self._events: list[Event] = []
        self._told_ms = start_ms
        # Everything due up to here has been paid.
        self._funded_ms = start_ms
        self._sequence = 0
        self._fractions: list[Decimal] = []
        self._keeps_rest = False
        # Accepted market orders that wait to trade -> when they will, and for how long others do.
        self._waiting: dict[str, int] = {}
        self._fill_delay_ms = 0
        self._refused_stops = 0
        self.keeps_leverage = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else acts inside; listeners hear of it at its end."""
        with self._lock, localcontext(ledger.CONTEXT):
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    if self._events:  # positions and orders change with an event
                        self._watch_protection()
                    if self._told_ms != self.now_ms:
                        self._told_ms = self.now_ms
                        self._tell("time", "")
                    events, self._events = self._events, []
                    for listener in self.listeners if events else ():
                        listener(events)

    @property
    def shown_ms(self) -> int:
        """The time that replies show, milliseconds UTC."""
        return self.now_ms + self.offset_ms

    # Prices ---------------------------------------------------------------------------------------

    def mark(self, symbol: str) -> Decimal:
        """Mark price now."""
        return self.paths[symbol].mark(self.now_ms)

    def marks(self) -> dict[str, Decimal]:
        """Mark prices of all symbols now."""
        return {symbol: self.mark(symbol) for symbol in self.paths}

    def quote(self, symbol: str) -> Quote:
        """What a market order would trade at now."""
        mark = self.mark(symbol)
        return Quote(
            bid=self._price(symbol, Side.SELL, mark),
            ask=self._price(symbol, Side.BUY, mark),
            mark=mark,
            venue_time_ms=self.now_ms,
        )

    def _price(self, symbol: str, side: Side, base: Decimal) -> Decimal:
        """The mark or a level, worsened by the half spread, in whole ticks."""
        rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
        price = base * (1 + side.sign * self.half_spread)
        tick = self.instruments[symbol].tick
        return max(to_step(price, tick, rounding), tick)

    def _fee(self, symbol: str, quantity: Decimal, price: Decimal) -> Decimal:
        return (quantity * price * self.instruments[symbol].taker_fee).quantize(ledger.UNIT)

    # Protection --------------------------------------------------------------------------------

    def _watch_protection(self) -> None:
        """Keep the list of times during which a position had no live stop."""
        bare = {key for key in self.account.holdings if not self._protected(key)}
        open_gaps = {(gap.symbol, gap.index) for gap in self.gaps if gap.end_ms is None}
        for number, gap in enumerate(self.gaps):
            if gap.end_ms is None and (gap.symbol, gap.index) not in bare:
                self.gaps[number] = replace(gap, end_ms=self.now_ms)
        self.gaps.extend(Gap(*key, self.now_ms, None) for key in sorted(bare - open_gaps))

    def _protected(self, key: Key) -> bool:
        holding = self.account.holdings[key]
        covered = Decimal(0)
        for order in self.book.open(key[0]):
            losing = order.rising != (holding.side > 0)
            guards = order.kind is OrderKind.STOP_LOSS or (
                order.kind is OrderKind.TRIGGER and order.reduce_only
            )
            if guards and losing and order.index == key[1] and order.side.sign != holding.side:
                covered += order.quantity
        return covered >= abs(holding.quantity)

    # Records --------------------------------------------------------------------------------------

    def _record(self, execution: Execution) -> None:
        self._sequence += 1
        self.book.executions.append(execution)
        key = (execution.symbol, execution.index)
        before = self.realised.get(key, Decimal(0))
        self.realised[key] = before + execution.realised - execution.fee
        self._tell("execution", execution.symbol, execution)

    def _tell(
        self,
        topic: Topic,
        symbol: str,
        body: Any = None,
    ) -> None:
        self._events.append(Event(topic, symbol, body))

    def _identity(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
