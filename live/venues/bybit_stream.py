"""Bybit's private stream: a supervised socket of our own that never dies silently.

It logs in, subscribes, sends an application ping, closes a socket that has been silent for too
long, and dials again for ever with growing, jittered pauses. A message that makes no sense becomes
an event of its own and never ends the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import json
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtrade.extras import missing_extra
from live.secrets import Secret, redact
from live.venue import EventKind, VenueEvent
from live.venues.bybit_orders import TOPICS, pushed

try:
    import aiohttp
except ImportError:
    raise missing_extra("the Bybit adapter", "aiohttp", "live") from None

_QUARANTINED = 200  # characters of a message that made no sense
_AUTH_EXPIRY_MS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTimes:
    """Seconds.

    Attributes:
      answer: for the connection, the login and the subscription. ping: between pings.
      silence: without any message, after which the socket counts as dead.
      pause, longest_pause, growth: before dialling again.
    """

    answer: float = 10.0
    ping: float = 20.0
    silence: float = 60.0
    pause: float = 1.0
    longest_pause: float = 30.0
    growth: float = 1.5

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                value = getattr(self, field.name)
                raise ValueError(
                    f"stream times: {field.name} must be a finite number > 0; got {value}."
                )
        if not self.ping < self.silence or not self.growth >= 1:
            raise ValueError("stream times: needs ping < silence and growth >= 1.")


class _LostError(Exception):
    """The connection is of no more use; the text says why.

    Attributes:
      refused: the login was refused, so there is no point in dialling again soon.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class BybitStream:
    """Events of one account; one reader.

    The socket lives in a task of its own, so a slow reader delays no ping. A reader that falls far
    behind gets a break in place of what it missed, as if the connection had been lost.

    Args:
      url: of the private stream.
      capacity: events that may wait for the reader.
      wall_ms: this machine's clock in milliseconds UTC, which signs here as it does in the SDK.
      seed: of the jitter.
    """

    def __init__(
        self,
        url: str,
        api_key: Secret,
        api_secret: Secret,
        times: StreamTimes | None = None,
        *,
        capacity: int = 10_000,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        seed: int = 0,
    ) -> None:
        self.url = url
        self.times = times or StreamTimes()
        self.malformed = 0
        self._key, self._secret = api_key, api_secret
        self._wall_ms = wall_ms
        self._jitter = random.Random(seed)  # noqa: S311  # spreads connections, keeps no secret
        self._events: asyncio.Queue[VenueEvent] = asyncio.Queue(capacity)
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"BybitStream({self.url!r})"

    def start(self) -> None:
        """Begin to dial; needs a running loop. Starting twice is starting once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="bybit stream")

    async def stop(self) -> None:
        """End the connection and every reader's iteration."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def events(self) -> AsyncIterator[VenueEvent]:
        """Events as they come, until the stream is stopped; what breaks its task is raised here.

        Raises:
          RuntimeError: the stream was not started.
        """
        task = self._task
        if task is None:
            raise RuntimeError("bybit stream: not started; call connect() first.")
        while True:
            getter = asyncio.ensure_future(self._events.get())
            try:
                await asyncio.wait({getter, task}, return_when=asyncio.FIRST_COMPLETED)
                if not getter.done():
                    if not task.cancelled():
                        task.result()  # it never returns, so this raises what went wrong
                    return
                event = getter.result()
            finally:
                getter.cancel()
            yield event

    # The supervisor ------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = self.times.pause
        async with aiohttp.ClientSession() as session:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._connection(session)
                except _LostError as error:
                    reason, refused = str(error), error.refused
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    reason, refused = type(error).__name__, False
                else:
                    reason, refused = "the venue closed the connection", False
                self._tell(VenueEvent(EventKind.DISCONNECTED, detail=reason))
                lasted = asyncio.get_running_loop().time() - began
                if lasted > self.times.longest_pause:
                    pause = self.times.pause
                if refused:
                    pause = self.times.longest_pause
                await asyncio.sleep(pause * self._jitter.uniform(0.5, 1.0))
                pause = min(pause * self.times.growth, self.times.longest_pause)

    async def _connection(self, session: aiohttp.ClientSession) -> None:
        """One connection from dialling to its end."""
        dialling = aiohttp.ClientWSTimeout(ws_close=1.0)
        async with asyncio.timeout(self.times.answer):
            socket = await session.ws_connect(self.url, timeout=dialling, autoping=True)
        pinger: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(self.times.answer):
                await self._log_in(socket)
                await self._subscribe(socket)
            self._tell(VenueEvent(EventKind.CONNECTED))
            pinger = asyncio.create_task(self._ping(socket), name="bybit ping")
            while True:
                await self._heard(await self._next(socket, self.times.silence))
        finally:
            if pinger is not None:
                pinger.cancel()
                await asyncio.wait({pinger})
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await socket.close()

    async def _next(self, socket: aiohttp.ClientWebSocketResponse, within: float) -> str:
        """The next text frame."""
        try:
            async with asyncio.timeout(within):
                message = await socket.receive()
        except TimeoutError:
            raise _LostError(f"silent for {within:g} s") from None
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data)
        if message.type is aiohttp.WSMsgType.BINARY:
            return str(message.data, "utf-8", "replace")
        raise _LostError("the venue closed the connection")

    async def _answer(
        self, socket: aiohttp.ClientWebSocketResponse, operation: str
    ) -> Mapping[str, Any]:
        """The answer to an operation; what is pushed before it is not lost."""
        while True:
            text = await self._next(socket, self.times.answer)
            message = _object(text)
            if message is not None and message.get("op") == operation:
                return message
            await self._heard(text)

    async def _log_in(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        expires = self._wall_ms() + _AUTH_EXPIRY_MS
        signature = hmac.new(
            self._secret.reveal().encode(), f"GET/realtime{expires}".encode(), hashlib.sha256
        ).hexdigest()
        await socket.send_json({"op": "auth", "args": [self._key.reveal(), expires, signature]})
        answer = await self._answer(socket, "auth")
        if answer.get("success") is not True:
            raise _LostError(f"login refused: {_shown(answer.get('ret_msg'))}", refused=True)

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_json({"op": "subscribe", "req_id": "1", "args": list(TOPICS)})
        answer = await self._answer(socket, "subscribe")
        if answer.get("success") is not True:
            raise _LostError(f"subscription refused: {_shown(answer.get('ret_msg'))}")

    async def _ping(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Ask for a sign of life; that none came is noticed by the reader's silence."""
        with contextlib.suppress(aiohttp.ClientError, OSError):
            while True:
                await asyncio.sleep(self.times.ping)
                await socket.send_json({"op": "ping"})

    # Messages ------------------------------------------------------------------------------------

    async def _heard(self, text: str) -> None:
        message = _object(text)
        if message is None:
            self._tell(VenueEvent(EventKind.MALFORMED, detail=f"no JSON object: {_shown(text)}"))
            return
        for event in pushed(message):
            self._tell(event)

    def _tell(self, event: VenueEvent) -> None:
        if event.kind is EventKind.MALFORMED:
            self.malformed += 1
            event = dataclasses.replace(event, detail=_shown(event.detail))
        if self._events.full():
            while not self._events.empty():
                self._events.get_nowait()
            self._events.put_nowait(
                VenueEvent(EventKind.DISCONNECTED, detail="the reader fell behind")
            )
            if event.kind is not EventKind.DISCONNECTED:
                self._events.put_nowait(VenueEvent(EventKind.CONNECTED))
        self._events.put_nowait(event)


def _object(text: str) -> Mapping[str, Any] | None:
    """The JSON object that a frame holds, or None."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _shown(text: object) -> str:
    return redact(str(text))[:_QUARANTINED]
