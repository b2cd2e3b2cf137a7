"""A sweep on disk: program after program, and after each the table of the members done so far.

A sweep's folder holds ``sweep.json`` (what was swept, the settings all members share, every row
with its seeds), ``table.csv``, ``progress.jsonl`` and at the end ``best.json``, the settings of the
best member as a configuration file of `jaxtrade train`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents import evaluate, sweep_table, training
from agents.checkpoint import git_commit, interruptible, write_json
from agents.comparison import Comparison, compare
from agents.curves import curves
from agents.results import describe_range
from agents.settings import Settings
from agents.sweep_memory import Memory, compile_for
from agents.sweep_programs import (
    Population,
    Program,
    Trained,
    judge,
    lanes_of,
    numbers_of,
    program,
    train,
)
from agents.sweep_table import Row
from jaxtrade.descriptions import versions
from jaxtrade.metrics import summarize

SWEEP, TABLE, BEST = "sweep.json", "table.csv", "best.json"


@dataclasses.dataclass
class Outcome:
    """What a sweep has found so far.

    Attributes:
      rows: of the table, best first. variables: of the first row's policies, one per seed.
      memory: of the compiled program. interrupted: whether members are missing or unfinished.
      comparison: the best member on the held-out range, beside the baselines; None before the end.
    """

    rows: list[Row] = dataclasses.field(default_factory=list)
    variables: Any = None
    memory: Memory | None = None
    interrupted: bool = False
    comparison: Comparison | None = None


def open_folder(base: Settings) -> Path:
    """Create the folder of a sweep.

    Raises:
      ValueError: the folder already holds a run or a sweep.
    """
    folder = training.folder_of(base.run)
    if (folder / SWEEP).exists() or (folder / training.CONFIG).exists():
        raise ValueError(f"{folder}: already holds a run or a sweep; choose another --name")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(
    population: Population,
    folder: Path,
    *,
    limit: int | None = None,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
    announce: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train every member, judge it on the validation range, and the best on the held-out one.

    Ctrl-C stops after the running chunk: members trained so far are judged as they are and rank
    behind those that were finished, and nothing is judged on the held-out range.

    Args:
      limit: members per program (`compile_for`).
      report: called with one pooled row of progress per chunk. announce: with lines for the user.
    """
    found = Outcome()
    count = len(population.values)
    with interruptible() as asked:
        announce("compiling (about 10 s; a second run is quicker) ...")
        compiled, size, found.memory = compile_for(population, limit, announce)
        programs = -(-count // size)
        announce(
            f"{programs} program(s) of {size} member(s), {len(population.seeds)} seed(s) each"
            + (f"; memory: {found.memory}" if found.memory else "")
        )
        for index in range(programs):
            if asked:
                break
            built = program(population, numbers_of(index, size, count))
            trained = train(built, compiled, _counted(report, index, programs), asked)
            # Without the repetitions that fill up the last program.
            numbers = list(dict.fromkeys(built.numbers)) if trained.updates else []
            _add(found, population, built, trained, numbers)
            _write(found, population, folder)
            _write_progress(population, trained, numbers, folder)
        updates = training.total_updates(population.base)
        finished = [row for row in found.rows if row["updates"] >= updates]
        found.interrupted = len(finished) < count
    if not found.interrupted:
        _hold_out(found, population)
        _write(found, population, folder)
    return found


def _counted(
    report: Callable[[dict[str, Any]], None], index: int, programs: int
) -> Callable[[dict[str, Any]], None]:
    """The same, with updates counted over all programs."""

    def tell(row: dict[str, Any]) -> None:
        total = row["updates"]
        counted = {"update": index * total + row["update"], "updates": programs * total}
        report({**row, **counted, "program": index})

    return tell


def _add(
    found: Outcome,
    population: Population,
    built: Program,
    trained: Trained,
    numbers: Sequence[int],
) -> None:
    """Judge members of a program, its first ones, and put them into the ranking."""
    if not numbers:
        return
    variables = evaluate.variables_of(trained.state)
    records = judge(population, built, variables, population.prepared.ranges.validation)
    frame, seeds = built.env.config.execution_frame, len(population.seeds)
    before = found.rows[0]["member"] if found.rows else None
    for place, number in enumerate(numbers):
        lanes = slice(place * seeds, (place + 1) * seeds)
        row = sweep_table.row_of(
            number,
            population.values[number],
            trained.updates,
            trained.history[place],
            [summarize(record, frame) for record in records[lanes]],
            trained.failed[lanes],
        )
        found.rows.append(row)
    found.rows = sweep_table.ranked(found.rows, population.sweep.rank_by)
    best = found.rows[0]["member"]
    if best != before:
        found.variables = lanes_of(variables, numbers.index(best), seeds)


def _hold_out(found: Outcome, population: Population) -> None:
    """Judge the best member on the held-out range: the only look at it, after all choices."""
    prepared, best = population.prepared, found.rows[0]
    env, market = population.judged[best["member"]], prepared.ranges.test
    choose = evaluate.NetworkPolicy(prepared.learner.network, env.continuous)
    records = evaluate.run(env, choose, found.variables, market=market)
    subject, run = subject_of(population), population.base.run
    found.comparison = compare(
        env, {subject: records}, market, random_policies=run.random_policies, seed=run.seed
    )
    metrics = found.comparison.metrics[subject]
    for column, metric in sweep_table.METRICS.items():
        best["by_seed"][f"test_{column}"] = metrics[metric]
        best[f"test_{column}"] = float(np.median(metrics[metric]))


def subject_of(population: Population) -> str:
    """Name of the policies learnt, beside the baselines."""
    return population.base.algorithm.upper()


def _write(found: Outcome, population: Population, folder: Path) -> None:
    """The table in both forms, and the settings of the best member."""
    if not found.rows:
        return
    ranges = population.prepared.ranges
    parts = {"train": ranges.train, "validation": ranges.validation, "test": ranges.test}
    sweep_table.write_csv(folder / TABLE, found.rows)
    write_json(
        folder / SWEEP,
        {
            "sweep": {**population.sweep.to_dict(), "members": len(population.values)},
            "settings": training.found_anywhere(population.base).to_dict(),
            "seeds": population.seeds,
            "ranges": {name: describe_range(part) for name, part in parts.items()},
            "memory": found.memory and dataclasses.asdict(found.memory),
            "luck": luck(population),
            "members": found.rows,
            "held_out": found.comparison and found.comparison.metrics,
            "versions": versions(),
            "commit": git_commit(),
        },
    )
    best = population.settings[found.rows[0]["member"]]
    unnamed = dataclasses.replace(best, run=dataclasses.replace(best.run, name=None))
    write_json(folder / BEST, training.found_anywhere(unnamed).to_dict())


def luck(population: Population) -> float:
    """See `sweep_table.luck`; over the validation range."""
    market: Any = population.prepared.ranges.validation
    minutes = np.asarray(market.open_minute)[[int(market.first), int(market.last)]]
    return sweep_table.luck(len(population.values), float(minutes[1] - minutes[0]) / 1440)


def _write_progress(
    population: Population, trained: Trained, numbers: Sequence[int], folder: Path
) -> None:
    """Rows of every member, and its curves where the settings ask for them."""
    with (folder / training.PROGRESS).open("a", encoding="utf-8") as stream:
        for number, rows in zip(numbers, trained.history[: len(numbers)], strict=True):
            stream.writelines(json.dumps({"member": number, **row}) + "\n" for row in rows)
    for number, rows in zip(numbers, trained.history[: len(numbers)], strict=True):
        with curves(population.settings[number], folder / f"member-{number:03d}") as draw:
            for row in rows:
                draw(row)
