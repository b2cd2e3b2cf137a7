"""What Bybit's replies say, with every field of each dropped, nulled and changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.types import (
    Balance,
    Fill,
    FillKind,
    Flat,
    Held,
    Instrument,
    MarginMode,
    OrderReport,
    OrderStatus,
    PositionMode,
    Quote,
    Role,
    Side,
    Unknown,
    UnreadableError,
)
from live.venue import EventKind
from live.venues import bybit_market as market
from live.venues import bybit_orders as orders
from live.venues import bybit_parse as parse
from live.venues.fields import Fields, exact
from live.venues.symbols import joined, usdt_perpetual
from tests.live import bybit_replies as replies

SYMBOL = "BTCUSDT"
WRONG: tuple[Any, ...] = (
    *(None, "", " ", "x", "NaN", "Infinity", "-1", "1e999", "0x10", "1_0", "0", "\u0661"),
    *(1.5, -1, 0, True, False, [], {}, ["x"], {"a": 1}),
)


def _position(raw: Any) -> Any:
    return parse.position(
        parse.envelope(raw, "position"), SYMBOL, MarginMode.ISOLATED, Decimal("0.001")
    )


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict | list):
        for key, item in items:
            if isinstance(item, dict | list):
                yield from _paths(item, (*path, key))
            else:
                yield (*path, key)


def _damaged(reply: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The reply with one field dropped, nulled or changed, for every field and change."""
    for path in _paths(reply):
        for wrong in ("drop", *WRONG):
            broken = copy.deepcopy(reply)
            place = broken
            for key in path[:-1]:
                place = place[key]
            if wrong == "drop":
                del place[path[-1]]
            else:
                place[path[-1]] = copy.deepcopy(wrong)
            yield f"{path}={wrong!r}", broken


def _survivors(reply: dict[str, Any], read: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    """What is read from the damaged replies; only `UnreadableError` may be raised."""
    for name, broken in _damaged(reply):
        try:
            value = read(broken)
        except UnreadableError:
            continue
        yield name, value


# Position ---------------------------------------------------------------------------------------


def test_a_held_position_is_read_exactly():
    assert _position(replies.POSITION) == Held(
        quantity=Decimal("0.01"),
        entry_price=Decimal(50000),
        mark_price=Decimal(50010),
        unrealised_pnl=Decimal("0.1"),
        leverage=Decimal(10),
        margin_mode=MarginMode.ISOLATED,
        liquidation_price=Decimal("45200.5"),
        venue_time_ms=replies.TIME,
        stop_price=Decimal(48000),
        target_price=Decimal(53000),
        residue=False,
    )


def test_damage_never_makes_a_position_flat_nor_turns_it_round():
    for side, sign in (("Buy", 1), ("Sell", -1)):
        reply = replies.listed(replies.LEG | {"side": side})
        kinds = set()
        for name, found in _survivors(reply, _position):
            assert isinstance(found, Held | Unknown), name
            if isinstance(found, Held):
                assert found.quantity == sign * Decimal("0.01"), name
            else:
                assert found.reason, name
            kinds.add(type(found))
        assert kinds == {Held, Unknown}


@pytest.mark.parametrize(
    "field",
    ["symbol", "positionIdx", "side", "size", "avgPrice", "markPrice", "leverage", "unrealisedPnl"],
)
def test_an_unknown_position_names_the_field(field):
    for row in ({k: v for k, v in replies.LEG.items() if k != field}, replies.LEG | {field: None}):
        found = _position(replies.listed(row))
        assert isinstance(found, Unknown)
        assert repr(field) in found.reason


def test_damage_never_makes_a_flat_position_held():
    for name, found in _survivors(replies.FLAT, _position):
        assert isinstance(found, Flat | Unknown), name


@pytest.mark.parametrize(
    "field", ["liqPrice", "takeProfit", "stopLoss", "positionStatus", "riskId"]
)
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_an_optional_field_never_spoils_the_position(field, wrong):
    found = _position(replies.listed(replies.LEG | {field: wrong}))
    assert isinstance(found, Held)
    assert found.quantity == Decimal("0.01")


@pytest.mark.parametrize("text", ["", "0", "0.00"])
def test_a_leg_that_is_not_set_is_none(text):
    found = _position(replies.listed(replies.LEG | {"stopLoss": text, "takeProfit": text}))
    assert isinstance(found, Held)
    assert found.stop_price is None
    assert found.target_price is None


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [replies.LEG, replies.LEG],
        [replies.LEG | {"symbol": "ETHUSDT"}],
        [replies.LEG | {"side": "buy"}],
        [replies.LEG | {"side": ""}],
        [replies.LEG | {"side": "None"}],
        [replies.LEG | {"size": "0"}],
        [replies.LEG | {"size": 0.01}],
        [replies.LEG | {"positionIdx": 1}],
        [replies.LEG | {"positionIdx": 1}, replies.LEG | {"positionIdx": 2, "side": "Sell"}],
        [replies.NO_LEG | {"positionIdx": 1}],
        [replies.NO_LEG | {"positionIdx": 1, "side": "Sell", "size": "1"}],
        [replies.NO_LEG | {"positionIdx": 1}, replies.LEG | {"positionIdx": 2}],
        [replies.NO_LEG | {"size": "-0.1"}],
        [replies.NO_LEG | {"size": 0}],
    ],
)
def test_what_is_not_one_literal_position_is_unknown(rows):
    assert isinstance(_position(replies.listed(*rows)), Unknown)


