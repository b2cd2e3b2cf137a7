"""The two loss limits alone, for a loop of one's own."""

from __future__ import annotations

from decimal import Decimal

from live.types import ZERO

_DAY_MS = 86_400_000


def loss(baseline: Decimal, equity: Decimal) -> Decimal:
    """Fraction of a baseline that is gone; 0 for a gain."""
    return max(ZERO, 1 - equity / baseline)


class CircuitBreakerTripped(RuntimeError):  # noqa: N818  # the promised name
    """A loss limit was reached; nothing more should be traded.

    Attributes:
      code: "daily_loss" or "drawdown". lost: fraction of the baseline.
    """

    def __init__(self, code: str, lost: float, limit: float) -> None:
        self.code, self.lost, self.limit = code, lost, limit
        super().__init__(f"{code.replace('_', ' ')} of {lost:.2%} reached the limit of {limit:.2%}")


class CircuitBreaker:
    """The two loss limits alone: tell it the equity, it raises once a limit is reached.

    It believes every number at once, keeps the peak and the first equity of each UTC day, and goes
    on raising until it is replaced.

    Args:
      max_drawdown: fraction of the peak. daily_loss_limit: fraction of the day's first equity.

    Raises:
      ValueError: a limit is not in (0, 1).
    """

    def __init__(self, max_drawdown: float = 0.05, daily_loss_limit: float = 0.03) -> None:
        for name, limit in (("max_drawdown", max_drawdown), ("daily_loss_limit", daily_loss_limit)):
            if not 0 < limit < 1:
                raise ValueError(f"{name}: must be in (0, 1); got {limit!r}.")
        self._limits = {"daily_loss": daily_loss_limit, "drawdown": max_drawdown}
        self._peak: Decimal | None = None
        self._day_start: Decimal | None = None
        self._day: int | None = None
        self._tripped: CircuitBreakerTripped | None = None

    def check(self, equity: Decimal | float, venue_ms: int) -> None:
        """Take note of an equity, quote units.

        Raises:
          CircuitBreakerTripped: a limit is or was reached.
          ValueError: the equity is not finite, or the first one is not above 0.
        """
        if self._tripped is not None:
            raise self._tripped
        value = equity if isinstance(equity, Decimal) else Decimal(repr(float(equity)))
        if not value.is_finite():
            raise ValueError(f"equity: must be a finite number; got {equity!r}.")
        day = venue_ms // _DAY_MS
        if self._peak is None and not value > 0:
            raise ValueError(f"equity: the first one must be > 0; got {equity!r}.")
        self._peak = value if self._peak is None else max(self._peak, value)
        if self._day is None or day > self._day:
            self._day = day
            self._day_start = value if value > 0 or self._day_start is None else self._day_start
        assert self._day_start is not None
        for code, baseline in (("daily_loss", self._day_start), ("drawdown", self._peak)):
            lost = float(loss(baseline, value))
            if lost >= self._limits[code]:
                self._tripped = CircuitBreakerTripped(code, lost, self._limits[code])
                raise self._tripped
