"""The channel that tells people is down: trading does not notice, the log and a count do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socketserver
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from live.config.tables import NotifyConfig
from live.operations.messages import Kind
from live.operations.metrics import Metrics
from live.operations.notify import Limits, Notifier, notifier_of
from live.operations.telling import TellingMeter, teller
from live.risk import Latch, TradingState
from live.trading.assembly import daemon_of
from tests.live import harness
from tests.live.harness import BTC, FLAT, LONG, SHORT, Rig, trading

ANSWERS = {
    "error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "garbage": b"no HTTP at all\r\n\r\n",
    "closed": b"",
}
QUICK = Limits(deadline_seconds=0.05, retries=1, backoff_seconds=0.01, repeat_seconds=0.0)
PATIENT = Limits(deadline_seconds=3600, backoff_seconds=0.01, repeat_seconds=0.0)


class Hook(socketserver.ThreadingTCPServer):
    """A webhook in threads of its own; without an answer it is silent until ``released``."""

    daemon_threads = True

    def __init__(self, answer: bytes | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked, self.released = threading.Event(), threading.Event()
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        hook: Any = self.server
        self.request.recv(65_536)
        hook.requests += 1
        hook.asked.set()
        if hook.answer is None:
            hook.released.wait(60)
        else:
            self.request.sendall(hook.answer)


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[Hook]:
    with Hook(answer) as hook:
        thread = threading.Thread(target=hook.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hook
        finally:
            hook.released.set()
            hook.shutdown()
            thread.join()


class Telling:
    """Connects the daemons of this test with a webhook."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dropped = 0
        self.notifier: Notifier | None = None
        monkeypatch.setattr(harness, "daemon_of", self._daemon_of)

    def _daemon_of(self, *parts: Any) -> Any:
        def tell(word: str, text: str) -> None:
            if self.notifier is not None:
                teller(self.notifier)(word, text)

        notifier: Any = self  # answers `send` as a notifier does
        return daemon_of(
            *parts, tell=tell, meter_of=lambda symbol: TellingMeter(Metrics(), symbol, notifier)
        )

    def send(self, kind: Kind, text: str, symbol: str | None = None) -> None:
        if self.notifier is not None:
            self.notifier.send(kind, text, symbol)

    @contextlib.asynccontextmanager
    async def to(
        self, url: str, limits: Limits, begin: asyncio.Event | None = None
    ) -> AsyncIterator[Notifier]:
        """Deliver to a webhook until the block ends.

        Args:
          begin: nothing leaves before it is set.
        """

        def count() -> None:
            self.dropped += 1

        async with aiohttp.ClientSession() as session:
            self.notifier = notifier_of(
                NotifyConfig(webhook_url=url),
                session,
                strategy_id="test",
                limits=limits,
                dropped=count,
            )
            notifier = self.notifier

            async def deliver() -> None:
                if begin is not None:
                    await begin.wait()
                await notifier.run()

            running = asyncio.create_task(deliver())
            try:
                yield self.notifier
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch) -> Telling:
    return Telling(monkeypatch)


async def trade_through(rig: Rig) -> None:
    """An entry, a flip, a latch and an exit; each tells somebody."""
    await rig.bar(LONG)
    assert rig.held > 0
    rig.check()
    await rig.bar(SHORT)
    assert rig.held < 0
    rig.check()
    rig.desk.latch(Latch(TradingState.REDUCING, "operator", "a test"))
    await rig.bar(FLAT)
    assert rig.held == 0
    rig.check()


