"""The checks that a journal passes before it is used; what fails one is left as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from live.journal import schema
from live.journal.failures import JournalDamagedError, JournalError

BUSY_SECONDS = 1.0  # how long another connection that writes may block the daemon
_LOWEST = -(1 << 63)  # number of a row
_SMALLEST = 512  # bytes of the smallest database; SQLite takes less for an empty one


def lock_path(path: Path) -> Path:
    """The file that one daemon locks."""
    return path.with_name(f"{path.name}.lock")


def copy_path(path: Path) -> Path:
    """The copy that every start takes of a journal it found intact."""
    return path.with_name(f"{path.name}.bak")


def checked(
    path: Path,
    identity: Mapping[str, str],
    known: int,
    copied: Mapping[str, int] | None = None,
) -> bool:
    """Whether there is a journal, found intact, of this owner and with every known commit.

    Read without a right to write, so that a damaged file stays what it is.

    Args:
      copied: rows of the history that need no second look, see `live.journal.copying`.
    """
    size = path.stat().st_size if path.exists() else 0
    if size == 0 and not known:
        return False
    if size < _SMALLEST:
        raise JournalDamagedError(_damage(path, f"it has {size} bytes but had {known} records"))
    connection: sqlite3.Connection | None = None
    try:
        connection = reading(path)
        if empty(connection) and not known:
            return False
        _same_version(connection, path)
        found = problems(connection, copied)
        if not found:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            (seq,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
            if seq < known:
                found = [f"it ends at record {seq}, but {known} were written"]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        found = [str(error)]
    finally:
        if connection is not None:
            connection.close()
    if found:
        raise JournalDamagedError(_damage(path, "; ".join(found)))
    for key, expected in identity.items():
        if meta.get(key) != expected:
            raise JournalError(
                f"journal: {path} belongs to {key} {meta.get(key)!r}; expected {expected!r}."
                " Use the settings it was made with, or another state directory."
            )
    return True


def _same_version(connection: sqlite3.Connection, path: Path) -> None:
    version, intact = connection.execute(
        "SELECT value, crc IS row_crc(key, value) FROM meta WHERE key = 'schema_version'"
    ).fetchone() or ("none", False)
    if intact and version != str(schema.VERSION):
        raise JournalError(
            f"journal: {path} has schema version {version}; expected {schema.VERSION}."
            " Use the version of jaxtrade that wrote it."
        )


def _damage(path: Path, detail: str) -> str:
    copy = copy_path(path)
    if copy.exists():
        taken = datetime.fromtimestamp(copy.stat().st_mtime, UTC)
        remedy = f"restore the copy {copy} of {taken:%Y-%m-%d %H:%M:%S} UTC"
    else:
        remedy = f"there is no copy {copy} yet"
    return (
        f"journal: {path} is damaged ({detail}); it was left as it is. Remedy: {remedy}, or keep"
        f" all files aside and repair with: sqlite3 {path} .recover. To accept what is there"
        f" although newer records were written, remove {lock_path(path)}."
    )


def reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write: not even the log of an earlier crash is folded in."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    connection.row_factory = sqlite3.Row
    schema.prepare(connection)
    return connection


def empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever made in a file."""
    (count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return bool(count == 0)


def problems(connection: sqlite3.Connection, known: Mapping[str, int] | None = None) -> list[str]:
    """What is wrong with a journal file of this version, page by page and row by row.

    Args:
      known: row numbers of the history up to which it was found intact before; None = look at
        everything.

    Raises:
      sqlite3.DatabaseError: the file cannot even be read.
    """
    passed = {} if known is None else {table: known[table] for table in schema.HISTORY}
    parts = ["10"] if known is None else [table for table in schema.COLUMNS if table not in passed]
    for part in parts:
        rows = connection.execute(f"PRAGMA integrity_check({part})")
        found = [row[0] for row in rows if row[0] != "ok"]
        if found:
            return found
    fresh = sqlite3.connect(":memory:")
    for statement in schema.script(checked=True):
        fresh.execute(statement)
    expected = schema.texts(fresh)
    fresh.close()
    # An index may be missing; what is there has to be ours.
    if not expected - set(schema.INDICES.items()) <= schema.texts(connection) <= expected:
        return ["the schema is not the one this version writes"]
    for table, columns in schema.COLUMNS.items():
        (wrong,) = connection.execute(
            f"SELECT count(*) FROM {table} WHERE rowid >= ? AND crc IS NOT"  # noqa: S608
            f" row_crc({', '.join(columns)})",
            (passed.get(table, _LOWEST - 1) + 1,),
        ).fetchone()
        if wrong:
            found.append(f"{wrong} rows of {table} do not match their checksums")
    if known is not None:
        return found + _history_problems(connection, passed)
    orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    return found + [f"a row of {row[0]} names a missing row of {row[2]}" for row in orphans[:10]]


def _history_problems(connection: sqlite3.Connection, passed: Mapping[str, int]) -> list[str]:
    """What is wrong with new rows of the history beside their checksums."""
    found = []
    for table, number in passed.items():
        (orphans,) = connection.execute(
            f"SELECT count(*) FROM {table} WHERE rowid > ?"  # noqa: S608 (names of ours)
            " AND run_id NOT NULL AND run_id NOT IN (SELECT run_id FROM runs)",
            (number,),
        ).fetchone()
        if orphans:
            found.append(f"{orphans} rows of {table} name a missing row of runs")
    (missing,) = connection.execute(
        "SELECT coalesce(max(seq), :known) - :known - count(*) FROM events WHERE seq > :known",
        {"known": passed["events"]},
    ).fetchone()
    if missing:
        found.append(f"{missing} rows of events are missing")
    newest = dict(newest_bars(connection))
    rows = connection.execute(
        "SELECT symbol, max(bar_open_ms) FROM decisions NOT INDEXED WHERE rowid > ?"
        " GROUP BY symbol",
        (passed["decisions"],),
    )
    if any(newest.get(symbol, -1) < bar for symbol, bar in rows):
        found.append("the newest decisions are not where they belong")
    return found


def newest_bars(disk: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Symbol and opening time of the newest decision of each; one step of the index for each."""
    symbol = ""
    while True:
        row = disk.execute(
            "SELECT symbol FROM decisions WHERE symbol > ? ORDER BY symbol LIMIT 1", (symbol,)
        ).fetchone()
        if row is None:
            return
        symbol = row["symbol"]
        (bar,) = disk.execute(
            "SELECT max(bar_open_ms) FROM decisions WHERE symbol = ?", (symbol,)
        ).fetchone()
        yield symbol, bar
