"""Where a replay stands: the newest closed bar of the data, and the draw of its step."""

from __future__ import annotations

from typing import Any

import numpy as np

from live.replay.data import ReplayData

# What the draws are where none are given, as in `jaxtrade.trace`.
_DETERMINISTIC_DRAW = 0.5


class EndOfDataError(Exception):
    """The replay stands on its last bar; only a reset goes on."""


class Tape:
    """The execution bars one after the other.

    Args:
      draws: [steps] uniforms in [0, 1), one per step from the start on; None = 0.5 each.
      start: START of the first bar, ms; None = the first bar with full windows.

    Raises:
      ValueError: a draw is outside [0, 1), or no usable bar starts then.

    Attributes:
      bar: number of the newest closed bar.
    """

    def __init__(self, data: ReplayData, draws: Any = None, start: int | None = None) -> None:
        self._data = data
        self._draws = None if draws is None else np.asarray(draws, np.float64)
        if self._draws is not None and not ((self._draws >= 0) & (self._draws < 1)).all():
            raise ValueError("draws: expected numbers in [0, 1).")
        self._start = data.first if start is None else data.bar_at(start)
        self.bar = self._begun = self._start

    def rewind(self, start: int | None = None) -> None:
        """Stand on another bar, by its START in ms, or (None) on the first one again.

        Raises:
          ValueError: no usable bar starts then.
        """
        self.bar = self._begun = self._start if start is None else self._data.bar_at(start)

    def advance(self) -> None:
        """Stand on the next bar.

        Raises:
          EndOfDataError: there is none, or no draw for it.
        """
        if self.exhausted:
            raise EndOfDataError(
                f"replay: bar {self.bar} is the last of data and draws; reset() starts again."
            )
        self.bar += 1

    @property
    def open_ms(self) -> int:
        """START of the bar."""
        return self._data.open_ms(self.bar)

    @property
    def end_ms(self) -> int:
        """Its end."""
        return self.open_ms + self._data.bar_ms

    @property
    def prices(self) -> tuple[float, float, float, float]:
        """Its open, high, low and close."""
        opening, high, low, close = self._data.execution.ohlcv[self.bar, :4].tolist()
        return opening, high, low, close

    @property
    def next_open(self) -> float:
        """Open of the next bar; on the last one its own close."""
        if self.bar >= self._data.last:
            return self.prices[-1]
        return float(self._data.execution.ohlcv[self.bar + 1, 0])

    @property
    def funding(self) -> float:
        """Rate of the bar."""
        return float(self._data.funding[self.bar])

    @property
    def draw(self) -> float:
        """That of the step."""
        if self._draws is None or self._step >= len(self._draws):
            return _DETERMINISTIC_DRAW
        return float(self._draws[self._step])

    @property
    def exhausted(self) -> bool:
        """Whether there is no bar after this one, or no draw for it."""
        out_of_draws = self._draws is not None and self._step >= len(self._draws)
        return self.bar >= self._data.last or out_of_draws

    @property
    def _step(self) -> int:
        return self.bar - self._begun
