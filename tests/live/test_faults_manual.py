"""Trades by hand at the venue, and stops that fire while something else is under way.

They are noticed at the next look and get a type; no order of ours makes them worse.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from live.risk import TradingState
from live.types import Bracket
from tests.live.harness import BTC, FLAT, LONG, SHORT, SYMBOL, Rig, trading

D = Decimal
SMALL = D("0.05")


def own(rig: Rig, since: int = 0) -> list[Any]:
    """Executions of our orders, from the n-th execution on."""
    return [e for e in rig.server.engine.executions(BTC)[since:] if e.client_id]


def at_first_wait(rig: Rig, act: Callable[[], None]) -> None:
    """Let something happen when the daemon waits for an order for the first time."""
    plain, done = rig.clock.sleep, []

    async def sleep(seconds: float) -> None:
        if not done:
            done.append(True)
            act()
        await plain(seconds)

    rig.clock.sleep = sleep  # type: ignore[method-assign]  # the clock of this test alone


# Trades by hand -----------------------------------------------------------------------------------

# Of the position that is held.
BY_HAND = {"more": D("0.01"), "less": D("-0.5"), "flat": D(-1), "flip": D(-2)}


def by_hand(rig: Rig, part: Decimal) -> Decimal:
    """Trade a part of the position at the exchange; what was traded, signed."""
    step = rig.server.engine.instruments[BTC].quantity_step
    signed = (rig.held * part).quantize(step)
    rig.server.engine.hold_fills(0)
    rig.server.engine.manual_trade(BTC, signed)
    return signed


@pytest.mark.parametrize("what", list(BY_HAND))
def test_a_trade_by_hand_waits_for_a_person(what: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        traded, count = by_hand(rig, BY_HAND[what]), len(rig.server.engine.executions(BTC))
        await rig.look(1)
        assert rig.desk.state is TradingState.DEGRADED  # seen once: nothing is risked
        await rig.look(2)
        assert rig.desk.state is TradingState.REDUCING
        assert "foreign" in rig.desk.standing.reasons
        (row,) = rig.journal.adjustments()
        assert (row.kind, row.quantity, row.acknowledged_by) == ("manual", traded, None)
        for action in (LONG, SHORT, FLAT):
            await rig.bar(action)
        await rig.look()
        assert rig.held == 0
        assert all(e.closed == e.quantity for e in own(rig, count))
        assert len(rig.journal.adjustments()) == 1  # the same difference is not written down again
        rig.journal.acknowledge("a person")
        rig.check()

    trading(test)


@pytest.mark.parametrize("what", list(BY_HAND))
def test_a_trade_by_hand_is_adopted_where_that_is_asked_for(what: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        traded = by_hand(rig, BY_HAND[what])
        held = rig.held
        await rig.look()
        (row,) = rig.journal.adjustments()
        assert (row.kind, row.quantity, row.acknowledged_by) == ("manual", traded, "adopt")
        assert rig.held == held
        assert rig.desk.state is TradingState.ACTIVE
        rig.check()
        # The policy goes on from there.
        await rig.bar(SHORT)
        await rig.look()
        assert rig.held < 0
        rig.check()

    trading(test, settings={"env.foreign_position": "adopt"})


@pytest.mark.parametrize("what", list(BY_HAND))
def test_a_trade_by_hand_is_closed_where_that_is_asked_for(what: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        traded, count = by_hand(rig, BY_HAND[what]), len(rig.server.engine.executions(BTC))
        await rig.look()
        (row,) = rig.journal.adjustments()
        assert (row.kind, row.quantity, row.acknowledged_by) == ("manual", traded, "flatten")
        assert rig.held == 0
        assert all(e.closed == e.quantity for e in own(rig, count))
        rig.check()
        await rig.look(1)
        assert rig.desk.state is TradingState.ACTIVE
        await rig.bar(LONG)
        rig.check()
        assert rig.held > 0

    trading(test, settings={"env.foreign_position": "flatten"})


def test_trades_by_hand_one_after_the_other_are_each_counted_once() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        amounts = [by_hand(rig, D("-0.25")), D(0), D(0)]
        await rig.look()
        amounts[1] = by_hand(rig, D("-0.25"))
        await rig.look()
        assert [row.quantity for row in rig.journal.adjustments()] == amounts[:2]
        assert {row.kind for row in rig.journal.adjustments()} == {"manual"}
        rig.journal.acknowledge("a person")
        rig.check()
        amounts[2] = by_hand(rig, D("0.5"))
        await rig.look()
        assert [row.quantity for row in rig.journal.adjustments()] == amounts
        assert {row.kind for row in rig.journal.adjustments()} == {"manual"}
        trades = [trade for row in rig.journal.adjustments() for trade in row.evidence["trades"]]
        assert len(trades) == len(set(trades)) == 3
        rig.journal.acknowledge("a person")
        rig.check()

    trading(test)


def test_one_trade_by_hand_after_the_other_is_adopted() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        for part in ("-0.25", "-0.25", "0.5"):
            by_hand(rig, D(part))
            await rig.look()
            rig.check()
        assert rig.desk.state is TradingState.ACTIVE
        assert [row.acknowledged_by for row in rig.journal.adjustments()] == ["adopt"] * 3

    trading(test, settings={"env.foreign_position": "adopt"})


@pytest.mark.parametrize("signed", [SMALL, -SMALL], ids=["more", "less"])
def test_a_trade_by_hand_while_an_entry_is_under_way(signed: Decimal) -> None:
    async def test(rig: Rig) -> None:
        def trade() -> None:
            rig.server.engine.hold_fills(0)
            rig.server.engine.manual_trade(BTC, signed)

        rig.server.engine.hold_fills(100)
        at_first_wait(rig, trade)
        await rig.bar(LONG)
        await rig.look()
        booked = sum((e.signed for e in own(rig)), start=D(0))
        assert rig.journal.position(SYMBOL) == booked
        (row,) = rig.journal.adjustments()
        assert (row.kind, row.quantity) == ("manual", signed)
        assert rig.desk.state is TradingState.REDUCING
        rig.journal.acknowledge("a person")
        rig.check()

    trading(test)


@pytest.mark.parametrize("what", ["less", "flat", "flip"])
def test_a_trade_by_hand_while_an_exit_is_under_way(what: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        count = len(rig.server.engine.executions(BTC))
        rig.server.engine.hold_fills(100)
        at_first_wait(rig, lambda: by_hand(rig, BY_HAND[what]) and None)
        await rig.bar(FLAT)
        await rig.look()
        assert all(e.closed == e.quantity for e in own(rig, count))
        assert (rig.held < 0) == (what == "flip")
        rig.journal.acknowledge("a person")
        rig.check()

    trading(test)


# The stop and an order at once --------------------------------------------------------------------


def fall(rig: Rig) -> None:
    """Let the stop of the long position fire."""
    engine = rig.server.engine
    stop = engine.bracket(BTC).stop_price
    assert stop is not None
    mark = engine.mark(BTC)
    tick = engine.instruments[BTC].tick
    engine.set_protection(BTC, 0, change=Bracket(mark - tick, None))
    for _ in range(2_000):
        engine.advance(500)
        if not engine.position(BTC):
            return
    raise AssertionError("the price did not fall")


def test_a_stop_that_fires_before_an_exit_leaves_nothing_to_close() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        await rig.bar(FLAT, lambda: fall(rig))
        assert rig.held == 0
        await rig.look()
        assert rig.desk.state is TradingState.HALTED
        assert rig.desk.standing.reasons == ("disaster_stop",)
        assert not rig.journal.adjustments()
        rig.check()

    trading(test)


def test_a_stop_that_fires_before_a_flip_opens_no_other_side() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        count = len(rig.server.engine.executions(BTC))
        await rig.bar(SHORT, lambda: fall(rig))
        await rig.look()
        assert rig.held == 0
        assert not own(rig, count)
        assert rig.desk.state is TradingState.HALTED
        rig.check()

    trading(test)


@pytest.mark.parametrize(("refused", "kept"), [(1, True), (3, False)])
def test_a_stop_that_is_refused_with_the_entry(refused: int, kept: bool) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG, lambda: rig.server.engine.reject_stops(refused))
        await rig.look(2)
        assert (rig.held > 0) == kept
        halted = rig.desk.state is TradingState.HALTED
        assert halted != kept
        gaps = rig.server.engine.protection_gaps()
        assert all(gap.end_ms is not None and gap.end_ms - gap.start_ms <= 7_000 for gap in gaps)
        rig.check()

    trading(test)
