"""How the writing of a journal goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Health:
    """How writing goes; times in milliseconds.

    Attributes:
      failure: why nothing reaches the disk any more, or None.
      commits, slow: so far. slow_in_a_row: those at the end that were slower than the limit.
      told: hears how long each took.
    """

    failure: str | None = None
    commits: int = 0
    slow: int = 0
    slow_in_a_row: int = 0
    last_ms: float = 0.0
    worst_ms: float = 0.0
    told: Callable[[float], None] | None = None

    def count(self, milliseconds: float, limit_ms: float) -> None:
        """Note a commit that succeeded."""
        self.commits += 1
        self.last_ms = milliseconds
        self.worst_ms = max(self.worst_ms, milliseconds)
        slow = not milliseconds <= limit_ms
        self.slow += slow
        if self.told is not None:
            self.told(milliseconds)
        self.slow_in_a_row = self.slow_in_a_row + 1 if slow else 0
