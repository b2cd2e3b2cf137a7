"""Rows in: read a frame or a file and check it completely.

See docs/semantics.md, "Data and validation". Nothing is sorted, merged, dropped or renamed on the
way: a frame is either right or refused.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxtrade.market.times import (
    NS_PER_MINUTE,
    NS_PER_SECOND,
    Integers,
    format_time,
    nanoseconds,
)
from jaxtrade.timeframe import TimeFrame, short_repr

Floats = NDArray[np.float64]

PRICES = ("open", "high", "low", "close")
COLUMNS = ("timestamp", *PRICES, "volume")
# The default reader of older versions is off by an ulp; newer ones are exact and warn about it.
_PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
_EXACT_FLOATS: dict[str, Any] = {} if _PANDAS >= (3, 1) else {"float_precision": "round_trip"}
_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".npz")


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Checked rows of a frame.

    Attributes:
      time: [N] int64, START of each row, ns since 1970-01-01 UTC, strictly increasing.
      columns: open, high, low, close, volume, each [N] float64; NaN only where it may be repaired.
      funding: [N] float64 rate per row, or None.
      auxiliary: other numeric columns by label, each [N] float64 as given.
    """

    time: Integers
    columns: dict[str, Floats]
    funding: Floats | None
    auxiliary: dict[Any, Floats]

    @functools.cached_property
    def spacing(self) -> int | None:
        """Most frequent step between times in ns, the smallest on ties; None for one row."""
        if len(self.time) < 2:
            return None
        steps = np.diff(self.time)
        if (steps == steps[0]).all():
            return int(steps[0])
        values, counts = np.unique(steps, return_counts=True)
        return int(values[counts.argmax()])


def load(source: Any) -> pd.DataFrame:
    """The frame itself, or the DataFrame in a .csv, .csv.gz, .parquet or .npz file.

    Raises:
      ValueError: not a frame, an unreadable file, or a file type that is not known.
    """
    if isinstance(source, pd.DataFrame):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"frame: expected a DataFrame with columns {', '.join(COLUMNS)}; "
            f"got {type(source).__name__}."
        )
    path = Path(source)
    name = _bounded(os.fspath(path))
    suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise ValueError(f"{name}: unknown file type; expected .csv, .csv.gz, .parquet or .npz.")
    try:
        if suffix == ".npz":
            return _read_npz(path)
        if suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, low_memory=False, **_EXACT_FLOATS)
    except Exception as error:  # every reader has its own family of errors
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = _bounded(" ".join(reason.split()).rstrip("."))
        raise ValueError(f"{name}: cannot be read: {reason}.") from error


def read(source: Any, nan_prices: str = "error") -> Rows:
    """Read and check a frame or file; ``nan_prices="repair"`` lets NaN price fields through.

    Raises:
      ValueError: the first problem found, with the column, the count and the first row.
    """
    frame = load(source)
    if len(frame) == 0:
        raise ValueError("frame: has no rows.")
    _check_columns(frame)
    columns = {name: _floats(frame[name]) for name in (*PRICES, "volume")}
    funding = _floats(frame["funding"]) if "funding" in frame.columns else None
    if "timestamp" in frame.columns:
        time = nanoseconds(frame["timestamp"])
    else:
        time = nanoseconds(pd.Series(frame.index))
    _check_order(time)
    _check_prices(time, columns, nan_prices)
    columns["volume"] = _checked_volume(time, columns["volume"], nan_prices)
    if funding is not None:
        _refuse(~np.isfinite(funding), time, "funding", "values are not finite")
    auxiliary = {
        label: _floats(frame[label])
        for label in frame.columns
        if label not in (*COLUMNS, "funding") and frame[label].dtype.kind in "iufb"
    }
    return Rows(time, columns, funding, auxiliary)


def check_spacing(rows: Rows, named: list[tuple[str, TimeFrame]]) -> None:
    """Refuse a time frame shorter than the row spacing; ``named`` holds (field name, frame)."""
    spacing = rows.spacing
    for field, frame in named:
        if spacing is not None and frame.minutes * NS_PER_MINUTE < spacing:
            raise ValueError(
                f"{field}: {frame.name} is finer than the data (rows every {_duration(spacing)})."
            )


