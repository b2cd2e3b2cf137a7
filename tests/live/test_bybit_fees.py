"""Fees at Bybit: one question for every symbol, and what the list does not tell is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from live.clock import VirtualClock
from live.exchange.opening import instruments
from live.exchange.server import ExchangeServer
from live.types import Category, UnreadableError
from live.venues import bybit_parse as parse
from live.venues.bybit import BybitVenue
from live.venues.bybit_fees import FeeRates
from live.venues.bybit_market import taker_fees
from live.venues.codes import RefusedReadError
from tests.live.bybit_server import run

LISTED = instruments(12)


def test_the_fees_of_many_symbols_are_one_question():
    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        for one in LISTED:
            assert (await venue.instrument(one.venue_symbol)).taker_fee == one.taker_fee
        await asyncio.gather(*(venue.listing(one.venue_symbol) for one in LISTED))
        assert len(server.requests("account/fee-rate")) == 1

    run(scenario, instruments=LISTED)


def test_a_refused_list_is_asked_for_symbol_by_symbol():
    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        before = len(server.requests("account/fee-rate"))
        venue._fees = FeeRates(VirtualClock(0))
        server.faults.add("account/fee-rate", "reject", 1, code=10001)
        for one in LISTED[:3]:
            assert (await venue.instrument(one.venue_symbol)).taker_fee == one.taker_fee
        assert len(server.requests("account/fee-rate")) == before + 4

    run(scenario, instruments=LISTED)


class Client:
    """Answers with what it is told, and remembers what it was asked."""

    has_keys = True

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[Any] = []

    async def read(self, what: str, query: Mapping[str, object]) -> parse.Envelope:
        self.asked.append(query.get("symbol"))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        rows = [{"symbol": name, "takerFeeRate": fee} for name, fee in answer]
        raw = {"retCode": 0, "time": 1_750_000_000_000, "result": {"list": rows}}
        return parse.envelope(raw, what)


def fees(client: Client, clock: VirtualClock, *names: str) -> list[Decimal | None]:
    rates = FeeRates(clock)

    async def ask() -> list[Decimal | None]:
        found = []
        for name in names:
            if name == "later":
                clock.advance_to(clock.now_ms() + 61_000)
            else:
                found.append(await rates.taker(client, name))  # type: ignore[arg-type]  # stands in
        return found

    return asyncio.run(ask())


def test_what_the_list_leaves_out_or_spoils_is_asked_for():
    listed = [("A", "0.0005"), ("B", "much"), ("C", "0.1"), ("C", "0.2")]
    client = Client(listed, [("B", "0.0006")], [("C", "0.0007")], [])
    found = fees(client, VirtualClock(0), "A", "B", "C", "D", "A")
    assert found == [Decimal("0.0005"), Decimal("0.0006"), Decimal("0.0007"), None, found[0]]
    assert client.asked == [None, "B", "C", "D"]


def test_a_changed_fee_is_seen_after_a_minute():
    client = Client([("A", "0.0005")], [("A", "0.0004")])
    found = fees(client, VirtualClock(0), "A", "A", "later", "A")
    assert found == [Decimal("0.0005"), Decimal("0.0005"), Decimal("0.0004")]
    assert client.asked == [None, None]


def test_a_venue_that_does_not_tell_leaves_the_usual_fee():
    client = Client(UnreadableError("odd"), UnreadableError("odd"))
    assert fees(client, VirtualClock(0), "A") == [None]
    client.has_keys = False
    assert fees(client, VirtualClock(0), "A") == [None]
    assert client.asked == [None, "A"]


def test_keys_that_are_refused_are_told():
    refused = RefusedReadError("no", Category.AUTH, "10003")
    with pytest.raises(RefusedReadError):
        fees(Client(refused), VirtualClock(0), "A")


def test_rates_that_make_no_sense_are_left_out():
    rows = [("A", "0"), ("B", "1"), ("C", "-0.1"), ("D", "nan"), ("E", "0.001")]
    raw = [{"symbol": name, "takerFeeRate": fee} for name, fee in rows]
    reply = parse.envelope(
        {"retCode": 0, "time": 1_750_000_000_000, "result": {"list": [*raw, None, {}]}}, "fees"
    )
    assert taker_fees(reply) == {"A": Decimal(0), "E": Decimal("0.001")}
