"""An environment of levels, and a local exchange that it steps on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from live.config.environments import BybitFuturesTradingEnvConfig
from live.env import BybitFuturesTradingEnv
from live.types import Balance
from tests.live.harness import SYMBOL, ServerClock, exchange, minutes, venue_of

FRAMES = {"time_frames": ("1min",), "window_sizes": (4,), "execute_on": "1min"}
LEVELS = (-1.0, 0.0, 1.0)
SHORT, FLAT, LONG = range(3)
MINUTE = 60_000
HISTORY = 80


def levels(venue: Any, *, leverage: float = 3.0, **options: Any) -> BybitFuturesTradingEnv:
    """An environment of levels; options of the configuration and of the environment."""
    arguments = (
        *("journal", "clock", "bar_delay", "look_every"),
        *("enforce_risk", "reward_function", "risk"),
    )
    given = {name: options.pop(name) for name in arguments if name in options}
    config = BybitFuturesTradingEnvConfig(
        **{**FRAMES, "symbol": SYMBOL, "transaction_fee": 0.0, **options},
        leverage=leverage,
        action_levels=LEVELS,
    )
    return BybitFuturesTradingEnv(config, trader=venue, **given)


class Told:
    """The adapter, with balances that the test may rewrite."""

    def __init__(self, venue: Any) -> None:
        self._venue = venue
        self.rewrite: Callable[[Balance], Balance] = lambda balance: balance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._venue, name)

    async def balance(self) -> Balance:
        return self.rewrite(await self._venue.balance())


def on_exchange(
    test: Callable[[Any, Any, Told], Coroutine[Any, Any, None]], **options: Any
) -> None:
    """Run a test with an environment of levels at a fresh local exchange that stands still."""

    async def run() -> None:
        server = exchange(minutes(HISTORY + 60), HISTORY)
        async with server.running():
            venue = Told(venue_of(server))
            settings = {"disaster_stop_fraction": 0.1, "transaction_fee": None, **options}
            env = levels(venue, clock=ServerClock(server), bar_delay=0, **settings)
            await test(env, server, venue)
            await env.close()

    asyncio.run(run())
