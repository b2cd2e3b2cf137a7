"""Notifications: counted instead of repeated, limited, urgent first, never in anybody's way."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import pytest
from aiohttp import web

from live.config.tables import NotifyConfig
from live.operations.channels import Telegram, UndeliveredError, Webhook
from live.operations.messages import Kind, Message
from live.operations.notify import Limits, Notifier, notifier_of
from live.secrets import Secret

FAST = Limits(deadline_seconds=0.05, backoff_seconds=0.01, repeat_seconds=600)


class Channel:
    name = "test"

    def __init__(self, behave=None):
        self.messages, self.attempts, self.behave = [], 0, behave
        self.two = asyncio.Event()

    async def deliver(self, message):
        self.attempts += 1
        if self.behave is not None:
            await self.behave(self.attempts)
        self.messages.append(message)
        if len(self.messages) == 2:
            self.two.set()


def deliver(notifier: Notifier, seconds: float = 2.0) -> None:
    async def main():
        task = asyncio.create_task(notifier.run())
        await notifier.flush(seconds)
        task.cancel()

    asyncio.run(main())


def test_repeats_are_counted_until_the_window_ends():
    now, channel = [0.0], Channel()
    notifier = Notifier([channel], monotonic=lambda: now[0])
    for _ in range(5):
        notifier.send(Kind.REFUSED, "too small", "BTC")
    notifier.send(Kind.REFUSED, "too small", "ETH")
    now[0] = 601.0
    notifier.send(Kind.REFUSED, "too small", "BTC")
    deliver(notifier)
    assert [(m.symbol, m.repeated) for m in channel.messages] == [
        ("BTC", 0),
        ("ETH", 0),
        ("BTC", 4),
    ]
    assert channel.messages[-1].line == "[refused] BTC too small (4 more like it)"


def test_what_was_held_back_is_told_even_if_nothing_follows():
    channel = Channel()
    notifier = Notifier([channel], limits=Limits(repeat_seconds=0.1))
    notifier.send(Kind.DEGRADED, "stream")
    notifier.send(Kind.DEGRADED, "stream")

    async def main():
        task = asyncio.create_task(notifier.run())
        async with asyncio.timeout(15):
            await channel.two.wait()
        task.cancel()

    asyncio.run(main())
    assert channel.messages[1].text == "1 more since the last message"


def test_urgent_messages_overtake():
    channel = Channel()
    notifier = Notifier([channel])
    notifier.send(Kind.FILLED, "bought")
    notifier.send(Kind.HALTED, "drawdown")
    deliver(notifier)
    assert [m.kind for m in channel.messages] == [Kind.HALTED, Kind.FILLED]


def test_no_more_than_the_limit_leave_in_a_minute():
    channel = Channel()
    notifier = Notifier([channel], limits=Limits(per_minute=3))
    for number in range(5):
        notifier.send(Kind.FILLED, "x", f"S{number}")
    deliver(notifier, 0.1)
    assert len(channel.messages) == 3


def test_a_full_queue_drops_and_counts(caplog):
    lost = []
    notifier = Notifier([Channel()], limits=Limits(queue=2), dropped=lambda: lost.append(1))
    with caplog.at_level(logging.ERROR, "live"):
        for number in range(4):
            notifier.send(Kind.FILLED, "x", f"S{number}")
    assert len(lost) == 2
    assert "not delivered" in caplog.text


@pytest.mark.parametrize("failure", ["hang", "error"])
def test_a_broken_channel_is_tried_a_few_times_and_holds_up_nobody(failure, caplog):
    async def behave(attempt):
        if failure == "hang":
            await asyncio.sleep(60)
        raise UndeliveredError("HTTP status 500")

    lost, bad, good = [], Channel(behave), Channel()
    notifier = Notifier([bad, good], limits=FAST, dropped=lambda: lost.append(1))
    for _ in range(200):
        notifier.send(Kind.FILLED, "x", "S")
    assert bad.attempts == 0  # sending is queueing
    with caplog.at_level(logging.ERROR, "live"):
        deliver(notifier)
    assert (bad.attempts, len(good.messages), len(lost)) == (4, 1, 1)
    assert "not delivered: [filled]" in caplog.text


def test_a_channel_that_recovers_gets_the_message_once():
    async def behave(attempt):
        if attempt < 3:
            raise UndeliveredError("HTTP status 502")

    channel = Channel(behave)
    notifier = Notifier([channel], limits=FAST)
    notifier.send(Kind.STOP, "bye")
    deliver(notifier)
    assert (channel.attempts, len(channel.messages)) == (3, 1)


def test_webhook_and_ping_over_the_wire(caplog):
    bodies, pings = [], []

    async def hook(request):
        bodies.append(await request.json())
        status = [500, 302, 200][len(bodies) - 1]
        return web.Response(status=status, headers={"Location": "/"})

    async def ping(request):
        pings.append(1)
        return web.Response()

    async def main():
        app = web.Application()
        app.add_routes([web.post("/hook/MARKERsecretpath", hook), web.get("/ping", ping)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        config = NotifyConfig(webhook_url=f"{base}/hook/MARKERsecretpath", ping_url=f"{base}/ping")
        limits = Limits(backoff_seconds=0.01)
        async with aiohttp.ClientSession() as session:
            notifier = notifier_of(config, session, strategy_id="one", limits=limits)
            notifier.send(Kind.HALTED, "stopped")
            task = asyncio.create_task(notifier.run())
            await notifier.flush(2)
            task.cancel()
            dead = Webhook(session, "http://127.0.0.1:1/hook/MARKERsecretpath", "one")
            with pytest.raises(UndeliveredError) as caught:
                await dead.deliver(notifier_message())
            assert "MARKER" not in str(caught.value)
        await runner.cleanup()

    asyncio.run(main())
    assert pings
    assert len(bodies) == 3  # 500 and the redirect were no delivery
    assert bodies[0]["text"] == "one: [halted] stopped"
    assert bodies[0]["kind"] == "halted"
    assert "MARKER" not in caplog.text


def notifier_message():
    return Message(Kind.START, "hello")


def test_a_chat_needs_its_token():
    config = NotifyConfig(telegram_chat_id="-5")
    with pytest.raises(ValueError, match="TELEGRAM_BOT_TOKEN"):
        notifier_of(config, None, strategy_id="one")
    token = Secret("telegram_token", "123456:MARKERtoken")
    notifier = notifier_of(config, None, strategy_id="one", telegram_token=token)
    assert isinstance(notifier.channels[0], Telegram)