@pytest.mark.parametrize("side", ["", "None"])
def test_only_a_literal_zero_without_a_side_is_flat(side):
    assert isinstance(_position(replies.listed(replies.NO_LEG | {"side": side})), Flat)


def test_dust_is_flat_and_less_than_an_order_is_a_residue():
    dust = replies.listed(replies.LEG | {"size": "0.0000000005"})
    assert isinstance(_position(dust), Flat)
    residue = _position(replies.listed(replies.LEG | {"size": "0.0004"}))
    assert isinstance(residue, Held)
    assert residue.residue


def test_a_hedge_with_one_open_side_is_held_and_with_none_is_flat():
    none = [replies.NO_LEG | {"positionIdx": index} for index in (1, 2)]
    short = replies.LEG | {"positionIdx": 2, "side": "Sell"}
    found = _position(replies.listed(none[0], short))
    assert isinstance(found, Held)
    assert found.quantity == Decimal("-0.01")
    assert isinstance(_position(replies.listed(*none)), Flat)
    rows = parse.legs(parse.envelope(replies.listed(*none), "position"), SYMBOL)
    assert parse.position_mode(rows) is PositionMode.HEDGE


@pytest.mark.parametrize("code", [110001, "0", None, False, 0.0, -1])
def test_a_reply_is_read_only_if_its_code_is_literally_zero(code):
    with pytest.raises(UnreadableError, match="retCode"):
        _position(replies.FLAT | {"retCode": code})


@pytest.mark.parametrize("raw", [None, [], "OK", 0, {}, {"retCode": 0}])
def test_what_is_no_reply_is_unreadable(raw):
    with pytest.raises(UnreadableError):
        _position(raw)


# Balance ----------------------------------------------------------------------------------------


def _balance(raw: Any) -> Balance:
    return parse.balance(parse.envelope(raw, "wallet"))


def _wallet(coin: dict[str, Any], **account: Any) -> dict[str, Any]:
    raw = copy.deepcopy(replies.WALLET)
    raw["result"]["list"][0] |= {"coin": [replies.COIN | coin], **account}
    return raw


def test_a_damaged_balance_is_unreadable_or_keeps_its_equity():
    good = _balance(replies.WALLET)
    for name, found in _survivors(replies.WALLET, _balance):
        assert found.equity == good.equity or "'equity'" in name, name
        assert found.available.is_finite(), name
        assert 0 <= found.available <= good.available, name


def test_equity_is_that_of_the_coin_with_its_open_profit():
    found = _balance(_wallet({"equity": "9000.5"}, totalEquity="50000"))
    assert found.equity == Decimal("9000.5")


def test_available_is_the_lesser_of_coin_and_account():
    cross = _balance(_wallet({"totalPositionIM": "300", "locked": "5"}, totalAvailableBalance="8"))
    assert cross.available == 8
    rich = _balance(_wallet({"totalPositionIM": "300"}, totalAvailableBalance="90000"))
    assert rich.available == 9700


