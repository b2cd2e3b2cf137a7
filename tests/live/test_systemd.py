"""What a service manager is told, as it hears it on its socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from live.operations import services
from live.operations.systemd import Notify
from live.secrets import Secret
from live.types import Flat, Unknown


class Manager:
    """The other end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[list[str]]:
        """Every datagram so far, by lines."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    made = Manager(address)
    yield made
    made.socket.close()


def daemon(state: str = "ACTIVE", reasons: tuple[str, ...] = (), held: int = 1) -> Any:
    positions: list[Any] = [SimpleNamespace(quantity=held), Flat(), Unknown("x")]
    symbols = [
        SimpleNamespace(progress=SimpleNamespace(seen=SimpleNamespace(position=one)))
        for one in positions
    ]
    symbols.append(SimpleNamespace(progress=SimpleNamespace(seen=None)))
    return SimpleNamespace(
        symbols=symbols,
        desk=SimpleNamespace(state=state, standing=SimpleNamespace(reasons=reasons)),
        config=SimpleNamespace(mode="demo"),
        stopping=asyncio.Event(),
        alive=None,
    )


def test_ready_once_alive_in_time_and_the_state_when_it_changes(manager, address):
    now = [0.0]
    notify = Notify(address, 60.0, monotonic=lambda: now[0])
    notify.alive(daemon())
    assert manager.heard() == [
        ["READY=1", "WATCHDOG=1", "STATUS=demo, ACTIVE, 4 symbols, 1 positions"]
    ]
    for now[0] in range(1, 30):
        notify.alive(daemon())
    assert manager.heard() == []
    now[0] = 30.0  # half of the time
    notify.alive(daemon("DEGRADED", ("stream",)))
    assert manager.heard() == [
        ["WATCHDOG=1", "STATUS=demo, DEGRADED (stream), 4 symbols, 1 positions"]
    ]
    notify.stopping()
    notify.stopping()
    assert manager.heard() == [["STOPPING=1"]]


def test_without_a_watchdog_only_the_state_is_told(manager, address):
    notify = Notify(address)
    notify.alive(daemon())
    assert "WATCHDOG=1" not in manager.heard()[0]


def test_nobody_listens(address, tmp_path):
    for notify in (Notify(None, 1.0), Notify(address, 1.0)):
        notify.alive(daemon())
        notify.stopping()
    assert list(tmp_path.iterdir()) == []


def test_an_abstract_socket():
    name = f"jaxtrade-test-{os.getpid()}"
    made = Manager(f"\0{name}")
    Notify(f"@{name}").stopping()
    assert made.heard() == [["STOPPING=1"]]
    made.socket.close()


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
    ids=["ours", "ours_by_pid", "of_another", "no_number", "zero", "none"],
)
def test_what_the_environment_asks_for(environ, watchdog, address):
    notify = Notify.of({"NOTIFY_SOCKET": address, **environ})
    assert notify._watchdog == watchdog
    assert notify._address == address


def test_an_address_that_is_none_is_not_used(caplog):
    assert Notify.of({"NOTIFY_SOCKET": "relative/path"})._address is None
    assert "expected a path or @name" in caplog.text
    assert Notify.of({"NOTIFY_SOCKET": ""})._address is None


def test_the_state_shows_no_secret(manager, address):
    Secret("A KEY", "MARKERkey01234567")
    Notify(address).alive(daemon(reasons=("auth MARKERkey01234567\nREADY=1",)))
    (lines,) = manager.heard()
    assert len(lines) == 2  # a reason cannot add a line of its own
    assert "MARKER" not in lines[1]


def test_the_end_of_a_daemon_is_told_at_once_and_stays_alive(manager, address, monkeypatch):
    monkeypatch.setattr(services, "_LOOK_SECONDS", 0.01)
    now = [0.0]

    async def run() -> None:
        ending = daemon()
        notify = Notify(address, 10.0, monotonic=lambda: now[0])
        async with services.managed(ending, notify):
            ending.alive(ending)
            assert manager.heard()[0][0] == "READY=1"
            ending.stopping.set()
            await asyncio.sleep(0.05)
            assert manager.heard() == [["STOPPING=1"]]
            now[0] = 6.0  # flattening takes long
            await asyncio.sleep(0.05)
            assert manager.heard() == [["WATCHDOG=1"]]
        assert manager.heard() == []

    asyncio.run(run())


def test_an_end_by_itself_is_told_too(manager, address):
    async def run() -> None:
        async with services.managed(daemon(), Notify(address)):
            pass

    asyncio.run(run())
    assert manager.heard() == [["STOPPING=1"]]
