"""The table of a sweep: a row per member, medians over its seeds, the best on validation first."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from jaxtrade.files import atomic_write

Row = dict[str, Any]

# Column after "validation_" or "test_" -> metric of `jaxtrade.metrics.summarize`.
METRICS = {
    "return": "total_return",
    "sharpe": "sharpe_ratio",
    "max_drawdown": "max_drawdown",
    "trades": "num_trades",
}
_COLUMNS = (
    ("training_return", "training\nreturn", "{:+.4f}"),
    ("validation_return", "validation\nreturn", "{:+.1%}"),
    ("validation_sharpe", "Sharpe\nannual", "{:+.1f}"),
    ("validation_max_drawdown", "max\ndrawdn", "{:.1%}"),
    ("validation_trades", "trades", "{:.0f}"),
)
_PRINTED = 30
_EULER = 0.5772156649015329


def row_of(
    number: int,
    values: Mapping[str, float],
    updates: int,
    history: Sequence[Mapping[str, Any]],
    metrics: Sequence[Mapping[str, float]],
    failed: np.ndarray,
) -> Row:
    """The row of one member.

    Args:
      number: of the member. values: name -> value of what is swept. updates: done.
      history: rows of progress. metrics: of each seed on the validation range.
      failed: bool [seeds], those that became infinite or NaN; the medians are over the others.
    """
    training = _last_returns(history, failed.size)
    row: Row = {
        "member": number,
        **values,
        "seeds": int(failed.size),
        "failed_seeds": int(failed.sum()),
        "updates": updates,
        "training_return": _median(training, failed),
    }
    by_seed: dict[str, list[float | None]] = {"training_return": training}
    for column, metric in METRICS.items():
        found = [_finite(one[metric]) for one in metrics]
        by_seed[f"validation_{column}"] = found
        row[f"validation_{column}"] = _median(found, failed)
    return {**row, **{f"test_{column}": None for column in METRICS}, "by_seed": by_seed}


def _last_returns(history: Sequence[Mapping[str, Any]], seeds: int) -> list[float | None]:
    """Mean return of the last chunk in which each seed finished an episode."""
    last: list[float | None] = [None] * seeds
    for row in history:
        last = [
            old if new is None else new
            for old, new in zip(last, row["return_by_seed"], strict=True)
        ]
    return last


def _median(values: Sequence[float | None], failed: np.ndarray) -> float | None:
    kept = [v for v, bad in zip(values, failed, strict=True) if not bad and v is not None]
    return float(np.median(kept)) if kept else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def ranked(rows: Sequence[Row], rank_by: str) -> list[Row]:
    """Rows, best first: trained longest, without a failed seed, then by the validation range."""

    def order(row: Row) -> tuple[int, bool, float, int]:
        value = row[f"validation_{rank_by}"]
        behind = math.inf if value is None else -value
        return (-row["updates"], row["failed_seeds"] > 0, behind, row["member"])

    return sorted(rows, key=order)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows of medians; what is not known is empty."""
    text = io.StringIO(newline="")
    names = [name for name in rows[0] if name != "by_seed"]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as stream:
        stream.write(text.getvalue().encode())


def print_rows(rows: Sequence[Row], swept: Sequence[str], title: str, console: Any) -> None:
    """Print the first rows with rich."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in ("member", *swept, *(heading for _, heading, _ in _COLUMNS)):
        table.add_column(heading, justify="right")
    for row in rows[:_PRINTED]:
        numbers = [_shown(row[name], pattern) for name, _, pattern in _COLUMNS]
        failed = f" ({row['failed_seeds']} failed)" if row["failed_seeds"] else ""
        table.add_row(f"{row['member']}{failed}", *(f"{row[name]:.4g}" for name in swept), *numbers)
    console.print(table)
    if len(rows) > _PRINTED:
        console.print(f"... and {len(rows) - _PRINTED} more in the table's file", style="dim")


def _shown(value: float | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)


def luck(count: int, days: float) -> float:
    """Annual Sharpe ratio expected of the best of ``count`` independent policies without any skill.

    Over a range of ``days``; 0 for a single policy.
    """
    if count < 2 or days <= 0:
        return 0.0
    normal = NormalDist()
    highest = (1 - _EULER) * normal.inv_cdf(1 - 1 / count)
    highest += _EULER * normal.inv_cdf(1 - 1 / (count * math.e))
    return highest * math.sqrt(365 / days)
