"""What a Python loop through the adapters costs: one lane of gymnasium against many at once."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from agents.bench.markets import environment
from agents.bench.timing import spread
from jaxtrade.extras import missing_extra
from jaxtrade.market import Market

SETTING = "four frames"
LANES = 1024
STEPS = {1: 1000, LANES: 50}


def has_stable_baselines() -> bool:
    """Whether the optional package is installed."""
    return importlib.util.find_spec("stable_baselines3") is not None


def notes() -> str:
    """What was left out, in a sentence; empty if nothing was."""
    if has_stable_baselines():
        return ""
    return str(missing_extra("The rows of Stable-Baselines3", "stable_baselines3", "sb3"))


def rows(market: Market, repeats: int) -> Iterator[dict[str, Any]]:
    """Steps per second through each adapter, observations of one flat vector, resets included."""
    from jaxtrade.adapters.gym import GymEnv
    from jaxtrade.adapters.vector import GymVectorEnv

    env = environment(market, SETTING, "flat")
    builders: dict[str, tuple[int, Callable[[], Callable[[Any], None]]]] = {
        "gymnasium, one lane": (1, lambda: _single(GymEnv(env))),
        "gymnasium vector": (LANES, lambda: _vector(GymVectorEnv(env, LANES))),
    }
    if has_stable_baselines():
        from jaxtrade.adapters.sb3 import SB3VecEnv

        builders |= {
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
