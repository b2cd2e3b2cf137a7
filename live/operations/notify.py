"""Notifications: a log line at once, channels later, and never a wait in the trading path.

`Notifier.send` only writes a log line and queues; its own task delivers. What repeats is counted
instead of repeated, no more than some messages leave per minute, urgent ones first.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from live.config.tables import NotifyConfig
from live.operations.channels import Channel, Monitor, Telegram, UndeliveredError, Webhook
from live.operations.messages import Kind, Message
from live.secrets import Secret, redact

if TYPE_CHECKING:
    import aiohttp

_log = logging.getLogger("live.operations.notify")

TELEGRAM_TOKEN = "TELEGRAM_BOT_TOKEN"  # noqa: S105  # the variable's name


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is sent; times in seconds.

    Attributes:
      queue: messages that may wait. per_minute: that may leave. repeat_seconds: in which the same
        kind and symbol is sent once. deadline_seconds: of one attempt. retries: after the first.
    """

    queue: int = 200
    per_minute: int = 20
    minute_seconds: float = 60.0
    repeat_seconds: float = 600.0
    deadline_seconds: float = 10.0
    retries: int = 3
    backoff_seconds: float = 1.0
    ping_seconds: float = 60.0


class Notifier:
    """Takes messages at any time and delivers them in `run`."""

    def __init__(
        self,
        channels: Sequence[Channel] = (),
        *,
        limits: Limits | None = None,
        ping: Callable[[], Awaitable[None]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        """Build it; nothing is sent before `run`.

        Args:
          ping: called once a minute while `run` lives. monotonic: seconds.
          dropped: called for every message that no channel will ever see.
        """
        self.channels = tuple(channels)
        self.limits = limits or Limits()
        self._ping, self._monotonic, self._dropped = ping, monotonic, dropped
        self._queue: asyncio.PriorityQueue[tuple[int, int, Message]] = asyncio.PriorityQueue()
        self._order = itertools.count()
        self._sent: deque[float] = deque()
        # (kind, symbol) -> when it was last let through, how many were held back since.
        self._repeats: dict[tuple[Kind, str | None], tuple[float, int]] = {}

    def send(self, kind: Kind, text: str, symbol: str | None = None) -> None:
        """Log and queue a message; returns at once and never raises for what channels do."""
        text = redact(" ".join(text.split()))
        level = logging.WARNING if kind.urgent else logging.INFO
        _log.log(level, text, extra={"notification": kind.value, "symbol": symbol})
        if not self.channels:
            return
        now, key = self._monotonic(), (kind, symbol)
        last, held = self._repeats.get(key, (None, 0))
        if last is not None and now - last < self.limits.repeat_seconds:
            self._repeats[key] = (last, held + 1)
            return
        self._repeats[key] = (now, 0)
        self._enqueue(Message(kind, text, symbol, held))

    def _enqueue(self, message: Message) -> None:
        if self._queue.qsize() >= self.limits.queue:
            self._lose(message, "the queue is full")
            return
        self._queue.put_nowait((0 if message.kind.urgent else 1, next(self._order), message))

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver_all())
            tasks.create_task(self._summarise())
            if self._ping is not None:
                tasks.create_task(self._keep_pinging(self._ping))

    async def flush(self, seconds: float) -> None:
        """Wait until everything queued was handed over, at most this long; for the shutdown."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
        except TimeoutError:
            _log.warning("notifications were left undelivered", extra={"n": self._queue.qsize()})

    async def _deliver_all(self) -> None:
        while True:
            _, _, message = await self._queue.get()
            try:
                await self._wait_for_room()
                # One channel that hangs does not keep the others from hearing.
                await asyncio.gather(*(self._attempt(c, message) for c in self.channels))
            finally:
                self._queue.task_done()

    async def _wait_for_room(self) -> None:
        window = self.limits.minute_seconds
        while len(self._sent) >= self.limits.per_minute:
            wait = self._sent[0] + window - self._monotonic()
            if wait <= 0:
                self._sent.popleft()
            else:
                await asyncio.sleep(wait)
        self._sent.append(self._monotonic())

    async def _attempt(self, channel: Channel, message: Message) -> None:
        reason = ""
        for attempt in range(1 + self.limits.retries):
            if attempt:
                await asyncio.sleep(self.limits.backoff_seconds * 2 ** (attempt - 1))
            try:
                async with asyncio.timeout(self.limits.deadline_seconds):
                    await channel.deliver(message)
                return
            except TimeoutError:
                reason = "no answer in time"
            except UndeliveredError as error:
                reason = str(error)
        self._lose(message, f"{channel.name}: {reason}")

    def _lose(self, message: Message, reason: str) -> None:
        self._dropped()
        extra = {"notification": message.kind.value, "reason": redact(reason)}
        _log.error("not delivered: %s", message.line, extra=extra)

    async def _summarise(self) -> None:
        """Tell of what was held back even if nothing of its kind follows."""
        while True:
            await asyncio.sleep(self.limits.repeat_seconds / 10)
            now = self._monotonic()
            for key, (last, held) in list(self._repeats.items()):
                if now - last < self.limits.repeat_seconds:
                    continue
                del self._repeats[key]
                if held:
                    kind, symbol = key
                    self._enqueue(Message(kind, f"{held} more since the last message", symbol))

    async def _keep_pinging(self, ping: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                async with asyncio.timeout(self.limits.deadline_seconds):
                    await ping()
            except (TimeoutError, UndeliveredError) as error:
                _log.warning("the monitor was not reached", extra={"reason": redact(str(error))})
            await asyncio.sleep(self.limits.ping_seconds)


def notifier_of(
    config: NotifyConfig,
    session: aiohttp.ClientSession,
    *,
    strategy_id: str,
    telegram_token: Secret | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    dropped: Callable[[], None] = lambda: None,
    limits: Limits | None = None,
) -> Notifier:
    """The notifier that a configuration asks for; its own session keeps venue keys out of reach.

    Raises:
      ValueError: a chat without a token.
    """
    channels: list[Channel] = []
    if config.webhook_url is not None:
        channels.append(Webhook(session, config.webhook_url, strategy_id))
    if config.telegram_chat_id is not None:
        if telegram_token is None:
            raise ValueError(f"[notify] telegram_chat_id: needs the token in {TELEGRAM_TOKEN}")
        channels.append(Telegram(session, telegram_token, config.telegram_chat_id, strategy_id))
    ping = None if config.ping_url is None else Monitor(session, config.ping_url).ping
    return Notifier(channels, limits=limits, ping=ping, monotonic=monotonic, dropped=dropped)
