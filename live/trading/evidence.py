"""What a plan was made of, as plain values for the journal and back, exactly.

Bars are not among it: the observation, which the journal keeps beside, is what the policy saw.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from live.planner.decision import SymbolState
from live.types import Balance, Flat, Held, Instrument, Position, Quote, Snapshot, Unknown

_POSITIONS: Mapping[str, type[Position]] = {"flat": Flat, "held": Held, "unknown": Unknown}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What `live.planner.plan` was given, and what the policy was told beside its observation.

    Attributes:
      state: of the planner before. snapshot: without its bars and orders. missed_bars: before it.
    """

    state: SymbolState
    snapshot: Snapshot
    missed_bars: int

    def plain(self) -> dict[str, Any]:
        """As the journal keeps it."""
        snapshot = self.snapshot
        kind = next(k for k, v in _POSITIONS.items() if isinstance(snapshot.position, v))
        return {
            "state": _plain(self.state),
            "instrument": _plain(snapshot.instrument),
            "position": {"kind": kind, **_plain(snapshot.position)},
            "balance": _plain(snapshot.balance),
            "quote": _plain(snapshot.quote),
            "venue_time_ms": snapshot.venue_time_ms,
            "missed_bars": self.missed_bars,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any], bar_open_ms: int) -> Evidence:
        """What `plain` gave, of the bar that began then.

        Raises:
          ValueError: something is missing or of another kind.
        """
        try:
            position = dict(plain["position"])
            snapshot = Snapshot(
                bar_open_ms=bar_open_ms,
                venue_time_ms=int(plain["venue_time_ms"]),
                received_monotonic_ns=0,
                instrument=_made(Instrument, plain["instrument"]),
                position=_made(_POSITIONS[position.pop("kind")], position),
                balance=_made(Balance, plain["balance"]),
                quote=_made(Quote, plain["quote"]),
            )
            return cls(_made(SymbolState, plain["state"]), snapshot, int(plain["missed_bars"]))
        except (KeyError, TypeError, ArithmeticError) as error:
            raise ValueError(
                f"evidence: cannot be read ({type(error).__name__}: {error})"
            ) from None


def _plain(value: Any) -> Any:
    """A dataclass of numbers, words and dataclasses as JSON knows it; decimals as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    return value


def _made(kind: Any, value: Any) -> Any:
    """The value of a declared type from what `_plain` made of it."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        if value is None:
            return None
        (kind,) = (one for one in typing.get_args(kind) if one is not types.NoneType)
    if dataclasses.is_dataclass(kind):
        hints, make = typing.get_type_hints(kind), typing.cast("Callable[..., Any]", kind)
        return make(**{name: _made(hints[name], item) for name, item in value.items()})
    if isinstance(kind, type) and issubclass(kind, Decimal | enum.Enum):
        return kind(value)
    return value
