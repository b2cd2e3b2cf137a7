"""Every operation of every adapter under every outcome, and that no adapter is left out."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import live.env
import live.venues
from live.env import ExchangeTradingEnv
from live.exchange.opening import wall_ms
from live.types import (
    Ambiguous,
    Certainty,
    Definitive,
    Unavailable,
    Unknown,
    UnreadableError,
    confirmed_quantity,
)
from live.venue import Venue
from live.venues.codes import RefusedReadError
from tests.live import conformance
from tests.live.conformance import (
    ACCEPTED,
    ADAPTERS,
    AGAIN,
    CHANGES,
    IN_DOUBT,
    NOT_LISTED,
    OUTCOMES,
    READS,
    RIGHT,
    Adapter,
    Stage,
    refused,
    unreadable,
)
from tests.live.harness import BTC, SYMBOL, ServerClock, exchange, minutes, venue_of
from tests.live.stepping import FRAMES, HISTORY

PROJECT = Path(__file__).parents[2]


def cases(operations: Iterable[str]) -> list[Any]:
    return [
        pytest.param(kind, operation, outcome, id=f"{kind.__name__}-{operation}-{outcome}")
        for kind in ADAPTERS
        for operation in operations
        for outcome in OUTCOMES
    ]


async def struck(adapter: Adapter, stage: Stage, operation: str, outcome: str) -> int:
    """Let the outcome happen to the next request; how many there were before."""
    case, route = OUTCOMES[outcome], adapter.routes[operation]
    given = dict(case.given)
    if case.code:
        given["code"] = adapter.code(case.code, operation)
    if case.fault == "rate_limit":  # limits are of real time, in which the exchange stands still
        given["reset_ms"] = wall_ms() - stage.server.clock.now_ms() + 100
    if case.fault:
        stage.server.faults.add(route, case.fault, case.count, **given)
    if outcome == "silent":
        adapter.hurry(stage.venue)
    return len(stage.server.requests(route))


@pytest.mark.parametrize(("kind", "operation", "outcome"), cases(CHANGES))
def test_a_change_is_sent_once_and_certain_only_where_it_is(
    kind: type, operation: str, outcome: str
) -> None:
    adapter, change = ADAPTERS[kind], CHANGES[operation]

    async def test() -> None:
        async with adapter.connected() as (venue, server):
            stage = await Stage.of(adapter, venue, server)
            before = await struck(adapter, stage, operation, outcome)
            found = await change.call(stage)
            assert len(server.requests(adapter.routes[operation])) == before + 1
            match found:
                case Definitive(kind=Certainty.ACCEPTED):
                    told = ACCEPTED
                case Definitive(kind=Certainty.REJECTED):
                    told = refused(str(found.category))
                case Ambiguous():
                    told = IN_DOUBT
                case _:
                    told = str(found)
            assert told == adapter.cell(operation, outcome)
            assert change.done(stage) == OUTCOMES[outcome].done

    asyncio.run(test())


@pytest.mark.parametrize(("kind", "operation", "outcome"), cases(READS))
def test_a_read_is_right_or_says_nothing(kind: type, operation: str, outcome: str) -> None:
    adapter, read = ADAPTERS[kind], READS[operation]

    async def test() -> None:
        async with adapter.connected() as (venue, server):
            stage = await Stage.of(adapter, venue, server)
            route = adapter.routes[operation]
            before = len(server.requests(route))
            await read.call(stage)
            usual = len(server.requests(route)) - before
            before = await struck(adapter, stage, operation, outcome)
            try:
                found = await read.call(stage)
            except RefusedReadError as error:
                told = unreadable(error.category)
            except UnreadableError:
                told = unreadable()
            except ValueError:  # of a listing, and of nothing else
                told = NOT_LISTED
            else:
                more = len(server.requests(route)) - before - usual
                told = answer(stage, operation, found, more)
            assert told == adapter.cell(operation, outcome)

    asyncio.run(test())


def answer(stage: Stage, operation: str, found: object, more: int) -> str:
    """The cell of an answer; ``more`` requests than usual were made for it."""
    if isinstance(found, Unknown | Unavailable):
        return unreadable()
    assert READS[operation].right(stage, found), found
    return AGAIN if more else RIGHT


def test_the_page_says_what_the_tests_say() -> None:
    text = (PROJECT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert text == conformance.page() + "\n", (
        "docs/conformance.md is not what the cells say; write it anew with: "
        "python -m tests.live.conformance > docs/conformance.md"
    )


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def classes(package: ModuleType) -> set[type]:
    """Every class that a package's modules define."""
    return {
        one
        for module in modules(package)
        for _, one in inspect.getmembers(module, inspect.isclass)
        if one.__module__ == module.__name__
    }


ENVIRONMENTS = sorted(
    (
        one
        for one in classes(live.env)
        if issubclass(one, ExchangeTradingEnv) and one is not ExchangeTradingEnv
    ),
    key=lambda one: one.__name__,
)


@pytest.mark.parametrize("kind", ENVIRONMENTS, ids=lambda kind: kind.__name__)
def test_every_environment_trades_on_its_exchange(kind: type[ExchangeTradingEnv]) -> None:
    config = kind.config_class(**FRAMES, symbol=SYMBOL, leverage=2)

    async def test() -> None:
        server = exchange(minutes(HISTORY + 10), HISTORY)
        async with server.running():
            env = kind(config, trader=venue_of(server), clock=ServerClock(server), bar_delay=0)
            observation, info = await env.reset()
            assert {name: one.shape for name, one in observation.items()} == env.observation_shapes
            held = []
            for action in (2, 0, 2, 1):
                observation, reward, terminated, truncated, info = await env.step(action)
                assert math.isfinite(reward) and not terminated and not truncated
                assert all(np.isfinite(one).all() for one in observation.values())
                quantity = server.engine.position(BTC)
                assert confirmed_quantity(info["position"]) == quantity
                held.append(quantity)
            assert any(held), "some action opens a position"
            await env.close()

    asyncio.run(test())


def test_no_adapter_is_left_out() -> None:
    protocol = [name for name in vars(Venue) if not name.startswith("_")]
    found = {
        one
        for one in classes(live.venues)
        if all(callable(getattr(one, name, None)) for name in protocol) and hasattr(one, "name")
    }
    assert found == set(ADAPTERS)
