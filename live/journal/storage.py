"""Where the journal is kept: one SQLite file, its lock, its copy, and a mirror in memory.

Reads of the present (open orders, new fills, protection, latches) come from the mirror, so they
work when the disk is gone; `live.journal.past` finds the rest. Every write enters a transaction of
the disk and one of the mirror, which end together: with an fsync, or both without what the disk
refused. A write that comes alone waits for its own commit; those of `grouped` share one. The lock
file remembers how far the journal had come, so that a file which lost its newest commits is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from live import crash
from live.journal.failures import JournalError
from live.journal.groups import Committed, Group, Write, commit, roll_back, whole, words
from live.journal.health import Health
from live.journal.locking import Lock
from live.journal.past import Past, verified
from live.journal.statements import Statement

T = TypeVar("T")

# What the daemon needs at hand. Events, equity and old observations stay on the disk alone.
MIRRORED = (
    "meta",
    "runs",
    "decisions",
    "intents",
    "fills",
    "adjustments",
    "protection",
    "latches",
    "watermarks",
)
MIB = 1 << 20


@dataclass(slots=True)
class Storage:
    """Durable writes and reads of one journal. Made by `live.journal.opening`.

    ``path`` None = memory only; ``seq`` is the number of the newest event.
    """

    path: Path | None
    disk: sqlite3.Connection | None
    mirror: sqlite3.Connection
    past: Past
    lock: Lock | None
    slow_ms: float
    monotonic: Callable[[], float]
    warnings: tuple[str, ...] = ()
    seq: int = 0
    health: Health = field(default_factory=Health)
    writable: bool = True
    _group: Group | None = None  # open, or its commit under way
    _inside: Group | None = None  # that the call which runs now belongs to
    _thread: ThreadPoolExecutor | None = None

    def __post_init__(self) -> None:
        self.past.health = self.health if self.writable else None

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Read what memory holds."""
        return self.mirror.execute(sql, values).fetchall()

    def archive(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Read the tables that only the disk holds; without a disk, what memory has of them."""
        if self._group is not None and self._group.commit is not None:
            self.settle()
        source = self.mirror if self.disk is None or self.health.failure else self.disk
        return verified(source.execute(sql, values).fetchall())

    def write(self, operation: str, statements: Sequence[Statement], *, risky: bool) -> None:
        """Write one record; durable on return, unless `grouped` makes it part of a group.

        If the disk fails, what reduces risk is still recorded, in memory and on standard error.

        Args:
          operation: names the crash points. risky: whether the record lets risk grow.

        Raises:
          JournalError: risky, and not on the disk; it was not recorded.
          sqlite3.IntegrityError: a rule of the schema forbids it; it was not recorded.
        """
        if not self.writable:
            raise JournalError(f"journal: {self.path} was opened for reading.")
        if self._inside is None:
            self.settle()
        crash.point(f"journal.{operation}.before")
        write = Write(operation, tuple(statements), risky)
        if self.disk is not None and self.health.failure is None:
            group = self._group = self._inside or Group(self.seq)
            try:
                self._enter(self.disk, group, write)
            finally:
                if self._inside is None:
                    self.settle()
            if group.failed and risky:
                raise self._refusal(operation)
        elif self.health.failure is not None and risky:
            raise self._refusal(operation)
        else:
            self._keep(write)

    async def grouped(self, call: Callable[[], T]) -> T:
        """Let what a call writes share its commit with what others write meanwhile.

        Its records are at hand at once and taken back should the commit fail, except what reduces
        risk, see `write`. While a commit is under way the call waits for the next one. Cancelling
        the wait takes nothing back.

        Raises:
          JournalError: something risky of it is not on the disk; it is not recorded.
        """
        loop = asyncio.get_running_loop()
        while (group := self._group) is not None and group.commit is not None:
            if group.done is None or group.done.get_loop() is not loop:
                self.settle()  # its own loop was closed before it ended
            else:
                await asyncio.shield(group.done)
        if self.disk is None or self.health.failure is not None:
            return call()
        group, done = self._open(loop)
        first = len(group.writes)
        self._inside = group
        try:
            result = call()
        finally:
            self._inside = None
        ours = group.writes[first:]
        if ours:
            await asyncio.shield(done)
        refused = next((one for one in ours if one.risky), None) if group.failed else None
        if refused is not None:
            raise self._refusal(refused.operation)
        return result

    def settle(self) -> None:
        """Bring an open group to its end; the caller waits for the disk."""
        group = self._group
        if group is None or self.disk is None:
            return
        if group.commit is not None:
            self._end(group, group.commit.result())
        elif group.writes:
            self._end(group, commit(self.disk, self.monotonic))
        else:
            self._let_go(group)

    def free_bytes(self) -> int | None:
        """Free space where the journal lies; None without a disk or an answer."""
        with contextlib.suppress(OSError):
            return None if self.path is None else shutil.disk_usage(self.path.parent).free
        return None

    def close(self) -> None:
        """Release the file and its lock; again is harmless."""
        self.settle()
        if self._thread is not None:
            self._thread.shutdown()
        self.past.close()
        for connection in (self.disk, self.mirror):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        if self.lock is not None:
            self.lock.release()
        self.disk = self.lock = self._thread = None

    # Groups

    def _open(self, loop: asyncio.AbstractEventLoop) -> tuple[Group, asyncio.Future[None]]:
        """The group of whoever writes in this turn of the loop, and what tells its end."""
        group = self._group
        if group is not None and group.done is not None and group.done.get_loop() is loop:
            return group, group.done
        self.settle()
        done: asyncio.Future[None] = loop.create_future()
        self._group = group = Group(self.seq, done)
        loop.call_soon(self._flush, group)
        return group, done

    def _flush(self, group: Group) -> None:
        """Let the thread commit a group, unless somebody who could not wait has."""
        if group is not self._group or self.disk is None or group.done is None:
            return
        if not group.writes:
            self._let_go(group)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        loop = group.done.get_loop()

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._finish, group)

        group.commit = self._thread.submit(commit, self.disk, self.monotonic)
        group.commit.add_done_callback(tell)

    def _finish(self, group: Group) -> None:
        if group is self._group:
            self.settle()

    def _enter(self, disk: sqlite3.Connection, group: Group, write: Write) -> None:
        """Run the statements of a write in the transactions of its group."""
        try:
            if not disk.in_transaction:
                disk.execute("BEGIN IMMEDIATE")
                self.mirror.execute("BEGIN")
            with whole(disk), whole(self.mirror):
                for statement in write.statements:
                    disk.execute(statement.sql, statement.values)
                self._remember(write, durable=True)
                crash.point(f"journal.{write.operation}.written")
        except BaseException as error:
            if not group.writes:
                roll_back(disk)
                roll_back(self.mirror)
            # A rule of the schema and a value that SQLite cannot take are no fault of the disk.
            if isinstance(error, sqlite3.IntegrityError) or not isinstance(error, sqlite3.Error):
                raise
            group.writes.append(write)
            self._end(group, Committed(words(error)))
        else:
            group.writes.append(write)
            self.seq = max(self.seq, write.seq)

    def _end(self, group: Group, committed: Committed) -> None:
        """A group is on the disk, or its entries were never recorded."""
        try:
            if committed.failure is None:
                self._durable(group, committed.milliseconds)
            else:
                self._lost(group, committed.failure)
        finally:
            self._let_go(group)

    def _durable(self, group: Group, milliseconds: float) -> None:
        self.mirror.execute("COMMIT")
        self.past.let_go()
        self.health.count(milliseconds, self.slow_ms)
        if self.lock is not None:
            with contextlib.suppress(OSError):  # the file is a witness, not the journal
                self.lock.write(self.seq)
        for write in group.writes:
            crash.point(f"journal.{write.operation}.after")

    def _lost(self, group: Group, failure: str) -> None:
        self.health.failure, group.failed = failure, True
        for connection in (self.disk, self.mirror):
            if connection is not None:
                roll_back(connection)
        self.seq = group.seq
        for write in group.writes:
            if not write.risky:
                self._keep(write)

    def _let_go(self, group: Group) -> None:
        self._group, done = None, group.done
        if done is not None and not done.done() and not done.get_loop().is_closed():
            done.set_result(None)

    # Memory

    def _keep(self, write: Write) -> None:
        """Record a write where there is no disk, or no longer one."""
        with whole(self.mirror):
            self._remember(write, durable=False)
        if self.health.failure is not None:
            write.tell()
        self.seq = max(self.seq, write.seq)
        crash.point(f"journal.{write.operation}.after")

    def _remember(self, write: Write, *, durable: bool) -> None:
        for statement in write.statements:
            if durable and statement.table not in MIRRORED:
                continue
            if statement.changes == "intents":
                self.past.recall(statement.values["client_id"])
            values = dict(statement.values)
            if durable and statement.table == "decisions":
                values["observation"] = None
            self.mirror.execute(statement.sql, values)

    def _refusal(self, operation: str) -> JournalError:
        return JournalError(
            f"journal: {operation} is not on the disk, so nothing may be sent that adds risk"
            f" ({self.health.failure}). Free the disk or mend it, then restart."
        )
