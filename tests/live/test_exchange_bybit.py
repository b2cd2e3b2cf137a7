"""The Bybit face of the local exchange, driven by the unmodified pybit client."""

import asyncio
import contextlib
import itertools
import json
import queue
import subprocess
import sys
import time
from decimal import Decimal

import aiohttp
import pytest
import requests
from pybit.exceptions import FailedRequestError, InvalidRequestError
from pybit.unified_trading import HTTP

from jaxtrade.market import synthetic
from live.exchange.bybit_access import sign
from live.exchange.cli import exchange
from live.exchange.server import ExchangeServer

D = Decimal
MINUTE = 60_000
LINEAR = {"category": "linear", "symbol": "BTCUSDT"}
COUNTER = itertools.count()


@pytest.fixture(scope="module")
def shared():
    """One server for everything that leaves no fault behind."""
    server = ExchangeServer(history=3000, rate_limits=False)
    with server.threaded():
        yield server


def client_of(server, **arguments):
    options = {"timeout": 5, "max_retries": 1, "retry_codes": {-1}, "testnet": False}
    keys = {"api_key": server.api_key, "api_secret": server.api_secret}
    client = HTTP(**{**options, **keys, **arguments})
    client.endpoint = server.url
    return client


@pytest.fixture
def server(shared):
    yield shared
    shared.faults.clear()
    shared.clock_offset(0)
    quantity = shared.engine.position("BTCUSDT")
    if quantity:
        shared.engine.manual_trade("BTCUSDT", -quantity)


@pytest.fixture
def client(server):
    return client_of(server)


def new_id():
    return f"id-{next(COUNTER)}"


def order_of(**fields):
    order = {"side": "Buy", "orderType": "Market", "qty": "0.01", "orderLinkId": new_id()}
    return {**LINEAR, **order, **fields}


def code_of(call, *arguments, **fields):
    with pytest.raises(InvalidRequestError) as error:
        call(*arguments, **fields)
    return error.value.status_code


def rows(reply):
    return reply["result"]["list"]


# Reading ------------------------------------------------------------------------------------------


def test_public_data_without_a_key(server):
    public = client_of(server, api_key=None, api_secret=None)
    stamp = public.get_server_time()
    assert int(stamp["result"]["timeNano"]) == server.engine.now_ms * 10**6
    (info,) = rows(public.get_instruments_info(**LINEAR))
    assert info["lotSizeFilter"]["qtyStep"] == "0.001" and info["status"] == "Trading"
    (ticker,) = rows(public.get_tickers(**LINEAR))
    assert D(ticker["bid1Price"]) < D(ticker["markPrice"]) < D(ticker["ask1Price"])
    assert D(ticker["markPrice"]) == server.engine.mark("BTCUSDT")
    assert code_of(public.get_tickers, category="linear", symbol="XUSDT") == 10001


