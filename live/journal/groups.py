"""Writes that share one commit: what they are, and the commit itself.

A group is an open transaction. Its statements run where they are written; only the commit, which is
what waits for the disk, may be left to a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from live.journal.statements import Statement


@dataclass(frozen=True, slots=True)
class Write:
    """One record: its statements count together or not at all.

    Attributes:
      operation: names the crash points. risky: it lets risk grow.
    """

    operation: str
    statements: tuple[Statement, ...]
    risky: bool

    @property
    def seq(self) -> int:
        """Number of its newest event, 0 = it has none."""
        numbers = (one.values["seq"] for one in self.statements if one.table == "events")
        return max((number for number in numbers if isinstance(number, int)), default=0)

    def tell(self) -> None:
        """Write to standard error what only memory holds, one line of JSON per row."""
        for statement in self.statements:
            values = {
                name: value
                for name, value in statement.values.items()
                if not isinstance(value, bytes)
            }
            line = {"unwritten": self.operation, "table": statement.table, **values}
            sys.stderr.write(json.dumps(line, allow_nan=False) + "\n")
        sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Committed:
    """How a commit went.

    Attributes:
      failure: why nothing of it is on the disk, or None. milliseconds: that it took.
    """

    failure: str | None
    milliseconds: float = 0.0


@dataclass(slots=True)
class Group:
    """Writes that become durable together.

    Attributes:
      seq: number of the newest event before. writes: in order.
      done: set when the end is known; None where the only writer waits for the disk itself.
      commit: under way in the thread. failed: nothing of it is on the disk.
    """

    seq: int
    done: asyncio.Future[None] | None = None
    writes: list[Write] = field(default_factory=list)
    commit: Future[Committed] | None = None
    failed: bool = False


def commit(disk: sqlite3.Connection, monotonic: Callable[[], float]) -> Committed:
    """End the open transaction of a disk; it is on it, or rolled back."""
    start = monotonic()
    try:
        disk.execute("COMMIT")
    except sqlite3.Error as error:
        roll_back(disk)
        return Committed(words(error))
    return Committed(None, 1000 * (monotonic() - start))


def words(error: sqlite3.Error) -> str:
    """What the disk said."""
    return f"{type(error).__name__}: {error}"


def roll_back(connection: sqlite3.Connection) -> None:
    """End an open transaction without it."""
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # the error that led here is the one to tell
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def whole(connection: sqlite3.Connection) -> Iterator[None]:
    """What runs inside counts entirely or not at all, within a transaction or as one."""
    connection.execute("SAVEPOINT whole")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK TO whole")
                connection.execute("RELEASE whole")
        raise
    connection.execute("RELEASE whole")
