"""Learners end to end: decisions per second with collecting, learning and everything between."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from agents import algorithms, rollout
from agents.bench import markets, products
from agents.bench.cases import Case
from agents.bench.timing import (
    device_peak_megabytes,
    peak_megabytes,
    program_megabytes,
    spread,
)
from agents.learner import Learner, normalised, start, train_chunk
from agents.learner_config import LearnerConfig
from agents.networks import Normalizer, count_parameters
from agents.outcomes import params_of

Array = jax.Array

_CACHE_HIT = "/jax/compilation_cache/cache_hits"
# Bars that a one-step decision is exposed to.
_ONE_STEP_BARS = 24


@dataclasses.dataclass
class Prepared:
    """A learner ready to be measured; ``state`` moves on with every update."""

    learner: Learner
    config: LearnerConfig
    params: Any
    state: Any

    @property
    def traced(self) -> Any:
        """The settings as arrays."""
        return self.config.traced()


def settings(case: Case) -> LearnerConfig:
    """The learner's settings."""
    config: LearnerConfig = algorithms.find(case.algorithm).config_class(**case.config)
    return config


def prepare(case: Case, minutes: int) -> Prepared:
    """The learner of a case on its market, before the first update."""
    algorithm, config = algorithms.find(case.algorithm), settings(case)
    market = markets.market(case.setting, minutes)
    if algorithm.env == algorithms.ONE_STEP:
        env = markets.one_step(market, case.setting, _ONE_STEP_BARS)
    else:
        env = markets.environment(market, case.setting)
    learner = algorithm.learner_class.create(env, config)
    params = params_of(learner.env, env.default_params)
    key = jax.random.key(0)
    keys = key if case.seeds == 1 else jax.random.split(key, case.seeds)
    state = start(learner, keys, config.traced(), params, Normalizer.fit(market))
    return Prepared(learner, config, params, state)


def row(case: Case, minutes: int, repeats: int) -> dict[str, Any]:
    """Everything about one case; this process should measure no other."""
    ready = prepare(case, minutes)
    parameters = count_parameters(ready.state.params) // case.seeds
    buffer = buffer_bytes_per_step(ready) if case.seeds == 1 else None
    counts = None
    if case.products:
        counts = products.count(ready.learner.update, ready.state, ready.traced, ready.params)
    compiled, compile_seconds, cached_seconds = _compiled(ready, case.updates)
    update = _updates(ready, compiled)
    update()  # unmeasured
    memory = {
        "program_megabytes": program_megabytes(compiled),
        "peak_megabytes": peak_megabytes(),
        "device_peak_megabytes": device_peak_megabytes(),
    }
    # Alternately, so that both meet the same moods of the machine.
    alone = None if counts is None else products.runner(counts.certain, jax.random.key(1))
    if alone is not None:
        alone()  # unmeasured
    timed = _alternately([update] if alone is None else [update, alone], repeats)
    seconds = [second / case.updates for second in timed[0]]
    steps = ready.config.steps_per_update * case.seeds
    found = {
        "what": case.what,
        "table": case.table,
        "setting": case.setting,
        "config": {name: case.config[name] for name in sorted(case.config)},
        "num_envs": ready.config.num_envs,
        "rollout_steps": getattr(ready.config, "rollout_steps", 1),
        "seeds": case.seeds,
        "updates": case.updates,
        "steps_per_update": ready.config.steps_per_update,
        "epochs": getattr(ready.config, "epochs", 1),
        "parameters": parameters,
        "buffer_bytes_per_step": buffer,
        "steps_per_second": spread([steps / second for second in seconds]),
        "seconds_per_update": spread(seconds)["median"],
        "compile_seconds": compile_seconds,
        "cached_compile_seconds": cached_seconds,
        **memory,
    }
    return found if counts is None else {**found, **_beside(counts, seconds, timed[1])}


def _beside(counts: products.Counts, update: list[float], alone: list[float]) -> dict[str, Any]:
    """What the update's matrix products take alone, and the update in units of that."""
    return {
        "products_seconds": spread(alone)["median"],
        "update_over_products": spread([a / b for a, b in zip(update, alone, strict=True)]),
        "products_gigaflop": counts.flops / 1e9,
        "uncertain_products_gigaflop": products.flops(counts.uncertain) / 1e9,
    }


def _compiled(ready: Prepared, updates: int) -> tuple[Any, float, float | None]:
    """A chunk of updates: the program, seconds to compile it, and seconds with a filled cache.

    The second figure traces again and reads the program from the persistent cache, as a second
    run of the same command does; None where nothing was kept.
    """

    def build() -> tuple[Any, float]:
        begin = time.perf_counter()
        lowered = train_chunk.lower(
            ready.state, ready.traced, ready.params, learner=ready.learner, length=updates
        )
        return lowered.compile(), time.perf_counter() - begin

    compiled, cold = build()
    hits: list[str] = []

    def note(event: str, **details: Any) -> None:
        del details
        if event == _CACHE_HIT:
            hits.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_listener(note)
    _, again = build()
    return compiled, cold, again if hits else None


def _updates(ready: Prepared, compiled: Any) -> Callable[[], None]:
    """A chunk of updates that continues where the one before stopped, results awaited."""
    traced = ready.traced

    def run() -> None:
        ready.state, _ = jax.block_until_ready(compiled(ready.state, traced, ready.params))

    return run


def _alternately(functions: list[Callable[[], None]], repeats: int) -> list[list[float]]:
    """Seconds of each function, ``repeats`` times one after another."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, mine in zip(functions, seconds, strict=True):
            begin = time.perf_counter()
            function()
            mine.append(time.perf_counter() - begin)
    return seconds


def buffer_bytes_per_step(ready: Prepared) -> float | None:
    """Bytes that a rollout of PPO keeps per environment step; None of other learners.

    What appears under two names in an `Experience` is one array and counts once.
    """
    if not hasattr(ready.learner, "view"):
        return None
    steps, lanes = ready.config.rollout_steps, ready.config.num_envs  # type: ignore[attr-defined]  # of PPO

    def kept(state: Any, params: Any) -> Any:
        params = normalised(state.normalizer, params)
        draws = rollout.Draws.of(state.key, (steps + 1, lanes))
        seen = ready.learner.view.collect(  # type: ignore[attr-defined]  # of PPO
            ready.learner, state.params, state.lanes, draws, params, state.update
        )
        return seen._replace(lanes=(), metrics={})

    results = jax.make_jaxpr(kept)(ready.state, ready.params).jaxpr.outvars
    arrays = {id(result): result.aval for result in results}.values()
    return sum(array.size * array.dtype.itemsize for array in arrays) / (steps * lanes)
