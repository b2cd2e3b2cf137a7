"""Opening a journal: lock, checks, copy; nothing is guessed and nothing is repaired in silence.

A file that fails a check is left as it is, and the refusal says which copy to restore.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from live import crash
from live.journal import past, schema
from live.journal.checking import (
    BUSY_SECONDS,
    checked,
    copy_path,
    empty,
    lock_path,
    newest_bars,
    reading,
)
from live.journal.copying import BESIDE, copied_rows, put_back, renew, synchronise
from live.journal.failures import JournalDamagedError, JournalError
from live.journal.locking import Lock
from live.journal.schema import COLUMNS, Value
from live.journal.statements import Statement, insert
from live.journal.storage import MIB, MIRRORED, Storage

# Of the mirror of a file: only the newest decision of a symbol can still be taken twice, and the
# memory of a process that decides for months must not grow with them.
_OF_A_FILE = (
    "DROP TRIGGER fills_no_delete",
    "DROP TRIGGER decisions_no_delete",
    "CREATE TRIGGER newest_decision AFTER INSERT ON decisions BEGIN DELETE FROM decisions"
    " WHERE symbol = NEW.symbol AND bar_open_ms < NEW.bar_open_ms; END",
)
CREATE = "create"
crash.register(f"journal.{CREATE}", crash.WRITE_POINTS)


def open_storage(
    path: Path | None,
    identity: Mapping[str, str],
    now_ms: int,
    *,
    slow_ms: float = 250.0,
    min_free_mib: float = 100.0,
    warn_free_gib: float = 1.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> Storage:
    """Open or create the file for writing; None keeps everything in memory.

    Args:
      identity: rows of ``meta`` that must agree: whose journal it is. now_ms: when, for a new file.
      slow_ms: a commit that takes longer is counted. monotonic: measures it, seconds.

    Raises:
      JournalError: locked, damaged, of another owner or version, or too little room.
    """
    if path is None:
        mirror = _mirror()
        for statement in _birth(identity, now_ms):
            mirror.execute(statement.sql, statement.values)
        settled = past.Past(None, mirror)
        return Storage(None, None, mirror, settled, None, slow_ms, monotonic, seq=1)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        warnings = _room(path, min_free_mib, warn_free_gib)
        lock = Lock(lock_path(path))
    except OSError as error:
        raise JournalError(f"journal: cannot use {path}: {error.strerror or error}.") from error
    disk: sqlite3.Connection | None = None
    try:
        known, _ = lock.read()
        before = copied_rows(path)
        if checked(path, identity, known, before):
            warnings += renew(path, min_free_mib, before)
        disk = _connected(path)
        if empty(disk):
            _create(disk, identity, now_ms)
        schema.add_indices(disk)
        mirror = _mirror(disk)
        (seq,) = disk.execute("SELECT max(seq) FROM events").fetchone()
        lock.write(seq)
        # Of its own, so that what is looked up never waits for a commit.
        settled = past.Past(reading(path), mirror)
    except BaseException as error:
        if disk is not None:
            disk.close()
        lock.release()
        if isinstance(error, sqlite3.Error | OSError):
            raise JournalError(f"journal: cannot open {path}: {error}.") from error
        raise
    return Storage(path, disk, mirror, settled, lock, slow_ms, monotonic, warnings, seq)


def view_storage(path: Path) -> Storage:
    """Open an existing file for reading, also while a daemon writes it.

    Raises:
      JournalError: missing, damaged or of another version.
    """
    if not checked(path, {}, 0):
        raise JournalError(f"journal: {path} holds no journal.")
    disk = reading(path)
    (seq,) = disk.execute("SELECT max(seq) FROM events").fetchone()
    mirror = _mirror(disk)
    settled = past.Past(disk, mirror)
    return Storage(path, disk, mirror, settled, None, 0.0, time.monotonic, seq=seq, writable=False)


def restore(path: Path) -> Path:
    """Put the copy in the place of a damaged journal, which is moved aside, and say where to.

    What was recorded since the copy was taken is not in it; the start that follows reads orders,
    fills and position from the venue and stops for what it cannot explain.

    Raises:
      JournalError: a daemon runs, there is no copy, or the copy is damaged too.
    """
    copy = copy_path(path)
    if not copy.exists():
        raise JournalError(f"journal: there is no {copy} to restore.")
    lock = Lock(lock_path(path))
    try:
        if not checked(copy, {}, 0):
            raise JournalError(f"journal: {copy} holds no journal.")
        aside = next(
            name
            for number in range(1, 10_000)
            if not (name := path.with_name(f"{path.name}.damaged-{number}")).exists()
        )
        for suffix in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{suffix}", f"{aside}{suffix}")
        put_back(path)
        lock.write(0)
    finally:
        lock.release()
    return aside


def _room(path: Path, min_free_mib: float, warn_free_gib: float) -> tuple[str, ...]:
    free = shutil.disk_usage(path.parent).free / MIB
    if not free >= min_free_mib:
        raise JournalError(
            f"journal: {free:.0f} MiB are free at {path.parent}; expected at least"
            f" {min_free_mib:g}. Free some, or name another directory."
        )
    if not free >= 1024 * warn_free_gib:
        return (f"journal: only {free:.0f} MiB are free at {path.parent}.",)
    return ()


def _connected(path: Path) -> sqlite3.Connection:
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        synchronise(path.parent)
    # A thread commits; while it does, nobody else touches the connection.
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    schema.prepare(connection)
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.execute("PRAGMA synchronous=FULL")
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    if (mode, level) != ("wal", 2):
        connection.close()
        raise JournalError(
            f"journal: {path} cannot be written ahead (mode {mode}, synchronous {level}); expected"
            " a local disk. Network file systems will not do."
        )
    return connection


def _birth(identity: Mapping[str, str], now_ms: int) -> list[Statement]:
    rows = {"schema_version": str(schema.VERSION), "created_ms": str(now_ms), **identity}
    event = insert("events", seq=1, wall_ms=now_ms, kind=CREATE, body="{}")
    return [insert("meta", key=key, value=value) for key, value in rows.items()] + [event]


def _create(disk: sqlite3.Connection, identity: Mapping[str, str], now_ms: int) -> None:
    crash.point(f"journal.{CREATE}.before")
    disk.execute("BEGIN IMMEDIATE")
    for text in schema.script(checked=True):
        disk.execute(text)
    for statement in _birth(identity, now_ms):
        disk.execute(statement.sql, statement.values)
    crash.point(f"journal.{CREATE}.written")
    disk.execute("COMMIT")
    crash.point(f"journal.{CREATE}.after")


def _mirror(disk: sqlite3.Connection | None = None) -> sqlite3.Connection:
    """The tables in memory, with what is at hand of a file."""
    mirror = sqlite3.connect(":memory:", isolation_level=None)
    mirror.row_factory = sqlite3.Row
    for text in schema.script(checked=False):
        mirror.execute(text)
    if disk is not None:
        _load(mirror, disk)
        for text in _OF_A_FILE:
            mirror.execute(text)
    return mirror


def _load(mirror: sqlite3.Connection, disk: sqlite3.Connection) -> None:
    mirror.execute("BEGIN")
    for table in MIRRORED:
        for rows in _at_hand(table, disk):
            marks = ", ".join("?" * len(COLUMNS[table]))
            mirror.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)  # noqa: S608
    mirror.execute("COMMIT")


def _at_hand(table: str, disk: sqlite3.Connection) -> Iterator[Iterable[tuple[Value, ...]]]:
    """The rows of a table that memory holds from the start."""
    names = COLUMNS[table]
    listed = ", ".join("NULL" if name == "observation" else name for name in names)
    every = f"SELECT {listed} FROM {table}"  # noqa: S608 (names of ours)
    if table == "decisions":
        for symbol, bar in newest_bars(disk):
            whole = f"SELECT * FROM {table} WHERE symbol = ? AND bar_open_ms = ?"  # noqa: S608
            rows = past.verified(disk.execute(whole, (symbol, bar)).fetchall())
            if not rows:
                raise JournalDamagedError(f"journal: the newest decision of {symbol} is missing.")
            yield [tuple(None if n == "observation" else row[n] for n in names) for row in rows]
    elif table in past.KEYS:
        if table == "intents":
            for condition in past.OPEN:
                yield disk.execute(f"{every} WHERE {condition}")
        else:
            for (client_id,) in disk.execute(past.OPEN_OR_NEW):
                yield disk.execute(f"{every} WHERE client_id = ?", (client_id,))
        # The newest last: what memory lets go is told by the order in which it came.
        newest = f"{every} ORDER BY rowid DESC LIMIT {past.KEPT}"
        yield reversed(disk.execute(newest).fetchall())
    else:
        yield disk.execute(every)
