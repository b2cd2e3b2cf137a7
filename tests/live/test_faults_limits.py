"""Limits of requests, bans, and filters that change under way.

The exchange counts what comes in: our own weights are never exceeded, a ban ends entries and leaves
exits, and an order that no longer fits the filters is refused once and fits at the next bar.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from live.risk import TradingState
from live.types import Ambiguous, Bracket, Category, Certainty, Definitive, Flat, Role, Side
from live.venues.bybit import BybitVenue
from live.venues.bybit_wire import ADDRESS, ENDPOINTS, Timeouts
from live.venues.codes import RefusedReadError
from live.venues.rate import Lane, Limit, Limiter, RateConfig
from tests.live.bybit_server import PATIENT, be_patient, connected, intent
from tests.live.harness import BTC, FLAT, LONG, SHORT, SYMBOL, Rig, trading

# Waits for no limit: what would have to wait is refused here.
IMPATIENT = Timeouts(connect=1.0, read=3.0, submit=3.0, read_deadline=3.0, submit_deadline=4.02)


# Weights ------------------------------------------------------------------------------------------


def test_a_storm_never_exceeds_what_the_exchange_allows() -> None:
    async def scenario() -> None:
        async with connected(PATIENT) as (venue, server):
            reads = [venue.position(SYMBOL) for _ in range(40)]
            orders = [venue.submit(intent()) for _ in range(12)]
            found = await asyncio.gather(*reads, *orders)
            outcomes = Counter(
                (one.kind, one.category) for one in found if isinstance(one, Definitive)
            )
            sent = outcomes.pop((Certainty.ACCEPTED, None))
            waiting = outcomes.pop((Certainty.NOT_SENT, Category.THROTTLED), 0)
            assert (sent + waiting, outcomes) == (12, Counter())
            assert len(server.requests("order/create")) == sent
            assert server.throttled() == []

    asyncio.run(scenario())


def test_without_our_own_limits_the_exchange_would_refuse() -> None:
    """The counting of the exchange is a real one."""

    async def scenario() -> None:
        async with connected(PATIENT) as (venue, server):
            widen(venue)
            await asyncio.gather(*(venue.position(SYMBOL) for _ in range(65)))
            assert len(server.throttled("position/list")) > 0

    asyncio.run(scenario())


def test_a_daemon_that_looks_all_the_time_stays_within_the_limits() -> None:
    async def test(rig: Rig) -> None:
        for action in (LONG, SHORT, FLAT, SHORT):
            await rig.bar(action)
            for _ in range(3):
                await rig.reconcile()
        assert rig.server.throttled() == []
        rig.check()

    trading(test)


def widen(venue: BybitVenue, **tight: Limit) -> None:
    """Limits that nothing reaches, but for those of the given routes."""
    limits = {name: Limit(10.0**6) for name in (*ENDPOINTS, ADDRESS)}
    venue._client.limiter = Deaf(limits | tight, RateConfig(), venue._clock)


class Deaf(Limiter):
    """Limits that the headers of the exchange do not change."""

    def tell(self, name: str, **given: float | None) -> None:
        """Not heard."""


# Refused for the rate -----------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["position/list", "account/wallet-balance", "order/realtime"])
def test_a_read_that_came_too_fast_is_asked_again(route: str) -> None:
    async def test(rig: Rig) -> None:
        rig.server.faults.add(route, "rate_limit", reset_ms=100)
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    trading(test)


def test_an_order_that_came_too_fast_is_asked_about_and_not_sent_again() -> None:
    async def test(rig: Rig) -> None:
        rig.server.faults.add("order/create", "rate_limit", reset_ms=100)
        acted = await rig.bar(LONG)
        assert isinstance(acted.sent[0].outcome, Ambiguous)
        await rig.settle()
        assert (rig.held, rig.trader.frozen) == (0, False)
        assert len(rig.server.requests("order/create")) == 1
        rig.breathe(60)
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    trading(test)


def test_what_is_to_wait_is_not_asked_before() -> None:
    """A stated pause longer than the caller's patience ends its read at once, and only its."""

    async def scenario() -> None:
        async with connected(PATIENT) as (venue, server):
            for route, read in (
                ("market/tickers", lambda: venue.quote(SYMBOL)),
                ("account/wallet-balance", lambda: venue.balance()),
            ):
                server.faults.add(route, "status", None, code=429, headers={"Retry-After": "30"})
                before = len(server.requests(route))
                for _ in range(3):
                    with pytest.raises(RefusedReadError) as refused:
                        await read()
                    assert refused.value.category is Category.THROTTLED
                assert len(server.requests(route)) == before + 1
            assert isinstance(await venue.position(SYMBOL), Flat)
            assert isinstance(await venue.submit(intent()), Definitive)

    asyncio.run(scenario())