def test_nobody_waits_for_a_channel_that_hangs(telling: Telling) -> None:
    """What happens is in this order: the channel is asked, all is traded, the channel goes on."""
    order: list[str] = []

    async def test(rig: Rig) -> None:
        with listening(None) as hook:
            async with telling.to(hook.url, PATIENT) as notifier:
                await rig.bar(LONG)
                assert await asyncio.to_thread(hook.asked.wait, 10)
                order.append("asked")
                # The first message is on its way and will be for an hour.
                await asyncio.wait_for(trade_through(rig), 20)
                order.append("traded")
                assert hook.requests == 1
                await notifier.flush(0)
                order.append("not flushed")
                hook.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                hook.released.set()
                await asyncio.wait_for(notifier.flush(20), 20)
                order.append("delivered")

    trading(test)
    assert order == ["asked", "traded", "not flushed", "delivered"]


async def counted(hook: Hook, requests: int) -> None:
    """Wait for the threads of a hook: who asks it may have given up before they have counted."""
    end = time.monotonic() + 15
    while hook.requests < requests:
        assert time.monotonic() < end, f"asked {hook.requests} of {requests} times"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [*ANSWERS, "silent", "nobody"])
def test_what_a_channel_does_not_take_is_logged_and_counted(
    answer: str, telling: Telling, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(rig: Rig) -> None:
        with listening(ANSWERS.get(answer)) as hook:
            url = "http://127.0.0.1:9/hook" if answer == "nobody" else hook.url
            # What answers is waited for, however busy this machine is.
            # Silence is short, so there it has nothing else to do while it asks.
            waits = 10.0 if answer in ANSWERS else 0.3
            limits, begin = dataclasses.replace(QUICK, deadline_seconds=waits), asyncio.Event()
            if answer != "silent":
                begin.set()
            async with telling.to(url, limits, begin) as notifier:
                await trade_through(rig)
                begin.set()
                await asyncio.wait_for(notifier.flush(60), 60)
            if answer != "nobody":
                await counted(hook, 2 * telling.dropped)
                assert hook.requests == 2 * telling.dropped  # each was tried again, once

    with caplog.at_level(logging.INFO, "live"):
        trading(test)
    lost = [line.getMessage() for line in caplog.records if line.levelno == logging.ERROR]
    assert len(lost) == telling.dropped >= 5  # four fills and a latch
    assert all(line.startswith("not delivered: [") for line in lost)
    # What was to be told stands in the log, whatever became of it.
    said = [line for line in caplog.records if getattr(line, "notification", None) == "reducing"]
    assert any("operator: a test" in line.getMessage() for line in said)


def test_a_flood_of_messages_is_cut_and_counted(telling: Telling) -> None:
    async def test(rig: Rig) -> None:
        with listening(None) as hook:
            limits = Limits(deadline_seconds=3600, repeat_seconds=0.0, queue=3)
            async with telling.to(hook.url, limits) as notifier:
                notifier.send(Kind.WARNING, "first")
                assert await asyncio.to_thread(hook.asked.wait, 10)
                for number in range(10):
                    notifier.send(Kind.WARNING, f"number {number}")
                assert telling.dropped == 7  # one is on its way, three wait
                await asyncio.wait_for(rig.bar(LONG), 20)
                assert rig.held > 0

    trading(test)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_order_is_the_same_with_and_without_a_channel(when: str, telling: Telling) -> None:
    """A message right before an order, and one between look and order, change nothing."""
    orders: dict[bool, list[Any]] = {}

    def run(hangs: bool) -> None:
        async def test(rig: Rig) -> None:
            def alarm() -> None:
                telling.send(Kind.WARNING, "look")

            before: Callable[[], None] = alarm if when == "before" else lambda: None
            meanwhile: Callable[[], None] = alarm if when == "meanwhile" else lambda: None
            with listening(None) as hook:
                async with telling.to(hook.url if hangs else "http://127.0.0.1:9/", PATIENT):
                    before()
                    await asyncio.wait_for(rig.bar(LONG, meanwhile), 20)
            executions = rig.server.engine.executions(BTC)
            orders[hangs] = [(e.side, e.quantity, e.price, e.time_ms) for e in executions]
            rig.check()

        trading(test)

    run(True)
    run(False)
    assert orders[True] == orders[False]
    assert orders[True]
