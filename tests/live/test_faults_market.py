"""A market that closes or is delisted, and what the venue does to a position by force."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from live.exchange.opening import default_instrument
from live.reconcile.findings import Cause
from live.risk import TradingState
from live.trading.cash import CashWatch
from live.trading.listing import UNLISTED, UNREAD, ListingWatch, changes
from live.types import (
    Ambiguous,
    Category,
    Certainty,
    Definitive,
    FillKind,
    Instrument,
    UnreadableError,
)
from tests.live.harness import BTC, FLAT, LONG, SHORT, SYMBOL, Rig, trading

HOUR_MS = 3_600_000


async def look(rig: Rig, times: int = 3) -> None:
    """Let the daemon look at the account, some seconds apart."""
    for _ in range(times):
        rig.server.advance(3_000)
        await rig.reconcile()


async def next_look(rig: Rig) -> None:
    """The first look after a minute: listings are read as often."""
    rig.server.advance(60_000)
    await rig.reconcile()


def sent(rig: Rig) -> int:
    """Orders that reached the exchange."""
    return len(rig.server.requests("order/create"))


# Market status ------------------------------------------------------------------------------------


def test_nothing_is_opened_in_a_market_that_closed_since_the_start() -> None:
    async def test(rig: Rig) -> None:
        rig.server.engine.close_market(BTC)
        await next_look(rig)
        acted = await rig.bar(LONG)
        assert acted.refused == "market_closed"
        assert sent(rig) == 0
        rig.server.engine.open_market(BTC)
        await next_look(rig)
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()
        assert len(rig.journal.history(kind="listing")) == 2

    trading(test)


def test_an_entry_into_a_market_that_is_just_closing_did_not_arrive() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG, lambda: rig.server.engine.close_market(BTC))
        await rig.settle()
        assert rig.held == 0
        assert not rig.trader.frozen
        acted = await rig.bar(LONG)
        assert acted.refused == "market_closed"
        assert sent(rig) == 1
        rig.check()

    trading(test)


def test_a_position_in_a_closed_market_keeps_its_stop_and_leaves_when_it_opens() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.engine.close_market(BTC)
        held = rig.held
        await rig.bar(FLAT)
        await rig.settle()
        assert sent(rig) == 2  # an exit is worth a try
        assert rig.held == held
        rig.check()
        rig.server.engine.open_market(BTC)
        await rig.bar(FLAT)
        assert rig.held == 0
        rig.check()

    trading(test)


def test_a_symbol_that_only_reduces_is_left_and_not_entered_again() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.engine.delist(BTC, rig.clock.now_ms() + HOUR_MS)
        await next_look(rig)
        acted = await rig.bar(SHORT)
        assert acted.refused == "market_closed"  # of the second phase
        assert rig.held == 0
        assert sent(rig) == 2
        rig.check()

    trading(test)


@pytest.mark.parametrize(("hours", "opened"), [(23, False), (25, True)])
def test_before_an_announced_delisting_positions_are_closed_and_not_opened(
    hours: int, opened: bool
) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(SHORT)
        assert rig.held < 0
        rig.server.engine.delist(BTC, rig.clock.now_ms() + hours * HOUR_MS, announced=True)
        await next_look(rig)
        acted = await rig.bar(LONG)
        assert (rig.held > 0) == opened
        assert rig.held >= 0  # the exit went in any case
        assert acted.refused == (None if opened else "market_closed")
        rig.check()

    trading(test)


def test_a_position_that_is_held_to_the_end_is_settled_and_booked() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.engine.delist(BTC, rig.clock.now_ms() + 90_000)
        await rig.bar(LONG)
        rig.check()
        await rig.bar(LONG)
        await look(rig)
        assert rig.held == 0
        assert rig.server.engine.executions(BTC)[-1].kind is FillKind.SETTLEMENT
        assert rig.journal.fills(SYMBOL)[-1].kind is FillKind.SETTLEMENT
        assert not rig.journal.adjustments()
        assert rig.trader.state.direction == 0
        rig.check()

    trading(test)


# What the venue does by force ---------------------------------------------------------------------


def liquidate(rig: Rig) -> None:
    rig.server.engine.liquidate(BTC)


def deleverage(rig: Rig) -> None:
    rig.server.engine.deleverage(BTC, Decimal("0.5"))


FORCED = [
    pytest.param(liquidate, Cause.LIQUIDATION, id="liquidation"),
    pytest.param(deleverage, Cause.ADL, id="adl"),
]


def at_first_wait(rig: Rig, act: Callable[[Rig], None]) -> None:
    """Let something happen when the daemon waits for an order for the first time."""
    plain, done = rig.clock.sleep, []

    async def sleep(seconds: float) -> None:
        if not done:
            done.append(True)
            act(rig)
        await plain(seconds)

    rig.clock.sleep = sleep  # type: ignore[method-assign]  # the clock of this test alone


async def watch_of(rig: Rig) -> CashWatch:
    """What the equity is compared with from here on."""
    watch = CashWatch(rig.daemon.venue, rig.journal, [SYMBOL], rig.clock)
    assert await watch.look() == ()
    return watch


async def check_forced(rig: Rig, cash: CashWatch, cause: Cause) -> None:
    """The cause is known and latched, the books are right, and nothing is opened any more."""
    await look(rig)
    assert await cash.look() == ()
    assert rig.desk.state is TradingState.HALTED
    assert cause.value in rig.desk.standing.reasons
    kinds = [fill.kind for fill in rig.journal.fills(SYMBOL)]
    assert kinds.count(FillKind(cause.value)) == 1
    assert not rig.journal.adjustments()  # neither position nor equity is unexplained
    rig.check()
    before = rig.server.engine.orders(BTC)
    await rig.bar(LONG)
    await rig.bar(SHORT)
    assert rig.held == 0  # what force has left was closed
    assert all(order.reduce_only for order in rig.server.engine.orders(BTC)[len(before) :])
    rig.check()


@pytest.mark.parametrize(("act", "cause"), FORCED)
def test_force_while_a_position_is_held(act: Callable[[Rig], None], cause: Cause) -> None:
    async def test(rig: Rig) -> None:
        cash = await watch_of(rig)
        await rig.bar(LONG)
        act(rig)
        await check_forced(rig, cash, cause)

    trading(test)


@pytest.mark.parametrize(("act", "cause"), FORCED)
def test_force_between_an_entry_and_the_look_after_it(
    act: Callable[[Rig], None], cause: Cause
) -> None:
    async def test(rig: Rig) -> None:
        def filled_then(rig: Rig) -> None:
            rig.server.advance(200)
            act(rig)

        cash = await watch_of(rig)
        rig.server.engine.hold_fills(100)
        at_first_wait(rig, filled_then)
        await rig.bar(LONG)
        await check_forced(rig, cash, cause)

    trading(test)


@pytest.mark.parametrize(("act", "cause"), FORCED)
def test_force_during_the_first_phase_of_a_flip_ends_it(
    act: Callable[[Rig], None], cause: Cause
) -> None:
    async def test(rig: Rig) -> None:
        cash = await watch_of(rig)
        await rig.bar(LONG)
        rig.server.engine.hold_fills(100)
        at_first_wait(rig, act)
        await rig.bar(SHORT)
        rig.server.engine.hold_fills(0)
        assert rig.held == 0  # the second phase was not begun
        await check_forced(rig, cash, cause)

    trading(test)


# Each payment is 0.9 % of the equity: more than may go unexplained, less than a breaker allows.
RATE = Decimal("0.003")


def pay(rig: Rig) -> None:
    rig.server.engine.pay_funding(BTC, RATE)


async def check_funded(rig: Rig, cash: CashWatch, payments: int) -> None:
    """Every payment is booked as cash, once; equity is explained, and trading goes on."""
    await next_look(rig)
    assert await cash.look() == ()
    paid = [fill for fill in rig.journal.fills(SYMBOL) if fill.kind is FillKind.FUNDING]
    assert len(paid) == payments
    assert all(fill.quantity == 0 and fill.fee for fill in paid)
    assert not rig.journal.adjustments()
    assert rig.desk.state is TradingState.ACTIVE
    rig.check()


def test_funding_is_cash_and_explains_the_equity() -> None:
    async def test(rig: Rig) -> None:
        cash = await watch_of(rig)
        await rig.bar(LONG)
        pay(rig)
        await check_funded(rig, cash, 1)
        assert rig.trader.state.last_level == 1  # no reason to trade
        await rig.bar(FLAT)
        assert rig.held == 0
        await check_funded(rig, cash, 1)

    trading(test)


def test_funding_between_an_entry_and_the_look_after_it() -> None:
    async def test(rig: Rig) -> None:
        def filled_then(rig: Rig) -> None:
            rig.server.advance(200)
            pay(rig)

        cash = await watch_of(rig)
        rig.server.engine.hold_fills(100)
        at_first_wait(rig, filled_then)
        await rig.bar(LONG)
        assert rig.held > 0
        await check_funded(rig, cash, 1)

    trading(test)


def test_funding_between_the_phases_of_a_flip() -> None:
    async def test(rig: Rig) -> None:
        cash = await watch_of(rig)
        await rig.bar(LONG)
        rig.server.engine.hold_fills(100)
        at_first_wait(rig, pay)  # phase one is under way
        await rig.bar(SHORT)
        assert rig.held < 0
        await check_funded(rig, cash, 1)

    trading(test)


# The watch alone ----------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


class Venue:
    """What the watch asks; ``answer`` may be an error."""

    def __init__(self) -> None:
        self.answer: Instrument | Exception = default_instrument()
        self.asked = 0

    async def listing(self, symbol: str) -> Instrument:
        assert symbol == default_instrument().symbol
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def watched() -> tuple[ListingWatch, Any, Any]:
    venue, clock = Venue(), Clock()
    watch = ListingWatch(venue, default_instrument(), clock)  # type: ignore[arg-type]  # stand-ins
    return watch, venue, clock


def test_a_listing_is_read_every_minute() -> None:
    async def run() -> None:
        watch, venue, clock = watched()
        venue.answer = dataclasses.replace(default_instrument(), tick=Decimal(5))
        clock.seconds += 59
        assert await watch.look() == default_instrument()
        assert venue.asked == 0
        clock.seconds += 1
        found = await watch.look()
        assert found == venue.answer
        assert changes(default_instrument(), found) == {"tick": f"{default_instrument().tick} -> 5"}
        await watch.look()
        assert venue.asked == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("outcome", "asked"),
    [
        pytest.param(Definitive(Certainty.ACCEPTED, "1"), 0, id="accepted"),
        pytest.param(Definitive(Certainty.REJECTED), 1, id="rejected"),
        pytest.param(Definitive(Certainty.REJECTED, category=Category.PRECISION), 1, id="off_tick"),
        # What says nothing of the market is no reason to read it again.
        pytest.param(Definitive(Certainty.REJECTED, category=Category.MARGIN), 0, id="margin"),
        pytest.param(Definitive(Certainty.NOT_SENT), 0, id="not_sent"),
        pytest.param(Ambiguous("lost"), 1, id="ambiguous"),
    ],
)
def test_an_order_that_was_not_taken_makes_the_listing_doubtful(outcome: Any, asked: int) -> None:
    async def run() -> None:
        watch, venue, _ = watched()
        watch.note(outcome)
        await watch.look()
        await watch.look()
        assert venue.asked == asked

    asyncio.run(run())


def test_a_listing_that_cannot_be_read_for_long_closes_the_market() -> None:
    async def run() -> None:
        watch, venue, clock = watched()
        venue.answer = UnreadableError("no answer")
        clock.seconds += 299
        assert (await watch.look()).status == "trading"
        clock.seconds += 1
        assert (await watch.look()).status == UNREAD
        venue.answer = default_instrument()
        assert await watch.look() == default_instrument()
        assert venue.asked == 3

    asyncio.run(run())


def test_a_symbol_that_is_no_longer_listed_is_no_market() -> None:
    async def run() -> None:
        watch, venue, clock = watched()
        venue.answer = ValueError("BTCUSDT is not listed")
        clock.seconds += 60
        assert (await watch.look()).status == UNLISTED
        assert (await watch.look()).status == UNLISTED
        assert venue.asked == 1

    asyncio.run(run())


def test_a_watch_that_gives_up_before_it_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="every"):
        ListingWatch(Venue(), default_instrument(), Clock(), every=60, stale=30)  # type: ignore[arg-type]  # stand-ins
