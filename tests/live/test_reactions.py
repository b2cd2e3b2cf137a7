"""What is done about what reconciliation finds, each reaction at the exchange; money that moves.

What people trade there by hand is in `tests.live.test_faults_manual`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from live.exchange.book import OrderKind, OrderRequest
from live.journal.ids import client_id
from live.orders import IntentState, TrackedOrder, advance
from live.paper import PaperVenue
from live.reconcile.cash import CashBook
from live.reconcile.findings import (
    CashMismatch,
    Cause,
    DirectionChanged,
    Finding,
    ForcedFill,
    ForeignOrder,
    MissingFills,
    OffTarget,
    OrderMissing,
    OrderRevived,
    OwnOrderUnknown,
    PendingFills,
    PositionMismatch,
    PositionUnknown,
    SettingsChanged,
    SettingsUnread,
    StaleSnapshot,
    TargetMissing,
)
from live.reconcile.reactions import (
    AdoptOrder,
    CancelOrder,
    CheckProtection,
    Degrade,
    FetchFills,
    FlattenPosition,
    ForeignPolicy,
    ForgetLevel,
    LookAgain,
    PlaceTarget,
    QueryOrder,
    Reaction,
    RecordAdjustment,
    ResetPlanner,
    SetLatch,
    react,
)
from live.reconcile.sightings import REASONS, Sightings
from live.replay import ReplayVenue
from live.replay.data import ReplayData
from live.replay.money import ReplayTerms
from live.risk import Latch, TradingState
from live.trading.cash import CashWatch
from live.trading.responses import respond
from live.types import (
    Bracket,
    Category,
    Certainty,
    Configured,
    Definitive,
    Fill,
    FillKind,
    Held,
    Intent,
    IntentKind,
    MarginMode,
    OrderReport,
    OrderStatus,
    PositionMode,
    Role,
    Side,
)
from tests.live.harness import BTC, FLAT, LONG, SHORT, SYMBOL, Rig, minutes, trading
from tests.live.replaying import market

D = Decimal
SMALL = D("0.05")


async def carry_out(
    rig: Rig, reaction: Reaction, policy: ForeignPolicy = ForeignPolicy.REFUSE
) -> bool:
    return await respond(reaction, rig.daemon.venue, rig.trader, rig.journal, rig.desk, policy)


# Orders of others ---------------------------------------------------------------------------------


def foreign_order(rig: Rig, client_id: str = "") -> str:
    """Somebody places a stop to open; its id at the venue."""
    mark = rig.server.engine.mark(BTC)
    order = rig.server.engine.submit(
        OrderRequest(
            BTC,
            Side.BUY,
            SMALL,
            client_id,
            kind=OrderKind.TRIGGER,
            trigger_price=(mark * D("1.2")).quantize(D("0.1")),
            rising=True,
        )
    )
    return order.order_id


def resting(rig: Rig) -> list[str]:
    return [o.order_id for o in rig.server.engine.orders(BTC, live=True) if not o.kind.protective]


@pytest.mark.parametrize("named", ["", "theirs"], ids=["without_id", "with_id"])
def test_an_order_of_others_is_cancelled_where_that_is_asked_for(named: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        foreign_order(rig, named)
        await rig.look(1)
        assert resting(rig)  # one snapshot is not a fact
        assert rig.desk.state is TradingState.DEGRADED
        await rig.look(2)
        assert not resting(rig)
        assert rig.desk.state is TradingState.ACTIVE
        assert not rig.journal.history(kind="not_cancelled")
        rig.check()

    trading(test, settings={"env.foreign_position": "flatten"})


@pytest.mark.parametrize("policy", ["refuse", "adopt"])
def test_an_order_of_others_is_left_alone_otherwise(policy: str) -> None:
    async def test(rig: Rig) -> None:
        order = foreign_order(rig)
        await rig.look()
        assert resting(rig) == [order]
        refused = policy == "refuse"
        assert rig.desk.state is (TradingState.REDUCING if refused else TradingState.ACTIVE)
        assert bool(rig.journal.history(kind="foreign_order")) != refused
        rig.check()

    trading(test, settings={"env.foreign_position": policy})


def test_a_cancel_that_fails_is_told_and_the_order_is_found_again() -> None:
    async def test(rig: Rig) -> None:
        foreign_order(rig)
        rig.server.faults.add("order/cancel", "reject", code=110001)
        await rig.look()
        assert resting(rig)
        (event,) = rig.journal.history(kind="not_cancelled")
        assert "not_found" in event.body["why"]
        assert rig.desk.state is TradingState.DEGRADED  # as long as it is there
        rig.server.advance(60_000)
        await rig.look(2)
        assert not resting(rig)
        assert rig.desk.state is TradingState.ACTIVE

    trading(test, settings={"env.foreign_position": "flatten"})


# Each reaction by itself --------------------------------------------------------------------------


def report_of(rig: Rig, order_id: str) -> OrderReport:
    order = rig.server.engine.book.get(order_id)
    return OrderReport(
        client_id=order.client_id,
        venue_order_id=order.order_id,
        role=None,
        side=order.side,
        quantity=order.quantity,
        filled=order.filled,
        average_price=order.average_price,
        trigger_price=order.trigger_price,
        reduce_only=order.reduce_only,
        status=order.status,
        venue_time_ms=order.updated_ms,
    )


async def own_stop(rig: Rig) -> str:
    """Place a stop of our own beside the one of the position; its client id."""
    mark = rig.server.engine.mark(BTC)
    wanted = Intent(
        kind=IntentKind.STOP,
        role=Role.STOP,
        symbol=SYMBOL,
        side=Side.SELL,
        quantity=SMALL,
        reduce_only=True,
        reason="a test",
        trigger_price=(mark * D("0.8")).quantize(D("0.1")),
    )
    (intent,) = rig.journal.add_intents(SYMBOL, rig.trader.bar, (wanted,))
    sent = await rig.trader.executor.send(intent)
    assert sent.order.state is IntentState.ACKED
    return intent.client_id


def test_an_order_that_is_missing_is_asked_for() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        name = await own_stop(rig)
        await carry_out(rig, QueryOrder(name))
        assert rig.journal.intent(name).state is IntentState.ACKED  # it is there
        rig.server.engine.cancel(BTC, client_id=name)
        await carry_out(rig, QueryOrder(name))
        assert rig.journal.intent(name).state is IntentState.CANCELLED
        assert not rig.trader.frozen
        await carry_out(rig, QueryOrder("nobody's"))  # of another journal: nothing is asked
        rig.check()

    trading(test)


def test_an_order_that_nobody_can_find_is_unknown_and_searched() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        name = await own_stop(rig)
        rig.server.engine.cancel(BTC, client_id=name)
        for route in ("order/realtime", "order/history", "execution/list"):
            rig.server.faults.add(route, "reject", count=1, code=10001)
        await carry_out(rig, QueryOrder(name))
        assert rig.journal.intent(name).state is IntentState.UNKNOWN
        assert rig.trader.frozen
        rig.server.faults.clear()
        await rig.settle()
        assert rig.journal.intent(name).state is IntentState.CANCELLED
        assert not rig.trader.frozen
        rig.check()

    trading(test)


def test_an_order_of_ours_that_the_journal_lost_is_taken_up() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        name = client_id(rig.journal.tag(SYMBOL), 5, Role.ENTRY)
        order = foreign_order(rig, name)
        again = await carry_out(rig, AdoptOrder(report_of(rig, order)))
        assert again
        row = rig.journal.intent(name)
        assert (row.state, row.venue_order_id) == (IntentState.ACKED, order)
        await carry_out(rig, AdoptOrder(report_of(rig, order)))  # twice is once
        assert len([r for r in rig.journal.working(SYMBOL) if r.client_id == name]) == 1
        rig.check()

    trading(test)


def test_the_daemon_takes_up_an_order_of_its_own_and_its_fill() -> None:
    async def test(rig: Rig) -> None:
        name = client_id(rig.journal.tag(SYMBOL), 5, Role.ENTRY)
        foreign_order(rig, name)
        await rig.look(1)
        assert rig.journal.intent(name).state is IntentState.ACKED
        rig.server.engine.cancel(BTC, client_id=name)
        await rig.look()
        assert rig.journal.intent(name).state is IntentState.CANCELLED
        rig.check()

    trading(test)


def test_a_target_is_placed_again_and_the_stop_stays() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        stop = rig.server.engine.bracket(BTC).stop_price
        price = (rig.server.engine.mark(BTC) * D("1.1")).quantize(D("0.1"))
        await carry_out(rig, PlaceTarget(price))
        legs = rig.server.engine.bracket(BTC)
        assert (legs.stop_price, legs.target_price) == (stop, price)
        rig.check()

    trading(test)


def test_a_target_of_nothing_is_not_placed() -> None:
    async def test(rig: Rig) -> None:
        await carry_out(rig, PlaceTarget(D(90_000)))
        assert not rig.server.requests("position/trading-stop")

    trading(test)


def test_an_order_is_cancelled_by_whatever_id_it_has() -> None:
    async def test(rig: Rig) -> None:
        for named in ("", "theirs"):
            order = foreign_order(rig, named)
            assert await carry_out(rig, CancelOrder(report_of(rig, order)))
            assert rig.server.engine.book.get(order).status is OrderStatus.CANCELLED
        nameless = report_of(rig, order)
        venue = rig.daemon.venue
        gone = await venue.cancel(SYMBOL, venue_order_id=nameless.venue_order_id)
        assert (gone.kind, gone.category) == (Certainty.REJECTED, Category.NOT_FOUND)
        neither = await venue.cancel(SYMBOL)
        assert neither.kind is Certainty.NOT_SENT
        assert len(rig.server.requests("order/cancel")) == 3

    trading(test)


def test_a_position_is_flattened() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        assert await carry_out(rig, FlattenPosition("a test"))
        assert rig.held == 0
        assert rig.server.engine.orders(BTC)[-1].reduce_only or not rig.held
        rig.check()

    trading(test)


def test_reactions_that_send_nothing() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        before = rig.server.requests("*")
        assert rig.trader.state.last_level == 1
        assert not await carry_out(rig, ForgetLevel())
        assert rig.trader.state.last_level is None
        for asks in (LookAgain(), CheckProtection(), FetchFills()):
            assert await carry_out(rig, asks)
        await carry_out(rig, Degrade("mismatch"))
        assert rig.desk.state is TradingState.DEGRADED
        await carry_out(rig, SetLatch(Latch(TradingState.REDUCING, "settings", "x")))
        assert rig.desk.state is TradingState.REDUCING
        await carry_out(rig, RecordAdjustment("mismatch", SMALL, D(0), acknowledged=False))
        await carry_out(rig, RecordAdjustment("cash", D(0), D(-5), acknowledged=False))
        rows = [(r.kind, r.quantity, r.cash) for r in rig.journal.adjustments(acknowledged=False)]
        assert rows == [("mismatch", SMALL, D(0)), ("cash", D(0), D(-5))]
        assert rig.server.requests("*") == before

    trading(test)


def test_another_direction_is_taken_up_as_the_venue_has_it_now() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        before = rig.trader.state
        assert not await carry_out(rig, ResetPlanner())
        assert rig.trader.state == before  # what was found was stale
        rig.server.engine.manual_trade(BTC, -2 * rig.held)
        assert not await carry_out(rig, ResetPlanner())
        state = rig.trader.state
        assert (state.direction, state.target_quantity) == (-1, rig.held)
        assert (state.last_level, state.held_bars) == (None, 0)

    trading(test)


def test_a_bracket_does_not_guard_the_other_side() -> None:
    """A position turned round by hand gets a stop of its own, not that of the one before."""

    async def test(rig: Rig) -> None:
        await rig.bar(1)
        held, first = rig.held, rig.server.engine.bracket(BTC).stop_price
        rig.server.engine.manual_trade(BTC, -2 * held)
        await rig.look()
        assert rig.held == -held
        assert first is not None
        assert rig.server.engine.bracket(BTC).stop_price > rig.server.engine.mark(BTC) > first
        assert rig.desk.state is TradingState.ACTIVE
        assert rig.trader.state.bracket is None
        rig.check()

    brackets = {
        "env.name": "BybitFuturesSLTPTradingEnv",
        "env.stoploss_levels": "-0.02",
        "env.takeprofit_levels": "0.05",
        "env.trade_mode": "fractional",
        "env.position_fraction": "0.5",
        "env.foreign_position": "adopt",
    }
    trading(test, settings=brackets)


def test_adopting_counts_what_waited_for_a_person() -> None:
    async def test(rig: Rig) -> None:
        await carry_out(rig, RecordAdjustment("manual", SMALL, D(0), acknowledged=False))
        taken = RecordAdjustment("manual", 3 * SMALL, D(0), acknowledged=True)
        await carry_out(rig, taken, ForeignPolicy.ADOPT)
        assert [row.quantity for row in rig.journal.adjustments()] == [SMALL, 2 * SMALL]
        assert rig.journal.position(SYMBOL) == 3 * SMALL

    trading(test)


@pytest.mark.parametrize("kind", ["replay", "paper"])
def test_a_simulated_account_answers_like_a_venue(kind: str) -> None:
    terms = ReplayTerms()
    data = ReplayData.from_frame(
        minutes(60), time_frames="1min", window_sizes=1, execute_on="1min", rules=terms.rules
    )
    market_data = ReplayVenue(data, terms)
    venue: ReplayVenue | PaperVenue = market_data
    if kind == "paper":
        venue = PaperVenue(market_data, terms, market_data.clock, frame="1Minute", bar_ms=60_000)

    async def run() -> None:
        await venue.connect()
        symbol = (await venue.instrument(market_data.symbol)).symbol
        assert await venue.listing(symbol) == await market_data.instrument(symbol)
        modes = MarginMode.ISOLATED, PositionMode.ONE_WAY
        made = await venue.configure(symbol, D(str(terms.leverage)), *modes)
        assert await venue.settings(symbol) == made
        mark = (await venue.quote(symbol)).mark
        legs = Bracket(mark * D("0.9"), mark * D("1.1"))
        await venue.submit(market(0.01, symbol=symbol, bracket=legs, client_id="an entry"))
        stop, target = sorted(await venue.orders(symbol), key=lambda one: one.role or "")
        ended = await venue.cancel(symbol, venue_order_id=target.venue_order_id)
        assert isinstance(ended, Definitive)
        assert ended.kind is Certainty.ACCEPTED
        assert [one.venue_order_id for one in await venue.orders(symbol)] == [stop.venue_order_id]
        gone = await venue.cancel(symbol, venue_order_id=target.venue_order_id)
        assert isinstance(gone, Definitive)
        assert gone.category is Category.NOT_FOUND

    asyncio.run(run())


# An id that is taken ------------------------------------------------------------------------------


def test_an_id_that_exists_already_is_asked_for() -> None:
    """The exchange says that the order is there: whether it is ours, only a query tells."""

    async def test(rig: Rig) -> None:
        send = rig.daemon.venue.submit

        async def twice(intent: Intent) -> Any:
            await send(intent)
            return Definitive(Certainty.REJECTED, code="x", category=Category.DUPLICATE)

        rig.daemon.venue.submit = twice  # type: ignore[method-assign]  # a venue that knows ids
        acted = await rig.bar(LONG)
        assert acted.sent[0].unknown
        rig.daemon.venue.submit = send  # type: ignore[method-assign]
        await rig.settle()
        assert rig.held > 0
        assert rig.journal.intent(acted.sent[0].order.client_id).state is IntentState.FILLED
        assert len(rig.server.requests("order/create")) == 1
        rig.check()

    trading(test)


# Money --------------------------------------------------------------------------------------------


def watch_of(rig: Rig) -> CashWatch:
    return CashWatch(rig.daemon.venue, rig.journal, [SYMBOL], rig.clock)


@pytest.mark.parametrize("amount", [D(-100), D(100)], ids=["out", "in"])
@pytest.mark.parametrize("held", [False, True], ids=["flat", "held"])
def test_money_that_moves_is_written_down_once(amount: Decimal, held: bool) -> None:
    async def test(rig: Rig) -> None:
        cash = watch_of(rig)
        await rig.bar(LONG if held else FLAT)
        assert await cash.look() == ()
        rig.server.engine.deposit(amount)
        (found,) = await cash.look()
        assert abs(found.equity - found.expected - amount) < 5
        (row,) = rig.journal.adjustments()
        assert (row.kind, row.quantity, row.acknowledged_by) == ("cash", D(0), None)
        assert abs(row.cash - amount) < 5
        assert rig.desk.state is TradingState.ACTIVE  # it is no trade and no loss of a policy
        rig.check()
        assert await cash.look() == ()  # it was told
        rig.server.engine.deposit(amount)
        assert await cash.look()
        assert [row.kind for row in rig.journal.adjustments()] == ["cash", "cash"]

    trading(test)


def test_small_amounts_add_up() -> None:
    async def test(rig: Rig) -> None:
        cash = watch_of(rig)
        for _ in range(3):
            assert await cash.look() == ()
            rig.server.engine.deposit(D(-20))  # 0.2 % of the equity
        await cash.look()
        (row,) = rig.journal.adjustments()
        assert row.cash == D(-60)

    trading(test)


def test_what_is_gone_at_the_second_look_was_nothing() -> None:
    async def test(rig: Rig) -> None:
        cash = watch_of(rig)
        await cash.look()
        rig.server.faults.add(
            "account/wallet-balance", "mutate_field", path="result.list.0.coin.0.equity", value="9"
        )
        assert await cash.look() == ()
        assert not rig.journal.adjustments()
        rig.server.engine.deposit(D(-100))
        assert await cash.look()

    trading(test)


@pytest.mark.parametrize("route", ["position/list", "execution/list", "account/wallet-balance"])
def test_an_equity_that_cannot_be_read_is_not_judged(route: str) -> None:
    async def test(rig: Rig) -> None:
        cash = watch_of(rig)
        await cash.look()
        rig.server.engine.deposit(D(-100))
        rig.server.faults.add(route, "reject", count=None, code=10001)
        assert await cash.look() == ()
        rig.server.faults.clear()
        assert await cash.look()

    trading(test)


def test_trading_funding_and_trades_by_hand_explain_what_they_cost() -> None:
    async def test(rig: Rig) -> None:
        cash = watch_of(rig)
        for action in (LONG, SHORT, FLAT, SHORT, LONG):
            assert await cash.look() == ()
            await rig.bar(action)
        rig.server.engine.pay_funding(BTC, D("0.003"))
        assert await cash.look() == ()
        rig.server.engine.manual_trade(BTC, -10 * SMALL)
        assert await cash.look() == ()
        await rig.look()
        assert await cash.look() == ()
        fees = sum((fill.fee for fill in rig.journal.fills(SYMBOL)), start=D(0))
        assert fees > D(150)  # beyond the tolerance, were they not counted
        assert [row.kind for row in rig.journal.adjustments()] == ["manual"]

    trading(test)


def fill(trade: str, quantity: str, price: str = "100", fee: str = "0", **more: Any) -> Fill:
    signed = D(quantity)
    side = Side.BUY if signed >= 0 else Side.SELL
    kind = more.get("kind", FillKind.TRADE)
    return Fill(trade, "", "", side, abs(signed), D(price), D(fee), "USDT", kind, 0)


def held_of(quantity: str) -> Held:
    price, leverage = D(100), D(1)
    return Held(D(quantity), price, price, D(0), leverage, MarginMode.ISOLATED, None, 0)


def looked(
    book: CashBook, equity: str, *at: str, mark: str = "100", fills: Iterable[Fill] = ()
) -> tuple[CashBook, tuple[CashMismatch, ...]]:
    """A look at the positions ``at`` of symbols A, B, ...; the fills are those of A."""
    held = {name: (D(quantity), D(mark)) for name, quantity in zip("ABC", at, strict=False)}
    return book.look(D(equity), held, {"A": tuple(fills)})


def test_a_book_follows_marks_fills_and_funding() -> None:
    book, found = looked(CashBook(), "1000", "0")
    assert found == ()
    bought = [fill("1", "2", "100", "3")]
    book, found = looked(book, "997", "2", fills=bought)
    assert (found, book.expected) == ((), 997)
    book, found = looked(book, "1017", "2", mark="110", fills=bought)
    assert (found, book.expected) == ((), 1017)
    paid = [*bought, fill("2", "0", "110", "40", kind=FillKind.FUNDING)]
    book, found = looked(book, "977", "2", mark="110", fills=paid)
    assert (found, book.expected) == ((), 977)
    _, found = looked(book, "877", "2", mark="110", fills=paid)
    assert found == (CashMismatch(D(977), D(877)),)


def test_a_book_waits_for_the_fills_of_a_position() -> None:
    book, _ = looked(CashBook(), "1000", "0")
    waiting, found = looked(book, "900", "5")
    assert (found, waiting.expected) == ((), 1000)
    caught_up, found = looked(waiting, "900", "5", fills=[fill("1", "5", "100", "100")])
    assert (found, caught_up.expected, caught_up.puzzled) == ((), 900, 0)
    for _ in range(11):
        waiting, found = looked(waiting, "900", "5")
        assert found == ()
    assert waiting.expected == 900  # anew: the position is a finding of its own


def test_the_symbols_of_an_account_share_its_equity() -> None:
    book, _ = looked(CashBook(), "1000", "1", "-3")
    book, found = looked(book, "960", "1", "-3", mark="120")
    assert (found, book.expected) == ((), 960)


# Findings over time -------------------------------------------------------------------------------

SECOND = 1_000_000_000


def test_what_an_order_should_have_ended_is_reported_until_it_has() -> None:
    seen = Sightings()
    told = []
    for second in (0, 3, 6, 62, 63, 64, 200):
        found = [TargetMissing(D(1)), OffTarget(D(1), D(2))]
        seen, report = seen.note(found, second * SECOND, held_of("1"))
        told += [(second, type(one).__name__) for one, confirmed in report if confirmed]
    assert told == [
        (3, "TargetMissing"),
        (3, "OffTarget"),
        (63, "TargetMissing"),
        (200, "TargetMissing"),
    ]


@pytest.mark.parametrize(
    ("finding", "settled"),
    [
        pytest.param(OffTarget(D(1), D(2)), True, id="off_target"),
        pytest.param(DirectionChanged(0, 1), True, id="direction"),
        pytest.param(PositionMismatch(D(0), D(1), True), False, id="mismatch"),
        pytest.param(PendingFills(D(1)), False, id="fills"),
        pytest.param(SettingsUnread("x"), False, id="settings"),
        pytest.param(StaleSnapshot(0), False, id="stale"),
        pytest.param(PositionUnknown("x"), False, id="unknown"),
    ],
)
def test_a_look_is_complete_where_venue_and_journal_agree(finding: Finding, settled: bool) -> None:
    seen, _ = Sightings().note([finding], 0, held_of("1"))
    assert seen.settled == settled
    seen, _ = seen.note([], SECOND, held_of("1"))
    assert seen.settled


@pytest.mark.parametrize("policy", list(ForeignPolicy))
def test_an_order_of_others_stands_in_the_way_until_it_is_adopted(policy: ForeignPolicy) -> None:
    seen = Sightings(policy=policy)
    for second in (0, 3):
        assert seen.settled == (second == 0)
        seen, _ = seen.note([ForeignOrder(REPORT)], second * SECOND, held_of("1"))
    assert seen.settled == (policy is ForeignPolicy.ADOPT)


# Nothing is left out ------------------------------------------------------------------------------

REPORT = OrderReport("", "1", None, Side.BUY, D(1), D(0), None, None, False, OrderStatus.OPEN, 0)
SET = Configured(D(3), MarginMode.ISOLATED, PositionMode.ONE_WAY)
FINDINGS: tuple[Finding, ...] = (
    PositionUnknown("x"),
    StaleSnapshot(0),
    DirectionChanged(0, 1),
    OffTarget(D(1), D(2)),
    PendingFills(D(1)),
    PositionMismatch(D(0), D(1), True),
    OwnOrderUnknown(REPORT),
    ForeignOrder(REPORT),
    OrderMissing("x"),
    OrderRevived(REPORT),
    MissingFills("x"),
    TargetMissing(D(1)),
    SettingsChanged(SET, SET),
    SettingsUnread("x"),
    CashMismatch(D(1), D(2)),
    ForcedFill(Cause.ADL, fill("1", "1")),
)


@pytest.mark.parametrize("before", list(IntentState))
def test_an_id_that_is_taken_makes_an_order_unknown_and_never_rejected(before: IntentState) -> None:
    order = TrackedOrder("x", SYMBOL, IntentKind.MARKET, Role.ENTRY, Side.BUY, D(1), False, before)
    taken = Definitive(Certainty.REJECTED, code="1", category=Category.DUPLICATE)
    expected = IntentState.UNKNOWN if before is IntentState.INTENT else before
    assert advance(order, taken).state is expected


def test_every_degradation_by_a_finding_can_end() -> None:
    given = {
        reaction.reason
        for finding in FINDINGS
        for confirmed in (False, True)
        for reaction in react(finding, ForeignPolicy.REFUSE, confirmed)
        if isinstance(reaction, Degrade)
    }
    assert given == REASONS
    assert {type(finding) for finding in FINDINGS} == set(Finding.__args__)
