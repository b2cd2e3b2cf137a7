"""A soak with faults: many bars, everything that can go wrong at random, and the ledger each time.

The exchange runs in this process and stands still; whoever waits lets its time pass. After every
bar what is doubtful is waited for, and four things must hold of the exchange's own ledger: one
order per intent (I1), the journal's position is the sum of the fills (I2), no position without its
stop for longer than `BARE_MS`, unless nobody could be reached or it is being closed (I3), and
nothing opened while a latch forbids it (I4).
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from live import config as configs
from live.bench.mishaps import DEEDS, MESSAGES
from live.bench.report import spread
from live.bench.witness import HastyClock, Ledger, StandingClock
from live.clock import newest_closed_bar, next_boundary
from live.exchange.opening import default_instrument
from live.exchange.server import ExchangeServer
from live.journal import Journal
from live.policy import CallablePolicy
from live.risk import TradingState
from live.trading.assembly import daemon_of, set_up
from live.trading.daemon import Daemon
from live.venues.bybit import BybitVenue
from live.venues.bybit_wire import Timeouts

BTC = "BTCUSDT"
MINUTE_MS = 60_000
# The deadline is five seconds, which tests of one fault at a time hold. Here the exchange's time
# runs on while a request waits for its real reply, because searches sleep meanwhile.
BARE_MS = 15_000
_HISTORY = 200
_SETTLE_SECONDS = 60.0
_LOOKS = 240
_LATCHED = (TradingState.REDUCING, TradingState.HALTED)


class Storm:
    """The daemon, the exchange, and what is done to them.

    Args:
      seed: of everything that is drawn. rate: how many bars of all have a fault.
    """

    def __init__(
        self, server: ExchangeServer, daemon: Daemon, clock: StandingClock, seed: int, rate: float
    ) -> None:
        self.server, self.daemon, self.clock = server, daemon, clock
        self.engine, self.faults = server.engine, server.faults
        self.faults.monotonic = server.clock.monotonic
        self._random = random.Random(seed)  # noqa: S311 - which fault comes next
        self._rate = rate
        self._action, self._keeps, self._latched = 1, 0, 0
        self._blind: list[tuple[int, int]] = []
        self._gaps = 0
        self.ledger = Ledger()
        self.engine.listeners.append(self.ledger.hear)
        self.happened: Counter[str] = Counter()
        self.bare_ms: list[float] = []
        self.broken: list[str] = []

    @property
    def held(self) -> Decimal:
        """Position at the exchange."""
        return self.engine.position(BTC)

    # One bar.

    async def bar(self) -> None:
        """Draw what goes wrong, let a bar close and be decided, wait for what is in doubt, look."""
        draw = self._random
        if not self._keeps:
            self._action, self._keeps = draw.randrange(3), draw.randrange(1, 5)
        self._keeps -= 1
        action = self._action
        deed = self._drawn()
        if draw.random() < self._rate / 20:
            name = draw.choice(("reduce", "halt"))
            self.happened[name] += 1
            await self.daemon.command(name, "the storm")
        forbidden = self.daemon.desk.state in _LATCHED
        self.ledger.begin()
        (loop,) = self.daemon.symbols

        def policy(observation: Any, info: Any) -> int:
            if deed is not None:
                deed()
            return action

        loop.policy = CallablePolicy(policy)
        bar_ms = loop.trader.bar_ms
        self.server.advance_to(next_boundary(self.clock.now_ms(), bar_ms))
        await loop.bar(newest_closed_bar(self.clock.now_ms(), bar_ms))
        if forbidden and any(not order.reduce_only for order in self.ledger.fresh):
            self.broken.append("I4: something was opened under a latch")
        await self._settled()
        self._check()
        await self._resumed()

    def _drawn(self) -> Callable[[], None] | None:
        """What happens in the next bar, after the look and before the order; None = nothing."""
        draw = self._random
        if draw.random() >= self._rate:
            return None
        if draw.random() < 0.6:
            route, action, arguments = draw.choice(MESSAGES)
            count = draw.randrange(1, 4)
            self.happened[f"{route} {action}"] += 1
            self.faults.add(route, action, count, **arguments)
            return None
        name = draw.choice(DEEDS)
        self.happened[name] += 1
        return lambda: self._do(name)

    def _do(self, name: str) -> None:
        draw, engine = self._random, self.engine
        match name:
            case "partition":
                seconds = draw.choice((5, 20, 60))
                now = self.clock.now_ms()
                self._blind.append((now, now + 1000 * seconds))
                self.faults.add("*", "partition", seconds=seconds)
            case "part, rest cancelled":
                engine.plan_fills(f"0.{draw.randrange(1, 10)}")
            case "part, rest open":
                engine.plan_fills(f"0.{draw.randrange(1, 10)}", rest="live")
            case "late fill":
                engine.hold_fills(draw.choice((300, 2_000)))
            case "stop gone" if self.held and engine.bracket(BTC).stop_price is not None:
                engine.cancel_stop(BTC)
            case "stop refused":
                engine.reject_stops()
            case "trade by hand" if self.held:
                engine.manual_trade(BTC, Decimal("0.001") * (1 if self.held < 0 else -1))
            case "funding":
                engine.pay_funding(BTC, Decimal(draw.choice(("0.0001", "-0.0001"))))

    async def _settled(self) -> None:
        """Wait until every doubtful order is known, and two looks have succeeded."""
        self.engine.hold_fills(0)
        (loop,) = self.daemon.symbols
        async with asyncio.timeout(_SETTLE_SECONDS):
            good = 0
            for _ in range(_LOOKS):
                good = good + 1 if await loop.reconcile() is not None else 0
                if good >= 2 and not loop.trader.unknowns.searches and self._agree():
                    break
                await self.clock.sleep(0.5)
        if self._random.random() < 0.5:
            self.faults.clear()
        self.engine.cancel_rest(BTC)

    def _agree(self) -> bool:
        (loop,) = self.daemon.symbols
        bare = self.held and self.engine.bracket(BTC).stop_price is None
        return not bare and self.daemon.journal.position(loop.symbol) == self.held

    def _check(self) -> None:
        """I1 to I3; I4 was looked at when the bar was through."""
        (loop,) = self.daemon.symbols
        self.broken += self.ledger.broken
        self.ledger.broken.clear()
        if self.ledger.traded != self.held:
            self.broken.append(f"I2: fills of {self.ledger.traded}, position {self.held}")
        journalled = self.daemon.journal.position(loop.symbol)
        if journalled != self.held:
            self.broken.append(f"I2: journal {journalled}, position {self.held}")
        gaps = self.engine.protection_gaps()
        for gap in gaps[self._gaps :]:
            end_ms = self.clock.now_ms() if gap.end_ms is None else gap.end_ms
            out = [o.created_ms for o in self.ledger.fresh if o.reduce_only]
            end_ms = min((at for at in out if gap.start_ms <= at <= end_ms), default=end_ms)
            reached = self._reached_ms(gap.start_ms, end_ms)
            self.bare_ms.append(reached)
            if reached > BARE_MS:
                self.broken.append(f"I3: {reached} ms without a stop")
        self._gaps = len(gaps)

    def _reached_ms(self, start_ms: int, end_ms: int) -> int:
        """How much of a time the exchange could be reached in."""
        cut = sum(max(min(end_ms, b) - max(start_ms, a), 0) for a, b in self._blind)
        return end_ms - start_ms - cut

    async def _resumed(self) -> None:
        """Trade on after some bars under a latch."""
        self._latched = self._latched + 1 if self.daemon.desk.state in _LATCHED else 0
        if self._latched > 3:
            await self.daemon.command("resume", "the storm goes on")


async def _read(daemon: Daemon) -> None:
    """Take what the stream says; fills are booked as they come."""
    (loop,) = daemon.symbols
    async for event in daemon.venue.events():
        if event.fill is not None:
            loop.hear(event.fill)


def settings(url: str) -> configs.LiveConfig:
    """Levels on one-minute bars; no limit ends it before its time."""
    return configs.load(
        None,
        {
            "runner.mode": "demo",
            "runner.bar_deadline": 59,
            "venue.base_url": url,
            "env.time_frames": "1min",
            "env.execute_on": "1min",
            "env.window_sizes": "8",
            "env.leverage": "2",
            "env.action_levels": "[-0.5, 0, 0.5]",
            "env.equity_buffer": "0.05",
            "env.observation_failure_policy": "hold",
            "policy.baseline": "random",
            "risk.snapshot_age_seconds": 600,
            "env.foreign_position": "adopt",
            "risk.orders_per_minute": 100_000,
            "risk.orders_per_day": 10_000_000,
            "risk.disabled": ["daily_loss", "drawdown"],
        },
        {},
    )


async def run_storm(seed: int, bars: int, *, rate: float = 0.4) -> Storm:
    """Trade so many bars; what is in ``broken`` afterwards does not hold."""
    free = dataclasses.replace(default_instrument(), taker_fee=Decimal("0.00001"))
    server = ExchangeServer(
        None,
        [free],
        seed=seed,
        history=_HISTORY,
        half_spread=Decimal(0),
        funding_rate=Decimal(0),
        rate_limits=False,
    )
    clock = StandingClock(server)
    async with server.running() as url:
        config = settings(url)
        venue = BybitVenue(
            server.api_key,
            server.api_secret,
            clock=HastyClock(server),
            base_url=url,
            stream_url=f"{server.stream_url}/v5/private",
            # Nothing is far away here, and what cannot be reached is asked often.
            timeouts=Timeouts(read=0.25, read_deadline=0.25),
        )
        await venue.connect()
        listed = {name: await set_up(venue, config.env_of(name)) for name in config.symbols}
        account = await venue.account()
        journal = Journal.open(
            None, account_id=account.account_id, strategy_id="storm", now_ms=clock.now_ms
        )
        daemon = daemon_of(config, venue, listed, journal, clock)
        await daemon.start()
        reader = asyncio.ensure_future(_read(daemon))
        storm = Storm(server, daemon, clock, seed, rate)
        try:
            for _ in range(bars):
                await storm.bar()
                if storm.broken:
                    break
        finally:
            reader.cancel()
            for one in daemon.symbols:
                await one.trader.close()
            await venue.close()
        return storm


def storm(symbols: int | None, bars: int | None) -> dict[str, Any]:
    """Ten thousand bars with faults at random, as fast as they go; ends at what does not hold."""
    del symbols  # one
    begun = time.monotonic()
    found = asyncio.run(run_storm(0, bars or 10_000))
    return {
        "without a stop while it could be placed, ms": spread(found.bare_ms),
        "does not hold": found.broken,
        "faults": sum(found.happened.values()),
        "orders": len(found.ledger.orders),
        "seconds": round(time.monotonic() - begun, 1),
    }
