"""The timer of the account: orders of a client that has fallen silent do not rest for ever."""

from __future__ import annotations

from dataclasses import dataclass, field

from live.exchange.prices import NEVER_MS


@dataclass(slots=True)
class DeadMan:
    """Runs from when the last client that it watches is gone; whoever comes back stops it.

    Attributes:
      seconds: it runs for, None = it was never set. due_ms: when it has run out, milliseconds UTC.
    """

    seconds: int | None = None
    due_ms: int = NEVER_MS
    _present: set[str] = field(default_factory=set)

    def watch(self, who: str, present: bool, now_ms: int) -> None:
        """A client is there and wants to be watched, or it is not there any more."""
        if present:
            self._present.add(who)
            self.due_ms = NEVER_MS
        elif who in self._present:
            self._present.remove(who)
            if not self._present and self.seconds is not None:
                self.due_ms = now_ms + 1000 * self.seconds