def test_bars_come_newest_first_with_a_live_one(server, client):
    server.advance(20_000)
    now, length = server.engine.now_ms, 5 * MINUTE
    bars = rows(client.get_kline(**LINEAR, interval="5", limit=100))
    opens = [int(bar[0]) for bar in bars]
    assert opens == [now // length * length - length * back for back in range(100)]
    assert all(D(bar[3]) <= min(D(bar[1]), D(bar[4])) for bar in bars)
    oldest = rows(client.get_kline(**LINEAR, interval="5", start=opens[50], limit=3))
    assert [int(bar[0]) for bar in oldest] == opens[48:51]
    middle = rows(client.get_kline(**LINEAR, interval="5", start=opens[50], end=opens[40]))
    assert [int(bar[0]) for bar in middle] == opens[40:51]
    marks = rows(client.get_mark_price_kline(**LINEAR, interval="5", limit=2))
    assert [len(bar) for bar in marks] == [5, 5]
    assert code_of(client.get_kline, **LINEAR, interval="7") == 10001


def test_account_reads(server, client):
    (account,) = rows(client.get_wallet_balance(accountType="UNIFIED", coin="USDT"))
    assert account["totalAvailableBalance"] == ""  # isolated accounts leave it blank
    assert D(account["coin"][0]["equity"]) == server.engine.equity()
    assert client.get_account_info()["result"]["marginMode"] == "ISOLATED_MARGIN"
    assert rows(client.get_fee_rates(**LINEAR))[0]["takerFeeRate"] == "0.00055"
    key = client.get_api_key_information()["result"]
    assert str(key["userID"]) == server.account_id
    assert key["permissions"]["ContractTrade"] == ["Order", "Position"]


# Orders -------------------------------------------------------------------------------------------


def test_order_round_trip(server, client):
    (flat,) = rows(client.get_positions(**LINEAR))
    assert (flat["side"], flat["size"]) == ("", "0")
    order = order_of(stopLoss="40000", takeProfit="90000", tpslMode="Full", slTriggerBy="MarkPrice")
    reply = client.place_order(**order)["result"]
    assert reply["orderLinkId"] == order["orderLinkId"]
    (row,) = rows(client.get_open_orders(**LINEAR, orderLinkId=order["orderLinkId"]))
    assert (row["orderStatus"], row["cumExecQty"]) == ("Filled", "0.01")
    assert row["orderId"] == reply["orderId"]
    (fill,) = rows(client.get_executions(**LINEAR, orderLinkId=order["orderLinkId"]))
    assert fill["execType"] == "Trade" and D(fill["execPrice"]) == D(row["avgPrice"])
    assert D(fill["execFee"]) == D(fill["execValue"]) * D("0.00055")
    (held,) = rows(client.get_positions(**LINEAR))
    assert (held["side"], held["size"], held["stopLoss"]) == ("Buy", "0.01", "40000")
    assert 0 < D(held["liqPrice"]) < D(held["avgPrice"])
    legs = rows(client.get_open_orders(category="linear", settleCoin="USDT"))
    assert {leg["stopOrderType"] for leg in legs} == {"StopLoss", "TakeProfit"}
    assert {leg["orderStatus"] for leg in legs} == {"Untriggered"}
    client.place_order(**order_of(side="Sell", qty="5", reduceOnly=True))
    assert rows(client.get_positions(category="linear", settleCoin="USDT")) == []
    (ended, *_) = rows(client.get_order_history(**LINEAR, orderFilter="StopOrder"))
    assert ended["orderStatus"] == "Deactivated"


def test_bracket_fires(server, client):
    mark = server.engine.mark("BTCUSDT")
    order = order_of(stopLoss=str(mark - 1), takeProfit=str(mark + 20_000))
    client.place_order(**order)
    server.advance(600 * MINUTE)
    (flat,) = rows(client.get_positions(**LINEAR))
    assert flat["size"] == "0"
    (fill, *_) = rows(client.get_executions(**LINEAR))
    assert fill["stopOrderType"] == "StopLoss" and fill["closedSize"] == "0.01"
    assert D(fill["execPrice"]) <= mark - 1


def test_protection_of_a_position(server, client):
    stop = {**LINEAR, "stopLoss": "40000", "tpslMode": "Full", "positionIdx": 0}
    assert code_of(client.set_trading_stop, **stop) == 10001
    client.place_order(**order_of())
    assert client.set_trading_stop(**stop)["result"] == {}
    assert code_of(client.set_trading_stop, **stop) == 34040
    client.set_trading_stop(**{**stop, "takeProfit": "90000"})
    client.set_trading_stop(**LINEAR, takeProfit="0")
    (held,) = rows(client.get_positions(**LINEAR))
    assert (held["stopLoss"], held["takeProfit"]) == ("40000", "")
    assert code_of(client.set_trading_stop, **LINEAR, stopLoss="90000") == 10001


def test_conditional_order_can_be_amended_and_cancelled(server, client):
    client.place_order(**order_of())
    link = new_id()
    waiting = order_of(side="Sell", triggerPrice="40000", triggerDirection=2, orderLinkId=link)
    client.place_order(**waiting, reduceOnly=True)
    client.amend_order(**LINEAR, orderLinkId=link, triggerPrice="39000")
    (row,) = rows(client.get_open_orders(**LINEAR, orderLinkId=link))
    assert (row["triggerPrice"], row["orderStatus"]) == ("39000", "Untriggered")
    client.cancel_order(**LINEAR, orderLinkId=link)
    assert code_of(client.cancel_order, **LINEAR, orderLinkId=link) == 110001
    client.place_order(**{**waiting, "orderLinkId": new_id()})
    assert len(rows(client.cancel_all_orders(**LINEAR))) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"qty": "0.0005"}, 10001),
        ({"qty": "0.0015"}, 10001),
        ({"qty": 0.00001}, 10001),  # goes out as 1e-05
        ({"qty": "501"}, 10001),
        ({"qty": "10"}, 110007),
        ({"side": "Sell", "reduceOnly": True}, 110017),
        ({"stopLoss": "40000.05"}, 10001),
        ({"stopLoss": "90000"}, 10001),
        ({"positionIdx": 1}, 10001),
        ({"orderLinkId": "x" * 37}, 10001),
        ({"symbol": "XUSDT"}, 10001),
        ({"side": "buy"}, 10001),
        ({"orderType": "Limit", "price": "1"}, 10001),
        ({"category": "spot"}, 10001),
    ],
)
def test_refused_orders(server, client, fields, code):
    before = len(server.engine.orders())
    assert code_of(client.place_order, **order_of(**fields)) == code
    assert len(server.engine.orders()) == before