# The lane that entries cannot use -----------------------------------------------------------------


def drain(venue: Any, route: str) -> None:
    """Use up what entries may use of a route, which fills up in minutes only."""
    limiter = venue._client.limiter
    bucket, now = limiter._buckets[route], limiter._clock.monotonic()
    while not bucket.wait(Lane.NORMAL, now):
        bucket.take(now)


def test_an_exit_passes_where_an_entry_has_to_wait() -> None:
    async def test(rig: Rig) -> None:
        be_patient(rig.daemon.venue, IMPATIENT)
        widen(rig.daemon.venue, **{"order/create": Limit(10, 600.0)})
        await rig.bar(LONG)
        drain(rig.daemon.venue, "order/create")
        posts = len(rig.server.requests("order/create"))
        await rig.bar(FLAT)
        assert rig.held == 0
        assert len(rig.server.requests("order/create")) == posts + 1
        acted = await rig.bar(LONG)
        (sent,) = acted.sent
        assert isinstance(sent.outcome, Definitive)
        assert (sent.outcome.kind, sent.outcome.category) == (
            Certainty.NOT_SENT,
            Category.THROTTLED,
        )
        assert len(rig.server.requests("order/create")) == posts + 1
        rig.check()
        widen(rig.daemon.venue)
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    trading(test)


def test_a_cancel_and_a_stop_pass_where_an_entry_has_to_wait() -> None:
    async def scenario() -> None:
        async with connected(IMPATIENT) as (venue, server):
            await venue.submit(intent())
            tight = {name: Limit(4, 600.0) for name in ("order/cancel", "position/trading-stop")}
            widen(venue, **tight)
            for name in tight:
                drain(venue, name)
            outcome = await venue.cancel(SYMBOL, "jtabcd0000000999999e")
            assert isinstance(outcome, Definitive) and outcome.category is Category.NOT_FOUND
            mark = server.engine.mark(BTC)
            stop = (mark * Decimal("0.9")).quantize(Decimal("0.1"))
            outcome = await venue.amend_protection(SYMBOL, Bracket(stop, None))
            assert isinstance(outcome, Definitive) and outcome.kind is Certainty.ACCEPTED

    asyncio.run(scenario())


# Bans ---------------------------------------------------------------------------------------------


BANS: dict[str, tuple[str, dict[str, Any]]] = {
    "http_403": ("ban", {}),
    "code_10403": ("reject", {"code": 10403}),
}


@pytest.mark.parametrize("ban", BANS)
def test_a_ban_ends_entries_leaves_exits_and_passes(ban: str) -> None:
    fault, given = BANS[ban]

    async def test(rig: Rig) -> None:
        limiter = rig.daemon.venue._client.limiter
        await rig.bar(LONG)
        rig.server.faults.add("market/tickers", fault, **given)
        await rig.bar(SHORT)  # the quote is refused: no decision
        assert limiter.banned is not None
        assert rig.desk.state is TradingState.DEGRADED
        public, posts = len(rig.server.requests("market/*")), orders(rig)
        await rig.bar(SHORT)
        # Nothing but what exits need is asked for during a ban.
        assert len(rig.server.requests("market/*")) == public
        assert orders(rig) == posts
        rig.check()
        result = await rig.daemon.command("flatten", "out")
        assert result["flat"]
        assert rig.held == 0
        assert orders(rig) == posts + 1
        rig.desk.resume("a test", "go on")
        rig.breathe(601)
        assert limiter.banned is None
        await rig.bar(SHORT)
        await rig.reconcile()
        assert rig.held < 0
        assert rig.desk.state is TradingState.ACTIVE
        rig.check()

    trading(test)


