"""Orders that trade in part: what rests of them fills, is cancelled, or nobody can be asked.

The exchange's ledger is asked every time: one order per intent, a position that is the sum of the
fills, and a stop for all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from live.exchange.desk import Event
from live.exchange.engine import Engine
from live.orders import IntentState
from live.risk import TradingState
from live.types import OrderStatus
from tests.live.harness import BTC, FLAT, LONG, SHORT, Rig, trading
from tests.live.test_faults_connection import (
    BRACKET_LONG,
    BRACKET_SHORT,
    BRACKETS,
    CLOSE,
    booked,
    cut_off,
    executions,
    intents,
    once,
    over,
    posts,
)

STOP_DEADLINE_MS = 5_000
KINDS: dict[str, dict[str, Any]] = {"levels": {}, "brackets": BRACKETS}
# Kind -> action that goes long, short, flat.
SIDES = {"levels": (LONG, SHORT, FLAT), "brackets": (BRACKET_LONG, BRACKET_SHORT, CLOSE)}


def later(rig: Rig, seconds: float, act: Callable[[Engine], object]) -> None:
    """Something that happens at the exchange once that much time has passed."""
    engine = rig.server.engine
    due_ms = engine.now_ms + round(1000 * seconds)

    def hear(events: Sequence[Event]) -> None:
        if engine.now_ms >= due_ms and hear in engine.listeners:
            engine.listeners.remove(hear)
            act(engine)

    engine.listeners.append(hear)


def settled(rig: Rig) -> None:
    """Everything is known, booked once and protected."""
    assert not rig.trader.frozen
    assert booked(rig) == executions(rig)
    assert not [one for one in rig.server.engine.orders(BTC, live=True) if one.client_id]
    filled = sum((one.signed for one in rig.server.engine.executions(BTC)), start=Decimal(0))
    assert rig.journal.position(rig.trader.symbol) == filled
    rig.check()
    for leg in rig.server.engine.protection((BTC, 0)).values():
        assert leg.quantity == abs(rig.held)


def unprotected_ms(rig: Rig) -> int:
    """The longest time that a position had no stop for all of it."""
    now = rig.server.engine.now_ms
    gaps = rig.server.engine.protection_gaps()
    return max(((now if g.end_ms is None else g.end_ms) - g.start_ms for g in gaps), default=0)


# The rest is cancelled ----------------------------------------------------------------------------

FRACTIONS = ("0.1", "0.3", "0.5", "0.9", "0.99")
SLOWLY = {"0.3", "0.5", "0.9"}


@pytest.mark.parametrize(
    "fraction",
    [pytest.param(f, marks=[pytest.mark.slow] if f in SLOWLY else []) for f in FRACTIONS],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_protected_and_corrected_at_the_next_bar(kind: str, fraction: str) -> None:
    long, short, flat = SIDES[kind]

    async def test(rig: Rig) -> None:
        rig.server.engine.plan_fills(fraction)
        acted = await rig.bar(long)
        (order,) = [one for one in rig.server.engine.orders(BTC) if one.client_id]
        assert order.status is OrderStatus.CANCELLED
        wanted = Decimal(fraction) * order.quantity
        assert wanted - Decimal("0.001") < rig.held <= wanted
        assert not acted.sent[0].executed
        await rig.reconcile()
        settled(rig)
        assert unprotected_ms(rig) <= STOP_DEADLINE_MS
        # The next bar corrects: levels fill up, unless hardly anything is missing; a bracket is
        # one position until it ends.
        missing = order.quantity - rig.held
        await rig.bar(long)
        if kind == "levels" and missing > Decimal("0.02") * order.quantity:
            assert rig.held > wanted
        settled(rig)
        # A turn that closes in part leaves a part, and opens nothing against it.
        held = rig.held
        rig.server.engine.plan_fills(fraction)
        await rig.bar(short)
        assert 0 < rig.held <= held  # of a few steps a tenth is none
        settled(rig)
        await rig.bar(flat)
        assert rig.held == 0
        settled(rig)
        assert rig.desk.state is TradingState.ACTIVE

    trading(test, settings=KINDS[kind])


def test_a_rest_below_the_minimum_is_left_alone() -> None:
    async def test(rig: Rig) -> None:
        # Of 0.05, all but one step trades; an order for the rest has to be four steps at least.
        rig.server.engine.plan_fills("0.98")
        await rig.bar(BRACKET_LONG)
        assert rig.held == Decimal("0.049")
        rig.server.engine.change_filters(BTC, min_quantity=Decimal("0.004"))
        before = posts(rig)
        await rig.bar(BRACKET_LONG)
        assert (rig.held, posts(rig)) == (Decimal("0.049"), before)
        settled(rig)
        # What closes goes below no minimum either: all but two steps trade, and the rest leaves.
        rig.server.engine.plan_fills("0.96")
        await rig.bar(CLOSE)
        assert rig.held == Decimal("0.002")
        settled(rig)
        rig.server.engine.change_filters(BTC, min_quantity=Decimal("0.001"))
        await rig.bar(CLOSE)
        assert rig.held == 0
        settled(rig)

    trading(test, settings=BRACKETS)


# The rest stays open ------------------------------------------------------------------------------

ENDS: dict[str, Callable[[Rig], None]] = {
    "fills": lambda rig: later(rig, 1, lambda engine: engine.trade_rest(BTC)),
    "fills in part": lambda rig: later(rig, 1, lambda engine: engine.trade_rest(BTC, "0.5")),
    "is taken back": lambda rig: later(rig, 1, lambda engine: engine.cancel_rest(BTC)),
    "stays": lambda rig: None,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_rest_that_stays_open_is_followed_to_its_end(kind: str, end: str) -> None:
    long, _, flat = SIDES[kind]

    async def test(rig: Rig) -> None:
        rig.server.engine.plan_fills("0.4", rest="live")
        await rig.bar(long, lambda: ENDS[end](rig))
        await rig.settle()
        settled(rig)
        assert rig.held > 0
        assert unprotected_ms(rig) <= STOP_DEADLINE_MS
        (entry,) = intents(rig)[:1]
        assert (entry.state is IntentState.FILLED) == (end == "fills")
        assert len(rig.server.requests("order/cancel")) == (end in ("stays", "fills in part"))
        await rig.bar(flat)
        await rig.reconcile()
        assert rig.held == 0
        settled(rig)

    trading(test, settings=KINDS[kind])


def test_a_fill_that_comes_after_the_cancel_is_booked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        engine = rig.server.engine
        engine.plan_fills("0.4", rest="live")
        cancel = engine.cancel

        def overtaken(symbol: str, **ids: str) -> Any:
            engine.trade_rest(symbol)
            return cancel(symbol, **ids)

        monkeypatch.setattr(engine, "cancel", overtaken)

        def unheard() -> None:
            # Nobody hears of the trade: not by the stream, and the lists are old.
            rig.server.silence_streams()
            rig.server.faults.add("execution/list", "stale_snapshot", count=2)

        await rig.bar(LONG, unheard)
        await rig.settle()
        settled(rig)
        (entry,) = [one for one in engine.orders(BTC) if one.client_id]
        assert entry.status is OrderStatus.FILLED
        assert rig.held == entry.quantity
        assert intents(rig)[0].state is IntentState.FILLED
        assert len(rig.server.requests("order/cancel")) == 1
        await rig.bar(FLAT)
        assert rig.held == 0
        settled(rig)

    trading(test)


# The rest stays open, and nobody can be asked -----------------------------------------------------

CUT_ENDS: dict[str, Callable[[Engine], object] | None] = {
    "fills": lambda engine: engine.trade_rest(BTC),
    "is taken back": lambda engine: engine.cancel_rest(BTC),
    "stays": None,
}


@pytest.mark.parametrize(
    "seconds", [20, *(pytest.param(s, marks=pytest.mark.slow) for s in (0, 90, 300, 600))]
)
@pytest.mark.parametrize("end", CUT_ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_partition_while_a_rest_is_open(kind: str, end: str, seconds: float) -> None:
    long, short, _ = SIDES[kind]
    act = CUT_ENDS[end]

    async def test(rig: Rig) -> None:
        engine = rig.server.engine

        def cut() -> None:
            engine.plan_fills("0.4", rest="live")

            def hear(events: Sequence[Event]) -> None:
                if any(e.topic == "order" and e.body.filled for e in events):
                    engine.listeners.remove(hear)
                    once(rig, "*", "", seconds, None)
                    if act is not None:
                        later(rig, min(seconds / 2, 4), act)

            engine.listeners.append(hear)

        await rig.bar(long, cut)
        sent = posts(rig)
        part = rig.held
        assert part > 0
        while cut_off(rig, 70):
            assert rig.trader.frozen
            await rig.bar(short)
            assert cut_off(rig)
            assert posts(rig) == sent
            assert rig.desk.state is TradingState.DEGRADED
        await over(rig)
        assert posts(rig) == sent
        await rig.reconcile()
        settled(rig)
        (entry,) = [one for one in engine.orders(BTC) if one.client_id]
        assert entry.status is (OrderStatus.FILLED if end == "fills" else OrderStatus.CANCELLED)
        assert rig.held == entry.filled
        await rig.bar(short)
        await rig.reconcile()
        assert rig.held < 0
        assert rig.desk.state is TradingState.ACTIVE
        settled(rig)

    trading(test, settings={**KINDS[kind], "env.observation_failure_policy": "hold"})
