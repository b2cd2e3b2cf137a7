"""The dead man's timer: armed with every connection, and what it cancels when nobody comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from live import config as configs
from live.clock import SystemClock
from live.config import ConfigError
from live.env import BybitFuturesSLTPTradingEnv, BybitFuturesTradingEnv
from live.exchange.book import OrderKind, OrderRequest
from live.exchange.engine import Engine
from live.exchange.server import ExchangeServer
from live.risk import RiskConfig
from live.runner import venue_of
from live.secrets import Secret
from live.types import IntentKind, Side, UnreadableError
from live.venue import EventKind, deadman_of
from live.venues.bybit import BybitVenue
from live.venues.together import TogetherVenue
from tests.live.bybit_server import SYMBOL, around, intent, unconnected, until
from tests.live.harness import BTC, HISTORY, exchange, minutes

pytestmark = pytest.mark.filterwarnings("ignore:action_levels")

SET, ASK = "order/disconnected-cancel-all", "account/query-dcp-info"


def rest(engine: Engine, client_id: str = "rests") -> None:
    """An order that waits far above the market."""
    price = (engine.mark(BTC) * 2).quantize(Decimal("0.1"))
    engine.submit(
        OrderRequest(
            BTC,
            Side.BUY,
            Decimal("0.01"),
            client_id=client_id,
            kind=OrderKind.TRIGGER,
            trigger_price=price,
            rising=True,
        )
    )


def resting(engine: Engine) -> list[str]:
    return [one.client_id for one in engine.orders(BTC, live=True) if not one.kind.protective]


# The exchange -----------------------------------------------------------------------------------


def test_orders_rest_as_long_as_somebody_comes_back_in_time() -> None:
    engine = exchange(minutes(HISTORY + 60), HISTORY).engine
    engine.deadman.seconds = 10
    rest(engine)
    engine.watch("a", True)
    engine.watch("b", True)
    engine.watch("a", False)
    engine.watch("stranger", False)
    engine.advance(60_000)
    assert resting(engine) == ["rests"]  # b is there
    engine.watch("b", False)
    engine.advance(9_000)
    engine.watch("c", True)
    engine.advance(60_000)
    assert resting(engine) == ["rests"]
    engine.watch("c", False)
    engine.advance(9_999)
    assert resting(engine) == ["rests"]
    engine.advance(1)
    assert resting(engine) == []
    rest(engine, "later")
    engine.advance(60_000)
    assert resting(engine) == ["later"]  # it has run once


def test_it_runs_out_at_its_time_however_time_is_cut() -> None:
    engine = exchange(minutes(HISTORY + 60), HISTORY).engine
    engine.deadman.seconds = 10
    rest(engine)
    engine.watch("a", True)
    engine.watch("a", False)
    due_ms = engine.now_ms + 10_000
    engine.advance(600_000)
    [order] = engine.orders(BTC)
    assert order.updated_ms == due_ms


def test_a_timer_that_nobody_set_does_not_run() -> None:
    engine = exchange(minutes(HISTORY + 60), HISTORY).engine
    rest(engine)
    engine.watch("a", True)
    engine.watch("a", False)
    engine.advance(600_000)
    assert resting(engine) == ["rests"]


# The adapter ------------------------------------------------------------------------------------


def armed(
    scenario: Any, *, deadman: int = 5, prepare: Any = lambda server: None, connect: bool = True
) -> None:
    """A scenario with a venue that has the timer, at an exchange that stands still."""

    async def whole() -> None:
        server = exchange(minutes(HISTORY + 60), HISTORY, ack_delay=0.0)
        async with server.running():
            prepare(server)
            venue = unconnected(server, deadman=deadman)
            try:
                if connect:
                    await venue.connect()
                    await venue.instrument(SYMBOL)
                await scenario(venue, server)
            finally:
                await venue.close()

    asyncio.run(whole())


async def soon(true: Callable[[], bool]) -> None:
    """Wait for what happens beside the test; fails after some seconds."""
    for _ in range(200):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came true")


def test_it_is_set_before_anything_is_sent_and_read_back() -> None:
    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        assert server.engine.deadman.seconds == 5
        assert server.requests(SET) == [SET]
        assert await deadman_of(venue) == 5
        assert await deadman_of(TogetherVenue(venue)) == 5

    armed(scenario)


def test_without_it_the_account_is_left_as_it_is() -> None:
    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        assert server.requests(SET) == []
        assert await deadman_of(venue) is None
        events = venue.events()
        await until(events, EventKind.CONNECTED)
        assert "dcp" not in server.stream_topics()

    armed(scenario, deadman=0)


def test_what_rests_is_cancelled_when_the_socket_stays_away_and_stops_survive() -> None:
    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        engine = server.engine
        await until(venue.events(), EventKind.CONNECTED)
        await venue.submit(intent(IntentKind.BRACKET, bracket=around(engine.mark(BTC))))
        rest(engine)
        legs = engine.bracket(BTC)
        assert legs.stop_price is not None
        await venue.close()
        await asyncio.sleep(0.05)
        server.advance(4_000)
        assert resting(engine) == ["rests"]
        server.advance(2_000)
        assert resting(engine) == []
        assert engine.bracket(BTC) == legs

    armed(scenario)


def test_every_new_connection_arms_it_again() -> None:
    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        events = venue.events()
        await until(events, EventKind.CONNECTED)
        server.engine.deadman.seconds = 300  # somebody else
        server.drop_streams()
        await until(events, EventKind.DISCONNECTED, EventKind.CONNECTED)
        await soon(lambda: server.engine.deadman.seconds == 5)
        rest(server.engine)
        server.advance(60_000)
        assert resting(server.engine) == ["rests"]  # the new socket is watched

    armed(scenario)


def test_an_arming_that_fails_later_is_told_and_keeps_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        events = venue.events()
        await until(events, EventKind.CONNECTED)
        server.faults.add(SET, "reject", 1, code=10001, message="no such thing")
        with caplog.at_level(logging.WARNING, "live.venues"):
            server.drop_streams()
            await until(events, EventKind.DISCONNECTED, EventKind.CONNECTED)
            await soon(lambda: "no such thing" in caplog.text)
        await venue.submit(intent())
        await until(events, EventKind.FILL)

    armed(scenario)


def test_a_venue_that_refuses_it_is_told_clearly_before_anything_is_traded() -> None:
    def refuse(server: ExchangeServer) -> None:
        server.faults.add(SET, "reject", None, code=10005, message="not for this account")

    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        with pytest.raises(ValueError, match=r"not for this account.*deadman_seconds") as told:
            await venue.connect()
        assert "enabled" in str(told.value)

    armed(scenario, prepare=refuse, connect=False)


def test_nobody_knows_whether_it_was_set_where_no_answer_came() -> None:
    def drop(server: ExchangeServer) -> None:
        server.faults.add(SET, "accept_then_drop", None)

    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        with pytest.raises(UnreadableError, match="dead man"):
            await venue.connect()

    armed(scenario, prepare=drop, connect=False)


def test_what_is_read_back_later_is_told_where_it_differs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def empty(server: ExchangeServer) -> None:
        server.faults.add(ASK, "mutate_field", None, path="result.dcpInfos", value=[])

    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        assert "off" in caplog.text

    with caplog.at_level(logging.WARNING, "live.venues"):
        armed(scenario, prepare=empty)


@pytest.mark.parametrize(
    "row",
    [
        {"product": "DERIVATIVES", "dcpStatus": "ON", "timeWindow": "soon"},
        {"product": "DERIVATIVES", "dcpStatus": "PERHAPS", "timeWindow": "10"},
        {"dcpStatus": "ON", "timeWindow": "10"},
        "ON",
    ],
    ids=["window", "status", "product", "no-row"],
)
def test_a_timer_that_makes_no_sense_is_unreadable(row: object) -> None:
    def change(server: ExchangeServer) -> None:
        server.faults.add(ASK, "mutate_field", None, path="result.dcpInfos", value=[row])

    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        with pytest.raises(UnreadableError):
            await venue.deadman()

    armed(scenario, deadman=0, prepare=change)


@pytest.mark.parametrize(("looking", "found"), [(False, 60), (True, None)], ids=["run", "look"])
def test_a_run_sets_what_is_configured_and_a_look_does_not(looking, found) -> None:
    async def whole() -> None:
        server = exchange(minutes(HISTORY + 60), HISTORY)
        async with server.running() as url:
            given = {"runner.mode": "demo", "risk.deadman_seconds": "60", "venue.base_url": url}
            keys = {"api_key": server.api_key, "api_secret": server.api_secret}
            wanted = {name: Secret(name, value) for name, value in keys.items()}
            config = configs.load(None, given, {})
            venue = venue_of(config, wanted, SystemClock(), looking=looking)
            try:
                await venue.connect()
                assert server.engine.deadman.seconds == found
            finally:
                await venue.close()

    asyncio.run(whole())


def test_an_environment_has_the_timer_of_its_limits() -> None:
    for made in (BybitFuturesTradingEnv, BybitFuturesSLTPTradingEnv):
        env = made(api_key="a", api_secret="b", risk=RiskConfig(deadman_seconds=7.0))
        keys = {name: Secret(name, "x" * 12) for name in ("api_key", "api_secret")}
        assert env._exchange(keys, SystemClock())._deadman == 7  # type: ignore[attr-defined]


# The configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["2", "301", "10.5"])
def test_a_time_that_the_venue_does_not_take_is_refused(seconds: str) -> None:
    with pytest.raises(ConfigError, match=r"deadman_seconds: .* 3 to 300.*was"):
        configs.load(None, {"risk.deadman_seconds": seconds}, {})


@pytest.mark.parametrize("seconds", ["0", "3", "300"])
def test_other_times_are_taken(seconds: str) -> None:
    assert configs.load(None, {"risk.deadman_seconds": seconds}, {}).risk.deadman_seconds == float(
        seconds
    )


def test_a_venue_without_a_timer_takes_none() -> None:
    good = configs.load(None, {}, {})
    bare = dataclasses.replace(good.env.constants, deadman_seconds=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(good.env), "constants", bare)
        with pytest.raises(ConfigError, match="has no such timer"):
            configs.load(None, {"risk.deadman_seconds": "60"}, {})
