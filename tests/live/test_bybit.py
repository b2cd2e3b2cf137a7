"""The Bybit adapter against the exchange server: the real client, the real wire, real faults."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import traceback
from decimal import Decimal

import pytest

from live import crash
from live.types import (
    Absent,
    Ambiguous,
    Bracket,
    Category,
    Certainty,
    Configured,
    Definitive,
    FillKind,
    Flat,
    Found,
    Held,
    IntentKind,
    MarginMode,
    OrderStatus,
    PositionMode,
    Role,
    Side,
    Unavailable,
    Unknown,
    UnreadableError,
)
from live.venue import Venue
from live.venues.bybit import BybitVenue
from live.venues.codes import RefusedReadError
from tests.live.bybit_server import (
    HASTY,
    PATIENT,
    SYMBOL,
    around,
    ask_once,
    be_patient,
    connected,
    hurry,
    intent,
    run,
    unconnected,
)

NAME = "BTCUSDT"


def created(server) -> int:
    return len(server.requests("order/create"))


# Setting out ------------------------------------------------------------------------------------


def test_connecting_proves_the_account_and_sends_no_order():
    async def scenario(venue, server):
        assert isinstance(venue, Venue)
        account = await venue.account()
        assert account.account_id == server.account_id
        assert {"read", "trade"} <= account.permissions
        assert "withdraw" not in account.permissions
        assert account.margin_mode is MarginMode.ISOLATED
        assert account.position_mode is PositionMode.ONE_WAY
        assert not server.requests("order/*")

    run(scenario)


def test_nothing_is_sent_before_the_account_is_proven():
    async def whole():
        async with connected() as (_, server):
            venue = unconnected(server)
            outcome = await venue.submit(intent())
            assert isinstance(outcome, Definitive)
            assert outcome.kind is Certainty.NOT_SENT
            server.revoke_key()
            with pytest.raises(RefusedReadError) as refused:
                await venue.connect()
            assert refused.value.category is Category.AUTH
            outcome = await venue.submit(intent())
            assert isinstance(outcome, Definitive)
            assert outcome.kind is Certainty.NOT_SENT
            assert not server.requests("order/*")

    asyncio.run(whole())


def test_market_data_needs_no_keys():
    async def whole():
        async with connected() as (_, server):
            venue = unconnected(server, api_key="", api_secret="")
            await venue.connect()
            assert (await venue.instrument(SYMBOL)).venue_symbol == NAME
            assert (await venue.quote(SYMBOL)).mark > 0
            with pytest.raises(UnreadableError, match="API key"):
                await venue.balance()
            with pytest.raises(UnreadableError, match="API key"):
                await venue.account()
            await venue.close()

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"base_url": "https://api.bybit.com"}, "base_url"),
        ({"demo": False, "base_url": "https://api-demo.bybit.com"}, "base_url"),
        ({"stream_url": "wss://stream.bybit.com/v5/private"}, "stream_url"),
        ({"base_url": "https://api-demo.bybit.com.example.org"}, "base_url"),
        ({"stream_url": "ws://127.0.0.1:1/v5/private"}, "one is on this machine"),
    ],
)
def test_a_host_of_another_environment_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        BybitVenue("", "", clock=None, **given)


def test_the_demo_host_is_the_default_and_real_money_has_its_own():
    demo, real = BybitVenue("", "", clock=None), BybitVenue("", "", clock=None, demo=False)
    assert demo.hosts.rest == "https://api-demo.bybit.com"
    assert demo.hosts.stream == "wss://stream-demo.bybit.com/v5/private"
    assert real.hosts.rest == "https://api.bybit.com"
    assert real.hosts.stream == "wss://stream.bybit.com/v5/private"


@pytest.mark.parametrize(("fault", "code"), [("status", 404), ("reject", 10032)])
def test_a_demo_account_that_may_not_describe_its_key_is_named_by_the_key(fault, code):
    async def scenario(venue, server):
        server.faults.add("user/query-api", fault, None, code=code)
        account = await venue.account()
        assert account.account_id.startswith("key:")
        assert len(account.account_id) == 12
        assert account.permissions == frozenset()

    run(scenario)


# The market -------------------------------------------------------------------------------------


def test_the_symbol_is_read_with_its_filters_and_an_unknown_one_is_refused():
    async def scenario(venue, server):
        found = await venue.instrument("BTC/USDT")
        assert (found.tick, found.quantity_step) == (Decimal("0.1"), Decimal("0.001"))
        assert found.taker_fee == Decimal("0.00055")
        with pytest.raises(ValueError, match="not listed"):
            await venue.instrument("NOSUCHUSDT")
        server.engine.close_market(NAME)
        with pytest.raises(ValueError, match="does not trade"):
            await venue.instrument(SYMBOL)

    run(scenario)


def test_only_closed_bars_are_returned_by_the_venue_s_time():
    async def scenario(venue, server):
        bars = await venue.closed_bars(SYMBOL, "5Minute", 7)
        now = await venue.server_time()
        assert bars.frame == "5Minute"
        assert bars.ohlcv.shape == (7, 5)
        assert bars.open_time_ms[-1] == now // 300_000 * 300_000 - 300_000
        server.advance(300_000 - now % 300_000 - 1)
        same = await venue.closed_bars(SYMBOL, "5Minute", 7)
        assert same.open_time_ms.tolist() == bars.open_time_ms.tolist()
        server.advance(1)
        later = await venue.closed_bars(SYMBOL, "5Minute", 7)
        assert later.open_time_ms[-1] == bars.open_time_ms[-1] + 300_000

    run(scenario)


def test_many_bars_come_in_pages_without_a_seam():
    async def scenario(venue, server):
        bars = await venue.closed_bars(SYMBOL, "1Minute", 2345)
        assert len(bars.open_time_ms) == 2345
        assert set((bars.open_time_ms[1:] - bars.open_time_ms[:-1]).tolist()) == {60_000}
        assert len(server.requests("market/kline")) == 3

    run(scenario, history=3000)


def test_a_young_symbol_has_fewer_bars():
    async def scenario(venue, server):
        bars = await venue.closed_bars(SYMBOL, "1Minute", 500)
        assert 0 < len(bars.open_time_ms) <= 101

    run(scenario, history=100)


def test_a_hole_is_looked_at_twice_and_then_unreadable():
    async def scenario(venue, server):
        server.faults.add("market/kline", "missing_bar", row=3)
        bars = await venue.closed_bars(SYMBOL, "1Minute", 10)
        assert set((bars.open_time_ms[1:] - bars.open_time_ms[:-1]).tolist()) == {60_000}
        server.faults.add("market/kline", "missing_bar", row=3)
        server.faults.add(
            "market/kline", "mutate_field", None, skip=1, path="result.list", value=[]
        )
        with pytest.raises(UnreadableError, match="no bar at"):
            await venue.closed_bars(SYMBOL, "1Minute", 10)

    run(scenario)


def test_a_repeated_bar_is_one_bar():
    async def scenario(venue, server):
        server.faults.add("market/kline", "repeat_bar", row=2)
        bars = await venue.closed_bars(SYMBOL, "1Minute", 10)
        assert len(set(bars.open_time_ms.tolist())) == 10

    run(scenario)


def test_a_time_frame_that_the_venue_lacks_is_refused():
    async def scenario(venue, server):
        with pytest.raises(ValueError, match="7Minute"):
            await venue.closed_bars(SYMBOL, "7Minute", 10)
        assert not server.requests("market/kline")

    run(scenario)


# Orders -----------------------------------------------------------------------------------------


def test_an_order_opens_a_reduction_closes():
    async def scenario(venue, server):
        assert isinstance(await venue.position(SYMBOL), Flat)
        buy = intent()
        outcome = await venue.submit(buy)
        assert isinstance(outcome, Definitive)
        assert outcome.kind is Certainty.ACCEPTED
        assert outcome.venue_order_id
        held = await venue.position(SYMBOL)
        assert isinstance(held, Held)
        assert held.quantity == Decimal("0.01") == server.engine.position(NAME)
        assert held.margin_mode is MarginMode.ISOLATED
        found = await venue.query(SYMBOL, buy.client_id)
        assert isinstance(found, Found)
        assert found.report.status is OrderStatus.FILLED
        assert found.report.role is Role.ENTRY
        # More than is held: reduce-only must not turn the position round.
        sell = intent(side=Side.SELL, role=Role.REDUCE, reduce_only=True, quantity=Decimal("0.5"))
        await venue.submit(sell)
        assert isinstance(await venue.position(SYMBOL), Flat)

    run(scenario)


def test_a_bracket_comes_with_the_entry_moves_and_goes():
    async def scenario(venue, server):
        mark = (await venue.quote(SYMBOL)).mark
        bracket = around(mark)
        outcome = await venue.submit(intent(IntentKind.BRACKET, bracket=bracket))
        assert isinstance(outcome, Definitive)
        held = await venue.position(SYMBOL)
        assert isinstance(held, Held)
        assert (held.stop_price, held.target_price) == dataclasses.astuple(bracket)
        legs = await venue.orders(SYMBOL)
        assert {order.role for order in legs} == {Role.STOP, Role.TARGET}
        assert all(order.reduce_only and order.side is Side.SELL for order in legs)

        moved = around(mark, "0.9", "1.1")
        assert await venue.amend_protection(SYMBOL, moved) == Definitive(Certainty.ACCEPTED)
        again = await venue.amend_protection(SYMBOL, moved)  # "not modified" is as asked
        assert isinstance(again, Definitive)
        assert again.kind is Certainty.ACCEPTED
        stop_only = Bracket(moved.stop_price, None)
        await venue.submit(intent(IntentKind.AMEND, role=Role.STOP, bracket=stop_only))
        held = await venue.position(SYMBOL)
        assert isinstance(held, Held)
        assert (held.stop_price, held.target_price) == (moved.stop_price, None)
        assert server.engine.bracket(NAME).stop_price == moved.stop_price

    run(scenario)


def test_a_conditional_order_is_listed_and_cancelled():
    async def scenario(venue, server):
        await venue.submit(intent())
        mark = (await venue.quote(SYMBOL)).mark
        stop = intent(
            IntentKind.STOP,
            role=Role.STOP,
            side=Side.SELL,
            reduce_only=True,
            trigger_price=around(mark).stop_price,
        )
        outcome = await venue.submit(stop)
        assert isinstance(outcome, Definitive), outcome
        assert outcome.kind is Certainty.ACCEPTED, outcome
        [listed] = [o for o in await venue.orders(SYMBOL) if o.client_id == stop.client_id]
        assert (listed.trigger_price, listed.side) == (stop.trigger_price, Side.SELL)
        outcome = await venue.cancel(SYMBOL, stop.client_id)
        assert isinstance(outcome, Definitive)
        assert outcome.kind is Certainty.ACCEPTED
        assert await venue.orders(SYMBOL) == ()
        gone = await venue.cancel(SYMBOL, stop.client_id)
        assert isinstance(gone, Definitive)
        assert (gone.kind, gone.category) == (Certainty.REJECTED, Category.NOT_FOUND)

    run(scenario)


def test_an_order_is_found_in_the_history_when_the_list_of_recent_ones_is_empty():
    async def scenario(venue, server):
        buy = intent()
        await venue.submit(buy)
        server.engine.forget_closed()
        found = await venue.query(SYMBOL, buy.client_id)
        assert isinstance(found, Found)
        assert found.report.status is OrderStatus.FILLED
        assert server.requests("order/history")

    run(scenario)


def test_absence_needs_every_list_and_silence_is_no_answer():
    async def scenario(venue, server):
        buy = intent()
        assert await venue.query(SYMBOL, "jtnever") == Absent("realtime+history+fills")
        await venue.submit(buy)
        empty = {"path": "result.list", "value": []}
        server.faults.add("order/realtime", "mutate_field", **empty)
        server.faults.add("order/history", "mutate_field", **empty)
        found = await venue.query(SYMBOL, buy.client_id)  # its fills prove it
        assert isinstance(found, Found)
        assert found.report.filled == buy.quantity
        assert not found.report.status.terminal
        ask_once(venue)
        for route in ("order/realtime", "order/history", "execution/list"):
            server.faults.add(route, "html_502", None)
            assert isinstance(await venue.query(SYMBOL, "jtnever"), Unavailable)
            server.faults.clear()

    run(scenario)


def test_fills_come_from_every_page_once_and_in_order():
    async def scenario(venue, server):
        since = server.engine.now_ms
        for _ in range(75):
            server.engine.manual_trade(NAME, Decimal("0.002"))
            server.engine.manual_trade(NAME, Decimal("-0.001"))
        server.engine.pay_funding(NAME, Decimal("0.0001"))
        fills = await venue.fills(SYMBOL, since)
        assert len({fill.trade_id for fill in fills}) == len(fills) == 151
        assert sum(fill.signed for fill in fills) == server.engine.position(NAME)
        assert [fill.kind for fill in fills].count(FillKind.FUNDING) == 1
        assert fills == sorted(fills, key=lambda fill: (fill.venue_time_ms, fill.trade_id))
        assert len(server.requests("execution/list")) == 2

    run(scenario)


def test_fills_of_many_weeks_are_asked_for_week_by_week():
    async def scenario(venue, server):
        since = server.engine.now_ms - 16 * 86_400_000
        server.engine.manual_trade(NAME, Decimal("0.002"))
        assert len(await venue.fills(SYMBOL, since)) == 1
        assert len(server.requests("execution/list")) == 3

    run(scenario)


def test_liquidation_is_a_kind_of_fill():
    async def scenario(venue, server):
        since = server.engine.now_ms
        await venue.submit(intent())
        server.engine.liquidate(NAME)
        kinds = [fill.kind for fill in await venue.fills(SYMBOL, since)]
        assert kinds == [FillKind.TRADE, FillKind.LIQUIDATION]
        assert isinstance(await venue.position(SYMBOL), Flat)

    run(scenario)


# What may have happened -------------------------------------------------------------------------

ARRIVED = [
    ("accept_then_drop", {}),
    ("accept_then_html_502", {}),
    ("accept_then_garbage", {}),
    ("accept_then_garbage", {"body": "[]"}),
    ("accept_then_garbage", {"body": "null"}),
    ("accept_then_garbage", {"body": "{}"}),
    ("accept_then_status", {"code": 200, "body": ""}),
    ("accept_then_status", {"code": 408}),
    ("accept_then_delay", {"seconds": 0.6}),
    ("reply_after", {"seconds": 0.6}),
    ("drop_field", {"path": "result.orderId"}),
    ("mutate_field", {"path": "result.orderId", "value": None}),
    ("mutate_field", {"path": "result.orderLinkId", "value": "another"}),
    ("mutate_field", {"path": "retCode", "value": None}),
    ("mutate_field", {"path": "retCode", "value": "0"}),
    ("mutate_field", {"path": "retCode", "value": 110072}),
    ("mutate_field", {"path": "retCode", "value": 10006}),
    ("mutate_field", {"path": "retCode", "value": 999_999}),
    ("drop_field", {"path": "result"}),
    ("drop_field", {"path": "time"}),
]
NOT_ARRIVED = [
    ("drop_before_accept", {}),
    ("html_502", {}),
    ("status", {"code": 503, "body": ""}),
    ("status", {"code": 307, "headers": {"Location": "/v5/order/create"}}),
    ("ban", {}),
    ("rate_limit", {}),
]


def fault_name(value) -> str:
    return "-".join(str(part) for part in value.values()) if isinstance(value, dict) else value


async def arrived(server, orders: int) -> None:
    """Wait until so many orders have reached the exchange."""
    end = asyncio.get_running_loop().time() + 15
    while created(server) < orders:
        assert asyncio.get_running_loop().time() < end, "it never arrived"
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(("fault", "given"), ARRIVED, ids=fault_name)
def test_an_order_whose_reply_is_lost_is_ambiguous_sent_once_and_found(fault, given):
    async def scenario(venue, server):
        buy = intent()
        await venue.submit(intent(side=Side.SELL))  # the first one warms the exchange up
        if "seconds" in given:
            hurry(venue, "order/create")
        server.faults.add("order/create", fault, **given)
        outcome = await venue.submit(buy)
        assert isinstance(outcome, Ambiguous), outcome
        await arrived(server, 2)  # a busy exchange may still have it before it
        assert created(server) == 2
        found = await venue.query(SYMBOL, buy.client_id)
        assert isinstance(found, Found)
        assert server.engine.position(NAME) == 0

    run(scenario)


@pytest.mark.parametrize(("fault", "given"), NOT_ARRIVED, ids=fault_name)
def test_an_order_that_may_not_have_arrived_is_ambiguous_sent_once_and_absent(fault, given):
    async def scenario(venue, server):
        buy = intent()
        server.faults.add("order/create", fault, **given)
        assert isinstance(await venue.submit(buy), Ambiguous)
        assert created(server) == 1
        assert await venue.query(SYMBOL, buy.client_id) == Absent("realtime+history+fills")
        assert server.engine.position(NAME) == 0

    run(scenario)


def test_an_id_that_was_used_is_never_a_second_order():
    async def scenario(venue, server):
        buy = intent()
        await venue.submit(buy)
        assert isinstance(await venue.submit(buy), Ambiguous)
        assert server.engine.position(NAME) == buy.quantity

    run(scenario)


def test_cancels_and_amendments_can_be_ambiguous_too():
    async def scenario(venue, server):
        await venue.submit(intent())
        mark = (await venue.quote(SYMBOL)).mark
        server.faults.add("position/trading-stop", "accept_then_drop")
        assert isinstance(await venue.amend_protection(SYMBOL, around(mark)), Ambiguous)
        assert len(server.requests("position/trading-stop")) == 1
        server.faults.add("order/cancel", "accept_then_html_502")
        assert isinstance(await venue.cancel(SYMBOL, "jtx"), Ambiguous)
        assert len(server.requests("order/cancel")) == 1

    run(scenario)


def test_a_refused_connection_has_certainly_sent_nothing():
    async def whole():
        async with connected() as (venue, server):
            pass
        venue = unconnected(server)
        async with connected() as (_, other):
            venue = unconnected(other)
            await venue.connect()
            await venue.instrument(SYMBOL)
            # The account is known; now the venue is gone.
            ask_once(venue)
            for session in (venue._client._reading, venue._client._changing):
                session.endpoint = server.url
            outcome = await venue.submit(intent())
            assert isinstance(outcome, Definitive)
            assert outcome.kind is Certainty.NOT_SENT
            with pytest.raises(UnreadableError, match="ConnectionError"):
                await venue.position(SYMBOL)
            await venue.close()
            assert not other.requests("order/create")

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("change", "category"),
    [
        ({"quantity": Decimal("0.0015")}, Category.PRECISION),
        ({"quantity": Decimal(0)}, Category.PRECISION),
        ({"quantity": Decimal("NaN")}, Category.PRECISION),
        ({"quantity": Decimal(501)}, Category.RISK),
        ({"client_id": ""}, Category.OTHER),
        ({"client_id": "x" * 37}, Category.OTHER),
        ({"kind": IntentKind.BRACKET}, Category.OTHER),
        (
            {"kind": IntentKind.BRACKET, "bracket": Bracket(Decimal("1.23"), None)},
            Category.PRECISION,
        ),
        ({"kind": IntentKind.STOP}, Category.OTHER),
        ({"symbol": "ETHUSDT"}, Category.OTHER),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_refused_here_and_not_sent(change, category):
    async def scenario(venue, server):
        outcome = await venue.submit(intent(**change))
        assert isinstance(outcome, Definitive)
        assert (outcome.kind, outcome.category) == (Certainty.NOT_SENT, category)
        assert not created(server)

    run(scenario)


def test_a_refusal_has_its_code_and_category():
    async def scenario(venue, server):
        server.faults.add("order/create", "reject", code=110007, message="no money")
        outcome = await venue.submit(intent())
        assert outcome == Definitive(
            Certainty.REJECTED, code="110007", category=Category.MARGIN, detail="no money"
        )
        assert created(server) == 1
        server.faults.add("order/create", "reject", code=10002, message="late")
        outcome = await venue.submit(intent())
        assert isinstance(outcome, Definitive)
        assert outcome.category is Category.CLOCK
        assert created(server) == 2

    run(scenario)


def test_every_kind_of_request_passes_points_at_which_the_process_may_die():
    names = {
        f"bybit.{word}.{when}" for word in ("submit", "cancel") for when in ("before", "after")
    }
    assert names <= set(crash.names())


# Reads ------------------------------------------------------------------------------------------


def test_a_read_is_repeated_until_it_succeeds():
    async def scenario(venue, server):
        for fault, given in (
            ("html_502", {}),
            ("drop_before_accept", {}),
            ("accept_then_garbage", {}),
            ("reject", {"code": 10016}),
            ("drop_field", {"path": "time"}),
        ):
            before = len(server.requests("position/list"))
            server.faults.add("position/list", fault, **given)
            assert isinstance(await venue.position(SYMBOL), Flat)
            assert len(server.requests("position/list")) == before + 2

    run(scenario)


class LongPauses(random.Random):
    """Draws the longest pause that may be."""

    def uniform(self, a, b):
        return b


def test_a_read_gives_up_inside_its_deadline():
    async def scenario(venue, server):
        # Pauses of 0.25, 0.5 and 1 s, of which the third has no place in the deadline.
        be_patient(venue, dataclasses.replace(PATIENT, read_deadline=1.7))
        venue._client._jitter = LongPauses()
        before = len(server.requests("position/list"))
        server.faults.add("position/list", "html_502", None)
        with pytest.raises(UnreadableError, match="502"):
            await venue.position(SYMBOL)
        assert len(server.requests("position/list")) == before + 3
        server.faults.clear()
        be_patient(venue, HASTY)
        server.faults.add("position/list", "delay_before", None, seconds=5)
        with pytest.raises(UnreadableError):
            await venue.position(SYMBOL)

    run(scenario)


@pytest.mark.parametrize("code", [10003, 10004, 10005, 10010, 33004])
def test_a_read_that_the_key_may_not_do_is_asked_once(code):
    async def scenario(venue, server):
        server.faults.add("position/list", "reject", None, code=code)
        before = len(server.requests("position/list"))
        with pytest.raises(RefusedReadError) as refused:
            await venue.position(SYMBOL)
        assert refused.value.category is Category.AUTH
        assert len(server.requests("position/list")) == before + 1

    run(scenario)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("result.list.0.size", "x"),
        ("result.list.0.side", "Long"),
        ("result.list.0.side", ""),
        ("result.list.0.symbol", "ETHUSDT"),
        ("result.list.0.leverage", ""),
        ("result.list", []),
    ],
)
def test_a_position_that_makes_no_sense_is_unknown(path, value):
    async def scenario(venue, server):
        await venue.submit(intent())
        server.faults.add("position/list", "mutate_field", path=path, value=value)
        assert isinstance(await venue.position(SYMBOL), Unknown)

    run(scenario)


def test_a_listing_with_an_order_that_cannot_be_read_is_no_listing():
    async def scenario(venue, server):
        mark = (await venue.quote(SYMBOL)).mark
        await venue.submit(intent(IntentKind.BRACKET, bracket=around(mark)))
        server.faults.add(
            "order/realtime", "mutate_field", None, path="result.list.0.side", value="?"
        )
        with pytest.raises(UnreadableError, match="'side'"):
            await venue.orders(SYMBOL)

    run(scenario)


def test_too_many_requests_are_waited_for():
    async def scenario(venue, server):
        server.faults.add("position/list", "rate_limit", reset_ms=200)
        assert isinstance(await venue.position(SYMBOL), Flat)

    run(scenario)


def test_a_ban_stops_entries_and_leaves_exits():
    async def scenario(venue, server):
        await venue.submit(intent())
        server.faults.add("market/tickers", "ban")
        with pytest.raises(RefusedReadError) as refused:
            await venue.quote(SYMBOL)
        assert refused.value.category is Category.THROTTLED
        sent = created(server)
        outcome = await venue.submit(intent())
        assert isinstance(outcome, Definitive)
        assert (outcome.kind, outcome.category) == (Certainty.NOT_SENT, Category.THROTTLED)
        assert created(server) == sent
        out = intent(side=Side.SELL, role=Role.FLATTEN, reduce_only=True)
        await venue.submit(out)
        assert isinstance(await venue.position(SYMBOL), Flat)

    run(scenario)


# Settings ---------------------------------------------------------------------------------------

ONE_WAY, HEDGE = PositionMode.ONE_WAY, PositionMode.HEDGE
ISOLATED, CROSS = MarginMode.ISOLATED, MarginMode.CROSS


def test_settings_are_set_and_read_back():
    async def scenario(venue, server):
        wanted = Configured(Decimal(7), ISOLATED, ONE_WAY)
        assert await venue.configure(SYMBOL, Decimal(7), ISOLATED, ONE_WAY) == wanted
        sent = len(server.requests("position/set-leverage"))
        assert await venue.configure(SYMBOL, Decimal(7), ISOLATED, ONE_WAY) == wanted
        assert len(server.requests("position/set-leverage")) == sent  # already as asked

    run(scenario)


def test_leverage_that_the_venue_silently_keeps_is_refused():
    async def scenario(venue, server):
        server.engine.keep_leverage(True)
        with pytest.raises(ValueError, match="leverage"):
            await venue.configure(SYMBOL, Decimal(9), ISOLATED, ONE_WAY)

    run(scenario)


def test_the_margin_mode_of_the_account_is_only_compared_unless_it_may_be_changed():
    async def scenario(venue, server):
        with pytest.raises(ValueError, match="configure_account"):
            await venue.configure(SYMBOL, Decimal(1), CROSS, ONE_WAY)
        assert not server.requests("account/set-margin-mode")
        await venue.submit(intent())
        with pytest.raises(ValueError, match="positions or orders"):
            await venue.configure(SYMBOL, Decimal(1), CROSS, ONE_WAY, account_wide=True)
        assert not server.requests("account/set-margin-mode")
        await venue.submit(intent(side=Side.SELL, reduce_only=True))
        found = await venue.configure(SYMBOL, Decimal(1), CROSS, ONE_WAY, account_wide=True)
        assert found.margin_mode is CROSS

    run(scenario)


def test_both_sides_of_a_hedge_are_two_legs():
    async def scenario(venue, server):
        found = await venue.configure(SYMBOL, Decimal(5), ISOLATED, HEDGE)
        assert found.position_mode is HEDGE
        await venue.submit(intent(side=Side.SELL))
        held = await venue.position(SYMBOL)
        assert isinstance(held, Held)
        assert held.quantity == Decimal("-0.01")
        mark = (await venue.quote(SYMBOL)).mark
        short = around(mark, "1.05", "0.95")
        assert await venue.amend_protection(SYMBOL, short) == Definitive(Certainty.ACCEPTED)
        await venue.submit(intent(side=Side.BUY))  # opens the other side
        assert isinstance(await venue.position(SYMBOL), Unknown)
        outcome = await venue.amend_protection(SYMBOL, short)
        assert isinstance(outcome, Definitive)
        assert outcome.kind is Certainty.NOT_SENT
        await venue.submit(intent(side=Side.SELL, reduce_only=True))
        await venue.submit(intent(side=Side.BUY, reduce_only=True))
        assert isinstance(await venue.position(SYMBOL), Flat)

    run(scenario)


# Secrets ----------------------------------------------------------------------------------------


def test_no_error_event_or_representation_contains_a_key(caplog):
    caplog.set_level("DEBUG")

    async def scenario(venue, server):
        texts = [repr(venue), repr(venue._client), repr(venue._stream), str(venue.__dict__)]
        told = f"error sign! origin_string[{server.api_key}5000{server.api_secret}]"
        server.faults.add("order/create", "reject", code=10004, message=told)
        server.faults.add("position/trading-stop", "reject", code=31337, message=told)
        server.faults.add("position/list", "reject", None, code=10004, message=told)
        ask_once(venue)
        server.faults.add("account/wallet-balance", "accept_then_garbage", None, body=told)
        server.faults.add("market/tickers", "mutate_field", None, path="result.list", value=told)
        texts += [repr(await venue.submit(intent()))]
        texts += [repr(await venue.amend_protection(SYMBOL, around(Decimal(50_000))))]
        for read in (venue.position(SYMBOL), venue.balance(), venue.quote(SYMBOL)):
            try:
                await read
            except UnreadableError as error:
                texts += [repr(error), "".join(traceback.format_exception(error))]
        assert len(texts) == 12
        assert any("***" in text for text in texts)
        for text in [*texts, caplog.text]:
            assert server.api_key not in text
            assert server.api_secret not in text

    run(scenario)