def test_minimum_value_and_repeated_ids(server, client):
    server.engine.change_filters("BTCUSDT", min_notional=D(1000))
    assert code_of(client.place_order, **order_of(qty="0.001")) == 110094
    server.engine.change_filters("BTCUSDT", min_notional=D(5))
    order = order_of()
    client.place_order(**order)
    assert code_of(client.place_order, **order) == 110072
    assert server.engine.position("BTCUSDT") == D("0.01")


def test_a_restart_empties_the_realtime_list(server, client):
    order = order_of()
    client.place_order(**order)
    server.engine.forget_closed()
    link = {"orderLinkId": order["orderLinkId"]}
    assert rows(client.get_open_orders(**LINEAR, **link)) == []
    assert rows(client.get_order_history(**LINEAR, **link))[0]["orderStatus"] == "Filled"


def test_pages(server, client):
    start = server.engine.now_ms
    links = [new_id() for _ in range(5)]
    for link in links:
        client.place_order(**order_of(qty="0.001", orderLinkId=link))
    seen, cursor = [], None
    while cursor != "":
        reply = client.get_executions(**LINEAR, limit=2, startTime=start, cursor=cursor)
        seen += [row["orderLinkId"] for row in rows(reply)]
        cursor = reply["result"]["nextPageCursor"]
    assert seen[:5] == links[::-1]


def test_partial_fill(server, client):
    server.engine.plan_fills("0.4")
    order = order_of()
    client.place_order(**order)
    (row,) = rows(client.get_order_history(**LINEAR, orderLinkId=order["orderLinkId"]))
    assert (row["orderStatus"], row["cumExecQty"]) == ("PartiallyFilledCanceled", "0.004")


# Settings -----------------------------------------------------------------------------------------