def test_a_ban_lasts_as_long_as_the_exchange_says() -> None:
    async def test(rig: Rig) -> None:
        limiter = rig.daemon.venue._client.limiter
        until = {"X-Bapi-Limit-Reset-Timestamp": str(rig.clock.now_ms() + 60_000 + 90_000)}
        rig.server.faults.add("market/tickers", "status", code=403, headers=until)
        await rig.bar(LONG)
        rig.breathe(80)
        assert limiter.banned is not None
        rig.breathe(15)
        assert limiter.banned is None
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    trading(test)


def test_a_banned_address_halts_like_a_key_that_is_refused() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.faults.add("*", "reject", None, code=10009)
        before = len(rig.server.requests())
        await rig.bar(SHORT)
        assert rig.desk.state is TradingState.HALTED
        assert len(rig.server.requests()) - before < 12
        rig.server.faults.clear()
        rig.check()

    trading(test)


def test_a_ban_in_the_reply_to_an_order_is_asked_about() -> None:
    async def test(rig: Rig) -> None:
        rig.server.faults.add("order/create", "ban")
        acted = await rig.bar(LONG)
        assert acted.sent[0].unknown
        rig.breathe(601)
        await rig.settle()
        assert rig.held == 0
        assert orders(rig) == 1
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    trading(test)


def orders(rig: Rig) -> int:
    """How often an order was asked for."""
    return len(rig.server.requests("order/create"))


# Filters ------------------------------------------------------------------------------------------

COARSE = {
    "quantity_step": Decimal("0.05"),
    "min_quantity": Decimal("0.05"),
    "tick": Decimal("5"),
}


def on_the_grid(rig: Rig) -> None:
    """What is held and where its stop is are multiples of what the exchange lists."""
    listed = rig.server.engine.instruments[BTC]
    stop = rig.server.engine.bracket(BTC).stop_price
    assert rig.held % listed.quantity_step == 0
    assert stop is not None and stop % listed.tick == 0
    assert rig.trader.instrument.quantity_step == listed.quantity_step
    assert rig.trader.instrument.tick == listed.tick
    full = Decimal("0.98") * 3 * rig.server.engine.equity() / rig.server.engine.mark(BTC)
    # The mark may have moved a little since.
    least, most = full * Decimal("0.97") - listed.quantity_step, full * Decimal("1.03")
    assert least < abs(rig.held) < most


def test_an_order_that_no_longer_fits_is_refused_once() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        await rig.bar(FLAT)
        rig.server.engine.change_filters(BTC, **COARSE)
        posts = orders(rig)
        acted = await rig.bar(LONG)
        (sent,) = acted.sent
        assert isinstance(sent.outcome, Definitive)
        assert sent.outcome.kind is Certainty.REJECTED
        assert (rig.held, orders(rig)) == (0, posts + 1)
        await rig.bar(LONG)
        assert orders(rig) == posts + 2
        on_the_grid(rig)
        rig.check()

    trading(test)


def test_filters_are_read_again_in_time_without_a_refusal() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(FLAT)
        rig.server.engine.change_filters(BTC, **COARSE)
        rig.server.advance(61_000)
        await rig.reconcile()
        assert rig.trader.instrument.quantity_step == COARSE["quantity_step"]
        assert rig.journal.history(kind="listing")
        await rig.bar(LONG)
        assert orders(rig) == 1
        on_the_grid(rig)
        rig.check()

    trading(test)


