"""A socket of our own that never dies silently; what is said on it belongs to the subclasses.

It dials, opens the conversation, sends an application ping, closes a socket that has been silent
for too long, and dials again for ever with growing, jittered pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtrade.extras import missing_extra
from live.secrets import redact

try:
    import aiohttp
except ImportError:
    raise missing_extra("the streams of a venue", "aiohttp", "live") from None

# What goes wrong on a socket, whoever's fault it is.
SOCKET_ERRORS = (aiohttp.ClientError, OSError)
_QUARANTINED = 200  # characters of a message that made no sense


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


class LostError(Exception):
    """The connection is of no more use; the text says why.

    Attributes:
      refused: the login was refused, so there is no point in dialling again soon.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class SupervisedSocket:
    """One WebSocket in a task of its own.

    Args:
      name: of the task, for messages. url: where it is. seed: of the jitter.
    """

    def __init__(self, name: str, url: str, times: StreamTimes, *, seed: int = 0) -> None:
        self.url = url
        self.times = times
        self._name = name
        self._jitter = random.Random(seed)  # noqa: S311  # spreads connections, keeps no secret
        self._task: asyncio.Task[None] | None = None
        self._heard_at: float | None = None

    @property
    def silence(self) -> float | None:
        """Seconds since the venue last said anything here; None before it did."""
        if self._heard_at is None:
            return None
        return asyncio.get_running_loop().time() - self._heard_at

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def start(self) -> None:
        """Begin to dial; needs a running loop. Starting twice is starting once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """End the connection and dial no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def check(self) -> None:
        """Raise what broke the task, if anything did: it never ends by itself."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    # What a conversation is ----------------------------------------------------------------------

    async def _open(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Begin the conversation, within ``times.answer``.

        Raises:
          LostError: the venue does not want to.
        """

    def _meanwhile(
        self, socket: aiohttp.ClientWebSocketResponse
    ) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs beside the reading, until the connection ends; an error ends it."""
        return [self._ping(socket)]

    def _began(self) -> None:
        """The conversation is open."""

    def _ended(self, reason: str) -> None:
        """The connection is gone, or was never made."""

    def _heard(self, text: str) -> None:
        """One frame of text."""
        raise NotImplementedError

    # The supervisor ------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = self.times.pause
        async with aiohttp.ClientSession() as session:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._connection(session)
                except LostError as error:
                    reason, refused = str(error), error.refused
                except (*SOCKET_ERRORS, TimeoutError) as error:
                    reason, refused = type(error).__name__, False
                else:
                    reason, refused = "the venue closed the connection", False
                self._ended(reason)
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
        tasks: set[asyncio.Task[None]] = set()
        try:
            async with asyncio.timeout(self.times.answer):
                await self._open(socket)
            self._began()
            work = (self._read(socket), *self._meanwhile(socket))
            tasks = {asyncio.create_task(one, name=self._name) for one in work}
            # Reading never ends without an error; whatever else breaks ends the connection too.
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(*SOCKET_ERRORS):
                await socket.close()
        for task in ended:
            task.result()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Hear every frame, until the connection is lost."""
        while True:
            self._heard(await self._next(socket, self.times.silence))

    async def _next(self, socket: aiohttp.ClientWebSocketResponse, within: float) -> str:
        """The next text frame."""
        try:
            async with asyncio.timeout(within):
                message = await socket.receive()
        except TimeoutError:
            raise LostError(f"silent for {within:g} s") from None
        self._heard_at = asyncio.get_running_loop().time()
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data)
        if message.type is aiohttp.WSMsgType.BINARY:
            return str(message.data, "utf-8", "replace")
        raise LostError("the venue closed the connection")

    async def _answer(
        self, socket: aiohttp.ClientWebSocketResponse, operation: str
    ) -> Mapping[str, Any]:
        """The answer to an operation; what is pushed before it is not lost."""
        while True:
            text = await self._next(socket, self.times.answer)
            message = json_object(text)
            if message is not None and message.get("op") == operation:
                return message
            self._heard(text)

    async def _ping(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Ask for a sign of life; that none came is noticed by the reader's silence."""
        with contextlib.suppress(*SOCKET_ERRORS):
            while True:
                await asyncio.sleep(self.times.ping)
                await socket.send_json({"op": "ping"})


def json_object(text: str) -> Mapping[str, Any] | None:
    """The JSON object that a frame holds, or None."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def shown(text: object) -> str:
    """A message that made no sense, for people: without keys, and short."""
    return redact(str(text))[:_QUARANTINED]
