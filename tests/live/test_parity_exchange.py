"""The same actions on the environment and, through the real SDK, on the local exchange."""

from __future__ import annotations

import asyncio
import dataclasses
from decimal import Decimal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import (
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
)
from live.config.environments import BybitFuturesSLTPTradingEnvConfig, BybitFuturesTradingEnvConfig
from live.env import BybitFuturesSLTPTradingEnv, BybitFuturesTradingEnv
from live.exchange.opening import default_instrument
from tests.live.harness import HALF_SPREAD, SYMBOL, ServerClock, exchange, fine, minutes, venue_of

CASH, STEPS, HISTORY = 10_000.0, 60, 300
FRAMES = {"time_frames": ("1min", "5min"), "window_sizes": (8, 4), "execute_on": "1min"}
LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)
# Offline a target is a limit order and pays no spread; the exchange triggers a market order.
SPREADS = {False: HALF_SPREAD, True: Decimal(0)}
STOPS = {"stoploss_levels": (-0.003, -0.006), "takeprofit_levels": (0.003, 0.006)}
CASES = {
    "levels": (False, 3.0, {}),
    "levels, spot": (False, 1.0, {}),
    "brackets, fractional": (True, 3.0, {"trade_mode": "fractional"}),
    "brackets, quantity": (True, 3.0, {"trade_mode": "quantity", "quantity_per_trade": 0.2}),
    "brackets, notional": (True, 3.0, {"trade_mode": "notional", "quantity_per_trade": 9_000.0}),
}

QUICK = ("brackets, fractional",)


def configured(brackets: bool, leverage: float, fields: dict[str, Any], fee: float) -> Any:
    """Both configurations of a case."""
    actions: dict[str, Any] = STOPS if brackets else {"action_levels": LEVELS}
    offline = SequentialTradingEnvSLTPConfig if brackets else SequentialTradingEnvConfig
    live = BybitFuturesSLTPTradingEnvConfig if brackets else BybitFuturesTradingEnvConfig
    return (
        offline(
            **FRAMES,
            **actions,
            **fields,
            leverage=leverage,
            initial_cash=CASH,
            transaction_fee=fee,
            half_spread=float(SPREADS[brackets]),
            random_start=False,
            max_steps=10_000,
            observation="dict",
        ),
        live(
            **FRAMES,
            **actions,
            **fields,
            symbol=SYMBOL,
            leverage=leverage,
            equity_buffer=0.0,
            **({} if brackets else {"disaster_stop_fraction": 0.3 / leverage}),
        ),
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "exact", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["unit lots", "real lots"]
)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES],
)
def test_the_exchange_does_what_the_environment_does(name: str, exact: bool) -> None:
    brackets, leverage, fields = CASES[name]
    frame = minutes(HISTORY + STEPS + 30, volatility=0.002)
    instrument = fine() if exact else default_instrument()
    instrument = dataclasses.replace(instrument, taker_fee=Decimal("0.0004"))
    offline, config = configured(brackets, leverage, fields, 0.0004)
    server = exchange(
        frame,
        HISTORY,
        instruments=[instrument],
        initial_balance=Decimal(CASH),
        half_spread=SPREADS[brackets],
    )
    clock = ServerClock(server)
    generator = np.random.default_rng(list(CASES).index(name))

    kind = SequentialTradingEnvSLTP if brackets else SequentialTradingEnv
    with jax.enable_x64(True):
        env = kind(frame, offline)
        params = env.default_params
        actions = generator.integers(0, env.num_actions, STEPS)
        bar = HISTORY - 1
        state = env.initial_state(jnp.int32(bar), jnp.asarray(CASH, jnp.float64), params)
        step, seen = (
            jax.jit(env.transition),
            jax.jit(lambda state: env.observe(None, state, None, params)),
        )
        expected = []
        for action in actions:
            observation = jax.device_get(seen(state))
            state, *_, info = jax.device_get(step(state, jnp.int32(action), 0.5, params))
            expected.append((observation, float(info["equity"]), float(state.account.quantity)))

    async def trade() -> tuple[float, int]:
        worst, held = 0.0, 0
        async with server.running():
            twin = (BybitFuturesSLTPTradingEnv if brackets else BybitFuturesTradingEnv)(
                config, trader=venue_of(server), clock=clock, bar_delay=0, enforce_risk=False
            )
            observation, _ = await twin.reset()
            for i, (shown, equity, quantity) in enumerate(expected):
                for key in config.market_data_keys:
                    np.testing.assert_array_equal(observation[key], shown[key], err_msg=f"{i}")
                if exact:
                    np.testing.assert_allclose(
                        observation["account_state"][:4], shown["account_state"][:4], atol=1e-6
                    )
                observation, _, terminated, _, info = await twin.step(int(actions[i]))
                assert not terminated
                worst = max(worst, abs(info["equity"] - equity))
                lot = float(instrument.quantity_step)
                found = float(server.engine.position("BTCUSDT"))
                assert abs(found - quantity) <= 2.5 * lot + 1e-9 * abs(quantity), i
                held += found != 0
            await twin.close()
        return worst, held

    worst, held = asyncio.run(trade())
    assert held > STEPS // 4  # the test can fail
    # A lot of 0.001 and a tick of 0.1 at prices near 50 000, some forty trades.
    assert worst < (1e-6 if exact else 60.0)
