"""Causal feature tables, one per time frame (docs/semantics.md, "Features").

A feature set is ``"default"``, ``"ohlcv"``, a function ``fn(bars) -> DataFrame`` or an object with
``fit(bars) -> fn``. Row i may depend on rows up to i only; what is fitted sees the training range
only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxtrade.market.bars import Bars
from jaxtrade.market.frame import Floats
from jaxtrade.market.times import NS_PER_MINUTE, format_time, nanoseconds
from jaxtrade.timeframe import short_repr

DEFAULT_COLUMNS = (
    "feature_log_return",
    "feature_open",
    "feature_high",
    "feature_low",
    "feature_log_volume_change",
)
OHLCV_COLUMNS = ("open", "high", "low", "close", "volume")

_PREFIXES = ("feature_", "features_")
# Rows before its own that a row of a named set depends on.
_LOOKBACKS = {"default": 1, "ohlcv": 0}


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of one time frame: ``values`` [R, F] float32 of the bars that ``rows`` selects."""

    values: NDArray[np.float32]
    columns: tuple[str, ...]
    rows: Any


def resolve(features: Any, frames: int) -> tuple[Any, ...]:
    """One feature set per time frame: ``"default"``, ``"ohlcv"``, a function or a fitted object.

    In a list, None stands for the default set.

    Raises:
      ValueError: neither a feature set nor one per time frame.
    """
    if isinstance(features, (list, tuple)):
        sets = tuple("default" if one is None else one for one in features)
        fits = len(sets) == frames
    else:
        sets, fits = (features,) * frames, True
    if not fits or not all(_is_feature_set(one) for one in sets):
        raise ValueError(
            "features: expected 'default', 'ohlcv', a function or one per time frame "
            f"({frames}); got {short_repr(features)}."
        )
    return sets


def name_of(features: Any) -> str:
    """``"default"``, ``"ohlcv"`` or ``"module:qualname"`` of the user's function or class."""
    if isinstance(features, str):
        return features
    named = features if hasattr(features, "__qualname__") else type(features)
    return f"{named.__module__}:{named.__qualname__}"


def declared_lookback(sets: Sequence[Any]) -> int | None:
    """Rows before a window that its features depend on, the most of any frame.

    A function says so by an attribute ``feature_lookback``. None where none does, or not every one.

    Raises:
      ValueError: what one declares is no whole number >= 0.
    """
    functions = [one for one in sets if not isinstance(one, str)]
    declared = [getattr(one, "feature_lookback", None) for one in functions]
    for one, rows in zip(functions, declared, strict=True):
        whole = isinstance(rows, Integral) and not isinstance(rows, bool)
        if rows is not None and not (whole and rows >= 0):
            raise ValueError(
                f"features: {name_of(one)}: feature_lookback must be a whole number >= 0; "
                f"got {rows!r}."
            )
    known = [int(rows) for rows in declared if rows is not None]
    if not known or len(known) < len(declared):
        return None
    return max([*known, *(_LOOKBACKS[one] for one in sets if isinstance(one, str))])


def needs_fit(features: Any) -> bool:
    """True for an object with ``fit(bars) -> fn``."""
    return hasattr(features, "fit")


def default(columns: dict[str, Floats]) -> NDArray[np.float32]:
    """[R, 5] float32 scale-free features of bars, ``DEFAULT_COLUMNS`` in order.

    Log return of the close, open, high and low relative to the close, and the log change of volume
    where both volumes are positive; the first row has no predecessor and no change.
    """
    close, volume = columns["close"], columns["volume"]
    values = np.zeros((len(close), len(DEFAULT_COLUMNS)), np.float32)
    values[1:, 0] = np.log(close[1:] / close[:-1])
    for i, name in enumerate(("open", "high", "low"), start=1):
        values[:, i] = columns[name] / close - 1.0
    traded = volume > 0
    both = traded[1:] & traded[:-1]
    before = np.where(both, volume[:-1], 1.0)
    values[1:, 4] = np.log(np.where(both, volume[1:], 1.0) / before)
    return values


def ohlcv(columns: dict[str, Floats]) -> NDArray[np.float32]:
    """[R, 5] float32: the raw open, high, low, close and volume."""
    return np.stack([columns[name].astype(np.float32) for name in OHLCV_COLUMNS], axis=1)


