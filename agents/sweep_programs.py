"""The members of a sweep side by side: built, trained and evaluated.

A population is cut into programs of equal size, so that one is compiled. In a program the seeds of
one member follow those of the member before: lane = place of the member * seeds + seed.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from agents import evaluate, summary, training
from agents.evaluate import Record
from agents.settings import Settings
from agents.sweep import Sweep, settings_of
from agents.training import Prepared


@dataclasses.dataclass(frozen=True)
class Population:
    """Every member of a sweep, checked.

    Attributes:
      base: settings that members share. values: name -> value of what is swept, per member.
      settings: of each member.
      prepared: of the first member; the others differ in numbers. envs: one per member.
      judged: the environments in which their policies are judged (`evaluate.evaluated`).
      differing: fields of the environments' parameters that are not the same in all of them.
    """

    base: Settings
    sweep: Sweep
    values: tuple[dict[str, float], ...]
    settings: tuple[Settings, ...]
    prepared: Prepared
    envs: tuple[Any, ...]
    judged: tuple[Any, ...]
    differing: tuple[str, ...]

    @property
    def seeds(self) -> list[int]:
        """Seeds of every member."""
        return self.prepared.seeds


@dataclasses.dataclass(frozen=True)
class Program(Prepared):
    """Members that learn side by side, prepared like a run of as many seeds.

    Attributes:
      numbers: of the members.
    """

    numbers: tuple[int, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Seed of every lane."""
        return super().seeds * len(self.numbers)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a program left.

    Attributes:
      state: of all lanes. updates: done. failed: bool [lanes], a value became infinite or NaN.
      history: rows of progress (`training.progress_row`) of each member.
    """

    state: Any
    updates: int
    failed: np.ndarray
    history: list[list[dict[str, Any]]]


def prepare(base: Settings, sweep: Sweep) -> Population:
    """Check every member and build what all share.

    Raises:
      ValueError: a member's settings are wrong, or the members do not fit one program, or there is
        no validation range, or several devices are asked for.
    """
    base.run.check()
    if len(base.run.split) < 2:
        raise ValueError(
            f"split: a sweep needs a validation range to choose by, was {base.run.split}; give two "
            "values, for example --split 0.7 0.85"
        )
    if base.run.devices not in (None, 1):
        raise ValueError(
            f"devices: the members of a sweep share one, was {base.run.devices}; leave it out"
        )
    values = sweep.members()
    settings = [settings_of(base, one) for one in values]
    if len({one.environment.spot for one in settings}) > 1:
        raise ValueError(
            "leverage: 1 is spot and more is futures, which are two programs; sweep them apart"
        )
    alone = dataclasses.replace(settings[0].run, devices=1)
    prepared = training.prepare(dataclasses.replace(settings[0], run=alone))
    kind, market = type(prepared.env), prepared.env.market
    envs = [kind(market, one.environment) for one in settings]
    differing = _differing(envs, prepared.params.market)
    if differing and hasattr(prepared.params, "outcomes"):
        raise ValueError(
            'outcomes: a "table" holds the rewards of one environment, was swept over '
            f"{', '.join(differing)}; use --outcomes simulate"
        )
    return Population(
        base=base,
        sweep=sweep,
        values=tuple(values),
        settings=tuple(settings),
        prepared=prepared,
        envs=tuple(envs),
        judged=tuple(evaluate.evaluated(env) for env in envs),
        differing=differing,
    )


def _differing(envs: Sequence[Any], market: Any) -> tuple[str, ...]:
    """Fields of the parameters that are not equal in all environments."""
    first, *others = [_numbers(env.params(market)) for env in envs]
    return tuple(
        name
        for name, value in first.items()
        if any(not np.array_equal(value, other[name], equal_nan=True) for other in others)
    )


def _numbers(params: Any) -> dict[str, np.ndarray]:
    names = [field.name for field in dataclasses.fields(params) if field.name != "market"]
    return {name: np.asarray(getattr(params, name)) for name in names}


def program(population: Population, numbers: Sequence[int]) -> Program:
    """The members of these numbers, side by side."""
    prepared, seeds = population.prepared, len(population.seeds)
    chosen = [population.settings[number].learner for number in numbers]
    swept = [
        field.name
        for field in dataclasses.fields(prepared.settings.learner)
        if "range" in field.metadata
        and len({getattr(one.learner, field.name) for one in population.settings}) > 1
    ]
    own: dict[str, Any] = {
        name: np.repeat([np.float32(getattr(one, name)) for one in chosen], seeds) for name in swept
    }
    config = dataclasses.replace(prepared.settings.learner, **own)
    return Program(
        settings=dataclasses.replace(prepared.settings, learner=config),
        env=prepared.env,
        ranges=prepared.ranges,
        learner=prepared.learner,
        params=_with_own(
            prepared.params, [population.envs[number] for number in numbers], population
        ),
        normalizer=prepared.normalizer,
        initial=prepared.initial,
        numbers=tuple(numbers),
    )


def _with_own(params: Any, envs: Sequence[Any], population: Population) -> Any:
    """Parameters of one environment with the numbers of each, a row per lane."""
    dtype = params.fee.dtype
    each = [_numbers(env.params(params.market, dtype)) for env in envs]
    seeds = len(population.seeds)
    return params.replace(
        **{
            name: jax.numpy.asarray(np.repeat([one[name] for one in each], seeds, axis=0))
            for name in population.differing
        }
    )


def sizes(count: int, limit: int) -> tuple[int, int]:
    """Programs for ``count`` members, and members of each: at most ``limit``, as even as can be."""
    programs = math.ceil(count / limit)
    return programs, math.ceil(count / programs)


def numbers_of(index: int, size: int, count: int) -> list[int]:
    """Members of program number ``index``; the last is filled up by repeating its last member."""
    return [min(number, count - 1) for number in range(index * size, (index + 1) * size)]


# Training and evaluation ------------------------------------------------------------------------


def train(
    built: Program,
    compiled: Any,
    report: Callable[[dict[str, Any]], None],
    asked: Sequence[Any] = (),
) -> Trained:
    """Train the members of a program to the end, or until ``asked`` is not empty.

    Args:
      compiled: of `compile_for`. report: called with one pooled row of progress per chunk.
    """
    config = built.settings.learner.traced()
    total, length = training.total_updates(built.settings), built.settings.run.updates_per_chunk
    state = training.start_state(built)
    failed = np.zeros(len(built.seeds), bool)
    history: list[list[dict[str, Any]]] = [[] for _ in built.numbers]
    seeds = len(built.seeds) // len(built.numbers)
    done, begin = 0, time.perf_counter()
    while done < total and not asked:
        clock = time.perf_counter()
        state, metrics = compiled(state, config, built.params)
        metrics = jax.device_get(metrics)
        done += length
        failed |= summary.summarize(metrics)["nonfinite"] > 0
        report(training.progress_row(metrics, done, total, clock, begin))
        for place, rows in enumerate(history):
            lanes = slice(place * seeds, (place + 1) * seeds)
            own = {name: values[:, lanes] for name, values in metrics.items()}
            rows.append(training.progress_row(own, done, total, clock, begin))
    return Trained(state, done, failed, history)


def judge(population: Population, built: Program, variables: Any, market: Any) -> list[Record]:
    """Records of every lane over a range, each member under its own environment's numbers.

    Args:
      variables: of `evaluate.variables_of`. market: host market of the range.
    """
    env = population.judged[0]
    with jax.enable_x64(True):
        params = env.params(market, dtype=np.float64)
        envs = [population.judged[number] for number in built.numbers]
        params = _with_own(params, envs, population)
    choose = evaluate.NetworkPolicy(built.learner.network, env.continuous)
    return evaluate.run(env, choose, variables, market=market, params=params)


def lanes_of(tree: Any, place: int, seeds: int) -> Any:
    """The lanes of one member of a program, on the host."""
    return jax.tree.map(lambda x: np.asarray(x[place * seeds : (place + 1) * seeds]), tree)