def test_settings():
    server = ExchangeServer(history=10, rate_limits=False)
    with server.threaded():
        client = client_of(server)
        leverage = {"buyLeverage": "10", "sellLeverage": "10"}
        assert code_of(client.set_leverage, **LINEAR, **leverage) == 110043
        leverage = {"buyLeverage": "25", "sellLeverage": "25"}
        client.set_leverage(**LINEAR, **leverage)
        assert rows(client.get_positions(**LINEAR))[0]["leverage"] == "25"
        leverage = {"buyLeverage": "101", "sellLeverage": "101"}
        assert code_of(client.set_leverage, **LINEAR, **leverage) == 110013
        assert code_of(client.switch_position_mode, **LINEAR, mode=0) == 110025
        client.switch_position_mode(**LINEAR, mode=3)
        assert [row["positionIdx"] for row in rows(client.get_positions(**LINEAR))] == [1, 2]
        client.place_order(**order_of(positionIdx=1))
        assert code_of(client.switch_position_mode, **LINEAR, mode=0) == 110024
        assert code_of(client.set_margin_mode, setMarginMode="REGULAR_MARGIN") == 3400045
        client.place_order(**order_of(side="Sell", positionIdx=1))
        client.set_margin_mode(setMarginMode="REGULAR_MARGIN")
        (account,) = rows(client.get_wallet_balance(accountType="UNIFIED"))
        assert D(account["totalAvailableBalance"]) > 0
        isolated = {"tradeMode": 1, "buyLeverage": "25", "sellLeverage": "25"}
        assert code_of(client.switch_margin_mode, **LINEAR, **isolated) == 100028


# Access -------------------------------------------------------------------------------------------


def test_access(server, client):
    wrong = client_of(server, api_secret="wrong")
    assert code_of(wrong.get_account_info) == 10004
    assert code_of(wrong.place_order, **order_of()) == 10004
    assert code_of(client_of(server, api_key="other").get_account_info) == 10003
    server.clock_offset(10)
    assert code_of(client.get_account_info) == 10002
    server.clock_offset(-3)  # the request comes from the future
    assert code_of(client.get_account_info) == 10002
    server.clock_offset(3)
    client.get_account_info()
    server.clock_offset(0)
    server.set_permissions("Position")
    assert code_of(client.place_order, **order_of()) == 10005
    server.set_permissions("Order", "Position")
    assert server.engine.position("BTCUSDT") == 0


def test_revoked_key_and_rate_limit():
    server = ExchangeServer(history=10)
    with server.threaded():
        client = client_of(server, return_response_headers=True)
        leverage = {"buyLeverage": "101", "sellLeverage": "101"}
        codes = [code_of(client.set_leverage, **LINEAR, **leverage) for _ in range(12)]
        assert codes == [110013] * 10 + [10006] * 2
        _, _, headers = client.get_account_info()
        assert headers["X-Bapi-Limit"] == "50" and headers["X-Bapi-Limit-Status"] == "49"
        server.revoke_key()
        assert code_of(client.get_account_info) == 10003


# Faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "arguments", "expected", "arrived"),
    [
        ("accept_then_drop", {}, requests.exceptions.ConnectionError, True),
        ("accept_then_delay", {"seconds": 1.0}, requests.exceptions.ReadTimeout, True),
        ("accept_then_garbage", {}, FailedRequestError, True),
        ("accept_then_html_502", {}, FailedRequestError, True),
        ("accept_then_status", {"code": 504}, FailedRequestError, True),
        ("drop_before_accept", {}, requests.exceptions.ConnectionError, False),
        ("partition", {"seconds": 0.05}, requests.exceptions.ConnectionError, False),
        ("status", {"code": 429}, FailedRequestError, False),
        ("html_502", {}, FailedRequestError, False),
        ("ban", {}, FailedRequestError, False),
        ("reject", {"code": 110007}, InvalidRequestError, False),
        ("rate_limit", {}, InvalidRequestError, False),
    ],
)
def test_faults_of_a_submission(server, action, arguments, expected, arrived):
    client = client_of(server, timeout=0.4)
    rule = server.faults.add("order/create", action, **arguments)
    order = order_of()
    with pytest.raises(expected):
        client.place_order(**order)
    assert rule.hits == 1
    found = rows(client.get_order_history(**LINEAR, orderLinkId=order["orderLinkId"]))
    assert bool(found) == arrived
    if action == "partition":
        time.sleep(0.06)
    client.place_order(**order_of())  # the fault was for one request