@pytest.mark.parametrize(
    ("filters", "code"),
    [
        pytest.param({"min_notional": Decimal(10**6)}, "below_minimum", id="notional"),
        pytest.param({"min_quantity": Decimal(1)}, "below_minimum", id="quantity"),
        pytest.param({"max_market_quantity": Decimal("0.1")}, "above_maximum", id="maximum"),
    ],
)
def test_an_order_that_can_no_longer_be_is_denied_here(
    filters: dict[str, Decimal], code: str
) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(FLAT)
        rig.server.engine.change_filters(BTC, **filters)
        acted = await rig.bar(LONG)
        assert not acted.sent[0].executed
        for _ in range(2):
            acted = await rig.bar(LONG)
            assert (acted.sent, acted.refused) == ((), code)
        assert orders(rig) == 1
        assert rig.held == 0
        rig.check()

    trading(test)


def test_a_stop_that_no_longer_fits_the_tick_is_placed_on_the_new_one() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        await rig.reconcile()
        held = rig.held
        rig.server.engine.change_filters(BTC, tick=Decimal(7))
        rig.server.engine.cancel_stop(BTC)
        for _ in range(3):
            rig.server.advance(1_000)
            await rig.reconcile()
        stop = rig.server.engine.bracket(BTC).stop_price
        assert stop is not None and stop % 7 == 0
        assert rig.held == held
        assert rig.desk.state is TradingState.ACTIVE
        rig.check()

    trading(test)


def test_what_is_held_can_be_closed_after_the_step_grew() -> None:
    """The rest that no order fits is less than the smallest order."""

    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.engine.change_filters(BTC, **COARSE)
        for _ in range(3):
            await rig.bar(FLAT)
        assert rig.held < COARSE["min_quantity"]
        rig.check()
        # An order of the smallest size is cut to what is held.
        result = await rig.daemon.command("flatten", "the rest")
        assert result["flat"]
        assert rig.held == 0
        rig.check()

    trading(test)


@pytest.mark.slow
def test_filters_may_change_at_every_bar() -> None:
    changes = [
        {"quantity_step": step, "min_quantity": step * least, "tick": tick}
        for step, least, tick in (
            (Decimal("0.01"), 1, Decimal("0.1")),
            (Decimal("0.0001"), 3, Decimal("0.01")),
            (Decimal("0.03"), 2, Decimal("0.5")),
            (Decimal("0.002"), 5, Decimal("0.25")),
            (Decimal("0.001"), 1, Decimal("12.5")),
            (Decimal("0.00007"), 1, Decimal("0.3")),
        )
    ]

    async def test(rig: Rig) -> None:
        for number, filters in enumerate(changes):
            rig.server.engine.change_filters(BTC, **filters)
            side = SHORT if number % 2 else LONG
            for _ in range(3):
                await rig.bar(side)
                await rig.reconcile()
                rig.check()
            assert (rig.held > 0) == (side == LONG)
            on_the_grid(rig)
            await rig.bar(FLAT)
            assert rig.held == 0
        assert rig.desk.state is TradingState.ACTIVE
        assert rig.server.throttled() == []

    trading(test, settings={"risk.max_rejections": "100"})


def test_roles_of_the_lanes() -> None:
    """What the reserved lane is for: everything that makes risk smaller."""

    async def scenario() -> None:
        async with connected(IMPATIENT) as (venue, server):
            await venue.submit(intent())
            widen(venue, **{"order/create": Limit(4, 600.0)})
            drain(venue, "order/create")
            entry = await venue.submit(intent())
            assert isinstance(entry, Definitive) and entry.kind is Certainty.NOT_SENT
            out = intent(side=Side.SELL, role=Role.REDUCE, reduce_only=True)
            outcome = await venue.submit(out)
            assert isinstance(outcome, Definitive) and outcome.kind is Certainty.ACCEPTED
            assert server.engine.position(BTC) == 0

    asyncio.run(scenario())
