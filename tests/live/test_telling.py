"""What becomes a message: fills, refusals, latches, a degradation that lasts, the end of a day."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from typing import Any

import pytest

from live.clock import next_boundary
from live.operations import services
from live.operations.messages import Kind
from live.operations.metrics import Metrics
from live.operations.telling import DEGRADED_SECONDS, Reporter, TellingMeter, teller
from live.trading.meter import Meter
from live.types import Ambiguous, Category, Certainty, Definitive, Fill, FillKind, Role, Side
from tests.live.harness import LONG, Rig, trading

SYMBOL = "BTC/USDT:USDT"
DAY_MS = 86_400_000
ONE = Decimal(1)


class Notifier:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.said: list[tuple[Kind, str, str | None]] = []

    def send(self, kind: Kind, text: str, symbol: str | None = None) -> None:
        self.said.append((kind, text, symbol))

    @property
    def kinds(self) -> list[Kind]:
        return [kind for kind, _, _ in self.said]


def telling_meter(notifier: Notifier) -> TellingMeter:
    return TellingMeter(Metrics(), SYMBOL, notifier)  # type: ignore[arg-type]  # answers `send`


def fill(kind: FillKind, client_id: str = "c", role: Role | None = None) -> Fill:
    return Fill("t", client_id, "o", Side.BUY, ONE, ONE, ONE, "USDT", kind, 0, role)


def test_a_fill_is_told_as_what_it_is_and_funding_is_not() -> None:
    notifier = Notifier()
    told = telling_meter(notifier)
    for kind in FillKind:
        told.filled(fill(kind))
    # The end of a contract is the venue's, and nobody was liquidated.
    assert notifier.kinds == [Kind.FILLED, Kind.LIQUIDATION, Kind.LIQUIDATION, Kind.WARNING]
    assert Meter().filled(fill(FillKind.TRADE)) is None  # type: ignore[func-returns-value]


def test_a_stop_or_target_that_was_filled_is_told_as_such() -> None:
    notifier = Notifier()
    told = telling_meter(notifier)
    told.filled(fill(FillKind.TRADE, "", Role.STOP))
    told.filled(fill(FillKind.TRADE, "jt00000000000000000t"))
    told.filled(fill(FillKind.TRADE, "jt00000000000000000x"))
    told.filled(fill(FillKind.LIQUIDATION, "", Role.STOP))
    assert notifier.kinds == [
        Kind.PROTECTIVE_EXIT,
        Kind.PROTECTIVE_EXIT,
        Kind.FILLED,
        Kind.LIQUIDATION,
    ]


def test_the_first_refusal_of_every_kind_is_told() -> None:
    notifier = Notifier()
    told = telling_meter(notifier)
    for category in (Category.MARGIN, Category.MARGIN, Category.PRECISION):
        refused = Definitive(Certainty.REJECTED, code="7", category=category, detail="no")
        told.sent(Role.ENTRY, refused, 0.1)
    told.sent(Role.ENTRY, Ambiguous("no answer"), 0.1)
    told.sent(Role.ENTRY, Definitive(Certainty.ACCEPTED), 0.1)
    told.denied({"notional", "leverage"})
    told.denied({"notional"})
    assert notifier.said == [
        (Kind.REFUSED, "entry by the venue: margin, code 7: no", SYMBOL),
        (Kind.REFUSED, "entry by the venue: precision, code 7: no", SYMBOL),
        (Kind.REFUSED, "by the risk gate: leverage", SYMBOL),
        (Kind.REFUSED, "by the risk gate: notional", SYMBOL),
    ]
    counted = told.metrics.render().decode()
    assert 'denials_total{code="notional"} 2.0' in counted


@pytest.mark.parametrize(
    ("word", "text", "kind"),
    [
        ("HALTED", "drawdown: too much", Kind.HALTED),
        ("HALTED", "mismatch: too much", Kind.HALTED),
        ("REDUCING", "rejections: 5", Kind.REDUCING),
        ("REDUCING", "mismatch: the venue holds 1, the journal 2", Kind.MISMATCH),
        ("REDUCING", "foreign: order 1", Kind.MISMATCH),
        ("alarm", "unknown_order:jt1: jt1", Kind.UNKNOWN_ORDER),
        ("alarm", "slow commits", Kind.WARNING),
    ],
)
def test_latches_and_alarms_have_their_kinds(word: str, text: str, kind: Kind) -> None:
    notifier = Notifier()
    teller(notifier)(word, text)  # type: ignore[arg-type]  # answers `send`
    assert notifier.said == [(kind, text, None)]


def test_a_degradation_that_lasts_is_told_once() -> None:
    async def test(rig: Rig) -> None:
        notifier = Notifier()
        reporter = Reporter(rig.daemon, notifier)  # type: ignore[arg-type]  # answers `send`
        await rig.reconcile()
        rig.desk.degrade("stream")
        reporter.look()
        rig.server.advance(int(DEGRADED_SECONDS * 1000) - 1)
        reporter.look()
        assert not notifier.said
        rig.server.advance(1)
        reporter.look()
        reporter.look()
        assert notifier.said == [(Kind.DEGRADED, "for 5 minutes and more: stream", None)]
        # A short one after it is none.
        rig.desk.recover("stream")
        await rig.reconcile()
        reporter.look()
        rig.desk.degrade("stream")
        rig.server.advance(1_000)
        reporter.look()
        assert len(notifier.said) == 1

    trading(test)


def test_every_day_ends_with_a_summary() -> None:
    async def test(rig: Rig) -> None:
        notifier = Notifier()
        reporter = Reporter(rig.daemon, notifier)  # type: ignore[arg-type]  # answers `send`
        await rig.bar(LONG)
        reporter.look()
        midnight = next_boundary(rig.clock.now_ms(), DAY_MS)
        rig.server.advance_to(midnight)
        await rig.reconcile()
        reporter.look()
        reporter.look()
        ((kind, text, _),) = notifier.said
        assert kind is Kind.DAILY
        equity = rig.desk.balance.equity
        assert f"ACTIVE, equity {equity:.2f} (" in text
        rig.server.advance(DAY_MS)
        reporter.look()
        assert notifier.kinds == [Kind.DAILY, Kind.DAILY]
        assert notifier.said[1][1][:10] != text[:10]

    trading(test)


def test_a_service_that_fails_is_heard_of(caplog: pytest.LogCaptureFixture) -> None:
    """The daemon goes on without it, but not in silence."""

    class Broken:
        clock: Any = None

        @property
        def desk(self) -> Any:
            raise KeyError("a mistake")

    async def serve() -> None:
        daemon: Any = Broken()
        daemon.clock = type("Clock", (), {"now_ms": lambda self: 0})()
        async with services.reported(daemon, Notifier()):  # type: ignore[arg-type]
            await asyncio.sleep(0.01)

    with caplog.at_level(logging.ERROR):
        asyncio.run(serve())
    assert "a service of the daemon failed" in caplog.text
    assert "a mistake" in caplog.text