@pytest.mark.parametrize("blank", ["", None])
def test_with_isolated_margin_an_open_profit_is_not_available(blank):
    coin = {"equity": "12000", "walletBalance": "10000", "totalPositionIM": "400"}
    found = _balance(_wallet(coin, totalAvailableBalance=blank, totalMaintenanceMargin=blank))
    assert found.available == 9600
    assert found.equity == 12000
    assert found.maintenance_margin is None


@pytest.mark.parametrize(
    "field", ["totalPositionIM", "totalOrderIM", "locked", "walletBalance", "totalAvailableBalance"]
)
@pytest.mark.parametrize("silent", [False, True], ids=["told", "silent"])
def test_what_is_available_is_not_guessed_from_a_field_that_is_missing(field, silent):
    raw = _wallet({}, **({"totalAvailableBalance": ""} if silent else {}))
    account = raw["result"]["list"][0]
    row = account if field in account else account["coin"][0]
    del row[field]
    if field == "walletBalance" and not silent:  # equity is what counts there
        assert _balance(raw).available == 10_000
        return
    with pytest.raises(UnreadableError, match=field if field != "totalAvailableBalance" else "."):
        _balance(raw)


@pytest.mark.parametrize("field", ["totalPositionIM", "totalOrderIM"])
def test_margins_of_the_coin_may_be_blank_only_where_the_account_says_what_is_free(field):
    assert _balance(_wallet({field: ""}, totalAvailableBalance="70")).available == 70
    with pytest.raises(UnreadableError, match=field):
        _balance(_wallet({field: ""}, totalAvailableBalance=""))


def test_other_coins_never_count():
    raw = copy.deepcopy(replies.WALLET)
    raw["result"]["list"][0]["coin"].append(replies.COIN | {"coin": "BTC", "equity": "7"})
    assert _balance(raw).equity == 10_000


# Market -----------------------------------------------------------------------------------------


def _instrument(raw: Any) -> Instrument | None:
    return market.instrument(parse.envelope(raw, "instruments"), SYMBOL)


def test_an_instrument_is_read_exactly():
    found = _instrument(replies.INSTRUMENT)
    assert found is not None
    assert (found.symbol, found.venue_symbol) == ("BTC/USDT:USDT", "BTCUSDT")
    assert (found.tick, found.quantity_step) == (Decimal("0.10"), Decimal("0.001"))
    assert (found.min_quantity, found.max_market_quantity) == (Decimal("0.001"), Decimal(500))
    assert (found.min_notional, found.max_leverage) == (Decimal(5), Decimal(100))
    assert (found.status, found.delist_ms) == ("trading", None)


def test_a_damaged_instrument_is_unreadable_unlisted_or_has_usable_filters():
    for name, found in _survivors(replies.INSTRUMENT, _instrument):
        if found is None:
            assert "symbol" in name or "list" in name, name
            continue
        for value in (found.tick, found.quantity_step, found.min_quantity, found.max_leverage):
            assert value.is_finite(), name
            assert value > 0, name


def test_a_malformed_neighbour_does_not_hide_the_symbol():
    for neighbour in (None, [], {"symbol": None}, replies.INSTRUMENT_ROW | {"symbol": "ETHUSDT"}):
        raw = replies.listed(neighbour, replies.INSTRUMENT_ROW)
        found = _instrument(raw)
        assert found is not None
        assert found.venue_symbol == "BTCUSDT"


def test_a_delivery_time_is_when_trading_ends():
    row = replies.INSTRUMENT_ROW | {"deliveryTime": "1800000000000", "status": "Closed"}
    found = _instrument(replies.listed(row))
    assert found is not None
    assert (found.status, found.delist_ms) == ("closed", 1_800_000_000_000)


def _quote(raw: Any) -> Quote:
    return market.quote(parse.envelope(raw, "tickers"), SYMBOL)


def test_a_damaged_quote_is_unreadable_or_unchanged():
    good = _quote(replies.TICKER)
    assert (good.bid, good.ask, good.mark) == tuple(map(Decimal, ("49999.9", "50000.1", "50000.5")))
    for name, found in _survivors(replies.TICKER, _quote):
        assert found == good, name


def test_crossed_prices_are_unreadable():
    raw = copy.deepcopy(replies.TICKER)
    raw["result"]["list"][0]["bid1Price"] = "50000.2"
    with pytest.raises(UnreadableError, match="bid1Price"):
        _quote(raw)


