"""What a Python loop through the adapters costs: one lane of gymnasium against many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxtrade.market import Market
from tests.benchmarks.environments import environment
from tests.benchmarks.timing import spread

LANES = 1024
STEPS = {1: 1000, LANES: 50}


def rows(market: Market, repeats: int) -> Iterator[dict[str, Any]]:
    """Steps per second through each adapter, observations of one flat vector, resets included."""
    from jaxtrade.adapters.gym import GymEnv
    from jaxtrade.adapters.sb3 import SB3VecEnv
    from jaxtrade.adapters.vector import GymVectorEnv

    env = environment(market, "flat")
    builders: dict[str, tuple[int, Callable[[], Callable[[Any], None]]]] = {
        "gymnasium, one lane": (1, lambda: _single(GymEnv(env))),
        "gymnasium vector": (LANES, lambda: _vector(GymVectorEnv(env, LANES))),
        "Stable-Baselines3": (LANES, lambda: _sb3(SB3VecEnv(env, LANES))),
        "Stable-Baselines3, infos=False": (
            LANES,
            lambda: _sb3(SB3VecEnv(env, LANES, infos=False)),
        ),
    }
    generator = np.random.default_rng(0)
    for what, (lanes, build) in builders.items():
        step = build()
        steps = STEPS[lanes]
        actions = generator.integers(0, env.num_actions, (steps, lanes))
        step(actions[0])  # compiles
        rates = []
        for _ in range(repeats):
            begin = time.perf_counter()
            for action in actions:
                step(action)
            rates.append(lanes * steps / (time.perf_counter() - begin))
        yield {"what": what, "lanes": lanes, "steps_per_second": spread(rates)}


def _single(env: Any) -> Callable[[Any], None]:
    env.reset(seed=0)

    def step(actions: Any) -> None:
        _, _, terminated, truncated, _ = env.step(actions[0])
        if terminated or truncated:
            env.reset()

    return step


def _vector(env: Any) -> Callable[[Any], None]:
    env.reset(seed=0)
    return lambda actions: env.step(actions)


def _sb3(env: Any) -> Callable[[Any], None]:
    env.seed(0)
    env.reset()
    return lambda actions: env.step(actions)
