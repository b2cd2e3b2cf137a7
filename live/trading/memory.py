"""What is remembered of a symbol from one bar to the next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from live.planner.decision import SymbolState
from live.trading.acts import View


@dataclass(slots=True)
class Memory:
    """The one reference to the planner's memory and to what was seen last.

    Attributes:
      state: of the planner. view: newest one that could be read.
      restored_ms: START of the newest bar that a restored holding time has counted.
    """

    state: SymbolState = field(default_factory=SymbolState.start)
    view: View | None = None
    restored_ms: int | None = None

    def passed(self, bar_open_ms: int, bar_ms: int) -> int:
        """How many bars have closed since the view before, the one of ``bar_open_ms`` included.

        Args:
          bar_ms: length of a bar.
        """
        # After a restart the bars are counted from the one that was restored.
        last = self.restored_ms if self.view is None else self.view.snapshot.bar_open_ms
        return 1 if last is None else (bar_open_ms - last) // bar_ms

    def forget_level(self) -> None:
        """Release the latch: the next action is compared with the position, not with a memory."""
        self.state = replace(self.state, last_level=None)
