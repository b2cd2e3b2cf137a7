"""The synthetic market and the environments of the benchmarks."""

from __future__ import annotations

from typing import Any

import jax

from agents.bench.cases import ENVIRONMENTS, EXECUTE_ON, SETTINGS
from jaxtrade import OneStepTradingEnv, OneStepTradingEnvConfig, make
from jaxtrade.market import Market, synthetic


def frame(minutes: int) -> Any:
    """``minutes`` one-minute bars, the same on every machine."""
    return synthetic.minutes(jax.random.key(0), minutes)


def build(frame: Any, setting: str) -> Market:
    """The market of a setting of `cases.SETTINGS` over a frame."""
    return Market.from_frame(frame, **_seen(setting))


def market(setting: str, minutes: int) -> Market:
    """The same over ``minutes`` synthetic minutes."""
    return build(frame(minutes), setting)


def _seen(setting: str) -> dict[str, Any]:
    chosen = SETTINGS[setting]
    return {
        "time_frames": list(chosen.time_frames),
        "window_sizes": list(chosen.window_sizes),
        "execute_on": EXECUTE_ON,
        "features": chosen.features,
    }


def environment(
    market: Market, setting: str, observation: str = "index", kind: str = "levels"
) -> Any:
    """An environment of `cases.ENVIRONMENTS` with costs, episodes of at most 1000 steps."""
    name, fields = ENVIRONMENTS[kind]
    return make(
        name,
        market,
        **_seen(setting),
        leverage=5,
        initial_cash=10_000,
        transaction_fee=0.0004,
        slippage=0.001,
        max_steps=1000,
        observation=observation,
        **fields,
    )


def one_step(market: Market, setting: str, rollout_steps: int) -> OneStepTradingEnv:
    """9 bracket actions at 5x with a fee, one decision per episode."""
    config = OneStepTradingEnvConfig(
        **_seen(setting),
        leverage=5,
        transaction_fee=0.0004,
        stoploss_levels=(-0.01, -0.02),
        takeprofit_levels=(0.01, 0.03),
        rollout_steps=rollout_steps,
        observation="index",
    )
    return OneStepTradingEnv(market, config)
