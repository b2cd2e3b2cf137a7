"""What a policy was made of and with, in a form that can be compared, hashed and kept as JSON."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_PACKAGES = ("jaxtrade", "jax", "jaxlib", "numpy", "flax", "optax")


def hash_of(description: Mapping[str, Any]) -> str:
    """SHA-256 hex of a JSON-able description, independent of the order of its keys."""
    text = json.dumps(plain(description), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_features(spec: Any) -> dict[str, Any]:
    """The JSON form of a `MarketSpec`: what a policy sees, column by column."""
    return {
        "time_frames": [frame.name for frame in spec.time_frames],
        "window_sizes": list(spec.window_sizes),
        "execute_on": spec.execute_on.name,
        "feature_columns": [list(columns) for columns in spec.feature_columns],
        "feature_names": list(spec.feature_names),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages a policy was made with."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def plain(value: Any) -> Any:
    """JSON-able form: tuples become lists, NumPy numbers Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The first field in which two descriptions differ."""
    ours, theirs = plain(ours), plain(theirs)
    for name in ours:
        if ours[name] != theirs.get(name):
            return f"{name} was {ours[name]}, here it is {theirs.get(name)}"
    return "the recorded hash differs"
