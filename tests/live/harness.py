"""A local exchange whose time stands still, and clocks that move it instead of waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from decimal import Decimal
from typing import Any

import pandas as pd

from jaxtrade.market import synthetic
from live.exchange.opening import default_instrument
from live.exchange.server import ExchangeServer
from live.types import Instrument
from live.venues.bybit import BybitVenue

SYMBOL = "BTC/USDT:USDT"
HALF_SPREAD = Decimal("0.0001")


class ServerClock:
    """The exchange's time; to wait is to let it pass."""

    disturbances = 0
    uncertainty_ms = 1.0

    def __init__(self, server: ExchangeServer) -> None:
        self._server = server

    def now_ms(self) -> int:
        return self._server.clock.now_ms()

    def monotonic(self) -> float:
        return self._server.clock.monotonic()

    async def sleep_until(self, time_ms: int) -> None:
        if time_ms > self.now_ms():
            self._server.advance_to(time_ms)

    async def sleep(self, seconds: float) -> None:
        self._server.advance(round(seconds * 1000))


class AdapterClock(ServerClock):
    """For the adapter, whose limits of requests per second are of real time."""

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep_until(self, time_ms: int) -> None:
        await asyncio.sleep((time_ms - self.now_ms()) / 1000)


def minutes(rows: int, seed: int = 3, volatility: float = 0.001) -> pd.DataFrame:
    """Bars whose open is the close before: nothing happens between two bars."""
    frame = synthetic.minutes(seed, rows, volatility=volatility, price=50_000.0, tick=0.1)
    opening = frame["close"].shift(1, fill_value=frame["open"].iloc[0])
    return frame.assign(
        open=opening,
        high=frame[["high"]].assign(o=opening).max(axis=1),
        low=frame[["low"]].assign(o=opening).min(axis=1),
    )


def fine() -> Instrument:
    """The default instrument with steps too small to be seen."""
    unit = Decimal("1e-9")
    return dataclasses.replace(
        default_instrument(),
        quantity_step=unit,
        min_quantity=unit,
        tick=unit,
        min_notional=Decimal(0),
        max_market_quantity=Decimal(10**6),
    )


def exchange(frame: Any, history: int, **options: Any) -> ExchangeServer:
    """A server that stands still after ``history`` bars."""
    options = {"funding_rate": Decimal(0), "half_spread": HALF_SPREAD, **options}
    return ExchangeServer(frame, history=history, **options)


def venue_of(server: ExchangeServer) -> BybitVenue:
    """The adapter, talking to a running server."""
    return BybitVenue(
        server.api_key,
        server.api_secret,
        clock=AdapterClock(server),
        base_url=server.url,
        stream_url=server.stream_url + "/v5/private",
    )