def test_faults_of_a_reply(server, client):
    client.place_order(**order_of())
    server.faults.add("position/list", "mutate_field", path="result.list.0.size", value="x")
    assert rows(client.get_positions(**LINEAR))[0]["size"] == "x"
    server.faults.add("position/*", "drop_field", path="result.list.0.size", skip=1)
    assert rows(client.get_positions(**LINEAR))[0]["size"] == "0.01"
    assert "size" not in rows(client.get_positions(**LINEAR))[0]
    client.place_order(**order_of())
    server.faults.add("position/list", "stale_snapshot")
    assert rows(client.get_positions(**LINEAR))[0]["size"] == "0.01"
    assert rows(client.get_positions(**LINEAR))[0]["size"] == "0.02"


def test_faults_of_bars(server, client):
    def opens():
        return [int(bar[0]) for bar in rows(client.get_kline(**LINEAR, interval="1", limit=5))]

    whole = opens()
    server.faults.add("market/kline", "late_bar")
    assert opens() == whole[2:]
    server.faults.add("market/kline", "missing_bar", row=3)
    assert opens() == whole[:3] + whole[4:]
    server.faults.add("market/kline", "repeat_bar")
    assert opens() == [whole[0], whole[1], whole[1], *whole[2:]]
    before = rows(client.get_kline(**LINEAR, interval="1", limit=5))
    server.faults.add("market/kline", "revise_bar", factor=2)
    after = rows(client.get_kline(**LINEAR, interval="1", limit=5))
    assert [float(b[4]) / float(a[4]) for a, b in zip(before, after, strict=True)] == [
        1,
        2,
        1,
        1,
        1,
    ]


def test_faults_are_checked_when_they_are_added(server):
    for arguments in (("explode",), ("reject",), ("html_502", 1, "x")):
        with pytest.raises((ValueError, TypeError)):
            server.faults.add("*", *arguments)
    with pytest.raises(ValueError, match="arguments"):
        server.faults.add("*", "reply_after", second=1)


def test_chance_and_count(server):
    rule = server.faults.add("a", "html_502", count=None, probability=0.5)
    hits = sum(bool(server.faults.take("a", "before")) for _ in range(200))
    assert 60 < hits < 140 and rule.hits == hits


def test_interventions_show_on_the_wire(server, client):
    client.place_order(**order_of(qty="0.02", stopLoss="40000"))
    server.engine.deleverage("BTCUSDT", D("0.5"))
    (fill, *_) = rows(client.get_executions(**LINEAR))
    assert (fill["execType"], fill["execQty"], fill["orderLinkId"]) == ("AdlTrade", "0.01", "")
    server.engine.cancel_stop("BTCUSDT")
    assert rows(client.get_positions(**LINEAR))[0]["stopLoss"] == ""
    server.engine.liquidate("BTCUSDT")
    (fill, *_) = rows(client.get_executions(**LINEAR, execType="BustTrade"))
    assert fill["closedSize"] == "0.01"


# Streams ------------------------------------------------------------------------------------------


class Stream:
    """A plain client of a stream."""

    def __init__(self, socket):
        self.socket = socket

    async def ask(self, **message):
        await self.socket.send_json(message)
        return await self.read()

    async def read(self, seconds=2.0):
        message = await self.socket.receive(seconds)
        return json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else message.type

    async def read_topics(self, count):
        return [(await self.read())["topic"] for _ in range(count)]


@contextlib.asynccontextmanager
async def stream_of(server, path, *topics):
    address = server.stream_url + path
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
        stream = Stream(socket)
        if path.endswith("private"):
            assert (await stream.ask(**authentication(server)))["success"]
        if topics:
            assert (await stream.ask(op="subscribe", args=list(topics), req_id="1"))["success"]
        yield stream


def authentication(server, secret=None, seconds=10):
    expires = int((time.time() + seconds) * 1000)
    signature = sign(secret or server.api_secret, f"GET/realtime{expires}")
    return {"op": "auth", "args": [server.api_key, expires, signature]}


