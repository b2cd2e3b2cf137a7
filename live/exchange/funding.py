"""When the exchange pays funding, and at which rate."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from decimal import Decimal

from live.exchange.prices import NEVER_MS, Series

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class SteadyFunding:
    """One rate, paid at every multiple of an interval since the epoch."""

    paid: Decimal
    interval_ms: int = 8 * _HOUR_MS

    def following(self, time_ms: int) -> int:
        """First instant after ``time_ms`` at which something is paid."""
        return (time_ms // self.interval_ms + 1) * self.interval_ms

    def rate(self, time_ms: int) -> Decimal:
        """What longs pay at an instant, a fraction of the position's value; 0 between them."""
        return Decimal(0) if time_ms % self.interval_ms else self.paid


class ListedFunding:
    """The rates that came with the bars: each is paid in the last millisecond of its row.

    The mark is the row's close then, and stops that the row reached have traded: what an
    environment does with the same bars.
    """

    def __init__(self, series: Series) -> None:
        rates = () if series.funding is None else series.funding.tolist()
        # Rows without a payment would only cost time.
        self._rates = {
            int(start) + series.step_ms - 1: Decimal(repr(rate))
            for start, rate in zip(series.open_ms, rates, strict=True)
            if rate
        }
        self._times = sorted(self._rates)

    def following(self, time_ms: int) -> int:
        """First instant after ``time_ms`` at which something is paid, `NEVER_MS` after the last."""
        place = bisect.bisect_right(self._times, time_ms)
        return self._times[place] if place < len(self._times) else NEVER_MS

    def rate(self, time_ms: int) -> Decimal:
        """What longs pay at an instant, a fraction of the position's value; 0 between them."""
        return self._rates.get(time_ms, Decimal(0))


Funding = SteadyFunding | ListedFunding


def funding_of(series: Series, rate: Decimal) -> Funding:
    """The rates of the bars where they have any, else ``rate`` every eight hours."""
    return SteadyFunding(rate) if series.funding is None else ListedFunding(series)
