"""What a daemon makes of its own orders: fills that are late or cannot be, and what it owns."""

from __future__ import annotations

import asyncio
import dataclasses
from decimal import Decimal

import pytest

from live.orders import IntentState
from live.risk import TradingState
from tests.live.harness import BTC, FLAT, LONG, SYMBOL, Rig, trading

D = Decimal
MINUTE = 60_000


@pytest.mark.parametrize("policy", ["refuse", "adopt", "flatten"])
def test_fills_that_are_late_are_waited_for(policy: str) -> None:
    """The order was filled, says the venue, and its list of trades does not show it yet."""

    async def test(rig: Rig) -> None:
        rig.server.silence_streams()
        rig.server.faults.add("execution/list", "mutate_field", None, path="result.list", value=[])
        await rig.bar(LONG)
        held = rig.held
        await rig.look(4)
        assert (rig.held, rig.journal.position(SYMBOL)) == (held, 0)
        assert not rig.journal.adjustments()
        assert rig.desk.standing.reasons == ("fills",)
        rig.server.faults.clear()
        await rig.look(1)
        assert rig.desk.state is TradingState.ACTIVE
        assert not rig.journal.adjustments()
        rig.check()

    trading(test, settings={"env.foreign_position": policy})


def test_fills_that_never_come_are_left_to_a_person() -> None:
    async def test(rig: Rig) -> None:
        rig.server.silence_streams()
        rig.server.faults.add("execution/list", "mutate_field", None, path="result.list", value=[])
        await rig.bar(LONG)
        rig.server.advance(11 * MINUTE)
        await rig.look()
        assert rig.desk.state is TradingState.REDUCING
        (row,) = rig.journal.adjustments()
        assert (row.quantity, row.acknowledged_by) == (rig.held, None)

    trading(test)


def test_a_fill_of_an_order_that_was_refused_stops_new_risk() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        (fill,) = rig.journal.fills(SYMBOL)
        await rig.bar(FLAT)
        rig.server.faults.add("order/create", "reject", code=110007)
        await rig.bar(LONG)
        (row,) = rig.journal.intents(SYMBOL, rig.trader.bar)
        assert row.state is IntentState.REJECTED
        assert rig.desk.state is TradingState.ACTIVE
        late = dataclasses.replace(fill, trade_id="late", client_id=row.client_id)
        rig.loop.hear(late)
        assert rig.desk.state is TradingState.REDUCING
        assert rig.desk.standing.reasons == ("mismatch",)
        assert rig.journal.position(SYMBOL) == fill.quantity  # a fill always counts

    trading(test)


def test_an_order_that_is_followed_is_not_missing() -> None:
    """Somebody looks while an order that the venue lists nowhere yet is waited for."""

    async def test(rig: Rig) -> None:
        rig.server.faults.add("order/realtime", "mutate_field", None, path="result.list", value=[])
        rig.server.engine.hold_fills(2_000)
        plain, looked = rig.clock.sleep, []

        async def sleep(seconds: float) -> None:
            if not looked:
                looked.append(True)
                await rig.reconcile()
                rig.server.faults.clear()
            await plain(seconds)

        rig.clock.sleep = sleep  # type: ignore[method-assign]  # the clock of this test alone
        await rig.bar(LONG)
        assert looked
        kinds = {row.body["what"] for row in rig.journal.history(kind="finding")}
        assert "OrderMissing" not in kinds
        await rig.look(1)
        rig.check()

    trading(test)


def test_a_fill_that_is_told_again_counts_once_and_one_that_changes_is_noted() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        (fill,) = rig.journal.fills(SYMBOL)
        for _ in range(2):
            rig.loop.hear(fill)
        assert rig.journal.history(kind="fill_conflict") == []
        rig.loop.hear(dataclasses.replace(fill, quantity=2 * fill.quantity))
        assert len(rig.journal.history(kind="fill_conflict")) == 1
        assert rig.journal.position(SYMBOL) == fill.quantity
        rig.check()

    trading(test)


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_start_closes_what_it_owns_and_nothing_else(whose: str) -> None:
    async def test(rig: Rig) -> None:
        if whose == "ours":
            await rig.bar(LONG)
        else:
            rig.server.engine.manual_trade(BTC, D("0.1"))
        await rig.loop.start(asyncio.Event())
        assert rig.held == (0 if whose == "ours" else D("0.1"))
        assert (rig.desk.state is TradingState.REDUCING) == (whose == "theirs")

    trading(test, settings={"env.close_position_on_init": "true"})
