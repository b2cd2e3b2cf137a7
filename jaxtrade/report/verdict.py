"""What the results of a policy beside its baselines allow to say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxtrade.report.tables import finite, percent

_DAYS_PER_YEAR = 365


class Verdict(NamedTuple):
    """What the numbers allow to say.

    Attributes:
      ahead: the policy was ahead of every baseline by more than its noise.
      text: one or two sentences, plain text.
    """

    ahead: bool
    text: str


def judge(
    table_rows: Sequence[Mapping[str, Any]], days: float | None = None, subject: str | None = None
) -> Verdict:
    """Compare one policy's total return with the best of the others and of holding cash.

    It counts as ahead only when every seed beats that baseline and the median Sharpe ratio exceeds
    1.96 standard errors, sqrt(365 / days): over one range that is needed, though not enough.

    Args:
      table_rows: as for `write_report`.
      days: length of the range; None = unknown, then nothing counts as ahead.
      subject: ``policy`` of the row to judge; None = the first row.

    Raises:
      ValueError: when there is no such row.
    """
    names = [str(row.get("policy", "")) for row in table_rows]
    if not names or (subject is not None and subject not in names):
        raise ValueError(f"judge: no row has the policy {subject!r}; there are {names}.")
    chosen = 0 if subject is None else names.index(subject)
    returns = finite(table_rows[chosen].get("total_return"))
    if not returns.size:
        return Verdict(False, f"No verdict: {names[chosen]} has no total_return.")
    baselines = {"holding cash": 0.0}
    for k, row in enumerate(table_rows):
        values = finite(row.get("total_return"))
        if k != chosen and values.size:
            baselines[names[k]] = float(np.median(values))
    best = max(baselines, key=lambda name: baselines[name])
    median, best_return = float(np.median(returns)), baselines[best]
    told = (
        f"{names[chosen]} returned {percent(median)}{_seeds_told(returns)}; "
        f"{best}, the best baseline, returned {percent(best_return)}."
    )
    if median <= best_return:
        return Verdict(False, f"No edge shown. {told}")
    doubts = []
    unknown = np.size(table_rows[chosen]["total_return"]) - returns.size
    if unknown:
        doubts.append(f"{unknown} more seeds have no finite return")
    losing = int((returns <= best_return).sum())
    if losing:
        doubts.append(f"{losing} of {returns.size} seeds did not beat it")
    doubts += _sharpe_doubts(finite(table_rows[chosen].get("sharpe_ratio")), days)
    if doubts:
        return Verdict(False, f"No edge shown. {told} But {', and '.join(doubts)}.")
    return Verdict(
        True,
        f"Ahead of every baseline on this range. {told} One range is no proof: "
        "confirm it on data that no decision has looked at.",
    )


def _seeds_told(returns: np.ndarray) -> str:
    if returns.size == 1:
        return ""
    low, high = percent(returns.min()), percent(returns.max())
    return f" (median of {returns.size} seeds, {low} to {high})"


def _sharpe_doubts(sharpe: np.ndarray, days: float | None) -> list[str]:
    if not sharpe.size or not days or days <= 0:
        return ["the Sharpe ratio or the length of the range is unknown"]
    noise, value = 1.96 * math.sqrt(_DAYS_PER_YEAR / days), float(np.median(sharpe))
    if value > noise:
        return []
    return [
        f"its annual Sharpe ratio of {value:.2f} lies within the noise of {days:.0f} days "
        f"(0 ± {noise:.2f}, 95 %)".replace("-", "\N{MINUS SIGN}")
    ]
