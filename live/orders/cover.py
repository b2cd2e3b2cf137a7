"""What can be said about the stop of a position."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal


class Where(enum.StrEnum):
    """Where a stop lives."""

    VENUE = "venue"
    LOCAL = "local"


class Lack(enum.StrEnum):
    """What is wrong with the stop of a position."""

    NONE = "none"
    SHORT = "short"  # covers less than the position
    SIDE = "side"  # would add to the position
    FOREIGN = "foreign"  # somebody else's, who may take it away
    STALE = "stale"  # the local watcher has no fresh price


@dataclass(frozen=True, slots=True)
class LocalStop:
    """What the local watcher guards; prices quote units, quantity unsigned.

    Attributes:
      quote_age_ms: of the newest price it has seen.
    """

    stop_price: Decimal
    quantity: Decimal
    quote_age_ms: float


@dataclass(frozen=True, slots=True)
class Protected:
    """A live stop covers the whole position.

    Attributes:
      deviates: it is not where the bracket wants it; worth an amendment, no alarm.
    """

    stop_price: Decimal | None
    where: Where
    deviates: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """The position has no stop that counts."""

    lack: Lack
    detail: str


@dataclass(frozen=True, slots=True)
class Exiting:
    """The stop has triggered, or the mark has passed it: a moment later the position is gone."""

    detail: str


@dataclass(frozen=True, slots=True)
class Bare:
    """There is no position.

    Attributes:
      leftovers: client ids of protective orders that remain and are to be cancelled; "" for one
        that carries none.
    """

    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unclear:
    """Nothing certain was read."""

    reason: str


Protection = Protected | Missing | Exiting | Bare | Unclear
