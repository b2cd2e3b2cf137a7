"""What the risk gate was told of an intent that it denied, as plain values and back, exactly.

Instrument, position and quote are those of the decision, which the journal keeps with it.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from live.risk import TradingState
from live.risk.context import RiskContext
from live.types import Snapshot

_OF_THE_DECISION = ("instrument", "position", "quote")
_FIELDS = {field.name: str(field.type) for field in dataclasses.fields(RiskContext)}


def readings_of(context: RiskContext) -> dict[str, Any]:
    """As the journal keeps it; a number that is none is as good as not known."""
    names = (name for name in _FIELDS if name not in _OF_THE_DECISION)
    return {name: _plain(getattr(context, name)) for name in names}


def context_of(readings: Mapping[str, Any], snapshot: Snapshot) -> RiskContext:
    """What `readings_of` gave, of an intent that was decided on this snapshot.

    Raises:
      ValueError: something is missing, unknown or of another kind.
    """
    names = {name for name in _FIELDS if name not in _OF_THE_DECISION}
    if set(readings) != names:
        raise ValueError(f"readings: expected {sorted(names)}; got {sorted(readings)}.")
    try:
        given = {name: _made(_FIELDS[name], value) for name, value in readings.items()}
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"readings: cannot be read ({type(error).__name__}: {error})") from None
    of_the_decision: dict[str, Any] = {name: getattr(snapshot, name) for name in _OF_THE_DECISION}
    return RiskContext(**given, **of_the_decision)


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return str(value)
        case enum.Enum():
            return value.value
        case frozenset():
            return sorted(value)
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _made(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind.startswith("Decimal"):
        return Decimal(value)
    if kind.startswith("TradingState"):
        return TradingState(value)
    return frozenset(value) if kind.startswith("frozenset") else value
