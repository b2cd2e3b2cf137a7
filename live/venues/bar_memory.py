"""Closed bars of one symbol and frame, kept in memory: contiguous, finite, bounded; no I/O.

Rows come from a stream, which is fast, and from the venue's history, which is the authority. A row
that only the stream has told is unproven until the history has been seen to agree.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from live.types import Bars

Row = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Revised:
    """A closed bar that the history tells differently than it was known."""

    open_time_ms: int
    known: Row
    told: Row


class BarMemory:
    """The newest rows of one symbol and frame.

    Args:
      frame: canonical name. duration_ms: of a bar.
      spare: rows kept besides those that were ever asked for.
    """

    def __init__(self, frame: str, duration_ms: int, *, spare: int = 3) -> None:
        if not (duration_ms > 0 and spare >= 0):
            raise ValueError(
                f"bars: needs a duration > 0 ms and spare >= 0 rows; got {duration_ms} and {spare}."
            )
        self.frame, self.duration_ms = frame, duration_ms
        self.wanted = 0
        self._spare = spare
        # The history had no older rows when it was read last.
        self._whole = False
        self._first_ms = 0
        self._rows: deque[Row] = deque()
        self._unproven: set[int] = set()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def short(self) -> bool:
        """Whether rows are missing that the history could still tell."""
        return len(self._rows) < self.wanted and not self._whole

    @property
    def newest_ms(self) -> int | None:
        """START of the newest row, None without rows."""
        return self._first_ms + (len(self._rows) - 1) * self.duration_ms if self._rows else None

    @property
    def unproven_ms(self) -> int | None:
        """START of the oldest row that only the stream has told, None without such."""
        return min(self._unproven, default=None)

    def want(self, count: int) -> None:
        """Somebody asks for so many rows; as many are kept from now on."""
        self.wanted = max(self.wanted, count)

    def forget(self) -> None:
        """Drop every row."""
        self._rows.clear()
        self._unproven.clear()
        self._whole = False

    def push(self, open_ms: int, row: Row) -> bool:
        """Take a row of the stream; False = it does not fit, and what was known is dropped.

        A row told again is nothing new. A row after a hole, another one for a bar that is known,
        one that begins off the grid and one that is not finite do not fit; the first of these
        begins anew.
        """
        if open_ms % self.duration_ms or not all(map(math.isfinite, row)):
            self.forget()
            return False
        newest = self.newest_ms
        if newest is not None and open_ms <= newest:
            place = (open_ms - self._first_ms) // self.duration_ms
            if place < 0 or self._rows[place] == row:
                return True
            self.forget()
            return False
        fits = newest is None or open_ms == newest + self.duration_ms
        if not fits:
            self.forget()
        if not self._rows:
            self._first_ms = open_ms
        self._rows.append(row)
        self._unproven.add(open_ms)
        self._trim()
        return fits

    def fill(self, bars: Bars, asked: int) -> tuple[Revised, ...]:
        """Take rows of the history, which are right; those that were known differently.

        Rows with a hole or a number that is not finite teach nothing.

        Args:
          asked: rows that were asked for; fewer came of a symbol that is young.
        """
        times = [int(time) for time in bars.open_time_ms]
        rows: list[Row] = [tuple(row) for row in bars.ohlcv.tolist()]
        steps = np.diff(bars.open_time_ms)
        if not times or times[0] % self.duration_ms or (steps != self.duration_ms).any():
            return ()
        if not np.isfinite(bars.ohlcv).all():
            return ()
        known = {self._first_ms + i * self.duration_ms: row for i, row in enumerate(self._rows)}
        told = dict(zip(times, rows, strict=True))
        revised = tuple(
            Revised(time, known[time], row)
            for time, row in told.items()
            if time in known and known[time] != row
        )
        self._take(known | told)
        self._whole = len(times) < asked and self._first_ms == times[0]
        self._unproven = {time for time in self._unproven - told.keys() if time >= self._first_ms}
        return revised

    def answer(self, count: int, due_ms: int) -> Bars | None:
        """The newest ``count`` rows, or None where they are not all there.

        Args:
          due_ms: START of the bar that ended last. A stream may be one bar ahead of the caller's
            clock; its row is closed all the same.
        """
        newest = self.newest_ms
        if newest not in (due_ms, due_ms + self.duration_ms) or not 0 < count <= len(self._rows):
            return None
        first = self._first_ms + (len(self._rows) - count) * self.duration_ms
        times = first + self.duration_ms * np.arange(count, dtype=np.int64)
        rows = list(self._rows)[-count:]
        return Bars(self.frame, times, np.asarray(rows, dtype=np.float64))

    def lacks_only(self, count: int, due_ms: int) -> bool:
        """Whether one row of the stream would complete the answer."""
        return self.newest_ms == due_ms - self.duration_ms and 0 < count <= len(self._rows) + 1

    def _take(self, rows: dict[int, Row]) -> None:
        """Keep the newest run of rows without a hole."""
        time = max(rows)
        run: deque[Row] = deque()
        while time in rows:
            run.appendleft(rows[time])
            self._first_ms = time
            time -= self.duration_ms
        self._rows = run
        self._trim()

    def _trim(self) -> None:
        while len(self._rows) > self.wanted + self._spare:
            self._rows.popleft()
            self._unproven.discard(self._first_ms)
            self._first_ms += self.duration_ms
