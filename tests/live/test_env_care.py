"""What an environment does about things that nobody ordered, by the rules of the daemon.

Trades by hand, stops that vanish, orders of unknown outcome, settings that change: found while a
step waits for its bar, or at the start of another life.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from live.env import BybitFuturesTradingEnv
from live.journal import Journal
from live.orders import IntentState
from live.risk import TradingState
from live.types import Flat, Held
from tests.live.harness import BTC, SYMBOL
from tests.live.stepping import FLAT, LONG, MINUTE, SHORT, Told, on_exchange

pytestmark = pytest.mark.filterwarnings("ignore:action_levels. negative levels")

D = Decimal
# Of the position that is held.
BY_HAND = {"more": D("0.01"), "less": D("-0.5"), "flat": D(-1), "flip": D(-2)}


def by_hand(server: Any, what: str) -> Decimal:
    """Trade a part of the position at the exchange; what was traded, signed."""
    step = server.engine.instruments[BTC].quantity_step
    signed = (server.engine.position(BTC) * BY_HAND[what]).quantize(step)
    server.engine.manual_trade(BTC, signed)
    return signed


def own(server: Any, since: int = 0) -> list[Any]:
    """Executions of our orders, from the n-th execution on."""
    return [e for e in server.engine.executions(BTC)[since:] if e.client_id]


def desk_of(env: Any) -> Any:
    return env._running.desk


def journal_of(env: Any) -> Journal:
    kept: Journal = env._running.journal
    return kept


def another_life(env: Any, venue: Any, **options: Any) -> BybitFuturesTradingEnv:
    """A second environment on the account and the journal of the first."""
    running = env._running
    return BybitFuturesTradingEnv(
        env.config,
        trader=venue,
        clock=running.clock,
        bar_delay=0,
        journal=running.journal,
        **options,
    )


def check(env: Any, server: Any) -> None:
    """Journal and venue agree, and whatever is held has its stop."""
    held = server.engine.position(BTC)
    assert journal_of(env).position(SYMBOL) == held
    if held:
        assert server.engine.bracket(BTC).stop_price is not None


def cared_for(test: Any, **options: Any) -> None:
    """`on_exchange`, with some equity left for what others do."""
    on_exchange(test, equity_buffer=0.05, **options)


# Trades by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", list(BY_HAND))
def test_a_trade_by_hand_between_two_steps_waits_for_a_person(what: str) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        await env.step(LONG)
        traded, count = by_hand(server, what), len(server.engine.executions(BTC))
        await env.step(LONG)
        assert desk_of(env).state is TradingState.REDUCING
        assert "foreign" in desk_of(env).standing.reasons
        (row,) = journal_of(env).adjustments()
        assert (row.kind, row.quantity, row.acknowledged_by) == ("manual", traded, None)
        for action in (SHORT, LONG, FLAT):
            await env.step(action)
        assert server.engine.position(BTC) == 0
        assert all(e.closed == e.quantity for e in own(server, count))  # nothing was opened
        assert len(journal_of(env).adjustments()) == 1
        *_, info = await env.step(LONG)
        assert (info["client_ids"], info["refused"]) == ([], "state")
        with pytest.raises(ValueError, match="1 changes that no order explains wait"):
            desk_of(env).resume("a person", "without a word about it")
        await env.rearm("a person", "it was me")
        (row,) = journal_of(env).adjustments()
        assert row.acknowledged_by == "a person"
        await env.reset()
        await env.step(LONG)
        assert server.engine.position(BTC) > 0
        check(env, server)

    cared_for(test)


@pytest.mark.parametrize("what", ["less", "flip"])
def test_a_trade_by_hand_between_two_steps_is_adopted(what: str) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        await env.step(LONG)
        traded = by_hand(server, what)
        held = server.engine.position(BTC)
        *_, info = await env.step(LONG)
        (row,) = journal_of(env).adjustments()
        assert (row.kind, row.quantity, row.acknowledged_by) == ("manual", traded, "adopt")
        assert server.engine.position(BTC) == held
        assert desk_of(env).state is TradingState.ACTIVE
        assert info["fills"] == ()  # it is no fill of ours
        check(env, server)
        await env.step(SHORT)
        assert server.engine.position(BTC) < 0
        check(env, server)

    cared_for(test, foreign_position="adopt")


@pytest.mark.parametrize("what", ["less", "flip"])
def test_a_trade_by_hand_between_two_steps_is_closed(what: str) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        await env.step(LONG)
        traded, count = by_hand(server, what), len(server.engine.executions(BTC))
        *_, info = await env.step(LONG)
        (row,) = journal_of(env).adjustments()
        assert (row.kind, row.quantity, row.acknowledged_by) == ("manual", traded, "flatten")
        assert server.engine.position(BTC) == 0
        assert isinstance(info["position"], Flat)
        assert all(e.closed == e.quantity for e in own(server, count))
        assert desk_of(env).state is TradingState.ACTIVE
        await env.step(LONG)
        assert server.engine.position(BTC) > 0
        check(env, server)

    cared_for(test, foreign_position="flatten")


def test_without_looks_between_the_bars_two_bars_have_to_agree() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        await env.step(LONG)
        by_hand(server, "more")
        await env.step(LONG)
        assert desk_of(env).state is TradingState.DEGRADED
        await env.step(LONG)
        assert desk_of(env).state is TradingState.REDUCING

    cared_for(test, look_every=math.inf)


@pytest.mark.parametrize("policy", ["refuse", "adopt", "flatten"])
def test_a_position_of_somebody_else_at_the_first_reset(policy: str) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        server.engine.manual_trade(BTC, D("0.1"))
        _, info = await env.reset()
        held, rows = server.engine.position(BTC), journal_of(env).adjustments()
        assert [(row.kind, row.quantity) for row in rows] == [("manual", D("0.1"))]
        assert isinstance(info["position"], Flat if policy == "flatten" else Held)
        assert held == (0 if policy == "flatten" else D("0.1"))
        assert (desk_of(env).state is TradingState.REDUCING) == (policy == "refuse")
        if policy != "flatten":  # bare before
            assert server.engine.bracket(BTC).stop_price is not None
        *_, info = await env.step(SHORT)
        assert (server.engine.position(BTC) < 0) == (policy != "refuse")
        if policy == "refuse":
            assert server.engine.position(BTC) == 0  # closed, and no other side
            assert info["refused"] == "state"
        else:
            check(env, server)

    cared_for(test, foreign_position=policy)


@pytest.mark.parametrize("field", ["close_position_on_init", "close_position_on_reset"])
def test_what_is_closed_at_a_reset_needs_no_other_explanation(field: str) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        server.engine.manual_trade(BTC, D("-0.1"))
        _, info = await env.reset()
        assert isinstance(info["position"], Flat)
        (row,) = journal_of(env).adjustments()
        assert (row.quantity, row.acknowledged_by) == (D("-0.1"), field)
        assert desk_of(env).state is TradingState.ACTIVE
        check(env, server)
        await env.step(LONG)
        assert server.engine.position(BTC) > 0
        check(env, server)

    cared_for(test, **{field: True})


# Stops --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [True, False], ids=["looks", "bars-only"])
def test_a_stop_that_vanishes_while_a_step_waits_is_placed_again(looks: bool) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        await env.step(LONG)
        stop = server.engine.bracket(BTC).stop_price
        # Looked at as the step begins, gone afterwards.
        clock, done = env._running.clock, []
        name = "sleep" if looks else "sleep_until"
        plain = getattr(clock, name)

        async def sleep(time: float) -> None:
            if not done:
                done.append(True)
                server.engine.cancel_stop(BTC)
            await plain(time)

        setattr(clock, name, sleep)
        await env.step(LONG)
        assert done
        assert server.engine.bracket(BTC).stop_price == stop
        gap = server.engine.protection_gaps()[-1]
        assert gap.end_ms is not None
        assert (gap.end_ms - gap.start_ms <= 10_000) == looks
        check(env, server)

    cared_for(test, **{} if looks else {"look_every": math.inf})


# Orders of unknown outcome ------------------------------------------------------------------------


def test_an_order_in_doubt_is_resolved_while_the_step_waits() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        server.faults.add("order/create", "accept_then_drop")
        *_, info = await env.step(LONG)
        assert len(server.requests("order/create")) == 1  # it was asked about, not sent again
        assert not journal_of(env).unresolved()
        assert [fill.client_id for fill in info["fills"]] == info["client_ids"]
        check(env, server)
        *_, info = await env.step(SHORT)
        assert info["decision"] == "flip"
        assert desk_of(env).state is TradingState.ACTIVE

    cared_for(test)


@pytest.mark.parametrize("arrived", [True, False])
def test_an_order_in_doubt_of_an_earlier_life_is_resolved_at_the_first_reset(
    arrived: bool, tmp_path: Any
) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        server.faults.add("order/create", "accept_then_drop" if arrived else "drop_before_accept")
        # The earlier life ends before anybody can ask.
        env._running.trader.unknowns.search = lambda client_id, bracket=None: None
        await env._running.act(LONG)
        (row,) = journal_of(env).unresolved()
        assert row.state is IntentState.UNKNOWN
        again = another_life(env, venue)
        _, info = await again.reset()
        assert not journal_of(again).unresolved()
        assert isinstance(info["position"], Held if arrived else Flat)
        assert desk_of(again).state is TradingState.ACTIVE
        assert not journal_of(again).adjustments()
        check(again, server)
        server.advance(MINUTE - server.clock.now_ms() % MINUTE)  # this bar was decided
        await again.reset()
        await again.step(LONG)
        assert server.engine.position(BTC) > 0
        check(again, server)

    cared_for(test)


# Settings and memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["bars", "rearming"])
def test_settings_are_read_back_again(after: str) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        assert len(server.requests("position/set-leverage")) == 1
        server.engine.override(BTC, long_leverage=D(2), short_leverage=D(2))
        if after == "rearming":
            await env.rearm("a person", "a test")
            await env.reset()
        else:
            env._running._steward.examiner.passed(60)
            await env.step(FLAT)
        assert desk_of(env).state is TradingState.REDUCING
        assert "settings" in desk_of(env).standing.reasons
        *_, info = await env.step(LONG)
        assert info["refused"] == "state"
        assert len(server.requests("position/set-leverage")) == 1  # nobody set it again

    cared_for(test)


def test_another_life_goes_on_with_the_level_of_the_one_before() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        await env.step(LONG)
        *_, info = await env.step(LONG)
        assert info["client_ids"] == []
        sent = len(own(server))
        again = another_life(env, venue)
        observation, info = await again.reset()
        assert observation["account_state"][3] == 2  # bars that were held
        assert info["missed_bars"] == 0
        assert desk_of(again).state is TradingState.ACTIVE
        for _ in range(2):
            *_, info = await again.step(LONG)
            assert info["client_ids"] == []
        assert len(own(server)) == sent
        check(again, server)

    cared_for(test)
