"""Bybit's private stream: orders, fills, positions and the wallet of one account, as events.

A message that makes no sense becomes an event of its own and never ends the stream.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from live.secrets import Secret
from live.venue import EventKind, VenueEvent
from live.venues.bybit_deadman import TOPIC as DEADMAN
from live.venues.bybit_orders import TOPICS, pushed
from live.venues.supervised import LostError, StreamTimes, SupervisedSocket, json_object, shown

if TYPE_CHECKING:
    import aiohttp

_AUTH_EXPIRY_MS = 10_000


class BybitStream(SupervisedSocket):
    """Events of one account; one reader.

    The socket lives in a task of its own, so a slow reader delays no ping. A reader that falls far
    behind gets a break in place of what it missed, as if the connection had been lost.

    Args:
      url: of the private stream.
      again: runs beside every connection but the first, whose socket the venue then watches; None =
        it is not to be watched.
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
        again: Callable[[], Coroutine[Any, Any, None]] | None = None,
        capacity: int = 10_000,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        seed: int = 0,
    ) -> None:
        super().__init__("bybit stream", url, times or StreamTimes(), seed=seed)
        self.malformed = 0
        self._key, self._secret = api_key, api_secret
        self._wall_ms = wall_ms
        self._again, self._connections = again, 0
        self._events: asyncio.Queue[VenueEvent] = asyncio.Queue(capacity)

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

    # The conversation ----------------------------------------------------------------------------

    async def _open(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await self._log_in(socket)
        await self._subscribe(socket)

    def _meanwhile(
        self, socket: aiohttp.ClientWebSocketResponse
    ) -> Sequence[Coroutine[Any, Any, None]]:
        work = list(super()._meanwhile(socket))
        if self._again is not None and self._connections > 1:
            work.append(self._again())
        return work

    def _began(self) -> None:
        self._connections += 1
        self._tell(VenueEvent(EventKind.CONNECTED))

    def _ended(self, reason: str) -> None:
        self._tell(VenueEvent(EventKind.DISCONNECTED, detail=reason))

    async def _log_in(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        expires = self._wall_ms() + _AUTH_EXPIRY_MS
        signature = hmac.new(
            self._secret.reveal().encode(), f"GET/realtime{expires}".encode(), hashlib.sha256
        ).hexdigest()
        await socket.send_json({"op": "auth", "args": [self._key.reveal(), expires, signature]})
        answer = await self._answer(socket, "auth")
        if answer.get("success") is not True:
            raise LostError(f"login refused: {shown(answer.get('ret_msg'))}", refused=True)

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        topics = [*TOPICS] if self._again is None else [*TOPICS, DEADMAN]
        await socket.send_json({"op": "subscribe", "req_id": "1", "args": topics})
        answer = await self._answer(socket, "subscribe")
        if answer.get("success") is not True:
            raise LostError(f"subscription refused: {shown(answer.get('ret_msg'))}")

    def _heard(self, text: str) -> None:
        message = json_object(text)
        if message is None:
            self._tell(VenueEvent(EventKind.MALFORMED, detail=f"no JSON object: {shown(text)}"))
            return
        for event in pushed(message):
            self._tell(event)

    def _tell(self, event: VenueEvent) -> None:
        if event.kind is EventKind.MALFORMED:
            self.malformed += 1
            event = dataclasses.replace(event, detail=shown(event.detail))
        if self._events.full():
            while not self._events.empty():
                self._events.get_nowait()
            self._events.put_nowait(
                VenueEvent(EventKind.DISCONNECTED, detail="the reader fell behind")
            )
            if event.kind is not EventKind.DISCONNECTED:
                self._events.put_nowait(VenueEvent(EventKind.CONNECTED))
        self._events.put_nowait(event)
