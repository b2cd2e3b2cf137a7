"""Learners end to end: decisions per second with collecting, learning and everything between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax

from agents.grpo import GRPO, GRPOConfig
from agents.learner import Learner, LearnerConfig, start, train_chunk
from agents.networks import Normalizer, count_parameters
from agents.outcomes import params_of
from agents.ppo import PPO, PPOConfig
from jaxtrade.market import Market
from tests.benchmarks import decisions
from tests.benchmarks.environments import environment
from tests.benchmarks.timing import program_megabytes, spread

UPDATES = 4


def learners(market: Market, repeats: int) -> Iterator[dict[str, Any]]:
    """One row per learner, each with the default network on the four-frame setting."""
    ppo, env = PPOConfig(), environment(market, "index")
    yield _row("PPO", PPO.create(env, ppo), ppo, env, repeats)
    one_step = decisions.environment(market, rollout_steps=24)
    for outcomes in ("simulate", "table"):
        grpo = GRPOConfig(outcomes=outcomes)
        learner = GRPO.create(one_step, grpo)
        yield _row(f"GRPO, one step, {outcomes}", learner, grpo, one_step, repeats)


def _row(
    what: str, learner: Learner, config: LearnerConfig, env: Any, repeats: int
) -> dict[str, Any]:
    """``UPDATES`` updates per timed chunk; a repeat continues where the one before stopped."""
    traced = config.traced()
    params = params_of(learner.env, env.default_params)
    state = start(learner, jax.random.key(0), traced, params, Normalizer.fit(env.market))
    begin = time.perf_counter()
    lowered = train_chunk.lower(state, traced, params, learner=learner, length=UPDATES)
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - begin
    parameters = count_parameters(state.params)
    state, _ = jax.block_until_ready(compiled(state, traced, params))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, traced, params))
        seconds.append(time.perf_counter() - begin)
    steps = UPDATES * config.steps_per_update
    return {
        "what": what,
        "steps_per_update": config.steps_per_update,
        "epochs": getattr(config, "epochs", 1),
        "parameters": parameters,
        "steps_per_second": spread([steps / second for second in seconds]),
        "seconds_per_update": spread(seconds)["median"] / UPDATES,
        "compile_seconds": compile_seconds,
        "program_megabytes": program_megabytes(compiled),
    }
