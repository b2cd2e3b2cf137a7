"""What is told of a daemon while it runs; what is true at any time is read from it when asked."""

from __future__ import annotations

from collections.abc import Iterable

from live.types import Fill, Outcome, Role
from live.venue import EventKind


class Meter:
    """Hears what happens and keeps none of it; times in seconds."""

    def looked(self, seconds: float) -> None:
        """The snapshot of a bar was read."""

    def decided(self, seconds: float, *, fallback: bool) -> None:
        """The policy answered, or somebody held in its place."""

    def denied(self, codes: Iterable[str]) -> None:
        """The gate refused intents."""

    def found(self, kind: str) -> None:
        """Journal and venue disagree."""

    def missed(self, bars: int) -> None:
        """Bars that nobody decided on."""

    def filled(self, fill: Fill) -> None:
        """A fill is new to the journal."""

    def sent(self, role: Role, outcome: Outcome, seconds: float) -> None:
        """A request about an order came back, or did not."""

    def stream(self, kind: EventKind | None) -> None:
        """Something came from the stream."""