def _candles(raw: Any) -> list[market.Candle]:
    return market.candles(parse.envelope(raw, "kline"), SYMBOL, 60_000)


def test_bars_come_out_ascending_whatever_order_they_came_in():
    rows = market.merge(_candles(replies.KLINE), "kline")
    bars = market.bars(rows, "1Minute")
    assert bars.open_time_ms.tolist() == [1700000040000, 1700000100000]
    assert bars.ohlcv.tolist() == [[1, 2, 1, 2, 10], [2, 3, 1, 2.5, 10]]
    assert bars.open_time_ms.dtype == "int64"
    assert bars.ohlcv.dtype == "float64"


def test_a_damaged_bar_spoils_the_reply_or_keeps_its_shape():
    for name, found in _survivors(replies.KLINE, _candles):
        for start, (first, high, low, last, volume) in found:
            assert start % 60_000 == 0, name
            assert 0 < low <= min(first, last) <= max(first, last) <= high, name
            assert volume >= 0, name


def test_two_versions_of_one_bar_are_unreadable_and_a_repeat_is_not():
    row = _candles(replies.KLINE)[0]
    assert len(market.merge([row, row], "kline")) == 1
    other = (row[0], (Decimal(9), *row[1][1:]))
    with pytest.raises(UnreadableError, match="two different rows"):
        market.merge([row, other], "kline")


def test_holes_are_found():
    assert market.hole([0, 60_000, 120_000], 60_000) is None
    assert market.hole([], 60_000) is None
    assert market.hole([0, 180_000, 300_000], 60_000) == (60_000, 240_000)


def test_rates_of_the_account():
    fee = replies.listed({"symbol": SYMBOL, "takerFeeRate": "0.0006", "makerFeeRate": "0.0001"})
    assert market.taker_fee(parse.envelope(fee, "fee"), SYMBOL) == Decimal("0.0006")
    tiers = replies.listed(
        {"symbol": SYMBOL, "riskLimitValue": "4000000", "maintenanceMargin": "0.01"},
        {"symbol": SYMBOL, "riskLimitValue": "2000000", "maintenanceMargin": "0.005"},
        {"symbol": "ETHUSDT", "riskLimitValue": "1", "maintenanceMargin": "0.001"},
    )
    assert market.maintenance_rate(parse.envelope(tiers, "risk"), SYMBOL) == Decimal("0.005")
    for raw in (fee, tiers):
        read = market.taker_fee if raw is fee else market.maintenance_rate
        for name, found in _survivors(
            raw, lambda r, read=read: read(parse.envelope(r, "x"), SYMBOL)
        ):
            assert 0 <= found < 1, name


def test_the_venue_time_comes_from_its_nanoseconds():
    raw = replies.reply({"timeSecond": "1700000000", "timeNano": "1700000000123456789"})
    assert parse.server_time(parse.envelope(raw, "time")) == 1_700_000_000_123
    for wrong in ("0", "x", None, "1700000000"):
        raw["result"]["timeNano"] = wrong
        with pytest.raises(UnreadableError, match="timeNano"):
            parse.server_time(parse.envelope(raw, "time"))


# Account ----------------------------------------------------------------------------------------


def test_permissions_are_words():
    account_id, words = parse.permissions(parse.envelope(replies.KEY, "key"))
    assert account_id == "24617703"
    assert words == {"read", "trade", "ip_list", "ContractTrade.Order", "ContractTrade.Position"}


@pytest.mark.parametrize(
    ("change", "present", "missing"),
    [
        ({"readOnly": 1}, set(), {"trade"}),
        ({"ips": ["*"]}, set(), {"ip_list"}),
        ({"permissions": {"Wallet": ["AccountTransfer", "Withdraw"]}}, {"withdraw"}, {"trade"}),
    ],
)
def test_permissions_that_matter(change, present, missing):
    raw = copy.deepcopy(replies.KEY)
    raw["result"] |= change
    _, words = parse.permissions(parse.envelope(raw, "key"))
    assert present <= words
    assert not missing & words


