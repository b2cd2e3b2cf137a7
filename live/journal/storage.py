"""Where the journal is kept: one SQLite file, its lock, its copy, and a mirror in memory.

Reads of the present (intents, fills, protection, latches) come from the mirror, so they still work
when the disk is gone; every write goes to the disk first and is followed by an fsync. The lock file
remembers how far the journal had come, so that a file which lost its newest commits is noticed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from live import crash
from live.journal.failures import JournalError, JournalLockedError
from live.journal.statements import Statement

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
class Health:
    """How writing goes; times in milliseconds.

    Attributes:
      failure: why nothing reaches the disk any more, or None.
      commits, slow: so far. slow_in_a_row: those at the end that were slower than the limit.
      told: hears how long each took.
    """

    failure: str | None = None
    commits: int = 0
    slow: int = 0
    slow_in_a_row: int = 0
    last_ms: float = 0.0
    worst_ms: float = 0.0
    told: Callable[[float], None] | None = None

    def count(self, milliseconds: float, limit_ms: float) -> None:
        """Note a commit that succeeded."""
        self.commits += 1
        self.last_ms = milliseconds
        self.worst_ms = max(self.worst_ms, milliseconds)
        slow = not milliseconds <= limit_ms
        self.slow += slow
        if self.told is not None:
            self.told(milliseconds)
        self.slow_in_a_row = self.slow_in_a_row + 1 if slow else 0


class Lock:
    """An exclusive lock of the operating system that ends with the process.

    The file also holds the number of the newest commit and the process that wrote it.
    """

    def __init__(self, path: Path) -> None:
        try:
            import fcntl
        except ImportError:
            raise JournalError("journal: needs file locks of a POSIX system; got none.") from None
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            _, owner = self.read()
            os.close(self._file)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise JournalError(f"journal: cannot lock {path}: {error.strerror}.") from error
            raise JournalLockedError(
                f"journal: {path} is locked by another process ({owner or 'unknown'}); one daemon"
                " per account. Stop that one first, or give this one another account."
            ) from None

    def read(self) -> tuple[int, str]:
        """Number of the newest commit (0 = nothing known) and process id of the last writer."""
        words = os.pread(self._file, 64, 0).decode("ascii", "replace").split()
        number, owner, crc = words if len(words) == 3 else ("", "", "")
        if crc != _crc_text(f"{number} {owner}") or not number.isdecimal():
            return 0, ""
        return int(number), str(int(owner))

    def write(self, number: int) -> None:
        """Remember the newest commit. Not synced: it may lag behind the journal, never lead."""
        text = f"{number:020d} {os.getpid():010d}"
        os.pwrite(self._file, f"{text} {_crc_text(text)}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._file)


def _crc_text(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


@dataclass(slots=True)
class Storage:
    """Durable writes and reads of one journal. Made by `live.journal.opening`.

    Attributes:
      path: of the file, None = memory only. seq: number of the newest event. warnings: of opening.
    """

    path: Path | None
    disk: sqlite3.Connection | None
    mirror: sqlite3.Connection
    lock: Lock | None
    slow_ms: float
    monotonic: Callable[[], float]
    warnings: tuple[str, ...] = ()
    seq: int = 0
    health: Health = field(default_factory=Health)
    writable: bool = True

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Read the mirrored tables."""
        return self.mirror.execute(sql, values).fetchall()

    def archive(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Read the tables that only the disk holds; without a disk, what memory has of them."""
        source = self.mirror if self.disk is None or self.health.failure else self.disk
        return source.execute(sql, values).fetchall()

    def write(self, operation: str, statements: Sequence[Statement], *, risky: bool) -> None:
        """Write one transaction to the disk and then to the mirror.

        If the disk fails, what reduces risk is still recorded, in memory and on standard error.

        Args:
          operation: names the crash points. risky: whether the records let risk grow.

        Raises:
          JournalError: risky, and not on the disk; nothing was recorded.
          sqlite3.IntegrityError: a rule of the schema forbids it; nothing was recorded.
        """
        if not self.writable:
            raise JournalError(f"journal: {self.path} was opened for reading.")
        crash.point(f"journal.{operation}.before")
        if self.disk is not None and self.health.failure is None:
            self._commit(self.disk, operation, statements)
        if self.health.failure is not None and risky:
            raise JournalError(
                f"journal: {operation} is not on the disk, so nothing may be sent that adds risk"
                f" ({self.health.failure}). Free the disk or mend it, then restart."
            )
        self._remember(statements)
        if self.health.failure is not None:
            _tell(operation, statements)
        self.seq += sum(statement.table == "events" for statement in statements)
        if self.lock is not None and self.health.failure is None:
            with contextlib.suppress(OSError):  # the file is a witness, not the journal
                self.lock.write(self.seq)
        crash.point(f"journal.{operation}.after")

    def free_bytes(self) -> int | None:
        """Free space where the journal lies; None without a disk or an answer."""
        if self.path is None:
            return None
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError:
            return None

    def close(self) -> None:
        """Release the file and its lock; again is harmless."""
        for connection in (self.disk, self.mirror):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        if self.lock is not None:
            self.lock.release()
        self.disk = self.lock = None

    def _commit(
        self, disk: sqlite3.Connection, operation: str, statements: Sequence[Statement]
    ) -> None:
        start = self.monotonic()
        try:
            disk.execute("BEGIN IMMEDIATE")
            for statement in statements:
                disk.execute(statement.sql, statement.values)
            crash.point(f"journal.{operation}.written")
            disk.execute("COMMIT")
        except BaseException as error:
            _roll_back(disk)
            # A rule of the schema and a value that SQLite cannot take are no fault of the disk.
            if isinstance(error, sqlite3.IntegrityError) or not isinstance(error, sqlite3.Error):
                raise
            self.health.failure = f"{type(error).__name__}: {error}"
        else:
            self.health.count(1000 * (self.monotonic() - start), self.slow_ms)

    def _remember(self, statements: Sequence[Statement]) -> None:
        durable = self.disk is not None and self.health.failure is None
        self.mirror.execute("BEGIN")
        try:
            for statement in statements:
                if durable and statement.table not in MIRRORED:
                    continue
                values = dict(statement.values)
                if durable and statement.table == "decisions":
                    values["observation"] = None
                self.mirror.execute(statement.sql, values)
        except BaseException:
            _roll_back(self.mirror)
            raise
        self.mirror.execute("COMMIT")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # the error that led here is the one to tell
            connection.execute("ROLLBACK")


def _tell(operation: str, statements: Sequence[Statement]) -> None:
    """Write to standard error what only memory holds, one line of JSON per row."""
    for statement in statements:
        values = {
            name: value for name, value in statement.values.items() if not isinstance(value, bytes)
        }
        line = {"unwritten": operation, "table": statement.table, **values}
        sys.stderr.write(json.dumps(line, allow_nan=False) + "\n")
    sys.stderr.flush()
