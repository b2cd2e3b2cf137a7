"""Every reply of the exchange with every field gone, empty or unknown: nothing wrong comes of it.

The fields are those of replies that the exchange really sent. What cannot be read is unknown and
decides nothing; an order whose reply makes no sense is asked about; nothing ends the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from live.exchange.opening import default_instrument
from live.exchange.server import ExchangeServer
from live.risk import TradingState
from live.types import (
    Absent,
    AccountInfo,
    Ambiguous,
    Balance,
    Bracket,
    Certainty,
    Configured,
    Definitive,
    Fill,
    Found,
    Held,
    Instrument,
    MarginMode,
    OrderReport,
    OrderStatus,
    PositionMode,
    Unavailable,
    Unknown,
    UnreadableError,
)
from live.venues.bybit import BybitVenue
from live.venues.bybit_wire import ENDPOINTS
from tests.live.bybit_server import around, ask_once, be_patient, connected, intent, unlimited
from tests.live.harness import BTC, FLAT, LONG, SHORT, SYMBOL, Rig, trading

HTML = "<html><body>502 Bad Gateway</body></html>"
NEW = "BrandNew"
# Nothing costs anything and nothing is lost, so that many turns leave the account as it is.
FREE = {
    "instruments": (dataclasses.replace(default_instrument(), taker_fee=Decimal(0)),),
    "half_spread": Decimal(0),
    "rate_limits": False,
}
LOOSE = {
    "risk.max_drawdown": "0.9",
    "risk.daily_loss_limit": "0.9",
    "env.unreadable_grace_bars": "99",
}
DAY_MS = 86_400_000


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field of a reply and what stands there; of a list its first item."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from places(item, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, "0"))


def damages(reply: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, fault and its arguments: every field dropped, empty, another text; lists emptied."""
    for parts, value in places(reply):
        path = ".".join(parts)
        yield path, "drop_field", {"path": path}
        yield path, "mutate_field", {"path": path, "value": None}
        yield path, "new_enum", {"path": path, "value": NEW}
        if isinstance(value, list):
            yield path, "mutate_field", {"path": path, "value": []}


