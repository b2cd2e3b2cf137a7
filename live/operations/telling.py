"""What people hear of a daemon: which message a fill, a refusal, a latch or a long wait becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from live.journal.ids import role_of
from live.operations.messages import Kind
from live.operations.meter import PrometheusMeter
from live.operations.metrics import Metrics
from live.operations.notify import Notifier
from live.risk import TradingState
from live.trading.daemon import Daemon
from live.types import Certainty, Definitive, Fill, FillKind, Outcome, Role

DEGRADED_SECONDS = 300.0
_DAY_MS = 86_400_000
_LOOK_SECONDS = 10.0
# What a fill is told as; funding is not told.
_FILLS = {
    FillKind.TRADE: Kind.FILLED,
    FillKind.LIQUIDATION: Kind.LIQUIDATION,
    FillKind.ADL: Kind.LIQUIDATION,
    FillKind.SETTLEMENT: Kind.WARNING,
}
# The reason of a latch or of an alarm, where it says more than the state; then the states.
_REASONS = {
    "mismatch": Kind.MISMATCH,
    "foreign": Kind.MISMATCH,
    "unknown_order": Kind.UNKNOWN_ORDER,
}
_STATES: Mapping[str, Kind] = {
    TradingState.HALTED: Kind.HALTED,
    TradingState.REDUCING: Kind.REDUCING,
}


class TellingMeter(PrometheusMeter):
    """Measures, and tells people of fills and of the first refusal of every kind."""

    def __init__(self, metrics: Metrics, symbol: str, notifier: Notifier) -> None:
        super().__init__(metrics, symbol)
        self._notifier = notifier
        self._refused: set[str] = set()

    def filled(self, fill: Fill) -> None:
        """See `live.trading.meter.Meter.filled`."""
        super().filled(fill)
        kind = _FILLS.get(fill.kind)
        if kind is None:
            return
        role = fill.role or role_of(fill.client_id)
        if kind is Kind.FILLED and role is not None and role.protective:
            kind = Kind.PROTECTIVE_EXIT
        text = f"{fill.kind.value}: {fill.side.value} {fill.quantity:f} at {fill.price:f}"
        self._notifier.send(kind, text, self._symbol)

    def denied(self, codes: Iterable[str]) -> None:
        """See `live.trading.meter.Meter.denied`."""
        codes = sorted(codes)
        super().denied(codes)
        for code in codes:
            self._refuse(code, f"by the risk gate: {code}")

    def sent(self, role: Role, outcome: Outcome, seconds: float) -> None:
        """See `live.trading.meter.Meter.sent`."""
        super().sent(role, outcome, seconds)
        if isinstance(outcome, Definitive) and outcome.kind is Certainty.REJECTED:
            word = "other" if outcome.category is None else outcome.category.value
            told = f"{role.name.lower()} by the venue: {word}, code {outcome.code}"
            self._refuse(f"venue {word}", f"{told}: {outcome.detail}")

    def _refuse(self, what: str, text: str) -> None:
        if what not in self._refused:
            self._refused.add(what)
            self._notifier.send(Kind.REFUSED, text, self._symbol or None)


def teller(notifier: Notifier) -> Callable[[str, str], None]:
    """What a desk calls: a state or another word, and "reason: detail"."""

    def tell(word: str, text: str) -> None:
        stopped = word == TradingState.HALTED  # which says so whatever the reason
        kind = None if stopped else _REASONS.get(text.partition(":")[0])
        notifier.send(kind or _STATES.get(word, Kind.WARNING), text)

    return tell


class Reporter:
    """Tells what only time makes worth telling: a degradation that lasts, and every day that ends.

    Args:
      daemon: started; its clock counts.
    """

    def __init__(self, daemon: Daemon, notifier: Notifier) -> None:
        self._daemon, self._notifier = daemon, notifier
        self._degraded_at: float | None = None
        self._told = False
        self._day = daemon.clock.now_ms() // _DAY_MS
        self._equity: Decimal | None = None

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            self.look()
            await self._daemon.clock.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Tell what is due now."""
        self._look_at_state()
        day = self._daemon.clock.now_ms() // _DAY_MS
        if day != self._day:
            self._notifier.send(Kind.DAILY, self._summary())
            self._day, self._equity = day, self._equity_now
        if self._equity is None:
            self._equity = self._equity_now

    def _look_at_state(self) -> None:
        desk, now = self._daemon.desk, self._daemon.clock.monotonic()
        if desk.state is not TradingState.DEGRADED:
            self._degraded_at, self._told = None, False
            return
        if self._degraded_at is None:
            self._degraded_at = now
        if not self._told and now - self._degraded_at >= DEGRADED_SECONDS:
            self._told = True
            reasons = ", ".join(sorted(desk.standing.degraded)) or "not reconciled yet"
            self._notifier.send(
                Kind.DEGRADED, f"for {DEGRADED_SECONDS / 60:g} minutes and more: {reasons}"
            )

    @property
    def _equity_now(self) -> Decimal | None:
        balance = self._daemon.desk.balance
        return None if balance is None else balance.equity

    def _summary(self) -> str:
        date = datetime.fromtimestamp(self._day * _DAY_MS / 1000, UTC).date()
        before, now = self._equity, self._equity_now
        equity = "unknown" if now is None else f"{now:.2f}"
        if before is not None and now is not None:
            equity += f" ({now - before:+.2f})"
        missed = sum(one.progress.missed_bars for one in self._daemon.symbols)
        state = self._daemon.desk.state.value
        return f"{date}: {state}, equity {equity}, bars missed since the start: {missed}"
