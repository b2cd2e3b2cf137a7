"""The exchange of a measurement: a process of its own, whose ledger says when orders came."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

from live.clock import SystemClock
from live.exchange.opening import instruments
from live.exchange.server import ExchangeServer

HISTORY = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeTerms:
    """What the exchange lists and how fast its time runs.

    Attributes:
      symbols: how many. speed: exchange seconds per real second; None = it stands still.
      rate_limits: requests are refused as by the venue.
    """

    symbols: int
    speed: float | None = 1.0
    rate_limits: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """A running exchange.

    Attributes:
      url, stream_url: where. api_key, api_secret: what it takes. names: of its symbols.
      start_ms: its time when its clock was started, at ``began`` of this machine's elapsed seconds.
    """

    url: str
    stream_url: str
    api_key: str
    api_secret: str
    names: tuple[str, ...]
    start_ms: int
    began: float
    pipe: Connection

    def orders(self) -> list[tuple[str, str, int]]:
        """Client id, symbol and time of arrival (exchange, ms) of every order so far."""
        self.pipe.send("orders")
        answer: list[tuple[str, str, int]] = self.pipe.recv()
        return answer

    def advance_to(self, time_ms: int) -> None:
        """Move the time of an exchange that stands still."""
        self.pipe.send(time_ms)
        self.pipe.recv()


@contextlib.contextmanager
def exchange(terms: ExchangeTerms) -> Iterator[Exchange]:
    """An exchange in a process of its own, for as long as the block lasts."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, terms), daemon=True)
    process.start()
    try:
        facts: dict[str, Any] = ours.recv()
        yield Exchange(pipe=ours, **facts)
    finally:
        ours.send(None)
        process.join(30)


def _serve(pipe: Connection, terms: ExchangeTerms) -> None:
    listed = instruments(terms.symbols)
    server = ExchangeServer(
        None,
        listed,
        initial_balance=Decimal(10_000 * terms.symbols),
        speed=terms.speed,
        history=HISTORY,
        rate_limits=terms.rate_limits,
        anchor="now",
    )
    with server.threaded():
        pipe.send(
            {
                "url": server.url,
                "stream_url": server.stream_url,
                "api_key": server.api_key,
                "api_secret": server.api_secret,
                "names": tuple(one.venue_symbol for one in listed),
                "start_ms": server.clock.now_ms(),
                "began": time.monotonic(),
            }
        )
        while (asked := pipe.recv()) is not None:
            if asked == "orders":
                pipe.send(
                    [(one.client_id, one.symbol, one.created_ms) for one in server.engine.orders()]
                )
            else:
                server.advance_to(asked)
                pipe.send(None)


class ScaledClock(SystemClock):
    """The exchange's time on this side, when it runs faster than real time.

    Args:
      exchange: whose time. speed: its seconds per real second.
    """

    def __init__(self, exchange: Exchange, speed: float) -> None:
        super().__init__()
        self._began, self._start_ms, self._speed = exchange.began, exchange.start_ms, speed

    def now_ms(self) -> int:
        """The exchange's time."""
        return self._start_ms + int((time.monotonic() - self._began) * self._speed * 1000)

    def monotonic(self) -> float:
        """Elapsed seconds of the exchange."""
        return (time.monotonic() - self._began) * self._speed

    @property
    def uncertainty_ms(self) -> float:
        """It is the exchange's own time."""
        return 0.0

    def denial(self) -> str | None:
        """Nothing is wrong with it."""
        return None
