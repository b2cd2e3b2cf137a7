"""One small market and learner, compiled once for the tests of this folder."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import pytest

from agents import learner as learning
from agents import ppo
from agents.networks import Normalizer
from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig

SMALL = ppo.PPOConfig(
    num_envs=16,
    rollout_steps=12,
    epochs=2,
    minibatches=2,
    hidden_sizes=(16, 8),
    channels=(4, 4),
)


def hours(rows: int = 500, seed: int = 0) -> pd.DataFrame:
    """A random walk of hourly bars."""
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 0.005, rows)))
    opening = np.concatenate([[100.0], close[:-1]])
    wick = np.abs(generator.normal(0, 0.002, (2, rows)))
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-01-01", periods=rows, freq="h"),
            "open": opening,
            "high": np.maximum(opening, close) * (1 + wick[0]),
            "low": np.minimum(opening, close) * (1 - wick[1]),
            "close": close,
            "volume": generator.uniform(1, 2, rows),
        }
    )


def config(**changes: Any) -> SequentialTradingEnvConfig:
    """Two frames, leverage and costs; episodes of 20 steps."""
    fields: dict[str, Any] = {
        "time_frames": ("4hour", "1hour"),  # not in the order of their keys
        "window_sizes": (3, 6),
        "leverage": 3,
        "transaction_fee": 0.0005,
        "slippage": 0.0005,
        "initial_cash": (5_000, 15_000),
        "max_steps": 20,
    }
    return SequentialTradingEnvConfig(**{**fields, **changes})


class Small(NamedTuple):
    """An environment, its learner and what they run on."""

    env: SequentialTradingEnv
    learner: ppo.PPO
    params: Any
    normalizer: Normalizer
    config: ppo.PPOConfig

    def start(self, seed: int = 0) -> ppo.TrainState:
        """A new state, safe to donate."""
        return learning.start(
            self.learner, jax.random.key(seed), self.config.traced(), self.params, self.normalizer
        )

    def chunk(self, state: ppo.TrainState, length: int = 2) -> tuple[ppo.TrainState, Any]:
        """``length`` updates."""
        return learning.train_chunk(
            state, self.config.traced(), self.params, learner=self.learner, length=length
        )


@pytest.fixture(scope="session")
def small() -> Small:
    """The small learner."""
    env = SequentialTradingEnv(hours(), config())
    train, _ = env.market.split("2024-01-16")
    learner = ppo.PPO.create(env, SMALL)
    return Small(env, learner, env.params(train), Normalizer.fit(train), SMALL)
