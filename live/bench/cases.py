"""What is measured: how late orders are, whether the grid drifts, whether memory grows."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live import config as configs
from live.bench.report import resident_mib, spread
from live.bench.venue import Exchange, ExchangeTerms, ScaledClock, exchange
from live.clock import Clock, next_boundary
from live.journal import Journal
from live.operations.meter import Meter
from live.policy import BaselinePolicy, CallablePolicy
from live.runner import prepare, together
from live.trading.assembly import daemon_of, set_up
from live.trading.daemon import Daemon
from live.venue import Venue
from live.venues.bybit import BybitVenue

MINUTE_MS = 60_000
_FLAT, _LONG = 1, 2
_HASTE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trading:
    """What the daemon of a measurement does.

    Attributes:
      every: each symbol sends an order at one bar in so many. bars: after which it ends.
      speed: exchange seconds per real second; None = it stands still between two bars.
    """

    every: int
    bars: int
    speed: float | None = 1.0


class Alternating(BaselinePolicy):
    """Now long, now flat: one order at one bar in ``every``, symbols one after the other.

    As quick as the rules it stands in for, which run without a thread.
    """

    def __init__(self, number: int, every: int) -> None:
        self._number, self._every, self.name = number % every, every, "alternating"
        self._begun: int | None = None

    def __call__(self, observation: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> int:
        """The side of this bar."""
        bar = info["bar_open_ms"] // MINUTE_MS
        if self._begun is None and bar:  # bar 0 is that of a warm-up
            self._begun = bar
        return _LONG if (bar - (self._begun or bar) + self._number) // self._every % 2 else _FLAT


class Stamps(Meter):
    """When the bars of all symbols were through, by the exchange's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.times_ms: list[int] = []

    def denied(self, codes: Iterable[str]) -> None:
        """Called once a bar, when everything it led to has been done."""
        self.times_ms.append(self._clock.now_ms())

    def lateness(self, speed: float) -> list[float]:
        """Real milliseconds after the end of the bar."""
        return [time_ms % MINUTE_MS / speed for time_ms in self.times_ms]


def settings(place: Exchange, trading: Trading) -> configs.LiveConfig:
    """One-minute levels, with every limit that would keep orders from being sent out of the way."""
    real = trading.speed == 1.0
    # What is a matter of real time must not depend on how fast the exchange's runs.
    patient = {} if real else {"runner.bar_deadline": 59, "runner.intent_ttl_seconds": 59}
    return configs.load(
        None,
        {
            **patient,
            "runner.mode": "demo",
            "runner.symbols": list(place.names),
            "runner.max_steps": trading.bars,
            "runner.bar_delay_seconds": 0.0,
            "venue.base_url": place.url,
            "venue.stream_url": place.stream_url,
            "env.time_frames": "1min",
            "env.execute_on": "1min",
            "env.window_sizes": "64",
            "env.leverage": "2",
            "env.equity_buffer": "0.05",
            "policy.baseline": "always_flat",
            "risk.orders_per_minute": 100_000,
            "risk.orders_per_day": 10_000_000,
            "risk.disabled": ["daily_loss", "drawdown"],
            "rate.reserve_fraction": 0.0,
        },
        {},
    )


@contextlib.asynccontextmanager
async def trading_daemon(
    place: Exchange, clock: Clock, trading: Trading, folder: Path
) -> AsyncIterator[tuple[Daemon, Stamps]]:
    """A daemon with its journal on disk, connected and set up."""
    config = settings(place, trading)
    adapter = BybitVenue(
        place.api_key,
        place.api_secret,
        # Limits of requests are of real time, unless time is what is squeezed.
        clock=ScaledClock(place, _HASTE if trading.speed is None else 1.0),
        base_url=place.url,
        stream_url=f"{place.stream_url}/v5/private",
    )
    # Where time stands still no stream tells of bars in time.
    venue: Venue = adapter if trading.speed is None else together(adapter, clock)
    await venue.connect()
    try:
        listed = {name: await set_up(venue, config.env_of(name)) for name in config.symbols}
        account = await venue.account()
        journal = Journal.open(
            folder / "bench.db",
            account_id=account.account_id,
            strategy_id="bench",
            now_ms=clock.now_ms,
        )
        try:
            meter = Stamps(clock)
            daemon = daemon_of(config, venue, listed, journal, clock, meter_of=lambda symbol: meter)
            for number, one in enumerate(daemon.symbols):
                one.policy = Alternating(number, trading.every)
            journal.start_run(
                mode="demo",
                venue=venue.name,
                symbols=[one.symbol for one in daemon.symbols],
                config_sha256=config.digest,
                version="bench",
            )
            await prepare(venue, daemon)
            yield daemon, meter
        finally:
            journal.close()
    finally:
        await venue.close()


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
            for number in range(bars):
                end_ms = next_boundary(clock.now_ms(), MINUTE_MS)
                place.advance_to(end_ms)
                clock.advance_to(end_ms)
                await asyncio.gather(*(one.bar(end_ms - MINUTE_MS) for one in daemon.symbols))
                await asyncio.gather(*(one.reconcile() for one in daemon.symbols))
                if number % 60 == 0:
                    gc.collect()
                    memory.append(resident_mib())
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
}
