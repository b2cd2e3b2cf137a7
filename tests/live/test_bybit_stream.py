"""The private stream: it logs in, tells, notices silence, comes back, and survives nonsense."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
from decimal import Decimal

import aiohttp
import pytest
from aiohttp import web

from live.exchange.server import ExchangeServer
from live.secrets import Secret
from live.venue import EventKind
from live.venues.bybit_stream import BybitStream
from live.venues.supervised import StreamTimes
from tests.live.bybit_server import (
    NERVOUS,
    STREAM,
    SYMBOL,
    connected,
    intent,
    run,
    unconnected,
    until,
)

CONNECTED, DISCONNECTED = EventKind.CONNECTED, EventKind.DISCONNECTED
KEY, SECRET = Secret("KEY", "key-of-the-stream"), Secret("SECRET", "secret-of-the-stream")


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """The exchange compiles at its first trade; a stream must not count that as silence."""
    ExchangeServer().engine.manual_trade("BTCUSDT", Decimal("0.001"))


def test_an_order_is_told_by_its_fill_the_position_and_the_balance():
    async def scenario(venue, server):
        events = venue.events()
        await until(events, CONNECTED)
        buy = intent()
        await venue.submit(buy)
        seen = {}
        while {EventKind.FILL, EventKind.ORDER, EventKind.POSITION, EventKind.BALANCE} - set(seen):
            event = await asyncio.wait_for(anext(events), 15)
            seen[event.kind] = event
        fill = seen[EventKind.FILL].fill
        assert (fill.client_id, fill.quantity) == (buy.client_id, buy.quantity)
        assert seen[EventKind.ORDER].order.client_id == buy.client_id
        assert seen[EventKind.POSITION].symbol == SYMBOL
        [fetched] = await venue.fills(SYMBOL, server.engine.now_ms - 1000)
        assert fetched == fill

    run(scenario)


@pytest.mark.parametrize("close", [True, False])
def test_a_dropped_stream_comes_back(close):
    async def scenario(venue, server):
        events = venue.events()
        await until(events, CONNECTED)
        server.drop_streams(close=close)
        await until(events, DISCONNECTED, CONNECTED)
        await venue.submit(intent())
        await until(events, EventKind.FILL)

    run(scenario)


def test_a_silent_stream_is_closed_and_dialled_again():
    async def scenario(venue, server):
        events = venue.events()
        await until(events, CONNECTED)
        server.silence_streams()
        seen = await until(events, DISCONNECTED, CONNECTED)
        assert "silent" in seen[0].detail

    run(scenario, stream_times=NERVOUS)


def test_a_quiet_account_is_kept_alive_by_its_pings():
    calm = dataclasses.replace(NERVOUS, silence=2.0)  # a busy machine is quiet for a second itself

    async def scenario(venue, server):
        events = venue.events()
        await until(events, CONNECTED)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 1.5 * calm.silence)

    run(scenario, stream_times=calm)


def test_a_message_that_makes_no_sense_is_an_event_and_ends_nothing():
    async def scenario(venue, server):
        events = venue.events()
        await until(events, CONNECTED)
        body = f"<html>{server.api_key} {server.api_secret}"
        server.faults.add("stream/private/order", "garbage_event", body=body)
        await venue.submit(intent())
        [*_, event] = await until(events, EventKind.MALFORMED)
        assert "***" in event.detail
        assert server.api_key not in event.detail
        server.faults.add(
            "stream/private/execution", "mutate_field", path="data.0.execQty", value="NaN"
        )
        await venue.submit(intent())
        [*_, event] = await until(events, EventKind.MALFORMED)
        assert "execQty" in event.detail
        await venue.submit(intent())
        await until(events, EventKind.FILL)

    run(scenario)


def test_a_refused_login_is_told_and_tried_again():
    async def whole():
        async with connected() as (first, server):
            await until(first.events(), CONNECTED)
            rule = server.faults.add("stream/private", "refuse_auth", 2)
            venue = unconnected(server)
            await venue.connect()
            events = venue.events()
            seen = await until(events, DISCONNECTED)
            assert "login refused" in seen[-1].detail
            await until(events, CONNECTED)
            assert rule.hits == 2
            await venue.close()

    asyncio.run(whole())


def test_a_refused_subscription_is_no_connection():
    async def whole():
        async with connected() as (first, server):
            await until(first.events(), CONNECTED)
            server.faults.add("stream/private", "refuse_subscription", skip=1)
            venue = unconnected(server)
            await venue.connect()
            seen = await until(venue.events(), DISCONNECTED)
            assert "subscription refused" in seen[-1].detail
            await venue.close()

    asyncio.run(whole())


def test_closing_ends_the_reader_and_twice_is_once():
    async def scenario(venue, server):
        events = venue.events()
        await until(events, CONNECTED)
        rest = asyncio.ensure_future(anext(events, None))
        await asyncio.sleep(0)
        await venue.close()
        assert await asyncio.wait_for(rest, 5) is None
        await venue.close()
        with pytest.raises(RuntimeError, match="connect"):
            await anext(venue.events())

    run(scenario)


# Against a server that only this file needs -----------------------------------------------------


async def _serving(handler, scenario, **options):
    """Run a scenario with a stream to a socket handler."""
    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    stream = BybitStream(url, KEY, SECRET, STREAM, **options)
    stream.start()
    try:
        await scenario(stream)
    finally:
        await stream.stop()
        await runner.cleanup()


def _accepting(*messages):
    """A handler that accepts everything, then sends messages, then waits."""

    async def handler(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for operation in ("auth", "subscribe"):
            received = await socket.receive_json()
            assert received["op"] == operation
            await socket.send_json({"op": operation, "success": True})
        for message in messages:
            await socket.send_str(message)
        async for _ in socket:
            await socket.send_json({"op": "pong"})
        return socket

    return handler


@pytest.mark.parametrize(
    "message",
    [
        "",
        "null",
        "[]",
        "7",
        "{",
        "[" * 100_000,
        '{"topic": "order"}',
        '{"topic": "order", "data": 1}',
    ],
    ids=lambda text: text[:20],
)
def test_nonsense_is_quarantined(message):
    async def scenario(stream):
        events = stream.events()
        seen = await until(events, CONNECTED, EventKind.MALFORMED)
        assert len(seen[-1].detail) <= 200
        assert stream.malformed == 1

    asyncio.run(_serving(_accepting(message), scenario))


def test_a_push_before_the_answers_is_not_lost():
    async def handler(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive_json()
        await socket.send_json({"op": "auth", "success": True})
        await socket.send_json({"topic": "wallet", "data": [{}]})
        await socket.receive_json()
        await socket.send_json({"op": "subscribe", "success": True})
        async for _ in socket:
            pass
        return socket

    async def scenario(stream):
        await until(stream.events(), EventKind.BALANCE, CONNECTED)

    asyncio.run(_serving(handler, scenario))


def test_a_reader_that_falls_behind_is_told_of_a_break():
    wallet = '{"topic": "wallet", "data": [{}]}'

    async def scenario(stream):
        await asyncio.sleep(0.3)  # nobody reads
        seen = await until(stream.events(), DISCONNECTED)
        assert seen[-1].detail == "the reader fell behind"
        await until(stream.events(), CONNECTED)

    asyncio.run(_serving(_accepting(*[wallet] * 20), scenario, capacity=4))


def test_a_server_that_never_answers_the_login_is_left():
    async def handler(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async def scenario(stream):
        stream.times = StreamTimes(answer=0.1, ping=0.05, silence=0.3, pause=0.02)
        await until(stream.events(), DISCONNECTED, DISCONNECTED)

    asyncio.run(_serving(handler, scenario))


def test_dialling_in_vain_goes_on_with_growing_pauses(monkeypatch):
    dials = []

    async def refuse(self, *args, **kwargs):
        dials.append(asyncio.get_running_loop().time())
        raise aiohttp.ClientConnectionError

    monkeypatch.setattr(aiohttp.ClientSession, "ws_connect", refuse)

    async def scenario():
        times = StreamTimes(pause=0.01, longest_pause=0.08, growth=2)
        stream = BybitStream("ws://127.0.0.1:1/", KEY, SECRET, times)
        stream.start()
        await until(stream.events(), *[DISCONNECTED] * 8)
        await stream.stop()

    asyncio.run(scenario())
    pauses = [after - before for before, after in itertools.pairwise(dials)]
    assert pauses[0] >= 0.005
    assert pauses[-1] >= 0.04


def test_keys_are_not_in_representations():
    stream = BybitStream("ws://127.0.0.1:1/", KEY, SECRET)
    assert "of-the-stream" not in repr(stream) + str(stream.__dict__)


@pytest.mark.parametrize(
    "values",
    [{"ping": 60.0}, {"growth": 0.5}, {"silence": math.nan}, {"pause": 0.0}, {"answer": math.inf}],
)
def test_senseless_times_are_refused(values):
    with pytest.raises(ValueError, match="stream times"):
        StreamTimes(**values)
