"""The command ``jaxtrade sweep``: many runs in one compiled program, and one table of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.algorithms import ALGORITHMS, find
from agents.cli import INTERRUPTED, SUCCESS, USAGE, print_held_out, read_settings

# A sweep chooses by the second range, and looks at the third once.
_DEFAULTS = {"split": ("0.7", "0.85")}

_ABOUT = """\
Train many members side by side in one compiled program, and rank them on a validation range.
Every option of `jaxtrade train` is an option here, but --resume."""

_NOTES = """\
Members are judged on the validation range (the second of --split; 0.7 0.85 unless given), each with
the costs and limits of its own environment. The held-out range is looked at once, with the best
member, after it was chosen.

example: jaxtrade sweep ppo --frame btc.csv.gz --transaction-fee 0.0004 --seeds 4 \\
           --sweep learning_rate=1e-4,3e-4,1e-3 --sweep entropy_coefficient=0.001,0.01
         jaxtrade sweep ppo --random 32 --sweep "learning_rate=log(1e-5,1e-2)\""""


def sweep(argv: Sequence[str]) -> int:
    """Train many settings side by side and rank them on a validation range."""
    words = list(argv)
    named = bool(words) and words[0] in ALGORITHMS
    algorithm = words.pop(0) if named else None
    if words and not named and not words[0].startswith("-"):
        find(words[0])  # says which name is near
    parser = _parser()
    given, words = parser.parse_known_args(words)
    asked = bool({"--help", "-h"} & set(words))
    if not named and "--config" not in {word.partition("=")[0] for word in words}:
        parser.print_help(sys.stdout if asked else sys.stderr)
        return SUCCESS if asked else USAGE
    about = f"{_ABOUT} Options of the sweep itself: jaxtrade sweep --help. Learner: {{algorithm}}."
    base = read_settings(words, algorithm, "sweep", about, _DEFAULTS)
    return _sweep(base, given)


def _parser() -> argparse.ArgumentParser:
    """Of the options that `jaxtrade train` does not have."""
    parser = argparse.ArgumentParser(
        prog="jaxtrade sweep",
        usage=f"jaxtrade sweep {{{','.join(ALGORITHMS)}}} --sweep NAME=VALUES ... [OPTIONS]",
        description=_ABOUT,
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--sweep",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="a number of the learner or the environment, with values (a,b,c), uniform(a,b) or "
        "log(a,b); repeat for more, a grid of all combinations",
    )
    add("--random", type=int, metavar="N", help="draw N members instead of all combinations")
    add(
        "--members-per-program",
        type=int,
        metavar="M",
        help="members side by side, each with --seeds seeds; default 16, fewer where the memory "
        "is too small",
    )
    add("--rank-by", default="return", help="return (default) or sharpe on the validation range")
    return parser


def _sweep(base: Any, given: argparse.Namespace) -> int:
    from agents import sweep_programs, sweep_run
    from agents.progress import Progress
    from agents.sweep import Sweep, parse

    limit = given.members_per_program
    if limit is not None and limit < 1:
        raise ValueError(f"members_per_program: must be a whole number >= 1, was {limit}")
    chosen = Sweep(
        settings=parse(given.sweep),
        samples=given.random,
        seed=base.run.seed,
        rank_by=given.rank_by,
    )
    with Progress() as progress:
        with progress.notes():
            population = sweep_programs.prepare(base, chosen)
        folder = sweep_run.open_folder(base)
        progress.say(_size(population, folder))
        found = sweep_run.run(
            population, folder, limit=limit, report=progress.report, announce=progress.say
        )
    _show(population, found, folder, progress)
    return INTERRUPTED if found.interrupted else SUCCESS


def _size(population: Any, folder: Path) -> str:
    from agents import training

    settings = population.base
    updates = training.total_updates(settings)
    return (
        f"{len(population.values)} members of {settings.algorithm.upper()} in {settings.env}, "
        f"{updates:,} updates of {settings.learner.steps_per_update:,} steps for each seed; "
        f"writing to {folder}"
    )


def _show(population: Any, found: Any, folder: Path, progress: Any) -> None:
    """Print the table, what luck alone would give, and the one look at the held-out range."""
    from agents import sweep_run, sweep_table
    from agents.results import describe_range

    if not found.rows:
        progress.say("stopped before any member had learnt; nothing was written")
        return
    console, ranges = progress.console, population.prepared.ranges
    validation = describe_range(ranges.validation)
    title = f"validation: {validation['first_decision']} to {validation['end']} UTC"
    sweep_table.print_rows(found.rows, list(population.values[0]), title, console)
    files = f"{sweep_run.TABLE}, {sweep_run.SWEEP} and {sweep_run.BEST} to {folder}"
    if found.interrupted:
        progress.say(f"stopped; the members trained so far are kept; wrote {files}")
        return
    console.print(
        f"The best of {len(population.values)} policies without any skill would show a Sharpe "
        f"ratio of about {sweep_run.luck(population):.1f} there.",
        style="italic",
        highlight=False,
    )
    print_held_out(found.comparison, sweep_run.subject_of(population), ranges.test, console)
    best = folder / sweep_run.BEST
    progress.say(f"wrote {files}; train the best again: jaxtrade train --config {best}")
