"""Opening a journal: lock, checks, copy; nothing is guessed and nothing is repaired in silence.

A file that fails a check is left as it is, and the refusal says which copy to restore.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from live import crash
from live.journal import schema
from live.journal.checking import BUSY_SECONDS, checked, copy_path, empty, lock_path, reading
from live.journal.failures import JournalError
from live.journal.locking import Lock
from live.journal.schema import COLUMNS
from live.journal.statements import Statement, insert
from live.journal.storage import MIB, MIRRORED, Storage

_BESIDE = ("", "-wal", "-shm")  # the files of one database
# Of the mirror alone: what every outcome and every fill looks up.
_INDICES = (
    "CREATE INDEX fills_of_order ON fills (client_id)",
    "CREATE INDEX intents_by_state ON intents (state)",
    "CREATE INDEX intents_by_mark ON intents (role, sent_ms)",
)
# Of the mirror of a file: only the newest decision of a symbol can still be taken twice, and the
# memory of a process that decides for months must not grow with them.
_NEWEST_DECISION = (
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
        return Storage(None, None, mirror, None, slow_ms, monotonic, seq=1)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        warnings = _room(path, min_free_mib, warn_free_gib)
        lock = Lock(lock_path(path))
    except OSError as error:
        raise JournalError(f"journal: cannot use {path}: {error.strerror or error}.") from error
    disk: sqlite3.Connection | None = None
    try:
        known, _ = lock.read()
        if checked(path, identity, known):
            warnings += _copied(path, min_free_mib)
        disk = _connected(path)
        if empty(disk):
            _create(disk, identity, now_ms)
        mirror = _mirror(disk)
        (seq,) = disk.execute("SELECT max(seq) FROM events").fetchone()
        lock.write(seq)
    except BaseException as error:
        if disk is not None:
            disk.close()
        lock.release()
        if isinstance(error, sqlite3.Error | OSError):
            raise JournalError(f"journal: cannot open {path}: {error}.") from error
        raise
    return Storage(path, disk, mirror, lock, slow_ms, monotonic, warnings, seq)


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
    return Storage(path, disk, mirror, None, 0.0, time.monotonic, seq=seq, writable=False)


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
        for suffix in _BESIDE:
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{suffix}", f"{aside}{suffix}")
        shutil.copyfile(copy, path)
        path.chmod(0o600)
        _sync(path)
        _sync(path.parent)
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


def _copied(path: Path, min_free_mib: float) -> tuple[str, ...]:
    """Copy an intact journal beside itself; a copy that fails is a warning."""
    copy, new = copy_path(path), path.with_name(f"{path.name}.bak.new")
    size = sum(file.stat().st_size for end in _BESIDE if (file := Path(f"{path}{end}")).exists())
    if shutil.disk_usage(path.parent).free - size < min_free_mib * MIB:
        return (f"journal: no room to renew the copy {copy}.",)
    try:
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            contextlib.closing(reading(path)) as source,
            contextlib.closing(sqlite3.connect(new)) as target,
        ):
            source.backup(target)
        os.replace(new, copy)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        return (f"journal: the copy {copy} could not be renewed: {error}.",)
    return ()


def _connected(path: Path) -> sqlite3.Connection:
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        _sync(path.parent)
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
    for text in (*_INDICES, *(_NEWEST_DECISION if disk is not None else ())):
        mirror.execute(text)
    return mirror


def _load(mirror: sqlite3.Connection, disk: sqlite3.Connection) -> None:
    mirror.execute("BEGIN")
    for table in MIRRORED:
        names = COLUMNS[table]
        listed = ", ".join("NULL" if name == "observation" else name for name in names)
        newest = (
            " WHERE (symbol, bar_open_ms) IN"
            " (SELECT symbol, max(bar_open_ms) FROM decisions GROUP BY symbol)"
            if table == "decisions"
            else ""
        )
        mirror.executemany(
            f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})",  # noqa: S608
            disk.execute(f"SELECT {listed} FROM {table}{newest}"),  # noqa: S608 (names of ours)
        )
    mirror.execute("COMMIT")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
