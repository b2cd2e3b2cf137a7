"""A Bybit venue against the exchange server of this project, quick and without a network."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from live.clock import SystemClock
from live.exchange.server import ExchangeServer
from live.types import Bracket, Intent, IntentKind, Role, Side
from live.venue import EventKind, VenueEvent
from live.venues.bybit import BybitVenue
from live.venues.bybit_wire import ADDRESS, ENDPOINTS, Timeouts
from live.venues.rate import Lane, Limit, Limiter, RateConfig
from live.venues.supervised import StreamTimes

SYMBOL = "BTC/USDT:USDT"
# What has to succeed is waited for on a busy machine too; what nobody answers is not waited for.
PATIENT = Timeouts(connect=2.0, read=10.0, submit=10.0, read_deadline=20.0, submit_deadline=15.0)
HASTY = Timeouts(connect=0.2, read=0.25, submit=0.25, read_deadline=0.7, submit_deadline=0.6)
STREAM = StreamTimes(answer=5.0, ping=0.1, silence=20.0, pause=0.02, longest_pause=0.05)
NERVOUS = StreamTimes(answer=5.0, ping=0.1, silence=1.0, pause=0.02, longest_pause=0.05)


def run(scenario: Callable[[BybitVenue, ExchangeServer], Awaitable[None]], **options: Any) -> None:
    """Run a scenario with a connected venue whose symbol was read."""

    async def whole() -> None:
        async with connected(**options) as (venue, server):
            await scenario(venue, server)

    asyncio.run(whole())


@asynccontextmanager
async def connected(
    timeouts: Timeouts = PATIENT, stream_times: StreamTimes = STREAM, **options: Any
) -> AsyncIterator[tuple[BybitVenue, ExchangeServer]]:
    """A venue that is connected to a server of its own."""
    server = ExchangeServer(anchor="now", ack_delay=0.0, **options)
    async with server.running():
        venue = unconnected(server, stream_times=stream_times)
        await venue.connect()
        try:
            await venue.instrument(SYMBOL)
            be_patient(venue, timeouts)
            yield venue, server
        finally:
            await venue.close()


class NoPatience(random.Random):
    """Pauses between two attempts that nobody has the time for."""

    def uniform(self, a: float, b: float) -> float:
        """For ever."""
        return math.inf


def ask_once(venue: BybitVenue) -> None:
    """Repeat no read: quick where every answer is the same, with no deadline that could be missed.

    `be_patient` ends it.
    """
    be_patient(venue, PATIENT)
    venue._client._jitter = NoPatience()


def hurry(venue: BybitVenue, route: str, seconds: float = 0.25) -> None:
    """Wait only so long for the reply to the next change of a route; the rest stays patient."""
    session, name = venue._client._changing, ENDPOINTS[route].function
    send = getattr(session, name)

    def hurried(**body: Any) -> Any:
        delattr(session, name)  # the method of the class is there again
        usual, session.timeout = session.timeout, (PATIENT.connect, seconds)
        try:
            return send(**body)
        finally:
            session.timeout = usual

    setattr(session, name, hurried)


def be_patient(venue: BybitVenue, timeouts: Timeouts = PATIENT) -> None:
    """Change how long a connected venue waits."""
    client = venue._client
    client._jitter = random.Random(0)
    client.timeouts = timeouts
    client._reading.timeout = (timeouts.connect, timeouts.read)
    client._changing.timeout = (timeouts.connect, timeouts.submit)


class Unlimited(Limiter):
    """No limit of requests: a test may ask for more in a second than anybody may."""

    async def acquire(self, names: Iterable[str], *, lane: Lane, within: float) -> None:
        """At once."""


def unlimited(venue: BybitVenue) -> None:
    """Let the adapter ask as fast as it can."""
    limits = {name: Limit(1.0) for name in (*ENDPOINTS, ADDRESS)}
    venue._client.limiter = Unlimited(limits, RateConfig(), venue._clock)


def unconnected(server: ExchangeServer, **options: Any) -> BybitVenue:
    """A venue that knows where the server is."""
    given = {"api_key": server.api_key, "api_secret": server.api_secret, "clock": SystemClock()}
    return BybitVenue(
        **{
            **given,
            "base_url": server.url,
            "stream_url": server.stream_url + "/v5/private",
            "timeouts": PATIENT,
            "stream_times": STREAM,
            **options,
        }
    )


_counter = iter(range(10**6))


def intent(kind: IntentKind = IntentKind.MARKET, **changes: Any) -> Intent:
    """An intent with an id of its own; by default a small purchase."""
    values: dict[str, Any] = {
        "kind": kind,
        "role": Role.ENTRY,
        "symbol": SYMBOL,
        "side": Side.BUY,
        "quantity": Decimal("0.01"),
        "reduce_only": False,
        "reason": "test",
        "client_id": f"jtabcd{next(_counter):013d}e",
    }
    return Intent(**(values | changes))


def around(mark: Decimal, stop: str = "0.95", target: str = "1.05") -> Bracket:
    """Stop and target at fractions of a price, on the grid."""
    tick = Decimal("0.1")
    return Bracket((mark * Decimal(stop)).quantize(tick), (mark * Decimal(target)).quantize(tick))


async def until(events: AsyncIterator[VenueEvent], *kinds: EventKind) -> list[VenueEvent]:
    """Events up to the first of each kind in turn; fails after some seconds."""
    seen: list[VenueEvent] = []
    for kind in kinds:
        while True:
            event = await asyncio.wait_for(anext(events), 15)
            seen.append(event)
            if event.kind is kind:
                break
    return seen
