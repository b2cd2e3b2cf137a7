"""Bybit's public stream: bars of every symbol and frame, told once the venue calls them closed.

Its sockets are supervised like the private one. A lost connection and a message that makes no sense
are told as gaps, so that nobody takes what came before and after for one row without a hole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtrade.timeframe import TimeFrame
from live.types import UnreadableError
from live.venues.bar_stream import BarGap, ClosedBar, Heard
from live.venues.bybit_bars import interval_of
from live.venues.bybit_market import pushed_candles
from live.venues.bybit_parse import VENUE
from live.venues.supervised import (
    SOCKET_ERRORS,
    LostError,
    StreamTimes,
    SupervisedSocket,
    json_object,
    shown,
)
from live.venues.symbols import joined

if TYPE_CHECKING:
    import aiohttp

_log = logging.getLogger("live.venues.bybit_public")

# The venue says something on this stream all the time; pings make sure of it.
BAR_TIMES = StreamTimes(ping=10.0, silence=30.0)
_TOPICS_AT_ONCE = 100  # of one request
_MOST_CHARACTERS = 20_000  # of all topics of one connection, as they are written in requests
_QUOTES = 3  # characters around a topic


@dataclass(frozen=True, slots=True)
class _Topic:
    """What is subscribed: bars of a symbol and frame, spelt as whoever asked for them spells."""

    name: str
    symbol: str
    frame: str
    interval: str
    duration_ms: int

    @classmethod
    def of(cls, symbol: str, frame: str) -> _Topic:
        """The topic; ValueError: the venue has no such bars."""
        parsed = TimeFrame.parse(frame)
        interval = interval_of(parsed)
        name = f"kline.{interval}.{joined(symbol)}"
        return cls(name, symbol, frame, interval, parsed.minutes * 60_000)


class BybitBarStream:
    """`live.venues.bar_stream.BarStream` of this venue, on as many connections as its topics need.

    Args:
      url: of the public stream. heard: called with every closed bar and every gap, in the loop.
    """

    def __init__(
        self, url: str, heard: Heard, times: StreamTimes | None = None, *, seed: int = 0
    ) -> None:
        self._url, self._heard, self._times, self._seed = url, heard, times or BAR_TIMES, seed
        self._lines: list[_Line] = []
        self._topics: dict[tuple[str, str], tuple[_Line, _Topic]] = {}
        self._started = False

    @property
    def malformed(self) -> int:
        """Messages so far that made no sense."""
        return sum(line.malformed for line in self._lines)

    @property
    def silence(self) -> float | None:
        """Seconds since the quietest connection last said anything; None before any did."""
        silences = [line.silence for line in self._lines]
        return max((one for one in silences if one is not None), default=None)

    def follow(self, symbol: str, frame: str) -> None:
        """Subscribe from now on; before or after `start`, twice is once.

        Raises:
          ValueError: the venue has no such bars.
        """
        if (symbol, frame) in self._topics:
            return
        topic = _Topic.of(symbol, frame)
        if not self._lines or not self._lines[-1].has_room(topic):
            line = _Line(self._url, self._heard, self._times, self._seed + len(self._lines))
            self._lines.append(line)
            if self._started:
                line.start()
        line = self._lines[-1]
        line.add(topic)
        self._topics[symbol, frame] = line, topic

    def live(self, symbol: str, frame: str) -> bool:
        """Whether bars are being told now."""
        found = self._topics.get((symbol, frame))
        return found is not None and found[1].name in found[0].live

    def start(self) -> None:
        """Begin to dial; needs a running loop."""
        self._started = True
        for line in self._lines:
            line.start()

    async def stop(self) -> None:
        """End every connection."""
        self._started = False
        for line in self._lines:
            await line.stop()

    def check(self) -> None:
        """Raise what broke a connection's task, if anything did."""
        for line in self._lines:
            line.check()


