"""Tables of the journal and their checksums.

SQLite's own check finds broken pages and indices, not a changed digit inside a value. So every row
carries a checksum of its values, kept by triggers, and the text of the schema is compared too.
Money is decimal text without an exponent, times are integer milliseconds UTC.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping

from live.orders import IntentState
from live.types import Side

VERSION = 1

_SIDES = ", ".join(f"'{side}'" for side in Side)
_STATES = ", ".join(f"'{state}'" for state in IntentState)

# Columns by table; what follows them are constraints of the whole table.
_TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "meta": (("key TEXT PRIMARY KEY NOT NULL", "value TEXT NOT NULL"), ()),
    "runs": (
        (
            "run_id INTEGER PRIMARY KEY",
            "started_ms INTEGER NOT NULL",
            "ended_ms INTEGER",
            "exit_code INTEGER",
            "mode TEXT NOT NULL",
            "venue TEXT NOT NULL",
            "symbols TEXT NOT NULL CHECK (json_valid(symbols))",
            "config_sha256 TEXT NOT NULL",
            "bundle_sha256 TEXT",
            "version TEXT NOT NULL",
            "boot_id TEXT NOT NULL",
        ),
        (),
    ),
    "events": (
        (
            "seq INTEGER PRIMARY KEY AUTOINCREMENT",
            "run_id INTEGER REFERENCES runs(run_id)",
            "wall_ms INTEGER NOT NULL",
            "venue_ms INTEGER",
            "kind TEXT NOT NULL",
            "symbol TEXT",
            "body TEXT NOT NULL CHECK (json_valid(body))",
        ),
        (),
    ),
    "decisions": (
        (
            "symbol TEXT NOT NULL",
            "bar_open_ms INTEGER NOT NULL",
            "run_id INTEGER REFERENCES runs(run_id)",
            "action TEXT",  # as Python writes it, so that nan survives
            "level REAL",
            "decision TEXT NOT NULL",
            "refusal TEXT",
            "observation_sha256 TEXT NOT NULL",
            "observation BLOB",
            "policy_ms REAL NOT NULL",
            "fallback INTEGER NOT NULL",
        ),
        ("PRIMARY KEY (symbol, bar_open_ms)",),
    ),
    "intents": (
        (
            "intent_id INTEGER PRIMARY KEY AUTOINCREMENT",
            "client_id TEXT NOT NULL UNIQUE",
            "venue_hash TEXT",
            "symbol TEXT NOT NULL",
            "bar_open_ms INTEGER NOT NULL",
            "role TEXT NOT NULL",
            "leg INTEGER NOT NULL",
            "kind TEXT NOT NULL",
            f"side TEXT NOT NULL CHECK (side IN ({_SIDES}))",
            "quantity TEXT NOT NULL",
            "reduce_only INTEGER NOT NULL",
            "price TEXT",
            "trigger_price TEXT",
            "stop_price TEXT",
            "target_price TEXT",
            "parent_id TEXT",
            f"state TEXT NOT NULL CHECK (state IN ({_STATES}))",
            "code TEXT",
            "reason TEXT NOT NULL",
            "detail TEXT NOT NULL DEFAULT ''",
            "venue_order_id TEXT",
            "reported TEXT NOT NULL DEFAULT '0'",
            "created_ms INTEGER NOT NULL",
            "sent_ms INTEGER",
            "resolved_ms INTEGER",
        ),
        ("UNIQUE (symbol, bar_open_ms, role, leg)",),
    ),
    "fills": (
        (
            "symbol TEXT NOT NULL",
            "trade_id TEXT NOT NULL",
            "client_id TEXT NOT NULL",
            "venue_order_id TEXT NOT NULL",
            f"side TEXT NOT NULL CHECK (side IN ({_SIDES}))",
            "quantity TEXT NOT NULL",
            "price TEXT NOT NULL",
            "fee TEXT NOT NULL",
            "fee_asset TEXT NOT NULL",
            "kind TEXT NOT NULL",
            "venue_ms INTEGER NOT NULL",
            "source TEXT NOT NULL",
        ),
        ("PRIMARY KEY (symbol, trade_id)",),
    ),
    "adjustments": (
        (
            "id INTEGER PRIMARY KEY",
            "symbol TEXT NOT NULL",
            "kind TEXT NOT NULL",
            "quantity TEXT NOT NULL",
            "cash TEXT NOT NULL",
            "evidence TEXT NOT NULL CHECK (json_valid(evidence))",
            "venue_ms INTEGER NOT NULL",
            "acknowledged_by TEXT",
        ),
        (),
    ),
    "protection": (
        (
            "symbol TEXT PRIMARY KEY NOT NULL",
            "client_id TEXT",
            "stop_price TEXT",
            "target_price TEXT",
            "quantity TEXT NOT NULL",
            "confirmed_ms INTEGER NOT NULL",
            "where_held TEXT NOT NULL CHECK (where_held IN ('venue', 'local'))",
        ),
        (),
    ),
    "equity": (
        (
            "venue_ms INTEGER PRIMARY KEY",
            "equity TEXT NOT NULL",
            "available TEXT NOT NULL",
            "quantity TEXT",
            "mark TEXT",
            "peak TEXT NOT NULL",
            "day_start TEXT NOT NULL",
        ),
        (),
    ),
    "latches": (
        (
            "id INTEGER PRIMARY KEY",
            "state TEXT NOT NULL",
            "reason TEXT NOT NULL",
            "detail TEXT NOT NULL",
            "set_ms INTEGER NOT NULL",
            "cleared_ms INTEGER",
            "cleared_by TEXT",
            "cleared_reason TEXT",
        ),
        (),
    ),
    "watermarks": (
        (
            "symbol TEXT NOT NULL",
            "feed TEXT NOT NULL",
            "venue_ms INTEGER NOT NULL",
            "last_id TEXT NOT NULL",
        ),
        ("PRIMARY KEY (symbol, feed)",),
    ),
}

COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(column.split()[0] for column in columns) for table, (columns, _) in _TABLES.items()
}

# What is looked up beside the keys. A file without one gets it when it is opened for writing.
INDICES: Mapping[str, str] = {
    name: f"CREATE INDEX {name} ON {what}"
    for name, what in (
        ("fills_by_time", "fills (symbol, venue_ms)"),
        ("fills_of_order", "fills (client_id)"),
        ("intents_by_age", "intents (symbol, created_ms)"),
        ("intents_by_mark", "intents (role, sent_ms)"),
        ("intents_by_state", "intents (state, kind)"),
    )
}

# Rows that are written once and stay.
APPEND_ONLY = ("events", "decisions", "fills")

# Those whose old rows nothing but a reader of the past asks for.
HISTORY = ("events", "decisions")

Value = str | int | float | bytes | None


def script(*, checked: bool) -> tuple[str, ...]:
    """The statements that create the tables; ``checked`` adds checksums and their triggers."""
    statements = []
    for table, (columns, constraints) in _TABLES.items():
        extra = ("crc INTEGER",) if checked else ()
        body = ", ".join((*columns, *extra, *constraints))
        statements.append(f"CREATE TABLE {table} ({body})")
        if checked:
            statements += _checksum_triggers(table)
    for table in APPEND_ONLY:
        names = ", ".join(COLUMNS[table])
        for change in (f"UPDATE OF {names}", "DELETE"):
            statements.append(
                f"CREATE TRIGGER {table}_no_{change.split()[0].lower()} BEFORE {change} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} only grow'); END"
            )
    return (*statements, *INDICES.values())


def _checksum_triggers(table: str) -> list[str]:
    columns = COLUMNS[table]
    new = ", ".join(f"NEW.{column}" for column in columns)
    return [
        f"CREATE TRIGGER {table}_crc_{change.split()[0].lower()} AFTER {change} ON {table}"  # noqa: S608
        f" BEGIN UPDATE {table} SET crc = row_crc({new}) WHERE rowid = NEW.rowid; END"
        for change in ("INSERT", f"UPDATE OF {', '.join(columns)}")
    ]


def row_crc(*values: Value) -> int:
    """Checksum of the values of a row, the same on every machine and version."""
    return zlib.crc32(ascii(values).encode())


def prepare(connection: sqlite3.Connection) -> None:
    """Set what every connection to a journal file needs before its first statement."""
    connection.create_function("row_crc", -1, row_crc, deterministic=True)
    for pragma in ("foreign_keys=ON", "trusted_schema=ON", "cell_size_check=ON", "fullfsync=ON"):
        connection.execute(f"PRAGMA {pragma}")


def texts(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Every table, trigger and index as SQLite remembers it."""
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    )
    return {(name, sql) for name, sql in rows}


def add_indices(connection: sqlite3.Connection) -> None:
    """Make the indices that a file of an earlier daemon has not."""
    for name in INDICES.keys() - {name for name, _ in texts(connection)}:
        connection.execute(INDICES[name])
