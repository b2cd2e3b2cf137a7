"""A disk that is full from one commit on, at every commit of an entry, an exit and a stop.

Without a durable intent nothing is sent that adds risk; exits, cancels and stops still go out; new
risk ends until a person says otherwise; and what the file lacks is found again at the venue.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from live import config as configs
from live import crash
from live.journal import Journal
from live.journal.reading import JournalReader
from live.risk import TradingState
from live.trading.assembly import daemon_of, set_up
from live.trading.daemon import Daemon
from tests.live.harness import BTC, FLAT, LONG, SETTINGS, SHORT, SYMBOL, Rig, trading


class Disk:
    """A connection whose commits fail as those of a full disk do, while it is full."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self._real = real
        self.full = False

    def execute(self, sql: str, *values: Any) -> Any:
        if self.full and sql.startswith("COMMIT"):
            raise sqlite3.OperationalError("database or disk is full")
        return self._real.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@dataclass
class Shelf:
    """The journal's disk, and what is written to it.

    Attributes:
      fails_at: the write, by number from the last `begin`, from which on it is full; None = never.
      writes: operations since then.
    """

    path: Path
    fails_at: int | None = None
    writes: list[str] = field(default_factory=list)
    disk: Disk | None = None

    def open(self, account_id: str, now_ms: Callable[[], int]) -> Journal:
        """The journal on this disk."""
        journal = Journal.open(self.path, account_id=account_id, strategy_id="t", now_ms=now_ms)
        real = journal._storage.disk
        assert real is not None
        self.disk = Disk(real)
        journal._storage.disk = self.disk  # type: ignore[assignment]  # it behaves like one
        return journal

    def begin(self, fails_at: int | None) -> None:
        """Count from here."""
        self.fails_at = fails_at
        self.writes.clear()

    def passed(self, name: str) -> None:
        """A point on the way of a write."""
        kind, _, rest = name.partition(".")
        operation, _, where = rest.partition(".")
        if kind != "journal" or where != "before" or self.disk is None:
            return
        self.disk.full = self.disk.full or len(self.writes) == self.fails_at
        self.writes.append(operation)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A place for a journal whose disk can be full."""
    made = Shelf(tmp_path / "state" / "journal.db")
    monkeypatch.setattr(crash, "point", made.passed)
    return made


def on(shelf: Shelf, test: Callable[[Rig], Awaitable[None]], **options: Any) -> None:
    """Run a test with a daemon whose journal is on this disk."""
    trading(test, journal=shelf.open, **options)


async def entry(rig: Rig) -> None:
    await rig.bar(LONG)


async def exit_(rig: Rig) -> None:
    await rig.bar(FLAT)


async def turn(rig: Rig) -> None:
    await rig.bar(SHORT)


async def stop(rig: Rig) -> None:
    """The stop has vanished, which a look finds and mends."""
    rig.server.engine.cancel_stop(BTC)
    rig.server.advance(1_000)
    await rig.reconcile()
    await rig.reconcile()


async def flatten(rig: Rig) -> None:
    result = await rig.daemon.command("flatten", "a test")
    assert result["flat"]


# What happens while the disk fills up, and what was held before.
SCENES: dict[str, tuple[Callable[[Rig], Awaitable[None]], int]] = {
    "entry": (entry, FLAT),
    "exit": (exit_, LONG),
    "turn": (turn, LONG),
    "stop": (stop, LONG),
    "flatten": (flatten, LONG),
}


def durable(shelf: Shelf) -> dict[str, Any]:
    """Intents of the file by client id, as another process sees them."""
    with_file = JournalReader.view(shelf.path)
    try:
        bars = [row.bar_open_ms for row in with_file.decisions(SYMBOL)]
        rows = [row for bar in bars for row in with_file.intents(SYMBOL, bar)]
        return {row.client_id: row for row in rows}
    finally:
        with_file.close()


def nothing_unwritten_was_risked(rig: Rig, shelf: Shelf) -> None:
    """Every order that added to a position is in the file, marked as sent."""
    known = durable(shelf)
    for order in rig.server.engine.orders(BTC):
        if order.client_id and not order.reduce_only:
            assert known[order.client_id].sent_ms is not None


def writes_of(scene: str, shelf: Shelf) -> list[str]:
    """The writes of a scene on a healthy disk."""
    act, held = SCENES[scene]

    async def test(rig: Rig) -> None:
        await rig.bar(held)
        shelf.begin(None)
        await act(rig)
        rig.check()

    on(shelf, test)
    return list(shelf.writes)


def full_from(scene: str, number: int, shelf: Shelf) -> None:
    """Play a scene whose disk is full from a write on, and what follows it."""
    act, held = SCENES[scene]

    async def test(rig: Rig) -> None:
        await rig.bar(held)
        shelf.begin(number)
        await act(rig)
        assert rig.journal.health.failure is not None
        nothing_unwritten_was_risked(rig, shelf)
        rig.check()
        await rig.reconcile()
        if scene in ("exit", "flatten"):
            assert rig.held == 0
        assert rig.desk.state in (TradingState.REDUCING, TradingState.HALTED)
        assert "journal" in rig.desk.standing.reasons
        # The way out is open, and no way in.
        await rig.bar(FLAT)
        assert rig.held == 0
        assert rig.server.engine.orders(BTC, live=True) == []
        orders = len(rig.server.requests("order/create"))
        await rig.bar(SHORT)
        await rig.bar(LONG)
        assert rig.held == 0
        assert len(rig.server.requests("order/create")) == orders
        nothing_unwritten_was_risked(rig, shelf)
        rig.check()
        await begin_again(rig, shelf)

    on(shelf, test)


async def restarted(rig: Rig, journal: Journal) -> Daemon:
    """A daemon of the same configuration that has started with this journal."""
    given = {**SETTINGS, "venue.base_url": rig.server.url}
    config = configs.load(None, given, {})
    listed = {name: await set_up(rig.daemon.venue, config.env_of(name)) for name in config.symbols}
    daemon = daemon_of(config, rig.daemon.venue, listed, journal, rig.clock)
    await daemon.start()
    return daemon


async def begin_again(rig: Rig, shelf: Shelf) -> None:
    """A new daemon on the same file, with room on its disk: it finds what the file lacks."""
    account, before = rig.server.account_id, rig.journal
    before.close()
    for one in rig.daemon.symbols:
        await one.trader.close()
    shelf.begin(None)
    journal = shelf.open(account, rig.clock.now_ms)
    fresh = Rig(rig.server, await restarted(rig, journal), rig.clock)
    assert fresh.held == 0
    fresh.check()
    assert not fresh.trader.frozen
    if journal.latches():  # written before the disk was full: it holds until a person ends it
        assert fresh.desk.state is TradingState.HALTED
        fresh.desk.resume("a test", "there is room")
    assert fresh.desk.state is TradingState.ACTIVE
    await fresh.bar(LONG)
    assert fresh.held > 0
    fresh.check()
    for one in fresh.daemon.symbols:
        await one.trader.close()
    journal.close()


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Shelf]:
    """As many places for journals as are asked for; the newest one is in use."""
    count = iter(range(10**6))

    def make() -> Shelf:
        made = Shelf(tmp_path / f"state{next(count)}" / "journal.db")
        monkeypatch.setattr(crash, "point", made.passed)
        return made

    return make


@pytest.mark.parametrize("scene", SCENES)
def test_a_disk_that_is_full_at_the_first_write_lets_out_and_not_in(
    scene: str, shelves: Callable[[], Shelf]
) -> None:
    full_from(scene, 0, shelves())


@pytest.mark.parametrize("operation", ["decide", "sent", "resolve", "book", "add_intents"])
def test_an_entry_on_a_disk_that_fills_up_on_the_way_is_durable_or_not_sent(
    operation: str, shelves: Callable[[], Shelf]
) -> None:
    number = writes_of("entry", shelves()).index(operation)
    full_from("entry", number, shelves())


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_a_disk_may_be_full_from_any_commit_on(scene: str, shelves: Callable[[], Shelf]) -> None:
    writes = writes_of(scene, shelves())
    assert len(writes) > 2
    for number, operation in enumerate(writes):
        try:
            full_from(scene, number, shelves())
        except AssertionError as error:
            raise AssertionError(f"{scene}, write {number} ({operation}): {error}") from error
