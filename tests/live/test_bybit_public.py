"""Bars of the public stream and of memory: closed ones only, and never another than the venue's."""

from __future__ import annotations

import asyncio
import json
import logging
import math

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from live.clock import VirtualClock
from live.exchange.server import ExchangeServer
from live.types import Bars, UnreadableError
from live.venue import Venue
from live.venues import bybit_public
from live.venues.bar_memory import BarMemory
from live.venues.bar_stream import BarGap, ClosedBar
from live.venues.bybit_public import BybitBarStream
from live.venues.bybit_wire import Hosts
from live.venues.feed import BarFeed, FeedConfig
from live.venues.supervised import StreamTimes
from tests.live.bybit_server import NERVOUS, STREAM, SYMBOL, connected
from tests.live.harness import ServerClock

MINUTE = 60_000
START = 1_700_000_040_000  # a boundary of minutes
ONE, FIVE = "1Minute", "5Minute"


async def _until(condition, seconds=10.0):
    """Wait until a condition holds; fails after some seconds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the server is another task
            await asyncio.sleep(0.005)


# The stream at the exchange ---------------------------------------------------------------------


def _streaming(scenario, *, times=STREAM, **options):
    """Run a scenario with a stream of bars at a server that stands still; said: what it tells."""

    async def whole():
        server = ExchangeServer(anchor="now", ack_delay=0.0, **options)
        async with server.running():
            said = []
            stream = BybitBarStream(server.stream_url + "/v5/public/linear", said.append, times)
            stream.start()
            try:
                await scenario(server, stream, said)
            finally:
                await stream.stop()

    asyncio.run(whole())


def test_bars_are_told_once_they_are_closed_and_as_the_history_tells_them():
    async def scenario(server, stream, said):
        stream.follow(SYMBOL, ONE)
        stream.follow(SYMBOL, FIVE)
        await _until(lambda: stream.live(SYMBOL, ONE) and stream.live(SYMBOL, FIVE))
        server.advance(5 * MINUTE - server.engine.now_ms % (5 * MINUTE) + 1)
        await _until(lambda: any(bar.frame == FIVE for bar in said))  # the last one
        said.clear()
        for _ in range(10):
            server.advance(30_000)  # half of them tell a bar that is still forming
        await _until(lambda: len(said) >= 6)
        await asyncio.sleep(0.05)
        assert [(bar.frame, type(bar)) for bar in said] == [(ONE, ClosedBar)] * 5 + [
            (FIVE, ClosedBar)
        ]
        candles = server.engine.paths["BTCUSDT"].candles
        for minutes, frame in ((1, ONE), (5, FIVE)):
            own = [bar for bar in said if bar.frame == frame]
            first = own[0].open_time_ms
            whole = candles(minutes, first, server.engine.now_ms, server.engine.now_ms)
            told = [(c.open_ms, (c.open, c.high, c.low, c.close, c.volume)) for c in whole]
            assert [(bar.open_time_ms, bar.ohlcv) for bar in own] == told[: len(own)]

    _streaming(scenario)


def test_one_name_that_the_venue_does_not_know_costs_the_others_nothing(caplog):
    async def scenario(server, stream, said):
        stream.follow("NOSUCH/USDT:USDT", ONE)
        stream.follow(SYMBOL, ONE)
        await _until(lambda: stream.live(SYMBOL, ONE))
        assert not stream.live("NOSUCH/USDT:USDT", ONE)
        assert server.stream_topics() == ["kline.1.BTCUSDT"]

    with caplog.at_level(logging.WARNING, "live.venues.bybit_public"):
        _streaming(scenario)
    assert "kline.1.NOSUCHUSDT refused" in caplog.text


def test_what_is_followed_later_is_subscribed_on_the_same_connection():
    async def scenario(server, stream, said):
        stream.follow(SYMBOL, ONE)
        await _until(lambda: stream.live(SYMBOL, ONE))
        stream.follow(SYMBOL, FIVE)
        stream.follow(SYMBOL, FIVE)
        await _until(lambda: stream.live(SYMBOL, FIVE))
        assert server.stream_topics() == ["kline.1.BTCUSDT", "kline.5.BTCUSDT"]
        assert not said

    _streaming(scenario)


def test_topics_beyond_what_one_connection_takes_get_another(monkeypatch):
    monkeypatch.setattr(bybit_public, "_MOST_CHARACTERS", 2 * (len("kline.1.BTCUSDT") + 3))

    async def scenario(server, stream, said):
        frames = [ONE, "3Minute", FIVE]
        for frame in frames:
            stream.follow(SYMBOL, frame)
        await _until(lambda: all(stream.live(SYMBOL, frame) for frame in frames))
        assert len(stream._lines) == 2

    _streaming(scenario)


def test_a_frame_that_the_venue_lacks_is_refused_at_once():
    async def scenario(server, stream, said):
        with pytest.raises(ValueError, match="7Minute"):
            stream.follow(SYMBOL, "7Minute")

    _streaming(scenario)


@pytest.mark.parametrize("loss", ["dropped", "closed", "silent"])
def test_a_lost_connection_is_a_gap_of_every_topic_and_comes_back(loss):
    async def scenario(server, stream, said):
        stream.follow(SYMBOL, ONE)
        stream.follow(SYMBOL, FIVE)
        both = (ONE, FIVE)
        await _until(lambda: all(stream.live(SYMBOL, frame) for frame in both))
        if loss == "silent":
            server.silence_streams()
        else:
            server.drop_streams(close=loss == "closed")
        await _until(lambda: len(said) >= 2)
        for line in stream._lines:
            line.times = STREAM
        assert {(gap.symbol, gap.frame, type(gap)) for gap in said} == {
            (SYMBOL, frame, BarGap) for frame in both
        }
        await _until(lambda: all(stream.live(SYMBOL, frame) for frame in both))
        said.clear()
        server.advance(MINUTE)
        await _until(lambda: said)
        assert isinstance(said[0], ClosedBar)

    _streaming(scenario, times=NERVOUS if loss == "silent" else STREAM)


def test_a_defect_of_the_subscribing_is_not_swallowed(monkeypatch):
    async def defect(line, socket, names):
        raise ZeroDivisionError

    monkeypatch.setattr(bybit_public._Line, "_ask", defect)

    async def scenario(server, stream, said):
        stream.follow(SYMBOL, ONE)
        await _until(lambda: stream._lines[0]._task.done())
        with pytest.raises(ZeroDivisionError):
            stream.check()

    _streaming(scenario)


# Against a server that only this file needs -----------------------------------------------------


def _row(**changes):
    row = {
        "start": START,
        "end": START + MINUTE - 1,
        "interval": "1",
        "open": "100",
        "close": "101",
        "high": "102",
        "low": "99",
        "volume": "5",
        "turnover": "500",
        "confirm": True,
        "timestamp": START + MINUTE,
    }
    return {key: value for key, value in (row | changes).items() if value is not None}


def _push(*rows, topic="kline.1.BTCUSDT"):
    return json.dumps({"topic": topic, "type": "snapshot", "ts": START, "data": list(rows)})


def _told(messages, *, answering=True):
    """What a stream tells of messages that a server sends, and the stream."""

    async def handler(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        received = await socket.receive_json()
        assert received["op"] == "subscribe"
        if answering:
            reply = {"op": "subscribe", "success": True, "req_id": received["req_id"]}
            await socket.send_json(reply)
        for message in messages:
            await socket.send_str(message)
        async for _ in socket:
            await socket.send_json({"op": "ping", "success": True, "ret_msg": "pong"})
        return socket

    async def whole():
        application = web.Application()
        application.router.add_get("/", handler)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        said = []
        times = STREAM if answering else StreamTimes(answer=0.1, ping=0.05, silence=5.0, pause=0.02)
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
        stream = BybitBarStream(url, said.append, times)
        stream.follow(SYMBOL, ONE)
        stream.start()
        try:
            if answering:
                await _until(lambda: said and said[-1] == GOOD)
            else:
                await _until(lambda: len(said) >= 2)
            return said, stream
        finally:
            await stream.stop()
            await runner.cleanup()

    return asyncio.run(whole())


LAST = START + 9 * MINUTE
GOOD = ClosedBar(SYMBOL, ONE, LAST, (100.0, 102.0, 99.0, 101.0, 5.0))
GOOD_PUSH = _push(_row(start=LAST, end=LAST + MINUTE - 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"confirm": "true"},
        {"confirm": None},
        {"start": START + 1},
        {"start": None},
        {"end": START + MINUTE},
        {"interval": "5"},
        {"open": "NaN"},
        {"open": 100.0},
        {"close": "0"},
        {"high": "98"},
        {"low": "101.5"},
        {"volume": "-1"},
        {"volume": None},
    ],
    ids=str,
)
def test_a_row_that_makes_no_sense_is_a_gap_and_ends_nothing(changes):
    said, stream = _told([_push(_row(**changes)), GOOD_PUSH])
    assert [type(one) for one in said] == [BarGap, ClosedBar]
    assert (said[0].symbol, said[0].frame) == (SYMBOL, ONE)
    assert stream.malformed == 1


@pytest.mark.parametrize(
    "message",
    ["", "7", "{", "[" * 100_000, '{"topic": "kline.1.BTCUSDT"}', _push(7)],
    ids=lambda text: text[:12],
)
def test_a_message_that_makes_no_sense_is_a_gap_and_ends_nothing(message):
    said, stream = _told([message, GOOD_PUSH])
    assert [type(one) for one in said] == [BarGap, ClosedBar]
    assert len(said[0].reason) <= 250
    assert stream.malformed == 1


@pytest.mark.parametrize(
    "message",
    [
        _push(_row(confirm=False)),
        _push(_row(confirm=False, open="NaN")),
        _push(_row(), topic="kline.1.ETHUSDT"),
        json.dumps({"topic": 7, "data": []}),
        json.dumps({"op": "subscribe", "success": False, "req_id": "99"}),
        _push(),
    ],
    ids=["forming", "forming-nonsense", "of-others", "no-topic", "stray-reply", "empty"],
)
def test_what_is_not_a_closed_bar_of_ours_says_nothing(message):
    said, stream = _told([message, GOOD_PUSH])
    assert said == [GOOD]
    assert stream.malformed == 0


def test_a_subscription_that_is_never_answered_is_no_connection():
    said, stream = _told([], answering=False)
    assert {type(one) for one in said} == {BarGap}
    assert said[0].reason == "a subscription was not answered"
    assert not stream.live(SYMBOL, ONE)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (Hosts.of(demo=True, rest=None, stream=None), "wss://stream.bybit.com/v5/public/linear"),
        (Hosts.of(demo=False, rest=None, stream=None), "wss://stream.bybit.com/v5/public/linear"),
        (
            Hosts.of(demo=True, rest="http://127.0.0.1:8000", stream=None),
            "ws://127.0.0.1:8000/v5/public/linear",
        ),
    ],
    ids=["demo", "live", "local"],
)
def test_where_the_public_stream_is(hosts, url):
    assert hosts.public == url


# Rows in memory ---------------------------------------------------------------------------------


def _truth(time):
    """The row of a bar, made of its time."""
    base = 100.0 + (time // MINUTE) % 97
    return (base, base + 2, base - 2, base + 1, 3.0)


def _bars(first, count, change=lambda time, row: row):
    times = [first + MINUTE * number for number in range(count)]
    rows = [change(time, _truth(time)) for time in times]
    values = np.asarray(rows, dtype=np.float64).reshape(count, 5)
    return Bars(ONE, np.asarray(times, dtype=np.int64), values)


def _memory(wanted=5, spare=2):
    memory = BarMemory(ONE, MINUTE, spare=spare)
    memory.want(wanted)
    return memory


def _rows(bars):
    return {int(time): tuple(row) for time, row in zip(bars.open_time_ms, bars.ohlcv, strict=True)}


# What a stream may do: the next row, one again, an old one, a hole, a wrong one, a break.
_STEPS = st.lists(
    st.sampled_from(["next", "next", "next", "again", "old", "hole", "revised", "nan", "break"])
    | st.tuples(st.just("fill"), st.integers(1, 9)),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps=_STEPS)
def test_an_answer_is_whole_fresh_and_what_the_venue_says(steps):
    memory, now = _memory(), START
    for step in steps:
        match step:
            case "next" | "hole":
                now += MINUTE if step == "next" else 2 * MINUTE
                memory.push(now, _truth(now))
            case "again":
                memory.push(now, _truth(now))
            case "old":
                memory.push(now - 2 * MINUTE, _truth(now - 2 * MINUTE))
            case "revised":
                memory.push(now, (1.0, 1.0, 1.0, 1.0, 1.0))
                if memory.unproven_ms is not None:  # a wrong row is known until it is proven
                    memory.fill(_bars(now - 8 * MINUTE, 9), 9)
            case "nan":
                memory.push(now + MINUTE, (math.nan,) * 5)
            case "break":
                memory.forget()
            case ("fill", count):
                assert not memory.fill(_bars(now - (count - 1) * MINUTE, count), count)
        assert len(memory) <= 7
        for count in (1, 3, 5):
            found = memory.answer(count, now)
            if found is None:
                assert len(memory) < count or memory.newest_ms != now
                continue
            assert _rows(found) == _rows(_bars(now - (count - 1) * MINUTE, count))
            assert memory.answer(count, now + 2 * MINUTE) is None
    memory.fill(_bars(now - 8 * MINUTE, 9), 9)
    assert memory.unproven_ms is None
    assert _rows(memory.answer(5, now)) == _rows(_bars(now - 4 * MINUTE, 5))


def test_what_the_history_tells_differently_is_told_and_replaced():
    memory = _memory()
    memory.fill(_bars(START, 5), 5)
    wrong = (100.0, 103.0, 97.0, 102.0, 1.0)
    time = START + 5 * MINUTE
    memory.push(time, wrong)
    assert memory.unproven_ms == time
    [one] = memory.fill(_bars(time, 1), 1)
    assert (one.open_time_ms, one.known, one.told) == (time, wrong, _truth(time))
    assert memory.unproven_ms is None
    assert _rows(memory.answer(5, time)) == _rows(_bars(START + MINUTE, 5))


@pytest.mark.parametrize(
    "bars",
    [
        _bars(START, 0),
        _bars(START + 1, 3),
        Bars(ONE, np.array([START, START + 2 * MINUTE]), _bars(START, 2).ohlcv),
        _bars(START, 3, lambda time, row: (math.nan, *row[1:])),
    ],
    ids=["none", "off-the-grid", "hole", "not-finite"],
)
def test_rows_that_make_no_sense_teach_nothing(bars):
    memory = _memory()
    memory.fill(_bars(START, 5), 5)
    assert memory.fill(bars, 5) == ()
    assert _rows(memory.answer(5, START + 4 * MINUTE)) == _rows(_bars(START, 5))


def test_a_stream_may_be_one_bar_ahead_of_the_clock():
    memory = _memory()
    memory.fill(_bars(START, 6), 6)
    newest = START + 5 * MINUTE
    assert _rows(memory.answer(5, newest - MINUTE)) == _rows(_bars(START + MINUTE, 5))
    assert memory.answer(5, newest - 2 * MINUTE) is None


def test_a_young_symbol_is_not_short_of_rows_that_do_not_exist():
    memory = _memory()
    assert memory.short
    memory.fill(_bars(START, 2), 5)
    assert not memory.short
    memory.forget()
    assert memory.short


@pytest.mark.parametrize("values", [(0, 3), (MINUTE, -1)], ids=str)
def test_senseless_memories_are_refused(values):
    with pytest.raises(ValueError, match="bars"):
        BarMemory(ONE, values[0], spare=values[1])


# The feed ---------------------------------------------------------------------------------------


class History:
    """A venue in memory: the bars that have closed by its clock."""

    name = "history"
    capabilities = None

    def __init__(self, clock):
        self.clock, self.asked = clock, []
        self.change = lambda time, row: row
        self.fails = False

    async def connect(self):
        pass

    async def close(self):
        pass

    async def closed_bars(self, symbol, frame, count):
        self.asked.append((symbol, frame, count))
        if self.fails:
            raise UnreadableError("no answer")
        newest = self.clock.now_ms() // MINUTE * MINUTE - MINUTE
        return _bars(newest - (count - 1) * MINUTE, count, self.change)


class Told:
    """A stream that tells what a test says."""

    def __init__(self):
        self.followed, self.is_live, self.broken = [], True, None
        self.silence = None

    def __call__(self, heard):
        self.heard = heard
        return self

    def follow(self, symbol, frame):
        self.followed.append((symbol, frame))

    def live(self, symbol, frame):
        return self.is_live

    def start(self):
        pass

    async def stop(self):
        pass

    def check(self):
        if self.broken is not None:
            raise self.broken

    def bar(self, time, row=None):
        self.heard(ClosedBar(SYMBOL, ONE, time, row or _truth(time)))


def _feeding(scenario, **config):
    """Run a scenario with a feed that knows five bars up to START."""

    async def whole():
        clock, told = VirtualClock(START), Told()
        venue = History(clock)
        feed = BarFeed(venue, told, clock, FeedConfig(**config))
        await feed.connect()
        try:
            assert isinstance(feed, Venue)
            await feed.prepare([(SYMBOL, ONE, 5)])
            assert told.followed == [(SYMBOL, ONE)]
            assert venue.asked == [(SYMBOL, ONE, 5)]
            venue.asked.clear()
            await scenario(feed, told, venue, clock)
        finally:
            await feed.close()

    asyncio.run(whole())


async def _is_right(feed, clock, count=5):
    """The answer is that of the venue's history."""
    newest = clock.now_ms() // MINUTE * MINUTE - MINUTE
    bars = await feed.closed_bars(SYMBOL, "1min", count)
    assert bars.frame == ONE
    assert _rows(bars) == _rows(_bars(newest - (count - 1) * MINUTE, count))


