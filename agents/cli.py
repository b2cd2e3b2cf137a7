"""The commands of this package: ``jaxtrade train``, ``jaxtrade evaluate``, ``jaxtrade demo``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents import processes
from agents.algorithms import ALGORITHMS, find

SUCCESS, USAGE, INTERRUPTED = 0, 2, 130

_TRAIN_HELP = """\
usage: jaxtrade train {{{names}}} [--env NAME] [--frame FILE] [OPTIONS]
       jaxtrade train --config FILE [OPTIONS]
       jaxtrade train --resume FOLDER [--total-steps N]

Train policies and write a run folder with bundle, metrics and report.

algorithms:
{algorithms}

environments (--env NAME; default {default}, for grpo {grouped}):
  {envs}

several processes: --coordinator HOST:PORT --processes N --process-index I

`jaxtrade train ALGORITHM --help` lists every option of an algorithm and of its environment.

example: jaxtrade train ppo --frame btc.csv.gz --time-frames 1min 5min 15min 1hour \\
           --window-sizes 12 8 8 24 --execute-on 5min --transaction-fee 0.0004 --leverage 5"""
# Those of jaxtrade.envs.REGISTRY, which is slow to import.
ENVIRONMENTS = ("SequentialTradingEnv", "SequentialTradingEnvSLTP", "OneStepTradingEnv")


def train(argv: Sequence[str]) -> int:
    """Train a policy and write a run folder with bundle, metrics and report."""
    words = processes.take(argv)  # joins the others before anything is imported
    named = bool(words) and words[0] in ALGORITHMS
    algorithm = words.pop(0) if named else None
    options = {word.partition("=")[0] for word in words}
    if words and not named and not words[0].startswith("-"):
        find(words[0])  # says which name is near
    if not named and not options & {"--resume", "--config"}:
        asked = bool(words) and words[0] in ("--help", "-h")
        print(_train_help(), file=sys.stdout if asked else sys.stderr)
        return SUCCESS if asked else USAGE
    from agents.flags import take_option

    resumed, words = take_option(words, "resume", "run folder to continue")
    if resumed is not None:
        return _resume(Path(resumed), words)
    about = "Train a policy with {algorithm} in {env}; --resume FOLDER continues a run."
    return _train(read_settings(words, algorithm, "train", about))


def read_settings(
    words: Sequence[str],
    algorithm: str | None,
    command: str,
    about: str,
    defaults: Mapping[str, Any] | None = None,
) -> Any:
    """`Settings` from --config, --env and a flag for every other field.

    Args:
      algorithm: None where --config names it. about: what ``jaxtrade {command}`` does, may name
        ``{algorithm}`` and ``{env}``. defaults: in the place of those of `RunSettings`.
    """
    from agents import flags, settings

    config, words = flags.take_option(words, "config", "settings as .json or .toml")
    env, words = flags.take_option(words, "env", "environment")
    values = {} if config is None else settings.read_config(config)
    values["run"] = {**(defaults or {}), **values.get("run", {})}
    base = settings.Settings.from_dict(values, algorithm, env)
    return flags.parse_flags(
        words,
        base,
        f"jaxtrade {command} {base.algorithm}",
        f"{about.format(algorithm=base.algorithm, env=base.env)} --env NAME chooses another of "
        f"{', '.join(ENVIRONMENTS)}. --config FILE (.json or .toml, for example a run's "
        "config.json) gives defaults for every option.",
    )


def _train_help() -> str:
    lines = [f"  {name:<5} {algorithm.note}" for name, algorithm in ALGORITHMS.items()]
    return _TRAIN_HELP.format(
        names=",".join(ALGORITHMS),
        algorithms="\n".join(lines),
        envs=", ".join(ENVIRONMENTS),
        default=ALGORITHMS["ppo"].env,
        grouped=ALGORITHMS["grpo"].env,
    )


def _resume(folder: Path, words: list[str]) -> int:
    import dataclasses

    from agents import settings as settings_module
    from agents.training import CONFIG

    parser = argparse.ArgumentParser(prog="jaxtrade train --resume FOLDER")
    parser.add_argument("--total-steps", type=int, help="train to this many steps instead")
    given = parser.parse_args(words)
    if not (folder / CONFIG).exists():
        raise FileNotFoundError(f"{folder}: holds no run ({CONFIG} is missing)")
    settings = settings_module.Settings.from_dict(settings_module.read_config(str(folder / CONFIG)))
    # The checkpoint holds the network: the one it began with is not needed any more.
    run = dataclasses.replace(settings.run, initial_policy=None)
    if given.total_steps is not None:
        run = dataclasses.replace(run, total_steps=given.total_steps)
    return _train(dataclasses.replace(settings, run=run), folder)


def _train(settings: Any, resume: Path | None = None, console: Any = None) -> int:
    """Run training with progress, then evaluate; exit code."""
    from agents import training
    from agents.progress import Progress

    with Progress(console) as progress:
        with progress.notes():
            prepared = training.prepare(settings)
        folder = training.open_folder(settings) if resume is None else resume
        if processes.is_first():
            progress.say(_about(prepared, folder))
        finished = training.train(
            prepared, folder, progress.report, progress.say, resume=resume is not None
        )
    if not processes.is_first():
        return INTERRUPTED if finished.interrupted else SUCCESS
    if finished.interrupted:
        progress.say(f"stopped and saved; continue with: jaxtrade train --resume {folder}")
        return INTERRUPTED
    progress.say(_finish(prepared, finished, folder, progress))
    return SUCCESS


def _about(prepared: Any, folder: Path) -> str:
    """The first lines of a run: data, costs, size, where the results go."""
    import jax

    from agents import training
    from agents.networks import count_parameters
    from agents.results import describe_range

    settings, env = prepared.settings, prepared.env
    config, ranges = env.config, prepared.ranges
    held = describe_range(ranges.test)
    shapes = jax.eval_shape(lambda: training.start_state(prepared).params)
    parameters = count_parameters(shapes) // len(prepared.seeds)
    updates = training.total_updates(settings)
    lines = [
        f"{settings.run.frame}: {env.market.num_bars:,} bars of {config.execution_frame}, learning "
        f"on {describe_range(ranges.train)['transitions']:,}, held out {held['transitions']:,} "
        f"({held['first_decision']} to {held['end']} UTC)",
        f"{settings.env}: fee {config.transaction_fee:g}, half spread {config.half_spread:g}, "
        f"slippage {config.slippage:g}, leverage {config.leverage:g}; {_actions(env)}",
        f"{settings.algorithm.upper()}: {parameters:,} parameters, {len(prepared.seeds)} seed(s), "
        f"{updates:,} updates of {settings.learner.steps_per_update:,} steps each; writing to "
        f"{folder}",
    ]
    if config.transaction_fee == 0 and config.half_spread == 0 and config.slippage == 0:
        lines.insert(2, "note: all costs are 0; no market is that kind (--transaction-fee 0.0004)")
    return "\n".join(lines)


def _actions(env: Any) -> str:
    """What an agent of the environment can do, in a few words."""
    described = env.action_description()
    if described["kind"] == "continuous":
        return "level in [-1, 1]"
    if described["kind"] == "levels":
        return f"levels {described['levels']}"
    return f"{len(described['rows'])} bracket actions"


def _finish(prepared: Any, finished: Any, folder: Path, progress: Any) -> str:
    from agents import results

    begin = time.perf_counter()
    found = results.finish(prepared, finished, folder)
    print_held_out(found.comparison, found.subject, prepared.ranges.test, progress.console)
    names = f"{results.BUNDLE}, {results.METRICS} and {results.REPORT}"
    return f"evaluated in {time.perf_counter() - begin:.0f} s; wrote {names} to {folder}"


def print_held_out(comparison: Any, subject: str, test: Any, console: Any) -> None:
    """Print what came out on the held-out range, and how little it can show."""
    from agents.comparison import caveat, print_table
    from agents.results import describe_range
    from jaxtrade.report.verdict import judge

    found = describe_range(test)
    title = f"held out: {found['first_decision']} to {found['end']} UTC, the same costs for all"
    print_table(comparison, title, console)
    console.print(judge(comparison.report_rows(), comparison.days, subject).text, highlight=False)
    console.print(caveat(comparison.days), style="italic", highlight=False)


def evaluate(argv: Sequence[str]) -> int:
    """Evaluate a policy bundle on prices, beside the baselines."""
    parser = argparse.ArgumentParser(
        prog="jaxtrade evaluate",
        description=evaluate.__doc__,
        epilog="example: jaxtrade evaluate runs/demo/bundle.zip --frame btc_2023.csv.gz",
    )
    parser.add_argument("bundle", help="bundle.zip written by jaxtrade train")
    parser.add_argument("--frame", required=True, help="prices: a file or a bundled sample")
    parser.add_argument("--start", help="first decision not before this date; default: all")
    parser.add_argument("--end", help="last bar ends by this date; default: all")
    parser.add_argument("--random-policies", type=int, default=32, help="draws of the baseline")
    parser.add_argument("--json", action="store_true", help="print metrics as JSON")
    parser.add_argument("--report", help="also write an HTML report to this file")
    given = parser.parse_args(list(argv))
    from rich.console import Console

    from agents import evaluate as evaluation
    from agents.comparison import caveat, compare, print_table
    from agents.ranges import between, trained_on
    from agents.results import describe_range
    from jaxtrade.bundle import Bundle

    bundle = Bundle.load(given.bundle)
    env = _environment(bundle, given.frame)
    market = between(env.market, given.start, given.end)
    records = evaluation.run(env, evaluation.BundlePolicy(bundle), market=market)
    comparison = compare(
        env, {"bundle": records}, market, random_policies=max(given.random_policies, 1)
    )
    found = describe_range(market)
    if given.json:
        print(json.dumps({"range": found, "policies": comparison.metrics}))
    else:
        console = Console(width=None if sys.stdout.isatty() else 120)
        title = f"{given.bundle}: {found['first_decision']} to {found['end']} UTC"
        print_table(comparison, title, console)
        console.print(caveat(comparison.days), style="italic")
        known = trained_on(bundle, market)
        if known:
            console.print(known, style="bold", highlight=False)
    if given.report:
        from jaxtrade.report.tearsheet import write_report

        details = {"bundle": given.bundle, "range": found, **bundle.details}
        shown = {name: rows[0] for name, rows in comparison.records.items()}
        write_report(given.report, f"{given.bundle}", comparison.report_rows(), shown, details)
    return SUCCESS


def _environment(bundle: Any, frame: str) -> Any:
    """The environment a bundle is judged in, over the prices of ``frame``."""
    from agents.evaluate import evaluated
    from agents.progress import Progress
    from agents.ranges import read_frame
    from agents.settings import environment_of
    from jaxtrade.envs.registry import find

    config = environment_of(bundle.environment, bundle.config)
    with Progress().notes():
        env = evaluated(find(bundle.environment).env(read_frame(frame), config))
    bundle.check(env)
    return env


def demo(argv: Sequence[str]) -> int:
    """Train on bundled EUR/USD hours with costs, and show the held-out part honestly."""
    from agents.demo import settings

    return _train(settings(argv))
