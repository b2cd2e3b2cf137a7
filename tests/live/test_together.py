"""Reads of many symbols as one: no answer is old, and silence is not the word for flat."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtrade.market import synthetic
from live.exchange.opening import default_instrument
from live.types import (
    Balance,
    Certainty,
    Definitive,
    Fill,
    FillKind,
    Flat,
    Held,
    MarginMode,
    Quote,
    Side,
    Unknown,
    UnreadableError,
)
from live.venue import BatchVenue, EventKind, Venue, VenueEvent
from live.venues import bybit_lists
from live.venues.bybit import BybitVenue
from live.venues.joint import JointRead
from live.venues.together import FlatMemory, TogetherConfig, TogetherVenue
from tests.live.bybit_server import around, ask_once, connected, intent

BASES = ("BTC", "ETH", "SOL", "XRP", "ADA")
SYMBOLS = tuple(f"{base}/USDT:USDT" for base in BASES)
NAMES = tuple(f"{base}USDT" for base in BASES)
BTC, ETH, SOL, *_ = SYMBOLS
LOT = Decimal("0.01")


# One request for many callers -------------------------------------------------------------------


def _joint(read, *, gather=0.0, patience=1.0, deadline=5.0):
    return JointRead("answers", read, gather=gather, patience=patience, deadline=deadline)


def test_callers_of_one_turn_share_a_request_that_names_all_of_them():
    async def scenario():
        asked = []

        async def read(keys):
            asked.append(keys)
            return len(asked)

        joint = _joint(read)
        answers = await asyncio.gather(*(joint.ask(name) for name in "abca"))
        assert answers == [1, 1, 1, 1]
        assert asked == [frozenset("abc")]
        assert await joint.ask("d") == 2

    asyncio.run(scenario())


@settings(max_examples=60, deadline=None)
@given(
    pauses=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    patience=st.sampled_from([0.0, 1.0]),
)
def test_no_answer_is_older_than_its_question(pauses, lengths, patience):
    async def scenario():
        ticks = itertools.count()
        lasting = itertools.cycle(lengths)
        flying = most = 0

        async def read(keys):
            nonlocal flying, most
            begun = next(ticks)
            flying += 1
            most = max(most, flying)
            for _ in range(next(lasting)):
                await asyncio.sleep(0)
            flying -= 1
            return begun, keys

        joint = _joint(read, patience=patience)

        async def one(number, turns):
            for _ in range(turns):
                await asyncio.sleep(0)
            asked = next(ticks)
            begun, keys = await joint.ask(number)
            assert begun > asked
            assert number in keys

        await asyncio.gather(*(one(*each) for each in enumerate(itertools.accumulate(pauses))))
        assert most == 1 or patience == 0

    asyncio.run(scenario())


def test_a_failure_is_everybody_s_and_the_next_question_is_asked_anew():
    async def scenario():
        failing = True

        async def read(keys):
            if failing:
                raise UnreadableError("no")
            return "yes"

        joint = _joint(read)
        answers = await asyncio.gather(*map(joint.ask, "abc"), return_exceptions=True)
        assert [type(one) for one in answers] == [UnreadableError] * 3
        failing = False
        assert await joint.ask("a") == "yes"

    asyncio.run(scenario())


def test_a_request_without_end_is_unreadable_in_time():
    async def scenario():
        joint = _joint(lambda keys: asyncio.Event().wait(), deadline=0.05)
        with pytest.raises(UnreadableError, match=r"answers: no answer in 0\.05 s"):
            await joint.ask("a")

    asyncio.run(scenario())


def test_a_slow_request_holds_the_next_one_up_only_so_long():
    async def scenario():
        async def read(keys):
            if "slow" in keys:
                await asyncio.Event().wait()
            return keys

        joint = _joint(read, patience=0.02, deadline=5.0)
        slow = asyncio.ensure_future(joint.ask("slow"))
        await asyncio.sleep(0.01)
        assert await asyncio.wait_for(joint.ask("quick"), 4) == {"quick"}
        assert not slow.done()
        slow.cancel()

    asyncio.run(scenario())


def test_a_caller_that_gives_up_takes_the_answer_from_nobody():
    async def scenario():
        go = asyncio.Event()

        async def read(keys):
            await go.wait()
            return "answer"

        joint = _joint(read)
        hasty, patient = (asyncio.ensure_future(joint.ask(name)) for name in "ab")
        await asyncio.sleep(0.01)
        hasty.cancel()
        await asyncio.sleep(0)
        go.set()
        assert await patient == "answer"

    asyncio.run(scenario())


# What counts as flat ----------------------------------------------------------------------------


def _held(quantity="0.5"):
    price = Decimal(100)
    return Held(
        Decimal(quantity), price, price, Decimal(0), Decimal(3), MarginMode.ISOLATED, None, 0
    )


class Account:
    """A venue in memory that lists what is held, and counts what it is asked."""

    name = "account"
    capabilities = BybitVenue.capabilities

    def __init__(self):
        self.held = {}
        self.asked = Counter()
        self.hidden = set()  # held, but the listing does not show it
        self.fails = False
        self.word = None  # what a single read says instead
        self.meanwhile = None
        self.traded = []

    async def positions(self, symbols):
        self.asked["listing"] += 1
        if self.fails:
            raise UnreadableError("a page is missing")
        return {s: p for s, p in self.held.items() if s in symbols and s not in self.hidden}

    async def position(self, symbol):
        self.asked[symbol] += 1
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.held.get(symbol, Flat()) if self.word is None else self.word

    async def quotes(self, symbols):
        self.asked["quotes"] += 1
        return {BTC: Quote(*[Decimal(1)] * 3, 0)}

    async def quote(self, symbol):
        self.asked[symbol] += 1
        return Quote(*[Decimal(2)] * 3, 0)

    async def all_fills(self, symbols, since_ms):
        self.asked["fills"] += 1
        return {s: [one for one in self.traded if one.venue_time_ms >= since_ms] for s in symbols}

    async def fills(self, symbol, since_ms):
        self.asked[symbol] += 1
        return [one for one in self.traded if one.venue_time_ms >= since_ms]

    async def open_orders(self, symbols):
        self.asked["orders"] += 1
        return {BTC: ()}

    async def orders(self, symbol):
        self.asked[symbol] += 1
        return ()

    async def balance(self):
        self.asked["balance"] += 1
        return Balance(Decimal(1), Decimal(1), None, "USDT", 0)

    async def submit(self, intent):
        return Definitive(Certainty.ACCEPTED)

    async def cancel(self, symbol, client_id="", *, venue_order_id=""):
        return Definitive(Certainty.ACCEPTED)

    async def amend_protection(self, symbol, bracket):
        return Definitive(Certainty.ACCEPTED)

    async def events(self):
        for event in self.told:
            yield event


async def _look(venue, *symbols):
    return await asyncio.gather(*map(venue.position, symbols))


async def _flat_once():
    """A venue that was asked for two flat symbols, so that both words are known."""
    account = Account()
    venue = TogetherVenue(account)
    assert await _look(venue, BTC, ETH) == [Flat(), Flat()]
    assert account.asked == {"listing": 1, BTC: 1, ETH: 1}
    account.asked.clear()
    return account, venue


async def _events(account, venue, *events):
    account.told = [VenueEvent(*event) for event in events]
    async for _ in venue.events():
        pass


def test_after_the_word_for_flat_a_complete_listing_without_a_row_is_enough():
    async def scenario():
        account, venue = await _flat_once()
        for _ in range(3):
            assert await _look(venue, BTC, ETH) == [Flat(), Flat()]
        assert account.asked == {"listing": 3}

    asyncio.run(scenario())


async def _submitted(account, venue):
    await venue.submit(intent(symbol=BTC))


async def _amended(account, venue):
    await venue.amend_protection(BTC, around(Decimal(100)))


async def _cancelled(account, venue):
    await venue.cancel(BTC, "an-order")


async def _shown(account, venue):
    account.held[BTC] = _held()
    await _look(venue, BTC, ETH)
    del account.held[BTC]


async def _shown_flat(account, venue):
    account.held[BTC] = Flat()
    await _look(venue, BTC, ETH)
    del account.held[BTC]


async def _shown_to_others(account, venue):
    await _look(venue, SOL, ETH)
    account.held[BTC] = _held()
    await _look(venue, SOL, ETH)
    del account.held[BTC]


async def _filled(account, venue):
    await _events(account, venue, (EventKind.FILL, BTC))


async def _ordered(account, venue):
    await _events(account, venue, (EventKind.ORDER, BTC))


async def _moved(account, venue):
    await _events(account, venue, (EventKind.POSITION, BTC))


@pytest.mark.parametrize(
    "shake",
    [
        _submitted,
        _amended,
        _cancelled,
        _shown,
        _shown_flat,
        _shown_to_others,
        _filled,
        _ordered,
        _moved,
    ],
    ids=lambda function: function.__name__.strip("_"),
)
def test_what_may_have_changed_a_position_is_asked_for_its_word_again(shake):
    async def scenario():
        account, venue = await _flat_once()
        await shake(account, venue)
        account.asked.clear()
        assert await _look(venue, BTC, ETH) == [Flat(), Flat()]
        assert account.asked == {"listing": 1, BTC: 1}
        # The new word counts from now on.
        await _look(venue, BTC, ETH)
        assert account.asked == {"listing": 2, BTC: 1}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "events",
    [
        [(EventKind.DISCONNECTED,)],
        [(EventKind.MALFORMED,)],
    ],
    ids=["disconnected", "malformed"],
)
def test_after_a_break_of_the_stream_every_word_is_asked_for_again(events):
    async def scenario():
        account, venue = await _flat_once()
        await _events(account, venue, *events)
        await _look(venue, BTC, ETH)
        assert account.asked == {"listing": 1, BTC: 1, ETH: 1}

    asyncio.run(scenario())


def test_what_happened_while_the_stream_was_away_is_not_trusted_when_it_is_back():
    async def scenario():
        account, venue = await _flat_once()
        await _events(account, venue, (EventKind.DISCONNECTED,))
        await _look(venue, BTC, ETH)
        await _events(account, venue, (EventKind.CONNECTED,))
        account.asked.clear()
        await _look(venue, BTC, ETH)
        assert account.asked == {"listing": 1, BTC: 1, ETH: 1}

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", [EventKind.CONNECTED, EventKind.BALANCE])
def test_the_first_connection_and_the_wallet_say_nothing_of_positions(kind):
    async def scenario():
        account, venue = await _flat_once()
        await _events(account, venue, (kind,))
        await _look(venue, BTC, ETH)
        assert account.asked == {"listing": 1}

    asyncio.run(scenario())


def test_a_position_that_was_opened_is_seen_though_it_was_flat_a_moment_ago():
    async def scenario():
        account, venue = await _flat_once()
        account.held[BTC] = _held()
        assert await _look(venue, BTC, ETH) == [_held(), Flat()]

    asyncio.run(scenario())


def test_a_position_that_the_listing_hides_is_found_by_its_own_word():
    async def scenario():
        account, venue = await _flat_once()
        account.held[BTC] = _held()
        account.hidden.add(BTC)
        await venue.submit(intent(symbol=BTC))
        assert await _look(venue, BTC, ETH) == [_held(), Flat()]
        assert await _look(venue, BTC, ETH) == [_held(), Flat()]
        assert account.asked == {"listing": 2, BTC: 2}

    asyncio.run(scenario())


def test_a_failed_listing_fails_for_everybody_and_is_never_flat():
    async def scenario():
        account, venue = await _flat_once()
        account.fails = True
        answers = await asyncio.gather(*map(venue.position, (BTC, ETH)), return_exceptions=True)
        assert [type(one) for one in answers] == [UnreadableError] * 2
        account.fails = False
        assert await _look(venue, BTC, ETH) == [Flat(), Flat()]

    asyncio.run(scenario())


def test_an_unknown_row_is_asked_for_alone_and_an_unknown_word_is_none():
    async def scenario():
        account, venue = await _flat_once()
        account.held[BTC] = Unknown("a row that makes no sense")
        account.word = Unknown("still not")
        for number in (1, 2):
            assert await _look(venue, BTC, ETH) == [Unknown("still not"), Flat()]
            assert account.asked == {"listing": number, BTC: number}
        del account.held[BTC]
        assert await _look(venue, BTC, ETH) == [Unknown("still not"), Flat()]

    asyncio.run(scenario())


def test_a_word_given_while_an_order_is_under_way_does_not_count():
    async def scenario():
        account = Account()
        venue = TogetherVenue(account)

        async def meanwhile():
            account.meanwhile = None
            await venue.submit(intent(symbol=BTC))

        account.meanwhile = meanwhile
        await _look(venue, BTC, ETH)
        account.asked.clear()
        await _look(venue, BTC, ETH)
        assert account.asked[BTC] == 1

    asyncio.run(scenario())


def test_a_word_given_before_an_order_has_its_answer_does_not_count():
    async def scenario():
        account, venue = await _flat_once()
        sent, answered = asyncio.Event(), asyncio.Event()

        async def submit(intent):
            sent.set()
            await answered.wait()
            return Definitive(Certainty.ACCEPTED)

        account.submit = submit
        order = asyncio.ensure_future(venue.submit(intent(symbol=BTC)))
        await sent.wait()
        await _look(venue, BTC, ETH)
        assert account.asked == {"listing": 1, BTC: 1}
        answered.set()
        await order
        account.asked.clear()
        await _look(venue, BTC, ETH)
        assert account.asked == {"listing": 1, BTC: 1}

    asyncio.run(scenario())


def test_one_caller_alone_gets_the_word_itself():
    async def scenario():
        account, venue = await _flat_once()
        assert await venue.position(BTC) == Flat()
        assert account.asked == {BTC: 1}

    asyncio.run(scenario())


def test_only_the_word_of_that_time_is_remembered():
    memory = FlatMemory()
    mark = memory.mark(BTC)
    memory.changed(BTC)
    memory.said(BTC, Flat(), mark)
    assert BTC not in memory
    memory.said(BTC, Flat(), memory.mark(BTC))
    assert BTC in memory
    memory.said(BTC, Unknown("?"), memory.mark(BTC))
    assert BTC not in memory


# Other reads ------------------------------------------------------------------------------------


def test_what_a_listing_leaves_out_is_asked_for_alone():
    async def scenario():
        account = Account()
        venue = TogetherVenue(account)
        quotes = await asyncio.gather(venue.quote(BTC), venue.quote(ETH))
        assert [one.mark for one in quotes] == [1, 2]
        assert await asyncio.gather(venue.orders(BTC), venue.orders(ETH)) == [(), ()]
        assert account.asked == {"quotes": 1, "orders": 1, ETH: 2}

    asyncio.run(scenario())


def test_the_balance_is_read_once_for_callers_of_one_turn():
    async def scenario():
        account = Account()
        venue = TogetherVenue(account)
        await asyncio.gather(*(venue.balance() for _ in range(20)))
        assert account.asked == {"balance": 1}
        await venue.balance()
        assert account.asked == {"balance": 2}

    asyncio.run(scenario())


def test_a_venue_that_lists_nothing_is_asked_symbol_by_symbol():
    class Bare:
        def __init__(self, account):
            self._account = account
            self.name, self.capabilities = account.name, account.capabilities

        def __getattr__(self, name):
            if name in ("positions", "quotes", "open_orders", "all_fills"):
                raise AttributeError(name)
            return getattr(self._account, name)

    async def scenario():
        account = Account()
        venue = TogetherVenue(Bare(account))
        for _ in range(2):
            await asyncio.gather(*map(venue.position, SYMBOLS), *map(venue.quote, SYMBOLS))
        assert account.asked == dict.fromkeys(SYMBOLS, 4)
        assert not isinstance(venue, BatchVenue)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "values", [{"gather": -1.0}, {"patience": float("nan")}, {"deadline": 0.0}], ids=str
)
def test_senseless_times_are_refused(values):
    with pytest.raises(ValueError, match="together"):
        TogetherConfig(**values)


# At the exchange --------------------------------------------------------------------------------


def _run(scenario, *, opened=(), **options):
    """Run a scenario with a connected venue of five symbols, some of them held."""

    async def whole():
        listed = [
            dataclasses.replace(
                default_instrument(), symbol=symbol, venue_symbol=name, base=name[:-4]
            )
            for symbol, name in zip(SYMBOLS, NAMES, strict=True)
        ]
        frames = {
            name: synthetic.minutes(number, 160, volatility=0.0005, price=50_000.0, tick=0.1)
            for number, name in enumerate(NAMES)
        }
        async with connected(source=frames, instruments=listed, history=100, **options) as (
            venue,
            server,
        ):
            for name in opened:
                server.engine.manual_trade(name, LOT)
            await scenario(venue, TogetherVenue(venue), server)

    asyncio.run(whole())


def test_all_symbols_cost_as_many_requests_as_one():
    async def scenario(alone, venue, server):
        assert isinstance(alone, BatchVenue)
        assert isinstance(venue, Venue)

        async def everything():
            before = Counter(server.requests())
            reads = (venue.position, venue.quote, venue.orders)
            await asyncio.gather(
                *(read(symbol) for read in reads for symbol in SYMBOLS),
                *(venue.balance() for _ in SYMBOLS),
            )
            return Counter(server.requests()) - before

        first = await everything()
        # Three symbols are flat, which must be said of each of them once.
        assert first.pop("position/list") == 1 + 3
        once = {"market/tickers": 1, "order/realtime": 2, "account/wallet-balance": 1}
        assert first == once
        assert await everything() == {**once, "position/list": 1}

    _run(scenario, opened=NAMES[:2])


def test_many_answers_are_those_of_one():
    async def scenario(alone, venue, server):
        for symbol in SYMBOLS[:2]:
            mark = (await alone.quote(symbol)).mark
            await alone.instrument(symbol)
            await alone.amend_protection(symbol, around(mark))
        now = server.engine.now_ms
        for name in ("position", "quote", "orders"):
            read, one = getattr(venue, name), getattr(alone, name)
            together = await asyncio.gather(*map(read, SYMBOLS))
            assert together == [await one(symbol) for symbol in SYMBOLS]
        assert server.engine.now_ms == now
        assert [len(orders) for orders in together] == [2, 2, 0, 0, 0]

    _run(scenario, opened=NAMES[:2])


def test_a_position_that_changes_between_two_looks_is_seen_by_the_second():
    async def scenario(alone, venue, server):
        before = await _look(venue, *SYMBOLS)
        assert [isinstance(one, Held) for one in before] == [True, False, False, False, False]
        server.engine.manual_trade(NAMES[0], -LOT)
        server.engine.manual_trade(NAMES[1], LOT)
        after = await _look(venue, *SYMBOLS)
        assert [isinstance(one, Held) for one in after] == [False, True, False, False, False]

    _run(scenario, opened=NAMES[:1])


@pytest.mark.parametrize("read", ["position", "orders"])
def test_listings_are_read_to_their_last_page(read, monkeypatch):
    async def scenario(alone, venue, server):
        for symbol in SYMBOLS:
            await alone.instrument(symbol)
            mark = (await alone.quote(symbol)).mark
            await alone.amend_protection(symbol, around(mark))
        monkeypatch.setitem(bybit_lists._ROWS, "position/list", 2)
        monkeypatch.setitem(bybit_lists._ROWS, "order/realtime", 3)
        before = len(server.requests())
        together = await asyncio.gather(*map(getattr(venue, read), SYMBOLS))
        assert len(server.requests()) - before == {"position": 3, "orders": 2 * 4}[read]
        assert together == [await getattr(alone, read)(symbol) for symbol in SYMBOLS]

    _run(scenario, opened=NAMES)


@pytest.mark.parametrize("skip", [0, 1, 2], ids=lambda skip: f"page{skip + 1}")
def test_a_listing_without_one_of_its_pages_is_unreadable_for_everybody(skip, monkeypatch):
    async def scenario(alone, venue, server):
        await _look(venue, *SYMBOLS)  # every word is known
        monkeypatch.setitem(bybit_lists._ROWS, "position/list", 1)
        ask_once(alone)
        server.faults.add("position/list", "html_502", None, skip=skip)
        answers = await asyncio.gather(*map(venue.position, SYMBOLS), return_exceptions=True)
        assert [type(one) for one in answers] == [UnreadableError] * 5

    _run(scenario, opened=NAMES[:3])


@pytest.mark.parametrize(
    ("route", "read"),
    [("position/list", "position"), ("order/realtime", "orders"), ("market/tickers", "quote")],
    ids=["position", "orders", "quote"],
)
def test_a_row_that_makes_no_sense_concerns_its_own_symbol(route, read):
    async def scenario(alone, venue, server):
        for symbol in SYMBOLS[:2]:
            await alone.instrument(symbol)
            mark = (await alone.quote(symbol)).mark
            await alone.amend_protection(symbol, around(mark))
        field = {"position": "avgPrice", "orders": "qty", "quote": "markPrice"}[read]
        server.faults.add(route, "mutate_field", path=f"result.list.0.{field}", value="NaN")
        if read == "orders":  # in both books
            path = f"result.list.0.{field}"
            server.faults.add(route, "mutate_field", path=path, value="NaN")
        before = len(server.requests(route))
        together = await asyncio.gather(*map(getattr(venue, read), SYMBOLS[:2]))
        alone_requests = 2 if read == "orders" else 1
        assert len(server.requests(route)) - before == 2 * alone_requests
        assert together == [await getattr(alone, read)(symbol) for symbol in SYMBOLS[:2]]

    _run(scenario, opened=NAMES[:2])


@pytest.mark.parametrize(
    ("route", "read"),
    [("position/list", "position"), ("order/realtime", "orders")],
    ids=["position", "orders"],
)
def test_a_row_without_a_symbol_may_be_anybody_s(route, read):
    async def scenario(alone, venue, server):
        for symbol in SYMBOLS[:2]:
            await alone.instrument(symbol)
            mark = (await alone.quote(symbol)).mark
            await alone.amend_protection(symbol, around(mark))
        server.faults.add(route, "drop_field", None, path="result.list.1.symbol")
        found = await asyncio.gather(
            *(getattr(venue, read)(symbol) for symbol in SYMBOLS), return_exceptions=True
        )
        assert [type(one) for one in found] == [UnreadableError] * 5

    _run(scenario, opened=NAMES[:2])


async def _traded(alone, server):
    """Some fills of the first three symbols, at two instants; the second of these."""
    for name in NAMES[:3]:
        server.engine.manual_trade(name, LOT)
    server.advance(5000)
    for name in NAMES[:3]:
        server.engine.manual_trade(name, LOT)
    return server.engine.now_ms


@pytest.mark.parametrize("rows", [1, 100], ids=["many-pages", "one-page"])
def test_fills_of_all_symbols_are_those_of_each(rows, monkeypatch):
    async def scenario(alone, venue, server):
        monkeypatch.setitem(bybit_lists._ROWS, "execution/list", rows)
        second = await _traded(alone, server)
        since = [second - 5000, second, second - 5000, second, second]
        before = len(server.requests("execution/list"))
        together = await asyncio.gather(*map(venue.fills, SYMBOLS, since))
        assert len(server.requests("execution/list")) - before == (6 if rows == 1 else 1)
        assert [len(fills) for fills in together] == [2, 1, 2, 0, 0]
        assert together == [await alone.fills(*each) for each in zip(SYMBOLS, since, strict=True)]

    _run(scenario)


def test_more_fills_than_a_listing_shows_are_asked_for_symbol_by_symbol(monkeypatch):
    async def scenario(alone, venue, server):
        monkeypatch.setitem(bybit_lists._ROWS, "execution/list", 1)
        monkeypatch.setattr(bybit_lists, "_MOST_PAGES", 3)
        second = await _traded(alone, server)
        since = [second - 5000] * 5
        together = await asyncio.gather(*map(venue.fills, SYMBOLS, since))
        assert [len(fills) for fills in together] == [2, 2, 2, 0, 0]

    _run(scenario)


def test_a_fill_that_makes_no_sense_concerns_its_own_symbol():
    async def scenario(alone, venue, server):
        second = await _traded(alone, server)
        server.faults.add("execution/list", "new_enum", path="result.list.0.execType")
        since = [second - 5000] * 5
        together = await asyncio.gather(*map(venue.fills, SYMBOLS, since))
        assert [len(fills) for fills in together] == [2, 2, 2, 0, 0]
        assert len(server.requests("execution/list")) == 2
        server.faults.add("execution/list", "drop_field", None, path="result.list.0.symbol")
        found = await asyncio.gather(*map(venue.fills, SYMBOLS, since), return_exceptions=True)
        assert [type(one) for one in found] == [UnreadableError] * 5

    _run(scenario)


def test_one_leg_of_a_hedge_is_not_the_whole_position():
    async def scenario(alone, venue, server):
        leg = {"positionIdx": 1, "side": "Buy"}
        for field, value in leg.items():
            path = f"result.list.0.{field}"
            server.faults.add("position/list", "mutate_field", path=path, value=value)
        before = len(server.requests("position/list"))
        btc, eth = await _look(venue, BTC, ETH)
        assert isinstance(btc, Held)
        assert isinstance(eth, Flat)
        assert len(server.requests("position/list")) - before == 1 + 2

    _run(scenario, opened=NAMES[:1])


def test_fills_of_many_are_one_listing_and_each_gets_those_since_its_own_instant():
    async def scenario():
        account = Account()
        account.traded = [trade(at) for at in (10, 20, 30)]
        venue = TogetherVenue(account)
        early, late = await asyncio.gather(venue.fills(BTC, 0), venue.fills(ETH, 25))
        assert [one.venue_time_ms for one in early] == [10, 20, 30]
        assert [one.venue_time_ms for one in late] == [30]
        assert account.asked == {"fills": 1}
        assert len(await venue.fills(BTC, 15)) == 2  # alone: of the symbol itself
        assert account.asked == {"fills": 1, BTC: 1}

    asyncio.run(scenario())


def trade(time_ms):
    return Fill(
        trade_id=str(time_ms),
        client_id="",
        venue_order_id="",
        side=Side.BUY,
        quantity=Decimal(1),
        price=Decimal(1),
        fee=Decimal(0),
        fee_asset="USDT",
        kind=FillKind.TRADE,
        venue_time_ms=time_ms,
    )