def test_a_bar_that_the_stream_has_told_costs_no_request():
    async def scenario(feed, told, venue, clock):
        for number in range(20):
            await _is_right(feed, clock)
            clock.advance_to(START + (number + 1) * MINUTE)
            told.bar(START + number * MINUTE)
        assert not venue.asked
        assert feed.from_memory == 20
        assert len(feed._memories[SYMBOL, ONE]) == 5 + feed.config.spare

    _feeding(scenario)


def test_a_bar_that_comes_a_moment_late_is_waited_for():
    async def scenario(feed, told, venue, clock):
        clock.advance_to(START + MINUTE)
        answers = [asyncio.ensure_future(_is_right(feed, clock)) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert not any(one.done() for one in answers)
        told.bar(START)
        await asyncio.wait_for(asyncio.gather(*answers), 5)
        assert not venue.asked

    _feeding(scenario, patience=30.0)


def test_a_bar_that_does_not_come_is_asked_of_the_venue():
    async def scenario(feed, told, venue, clock):
        clock.advance_to(START + MINUTE)
        await _is_right(feed, clock)
        assert venue.asked == [(SYMBOL, ONE, 5)]
        # What the stream tells now is known already.
        told.bar(START)
        await _is_right(feed, clock)
        assert len(venue.asked) == 1
        assert feed.gaps == 0

    _feeding(scenario, patience=0.02)


@pytest.mark.parametrize("reason", ["not-live", "too-late", "two-missing", "too-few"])
def test_nobody_waits_in_vain(reason):
    async def scenario(feed, told, venue, clock):
        told.is_live = reason != "not-live"
        later = {"too-late": 31_000, "two-missing": MINUTE}.get(reason, 0)
        clock.advance_to(START + MINUTE + later)
        count = 20 if reason == "too-few" else 5
        await asyncio.wait_for(_is_right(feed, clock, count), 5)
        assert len(venue.asked) == 1

    _feeding(scenario, patience=30.0)


@pytest.mark.parametrize(
    ("said", "gaps"),
    [
        ([ClosedBar(SYMBOL, ONE, START, _truth(START))] * 2, 0),
        ([ClosedBar(SYMBOL, ONE, START - 2 * MINUTE, _truth(START - 2 * MINUTE))], 0),
        ([ClosedBar(SYMBOL, ONE, START - 99 * MINUTE, (1.0,) * 5)], 0),
        ([ClosedBar("ETH/USDT:USDT", ONE, START, (1.0,) * 5)], 0),
        ([ClosedBar(SYMBOL, ONE, START - 2 * MINUTE, (1.0,) * 5)], 1),
        ([BarGap(SYMBOL, ONE, "lost")], 1),
        ([ClosedBar(SYMBOL, ONE, START, (math.inf,) * 5)], 1),
        ([ClosedBar(SYMBOL, ONE, START + 1, _truth(START))], 1),
        ([ClosedBar(SYMBOL, ONE, START + 7 * MINUTE, _truth(START))], 1),
    ],
    ids=[
        "twice",
        "old",
        "older-than-memory",
        "of-others",
        "revised",
        "lost",
        "not-finite",
        "off-the-grid",
        "of-the-future",
    ],
)
def test_whatever_the_stream_says_the_answer_is_the_venue_s(said, gaps):
    async def scenario(feed, told, venue, clock):
        clock.advance_to(START + MINUTE)
        for one in said:
            told.heard(one)
        await _is_right(feed, clock)
        assert feed.gaps == gaps
        known = said[0] == ClosedBar(SYMBOL, ONE, START, _truth(START))
        assert len(venue.asked) == (0 if known else 1)

    _feeding(scenario, patience=0.02)


def test_a_bar_that_cannot_have_ended_is_not_believed():
    async def scenario(feed, told, venue, clock):
        clock.advance_to(START + MINUTE)
        told.bar(START)
        told.bar(START + MINUTE)
        await _is_right(feed, clock)
        assert (feed.gaps, len(venue.asked)) == (1, 1)

    _feeding(scenario, patience=0.02)


def test_after_a_hole_the_venue_is_asked():
    async def scenario(feed, told, venue, clock):
        clock.advance_to(START + 2 * MINUTE)
        told.bar(START + MINUTE)
        assert feed.gaps == 1
        await _is_right(feed, clock)
        assert len(venue.asked) == 1
        await _is_right(feed, clock)
        assert len(venue.asked) == 1

    _feeding(scenario, patience=0.02)


def test_what_only_the_stream_told_is_compared_with_the_history(caplog):
    async def scenario(feed, told, venue, clock):
        wrong = (100.0, 200.0, 50.0, 150.0, 1.0)
        for number in range(2):
            clock.advance_to(START + (number + 1) * MINUTE)
            told.bar(START + number * MINUTE, wrong if number == 0 else None)
        bars = await feed.closed_bars(SYMBOL, ONE, 5)
        assert tuple(bars.ohlcv[-2]) == wrong
        await feed.prove(SYMBOL, ONE)
        assert venue.asked == [(SYMBOL, ONE, 2)]
        assert feed.revised == 1
        await _is_right(feed, clock)
        assert len(venue.asked) == 1

    with caplog.at_level(logging.WARNING, "live.venues.feed"):
        _feeding(scenario)
    assert f"bar_revised: {SYMBOL} {ONE} at {START}" in caplog.text


def test_what_the_venue_told_differently_before_is_revised_too():
    async def scenario(feed, told, venue, clock):
        venue.change = lambda time, row: (*row[:4], 4.0) if time == START - MINUTE else row
        clock.advance_to(START + MINUTE)
        bars = await feed.closed_bars(SYMBOL, ONE, 5)
        assert bars.ohlcv[-2][4] == 4.0
        assert feed.revised == 1
        told.bar(START)
        again = await feed.closed_bars(SYMBOL, ONE, 5)
        assert (again.ohlcv == bars.ohlcv).all()

    _feeding(scenario, patience=0.02)


def test_rows_are_proven_and_read_anew_between_the_boundaries_only():
    async def scenario(feed, told, venue, clock):
        clock.advance_to(START + MINUTE)
        told.bar(START)
        await asyncio.sleep(0.05)
        assert not venue.asked  # the boundary is too near
        clock.advance_to(START + MINUTE + 30_000)
        await _until(lambda: venue.asked == [(SYMBOL, ONE, 1)])
        told.heard(BarGap(SYMBOL, ONE, "lost"))
        await _until(lambda: venue.asked[1:] == [(SYMBOL, ONE, 5)])
        await asyncio.sleep(0.05)
        assert len(venue.asked) == 2
        clock.advance_to(START + 2 * MINUTE)
        told.bar(START + MINUTE)
        await _is_right(feed, clock)
        assert len(venue.asked) == 2

    _feeding(scenario, pause=0.005)


def test_a_history_that_does_not_answer_is_not_asked_again_at_once():
    async def scenario(feed, told, venue, clock):
        venue.fails = True
        clock.advance_to(START + MINUTE)
        told.bar(START)
        clock.advance_to(START + MINUTE + 30_000)
        await _until(lambda: venue.asked)
        await asyncio.sleep(0.05)
        assert len(venue.asked) == 1
        await _is_right(feed, clock)  # nothing depends on it

    _feeding(scenario, pause=0.005)


def test_preparing_survives_a_venue_that_does_not_answer():
    async def scenario(feed, told, venue, clock):
        venue.fails = True
        await feed.prepare([("ETH/USDT:USDT", ONE, 5)])
        with pytest.raises(UnreadableError):
            await feed.closed_bars("ETH/USDT:USDT", ONE, 5)

    _feeding(scenario)


def test_what_breaks_in_the_background_is_raised():
    async def scenario(feed, told, venue, clock):
        told.broken = KeyError("a defect")
        with pytest.raises(KeyError, match="a defect"):
            await feed.closed_bars(SYMBOL, ONE, 5)
        told.broken = None

        async def defect(symbol, frame, count):
            raise ZeroDivisionError

        venue.closed_bars = defect
        told.heard(BarGap(SYMBOL, ONE, "lost"))
        clock.advance_to(START + 30_000)
        await _until(lambda: feed._proving.done())
        with pytest.raises(ZeroDivisionError):
            await feed.closed_bars(SYMBOL, ONE, 5)

    _feeding(scenario, pause=0.005)


@pytest.mark.parametrize(
    "values", [{"patience": -1.0}, {"pause": 0.0}, {"request": math.nan}], ids=str
)
def test_senseless_configurations_are_refused(values):
    with pytest.raises(ValueError, match="feed"):
        FeedConfig(**values)


# The feed at the exchange -----------------------------------------------------------------------


def _fed(scenario, **options):
    """Run a scenario with a feed of the adapter at a server that stands still."""

    async def whole():
        async with connected(**options) as (venue, server):
            venue._bar_times = STREAM
            feed = BarFeed(venue, venue.bar_stream, ServerClock(server), FeedConfig(patience=5.0))
            await feed.connect()
            try:
                await feed.prepare((SYMBOL, frame, 30) for frame in (ONE, FIVE))
                stream = feed._stream
                await _until(lambda: all(stream.live(SYMBOL, frame) for frame in (ONE, FIVE)))
                await scenario(feed, venue, server)
            finally:
                await feed.close()

    asyncio.run(whole())


async def _same(feed, venue, frame):
    """Bars of the feed, which are those of the venue."""
    ours, theirs = (
        await feed.closed_bars(SYMBOL, frame, 30),
        await venue.closed_bars(SYMBOL, frame, 30),
    )
    assert _rows(ours) == _rows(theirs)
    assert ours.frame == theirs.frame


def _next_minute(server):
    server.advance(MINUTE - server.engine.now_ms % MINUTE)


def test_memory_and_history_are_one_bar_after_bar():
    async def scenario(feed, venue, server):
        for _ in range(7):
            _next_minute(server)
            for frame in (ONE, FIVE):
                await _same(feed, venue, frame)
        assert (feed.from_memory, feed.from_venue) == (14, 2)
        assert feed.gaps == feed.revised == 0
        assert set(feed.usage().silences) == {"private", "bars"}
        assert all(0 <= seconds < 60 for seconds in feed.usage().silences.values())
        before = len(server.requests("market/kline"))
        await feed.prove(SYMBOL, ONE)
        assert len(server.requests("market/kline")) == before + 1
        assert feed.revised == 0

    _fed(scenario)


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("duplicate_events", {}),
        ("shuffle_events", {}),
        ("mutate_field", {"path": "data.0.high", "value": "NaN"}),
        ("drop_field", {"path": "data.0.confirm"}),
        ("garbage_event", {"body": "{"}),
        ("drop_stream", {}),
        ("delay_events", {"seconds": 0.05}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_happens_on_the_stream_the_bars_are_right(action, arguments):
    async def scenario(feed, venue, server):
        feed.config = FeedConfig(patience=0.2)
        server.faults.add("stream/public/kline.1.BTCUSDT", action, 3, **arguments)
        for _ in range(5):
            _next_minute(server)
            await _same(feed, venue, ONE)
        server.faults.clear()
        before = feed.from_memory
        async with asyncio.timeout(10):
            while feed.from_memory == before:  # it comes back by itself
                await asyncio.sleep(0.02)
                _next_minute(server)
                await _same(feed, venue, ONE)
        assert feed.revised == 0

    _fed(scenario)
