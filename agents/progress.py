"""Progress of a run: a live line on a terminal, one JSON line per chunk elsewhere."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Self


class Progress:
    """Shows rows of `agents.training`; use as a context manager.

    Attributes:
      console: of rich. interactive: whether it is a terminal.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console

        self.console = console or Console(width=None if sys.stdout.isatty() else 140)
        self.interactive = bool(self.console.is_terminal)
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        """A line for the user: on the terminal, else on stderr (stdout holds the rows)."""
        if self.interactive:
            self.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def notes(self) -> Iterator[None]:
        """Say warnings (repaired gaps, ignored levels) instead of printing where they arose."""
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always", UserWarning)
            yield
        for text in dict.fromkeys(str(warning.message) for warning in found):
            self.say(f"note: {text}")

    def report(self, row: dict[str, Any]) -> None:
        """Show one row of progress."""
        if not self.interactive:
            print(json.dumps(row), flush=True)
            return
        if self._bar is None:
            self._start(int(row["updates"]))
        self._bar.update(self._task, completed=row["update"], text=_line(row))

    def _start(self, updates: int) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("update {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task("train", total=updates, text="")
        self._bar.start()


# What a line shows besides speed and return, if the learner and the environment tell it.
_SHOWN = (
    ("equity", "equity_ratio", ".3f"),
    ("entropy", "entropy", ".2f"),
    ("KL", "kl", ".4f"),
    ("alike", "groups_alike", ".0%"),
    ("error", "error", ".3f"),
    ("value", "value", "+.3f"),
    ("ruins", "ruins", ".0f"),
)


def _line(row: dict[str, Any]) -> str:
    by_seed = [value for value in row["return_by_seed"] if value is not None]
    spread = f" ±{(max(by_seed) - min(by_seed)) / 2:.3f}" if len(by_seed) > 1 else ""
    parts = [
        f"{row['steps_per_second']:,}/s",
        f"return {_number(row['return_mean'], '+.4f')}{spread}",
    ]
    parts += [
        f"{label} {_number(row[name], pattern)}" for label, name, pattern in _SHOWN if name in row
    ]
    return "  ".join(parts)


def _number(value: float | None, pattern: str) -> str:
    return "-" if value is None else format(value, pattern)
