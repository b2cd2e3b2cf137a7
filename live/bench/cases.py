"""What is measured: how late orders are, whether the grid drifts, whether memory grows."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from live.bench.report import resident_mib, spread
from live.bench.storm import storm
from live.bench.venue import Exchange, ExchangeTerms, ScaledClock, exchange
from live.bench.watched import MINUTE_MS, Alternating, Trading, trading_daemon
from live.clock import next_boundary
from live.policy import CallablePolicy
from live.venue import Venue


def _arrived(place: Exchange, speed: float) -> list[float]:
    """Real milliseconds from the end of the bar to the order at the exchange."""
    return [created % MINUTE_MS / speed for client_id, _, created in place.orders() if client_id]


def load(symbols: int | None, bars: int | None) -> dict[str, Any]:
    """Many symbols in real time; four orders a bar, since the venue takes ten a second."""
    return asyncio.run(_load(symbols or 200, bars or 5, speed=1.0, every=50))


def drift(symbols: int | None, bars: int | None) -> dict[str, Any]:
    """An hour of bars, twenty times as fast: lateness of the first and of the last quarter."""
    return asyncio.run(_load(symbols or 10, bars or 60, speed=20.0, every=4))


async def _load(symbols: int, bars: int, *, speed: float, every: int) -> dict[str, Any]:
    with (
        exchange(ExchangeTerms(symbols=symbols, speed=speed)) as place,
        tempfile.TemporaryDirectory() as folder,
    ):
        clock = ScaledClock(place, speed)
        trading = Trading(every=every, bars=bars, speed=speed)
        async with trading_daemon(place, clock, trading, Path(folder)) as (daemon, stamps):
            await daemon.run()
            late = stamps.lateness(speed)
            quarter = max(len(late) // 4, 1)
            return {
                "order at the exchange, ms": spread(_arrived(place, speed)),
                "bar through, ms": spread(late),
                "bar through, first quarter, ms": spread(late[:quarter]),
                "bar through, last quarter, ms": spread(late[-quarter:]),
                "symbols": symbols,
                "bars": bars,
                "missed bars": sum(one.progress.missed_bars for one in daemon.symbols),
            }


def latency(symbols: int | None, bars: int | None) -> dict[str, Any]:
    """One symbol: from the end of the decision to the order at the exchange."""
    return asyncio.run(_latency(symbols or 1, bars or 300))


async def _latency(symbols: int, bars: int) -> dict[str, Any]:
    """Bars of two real seconds; the policy notes when it answered."""
    speed = 30.0
    answered: dict[tuple[str, int], float] = {}
    with (
        exchange(ExchangeTerms(symbols=symbols, speed=speed)) as place,
        tempfile.TemporaryDirectory() as folder,
    ):
        clock = ScaledClock(place, speed)
        trading = Trading(every=1, bars=bars, speed=speed)
        async with trading_daemon(place, clock, trading, Path(folder)) as (daemon, _):
            for number, one in enumerate(daemon.symbols):
                told = Alternating(number, 1)

                def policy(
                    observation: Any, info: Any, told: Alternating = told, name: str = one.symbol
                ) -> int:
                    action = told(observation, info)
                    answered[name, info["bar_open_ms"] // MINUTE_MS] = clock.now_ms() / speed
                    return action

                one.policy = CallablePolicy(policy)
            await daemon.run()
            waits = []
            for client_id, name, created in place.orders():
                symbol = name.replace("USDT", "/USDT:USDT")
                begun = answered.get((symbol, created // MINUTE_MS - 1))
                if client_id and begun is not None:
                    waits.append(created / speed - begun)
            return {"decision to exchange, ms": spread(waits), "symbols": symbols, "bars": bars}


def soak(symbols: int | None, bars: int | None) -> dict[str, Any]:
    """A day of bars, as fast as they go: resident memory of the daemon, hour by hour."""
    return asyncio.run(_soak(symbols or 5, bars or 1440))


class _DrivenClock(ScaledClock):
    """Time that stands still until the measurement moves it; to wait is to let it pass."""

    def __init__(self, place: Exchange) -> None:
        super().__init__(place, 1.0)
        self._now = place.start_ms

    def now_ms(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._now / 1000

    def advance_to(self, time_ms: int) -> None:
        self._now = max(self._now, time_ms)

    async def sleep_until(self, time_ms: int) -> None:
        self.advance_to(time_ms)
        await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self._now + int(seconds * 1000))


async def _read_events(venue: Venue) -> None:
    """Take what the stream says, as a daemon does: unread it would wait in memory."""
    async for _ in venue.events():
        pass


async def _soak(symbols: int, bars: int) -> dict[str, Any]:
    with (
        exchange(ExchangeTerms(symbols=symbols, speed=None)) as place,
        tempfile.TemporaryDirectory() as folder,
    ):
        clock = _DrivenClock(place)
        memory: list[float] = []
        begun = time.monotonic()
        async with trading_daemon(
            place, clock, Trading(every=4, bars=bars, speed=None), Path(folder)
        ) as (
            daemon,
            _,
        ):
            await daemon.start()
            reader = asyncio.ensure_future(_read_events(daemon.venue))
            for number in range(bars):
                end_ms = next_boundary(clock.now_ms(), MINUTE_MS)
                place.advance_to(end_ms)
                clock.advance_to(end_ms)
                await asyncio.gather(*(one.bar(end_ms - MINUTE_MS) for one in daemon.symbols))
                await asyncio.gather(*(one.reconcile() for one in daemon.symbols))
                if number % 60 == 0:
                    gc.collect()
                    memory.append(resident_mib())
            reader.cancel()
            size = (Path(folder) / "bench.db").stat().st_size
        later = memory[len(memory) // 4 :]
        slope = float(np.polyfit(np.arange(len(later)), later, 1)[0]) if len(later) > 1 else 0.0
        return {
            "resident memory, MiB": spread(memory),
            "MiB per hour, after the first quarter": round(slope, 3),
            "memory by hour, MiB": [round(one, 1) for one in memory],
            "journal, bytes per decision": round(size / (symbols * bars)),
            "symbols": symbols,
            "bars": bars,
            "seconds": round(time.monotonic() - begun, 1),
        }


CASES: Mapping[str, Callable[[int | None, int | None], dict[str, Any]]] = {
    "latency": latency,
    "load": load,
    "drift": drift,
    "soak": soak,
    "storm": storm,
}
