"""What people are told: the kinds of messages, and one message."""

from __future__ import annotations

import dataclasses
import enum


class Kind(enum.StrEnum):
    """What is told."""

    START = "start"
    STOP = "stop"
    FILLED = "filled"
    PROTECTIVE_EXIT = "protective_exit"
    REFUSED = "refused"
    DEGRADED = "degraded"
    REDUCING = "reducing"
    HALTED = "halted"
    UNKNOWN_ORDER = "unknown_order"
    MISMATCH = "mismatch"
    LIQUIDATION = "liquidation"
    DAILY = "daily"
    WARNING = "warning"

    @property
    def urgent(self) -> bool:
        """Whether somebody should look now."""
        return self in _URGENT


_URGENT = (
    Kind.HALTED,
    Kind.REDUCING,
    Kind.LIQUIDATION,
    Kind.MISMATCH,
    Kind.UNKNOWN_ORDER,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One notification; ``text`` holds no secrets.

    Attributes:
      repeated: how many of the same kind and symbol were left out before this one.
    """

    kind: Kind
    text: str
    symbol: str | None = None
    repeated: int = 0

    @property
    def line(self) -> str:
        """For people."""
        about = f" {self.symbol}" if self.symbol else ""
        more = f" ({self.repeated} more like it)" if self.repeated else ""
        return f"[{self.kind.value}]{about} {self.text}{more}"
