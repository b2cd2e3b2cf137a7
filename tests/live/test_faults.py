"""What goes wrong at the exchange, and that nothing wrong comes of it.

After every fault the same is asserted of the exchange's own ledger: no intent became two orders,
the journal's position is the venue's, and a position has its stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from live import config as configs
from live import runner
from live.exchange.server import ExchangeServer
from live.journal import Journal
from live.policy import CallablePolicy
from live.risk import TradingState
from live.trading.daemon import Daemon
from live.types import Flat
from tests.live.harness import ServerClock, exchange, minutes, venue_of

HISTORY = 200
SHORT, FLAT, LONG = 0, 1, 2
BTC = "BTCUSDT"
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


class Desk:
    """A started daemon at a local exchange, and what a test does with it."""

    def __init__(self, server: ExchangeServer, daemon: Daemon, clock: ServerClock) -> None:
        self.server, self.daemon, self.clock = server, daemon, clock

    async def bar(self, action: int, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """Let the next bar close and decide it; ``meanwhile`` happens between look and order."""

        def policy(observation: Any, info: Any) -> int:
            meanwhile()
            return action

        self.daemon.policy = CallablePolicy(policy)
        bar_ms = self.daemon.trader.bar_ms
        self.server.advance_to((self.clock.now_ms() // bar_ms + 1) * bar_ms)
        await self.daemon._bar(self.clock.now_ms() - bar_ms)
        return self.daemon.progress.last

    async def settle(self) -> None:
        """Wait until every doubtful order is known."""
        searches = list(self.daemon.trader._searches.values())
        await asyncio.wait_for(asyncio.gather(*searches), 20)
        await self.daemon.reconcile()

    @property
    def held(self) -> Decimal:
        """Position at the exchange."""
        return self.server.engine.position(BTC)

    def check(self) -> None:
        """The invariants."""
        entries = [order.client_id for order in self.server.engine.orders(BTC) if order.client_id]
        assert len(entries) == len(set(entries))
        assert self.daemon.journal.position(self.daemon.trader.symbol) == self.held
        if self.held:
            assert self.server.engine.bracket(BTC).stop_price is not None


def trading(test: Callable[[Desk], Awaitable[None]], **options: Any) -> None:
    """Run a test at a fresh exchange."""

    async def run() -> None:
        server = exchange(minutes(HISTORY + 60), HISTORY, **options)
        clock = ServerClock(server)
        async with server.running() as url:
            venue = venue_of(server)
            await venue.connect()
            settings = {**SETTINGS, "venue.base_url": url}
            config = configs.load(None, settings, {})
            instrument = await venue.instrument(BTC)
            await venue.configure(
                instrument.symbol, Decimal(3), config.env.margin_mode, config.env.position_mode
            )
            account = await venue.account()
            journal = Journal.open(
                None, account_id=account.account_id, strategy_id="t", now_ms=clock.now_ms
            )
            daemon = runner.daemon_of(config, venue, instrument, journal, clock)
            await daemon._start()
            try:
                await test(Desk(server, daemon, clock))
            finally:
                await daemon.trader.close()
                await venue.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "fault", ["accept_then_drop", "html_502", "accept_then_garbage", "drop_before_accept"]
)
def test_a_doubtful_entry_is_asked_about_and_never_sent_again(fault: str) -> None:
    async def test(desk: Desk) -> None:
        desk.server.faults.add("order/create", fault)
        acted = await desk.bar(LONG)
        assert acted.sent[0].unknown
        await desk.settle()
        arrived = fault.startswith("accept")
        assert (desk.held > 0) == arrived
        assert not desk.daemon.trader.frozen
        desk.check()
        posts = desk.server.requests("order/create")
        assert len(posts) == 1
        # The next bar decides again, on what is there.
        await desk.bar(FLAT)
        assert desk.held == 0
        desk.check()

    trading(test)


@pytest.mark.slow
def test_a_frozen_symbol_opens_nothing() -> None:
    async def test(desk: Desk) -> None:
        def blackout() -> None:
            desk.server.faults.add("order/create", "accept_then_drop")
            for route in ("order/realtime", "order/history", "execution/list"):
                desk.server.faults.add(route, "status", count=None, code=503)

        await desk.bar(LONG, blackout)
        assert desk.daemon.trader.frozen
        # Nothing more is sent while nobody knows what became of the order.
        await desk.bar(SHORT)
        assert len(desk.server.requests("order/create")) == 1
        assert desk.daemon.trader.frozen
        desk.server.faults.clear()
        await desk.settle()
        desk.check()

    trading(test)


def test_partial_fills_are_booked_as_they_are() -> None:
    async def test(desk: Desk) -> None:
        desk.server.engine.plan_fills("0.3")
        acted = await desk.bar(LONG)
        await desk.daemon.reconcile()
        assert desk.held > 0
        assert not acted.sent[0].executed
        desk.check()
        assert desk.daemon.trader.state.last_level is None
        await desk.bar(LONG)  # the next bar corrects
        desk.check()
        assert desk.daemon.trader.state.last_level == 1

    trading(test)


def test_reads_that_fail_change_nothing() -> None:
    async def test(desk: Desk) -> None:
        await desk.bar(LONG)
        held, posts = desk.held, len(desk.server.requests("order/create"))
        state = desk.daemon.trader.state
        desk.server.faults.add("position/list", "status", count=None, code=503)
        await desk.bar(SHORT)
        assert desk.daemon.desk.state is TradingState.DEGRADED
        assert desk.daemon.trader.state.target_quantity == state.target_quantity
        assert (desk.held, len(desk.server.requests("order/create"))) == (held, posts)
        desk.server.faults.clear()
        await desk.bar(SHORT)
        await desk.daemon.reconcile()
        assert desk.held < 0
        assert desk.daemon.desk.state is TradingState.ACTIVE
        desk.check()

    trading(test)


def test_a_trade_by_hand_stops_new_risk() -> None:
    async def test(desk: Desk) -> None:
        await desk.bar(LONG)
        desk.server.engine.manual_trade(BTC, Decimal("-0.1"))
        for _ in range(3):
            desk.server.advance(3_000)
            await desk.daemon.reconcile()
        assert desk.daemon.desk.state is TradingState.REDUCING
        assert desk.daemon.journal.adjustments()
        acted = await desk.bar(SHORT)
        assert all(sent.order.reduce_only for sent in acted.sent)
        assert desk.held >= 0

    trading(test)


def test_a_stop_that_disappears_comes_back() -> None:
    async def test(desk: Desk) -> None:
        await desk.bar(LONG)
        desk.check()
        desk.server.engine.cancel_stop(BTC)
        await desk.daemon.reconcile()
        await desk.daemon.reconcile()
        desk.check()

    trading(test)


def test_a_position_that_cannot_be_protected_is_closed() -> None:
    async def test(desk: Desk) -> None:
        await desk.bar(LONG)
        desk.server.engine.reject_stops(100)
        desk.server.engine.cancel_stop(BTC)
        for _ in range(6):
            await desk.daemon.reconcile()
            desk.server.advance(2_000)
        assert desk.held == 0
        assert desk.daemon.desk.state is TradingState.HALTED
        await desk.bar(LONG)
        assert desk.held == 0

    trading(test)


def test_a_liquidation_halts() -> None:
    async def test(desk: Desk) -> None:
        await desk.bar(LONG)
        desk.server.engine.liquidate(BTC)
        for _ in range(3):
            await desk.daemon.reconcile()
            desk.server.advance(3_000)
        assert desk.daemon.desk.state is TradingState.HALTED
        assert "liquidation" in desk.daemon.desk.standing.reasons
        position = await desk.daemon.venue.position(desk.daemon.trader.symbol)
        assert isinstance(position, Flat)
        desk.check()

    trading(test)


def test_a_refused_order_leaves_the_bar_flat_and_the_next_one_tries_again() -> None:
    async def test(desk: Desk) -> None:
        desk.server.faults.add("order/create", "reject", code=110007)
        acted = await desk.bar(LONG)
        assert not acted.sent[0].executed
        assert not acted.sent[0].unknown
        assert desk.held == 0
        assert desk.daemon.trader.state.last_level is None
        await desk.bar(LONG)
        assert desk.held > 0
        desk.check()

    trading(test)


def test_a_revoked_key_halts() -> None:
    async def test(desk: Desk) -> None:
        await desk.bar(LONG)
        desk.server.revoke_key()
        before = len(desk.server.requests("*"))
        await desk.bar(SHORT)
        assert desk.daemon.desk.state is TradingState.HALTED
        assert len(desk.server.requests("*")) - before < 12  # no storm
        assert desk.held > 0
        assert desk.server.engine.bracket(BTC).stop_price is not None

    trading(test)


def test_refusals_in_a_row_end_new_risk() -> None:
    async def test(desk: Desk) -> None:
        desk.server.faults.add("order/create", "reject", count=None, code=110007)
        for _ in range(5):
            await desk.bar(LONG)
        assert desk.daemon.desk.state is TradingState.REDUCING
        assert "rejections" in " ".join(desk.daemon.desk.standing.reasons)

    trading(test)


def test_a_restart_does_not_forget_how_many_orders_were_sent() -> None:
    async def test(desk: Desk) -> None:
        await desk.bar(LONG)
        trader = desk.daemon.trader
        again = type(trader)(
            desk.daemon.venue,
            desk.daemon.journal,
            desk.clock,
            trader.instrument,
            trader.observer,
            trader.config,
            standing=lambda: desk.daemon.desk.standing,
            latch=desk.daemon.desk.latch,
        )
        assert again._rate.of_day == trader._rate.of_day == 1

    trading(test)
