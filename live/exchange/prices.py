"""Where the mark price comes from: bars, the path it takes inside each, and the bars it leaves.

Inside a bar of length d the mark runs in straight lines from the open to the extreme that the close
is farther from (at d/4), to the other extreme (at 3d/4) and to the close (at d - 1 ms), rounded to
the tick. The next bar's open follows as a jump. Every millisecond has one price, so that nothing
depends on how time is cut into steps.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxtrade.market import frame as frames
from jaxtrade.market import synthetic

NEVER_MS = 2**62


def to_step(value: Decimal, step: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """``value`` as a whole number of steps."""
    return (value / step).quantize(Decimal(1), rounding=rounding) * step


@dataclass(frozen=True, slots=True)
class Candle:
    """One bar as the exchange publishes it; quote units, volume in base units."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    closed: bool


@dataclass(frozen=True, slots=True)
class Day:
    """What happened in 24 hours; quote units, volume in base units."""

    open: float
    high: float
    low: float
    volume: float
    turnover: float


@dataclass(frozen=True, slots=True)
class Series:
    """Bars a mark price is made of.

    Attributes:
      open_ms: int64 [N], ascending. ohlcv: float64 [N, 5]. step_ms: length of a bar.
      funding: float64 [N] rate of each bar, None where the source has no such column.
    """

    open_ms: NDArray[np.int64]
    ohlcv: NDArray[np.float64]
    step_ms: int
    funding: NDArray[np.float64] | None = None

    @classmethod
    def read(cls, source: pd.DataFrame | str | Path) -> Series:
        """Bars of a frame (timestamp = START) or of a file of one.

        Raises:
          ValueError: it is not a frame of prices with at least two rows.
        """
        rows = frames.read(frames.load(source))
        spacing = rows.spacing
        if spacing is None:
            raise ValueError("source: expected at least two bars; got fewer.")
        ohlcv = np.stack(list(rows.columns.values()), axis=1)
        return cls(rows.time // 1_000_000, ohlcv, int(spacing) // 1_000_000, rows.funding)

    @classmethod
    def generate(cls, seed: int, rows: int, price: float, tick: float) -> Series:
        """Seeded minute bars."""
        return cls.read(synthetic.minutes(seed, rows, price=price, tick=tick))

    def shifted(self, milliseconds: int) -> Series:
        """The same bars at other times."""
        return replace(self, open_ms=self.open_ms + milliseconds)


Knots = tuple[tuple[int, Decimal], ...]


class PricePath:
    """The mark price of one symbol as a function of time.

    Args:
      series: bars. tick: prices are whole multiples of it.
    """

    def __init__(self, series: Series, tick: Decimal) -> None:
        if not tick > 0:
            raise ValueError(f"tick: must be > 0; got {tick}.")
        self.series = series
        self.tick = tick
        self._cached: tuple[int, Knots] = (-1, ())
        # A bar and when it begins and ends: almost every question is about the bar of the one
        # before. Likewise the marks of the two newest instants, between which triggers are sought.
        self._window: tuple[int, int, int] = (-1, 0, 0)
        self._marks: dict[int, Decimal] = {}

    def row(self, time_ms: int) -> int:
        """Bar that holds an instant, or the last one before it; -1 before the first."""
        row, start, end = self._window  # one read: another thread may replace it
        if start <= time_ms < end:
            return row
        row = int(np.searchsorted(self.series.open_ms, time_ms, side="right")) - 1
        if 0 <= row < len(self.series.open_ms) - 1:
            bounds = self.series.open_ms[row : row + 2]
            self._window = (row, int(bounds[0]), int(bounds[1]))
        return row

    def mark(self, time_ms: int) -> Decimal:
        """Mark price at an instant; the first open before the bars, the last close after them."""
        marks = self._marks
        known = marks.get(time_ms)
        if known is None:
            known = self._mark(time_ms)
            newest = max(marks, default=time_ms)
            self._marks = {newest: marks.get(newest, known), time_ms: known}
        return known

    def _mark(self, time_ms: int) -> Decimal:
        row = self.row(time_ms)
        if row < 0:
            return self._knots(0)[0][1]
        knots = self._knots(row)
        if time_ms >= knots[-1][0]:
            return knots[-1][1]
        before, after = next((a, b) for a, b in itertools.pairwise(knots) if time_ms < b[0])
        return self._between(before, after, time_ms)

    def jumps_at(self, time_ms: int) -> bool:
        """Whether the mark comes to this instant by the jump to a bar's open."""
        row = self.row(time_ms)
        return row >= 0 and int(self.series.open_ms[row]) == time_ms

    def next_knot(self, time_ms: int) -> int:
        """First later instant at which the path turns or jumps; `NEVER_MS` after the end."""
        row = self.row(time_ms)
        if row >= 0:
            for at, _ in self._knots(row):
                if at > time_ms:
                    return at
        if row + 1 < len(self.series.open_ms):
            return int(self.series.open_ms[row + 1])
        return NEVER_MS

    def first(self, level: Decimal, falling: bool, start_ms: int, end_ms: int) -> int | None:
        """First instant of [start, end] at which the mark is at or beyond ``level``, or None.

        No knot may lie strictly between start and end.
        """
        if self._beyond(level, falling, start_ms):
            return start_ms
        if not self._beyond(level, falling, end_ms):
            return None
        low, high = start_ms, end_ms
        while high - low > 1:
            middle = (low + high) // 2
            if self._beyond(level, falling, middle):
                high = middle
            else:
                low = middle
        return high

    def candles(self, minutes: int, start_ms: int, end_ms: int, now_ms: int) -> list[Candle]:
        """Bars that open in [start, end] and have begun, ascending; the newest may be unfinished.

        Raises:
          ValueError: ``minutes`` is not a whole number of the source's bars.
        """
        length = minutes * 60_000
        if length % self.series.step_ms:
            raise ValueError(f"interval: {minutes} minutes is no multiple of the source's bars.")
        first = -(-start_ms // length) * length
        last = min(end_ms, now_ms) // length * length + length
        low = int(np.searchsorted(self.series.open_ms, first, side="left"))
        high = int(np.searchsorted(self.series.open_ms, min(last, now_ms + 1), side="left"))
        if low >= high:
            return []
        times, values = self.series.open_ms[low:high], self.series.ohlcv[low:high].copy()
        if times[-1] + self.series.step_ms > now_ms:
            values[-1] = self._live(high - 1, now_ms)
        groups = times // length
        turns = np.flatnonzero(groups[1:] != groups[:-1]) + 1
        starts = np.concatenate(([0], turns))
        ends = np.concatenate((turns, [len(times)])) - 1
        tops = np.maximum.reduceat(values[:, 1], starts)
        bottoms = np.minimum.reduceat(values[:, 2], starts)
        volumes = np.add.reduceat(values[:, 4], starts)
        return [
            Candle(
                open_ms=int(groups[start] * length),
                open=float(values[start, 0]),
                high=float(top),
                low=float(bottom),
                close=float(values[end, 3]),
                volume=float(volume),
                closed=bool(groups[start] * length + length <= now_ms),
            )
            for start, end, top, bottom, volume in zip(
                starts, ends, tops, bottoms, volumes, strict=True
            )
        ]

    def day(self, now_ms: int) -> Day:
        """The last 24 hours, the bar in progress as far as it has come."""
        row = self.row(now_ms)
        if row < 0:
            first = float(self.mark(now_ms))
            return Day(first, first, first, 0.0, 0.0)
        since = int(np.searchsorted(self.series.open_ms, now_ms - 86_400_000, side="left"))
        done = self.series.ohlcv[min(since, row) : row]
        live = self._live(row, now_ms)
        return Day(
            open=float(done[0, 0] if len(done) else live[0]),
            high=float(done[:, 1].max(initial=live[1])),
            low=float(done[:, 2].min(initial=live[2])),
            volume=float(done[:, 4].sum() + live[4]),
            turnover=float(done[:, 4] @ done[:, 3] + live[4] * live[3]),
        )

    def _live(self, row: int, now_ms: int) -> NDArray[np.float64]:
        """Bar ``row`` as far as it has come, [5]."""
        opening, *_, volume = self.series.ohlcv[row]
        knots = self._knots(row)
        mark = float(self.mark(now_ms))
        seen = [opening, mark, *(float(price) for at, price in knots if at <= now_ms)]
        done = (now_ms - knots[0][0]) / self.series.step_ms
        return np.array([opening, max(seen), min(seen), mark, volume * done])

    def _beyond(self, level: Decimal, falling: bool, time_ms: int) -> bool:
        mark = self.mark(time_ms)
        return mark <= level if falling else mark >= level

    def _between(self, a: tuple[int, Decimal], b: tuple[int, Decimal], time_ms: int) -> Decimal:
        part = (b[1] - a[1]) * (time_ms - a[0]) / (b[0] - a[0])
        return to_step(a[1] + part, self.tick)

    def _knots(self, row: int) -> Knots:
        cached, knots = self._cached  # one read: another thread may replace it
        if cached == row:
            return knots
        start, step = int(self.series.open_ms[row]), self.series.step_ms
        opening, high, low, close = (
            max(to_step(Decimal(repr(float(price))), self.tick), self.tick)
            for price in self.series.ohlcv[row, :4]
        )
        turns = (low, high) if close >= opening else (high, low)
        knots = (
            (start, opening),
            (start + step // 4, turns[0]),
            (start + step * 3 // 4, turns[1]),
            (start + step - 1, close),
        )
        self._cached = (row, knots)
        return knots
