"""What the daemon measures, as Prometheus reads it, in a registry of its own."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtrade.extras import missing_extra

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as error:
    raise missing_extra("live metrics", "prometheus-client", "live") from error

PREFIX = "jaxtrade_live"
STATES = ("ACTIVE", "DEGRADED", "REDUCING", "HALTED")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30)
_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """Every metric as an attribute; labels take words from small closed sets only.

    Example:
      ``metrics.position_quantity.labels(symbol="BTC/USDT:USDT").set(0.5)``
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._state = self._gauge("state", "1 for the state the daemon is in", "state")
        self.equity = self._gauge("equity", "Equity, quote units")
        self.drawdown_ratio = self._gauge("drawdown_ratio", "Loss from the peak, of the peak")
        self.daily_loss_ratio = self._gauge("daily_loss_ratio", "Loss since 00:00 UTC")
        self.position_quantity = self._gauge(
            "position_quantity", "Signed position, base units; NaN = unknown", "symbol"
        )
        self.protected = self._gauge("protected", "1 flat or with a confirmed stop", "symbol")
        self.bar_age_seconds = self._gauge("bar_age_seconds", "Age of the newest bar", "symbol")
        self.missed_bars_total = self._counter("missed_bars", "Bars nobody decided on", "symbol")
        self.snapshot_seconds = self._histogram("snapshot_seconds", "Reading one bar's snapshot")
        self.policy_seconds = self._histogram("policy_seconds", "One decision of the policy")
        self.submit_seconds = self._histogram("submit_seconds", "One order request")
        self.journal_commit_seconds = self._histogram(
            "journal_commit_seconds", "One durable commit", _COMMIT_SECONDS
        )
        self.orders_total = self._counter(
            "orders", "Order requests by what became of them", "role", "outcome", "category"
        )
        self.unknown_orders = self._gauge("unknown_orders", "Orders of unknown outcome")
        self.unknown_age_seconds = self._gauge("unknown_age_seconds", "Age of the oldest of them")
        self.fills_total = self._counter("fills", "Fills booked", "kind")
        self.reconcile_findings_total = self._counter(
            "reconcile_findings", "Differences between journal and venue", "kind"
        )
        self.denials_total = self._counter("denials", "Intents the risk gate denied", "code")
        self.stream_silence_seconds = self._gauge(
            "stream_silence_seconds", "Since the last message", "stream"
        )
        self.reconnects_total = self._counter("reconnects", "Streams opened again", "stream")
        self.clock_offset_seconds = self._gauge("clock_offset_seconds", "Venue time minus ours")
        self.clock_uncertainty_seconds = self._gauge(
            "clock_uncertainty_seconds", "How well the offset is known"
        )
        self.rate_tokens = self._gauge("rate_tokens", "Requests left", "lane")
        self.open_circuits = self._gauge(
            "open_circuits", "Routes of the venue that ordinary reads may not ask now"
        )
        self.http_errors_total = self._counter(
            "http_errors", "Failed requests to the venue", "venue", "class"
        )
        self.notify_dropped_total = self._counter("notify_dropped", "Notifications not sent")
        self.loop_errors_total = self._counter("loop_errors", "Errors that nothing awaited")
        self.fallback_decisions_total = self._counter(
            "fallback_decisions", "Decisions the policy did not make"
        )
        self._http_errors: dict[tuple[str, str], int] = {}
        self.set_state(STATES[0])

    def set_state(self, state: str) -> None:
        """Show the trading state.

        Raises:
          ValueError: there is no such state.
        """
        if state not in STATES:
            raise ValueError(f"state: must be one of {', '.join(STATES)}, was {state!r}")
        for name in STATES:
            self._state.labels(state=name).set(name == state)

    def count_http_errors(self, venue: str, word: str, total: int) -> None:
        """Show how many requests have failed in a way; ``total`` since the start."""
        known = self._http_errors.get((venue, word), 0)
        if total > known:
            self._http_errors[venue, word] = total
            self.http_errors_total.labels(venue, word).inc(total - known)

    def render(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float] = _SECONDS) -> Histogram:
        return Histogram(
            name, text, namespace=PREFIX, registry=self.registry, buckets=tuple(buckets)
        )
