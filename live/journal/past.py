"""What memory lets go: orders that are settled and their fills are read from the disk when asked.

Memory keeps every order that may still change and the newest rows; nothing is let go before it is
durable, so the disk and memory together hold everything, and where both have a row memory's counts.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from live.journal.failures import JournalDamagedError
from live.journal.groups import whole
from live.journal.health import Health
from live.journal.schema import COLUMNS, Value, row_crc
from live.orders import IntentState
from live.types import IntentKind

KEPT = 256  # newest intents, and newest fills, that stay at hand
# What tells a row of a table that lets go.
KEYS: Mapping[str, tuple[str, ...]] = {"intents": ("intent_id",), "fills": ("symbol", "trade_id")}


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


# Orders that may still change. An amendment is done when it was accepted.
OPEN = (
    f"state IN ({_listed((IntentState.INTENT, IntentState.UNKNOWN))})",
    f"state IN ({_listed((IntentState.ACKED, IntentState.PARTIAL))})"
    f" AND kind IN ({_listed(kind for kind in IntentKind if kind is not IntentKind.AMEND)})",
)
_MAY_CHANGE = " OR ".join(f"({condition})" for condition in OPEN)
_NEW = f"intent_id > (SELECT max(intent_id) FROM intents) - {KEPT}"  # noqa: S608
OPEN_OR_NEW = " UNION ".join(
    f"SELECT client_id FROM intents WHERE {condition}"  # noqa: S608
    for condition in (*OPEN, _NEW)
)
_LET_GO_INTENTS = f"""DELETE FROM intents WHERE NOT ({_MAY_CHANGE})
    AND intent_id <= (SELECT max(intent_id) FROM intents) - {KEPT}"""  # noqa: S608
# An order at hand has all its fills at hand.
_LET_GO_FILLS = f"""DELETE FROM fills WHERE rowid <= (SELECT max(rowid) FROM fills) - {KEPT}
    AND NOT EXISTS (SELECT 1 FROM intents WHERE client_id = fills.client_id)
    RETURNING venue_ms"""  # noqa: S608


class Past:
    """Orders and fills of a journal, at hand or not.

    Args:
      disk: a connection that only reads; None = memory has everything. mirror: the tables there.

    Attributes:
      health: told of a disk that cannot be read, which counts as lost: what memory holds is the
        answer, and entries are refused from then on. None = the journal is only read: errors pass.
    """

    def __init__(self, disk: sqlite3.Connection | None, mirror: sqlite3.Connection) -> None:
        self.health: Health | None = None
        self._disk, self._mirror = disk, mirror
        self._unread = False
        self._newest_ms = self._newest_fill()

    def found(self, table: str, condition: str, *values: Value) -> list[sqlite3.Row]:
        """Rows that answer a condition, in no order.

        Raises:
          JournalDamagedError: a row is not what was written. sqlite3.Error: it cannot be read.
        """
        near, far = self._near(table, condition, values), self._far(table, condition, values)
        both = {tuple(row[key] for key in KEYS[table]): row for row in (*far, *near)}
        return list(both.values())

    def one(self, table: str, condition: str, *values: Value) -> sqlite3.Row | None:
        """The row that a condition names, from memory if it is there; raises as `found`."""
        rows = self._near(table, condition, values) or self._far(table, condition, values)
        return rows[0] if rows else None

    def every(self, table: str, order: str = "rowid") -> sqlite3.Cursor:
        """Every row of a table, for a journal just opened and found intact."""
        source = self._mirror if self._disk is None else self._disk
        return source.execute(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608

    def may_hold(self, venue_ms: int) -> bool:
        """Whether a fill of that time (ms) may be among those that can no longer be read."""
        return self._unread and venue_ms <= self._newest_ms

    def recall(self, client_id: Value) -> None:
        """Bring an order that is about to change, and its fills, back to memory."""
        if self._disk is None or self._near("intents", "client_id = ?", (client_id,)):
            return
        found = {table: self._far(table, "client_id = ?", (client_id,)) for table in KEYS}
        with whole(self._mirror):
            for table, rows in found.items():
                marks = ", ".join("?" * len(COLUMNS[table]))
                self._mirror.executemany(
                    f"INSERT OR IGNORE INTO {table} VALUES ({marks})",  # noqa: S608 (names of ours)
                    [tuple(row)[:-1] for row in rows],
                )

    def let_go(self) -> None:
        """Forget what is settled and no longer new; everything in memory is on the disk."""
        if self._disk is not None:
            self._mirror.execute(_LET_GO_INTENTS)
            gone = self._mirror.execute(_LET_GO_FILLS).fetchall()
            self._newest_ms = max([self._newest_ms, *(row["venue_ms"] for row in gone)])

    def close(self) -> None:
        """Release the file."""
        if self._disk is not None:
            with contextlib.suppress(sqlite3.Error):
                self._disk.close()

    def _near(self, table: str, condition: str, values: Sequence[Value]) -> list[sqlite3.Row]:
        text = f"SELECT * FROM {table} WHERE {condition}"  # noqa: S608 (names of ours)
        return self._mirror.execute(text, values).fetchall()

    def _far(self, table: str, condition: str, values: Sequence[Value]) -> list[sqlite3.Row]:
        if self._disk is None:
            return []
        text = f"SELECT * FROM {table} WHERE {condition}"  # noqa: S608 (names of ours)
        try:
            return verified(self._disk.execute(text, values).fetchall())
        except (sqlite3.Error, JournalDamagedError) as error:
            if self.health is None:
                raise
            self._unread = True
            self.health.failure = self.health.failure or f"{type(error).__name__}: {error}"
            return []

    def _newest_fill(self) -> int:
        """Time (ms) of the newest fill on the disk, at hand or not."""
        if self._disk is None:
            return 0
        (newest,) = self._disk.execute("SELECT max(venue_ms) FROM fills").fetchone()
        return newest or 0


def verified(rows: list[sqlite3.Row]) -> list[sqlite3.Row]:
    """Whole rows of a file, if they are what was written; those of memory pass.

    Raises:
      JournalDamagedError: a row does not match its checksum.
    """
    for row in rows:
        if row.keys()[-1] == "crc" and row["crc"] != row_crc(*tuple(row)[:-1]):
            raise JournalDamagedError(
                "journal: a row that was read does not match its checksum. Stop the daemon and"
                " see: jaxtrade live doctor; jaxtrade live restore puts the copy in its place."
            )
    return rows
