"""The JSON form of a configuration's fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxtrade.hints import did_you_mean
from jaxtrade.market.features import name_of
from jaxtrade.timeframe import TimeFrame


def refuse_unknown(owner: str, given: Any, known: Sequence[str]) -> None:
    """Raise a `ValueError` for the first name that is not known, with the nearest one."""
    for name in given:
        if name not in known:
            hint = f" {did_you_mean(name, known)}".rstrip()
            raise ValueError(f"{owner}: unknown field {name!r};{hint} Known: {', '.join(known)}.")


def to_json(value: Any) -> Any:
    """A value of a field in JSON form; a function by its name."""
    if isinstance(value, TimeFrame):
        return value.name
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if callable(value) or hasattr(value, "fit"):
        return {"function": name_of(value)}
    return value


def from_json(value: Any) -> Any:
    """The value of a field from its JSON form: lists are tuples."""
    return tuple(from_json(item) for item in value) if isinstance(value, list) else value


def names_function(value: Any) -> bool:
    """Whether a value in JSON form stands for a Python function."""
    if isinstance(value, Mapping):
        return "function" in value
    return isinstance(value, tuple) and any(names_function(item) for item in value)
