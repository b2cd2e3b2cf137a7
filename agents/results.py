"""What a finished run leaves behind: the comparison, metrics.json, bundle.zip and report.html."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from agents import evaluate, policies
from agents.checkpoint import fingerprint, git_commit, write_json
from agents.comparison import Comparison, caveat, compare
from agents.training import Finished, Prepared
from jaxtrade.descriptions import versions

BUNDLE, METRICS, REPORT = "bundle.zip", "metrics.json", "report.html"
# Of the last row of progress.
_KEPT = (
    "return_mean",
    "entropy",
    "kl",
    "explained_variance",
    "groups_alike",
    "error",
    "steps_per_second",
)


@dataclasses.dataclass(frozen=True)
class Results:
    """Evaluation of a run on its held-out range.

    Attributes:
      comparison: policies and baselines. subject: the row of the policies learnt.
      seed_index: the seed that went into the bundle.
    """

    comparison: Comparison
    subject: str
    seed_index: int


def finish(prepared: Prepared, finished: Finished, folder: Path) -> Results:
    """Evaluate every seed once on the held-out range and write the results.

    Policies of the one-step environment are judged in the bracket environment
    (`evaluate.evaluated`). The bundle takes the median seed, ranked on the validation range
    (without one, the training range), so that the held-out range selects nothing.
    """
    env, ranges = evaluate.evaluated(prepared.env), prepared.ranges
    subject = prepared.settings.algorithm.upper()
    choose = evaluate.NetworkPolicy(prepared.learner.network, env.continuous)
    variables = evaluate.variables_of(finished.state)
    median = 0
    if len(prepared.seeds) > 1:
        selection = ranges.train if ranges.validation is None else ranges.validation
        earlier = evaluate.run(env, choose, variables, market=selection)
        growth = [record["equity"][-1] / record["equity"][0] for record in earlier]
        median = int(np.argsort(growth)[(len(growth) - 1) // 2])
    records = evaluate.run(env, choose, variables, market=ranges.test)
    run = prepared.settings.run
    comparison = compare(
        env,
        {subject: records},
        ranges.test,
        random_policies=run.random_policies,
        seed=run.seed,
    )
    details = _details(prepared, finished, comparison, median)
    summary = {name: values[median] for name, values in comparison.metrics[subject].items()}
    bundle = policies.bundle_of(
        prepared.env,
        prepared.learner.network,
        policies.select_seed(variables, median),
        metrics=summary,
        details=details,
    )
    bundle.save(folder / BUNDLE)
    write_json(
        folder / METRICS,
        {"policies": comparison.metrics, "bundle_seed": prepared.seeds[median], **details},
    )
    results = Results(comparison, subject, median)
    _report(folder, results, details)
    return results


def _details(
    prepared: Prepared, finished: Finished, comparison: Comparison, median: int
) -> dict[str, Any]:
    ranges = prepared.ranges
    last = finished.history[-1] if finished.history else {}
    parts = {"train": ranges.train, "validation": ranges.validation, "test": ranges.test}
    return {
        "settings": prepared.settings.to_dict(),
        "ranges": {name: describe_range(part) for name, part in parts.items() if part is not None},
        "data": fingerprint(ranges.train),
        "seeds": prepared.seeds,
        "bundle_seed": prepared.seeds[median],
        "updates": int(np.max(np.asarray(finished.state.update))),
        "training": {name: last[name] for name in _KEPT if name in last},
        "caveat": caveat(comparison.days),
        "versions": versions(),
        "commit": git_commit(),
    }


def describe_range(market: Any) -> dict[str, Any]:
    """First decision and last bar of a range, UTC, and its number of transitions."""
    minutes = np.asarray(market.open_minute).astype("datetime64[m]")
    length = market.spec.execute_on.minutes
    first, last = int(market.first), int(market.last)
    return {
        "first_decision": str(minutes[first] + length),
        "end": str(minutes[last] + length),
        "transitions": last - first,
    }


def _report(folder: Path, results: Results, details: dict[str, Any]) -> None:
    from jaxtrade.report.tearsheet import write_report

    comparison = results.comparison
    records = {
        name: found[results.seed_index if name == results.subject else 0]
        for name, found in comparison.records.items()
    }
    write_report(
        folder / REPORT,
        f"jaxtrade run {folder.name}",
        comparison.report_rows(),
        records,
        details,
        subject=results.subject,
    )
