"""The local exchange as a server on 127.0.0.1: what tests and demonstrations start and steer."""

from __future__ import annotations

import asyncio
import fnmatch
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any, Literal

from jaxtrade.extras import missing_extra

try:  # before the modules below, which need it too
    from aiohttp import web
except ImportError as error:
    raise missing_extra("the local exchange", "aiohttp", "live") from error

from live.exchange.bybit import BybitHttp
from live.exchange.bybit_access import Access
from live.exchange.bybit_stream import BybitStream
from live.exchange.clock import ExchangeClock
from live.exchange.engine import Engine
from live.exchange.faults import Faults
from live.exchange.opening import Source, open_engine, wall_ms
from live.types import Instrument, MarginMode, PositionMode

VENUES = ("bybit",)
_HOST = "127.0.0.1"
# How often the engine follows a running clock, real seconds.
_TICK_SECONDS = 0.02
_START_SECONDS = 30.0


class ExchangeServer:
    """An exchange: real wire protocol, own matching, ledger, clock and faults.

        server = ExchangeServer()
        async with server.running() as url: ...   # in the caller's event loop
        with server.threaded() as url: ...        # in a thread of its own, for blocking clients

    The exchange has a time of its own, which market/time, bars, orders and every reply show. With
    ``speed=None`` it stands still until `advance`; else it runs ``speed`` times as fast as real
    time and `advance` jumps ahead. Signatures are checked against the machine's clock instead,
    because clients sign with that. Everything may be called from any thread.

    Attributes:
      engine: market and account (`live.exchange.engine.Engine`): the truth, and interventions.
      faults: what goes wrong on the wire, see `live.exchange.faults`.
      clock: the exchange's time, with ``now_ms``, ``monotonic`` and ``sleep_until``.
      url: "http://127.0.0.1:PORT" while it runs. stream_url: "ws://127.0.0.1:PORT", to which
        "/v5/private" or "/v5/public/linear" is appended.

    Args:
      source: OHLCV bars of the first instrument (timestamp = START), a file of them, frames by
        venue symbol, or None for seeded minutes around 50 000.
      instruments: what is listed; default BTCUSDT.
      venue: whose protocol is spoken.
      seed: of generated prices, ids, keys and of the draws of faults.
      speed: exchange seconds per real second; None = manual.
      history: bars of the source that lie before the opening.
      anchor: "now" moves all bars so that the exchange opens at the newest bar boundary of the
        machine's clock; "source" keeps their times.
      half_spread: fraction of the mark that a market order pays.
      funding_rate: longs pay it every eight hours; a column ``funding`` of the bars goes before
        it: each row's rate is paid in the row's last millisecond.
      rate_limits: enforce the venue's limits, per second of real time.
      ack_delay: seconds before a stream confirms a subscription.
      now: the machine's clock, milliseconds UTC.

    Raises:
      ValueError: an unknown venue, or no bar is left to trade in.
    """

    def __init__(
        self,
        source: Source | None = None,
        instruments: Sequence[Instrument] = (),
        *,
        venue: str = "bybit",
        initial_balance: Decimal = Decimal(10_000),
        seed: int = 0,
        speed: float | None = None,
        history: int = 1000,
        anchor: Literal["source", "now"] = "source",
        half_spread: Decimal = Decimal("0.0001"),
        funding_rate: Decimal = Decimal("0.0001"),
        margin_mode: MarginMode = MarginMode.ISOLATED,
        position_mode: PositionMode = PositionMode.ONE_WAY,
        rate_limits: bool = True,
        ack_delay: float = 0.06,
        now: Callable[[], int] = wall_ms,
    ) -> None:
        if venue not in VENUES:
            raise ValueError(f"venue: expected one of {VENUES}; got {venue!r}.")
        self.engine: Engine = open_engine(
            source,
            instruments,
            history=history,
            anchor=anchor,
            seed=seed,
            initial_balance=initial_balance,
            half_spread=half_spread,
            funding_rate=funding_rate,
            margin_mode=margin_mode,
            position_mode=position_mode,
            now=now,
        )
        self.clock = ExchangeClock(self.engine.now_ms, speed)
        self.faults = Faults(seed)
        self.url = self.stream_url = ""
        self._access = Access(seed, now)
        self._stream = BybitStream(
            self.engine, self.faults, self._access, seed=seed, ack_delay=ack_delay
        )
        self._http = BybitHttp(
            self.engine,
            self.faults,
            self._access,
            rate_limits=rate_limits,
            catch_up=self._catch_up,
            told=self._stream.told,
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def api_key(self) -> str:
        """What clients sign with."""
        return self._access.api_key

    @property
    def api_secret(self) -> str:
        """What clients sign with."""
        return self._access.api_secret

    @property
    def account_id(self) -> str:
        """Whose account it is, as the venue reports it."""
        return self._access.account_id

    # Running --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        """Serve in the caller's event loop; port 0 takes a free one. Yields `url`."""
        application = web.Application()
        self._stream.register(application)  # before the wildcard of the other half
        self._http.register(application)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, _HOST, port).start()
        address = f"{_HOST}:{runner.addresses[0][1]}"
        self.url, self.stream_url = f"http://{address}", f"ws://{address}"
        self._loop = asyncio.get_running_loop()
        self._stream.start()
        ticker = asyncio.create_task(self._follow_clock())
        try:
            yield self.url
        finally:
            ticker.cancel()
            await self._stream.stop()
            await runner.cleanup()
            self._loop = None

    @contextmanager
    def threaded(self, port: int = 0) -> Iterator[str]:
        """Serve in a thread with an event loop of its own; yields `url`.

        Raises:
          OSError: the port is taken.
        """
        ready: Future[asyncio.AbstractEventLoop] = Future()
        stop = asyncio.Event()

        async def serve() -> None:
            try:
                async with self.running(port):
                    ready.set_result(asyncio.get_running_loop())
                    await stop.wait()
            except OSError as error:
                ready.set_exception(error)

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        loop = ready.result(_START_SECONDS)
        try:
            yield self.url
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(_START_SECONDS)

    async def _follow_clock(self) -> None:
        while self.clock.speed is not None:
            self._catch_up()
            await asyncio.sleep(_TICK_SECONDS)

    def _catch_up(self) -> None:
        self.engine.advance_to(self.clock.now_ms())

    # Steering -------------------------------------------------------------------------------------

    def advance(self, milliseconds: int) -> None:
        """Let time pass: bars, stops, liquidation, funding and their events, in order."""
        self.engine.advance_to(self.clock.jump(milliseconds))

    def advance_to(self, time_ms: int) -> None:
        """The same up to an instant; an earlier one changes nothing."""
        self.advance(max(time_ms - self.clock.now_ms(), 0))

    def clock_offset(self, seconds: float) -> None:
        """Set how far every time the exchange shows or checks is ahead of the truth."""
        self._access.offset_ms = self.engine.offset_ms = int(seconds * 1000)

    def clock_step(self, seconds: float) -> None:
        """Move every time the exchange shows or checks, from where it is; back where < 0."""
        self.clock_offset(self.engine.offset_ms / 1000 + seconds)

    def revoke_key(self) -> None:
        """Refuse every signed request from now on."""
        self._access.revoked = True

    def set_permissions(self, *rights: str) -> None:
        """Which of "Order" and "Position" the key may use; without one it can only read."""
        self._access.permissions["ContractTrade"] = rights

    def requests(self, route: str = "*") -> list[str]:
        """Routes of the requests so far, in order, that match a shell pattern."""
        return [name for name in self._http.requests if fnmatch.fnmatchcase(name, route)]

    def reply(self, route: str) -> dict[str, Any]:
        """The newest reply of a route as it was before faults changed it.

        Raises:
          KeyError: the route was never asked.
        """
        return self._http.reply(route)

    def throttled(self, route: str = "*") -> list[str]:
        """Those of the requests that were refused because too many came."""
        return [name for name in self._http.throttled if fnmatch.fnmatchcase(name, route)]

    def stream_topics(self) -> list[str]:
        """Topics that the present streams are subscribed to."""
        return self._stream.topics()

    def drop_streams(self, *, close: bool = False) -> None:
        """End every stream now, with a close frame or without a word."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._stream.drop_all(close), self._loop)

    def silence_streams(self, silent: bool = True) -> None:
        """Keep the present streams open and send nothing on them."""
        self._stream.silence_all(silent)
