"""What a setting may be: the plain questions that every layer asks of a value."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite real number (bool is not one)."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """Whether ``value`` is a whole number >= 1 (bool is not one)."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