class _Line(SupervisedSocket):
    """One connection and its topics."""

    def __init__(self, url: str, heard: Heard, times: StreamTimes, seed: int) -> None:
        super().__init__("bybit bars", url, times, seed=seed)
        self.malformed = 0
        self.live: set[str] = set()
        self._heard_bar = heard
        self._topics: dict[str, _Topic] = {}
        self._characters = 0
        self._more = asyncio.Event()
        # Number of a subscription -> why it was refused, blank where it was not.
        self._replies: dict[str, asyncio.Future[str]] = {}
        self._number = 0

    def has_room(self, topic: _Topic) -> bool:
        """Whether the venue takes one topic more on this connection."""
        return self._characters + len(topic.name) + _QUOTES <= _MOST_CHARACTERS

    def add(self, topic: _Topic) -> None:
        """Subscribe to a topic, now or once there is a connection."""
        self._topics[topic.name] = topic
        self._characters += len(topic.name) + _QUOTES
        self._more.set()

    # The conversation ----------------------------------------------------------------------------

    def _meanwhile(
        self, socket: aiohttp.ClientWebSocketResponse
    ) -> Sequence[Coroutine[Any, Any, None]]:
        return [self._ping(socket), self._subscribe(socket)]

    def _ended(self, reason: str) -> None:
        self.live.clear()
        _log.warning("bybit bars: no connection: %s", reason)
        for topic in self._topics.values():
            self._heard_bar(BarGap(topic.symbol, topic.frame, reason))

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Subscribe to every topic, and to those that are added while the connection lasts."""
        asked: set[str] = set()
        with contextlib.suppress(*SOCKET_ERRORS):
            while True:
                self._more.clear()
                left = [name for name in self._topics if name not in asked]
                for start in range(0, len(left), _TOPICS_AT_ONCE):
                    names = left[start : start + _TOPICS_AT_ONCE]
                    asked.update(names)
                    if not await self._ask(socket, names) and len(names) > 1:
                        # One bad name refuses all of them: only it shall go without.
                        for name in names:
                            await self._ask(socket, [name])
                await self._more.wait()

    async def _ask(self, socket: aiohttp.ClientWebSocketResponse, names: list[str]) -> bool:
        """Subscribe to some topics; whether the venue agreed."""
        self._number += 1
        number = str(self._number)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self.times.answer):
                await socket.send_json({"op": "subscribe", "req_id": number, "args": names})
                refusal = await reply
        except TimeoutError:
            raise LostError("a subscription was not answered") from None
        finally:
            del self._replies[number]
        if not refusal:
            self.live.update(names)
        elif len(names) == 1:
            _log.warning("bybit bars: subscription to %s refused: %s", names[0], refusal)
        return not refusal

    # Messages ------------------------------------------------------------------------------------

    def _heard(self, text: str) -> None:
        message = json_object(text)
        if message is None:
            self._nonsense(tuple(self._topics.values()), f"no JSON object: {shown(text)}")
            return
        name = message.get("topic")
        if name is None:
            self._replied(message)
            return
        topic = self._topics.get(name) if isinstance(name, str) else None
        if topic is None:
            return
        try:
            rows = pushed_candles(
                message, topic.interval, topic.duration_ms, f"{VENUE} push {topic.name}"
            )
        except UnreadableError as error:
            self._nonsense((topic,), shown(error))
            return
        for start, (first, high, low, last, volume) in rows:
            values = (float(first), float(high), float(low), float(last), float(volume))
            self._heard_bar(ClosedBar(topic.symbol, topic.frame, start, values))

    def _replied(self, message: Mapping[str, Any]) -> None:
        reply = self._replies.get(str(message.get("req_id")))
        if message.get("op") == "subscribe" and reply is not None and not reply.done():
            accepted = message.get("success") is True
            reply.set_result("" if accepted else shown(message.get("ret_msg")) or "no reason given")

    def _nonsense(self, topics: Sequence[_Topic], detail: str) -> None:
        self.malformed += 1
        _log.warning("bybit bars: a message made no sense: %s", detail)
        for topic in topics:
            self._heard_bar(BarGap(topic.symbol, topic.frame, detail))
