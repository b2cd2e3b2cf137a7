"""The copy beside a journal: made whole once, then continued by what was written since.

A row that the copy has was found intact when it was copied. So a start looks again at everything
that still changes, and of the history at what is new; older history is checked when it is read, by
`jaxtrade live doctor` and before a copy is restored.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from live.journal import schema
from live.journal.checking import copy_path, reading
from live.journal.failures import JournalDamagedError
from live.journal.past import verified
from live.journal.schema import APPEND_ONLY, COLUMNS
from live.journal.storage import MIB

BESIDE = ("", "-wal", "-shm")  # the files of one database
_SAME = ("schema_version", "account_id", "strategy_id", "created_ms")


def copied_rows(path: Path) -> Mapping[str, int] | None:
    """Newest row number of each table that only grows, as far as the copy goes.

    None where there is no copy, or none that is an earlier state of this journal.
    """
    copy = copy_path(path)
    if not copy.exists():
        return None
    try:
        with contextlib.closing(reading(path)) as now, contextlib.closing(reading(copy)) as before:
            if _shape(now) != _shape(before) or _owner(now) != _owner(before):
                return None
            found = {}
            for table in APPEND_ONLY:
                (number,) = before.execute(f"SELECT max(rowid) FROM {table}").fetchone()  # noqa: S608
                if number is not None and _row(now, table, number) != _row(before, table, number):
                    return None
                found[table] = number or 0
            return found
    except (sqlite3.Error, JournalDamagedError, UnicodeDecodeError):
        return None  # then everything is checked and copied anew


def _shape(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return schema.texts(connection) - set(schema.INDICES.items())


def _owner(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    rows = verified(connection.execute("SELECT * FROM meta").fetchall())
    return sorted(tuple(row) for row in rows if row["key"] in _SAME)


def _row(connection: sqlite3.Connection, table: str, number: int) -> list[tuple[object, ...]]:
    rows = connection.execute(f"SELECT * FROM {table} WHERE rowid = ?", (number,))  # noqa: S608
    return [tuple(row) for row in verified(rows.fetchall())]


def renew(path: Path, min_free_mib: float, known: Mapping[str, int] | None) -> tuple[str, ...]:
    """Bring the copy of an intact journal up to date; one that fails is a warning.

    Args:
      known: what `copied_rows` said before the journal was checked; None = copy all of it.
    """
    copy = copy_path(path)
    size = _size(path) - (0 if known is None else _size(copy))
    if shutil.disk_usage(path.parent).free - max(size, 0) < min_free_mib * MIB:
        return (f"journal: no room to renew the copy {copy}.",)
    try:
        if known is None:
            _copy_whole(path, copy)
        else:
            _continue(path, copy, known)
    except (OSError, sqlite3.Error) as error:
        return (f"journal: the copy {copy} could not be renewed: {error}.",)
    return ()


def put_back(path: Path) -> None:
    """Write the copy, with what its own log holds, in the place of a journal that is not there."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    _back_up(copy_path(path), path)
    synchronise(path)
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Bring a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for end in BESIDE if (file := Path(f"{path}{end}")).exists())


def _copy_whole(path: Path, copy: Path) -> None:
    new = copy.with_name(f"{copy.name}.new")
    for end in BESIDE:
        Path(f"{new}{end}").unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    _back_up(path, new)
    for end in BESIDE[1:]:
        Path(f"{copy}{end}").unlink(missing_ok=True)
    os.replace(new, copy)
    synchronise(path.parent)


def _back_up(source: Path, target: Path) -> None:
    with (
        contextlib.closing(reading(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def _continue(path: Path, copy: Path, known: Mapping[str, int]) -> None:
    """Add what is new of the tables that only grow, and write the others again, as one."""
    connection = sqlite3.connect(
        f"{copy.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None
    )
    with contextlib.closing(connection):
        schema.prepare(connection)
        connection.execute("PRAGMA foreign_keys=OFF")  # rows of runs are written again
        connection.execute("PRAGMA synchronous=FULL")
        schema.add_indices(connection)
        connection.execute("ATTACH ? AS journal", (f"{path.absolute().as_uri()}?mode=ro",))
        connection.execute("BEGIN IMMEDIATE")
        for table, columns in COLUMNS.items():
            names = ", ".join(columns)
            numbered = f"rowid, {names}" if table in ("decisions", "fills") else names
            source = f"SELECT {numbered} FROM journal.{table} WHERE rowid > ?"  # noqa: S608
            if table not in APPEND_ONLY:
                connection.execute(f"DELETE FROM main.{table}")  # noqa: S608 (names of ours)
            connection.execute(
                f"INSERT INTO main.{table} ({numbered}) {source} ORDER BY rowid",
                (known.get(table, 0),),
            )
        connection.execute("COMMIT")