def on_stream(scenario, **arguments):
    async def run():
        server = ExchangeServer(history=100, rate_limits=False, **arguments)
        async with server.running():
            await scenario(server)

    asyncio.run(run())


PRIVATE = ("/v5/private", "order", "execution", "position", "wallet")


def test_private_stream_tells_of_an_order():
    async def scenario(server):
        async with stream_of(server, *PRIVATE) as stream:
            server.engine.manual_trade("BTCUSDT", D("0.01"))
            messages = [await stream.read() for _ in range(5)]
            topics = [message["topic"] for message in messages]
            assert topics == ["order", "execution", "order", "position", "wallet"]
            statuses = [m["data"][0]["orderStatus"] for m in messages if m["topic"] == "order"]
            assert statuses == ["New", "Filled"]
            assert messages[3]["data"][0]["size"] == "0.01"
            assert messages[1]["data"][0]["execId"] == server.engine.executions()[0].execution_id
            assert (await stream.ask(op="ping"))["op"] == "pong"

    on_stream(scenario)


def test_the_stream_client_of_pybit_understands(monkeypatch):
    import pybit.unified_trading as client_module

    server = ExchangeServer(history=10)
    heard = queue.Queue()
    with server.threaded():
        monkeypatch.setattr(client_module, "PRIVATE_WSS", server.stream_url + "/v5/private")
        keys = {"api_key": server.api_key, "api_secret": server.api_secret}
        stream = client_module.WebSocket(
            channel_type="private", testnet=False, private_auth_expire=10, **keys
        )
        try:
            stream.execution_stream(heard.put)
            for _ in range(200):  # its confirmation is not told to the caller
                if server.stream_topics():
                    break
                time.sleep(0.01)
            server.engine.manual_trade("BTCUSDT", D("0.01"))
            assert heard.get(timeout=2)["data"][0]["execQty"] == "0.01"
        finally:
            stream.exit()


def test_public_stream_confirms_closed_bars():
    async def scenario(server):
        async with stream_of(server, "/v5/public/linear", "kline.1.BTCUSDT") as stream:
            first = (await stream.read())["data"][0]
            assert first["start"] == server.engine.now_ms and not first["confirm"]
            server.advance(2 * MINUTE + 5000)
            bars = [(await stream.read())["data"][0] for _ in range(3)]
            assert [bar["confirm"] for bar in bars] == [True, True, False]
            assert [bar["start"] - first["start"] for bar in bars] == [0, MINUTE, 2 * MINUTE]
            server.advance(MINUTE)
            assert [(await stream.read())["data"][0]["confirm"] for _ in range(2)] == [True, False]
            refused = await stream.ask(op="subscribe", args=["kline.7.BTCUSDT"])
            assert not refused["success"]

    on_stream(scenario)


def test_stream_access_and_acknowledgements():
    async def scenario(server):
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(server.stream_url + "/v5/private") as socket:
                stream = Stream(socket)
                began = time.monotonic()
                refused = await stream.ask(op="subscribe", args=["order"], req_id="1")
                assert not refused["success"] and time.monotonic() - began >= 0.05
                answer = await stream.ask(**authentication(server, seconds=-1))
                assert not answer["success"]
                assert await stream.read() is aiohttp.WSMsgType.CLOSE
            async with session.ws_connect(server.stream_url + "/v5/private") as socket:
                assert not (await Stream(socket).ask(**authentication(server, "bad")))["success"]

    on_stream(scenario)