def damaged(reply: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The same as bodies, for an adapter without a network; and bodies that are none."""
    for path, fault, given in damages(reply):
        body = copy.deepcopy(reply)
        place: Any = body
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        for part in parents:
            place = place[part]
        if fault == "drop_field":
            del place[last]
        else:
            place[last] = given["value"]
        yield f"{path} {fault} {given.get('value', '')}", body
    for body in (None, [], {}, HTML, 0):
        yield f"body {body!r}", body


# The adapter --------------------------------------------------------------------------------------

# What may be lost without spoiling the rest: nothing that is traded depends on it alone.
IDS = {"client_id", "venue_order_id"}
OPTIONAL: dict[type, set[str]] = {
    Held: {"liquidation_price", "stop_price", "target_price"},
    Balance: {"maintenance_margin", "available"},
    # Another text in the place of an id is another id.
    OrderReport: {"role", "average_price", "trigger_price", "status", *IDS},
    Fill: {"fee_asset", "role", "trade_id", *IDS},
    Instrument: {"taker_fee", "maintenance_rate", "delist_ms", "base", "quote"},
    AccountInfo: {"permissions", "margin_mode", "position_mode"},
    Configured: set(),
}
# A number or a word that is lost is none or unknown; these may be another, or the usual one.
LOST = (None, OrderStatus.UNRECOGNISED, MarginMode.UNKNOWN)
FREE_WORDS = {
    *("client_id", "venue_order_id", "trade_id", "fee_asset", "base", "quote", "permissions"),
    *("available", "taker_fee", "maintenance_rate", "position_mode", "venue_time_ms"),
}
EMPTIED = ("result.list mutate_field []", "result.list.0 drop_field ")
NO_ANSWER = (Unknown, Unavailable, Ambiguous)


def agrees(found: Any, whole: Any, emptied: bool = False) -> bool:
    """Whether what a damaged reply says is what the whole one said, or says that it is unknown.

    Args:
      emptied: the damage was an empty list, which says that there is nothing.
    """
    if isinstance(found, NO_ANSWER):
        return True
    if isinstance(found, Absent):
        return emptied
    if isinstance(found, Found) and isinstance(whole, Found):
        return agrees(found.report, whole.report)
    if isinstance(whole, tuple | list):
        # A shorter list is what the reply says, another row is not.
        return all(any(agrees(one, other) for other in whole) for one in found)
    if type(found) is not type(whole):
        return False
    if type(whole) not in OPTIONAL:
        return bool(found == whole)
    fields = (field.name for field in dataclasses.fields(whole))
    differs = {name for name in fields if getattr(found, name) != getattr(whole, name)}
    lost = all(getattr(found, name) in LOST for name in differs - FREE_WORDS)
    return lost and differs <= OPTIONAL[type(whole)] | {"venue_time_ms"}


Call = Callable[[BybitVenue], Awaitable[Any]]
ORDER = intent(quantity=Decimal("0.02"))


async def _prepare(venue: BybitVenue) -> None:
    """A position with its legs, and an order of ours that traded it."""
    await venue.configure(SYMBOL, Decimal(10), MarginMode.ISOLATED, PositionMode.ONE_WAY)
    await venue.submit(ORDER)
    legs = around((await venue.quote(SYMBOL)).mark)
    await venue.amend_protection(SYMBOL, legs)


READS: dict[str, Call] = {
    "position": lambda venue: venue.position(SYMBOL),
    "balance": lambda venue: venue.balance(),
    "quote": lambda venue: venue.quote(SYMBOL),
    "orders": lambda venue: venue.orders(SYMBOL),
    "query": lambda venue: venue.query(SYMBOL, ORDER.client_id),
    "query_history": lambda venue: venue.query(SYMBOL, ORDER.client_id),
    "query_fills": lambda venue: venue.query(SYMBOL, ORDER.client_id),
    "fills": lambda venue: venue.fills(SYMBOL, venue._clock.now_ms() - DAY_MS),
    "instrument": lambda venue: venue.instrument(SYMBOL),
    "server_time": lambda venue: venue.server_time(),
    "configure": lambda venue: venue.configure(
        SYMBOL, Decimal(10), MarginMode.ISOLATED, PositionMode.ONE_WAY
    ),
    "account": lambda venue: venue.account(),
}


def standing_still(venue: BybitVenue, replies: dict[str, Any]) -> None:
    """From now on the SDK returns these bodies, by function, and asks nobody."""
    for session in (venue._client._reading, venue._client._changing):
        for function, body in replies.items():
            answer = (body, None, {})
            setattr(session, function, lambda answer=answer, **query: copy.deepcopy(answer))


@pytest.mark.parametrize("name", READS)
def test_every_field_of_a_read_is_right_or_unreadable(name: str) -> None:
    call = READS[name]

    async def scenario() -> None:
        async with connected(rate_limits=False) as (venue, server):
            unlimited(venue)
            await _prepare(venue)
            if name.startswith("query_"):
                server.engine.forget_closed()  # the lists behind the newest orders are asked
            before = len(server.requests())
            await call(venue)
            recorded = {}
            for route in server.requests()[before:]:
                with contextlib.suppress(KeyError):  # this exchange does not serve every route
                    recorded[ENDPOINTS[route].function] = server.reply(route)
            if name == "query_fills":
                recorded["get_order_history"]["result"]["list"] = []
                recorded["get_executions"] = await executions(venue, server)
            ask_once(venue)
            standing_still(venue, recorded)
            whole = await call(venue)
            assert not isinstance(whole, NO_ANSWER)
            seen = {"right": 0, "unreadable": 0}
            for function, label, body in (
                (function, *case) for function, reply in recorded.items() for case in damaged(reply)
            ):
                standing_still(venue, {**recorded, function: body})
                try:
                    found = await call(venue)
                except (UnreadableError, ValueError):
                    seen["unreadable"] += 1
                    continue
                assert agrees(found, whole, label in EMPTIED), (function, label, found)
                seen["unreadable" if isinstance(found, NO_ANSWER) else "right"] += 1
            assert min(seen.values()) > 0

    asyncio.run(scenario())


async def executions(venue: BybitVenue, server: ExchangeServer) -> dict[str, Any]:
    """The list of fills as the exchange sends it."""
    await READS["fills"](venue)
    return server.reply("execution/list")


SENDS: dict[str, tuple[str, Call]] = {
    "submit": ("order/create", lambda venue: venue.submit(ORDER)),
    "cancel": ("order/cancel", lambda venue: venue.cancel(SYMBOL, ORDER.client_id)),
    "amend": (
        "position/trading-stop",
        lambda venue: venue.amend_protection(SYMBOL, Bracket(Decimal(1), None)),
    ),
}


@pytest.mark.parametrize("name", SENDS)
def test_every_field_of_an_acknowledgement_says_accepted_or_nothing(name: str) -> None:
    route, call = SENDS[name]

    async def scenario() -> None:
        async with connected(rate_limits=False) as (venue, server):
            unlimited(venue)
            reply = {
                "retCode": 0,
                "retMsg": "OK",
                "result": {"orderId": "42", "orderLinkId": ORDER.client_id},
                "retExtInfo": {},
                "time": server.clock.now_ms(),
            }
            function = ENDPOINTS[route].function
            standing_still(venue, {function: reply})
            whole = await call(venue)
            assert isinstance(whole, Definitive) and whole.kind is Certainty.ACCEPTED
            unknown = 0
            for label, body in damaged(reply):
                standing_still(venue, {function: body})
                found = await call(venue)
                accepted = isinstance(found, Definitive) and found.kind is Certainty.ACCEPTED
                assert accepted or isinstance(found, Ambiguous), label
                if accepted and name != "amend":
                    assert body["result"]["orderId"], label
                    assert body["result"]["orderLinkId"] == ORDER.client_id, label
                unknown += isinstance(found, Ambiguous)
            assert unknown > 5

    asyncio.run(scenario())


# The daemon ---------------------------------------------------------------------------------------


def target(rig: Rig) -> Decimal:
    """The size of a full position now."""
    engine = rig.server.engine
    return Decimal("0.98") * 3 * engine.equity() / engine.mark(BTC)


async def spoilt_turn(rig: Rig, route: str, fault: str, given: dict[str, Any], action: int) -> None:
    """A bar under one fault and one without: what was held, flat or the target; then the target."""
    side = action - FLAT
    before = rig.held
    ask_once(rig.daemon.venue)
    rig.server.faults.add(route, fault, None, **given)
    await rig.bar(action)
    assert rig.held in (before, 0) or abs(rig.held - side * target(rig)) < target(rig) / 50
    assert sum(order.index == 0 for order in rig.server.engine.orders(BTC, live=True)) <= 2
    rig.server.faults.clear()
    be_patient(rig.daemon.venue)
    rig.breathe()
    await rig.settle()
    await rig.bar(action)
    await rig.reconcile()
    assert rig.desk.state is TradingState.ACTIVE, (route, fault, given, rig.desk.standing.reasons)
    assert abs(rig.held - side * target(rig)) < target(rig) / 50
    rig.check()


# Read in one bar and one order; where the daemon looks for what became of it.
IN_A_BAR = (
    "position/list",
    "account/wallet-balance",
    "market/tickers",
    "order/realtime",
    "execution/list",
    "order/create",
    "position/trading-stop",
)
BODIES = {
    "html": ("accept_then_garbage", {"body": HTML}),
    "html_502": ("accept_then_html_502", {}),
    "half": ("accept_then_garbage", {"body": '{"retCode":0,"result":{"li'}),
    "no_result": ("drop_field", {"path": "result"}),
    "new_code": ("new_enum", {"path": "retCode"}),
}


@pytest.mark.parametrize("route", IN_A_BAR)
def test_a_reply_that_is_none_changes_nothing_that_matters(route: str) -> None:
    body = itertools.cycle(BODIES.values())
    fault, given = next(itertools.islice(body, IN_A_BAR.index(route) % len(BODIES), None))

    async def test(rig: Rig) -> None:
        unlimited(rig.daemon.venue)
        await rig.bar(LONG)
        await spoilt_turn(rig, route, fault, given, SHORT)

    trading(test, settings=LOOSE, **FREE)


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("route", IN_A_BAR)
def test_no_reply_that_is_none_changes_anything_that_matters(route: str, body: str) -> None:
    fault, given = BODIES[body]

    async def test(rig: Rig) -> None:
        unlimited(rig.daemon.venue)
        await rig.bar(LONG)
        for action in (SHORT, FLAT, LONG):
            await spoilt_turn(rig, route, fault, given, action)

    trading(test, settings=LOOSE, **FREE)


def test_the_fields_that_matter_most_decide_nothing_when_they_are_gone() -> None:
    cases = [
        ("position/list", "drop_field", {"path": "result.list.0.size"}),
        ("position/list", "new_enum", {"path": "result.list.0.side"}),
        ("account/wallet-balance", "mutate_field", {"path": "result.list.0.coin.0.equity"}),
        ("market/tickers", "drop_field", {"path": "result.list.0.markPrice"}),
        ("order/realtime", "new_enum", {"path": "result.list.0.orderStatus"}),
        ("execution/list", "new_enum", {"path": "result.list.0.execType"}),
        ("order/create", "drop_field", {"path": "result.orderId"}),
        ("order/create", "mutate_field", {"path": "result.orderLinkId", "value": NEW}),
    ]

    async def test(rig: Rig) -> None:
        unlimited(rig.daemon.venue)
        await rig.bar(LONG)
        for (route, fault, given), action in zip(cases, itertools.cycle((SHORT, LONG))):
            if fault == "mutate_field":
                given = {"value": None, **given}
            await spoilt_turn(rig, route, fault, given, action)

    trading(test, settings=LOOSE, **FREE)


_CASES_OF_A_RIG = 20  # of two bars each


def recorded_replies() -> dict[str, dict[str, Any]]:
    """What the exchange answers on the way of one bar with an order."""
    found: dict[str, dict[str, Any]] = {}

    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        await rig.bar(SHORT)
        await rig.reconcile()
        found.update({route: rig.server.reply(route) for route in IN_A_BAR})

    trading(test, settings=LOOSE, **FREE)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("route", IN_A_BAR)
def test_no_field_of_a_reply_can_lead_to_a_wrong_position(route: str) -> None:
    reply = recorded_replies()[route]
    cases = [
        (path, fault, given)
        for path, fault, given in damages(reply)
        # The frame of a reply is in BODIES; the adapter reads an empty field as one that is gone.
        if path.startswith("result.")
        and given.get("value", "") is not None
        # Another text there is another trade, see below.
        and not (path.endswith(".execId") and fault == "new_enum")
    ]
    assert cases or route == "position/trading-stop"

    def chunk(these: list[tuple[str, str, dict[str, Any]]]) -> None:
        async def test(rig: Rig) -> None:
            unlimited(rig.daemon.venue)
            await rig.bar(LONG)
            for (path, fault, given), action in zip(these, itertools.cycle((SHORT, LONG))):
                try:
                    await spoilt_turn(rig, route, fault, given, action)
                except AssertionError as error:
                    raise AssertionError(f"{route} {path} {fault} {given}: {error}") from error

        trading(test, settings=LOOSE, **FREE)

    for start in range(0, len(cases), _CASES_OF_A_RIG):
        chunk(cases[start : start + _CASES_OF_A_RIG])


def test_a_trade_that_comes_under_another_id_too_stops_new_risk() -> None:
    """The journal books it twice, which the position at the exchange does not bear out."""

    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        path = "result.list.0.execId"
        rig.server.faults.add("execution/list", "new_enum", path=path, value=NEW)
        for _ in range(3):
            rig.server.advance(70_000)
            await rig.reconcile()
        held = rig.held
        assert rig.journal.position(SYMBOL) == 2 * held
        assert rig.desk.state is TradingState.REDUCING
        assert "mismatch" in rig.desk.standing.reasons
        await rig.bar(SHORT)
        assert rig.held == 0  # sized by what the exchange holds

    trading(test, settings=LOOSE, **FREE)
