"""Bars as venues send them: put in order, cut at the decision, and checked before anybody looks.

A row that is wrong makes the whole frame unreadable: to drop it would shift time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxtrade.market.features import OHLCV_COLUMNS
from jaxtrade.market.times import NS_PER_SECOND, format_time
from jaxtrade.timeframe import TimeFrame
from live.types import Bars, UnreadableError

_NS_PER_MS = NS_PER_SECOND // 1000


class StaleBarsError(UnreadableError):
    """The newest bar is older than it should be: the venue is late, ask again shortly."""


class HoleError(UnreadableError):
    """A bar is missing between two others: ask the venue's history."""


def duration_ms(frame: TimeFrame) -> int:
    """Length of a bar in milliseconds."""
    return frame.seconds * 1000


def when(time_ms: int) -> str:
    """UTC text of an instant, for messages."""
    return format_time(int(time_ms) * _NS_PER_MS)


def arrange(frame: TimeFrame, open_time_ms: Any, ohlcv: Any, until_ms: int) -> Bars:
    """Rows in any order as ascending bars that have ended by ``until_ms``, each once.

    Bars that end later are dropped before anything is said about them: they are still forming.

    Args:
      open_time_ms: [N] START of each row. ohlcv: [N, 5]. until_ms: an instant of venue time.

    Raises:
      UnreadableError: the shapes do not fit, a time is no bar's START, or two rows of one time
        differ.
    """
    times = np.asarray(open_time_ms, np.int64)
    rows = np.asarray(ohlcv, np.float64)
    if times.ndim != 1 or rows.shape != (len(times), len(OHLCV_COLUMNS)):
        raise UnreadableError(
            f"bars of {frame.name}: {times.shape} times and {rows.shape} rows do not fit together."
        )
    length = duration_ms(frame)
    ended = times + length <= until_ms
    times, rows = times[ended], rows[ended]
    ascending = bool((times[1:] > times[:-1]).all())
    if not ascending:
        order = np.argsort(times, kind="stable")
        times, rows = times[order], rows[order]
    off_grid = times % length != 0
    if off_grid.any():
        shown = when(times[off_grid.argmax()])
        raise UnreadableError(f"bars of {frame.name}: no bar starts at {shown} UTC.")
    if ascending:
        return Bars(frame.name, times, rows)
    repeated = np.zeros(len(times), bool)
    repeated[1:] = times[1:] == times[:-1]
    same = ((rows[1:] == rows[:-1]) | (np.isnan(rows[1:]) & np.isnan(rows[:-1]))).all(axis=1)
    conflict = repeated[1:] & ~same
    if conflict.any():
        shown = when(times[1:][conflict.argmax()])
        raise UnreadableError(f"bars of {frame.name}: two different rows for {shown} UTC.")
    return Bars(frame.name, times[~repeated], rows[~repeated])


def check_contiguous(bars: Bars, frame: TimeFrame) -> None:
    """Refuse a missing bar between the first and the last.

    Raises:
      HoleError: naming the first bar that is missing.
    """
    length = duration_ms(frame)
    gaps = np.diff(bars.open_time_ms) != length
    if gaps.any():
        missing = bars.open_time_ms[gaps.argmax()] + length
        raise HoleError(f"bars of {frame.name}: the one of {when(missing)} UTC is missing.")


def check_fresh(bars: Bars, frame: TimeFrame, decision_ms: int) -> None:
    """Refuse bars whose newest one is not the newest that has ended by the decision.

    Raises:
      StaleBarsError: naming the bar that is there and the one that should be.
    """
    length = duration_ms(frame)
    due = decision_ms // length * length - length
    newest = int(bars.open_time_ms[-1]) if len(bars.open_time_ms) else None
    if newest != due:
        shown = "none" if newest is None else when(newest)
        raise StaleBarsError(
            f"bars of {frame.name}: the newest is of {shown}, the decision needs {when(due)} UTC."
        )


def check_values(bars: Bars, frame: TimeFrame) -> None:
    """Refuse prices that are no prices and volumes that are none.

    Raises:
      UnreadableError: naming the column and the first such bar.
    """
    opening, high, low, close, volume = bars.ohlcv.T
    prices = bars.ohlcv[:, :4]
    # Written so that NaN fails.
    bad = ~((prices > 0) & (prices < np.inf))
    for i, name in enumerate(OHLCV_COLUMNS[:4]):
        _refuse(bad[:, i], bars, frame, f"{name} is no positive price")
    covers = (high >= opening) & (high >= close) & (low <= opening) & (low <= close)
    _refuse(~covers, bars, frame, "high and low do not cover open and close")
    _refuse(~((volume >= 0) & (volume < np.inf)), bars, frame, "volume is negative or not finite")


def _refuse(bad: np.ndarray, bars: Bars, frame: TimeFrame, what: str) -> None:
    if bad.any():
        at = when(bars.open_time_ms[bad.argmax()])
        raise UnreadableError(f"bars of {frame.name}: {what} at {at} UTC.")


def newest_rows(bars: Bars, count: int) -> Bars:
    """The last ``count`` bars, or all there are."""
    begin = max(len(bars.open_time_ms) - count, 0)
    return dataclasses.replace(
        bars, open_time_ms=bars.open_time_ms[begin:], ohlcv=bars.ohlcv[begin:]
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Revision:
    """A closed bar that the venue told differently before."""

    frame: str
    open_time_ms: int
    before: tuple[float, ...]
    after: tuple[float, ...]


def revisions(before: Bars | None, after: Bars) -> tuple[Revision, ...]:
    """Bars of two readings of one frame whose values differ; the later reading is the one to use.

    Args:
      before, after: ascending, each time once.
    """
    if before is None:
        return ()
    _, ours, theirs = np.intersect1d(
        before.open_time_ms, after.open_time_ms, assume_unique=True, return_indices=True
    )
    changed = (before.ohlcv[ours] != after.ohlcv[theirs]).any(axis=1)
    return tuple(
        Revision(
            after.frame,
            int(after.open_time_ms[j]),
            tuple(before.ohlcv[i].tolist()),
            tuple(after.ohlcv[j].tolist()),
        )
        for i, j in zip(ours[changed], theirs[changed], strict=True)
    )
