"""The daemon that a measurement watches: its settings, its policy, and when it was through."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live import config as configs
from live.bench.venue import Exchange, ScaledClock
from live.clock import Clock
from live.journal import Journal
from live.policy import BaselinePolicy
from live.runner import prepare, together
from live.trading.assembly import daemon_of, set_up_all
from live.trading.daemon import Daemon
from live.trading.meter import Meter
from live.venue import Venue
from live.venues.bybit import BybitVenue

MINUTE_MS = 60_000
_FLAT, _LONG = 1, 2
# Faster than any measurement lets time pass, so that no limit of requests lies ahead of it.
_HASTE = 10_000.0


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
        listed = await set_up_all(venue, config)
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
