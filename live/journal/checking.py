"""The checks that a journal passes before it is used; what fails one is left as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from live.journal import schema
from live.journal.failures import JournalDamagedError, JournalError

BUSY_SECONDS = 1.0  # how long another connection that writes may block the daemon
_SMALLEST = 512  # bytes of the smallest database; SQLite takes less for an empty one


def lock_path(path: Path) -> Path:
    """The file that one daemon locks."""
    return path.with_name(f"{path.name}.lock")


def copy_path(path: Path) -> Path:
    """The copy that every start takes of a journal it found intact."""
    return path.with_name(f"{path.name}.bak")


def checked(path: Path, identity: Mapping[str, str], known: int) -> bool:
    """Whether there is a journal, found intact, of this owner and with every known commit.

    Read without a right to write, so that a damaged file stays what it is.
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
        found = schema.problems(connection)
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