def test_stream_faults():
    async def scenario(server):
        engine, add = server.engine, server.faults.add
        async with stream_of(server, "/v5/private", "execution") as stream:
            add("stream/private/execution", "duplicate_events")
            engine.manual_trade("BTCUSDT", D("0.01"))
            assert await stream.read() == await stream.read()
            add("stream/private", "drop_field", path="data.0.execId")
            engine.manual_trade("BTCUSDT", D("0.01"))
            assert "execId" not in (await stream.read())["data"][0]
            add("stream/private", "shuffle_events")
            for _ in range(6):
                engine.manual_trade("BTCUSDT", D("0.01"))
            numbers = [(await stream.read())["data"][0]["seq"] for _ in range(6)]
            assert sorted(numbers) != numbers and sorted(numbers) == list(range(2, 8))
            add("stream/private", "silence_stream")
            engine.manual_trade("BTCUSDT", D("0.01"))
            with pytest.raises(asyncio.TimeoutError):
                await stream.read(0.2)
        async with stream_of(server, "/v5/private", "execution") as stream:
            server.drop_streams()
            assert await stream.read() in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        async with stream_of(server, "/v5/private", "execution") as stream:
            add("stream/private", "drop_stream", close=True)
            engine.manual_trade("BTCUSDT", D("0.01"))
            assert await stream.read() is aiohttp.WSMsgType.CLOSE

    on_stream(scenario)


def test_events_come_before_or_after_the_reply():
    async def scenario(server):
        client = client_of(server)
        async with stream_of(server, "/v5/private", "execution") as stream:
            for action, event_first in (("reply_after", True), ("delay_events", False)):
                route = "order/create" if event_first else "stream/private"
                server.faults.add(route, action, seconds=0.2)
                order = asyncio.create_task(asyncio.to_thread(client.place_order, **order_of()))
                await stream.read()
                assert order.done() != event_first
                await order

    on_stream(scenario)


def test_a_running_clock_moves_the_exchange():
    async def scenario(server):
        start = server.engine.now_ms
        await server.clock.sleep_until(start + 30_000)
        await asyncio.sleep(0.05)
        assert server.engine.now_ms >= start + 30_000
        assert abs(server.clock.monotonic() * 1000 - (server.engine.now_ms - start)) < 60_000

    on_stream(scenario, speed=300.0, anchor="now")


def test_command_names_what_is_wrong(capsys, tmp_path):
    assert exchange(["serve", "--frame", str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        exchange(["serve", "--initial-balance", "-1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--symbols", "BTCUSDT,BTCUSDT"], "a name comes twice"),
        (["--symbols", "BTCUSDT,ETH/USDT"], "such as ETHUSDT; got 'ETH/USDT'"),
        (["--symbols", "BTCUSDT,ETHUSDT", "--frame", "some.csv"], "the bars of one symbol"),
    ],
)
def test_command_refuses_symbols_that_it_cannot_list(words, message, capsys):
    assert exchange(["serve", *words]) == 1
    assert message in capsys.readouterr().err


def test_command_lists_the_symbols_it_is_given(monkeypatch):
    made = []

    async def served(server, *_):
        made.append(server.engine)

    monkeypatch.setattr("live.exchange.cli._serve", served)
    assert exchange(["serve", "--symbols", "BTCUSDT,ETHUSDT"]) == exchange(["serve"]) == 0
    both, usual = (list(engine.instruments) for engine in made)
    assert (both, usual) == (["BTCUSDT", "ETHUSDT"], ["BTCUSDT"])
    assert made[0].instruments["ETHUSDT"].symbol == "ETH/USDT:USDT"


def test_bars_of_symbols_that_are_not_listed_say_how_to_list_them():
    frame = synthetic.minutes(0, 10)
    with pytest.raises(ValueError, match=r"got \['BTCUSDT', 'ETHUSDT'\]\. instruments= says"):
        ExchangeServer({"BTCUSDT": frame, "ETHUSDT": frame}, history=2)


@pytest.mark.parametrize(
    ("module", "feature"),
    [("live.exchange.cli", "the local exchange"), ("live.operations.channels", "live trading")],
)
def test_a_missing_package_is_named(module, feature):
    code = f"import sys; sys.modules['aiohttp'] = None; import {module}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = "needs the package 'aiohttp'; install it with: pip install 'jaxtrade[live]'."
    assert ended.stderr.splitlines()[-1] == f"ImportError: {feature}: {said}"
