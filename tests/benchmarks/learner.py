"""PPO end to end: environment steps per second with collecting, learning and everything between."""

from __future__ import annotations

import time
from typing import Any

import jax

from agents.learner import start, train_chunk
from agents.networks import Normalizer, count_parameters
from agents.ppo import PPO, PPOConfig
from jaxtrade.market import Market
from tests.benchmarks.environments import environment
from tests.benchmarks.timing import program_megabytes, spread

UPDATES = 4


def ppo(market: Market, repeats: int) -> dict[str, Any]:
    """Updates of the default learner on the four-frame setting, ``UPDATES`` per timed chunk.

    A repeat continues where the one before stopped, as a training run does.
    """
    config = PPOConfig()
    env = environment(market, "index")
    learner, params = PPO.create(env, config), env.default_params
    traced = config.traced()
    state = start(learner, jax.random.key(0), traced, params, Normalizer.fit(market))

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
        "setting": (
            f"PPO, {config.num_envs:,} environments x {config.rollout_steps} steps per update, "
            f"{config.epochs} epochs of {config.minibatches} minibatches, flattened windows of "
            f"four frames into a network of {parameters:,} parameters {config.hidden_sizes}, "
            f"float32; {UPDATES} updates per compiled chunk, resets included."
        ),
        "rows": [
            {
                "what": f"PPO, {config.encoder} encoder",
                "steps_per_second": spread([steps / second for second in seconds]),
                "seconds_per_update": spread(seconds)["median"] / UPDATES,
                "compile_seconds": compile_seconds,
                "program_megabytes": program_megabytes(compiled),
            }
        ],
    }
