"""Rows to bars: grid, aggregation, repair, visibility.

See docs/semantics.md, "Bars and visibility".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxtrade.market.frame import PRICES, Floats, Rows
from jaxtrade.market.times import NS_PER_MINUTE, Integers, format_time
from jaxtrade.timeframe import TimeFrame, warn_user

_MINUTES_PER_DAY = 1440

# Values and the first position of every run in; one value per run out.
Pick = Callable[[Floats, Integers], Floats]


@dataclasses.dataclass(frozen=True, eq=False)
class Bars:
    """Bars of one time frame, in time order.

    Attributes:
      frame: their length.
      origin_minute: midnight UTC of the day of the first row, minutes since 1970-01-01.
      bins: [R] int64, number of each bar on the grid: START = origin + bin * length.
      columns: open, high, low, close, volume, each [R] float64.
      funding: [R] float64, sum of the rates, or None.
      last_row: [R] int64, number of the newest row of each bar (for auxiliary columns).
    """

    frame: TimeFrame
    origin_minute: int
    bins: Integers
    columns: dict[str, Floats]
    funding: Floats | None
    last_row: Integers

    def __len__(self) -> int:
        return len(self.bins)

    @property
    def start_minute(self) -> Integers:
        """[R] int64, START of each bar in minutes since 1970-01-01 UTC."""
        return self.origin_minute + self.bins * self.frame.minutes

    @property
    def start_ns(self) -> Integers:
        """[R] int64, START of each bar in ns since 1970-01-01 UTC."""
        return self.start_minute * NS_PER_MINUTE

    def take(self, keep: Any) -> Bars:
        """The bars selected by a mask, index array or slice."""
        return dataclasses.replace(
            self,
            bins=self.bins[keep],
            columns={name: values[keep] for name, values in self.columns.items()},
            funding=None if self.funding is None else self.funding[keep],
            last_row=self.last_row[keep],
        )


@dataclasses.dataclass(frozen=True)
class Gaps:
    """What repair had to invent: ``bars`` repaired in ``regions`` runs, the longest from a time."""

    bars: int
    total: int
    regions: int
    longest: int
    longest_start_ns: int

    def warn(self) -> None:
        """Say it once per market; silent when nothing was repaired."""
        if self.bars:
            share = 100 * self.bars / self.total
            warn_user(
                f"data gaps: {self.bars} of {self.total} execution bars ({share:.2f} %) had no or "
                f"incomplete data and were repaired: {self.regions} region(s), longest "
                f"{self.longest} bars from {format_time(self.longest_start_ns)}."
            )


def aggregate(rows: Rows, frame: TimeFrame, partial_bars: str) -> Bars:
    """Bars of every bin that holds rows; NaN fields are skipped, NaN where a bin has none.

    The grid counts from midnight UTC of the day of the first row, also for lengths that do not
    divide a day. ``partial_bars="drop"`` leaves out a bin at either end that rows do not cover.
    """
    origin = int(rows.time[0] // (_MINUTES_PER_DAY * NS_PER_MINUTE)) * _MINUTES_PER_DAY
    length = frame.minutes * NS_PER_MINUTE
    offsets = rows.time - origin * NS_PER_MINUTE
    bins = offsets // length
    low, high = 0, len(bins)
    if partial_bars == "drop":
        spacing = rows.spacing or length
        if offsets[0] - bins[0] * length >= spacing:
            low = int(np.searchsorted(bins, bins[0], side="right"))
        if (bins[-1] + 1) * length > offsets[-1] + spacing:
            high = int(np.searchsorted(bins, bins[-1], side="left"))
    part = slice(low, max(low, high))
    bins = bins[part]
    begins = _begins(bins)
    columns = {
        name: _reduce(pick, rows.columns[name][part], bins, begins) for name, pick in _PICK.items()
    }
    funding = None if rows.funding is None else _PICK["volume"](rows.funding[part], begins)
    last_row = low + np.append(begins[1:], len(bins))[: len(begins)] - 1
    return Bars(frame, origin, bins[begins], columns, funding, last_row)


def observed(bars: Bars) -> Bars:
    """Bars of an observation frame: those with all four prices; nothing is filled in."""
    incomplete = _incomplete(bars.columns)
    return bars.take(~incomplete) if incomplete.any() else bars


def execution(bars: Bars) -> tuple[Bars, Gaps]:
    """Every bin from the first known close to the last bar, repaired; and what was repaired.

    An empty bin becomes a flat bar at the last close with volume 0; the fields of an incomplete bar
    are filled in the order that docs/semantics.md, "Bars and visibility", gives. Complete bars are
    unchanged.
    """
    if len(bars) == 0:
        return bars, Gaps(0, 0, 0, 0, 0)
    first, last = int(bars.bins[0]), int(bars.bins[-1])
    dense = _dense(bars, np.arange(first, last + 1))
    known = ~np.isnan(dense.columns["close"])
    if not known.all():
        dense = dense.take(slice(int(known.argmax()) if known.any() else len(known), None))
    raw_open, raw_high, raw_low, raw_close = (dense.columns[name] for name in PRICES)
    stale = _forward_fill(raw_close)
    open_ = np.where(np.isnan(raw_open), stale, raw_open)
    # Also for bars with all four prices: a row without a high or low may have held the extreme.
    high = np.maximum(np.where(np.isnan(raw_high), stale, raw_high), open_)
    low = np.minimum(np.where(np.isnan(raw_low), stale, raw_low), open_)
    close = np.minimum(np.maximum(stale, low), high)
    columns = {"open": open_, "high": high, "low": low, "close": close}
    # NaN differs from everything, so a field that was missing counts as changed.
    changed = np.any([columns[name] != dense.columns[name] for name in PRICES], axis=0)
    columns["volume"] = dense.columns["volume"]
    return dataclasses.replace(dense, columns=columns), _gaps(dense, changed)


def visible(bars: Bars, decisions: Bars) -> NDArray[np.int32]:
    """[T] newest row of ``bars`` whose END is not after the END of each bar of ``decisions``.

    -1 where no bar has ended yet. This is the one visibility rule; nothing else looks bars up.
    """
    ended = (decisions.bins + 1) * decisions.frame.minutes // bars.frame.minutes - 1
    if len(bars) and bars.bins[-1] - bars.bins[0] == len(bars) - 1:
        newest = np.clip(ended - bars.bins[0], -1, len(bars) - 1)
    else:
        newest = np.searchsorted(bars.bins, ended, side="right") - 1
    return newest.astype(np.int32)


def _dense(bars: Bars, bins: Integers) -> Bars:
    if len(bins) == len(bars):
        return bars
    at = bars.bins - bins[0]

    def spread(values: Any, fill: float) -> Any:
        full = np.full(len(bins), fill, values.dtype)
        full[at] = values
        return full

    columns = {name: spread(bars.columns[name], np.nan) for name in PRICES}
    columns["volume"] = spread(bars.columns["volume"], 0.0)
    funding = None if bars.funding is None else spread(bars.funding, 0.0)
    return dataclasses.replace(
        bars, bins=bins, columns=columns, funding=funding, last_row=spread(bars.last_row, -1)
    )


def _gaps(dense: Bars, repaired: NDArray[np.bool_]) -> Gaps:
    if not repaired.any():
        return Gaps(0, len(dense), 0, 0, 0)
    edges = np.diff(repaired.astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = ends - begins
    longest = int(lengths.argmax())
    return Gaps(
        bars=int(repaired.sum()),
        total=len(dense),
        regions=len(begins),
        longest=int(lengths[longest]),
        longest_start_ns=int(dense.start_ns[begins[longest]]),
    )


def _forward_fill(values: Floats) -> Floats:
    """The last known value at every position; the first value must be known."""
    index = np.where(np.isnan(values), 0, np.arange(len(values)))
    return values[np.maximum.accumulate(index)]


def auxiliary_column(rows: Rows, label: Any, bars: Bars) -> Floats:
    """[R] last value of an auxiliary column at the end of each bar; 0 before the first value."""
    values = rows.auxiliary[label]
    known = ~np.isnan(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))[bars.last_row]
    return np.where(newest < 0, 0.0, values[np.maximum(newest, 0)])


def _incomplete(columns: dict[str, Floats]) -> NDArray[np.bool_]:
    missing = [np.isnan(columns[name]) for name in PRICES]
    return missing[0] | missing[1] | missing[2] | missing[3]


def _begins(bins: Integers) -> Integers:
    """Position of the first row of every run of equal bins."""
    if len(bins) == 0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], bins[1:] != bins[:-1]]))


def _reduce(pick: Pick, values: Floats, bins: Integers, begins: Integers) -> Floats:
    """``pick`` over the known values of every run; NaN where a run has none."""
    known = ~np.isnan(values)
    if known.all():
        return pick(values, begins)
    kept = bins[known]
    kept_begins = _begins(kept)
    reduced = np.full(len(begins), np.nan)
    reduced[np.searchsorted(bins[begins], kept[kept_begins])] = pick(values[known], kept_begins)
    return reduced


def _first(values: Floats, begins: Integers) -> Floats:
    return values[begins]


def _last(values: Floats, begins: Integers) -> Floats:
    return values[np.append(begins[1:], len(values))[: len(begins)] - 1]


def _by(function: np.ufunc) -> Pick:
    def pick(values: Floats, begins: Integers) -> Floats:
        if len(begins) == len(values):
            return values.copy()
        return function.reduceat(values, begins)

    return pick


_PICK: dict[str, Pick] = {
    "open": _first,
    "high": _by(np.maximum),
    "low": _by(np.minimum),
    "close": _last,
    "volume": _by(np.add),
}