def compute(
    features: Any,
    bars: Bars,
    auxiliary: Callable[[], dict[Any, Floats]],
    fit_until: int | None,
) -> FeatureTable:
    """The feature table of one time frame.

    Args:
      features: one resolved feature set.
      bars: bars of the frame as in "Which bars exist".
      auxiliary: gives the auxiliary columns of these bars; called for user functions only.
      fit_until: ns since 1970-01-01 UTC; a fitted set sees bars with END up to here.

    Raises:
      ValueError: what the function returned cannot serve, or a fit has nothing to learn from.
    """
    name = bars.frame.name
    columns: tuple[str, ...]
    if isinstance(features, str):
        if features == "default":
            values, columns = default(bars.columns), DEFAULT_COLUMNS
        else:
            values, columns = ohlcv(bars.columns), OHLCV_COLUMNS
        _check_finite(values, columns, bars, name)
        return FeatureTable(values, columns, slice(None))
    frame = _user_frame(bars, auxiliary())
    if needs_fit(features):
        features = features.fit(_training_rows(frame, bars, fit_until))
    returned = features(frame)
    if not isinstance(returned, pd.DataFrame):
        raise ValueError(
            f"features: {name}: the function must return a DataFrame; "
            f"got {type(returned).__name__}."
        )
    places = [i for i, column in enumerate(returned.columns) if _is_feature_column(column)]
    if not places:
        raise ValueError(
            f"features: {name}: no column starts with 'feature_' or 'features_'; "
            f"got {short_repr(list(returned.columns), 400)}."
        )
    columns = tuple(str(returned.columns[i]) for i in places)
    order, rows = _match_rows(returned, bars, name)
    values = np.stack([_column(returned.iloc[:, i], name) for i in places], axis=1)[order]
    _check_finite(values, columns, bars.take(rows), name)
    return FeatureTable(values, columns, rows)


def _is_feature_set(one: Any) -> bool:
    if isinstance(one, str):
        return one in ("default", "ohlcv")
    return needs_fit(one) or callable(one)


def _is_feature_column(column: Any) -> bool:
    return isinstance(column, str) and column.startswith(_PREFIXES)


def _user_frame(bars: Bars, auxiliary: dict[Any, Floats]) -> pd.DataFrame:
    index = pd.DatetimeIndex(bars.start_ns.astype("datetime64[ns]"), name="timestamp")
    # Copied: a user function may write into its argument.
    return pd.DataFrame({**bars.columns, **auxiliary}, index=index, copy=True)


def _training_rows(frame: pd.DataFrame, bars: Bars, fit_until: int | None) -> pd.DataFrame:
    name = bars.frame.name
    if fit_until is None:
        raise ValueError(
            f"features: {name}: fitted features need fit_until=..., the end of the training range."
        )
    ends = bars.start_ns + bars.frame.minutes * NS_PER_MINUTE
    count = int(np.searchsorted(ends, fit_until, side="right"))
    if count == 0:
        raise ValueError(
            f"features: {name}: no bar ends by fit_until ({format_time(fit_until)}); "
            "there is nothing to fit on."
        )
    return frame.iloc[:count].copy()


def _match_rows(
    returned: pd.DataFrame, bars: Bars, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order that sorts the returned rows by time, and the bars they belong to."""
    column = "timestamp" in returned.columns
    given = returned["timestamp"] if column else pd.Series(returned.index)
    foreign = ValueError(f"features: {name}: returned times that are not among the bars given.")
    try:
        times = nanoseconds(given)
    except ValueError:
        raise foreign from None
    order = np.argsort(times, kind="stable")
    times = times[order]
    rows = np.searchsorted(bars.start_ns, times)
    known = np.isin(times, bars.start_ns, assume_unique=False)
    if not known.all() or (np.diff(times) == 0).any():
        raise foreign
    return order, rows


def _column(values: pd.Series, name: str) -> NDArray[np.float32]:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        raise ValueError(
            f"features: {name}: {short_repr(values.name)} must be numeric; got {values.dtype}."
        )
    with np.errstate(over="ignore"):  # too large for float32 is reported as not finite
        return values.to_numpy(np.float64, na_value=np.nan).astype(np.float32)


def _check_finite(
    values: NDArray[np.float32], columns: tuple[str, ...], bars: Bars, name: str
) -> None:
    finite = np.isfinite(values)
    if finite.all():
        return
    column = int((~finite).any(axis=0).argmax())
    bad = ~finite[:, column]
    raise ValueError(
        f"features: {name}: {columns[column][:100]} is not finite in {bad.sum()} of {len(bad)} "
        f"rows, first at {format_time(bars.start_ns[bad.argmax()])}; "
        "drop warm-up rows or fill them."
    )
