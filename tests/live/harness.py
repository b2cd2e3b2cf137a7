"""A local exchange whose time stands still, clocks that move it, and a daemon that trades there."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pandas as pd

from jaxtrade.market import synthetic
from live import config as configs
from live.bench.witness import StandingClock
from live.clock import newest_closed_bar, next_boundary
from live.exchange.opening import default_instrument, instruments
from live.exchange.server import ExchangeServer
from live.journal import Journal
from live.policy import CallablePolicy
from live.trading.assembly import daemon_of, set_up
from live.trading.daemon import Daemon
from live.trading.desk import Desk
from live.trading.symbol import SymbolLoop
from live.trading.trader import SymbolTrader
from live.types import Instrument, Snapshot
from live.venues.bybit import BybitVenue

SYMBOL = "BTC/USDT:USDT"
BTC = "BTCUSDT"
HISTORY = 200
SHORT, FLAT, LONG = 0, 1, 2
# What a `Rig` trades with: one-minute levels, three times the account.
SETTINGS = {
    "runner.mode": "demo",
    "env.time_frames": "1min",
    "env.execute_on": "1min",
    "env.window_sizes": "8",
    "env.leverage": "3",
    "env.equity_buffer": "0.02",
    "policy.baseline": "random",
    # A stopped clock makes minutes of real reading one instant, and of waiting an age.
    "risk.snapshot_age_seconds": "600",
    "runner.bar_deadline": "59",
    "risk.orders_per_minute": "100",
}
HALF_SPREAD = Decimal("0.0001")


class ServerClock(StandingClock):
    """The exchange's time; to wait is to let it pass, at once."""

    async def sleep_until(self, time_ms: int) -> None:
        if time_ms > self.now_ms():
            self._server.advance_to(time_ms)

    async def sleep(self, seconds: float) -> None:
        self._server.advance(round(seconds * 1000))


class AdapterClock(ServerClock):
    """For the adapter, whose limits of requests per second are of real time.

    Attributes:
      ahead: seconds more that a test let pass.
    """

    def __init__(self, server: ExchangeServer) -> None:
        super().__init__(server)
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

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


def venue_of(server: ExchangeServer, clock: AdapterClock | None = None) -> BybitVenue:
    """The adapter, talking to a running server; by a clock of real time unless another is given."""
    return BybitVenue(
        server.api_key,
        server.api_secret,
        clock=AdapterClock(server) if clock is None else clock,
        base_url=server.url,
        stream_url=server.stream_url + "/v5/private",
    )


class Rig:
    """A started daemon at a local exchange that stands still, and what a test does with it.

    Attributes:
      server: the exchange. clock: its time; to wait is to let it pass. daemon: not running: its
        pieces are called one by one. journal, desk, trader: those of the daemon's one symbol.
    """

    def __init__(self, server: ExchangeServer, daemon: Daemon, clock: ServerClock) -> None:
        self.server, self.daemon, self.clock = server, daemon, clock

    @property
    def loop(self) -> SymbolLoop:
        """The first symbol: its bars and looks."""
        return self.daemon.symbols[0]

    @property
    def journal(self) -> Journal:
        """The journal, in memory unless the test gave one."""
        return self.daemon.journal

    @property
    def desk(self) -> Desk:
        """Latches, degradation and breakers of the account."""
        return self.daemon.desk

    @property
    def trader(self) -> SymbolTrader:
        """The life of the symbol."""
        return self.loop.trader

    async def bar(self, action: int, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """Let the next bar close and decide it; ``meanwhile`` happens between look and order.

        Returns: `live.trading.trader.Acted`, or that of an earlier bar where nothing was decided.
        """

        def policy(observation: Any, info: Any) -> int:
            meanwhile()
            return action

        self.loop.policy = CallablePolicy(policy)
        bar_ms = self.trader.bar_ms
        now = self.clock.now_ms()
        self.server.advance(next_boundary(now, bar_ms) - now)
        await self.loop.bar(newest_closed_bar(self.clock.now_ms(), bar_ms))
        return self.loop.progress.last

    async def bars(self, actions: Sequence[int]) -> list[Any]:
        """Let the next bar close and decide it in every symbol at once, one action each."""
        for loop, action in zip(self.daemon.symbols, actions, strict=True):
            loop.policy = CallablePolicy(lambda observation, info, action=action: action)
        bar_ms = self.trader.bar_ms
        self.server.advance_to((self.clock.now_ms() // bar_ms + 1) * bar_ms)
        bar = self.clock.now_ms() - bar_ms
        await asyncio.gather(*(loop.bar(bar) for loop in self.daemon.symbols))
        return [loop.progress.last for loop in self.daemon.symbols]

    async def reconcile(self) -> Snapshot | None:
        """One look at everything, as between bars."""
        return await self.loop.reconcile()

    async def look(self, times: int = 3) -> None:
        """Let the daemon look at the account, some seconds apart."""
        for _ in range(times):
            self.server.advance(3_000)
            await self.reconcile()

    def breathe(self, seconds: float = 5.0) -> None:
        """Let real time pass for the adapter: after a fault its routes may be asked again."""
        self.daemon.venue._clock.ahead += seconds

    async def settle(self) -> None:
        """Wait until every doubtful order is known."""
        searches = list(self.trader.unknowns.searches.values())
        await asyncio.wait_for(asyncio.gather(*searches), 60)
        await self.reconcile()

    @property
    def held(self) -> Decimal:
        """Position at the exchange."""
        return self.server.engine.position(BTC)

    def check(self) -> None:
        """The invariants: one order per intent, journal = venue, a stop for every position."""
        entries = [order.client_id for order in self.server.engine.orders(BTC) if order.client_id]
        assert len(entries) == len(set(entries))
        assert self.journal.position(self.trader.symbol) == self.held
        if self.held:
            assert self.server.engine.bracket(BTC).stop_price is not None


def trading(
    test: Callable[[Rig], Awaitable[None]],
    *,
    settings: Mapping[str, Any] | None = None,
    journal: Callable[[str, Callable[[], int]], Journal] | None = None,
    symbols: int = 1,
    clock: Callable[[ExchangeServer], Any] = ServerClock,
    **options: Any,
) -> None:
    """Run a test with a daemon that has started at a fresh exchange.

    Args:
      settings: over `SETTINGS`. journal: (account id, now in ms) -> an open one; None = in memory.
      symbols: how many are listed and traded.
      clock: what the daemon lives by; the adapter keeps one of its own.
      options: of `exchange`.
    """

    async def run() -> None:
        traded = instruments(symbols)
        names = [one.venue_symbol for one in traded]
        frames = {name: minutes(HISTORY + 60, seed) for seed, name in enumerate(names, 3)}
        server = exchange(frames, HISTORY, **{"instruments": traded, **options})
        time_of = clock(server)
        async with server.running() as url:
            venue = venue_of(server)
            await venue.connect()
            given = {**SETTINGS, "venue.base_url": url, **(settings or {})}
            if symbols > 1:
                given["runner.symbols"] = names
            config = configs.load(None, given, {})
            listed = {name: await set_up(venue, config.env_of(name)) for name in config.symbols}
            account = await venue.account()
            kept = (
                Journal.open(
                    None, account_id=account.account_id, strategy_id="t", now_ms=time_of.now_ms
                )
                if journal is None
                else journal(account.account_id, time_of.now_ms)
            )
            daemon = daemon_of(config, venue, listed, kept, time_of)
            await daemon.start()
            try:
                await test(Rig(server, daemon, time_of))
            finally:
                for one in daemon.symbols:
                    await one.trader.close()
                await venue.close()

    asyncio.run(run())
