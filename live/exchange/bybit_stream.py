"""Bybit v5 over WebSocket: authentication, subscriptions, pushes, and their faults."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import uuid
from collections.abc import Sequence
from typing import Any

from aiohttp import WSMsgType, web

from live.exchange import faults as fault
from live.exchange.bybit_access import Access
from live.exchange.bybit_deadman import TOPIC
from live.exchange.bybit_market import INTERVALS, candle_push, ticker_row
from live.exchange.bybit_rows import (
    CATEGORY,
    Row,
    execution_row,
    order_row,
    position_row,
    wallet_row,
)
from live.exchange.connection import Connection
from live.exchange.desk import Event
from live.exchange.engine import Engine
from live.exchange.faults import Faults

_PRIVATE_TOPICS = ("order", "execution", "position", "wallet")
# A live bar is pushed at most once in so many milliseconds of the exchange's time.
_PUSH_MS = 1000
# How long events are collected before they are shuffled, seconds.
_SHUFFLE_SECONDS = 0.05


class BybitStream:
    """The WebSocket half of the venue.

    Args:
      ack_delay: seconds before a subscription is confirmed; clients are known to lose the
        confirmation when it comes at once.
    """

    def __init__(
        self, engine: Engine, faults: Faults, access: Access, *, seed: int, ack_delay: float
    ) -> None:
        self._engine = engine
        self._faults = faults
        self._access = access
        self._ack_delay = ack_delay
        self._random = random.Random(seed)  # noqa: S311 - order of shuffled events
        self._connections: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._number = 0

    def register(self, application: web.Application) -> None:
        """Add the routes."""
        application.router.add_get("/v5/private", self._private)
        application.router.add_get("/v5/public/linear", self._public)

    def start(self) -> None:
        """Begin to listen to the engine, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._engine.listeners.append(self._hear)

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        self._engine.listeners.remove(self._hear)
        for connection in list(self._connections):
            await connection.drop(close=True)

    def topics(self) -> list[str]:
        """Every subscription of every connection."""
        return sorted(topic for own in list(self._connections) for topic in own.topics)

    async def told(self) -> None:
        """Return once everything that has happened so far was sent; never where it is held back."""
        await asyncio.sleep(0)  # events are on their way into the queues
        for connection in list(self._connections):
            await connection.queue.join()

    async def drop_all(self, close: bool) -> None:
        """End every connection now."""
        for connection in list(self._connections):
            await connection.drop(close)

    def silence_all(self, silent: bool) -> None:
        """Send nothing any more, or again, on the connections that exist."""
        for connection in list(self._connections):
            connection.silent = silent

    # From the engine, in any thread ---------------------------------------------------------------

    def _hear(self, events: Sequence[Event]) -> None:
        """Write events down as the venue would while the engine still is as they found it."""
        connections = list(self._connections)
        if not connections or self._loop is None or self._loop.is_closed():
            return
        messages = [self._message(event) for event in events if event.topic != "time"]
        for connection in connections:
            own = [m for m in messages if m["topic"] in connection.topics]
            own += self._public_messages(connection)
            if own:
                self._loop.call_soon_threadsafe(connection.enqueue, own)

    def _message(self, event: Event) -> Row:
        engine = self._engine
        match event.topic:
            case "order":
                row = order_row(event.body)
            case "execution":
                row = execution_row(event.body)
            case "position":
                row = position_row(engine, event.body)
                row["entryPrice"] = row["avgPrice"]
            case _:
                row = wallet_row(engine)
        self._number += 1
        return {
            "id": str(self._number),
            "topic": event.topic,
            "creationTime": engine.shown_ms,
            "data": [{"category": CATEGORY, **row}],
        }

    def _public_messages(self, connection: Connection) -> list[Row]:
        """Bars and prices that are due on a connection."""
        found = []
        for topic in sorted(connection.topics):
            if self._engine.now_ms < connection.due.get(topic, 0):
                continue
            kind, *rest = topic.split(".")
            if kind == "kline":
                found += self._bars(connection, topic, *rest)
            elif kind == "tickers":
                found.append(self._push(topic, ticker_row(self._engine, rest[0])))
        return found

    def _bars(self, connection: Connection, topic: str, interval: str, symbol: str) -> list[Row]:
        now, minutes = self._engine.now_ms, INTERVALS[interval]
        opened, sent_ms = connection.pushed.get(topic, (now - minutes * 60_000 + 1, -_PUSH_MS))
        candles = self._engine.paths[symbol].candles(minutes, opened, now, now)
        due = [c for c in candles if c.closed or now - sent_ms >= _PUSH_MS]
        if due:
            newest = due[-1]
            following = newest.open_ms + (minutes * 60_000 if newest.closed else 0)
            connection.pushed[topic] = (following, now)
            connection.due[topic] = min(following + minutes * 60_000, now + _PUSH_MS)
        return [self._push(topic, [candle_push(c, interval, minutes, now)]) for c in due]

    def _push(self, topic: str, data: Any) -> Row:
        return {"topic": topic, "type": "snapshot", "ts": self._engine.shown_ms, "data": data}

    # Connections ----------------------------------------------------------------------------------

    async def _private(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "stream/private")

    async def _public(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "stream/public")

    async def _serve(self, request: web.Request, route: str) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Connection(socket, request.transport, route, uuid.uuid4().hex[:12])
        self._connections.append(connection)
        sender = asyncio.create_task(self._send_queue(connection))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._answer(connection, message.data)
        except ConnectionError:
            pass  # dropped on purpose, or by the client
        finally:
            self._connections.remove(connection)
            self._engine.watch(connection.identity, False)
            sender.cancel()
        return socket

    async def _answer(self, connection: Connection, text: str) -> None:
        """React to one message of the client."""
        try:
            message = json.loads(text)
            operation = message["op"]
        except (json.JSONDecodeError, KeyError, TypeError):
            await connection.send(json.dumps({"success": False, "ret_msg": "Params Error"}))
            return
        if operation == "ping":
            await connection.send(json.dumps(self._pong(connection)))
            return
        delay = self._ack_delay
        refusal = self._refusal(connection, operation, message)
        for rule in self._faults.take(connection.route, fault.ACK):
            match rule.action:
                case "delay_ack":
                    delay += rule.arguments["milliseconds"] / 1000
                case "refuse_subscription" if operation == "subscribe":
                    refusal = "refused on demand"
                case "refuse_auth" if operation == "auth":
                    refusal = "refused on demand"
                case "partition":
                    await connection.drop(close=False)
                    return
        await asyncio.sleep(delay)
        reply = {"success": not refusal, "ret_msg": refusal, "conn_id": connection.identity}
        reply |= {"req_id": message.get("req_id", ""), "op": operation}
        await connection.send(json.dumps(reply))
        if refusal:
            if operation == "auth":
                await connection.drop(close=True)
            return
        self._apply(connection, operation, message.get("args", []))

    def _pong(self, connection: Connection) -> Row:
        if connection.route == "stream/private":
            shown = str(self._engine.shown_ms)
            return {"op": "pong", "args": [shown], "conn_id": connection.identity}
        return {"success": True, "ret_msg": "pong", "conn_id": connection.identity, "op": "ping"}

    def _refusal(self, connection: Connection, operation: str, message: Row) -> str:
        """Why an operation is refused; empty when it is not."""
        arguments = message.get("args")
        if operation == "auth":
            return self._access.stream_refusal(arguments)
        if operation not in ("subscribe", "unsubscribe") or not isinstance(arguments, list):
            return "Params Error"
        if connection.route == "stream/private" and not connection.authorised:
            return "Request not authorized"
        bad = [topic for topic in arguments if not self._offers(connection.route, str(topic))]
        return f"error:handler not found,topic:{bad[0]}" if bad else ""

    def _offers(self, route: str, topic: str) -> bool:
        kind, *rest = topic.split(".")
        if route == "stream/private":
            return topic == TOPIC or (kind in _PRIVATE_TOPICS and rest in ([], [CATEGORY]))
        listed = self._engine.instruments
        if kind == "kline":
            return len(rest) == 2 and rest[0] in INTERVALS and rest[1] in listed
        return kind == "tickers" and len(rest) == 1 and rest[0] in listed

    def _apply(self, connection: Connection, operation: str, arguments: list[str]) -> None:
        if operation == "auth":
            connection.authorised = True
            return
        topics = arguments
        if connection.route == "stream/private":
            if TOPIC in topics:
                self._engine.watch(connection.identity, operation == "subscribe")
            topics = [topic.split(".")[0] for topic in topics]
        if operation == "unsubscribe":
            connection.topics -= set(topics)
            return
        connection.topics |= set(topics)
        with self._engine.turn():
            for message in self._public_messages(connection):
                connection.queue.put_nowait(message)

    # Pushes and their faults ----------------------------------------------------------------------

    async def _send_queue(self, connection: Connection) -> None:
        try:
            while True:
                await self._send_one(connection, await connection.queue.get())
                connection.queue.task_done()
        except ConnectionError:
            return

    async def _send_one(self, connection: Connection, message: Row) -> None:
        messages = [message]
        route = f"{connection.route}/{message['topic']}"
        rules = self._faults.take(route, fault.STREAM)
        for rule in rules:
            match rule.action:
                case "delay_events":
                    await asyncio.sleep(rule.arguments["seconds"])
                case "duplicate_events":
                    messages = [*messages, *messages]
                case "shuffle_events":
                    await asyncio.sleep(_SHUFFLE_SECONDS)
                    while not connection.queue.empty():
                        messages.append(connection.queue.get_nowait())
                        connection.queue.task_done()
                    self._random.shuffle(messages)
                case "garbage_event":
                    await connection.send(rule.arguments["body"])
                    return
                case "silence_stream":
                    connection.silent = True
                case "drop_stream":
                    await connection.drop(rule.arguments["close"])
                    return
                case "partition":
                    await connection.drop(close=False)
                    return
        for each in messages:
            body = fault.spoil_body(copy.deepcopy(each), rules) if rules else each
            await connection.send(json.dumps(body))
