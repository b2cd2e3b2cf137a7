"""Times: whatever pandas reads as one, in whole nanoseconds since 1970-01-01 UTC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxtrade.timeframe import short_repr, warn_user

Integers = NDArray[np.int64]

NS_PER_SECOND = 1_000_000_000
NS_PER_MINUTE = 60 * NS_PER_SECOND

# Keeps midnight of the first day and the end of the longest bar inside int64.
_LARGEST_TIME = 9_200_000_000_000_000_000
# Integers below this, April 1970, are seconds or milliseconds of our time taken for nanoseconds.
_EARLIEST_PLAUSIBLE = 10_000_000_000_000_000


def nanoseconds(times: pd.Series) -> Integers:
    """[N] int64 ns since 1970-01-01 UTC of times of any resolution; integers are nanoseconds.

    Text must be ISO 8601: any other order of day and month would be a guess.

    Raises:
      ValueError: the first row that is not a time.
    """
    kind = times.dtype
    if pd.api.types.is_object_dtype(kind) and pd.api.types.infer_dtype(times) == "integer":
        times = times.astype("Int64")
    if pd.api.types.is_integer_dtype(times.dtype):
        bad = times.isna().to_numpy() | (times.abs() > _LARGEST_TIME).to_numpy(bool, na_value=True)
        _refuse_time(bad, times)
        values = times.to_numpy(np.int64)
        if values.size and 0 < values.max() < _EARLIEST_PLAUSIBLE:
            warn_user(
                f"timestamp: integers are nanoseconds, and the last of these is "
                f"{format_time(int(values.max()))}; multiply seconds by 1e9, milliseconds by 1e6."
            )
        return values
    if pd.api.types.is_object_dtype(kind) or pd.api.types.is_string_dtype(kind):
        parsed = _parse_text(times)
    elif pd.api.types.is_datetime64_any_dtype(kind):
        parsed = times
    else:
        _refuse_time(times.isna().to_numpy() if times.isna().any() else np.ones(len(times)), times)
    if parsed.dt.tz is not None:
        parsed = parsed.dt.tz_convert("UTC").dt.tz_localize(None)
    values = parsed.to_numpy()
    seconds = values.astype("datetime64[s]").astype(np.int64)
    _refuse_time(np.isnat(values) | (np.abs(seconds) > _LARGEST_TIME // NS_PER_SECOND), times)
    return values.astype("datetime64[ns]").astype(np.int64)


def instant(time: Any) -> int:
    """Nanoseconds since 1970-01-01 UTC of one time: an integer (ns) or what pandas can read.

    Raises:
      ValueError: it is not a time.
    """
    if isinstance(time, (int, np.integer)) and not isinstance(time, bool):
        return int(time)
    try:
        stamp = pd.Timestamp(time)
        if isinstance(time, bool) or stamp is pd.NaT:
            raise ValueError("not a time")
        stamp = stamp.tz_convert("UTC") if stamp.tzinfo is not None else stamp.tz_localize("UTC")
        return int(stamp.as_unit("ns").value)
    except Exception as error:  # pandas raises many kinds
        raise ValueError(
            f"time: expected a date or whole nanoseconds since 1970 UTC; got {short_repr(time)}."
        ) from error


def format_time(ns: int) -> str:
    """UTC text of a time in ns, such as ``2024-01-31 23:55:00``."""
    return str(pd.Timestamp(int(ns)))


def _parse_text(times: pd.Series) -> pd.Series:
    # pandas would read the words "now" and "today", and numbers mixed with text, as times.
    foreign = times.isin(["now", "today"])
    if pd.api.types.is_object_dtype(times.dtype):
        foreign |= times.map(lambda value: isinstance(value, (bool, int, float, complex)))
    return pd.to_datetime(times.mask(foreign), format="ISO8601", errors="coerce", utc=True)


def _refuse_time(bad: NDArray[Any], times: pd.Series) -> None:
    if bad.any():
        i = int(bad.argmax())
        value = short_repr(times.iloc[i])
        raise ValueError(f"timestamp: row {i} is not a time; got {value}.")
