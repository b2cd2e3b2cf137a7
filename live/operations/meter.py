"""What a daemon measures while it runs, for Prometheus.

The daemon tells what happens; what is true at any time is read from it when somebody asks.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from live.trading.meter import Meter
from live.types import (
    Ambiguous,
    Bracket,
    Definitive,
    Fill,
    Flat,
    Held,
    Intent,
    Outcome,
    Position,
    Role,
)
from live.venue import EventKind, Venue, VenueEvent, usage_of
from live.venues.split import SplitVenue

if TYPE_CHECKING:
    from live.operations.metrics import Metrics
    from live.trading.daemon import Daemon
    from live.trading.symbol import SymbolLoop


class PrometheusMeter(Meter):
    """Counts into `live.operations.metrics.Metrics`, which the meters of all symbols share.

    Args:
      symbol: canonical name; "" = of the account.
    """

    def __init__(self, metrics: Metrics, symbol: str = "") -> None:
        self.metrics, self._symbol = metrics, symbol
        self._connected = False

    def looked(self, seconds: float) -> None:
        """See `Meter.looked`."""
        self.metrics.snapshot_seconds.observe(seconds)

    def decided(self, seconds: float, *, fallback: bool) -> None:
        """See `Meter.decided`."""
        self.metrics.policy_seconds.observe(seconds)
        if fallback:
            self.metrics.fallback_decisions_total.inc()

    def denied(self, codes: Iterable[str]) -> None:
        """See `Meter.denied`."""
        for code in codes:
            self.metrics.denials_total.labels(code=code).inc()

    def found(self, kind: str) -> None:
        """See `Meter.found`."""
        self.metrics.reconcile_findings_total.labels(kind=kind).inc()

    def missed(self, bars: int) -> None:
        """See `Meter.missed`."""
        self.metrics.missed_bars_total.labels(symbol=self._symbol).inc(bars)

    def filled(self, fill: Fill) -> None:
        """See `Meter.filled`."""
        self.metrics.fills_total.labels(kind=fill.kind.value).inc()

    def sent(self, role: Role, outcome: Outcome, seconds: float) -> None:
        """See `Meter.sent`."""
        self.metrics.submit_seconds.observe(seconds)
        match outcome:
            case Definitive(kind=kind, category=category):
                name, refused = kind.value, "" if category is None else category.value
            case Ambiguous():
                name, refused = "unknown", ""
        self.metrics.orders_total.labels(role=role.value, outcome=name, category=refused).inc()

    def stream(self, kind: EventKind | None) -> None:
        """See `Meter.stream`."""
        if kind is EventKind.CONNECTED:
            if self._connected:
                self.metrics.reconnects_total.labels(stream="private").inc()
            self._connected = True

    def committed(self, milliseconds: float) -> None:
        """A commit of the journal reached the disk."""
        self.metrics.journal_commit_seconds.observe(milliseconds / 1000)

    def render(self, daemon: Daemon) -> bytes:
        """Everything of a daemon in the text format of Prometheus, as it is now."""
        metrics, desk, now_ms = self.metrics, daemon.desk, daemon.clock.now_ms()
        metrics.set_state(str(desk.state))
        metrics.equity.set(_number(None if desk.balance is None else desk.balance.equity))
        if desk.breakers is not None:
            metrics.drawdown_ratio.set(_number(desk.breakers.drawdown))
            metrics.daily_loss_ratio.set(_number(desk.breakers.daily_loss))
        for one in daemon.symbols:
            self._set_symbol(one, now_ms)
        waiting = daemon.journal.unresolved()
        metrics.unknown_orders.set(len(waiting))
        oldest = max(((now_ms - row.created_ms) / 1000 for row in waiting), default=0.0)
        metrics.unknown_age_seconds.set(oldest)
        metrics.clock_offset_seconds.set(getattr(daemon.clock, "offset_ms", math.nan) / 1000)
        uncertainty = getattr(daemon.clock, "uncertainty_ms", math.nan)
        metrics.clock_uncertainty_seconds.set(uncertainty / 1000)
        self._set_usage(daemon.venue)
        return metrics.render()

    def _set_symbol(self, one: SymbolLoop, now_ms: int) -> None:
        metrics, view = self.metrics, one.trader.view
        position = None if one.progress.seen is None else one.progress.seen.position
        metrics.position_quantity.labels(symbol=one.symbol).set(_quantity(position))
        metrics.protected.labels(symbol=one.symbol).set(_protected(position))
        if view is not None:
            end = view.snapshot.bar_open_ms + one.trader.bar_ms
            metrics.bar_age_seconds.labels(symbol=one.symbol).set((now_ms - end) / 1000)

    def _set_usage(self, venue: Venue) -> None:
        usage = usage_of(venue)
        for stream, silence in usage.silences.items():
            self.metrics.stream_silence_seconds.labels(stream=stream).set(silence)
        for lane, tokens in usage.tokens.items():
            self.metrics.rate_tokens.labels(lane=lane).set(tokens)
        self.metrics.open_circuits.set(len(usage.held_up))
        for word, count in usage.failures.items():
            self.metrics.count_http_errors(venue.name, word, count)


class MeteredVenue(SplitVenue):
    """A venue whose order requests and events a meter hears of."""

    def __init__(
        self, venue: Venue, meter: Meter, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(venue, venue)
        self._meter, self._monotonic = meter, monotonic

    async def connect(self) -> None:
        """Connect the venue, once."""
        await self._trades.connect()

    async def close(self) -> None:
        """Close the venue, once."""
        await self._trades.close()

    async def submit(self, intent: Intent) -> Outcome:
        """Place an order; what came back, and how long it took, is told."""
        return await self._timed(intent.role, self._trades.submit(intent))

    async def amend_protection(self, symbol: str, bracket: Bracket) -> Outcome:
        """Set stop and target, told as `submit`."""
        return await self._timed(Role.STOP, self._trades.amend_protection(symbol, bracket))

    async def events(self) -> AsyncIterator[VenueEvent]:
        """Those of the venue; that there was one is told."""
        async for event in self._trades.events():
            self._meter.stream(event.kind)
            yield event

    async def _timed(self, role: Role, request: Any) -> Outcome:
        begun = self._monotonic()
        try:
            outcome: Outcome = await request
        except asyncio.CancelledError:
            # The caller's deadline: nobody knows what became of it.
            self._meter.sent(role, Ambiguous("deadline"), self._monotonic() - begun)
            raise
        self._meter.sent(role, outcome, self._monotonic() - begun)
        return outcome


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _quantity(position: Position | None) -> float:
    match position:
        case Flat():
            return 0.0
        case Held() as held:
            return float(held.quantity)
        case _:
            return math.nan


def _protected(position: Position | None) -> float:
    """1 where nothing is at risk or a stop is confirmed; 0 else; NaN = unknown."""
    match position:
        case Flat():
            return 1.0
        case Held() as held:
            return float(held.stop_price is not None)
        case _:
            return math.nan