def _read_npz(path: Path) -> pd.DataFrame:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("not an archive of named arrays")
    with archive:
        return pd.DataFrame({name: archive[name] for name in archive.files})


def _check_columns(frame: pd.DataFrame) -> None:
    present = list(frame.columns)
    # Not "in frame.columns": a MultiIndex would find the name on its first level.
    missing = {name for name in COLUMNS if name not in present}
    if isinstance(frame.index, pd.DatetimeIndex):
        missing.discard("timestamp")
    if missing:
        shown = short_repr(present, 400)
        raise ValueError(f"frame: missing column(s) {sorted(missing)}; present: {shown}.")
    twice = [label for label, count in Counter(present).items() if count > 1]
    if twice:
        raise ValueError(f"frame: column(s) {short_repr(twice, 400)} given more than once.")
    for name in (*PRICES, "volume", "funding"):
        if name not in frame.columns:
            continue
        kind = frame[name].dtype
        numeric = pd.api.types.is_numeric_dtype(kind)
        if not numeric or kind.kind in "bc":
            raise ValueError(f"{name}: must be numeric; got {_bounded(str(kind))}.")


def _floats(column: pd.Series) -> Floats:
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _check_order(time: Integers) -> None:
    steps = np.diff(time)
    back = np.flatnonzero(steps < 0)
    if back.size:
        i = int(back[0]) + 1
        raise ValueError(
            f"timestamp: row {i} ({format_time(time[i])}) comes before row {i - 1} "
            f"({format_time(time[i - 1])}); sort the frame."
        )
    same = np.flatnonzero(steps == 0)
    if same.size:
        i = int(same[0]) + 1
        raise ValueError(
            f"timestamp: {same.size} duplicate(s), first {format_time(time[i])} at row {i}; "
            "aggregate or drop them."
        )


def _check_prices(time: Integers, columns: dict[str, Floats], nan_prices: str) -> None:
    if nan_prices != "repair":
        for name in PRICES:
            remedy = '; drop these rows or use Rules(nan_prices="repair")'
            _refuse(np.isnan(columns[name]), time, name, "values are NaN", remedy)
    for name in PRICES:
        _refuse(np.isinf(columns[name]), time, name, "values are infinite")
    for name in PRICES:
        bad = columns[name] <= 0
        if bad.any():
            value = f": {columns[name][bad.argmax()]:g}"
            _refuse(bad, time, name, "prices are not positive", value)
    o, h, l, c = (columns[name] for name in PRICES)  # noqa: E741
    bad = (h < o) | (h < c) | (l > o) | (l > c)
    if bad.any():
        i = bad.argmax()
        values = f": open {o[i]:g}, high {h[i]:g}, low {l[i]:g}, close {c[i]:g}"
        _refuse(bad, time, "high/low", "rows do not cover open and close", values)


def _checked_volume(time: Integers, volume: Floats, nan_prices: str) -> Floats:
    if nan_prices == "repair":
        volume = np.nan_to_num(volume, nan=0.0, posinf=np.inf, neginf=-np.inf)
    usable = (volume >= 0) & (volume < np.inf)
    _refuse(~usable, time, "volume", "values are negative or not finite")
    return volume


def _refuse(bad: NDArray[np.bool_], time: Integers, name: str, what: str, tail: str = "") -> None:
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(
            f"{name}: {bad.sum()} of {len(bad)} {what}, "
            f"first at row {i} ({format_time(time[i])}){tail}."
        )


def _duration(spacing: int) -> str:
    minutes, rest = divmod(spacing, NS_PER_MINUTE)
    for unit, length in (("Day", 1440), ("Hour", 60), ("Minute", 1)):
        if rest == 0 and minutes % length == 0:
            return f"{minutes // length}{unit}"
    return f"{spacing / NS_PER_SECOND:g} seconds"


def _bounded(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