def test_damaged_permissions_never_hide_the_account():
    for name, (account_id, words) in _survivors(
        replies.KEY, lambda raw: parse.permissions(parse.envelope(raw, "key"))
    ):
        assert account_id == "24617703" or "userID" in name, name
        assert "PUBLIC-MARKER" not in str(words), name


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("ISOLATED_MARGIN", MarginMode.ISOLATED),
        ("REGULAR_MARGIN", MarginMode.CROSS),
        ("PORTFOLIO_MARGIN", MarginMode.UNKNOWN),
        ("isolated", MarginMode.UNKNOWN),
        ("NEW_MARGIN", MarginMode.UNKNOWN),
    ],
)
def test_margin_modes(word, mode):
    raw = replies.reply({"marginMode": word})
    assert parse.margin_mode(parse.envelope(raw, "account")) is mode


# Orders and fills -------------------------------------------------------------------------------


def _order(raw: Any) -> OrderReport:
    return orders.order(Fields.of(raw, "bybit order"), SYMBOL)


def test_an_order_is_read_exactly():
    found = _order(replies.ORDER)
    assert (found.client_id, found.venue_order_id) == (
        replies.ORDER["orderLinkId"],
        replies.ORDER["orderId"],
    )
    assert (found.role, found.side, found.status) == (Role.ENTRY, Side.BUY, OrderStatus.FILLED)
    assert (found.quantity, found.filled) == (Decimal("0.01"), Decimal("0.01"))
    assert (found.average_price, found.trigger_price) == (Decimal(50000), None)


def test_a_damaged_order_keeps_its_side_its_size_and_never_ends():
    raw = replies.ORDER | {"orderStatus": "New", "cumExecQty": "0"}
    good = _order(raw)
    for name, found in _survivors(raw, _order):
        assert found.side is good.side, name
        assert not found.status.terminal, name
        assert found.quantity == good.quantity or "'qty'" in name, name
        assert found.client_id == good.client_id or "orderLinkId" in name, name


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("New", OrderStatus.OPEN),
        ("Untriggered", OrderStatus.OPEN),
        ("Triggered", OrderStatus.TRIGGERED),
        ("PartiallyFilled", OrderStatus.PARTIALLY_FILLED),
        ("Cancelled", OrderStatus.CANCELLED),
        ("PartiallyFilledCanceled", OrderStatus.CANCELLED),
        ("Deactivated", OrderStatus.CANCELLED),
        ("Rejected", OrderStatus.REJECTED),
        ("filled", OrderStatus.UNRECOGNISED),
        ("Frozen", OrderStatus.UNRECOGNISED),
    ],
)
def test_order_words(word, status):
    assert _order(replies.ORDER | {"orderStatus": word}).status is status


@pytest.mark.parametrize(
    ("word", "role"),
    [("StopLoss", Role.STOP), ("PartialTakeProfit", Role.TARGET), ("UNKNOWN", None), ("", None)],
)
def test_a_leg_of_the_position_is_known_by_its_kind(word, role):
    row = replies.ORDER | {"orderLinkId": "", "stopOrderType": word, "triggerPrice": "48000"}
    found = _order(row)
    assert found.role is role
    assert found.trigger_price == 48_000


def _fill(raw: Any) -> Fill:
    return orders.fill(Fields.of(raw, "bybit fill"), SYMBOL)


def test_a_damaged_fill_keeps_its_side_and_size():
    good = _fill(replies.EXECUTION)
    assert good.signed == Decimal("-0.01")
    for name, found in _survivors(replies.EXECUTION, _fill):
        assert found.side is good.side, name
        assert found.quantity == good.quantity or "execQty" in name, name
        assert found.kind is FillKind.TRADE, name


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("Trade", FillKind.TRADE),
        ("BustTrade", FillKind.LIQUIDATION),
        ("AdlTrade", FillKind.ADL),
        ("Settle", FillKind.SETTLEMENT),
    ],
)
def test_fill_words(word, kind):
    assert _fill(replies.EXECUTION | {"execType": word}).kind is kind


def test_funding_moves_cash_and_no_position():
    found = _fill(replies.EXECUTION | {"execType": "Funding", "execFee": "-0.02"})
    assert (found.kind, found.quantity, found.fee) == (FillKind.FUNDING, 0, Decimal("-0.02"))


def test_a_kind_of_fill_that_is_not_known_is_unreadable():
    with pytest.raises(UnreadableError, match="execType"):
        _fill(replies.EXECUTION | {"execType": "Gift"})


