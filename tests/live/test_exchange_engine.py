"""The exchange's own core: prices, ledger, triggers, liquidation."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.exchange.book import OrderKind, OrderRequest, Refusal, RefusedError
from live.exchange.opening import default_instrument, open_engine
from live.exchange.prices import NEVER_MS
from live.types import Bracket, FillKind, MarginMode, OrderStatus, PositionMode, Side

D = Decimal
MINUTE = 60_000
SYMBOL = "BTCUSDT"


def frame_of(bars):
    """Minute bars of rows (open, high, low, close)."""
    columns = np.array(bars, float).T
    times = pd.date_range("2024-01-01", periods=len(bars), freq="1min", tz="UTC")
    names = ("open", "high", "low", "close")
    return pd.DataFrame(
        {"timestamp": times, **dict(zip(names, columns, strict=True)), "volume": 1.0}
    )


def engine_of(*bars, **arguments):
    flat = (100.0, 100.0, 100.0, 100.0)
    return open_engine(frame_of([flat, *bars, flat]), history=0, **arguments)


def buy(engine, quantity, **fields):
    return engine.submit(OrderRequest(SYMBOL, Side.BUY, D(quantity), **fields))


def sell(engine, quantity, **fields):
    return engine.submit(OrderRequest(SYMBOL, Side.SELL, D(quantity), **fields))


def refusal(call, *arguments, **fields):
    with pytest.raises(RefusedError) as error:
        call(*arguments, **fields)
    return error.value.reason


def check_books(engine):
    """What holds after anything that happened."""
    account = engine.account
    booked = account.initial + account.realised - account.fees - account.funding
    assert account.wallet == booked + account.deposits + account.insurance
    trades = engine.executions(SYMBOL)
    assert sum((e.signed for e in trades), start=D(0)) == engine.position(SYMBOL)
    paid = sum((e.signed * e.price for e in trades), start=D(0))
    fees = sum((e.fee for e in trades), start=D(0))
    value = engine.position(SYMBOL) * engine.mark(SYMBOL)
    assert engine.equity() == account.initial + account.insurance - paid - fees + value


# Prices -------------------------------------------------------------------------------------------


def test_mark_visits_the_extremes_of_a_bar_and_jumps_to_the_next_open():
    engine = engine_of((100, 106, 94, 104))
    path, start = engine.paths[SYMBOL], engine.now_ms + MINUTE
    at = [path.mark(start + ms) for ms in (0, 15_000, 30_000, 45_000, 59_999, 60_000)]
    assert at == [100, 94, 100, 106, 104, 100]
    assert not path.jumps_at(start + 1) and path.jumps_at(start + MINUTE)


def test_live_bar_grows_into_the_closed_one():
    engine = engine_of((100, 106, 94, 104))
    path, start = engine.paths[SYMBOL], engine.now_ms + MINUTE
    live = path.candles(1, start, start, start + 20_000)[0]
    assert (live.low, live.high, live.closed) == (94, 100, False)
    closed = path.candles(1, start, start, start + MINUTE)[0]
    assert (closed.open, closed.high, closed.low, closed.close) == (100, 106, 94, 104)
    assert closed.closed and closed.volume == 1
    both = path.candles(2, 0, start + MINUTE, start + MINUTE)
    assert [(c.open_ms, c.high, c.volume, c.closed) for c in both] == [
        (start - MINUTE, 106, 2.0, True),
        (start + MINUTE, 100, 0.0, False),
    ]


# Orders -------------------------------------------------------------------------------------------


def test_market_order_pays_the_half_spread_and_the_fee():
    engine = engine_of(half_spread=D("0.001"))
    order = buy(engine, "2")
    assert (order.status, order.average_price) == (OrderStatus.FILLED, D("100.1"))
    assert order.fee == D("2") * D("100.1") * D("0.00055")
    sell(engine, "2")
    assert engine.executions()[-1].price == D("99.9")
    assert engine.account.realised == D("-0.4")
    check_books(engine)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"quantity": D("0.0015")}, Refusal.QUANTITY_STEP),
        ({"quantity": D("nan")}, Refusal.QUANTITY_STEP),
        ({"quantity": D("501")}, Refusal.MAXIMUM_QUANTITY),
        ({"quantity": D("0.049")}, Refusal.MINIMUM_NOTIONAL),
        ({"quantity": D("500")}, None),
        ({"stop_price": D("90.05")}, Refusal.PRICE_TICK),
        ({"stop_price": D("100")}, Refusal.WRONG_SIDE),
        ({"target_price": D("100")}, Refusal.WRONG_SIDE),
        ({"reduce_only": True}, Refusal.REDUCE_ONLY),
        ({"index": 1}, Refusal.POSITION_INDEX),
        ({"symbol": "ETHUSDT"}, Refusal.SYMBOL),
        ({"client_id": "seen"}, Refusal.DUPLICATE),
        ({"quantity": D("110")}, None),
    ],
)
def test_filters(fields, reason):
    engine = engine_of(initial_balance=D(1_000_000))
    buy(engine, "0.1", client_id="seen")
    fields = {"symbol": SYMBOL, "side": Side.BUY, "quantity": D(1), **fields}
    before = len(engine.orders())
    if reason is None:
        assert engine.submit(OrderRequest(**fields)).status is OrderStatus.FILLED
    else:
        assert refusal(engine.submit, OrderRequest(**fields)) is reason
        assert len(engine.orders()) == before


def test_margin_pays_for_the_opening_part_only():
    engine = engine_of(initial_balance=D(100))
    assert refusal(buy, engine, "10") is Refusal.MARGIN  # 100 of margin and no fee left
    buy(engine, "9")
    assert refusal(buy, engine, "1") is Refusal.MARGIN
    sell(engine, "18")  # closes 9, opens 9
    assert engine.position(SYMBOL) == -9
    check_books(engine)


def test_closing_in_thirds_loses_nothing():
    engine = engine_of((100, 107, 93, 101), (103, 111, 97, 107))
    buy(engine, "1")
    for signed in ("1", "1", "-1", "-1", "0.7", "-1.4"):
        engine.advance(16_000)
        engine.manual_trade(SYMBOL, D(signed))
        check_books(engine)
    assert engine.position(SYMBOL) == D("0.3")


def test_reducing_orders_are_cut_to_the_position():
    engine = engine_of()
    buy(engine, "1")
    order = sell(engine, "3", reduce_only=True)
    assert (order.quantity, order.status) == (1, OrderStatus.FILLED)
    assert engine.position(SYMBOL) == 0


def test_partial_fill_cancels_the_rest_and_protects_what_filled():
    engine = engine_of()
    engine.plan_fills("0.3", "0.2")
    order = buy(engine, "1", stop_price=D(90))
    assert (order.status, order.filled) == (OrderStatus.CANCELLED, D("0.5"))
    assert [e.quantity for e in engine.executions()] == [D("0.3"), D("0.2")]
    assert engine.protection((SYMBOL, 0))[OrderKind.STOP_LOSS].quantity == D("0.5")
    assert buy(engine, "1").status is OrderStatus.FILLED


def test_the_rest_of_a_partial_fill_may_stay_open():
    engine = engine_of((100, 110, 100, 110))
    engine.plan_fills("0.3", rest="live")
    order = buy(engine, "1", client_id="slow", stop_price=D(90))
    assert (order.status, order.filled) == (OrderStatus.PARTIALLY_FILLED, D("0.3"))
    assert engine.protection((SYMBOL, 0))[OrderKind.STOP_LOSS].quantity == D("0.3")
    engine.advance(90_000)  # nothing comes of itself
    assert engine.position(SYMBOL) == D("0.3")
    (order,) = engine.trade_rest(SYMBOL, "0.5")
    assert (order.status, order.filled) == (OrderStatus.PARTIALLY_FILLED, D("0.65"))
    assert engine.executions()[-1].price == engine.mark(SYMBOL) == 105
    (order,) = engine.trade_rest(SYMBOL)
    assert (order.status, order.filled) == (OrderStatus.FILLED, 1)
    assert engine.protection((SYMBOL, 0))[OrderKind.STOP_LOSS].quantity == 1
    assert engine.trade_rest(SYMBOL) == []
    # Only the one order was meant.
    assert sell(engine, "0.5").status is OrderStatus.FILLED
    check_books(engine)


def test_an_open_rest_can_be_taken_back():
    engine = engine_of()
    for cancel in (
        lambda: engine.cancel_rest(SYMBOL),
        lambda: [engine.cancel(SYMBOL, client_id=f"slow{engine.position(SYMBOL)}")],
    ):
        engine.plan_fills("0.3", rest="live")
        held = engine.position(SYMBOL)
        buy(engine, "1", client_id=f"slow{held + D('0.3')}")
        (order,) = cancel()
        assert (order.status, order.filled) == (OrderStatus.CANCELLED, D("0.3"))
        assert engine.position(SYMBOL) == held + D("0.3")
    # A reducing rest ends with the position.
    engine.plan_fills("0.5", rest="live")
    sell(engine, "0.6", reduce_only=True)
    sell(engine, "0.3")
    (order,) = engine.trade_rest(SYMBOL)
    assert (order.status, order.filled) == (OrderStatus.CANCELLED, D("0.3"))
    assert engine.position(SYMBOL) == 0
    check_books(engine)


def test_held_back_orders_trade_later_or_are_cancelled():
    engine = engine_of((100, 110, 100, 110))
    engine.hold_fills(90_000)
    assert buy(engine, "1", client_id="late", stop_price=D(90)).status is OrderStatus.OPEN
    buy(engine, "2", client_id="gone")
    engine.advance(60_000)
    assert engine.position(SYMBOL) == 0
    engine.cancel(SYMBOL, client_id="gone")
    engine.advance(60_000)
    (fill,) = engine.executions()
    assert (fill.client_id, fill.price) == ("late", 105)
    assert engine.bracket(SYMBOL).stop_price == 90
    check_books(engine)


def test_hedge_mode_keeps_two_positions():
    engine = engine_of(position_mode=PositionMode.HEDGE)
    buy(engine, "2", index=1)
    sell(engine, "1", index=2)
    assert engine.position(SYMBOL) == 1
    assert refusal(sell, engine, "3", index=1) is Refusal.REDUCE_ONLY
    sell(engine, "2", index=1)
    assert engine.holding(SYMBOL, 1) is None and engine.position(SYMBOL) == -1
    check_books(engine)


# Protection ---------------------------------------------------------------------------------------


def test_stop_fires_at_its_price_and_takes_the_target_with_it():
    engine = engine_of((100, 101, 95, 101), half_spread=D("0.001"))
    buy(engine, "1", stop_price=D(96), target_price=D(110))
    engine.advance(2 * MINUTE)
    fill = engine.executions()[-1]
    assert fill.price == D("95.9")  # the stop, less the half spread, in ticks
    assert fill.time_ms == engine.paths[SYMBOL].series.open_ms[1] + 11_850
    assert fill.order_kind is OrderKind.STOP_LOSS
    kinds = {o.kind: o.status for o in engine.orders() if o.kind.protective}
    assert kinds == {
        OrderKind.STOP_LOSS: OrderStatus.FILLED,
        OrderKind.TAKE_PROFIT: OrderStatus.CANCELLED,
    }
    check_books(engine)


def test_a_gap_fills_at_the_open():
    engine = engine_of((95, 99, 94, 95))
    buy(engine, "1", stop_price=D(96))
    engine.advance(2 * MINUTE)
    assert engine.executions()[-1].price == 95


def test_the_nearer_level_comes_first():
    engine = engine_of((100, 101, 80, 81))  # up first: the close is below the open
    sell(engine, "1", stop_price=D("100.5"), target_price=D(90))
    engine.advance(2 * MINUTE)
    assert engine.executions()[-1].order_kind is OrderKind.STOP_LOSS


def test_levels_passed_in_one_millisecond_come_in_the_order_of_their_prices():
    low = (50_000, 50_000, 20_000, 30_000)
    engine = engine_of((50_000,) * 4, low, initial_balance=D(100_000))
    engine.advance(MINUTE)
    buy(engine, "1", stop_price=D("48999.6"))
    fields = {"kind": OrderKind.TRIGGER, "trigger_price": D("48999.8"), "reduce_only": True}
    sell(engine, "0.4", **fields)
    engine.advance(2 * MINUTE)
    fills = engine.executions()[1:]
    assert [fill.price for fill in fills] == [D("48999.8"), D("48999.6")]
    assert fills[0].time_ms == fills[1].time_ms


def test_protection_follows_the_position():
    engine = engine_of()
    buy(engine, "1", stop_price=D(90), target_price=D(120))
    buy(engine, "2")
    legs = engine.protection((SYMBOL, 0))
    assert [leg.quantity for leg in legs.values()] == [3, 3]
    sell(engine, "4", stop_price=D(110))
    assert engine.position(SYMBOL) == -1
    assert engine.bracket(SYMBOL) == Bracket(D(110), None)
    sell_side = engine.protection((SYMBOL, 0))[OrderKind.STOP_LOSS]
    assert (sell_side.side, sell_side.quantity) == (Side.BUY, 1)


def test_protection_can_be_moved_removed_and_refused():
    engine = engine_of()
    change = Bracket(D(95), D(105))
    assert refusal(engine.set_protection, SYMBOL, 0, change=change) is Refusal.NO_POSITION
    buy(engine, "1")
    engine.set_protection(SYMBOL, 0, change=change)
    assert refusal(engine.set_protection, SYMBOL, 0, change=change) is Refusal.PROTECTION_SAME
    engine.set_protection(SYMBOL, 0, change=Bracket(D(96), None))
    assert engine.bracket(SYMBOL) == Bracket(D(96), D(105))
    engine.set_protection(SYMBOL, 0, change=Bracket(None, None), remove=(OrderKind.TAKE_PROFIT,))
    assert engine.bracket(SYMBOL) == Bracket(D(96), None)
    engine.reject_stops()
    change = Bracket(D(97), None)
    assert refusal(engine.set_protection, SYMBOL, 0, change=change) is Refusal.PROTECTION


def test_times_without_a_stop_are_kept():
    engine = engine_of()
    buy(engine, "1", stop_price=D(90))
    assert engine.protection_gaps() == []
    engine.advance(1000)
    began = engine.now_ms
    engine.cancel_stop(SYMBOL)
    engine.advance(500)
    sell(engine, "1")
    (gap,) = engine.protection_gaps()
    assert (gap.start_ms, gap.end_ms) == (began, began + 500)
    engine.reject_stops()
    buy(engine, "1", stop_price=D(90))
    assert engine.protection_gaps()[-1].end_ms is None


def test_conditional_order_waits_and_can_be_amended_and_cancelled():
    engine = engine_of((100, 100, 90, 95))
    fields = {"kind": OrderKind.TRIGGER, "trigger_price": D(80), "reduce_only": True}
    buy(engine, "1")
    sell(engine, "0.5", client_id="half", **fields)
    assert engine.protection_gaps()[-1].end_ms is None
    engine.cancel(SYMBOL, client_id="half")
    order = sell(engine, "1", client_id="stop", **fields)
    assert order.status is OrderStatus.OPEN and engine.protection_gaps()[-1].end_ms is not None
    assert refusal(sell, engine, "1", **{**fields, "trigger_price": D(100)}) is Refusal.WRONG_SIDE
    engine.amend(SYMBOL, client_id="stop", trigger_price=D(92))
    engine.advance(2 * MINUTE)
    assert engine.executions()[-1].price == 92
    assert refusal(engine.cancel, SYMBOL, client_id="stop") is Refusal.NOT_FOUND


# Margin -------------------------------------------------------------------------------------------


def test_isolated_liquidation_never_costs_more_than_the_margin():
    engine = engine_of((80, 80, 80, 80), initial_balance=D(1000))
    buy(engine, "10")
    margin, fee = D(100), D(10) * 100 * D("0.00055")
    engine.advance(2 * MINUTE)  # a gap far beyond the bankruptcy price
    fill = engine.executions()[-1]
    assert fill.kind is FillKind.LIQUIDATION
    assert fill.price == D("90.1")  # bankruptcy 90 / (1 - fee), in ticks, for the account
    assert 0 <= engine.account.wallet - (1000 - fee - margin) < D(10) * D("0.1")
    check_books(engine)


def test_isolated_liquidation_at_its_level():
    engine = engine_of((100, 100, 85, 85))
    buy(engine, "1")
    engine.advance(2 * MINUTE)
    assert engine.executions()[-1].price == D("90.5")  # 100 * (1 - 1/10 + 0.005)


def test_cross_liquidation_takes_the_whole_balance_into_account():
    cross = {"margin_mode": MarginMode.CROSS, "initial_balance": D(200)}
    engine = engine_of((100, 100, 85, 100), **cross)
    buy(engine, "10")
    engine.advance(2 * MINUTE)
    assert engine.position(SYMBOL) == 10
    engine = engine_of((100, 100, 70, 100), **cross)
    buy(engine, "10")
    level = engine.cross_level(SYMBOL)
    # 200 - fee + 10 (level - 100) = maintenance of 5
    assert level == D("80.6")
    engine.advance(2 * MINUTE)
    assert engine.executions()[-1].price == level
    assert engine.position(SYMBOL) == 0 and engine.account.wallet > 0
    check_books(engine)


def test_what_cross_cannot_pay_is_insured():
    engine = engine_of((50, 50, 50, 50), margin_mode=MarginMode.CROSS, initial_balance=D(200))
    buy(engine, "10")
    engine.advance(2 * MINUTE)
    assert engine.account.wallet == 0 and engine.account.insurance > 0
    check_books(engine)


def test_leverage_changes_margin_and_may_be_refused():
    engine = engine_of(initial_balance=D(100))
    buy(engine, "9")
    assert refusal(engine.set_leverage, SYMBOL, D(5), D(5)) is Refusal.MARGIN
    assert refusal(engine.set_leverage, SYMBOL, D(10), D(10)) is Refusal.LEVERAGE_SAME
    assert refusal(engine.set_leverage, SYMBOL, D(101), D(101)) is Refusal.LEVERAGE_RANGE
    free = engine.available()
    engine.set_leverage(SYMBOL, D(20), D(20))
    assert engine.available() - free == D(45)
    engine.keep_leverage()
    engine.set_leverage(SYMBOL, D(30), D(30))
    assert engine.settings[SYMBOL].long_leverage == 20
    assert refusal(engine.set_margin_mode, MarginMode.CROSS) is Refusal.MODE_IN_USE
    assert refusal(engine.set_margin_mode, MarginMode.ISOLATED) is Refusal.MARGIN_MODE_SAME


def test_funding_is_paid_every_eight_hours_by_longs():
    bars = [(100, 100, 100, 100)] * 500
    engine = engine_of(*bars, funding_rate=D("0.001"))
    buy(engine, "1")
    engine.advance(8 * 60 * MINUTE - 1)
    assert engine.account.funding == 0
    engine.advance(1)
    assert engine.account.funding == D("0.1")
    engine.advance(10 * MINUTE)
    assert engine.executions()[-1].kind is FillKind.FUNDING
    assert engine.executions()[-1].signed == 0
    assert engine.account.funding == D("0.1")
    check_books(engine)


def test_funding_of_the_bars_is_paid_on_the_close_of_each():
    frame = frame_of([(100, 100, 100, 100), (100, 108, 92, 105), (106, 106, 106, 106)])
    frame["funding"] = [0.0, 0.001, -0.002]
    engine = open_engine(frame, history=0, funding_rate=D("0.5"))
    sell(engine, "2", stop_price=D(200))
    funding = engine.funding[SYMBOL]
    assert funding.following(engine.now_ms) == engine.now_ms + 2 * MINUTE - 1
    engine.advance(2 * MINUTE - 2)
    assert engine.account.funding == 0
    engine.advance(1)
    assert engine.account.funding == D("-0.21")  # shorts receive it, on 105
    engine.advance(MINUTE)
    assert engine.account.funding == D("-0.21") + D("0.424")
    assert funding.following(engine.now_ms) == NEVER_MS
    engine.advance(100 * MINUTE)
    assert [e.kind for e in engine.executions()][1:] == [FillKind.FUNDING] * 2
    check_books(engine)


def test_interventions():
    engine = engine_of()
    engine.manual_trade(SYMBOL, D(-4))
    engine.deleverage(SYMBOL, D("0.5"))
    assert engine.position(SYMBOL) == -2
    engine.liquidate(SYMBOL)
    kinds = [e.kind for e in engine.executions()]
    assert kinds == [FillKind.TRADE, FillKind.ADL, FillKind.LIQUIDATION]
    engine.change_filters(SYMBOL, quantity_step=D(1))
    assert refusal(buy, engine, "1.5") is Refusal.QUANTITY_STEP
    buy(engine, "1")
    engine.delist(SYMBOL, engine.now_ms + MINUTE)
    assert refusal(buy, engine, "1") is Refusal.ONLY_REDUCING
    sell(engine, "1", reduce_only=True)
    engine.close_market(SYMBOL)
    assert refusal(buy, engine, "1") is Refusal.HALTED
    with pytest.raises(ValueError, match="filters"):
        engine.change_filters(SYMBOL, tik=D(1))
    check_books(engine)


# Properties ---------------------------------------------------------------------------------------

ACTIONS = st.one_of(
    st.tuples(st.just("trade"), st.integers(-30_000, 30_000)),
    st.tuples(st.just("protect"), st.integers(1, 50)),
    st.tuples(st.just("wait"), st.integers(1, 400_000)),
    st.tuples(st.just("manual"), st.integers(-5_000, 5_000)),
)
NOISE = open_engine(seed=3, history=0).paths[SYMBOL].series


def noisy_engine(**arguments):
    """Prices of about 100 that move by some percent a minute."""
    bars = (NOISE.ohlcv[:400, :4] / NOISE.ohlcv[0, 0]) ** 20 * 100
    return open_engine(frame_of(bars), history=0, **arguments)


def act(engine, kind, size):
    if kind == "wait":
        engine.advance(size)
        return
    step = D("0.001")
    try:
        if kind == "protect":
            mark = engine.mark(SYMBOL)
            side = 1 if engine.position(SYMBOL) > 0 else -1
            distance = side * D(size) * D("0.1")
            engine.set_protection(SYMBOL, 0, change=Bracket(mark - distance, mark + distance))
        elif size:
            engine.manual_trade(SYMBOL, size * step)
    except RefusedError:
        pass


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=25), st.sampled_from(list(MarginMode)[:2]))
def test_books_balance_whatever_happens(actions, mode):
    engine = noisy_engine(
        margin_mode=mode, initial_balance=D(500), half_spread=D("0.0005"), funding_rate=D("0.001")
    )
    for kind, size in actions:
        act(engine, kind, size)
        check_books(engine)
        assert engine.account.wallet >= 0
        legs = engine.protection((SYMBOL, 0)).values()
        assert all(leg.quantity == abs(engine.position(SYMBOL)) for leg in legs)


@settings(max_examples=25, deadline=None)
@given(st.lists(ACTIONS, max_size=12), st.lists(st.integers(1, 7_777), min_size=1, max_size=5))
def test_time_may_be_cut_in_any_way(actions, cuts):
    whole, parts = noisy_engine(), noisy_engine()
    for kind, size in actions:
        act(whole, kind, size)
        if kind != "wait":
            act(parts, kind, size)
            continue
        for number in range(10_000):
            if not size:
                break
            cut = min(cuts[number % len(cuts)] * 10, size)
            parts.advance(cut)
            size -= cut
    assert parts.executions() == whole.executions()
    assert parts.now_ms == whole.now_ms


def test_instrument_filters_are_whole_ticks():
    free = replace(default_instrument(), tick=D(0))
    with pytest.raises(ValueError, match="tick"):
        open_engine(None, (free,))
