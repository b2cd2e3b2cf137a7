"""One client of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(eq=False)
class Connection:
    """One client.

    Attributes:
      route: "stream/private" or "stream/public". pushed: topic -> open time of the newest bar sent
        and when it was sent. due: topic -> exchange time before which nothing new can be said.
    """

    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    route: str
    identity: str
    authorised: bool = False
    silent: bool = False
    topics: set[str] = field(default_factory=set)
    pushed: dict[str, tuple[int, int]] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)
    queue: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    def enqueue(self, messages: Iterable[dict[str, Any]]) -> None:
        """Send messages in their order as soon as it is their turn."""
        for message in messages:
            self.queue.put_nowait(message)

    async def send(self, body: str) -> None:
        """Send a text unless the stream was silenced."""
        if not self.silent and not self.socket.closed:
            await self.socket.send_str(body)

    async def drop(self, close: bool) -> None:
        """End the connection, with a close frame or without a word."""
        if close:
            await self.socket.close()
        elif self.transport is not None:
            self.transport.abort()