def test_fills_prove_an_order_and_never_its_end():
    fills = (_fill(replies.EXECUTION), _fill(replies.EXECUTION | {"execPrice": "50002"}))
    found = orders.order_of_fills("my-id-1", fills)
    assert (found.filled, found.average_price) == (Decimal("0.02"), Decimal(50001))
    assert not found.status.terminal


# Lists ------------------------------------------------------------------------------------------


def test_a_list_is_read_item_by_item_and_complete_or_not_at_all():
    rows = [replies.ORDER, None, replies.ORDER | {"side": "?"}, replies.ORDER]
    parsed = parse.each(rows, "bybit orders", orders.order)
    assert len(parsed.items) == 2
    assert len(parsed.faults) == 2
    assert "'side'" in parsed.faults[1]
    with pytest.raises(UnreadableError, match=r"orders \[1\]"):
        parsed.all()


# Pushes -----------------------------------------------------------------------------------------


def _push(topic: str, *rows: Any) -> dict[str, Any]:
    return {"id": "1", "topic": topic, "creationTime": replies.TIME, "data": list(rows)}


def test_pushes_become_events():
    linear = {"category": "linear"}
    [event] = orders.pushed(_push("order", replies.ORDER | linear))
    assert (event.kind, event.symbol) == (EventKind.ORDER, "BTC/USDT:USDT")
    assert event.order == _order(replies.ORDER)
    [event] = orders.pushed(_push("execution", replies.EXECUTION | linear))
    assert event.fill == _fill(replies.EXECUTION)
    [event] = orders.pushed(_push("position", {"symbol": SYMBOL, "category": "linear"}))
    assert (event.kind, event.symbol) == (EventKind.POSITION, "BTC/USDT:USDT")
    [event] = orders.pushed(_push("wallet", {"coin": []}))
    assert event.kind is EventKind.BALANCE


def test_other_products_and_topics_say_nothing():
    assert orders.pushed(_push("order", replies.ORDER | {"category": "spot"})) == ()
    perp = replies.ORDER | {"category": "linear", "symbol": "BTCPERP"}
    assert orders.pushed(_push("order", perp)) == ()
    assert orders.pushed({"op": "pong"}) == ()
    assert orders.pushed({"topic": ["order"], "data": []}) == ()


def test_one_bad_item_does_not_hide_its_neighbours():
    good = replies.EXECUTION | {"category": "linear"}
    events = orders.pushed(_push("execution", good, 7, good | {"execQty": "NaN"}, good))
    assert [event.kind for event in events] == [
        EventKind.FILL,
        EventKind.MALFORMED,
        EventKind.MALFORMED,
        EventKind.FILL,
    ]
    assert "execQty" in events[2].detail


def test_damaged_pushes_never_raise():
    message = _push("execution", replies.EXECUTION | {"category": "linear"})
    for name, broken in _damaged(message):
        for event in orders.pushed(broken):
            assert event.kind in (EventKind.FILL, EventKind.MALFORMED), name


# Fields and symbols -----------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9))
def test_numbers_stay_exact(value):
    text = f"{value:f}"
    if len(text.split(".")[-1]) <= 40:
        assert exact(text) == value


@pytest.mark.parametrize(
    "text", ["NaN", "inf", "1e999", "", " 1", "1 ", "1_0", "\u0663", "0x1", "--1"]
)
def test_what_is_no_number_is_none(text):
    assert exact(text) is None


@settings(max_examples=100, deadline=None)
@given(base=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=15))
def test_every_spelling_of_a_symbol_is_one_symbol_and_comes_back(base):
    spellings = (f"{base}USDT", f"{base}/USDT", f"{base}/USDT:USDT", f"{base}usdt", f" {base}USDT ")
    assert {usdt_perpetual(text) for text in spellings} == {f"{base}/USDT:USDT"}
    assert {joined(text) for text in spellings} == {f"{base}USDT"}
    assert usdt_perpetual(joined(f"{base}USDT")) == f"{base}/USDT:USDT"


@pytest.mark.parametrize(
    "text", ["", "BTC", "BTCUSD", "BTC/USDC", "BTC-USDT", "BTCPERP", "USDT", "/USDT"]
)
def test_other_symbols_are_refused(text):
    with pytest.raises(ValueError, match="perpetual"):
        usdt_perpetual(text)
