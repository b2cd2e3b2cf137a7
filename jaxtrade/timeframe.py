"""Bar lengths: every accepted spelling, one canonical form (docs/semantics.md, "Time frames")."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

MINUTES_PER_YEAR = 525_600

TimeFrameLike: TypeAlias = "str | tuple[int, str] | TimeFrame"

_MINUTES = {"Minute": 1, "Hour": 60, "Day": 1440}
_UNITS = {
    **dict.fromkeys(("m", "min", "minute", "minutes"), "Minute"),
    **dict.fromkeys(("h", "hr", "hour", "hours"), "Hour"),
    **dict.fromkeys(("d", "day", "days"), "Day"),
}
# Fits every date a nanosecond timestamp can hold; longer lengths could only overflow.
_LONGEST_MINUTES = 100 * MINUTES_PER_YEAR
_SPELLING = re.compile(r"\s*([0-9]{1,12})\s*([A-Za-z]+)\s*")
_OURS = ("jaxtrade.", "agents.", "live.")  # a warning is about the caller of any of them


@functools.total_ordering
@dataclasses.dataclass(frozen=True, eq=False)
class TimeFrame:
    """Length of a bar in whole minutes, hours or days.

    Any spelling is normalised: days when the minutes divide by 1440, else hours when they divide by
    60, else minutes. A spelling whose value or unit changes that way warns once, because the
    observation key is made of the canonical name. Equality, order and hash use the duration.

    Example:
      >>> TimeFrame.parse("5 min").name
      '5Minute'
      >>> TimeFrame(1, "Day") == TimeFrame.parse((1, "day"))
      True

    Raises:
      ValueError: the spelling is not a whole number >= 1 with a unit of minutes, hours or days.
    """

    value: int
    unit: str

    def __post_init__(self) -> None:
        self._normalise(self.value, self.unit, (self.value, self.unit))

    @classmethod
    def parse(cls, spec: Any) -> TimeFrame:
        """The time frame of a string ``"5min"``, a pair ``(5, "Minute")`` or a TimeFrame."""
        if isinstance(spec, TimeFrame):
            return spec
        frame = object.__new__(cls)
        frame._normalise(*_split(spec), spec)
        return frame

    def _normalise(self, value: Any, unit: Any, given: Any) -> None:
        value, unit = _checked(value, unit, given)
        minutes = value * _MINUTES[unit]
        canonical = next(u for u in ("Day", "Hour", "Minute") if minutes % _MINUTES[u] == 0)
        object.__setattr__(self, "value", minutes // _MINUTES[canonical])
        object.__setattr__(self, "unit", canonical)
        if (self.value, self.unit) != (value, unit):
            warn_user(
                f"time frame {short_repr(given)} is written {self.name!r}; "
                f"its observation key is 'market_data_{self.name}'."
            )

    @property
    def minutes(self) -> int:
        """Duration in minutes."""
        return self.value * _MINUTES[self.unit]

    @property
    def seconds(self) -> int:
        """Duration in seconds."""
        return self.minutes * 60

    @property
    def name(self) -> str:
        """Canonical name, such as ``"15Minute"``."""
        return f"{self.value}{self.unit}"

    @property
    def periods_per_year(self) -> float:
        """Bars in a year of 365 days of 24 hours."""
        return MINUTES_PER_YEAR / self.minutes

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return self.minutes == other.minutes if isinstance(other, TimeFrame) else NotImplemented

    def __lt__(self, other: TimeFrame) -> bool:
        return self.minutes < other.minutes if isinstance(other, TimeFrame) else NotImplemented

    def __hash__(self) -> int:
        return hash(("TimeFrame", self.minutes))


def parse_time_frames(specs: Any) -> tuple[TimeFrame, ...]:
    """Time frames of one spelling or a sequence of them, in the order given.

    Raises:
      ValueError: a spelling is wrong, none is given, or two are equal in duration.
    """
    single = isinstance(specs, (str, TimeFrame)) or _is_pair(specs)
    if not single and not isinstance(specs, Sequence):
        raise _spelling_error(specs)
    given = (specs,) if single else tuple(specs)
    if not given:
        raise ValueError("time_frames: needs at least one time frame.")
    frames = tuple(TimeFrame.parse(spec) for spec in given)
    for i, frame in enumerate(frames):
        j = frames.index(frame)
        if j < i:
            raise ValueError(
                f"time_frames: {frame.name} is given twice "
                f"(as {_spelling(given[j])} and {_spelling(given[i])})."
            )
    return frames


def warn_user(message: str) -> None:
    """A ``UserWarning`` that points at the line outside this project's packages that led to it."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        frame = frame.f_back
        level += 1
    warnings.warn(message, UserWarning, stacklevel=level)


def _is_pair(spec: Any) -> bool:
    return (
        isinstance(spec, (tuple, list))
        and len(spec) == 2
        and not isinstance(spec[0], (str, TimeFrame, tuple, list))
        and isinstance(spec[1], str)
    )


def _split(spec: Any) -> tuple[Any, Any]:
    if isinstance(spec, str):
        match = _SPELLING.fullmatch(spec)
        if match is None:
            raise _spelling_error(spec)
        return int(match[1]), match[2]
    if _is_pair(spec):
        return spec[0], spec[1]
    raise _spelling_error(spec)


def _checked(value: Any, unit: Any, given: Any) -> tuple[int, str]:
    """The value and the singular unit, before normalisation."""
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or not isinstance(unit, str) or int(value) < 1:
        raise _spelling_error(given)
    unit = unit.strip()
    if unit == "M":
        raise ValueError(
            f"time frame {short_repr(given)}: ambiguous (month is not supported); "
            f"write '{int(value)}min'."
        )
    known = _UNITS.get(unit.lower())
    if known is None:
        raise ValueError(
            f"time frame {short_repr(given)}: unknown unit {short_repr(unit)}; "
            "use minute, hour or day."
        )
    if int(value) * _MINUTES[known] > _LONGEST_MINUTES:
        raise _spelling_error(given)
    return int(value), known


def _spelling_error(given: Any) -> ValueError:
    return ValueError(
        f"time frame {short_repr(given)}: expected a number and a unit such as "
        "'5min', '1hour' or (5, \"Minute\")."
    )


def _spelling(given: Any) -> str:
    return short_repr(given.name if isinstance(given, TimeFrame) else given)


def short_repr(value: Any, limit: int = 80) -> str:
    """``repr`` cut to ``limit`` characters, so that no message grows with the input."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
