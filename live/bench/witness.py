"""What a storm (`live.bench.storm`) keeps time by, and what it takes down of the exchange."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal

from live.exchange.book import Execution, Order
from live.exchange.desk import Event
from live.exchange.server import ExchangeServer

# Time passes in slices, real seconds apart, so that others are heard while somebody waits.
_SLICE_MS, _PAUSE = 500, 0.005


class StandingClock:
    """The exchange's time; to wait is to let it pass."""

    uncertainty_ms = 1.0

    def __init__(self, server: ExchangeServer) -> None:
        self._server = server
        self.disturbances = 0

    def disturb(self) -> None:
        """Something was odd about the time."""
        self.disturbances += 1

    def now_ms(self) -> int:
        """Milliseconds UTC."""
        return self._server.clock.now_ms()

    def monotonic(self) -> float:
        """Elapsed seconds."""
        return self._server.clock.monotonic()

    async def sleep_until(self, time_ms: int) -> None:
        """Let the time pass up to an instant."""
        while (left := time_ms - self.now_ms()) > 0:
            self._server.advance(min(left, _SLICE_MS))
            await asyncio.sleep(_PAUSE)

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        await self.sleep_until(self.now_ms() + round(1000 * seconds))


class HastyClock(StandingClock):
    """For the adapter, whose waits are of real time: they are short."""

    def monotonic(self) -> float:
        """Elapsed seconds, the exchange's and real ones."""
        return super().monotonic() + 100 * time.monotonic()

    async def sleep_until(self, time_ms: int) -> None:
        """Wait, and let no time pass at the exchange."""
        await asyncio.sleep(max(time_ms - self.now_ms(), 0) / 100_000)

    async def sleep(self, seconds: float) -> None:
        """Wait, and let no time pass at the exchange."""
        await asyncio.sleep(seconds / 100)


class Ledger:
    """What the exchange has done, told by itself.

    Attributes:
      orders: of clients, by client id. fresh: those since `begin`. traded: sum of all fills.
    """

    def __init__(self) -> None:
        self.orders: dict[str, str] = {}
        self.fresh: list[Order] = []
        self.traded = Decimal(0)
        self.broken: list[str] = []
        self._executions: set[str] = set()

    def begin(self) -> None:
        """A new bar."""
        self.fresh.clear()

    def hear(self, events: Sequence[Event]) -> None:
        """News of the engine."""
        for event in events:
            body = event.body
            if isinstance(body, Order) and body.client_id:
                known = self.orders.get(body.client_id)
                if known is None:
                    self.orders[body.client_id] = body.order_id
                    self.fresh.append(body)
                elif known != body.order_id:
                    self.broken.append(f"I1: {body.client_id} is two orders")
            elif isinstance(body, Execution) and body.execution_id not in self._executions:
                self._executions.add(body.execution_id)
                self.traded += body.signed
