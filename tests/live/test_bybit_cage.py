"""The cage around a synchronous SDK: bounded, with a deadline, and honest about what was sent."""

from __future__ import annotations

import asyncio
import threading

import pytest
import requests.exceptions as errors
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

from live.venues.cage import Cage, NeverBegan, Overdue, Raised, Returned, never_left
from live.venues.rate import Lane


def test_a_call_returns_or_raises_as_a_value():
    async def scenario():
        cage = Cage("test")
        assert await cage.call(lambda: 7, lane=Lane.NORMAL, within=5) == Returned(7)
        ending = await cage.call(lambda: 1 / 0, lane=Lane.NORMAL, within=5)
        assert isinstance(ending, Raised)
        assert isinstance(ending.error, ZeroDivisionError)
        cage.close()

    asyncio.run(scenario())


def test_a_call_that_hangs_is_overdue_and_keeps_its_place():
    async def scenario():
        cage = Cage("test", places=1, reserved_places=1)
        release, begun, runs = threading.Event(), threading.Event(), []
        hang = lambda: (runs.append("begun"), begun.set(), release.wait(30))  # noqa: E731
        assert await cage.call(hang, lane=Lane.NORMAL, within=0.05) == Overdue()
        assert await cage.call(hang, lane=Lane.NORMAL, within=0.05) == NeverBegan()
        assert await asyncio.to_thread(begun.wait, 15)
        assert runs == ["begun"]
        # The other lane has a place of its own.
        assert await cage.call(lambda: 1, lane=Lane.RESERVED, within=5) == Returned(1)
        release.set()
        assert await cage.call(lambda: 2, lane=Lane.NORMAL, within=5) == Returned(2)
        cage.close()

    asyncio.run(scenario())


def test_a_cancelled_wait_does_not_free_a_place_that_is_in_use():
    async def scenario():
        cage = Cage("test", places=1, reserved_places=1)
        release = threading.Event()
        waiting = asyncio.ensure_future(
            cage.call(lambda: release.wait(30), lane=Lane.NORMAL, within=5)
        )
        await asyncio.sleep(0.02)
        waiting.cancel()
        assert await cage.call(lambda: 1, lane=Lane.NORMAL, within=0.05) == NeverBegan()
        release.set()
        cage.close()

    asyncio.run(scenario())


def test_a_closed_cage_begins_nothing():
    async def scenario():
        cage = Cage("test")
        cage.close()
        for _ in range(10):  # more than there are places
            assert await cage.call(lambda: 1, lane=Lane.NORMAL, within=1) == NeverBegan()

    asyncio.run(scenario())


def _wrapped(reason: Exception) -> errors.ConnectionError:
    return errors.ConnectionError(MaxRetryError(None, "/", reason))


@pytest.mark.parametrize(
    ("error", "certain"),
    [
        (errors.ConnectTimeout(), True),
        (_wrapped(NewConnectionError(None, "refused")), True),
        (_wrapped(NameResolutionError("host", None, OSError())), True),
        (_wrapped(ConnectTimeoutError()), True),
        (errors.ReadTimeout(), False),
        (errors.ConnectionError(ProtocolError("Connection aborted.")), False),
        (errors.ConnectionError(), False),
        (_wrapped(ProtocolError("reset")), False),
        (errors.SSLError(MaxRetryError(None, "/", NewConnectionError(None, "x"))), False),
        (errors.ProxyError(MaxRetryError(None, "/", NewConnectionError(None, "x"))), False),
        (errors.ChunkedEncodingError(), False),
        (errors.TooManyRedirects(), False),
        (ConnectionRefusedError(), False),
        (KeyError("retCode"), False),
    ],
    ids=repr,
)
def test_only_a_connection_that_was_never_made_is_certain_to_have_sent_nothing(error, certain):
    assert never_left(error) is certain
