"""What goes wrong at the exchange, and that nothing wrong comes of it.

After every fault the same is asserted of the exchange's own ledger: no intent became two orders,
the journal's position is the venue's, and a position has its stop.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from live.risk import TradingState
from live.trading.desk import Desk
from live.types import Flat
from tests.live.bybit_server import ask_once, be_patient
from tests.live.harness import BTC, FLAT, LONG, SHORT, Rig, trading


@pytest.mark.parametrize(
    "fault", ["accept_then_drop", "html_502", "accept_then_garbage", "drop_before_accept"]
)
def test_a_doubtful_entry_is_asked_about_and_never_sent_again(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="live.trading.unknowns")

    async def test(rig: Rig) -> None:
        rig.server.faults.add("order/create", fault)
        acted = await rig.bar(LONG)
        assert acted.sent[0].unknown
        await rig.settle()
        arrived = fault.startswith("accept")
        assert (rig.held > 0) == arrived
        assert not rig.trader.frozen
        rig.check()
        asked, found = (record.getMessage() for record in caplog.records)
        assert "is not known; asking" in asked
        assert ("is FILLED" in found) == arrived
        posts = rig.server.requests("order/create")
        assert len(posts) == 1
        # The next bar decides again, on what is there.
        await rig.bar(FLAT)
        assert rig.held == 0
        rig.check()

    trading(test)


def test_a_frozen_symbol_opens_nothing() -> None:
    async def test(rig: Rig) -> None:
        def blackout() -> None:
            ask_once(rig.daemon.venue)
            rig.server.faults.add("order/create", "accept_then_drop")
            for route in ("order/realtime", "order/history", "execution/list"):
                rig.server.faults.add(route, "status", count=None, code=503)

        await rig.bar(LONG, blackout)
        assert rig.trader.frozen
        # Nothing more is sent while nobody knows what became of the order.
        await rig.bar(SHORT)
        assert len(rig.server.requests("order/create")) == 1
        assert rig.trader.frozen
        rig.server.faults.clear()
        be_patient(rig.daemon.venue)
        rig.breathe()
        await rig.settle()
        rig.check()

    trading(test)


def test_partial_fills_are_booked_as_they_are() -> None:
    async def test(rig: Rig) -> None:
        rig.server.engine.plan_fills("0.3")
        acted = await rig.bar(LONG)
        await rig.reconcile()
        assert rig.held > 0
        assert not acted.sent[0].executed
        rig.check()
        assert rig.trader.state.last_level is None
        await rig.bar(LONG)  # the next bar corrects
        rig.check()
        assert rig.trader.state.last_level == 1

    trading(test)


def test_reads_that_fail_change_nothing() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, posts = rig.held, len(rig.server.requests("order/create"))
        state = rig.trader.state
        ask_once(rig.daemon.venue)
        rig.server.faults.add("position/list", "status", count=None, code=503)
        await rig.bar(SHORT)
        assert rig.desk.state is TradingState.DEGRADED
        assert rig.trader.state.target_quantity == state.target_quantity
        assert (rig.held, len(rig.server.requests("order/create"))) == (held, posts)
        rig.server.faults.clear()
        be_patient(rig.daemon.venue)
        await rig.bar(SHORT)
        await rig.reconcile()
        assert rig.held < 0
        assert rig.desk.state is TradingState.ACTIVE
        rig.check()

    trading(test)


def test_a_trade_by_hand_stops_new_risk() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.engine.manual_trade(BTC, Decimal("-0.1"))
        for _ in range(3):
            rig.server.advance(3_000)
            await rig.reconcile()
        assert rig.desk.state is TradingState.REDUCING
        assert rig.journal.adjustments()
        acted = await rig.bar(SHORT)
        assert all(sent.order.reduce_only for sent in acted.sent)
        assert rig.held >= 0

    trading(test)


def test_a_stop_that_disappears_comes_back() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.check()
        rig.server.engine.cancel_stop(BTC)
        await rig.reconcile()
        await rig.reconcile()
        rig.check()

    trading(test)


def test_a_position_that_cannot_be_protected_is_closed() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.engine.reject_stops(100)
        rig.server.engine.cancel_stop(BTC)
        for _ in range(6):
            await rig.reconcile()
            rig.server.advance(2_000)
        assert rig.held == 0
        assert rig.desk.state is TradingState.HALTED
        await rig.bar(LONG)
        assert rig.held == 0

    trading(test)


def test_a_liquidation_halts() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.engine.liquidate(BTC)
        for _ in range(3):
            await rig.reconcile()
            rig.server.advance(3_000)
        assert rig.desk.state is TradingState.HALTED
        assert "liquidation" in rig.desk.standing.reasons
        position = await rig.daemon.venue.position(rig.trader.symbol)
        assert isinstance(position, Flat)
        rig.check()

    trading(test)


def test_a_refused_order_leaves_the_bar_flat_and_the_next_one_tries_again() -> None:
    async def test(rig: Rig) -> None:
        rig.server.faults.add("order/create", "reject", code=110007)
        acted = await rig.bar(LONG)
        assert not acted.sent[0].executed
        assert not acted.sent[0].unknown
        assert rig.held == 0
        assert rig.trader.state.last_level is None
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    trading(test)


def test_a_revoked_key_halts() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.revoke_key()
        before = len(rig.server.requests("*"))
        await rig.bar(SHORT)
        assert rig.desk.state is TradingState.HALTED
        assert len(rig.server.requests("*")) - before < 12  # no storm
        assert rig.held > 0
        assert rig.server.engine.bracket(BTC).stop_price is not None

    trading(test)


def test_refusals_in_a_row_end_new_risk() -> None:
    async def test(rig: Rig) -> None:
        rig.server.faults.add("order/create", "reject", count=None, code=110007)
        for _ in range(5):
            await rig.bar(LONG)
        assert rig.desk.state is TradingState.REDUCING
        assert "rejections" in " ".join(rig.desk.standing.reasons)

    trading(test)


def test_a_restart_does_not_forget_how_many_orders_were_sent() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        trader = rig.trader
        again = Desk(rig.journal, trader.config.risk, (trader.symbol,), rig.clock)
        assert again.rate.of_day == rig.desk.rate.of_day == 1

    trading(test)
