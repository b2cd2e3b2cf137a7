"""A trained policy beside its baselines on one range: records, metrics, the printed table.

Everything runs over the same bars with the same costs; buying and holding the underlying is the one
row without costs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from agents import evaluate
from agents.evaluate import Record
from jaxtrade import baselines
from jaxtrade.metrics import summarize

# Metric, heading, format of one number.
COLUMNS = (
    ("total_return", "return", "{:+.1%}"),
    ("sharpe_ratio", "Sharpe\nannual", "{:+.1f}"),
    ("sortino_ratio", "Sortino\nannual", "{:+.1f}"),
    ("max_drawdown", "max\ndrawdn", "{:.1%}"),
    ("calmar_ratio", "Calmar", "{:+.1f}"),
    ("num_trades", "trades", "{:.0f}"),
    ("turnover", "turn-\nover", "{:,.0f}"),
    ("costs", "costs\npaid", "{:,.0f}"),
)

_DAYS_PER_YEAR = 365
_NANOSECONDS_PER_DAY = 86_400_000_000_000


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows of policies over one range.

    Attributes:
      metrics: row name -> metric -> one value per seed or draw. records: row name -> one per value.
    """

    metrics: dict[str, dict[str, list[float]]]
    records: dict[str, list[Record]]

    @property
    def days(self) -> float:
        """Length of the range."""
        longest = max(
            (record["bar_time"] for records in self.records.values() for record in records), key=len
        )
        return float(longest[-1] - longest[0]) / _NANOSECONDS_PER_DAY

    def report_rows(self) -> list[dict[str, Any]]:
        """Rows as `jaxtrade.report.tearsheet.write_report` takes them."""
        return [
            {
                "policy": name,
                **{key: v[0] if len(v) == 1 else v for key, v in metrics.items()},
            }
            for name, metrics in self.metrics.items()
        ]


def compare(
    env: Any,
    policies: Mapping[str, Sequence[Record]],
    market: Any,
    *,
    random_policies: int = 32,
    seed: int = 0,
) -> Comparison:
    """Put records of policies beside the baselines over the same range.

    Holding and random actions are always among them, rules where actions and windows allow them.

    Args:
      env: trading environment that goes bar by bar (see `evaluate.evaluated`).
      policies: row name -> records (one per seed). market: host market of the range.
      random_policies, seed: number and seed of the random baseline's draws.
    """
    records: dict[str, list[Record]] = {name: list(found) for name, found in policies.items()}
    records["buy and hold (no costs)"] = [evaluate.hold_record(_whole(env, market))]
    rules = {**_rules(env), "random": baselines.random(env)}
    numbers = np.concatenate([np.arange(len(rules)), np.full(random_policies - 1, len(rules) - 1)])
    draws = evaluate.random_draws(seed, random_policies, market)
    still = np.full((len(rules) - 1, draws.shape[1]), evaluate.COST_DRAW)
    choose = evaluate.RulePolicies(tuple(rules.values()))
    # Together they are one program to compile instead of one each.
    found = evaluate.run(
        env, choose, numbers.astype(np.int32), market=market, draws=np.concatenate([still, draws])
    )
    for number, name in enumerate(rules):
        records[name] = found[number:] if name == "random" else [found[number]]
    frame = env.config.execution_frame
    metrics = {name: _metrics(found, frame) for name, found in records.items()}
    return Comparison(metrics=metrics, records=records)


def _rules(env: Any) -> dict[str, baselines.Policy]:
    """The rules that the environment's actions and windows allow, by row name.

    Those that read closes take the first time frame whose window is long enough.
    """
    candidates: list[tuple[str, Callable[[], baselines.Policy]]] = [
        ("always long", partial(baselines.always_long, env)),
        ("always flat", partial(baselines.always_flat, env)),
    ]
    for frame in env.market.spec.time_frames:
        cross = partial(baselines.moving_average_cross, env, time_frame=frame)
        reversion = partial(baselines.mean_reversion, env, time_frame=frame)
        candidates += [("moving averages", cross), ("mean reversion", reversion)]
    rules: dict[str, baselines.Policy] = {}
    for name, make in candidates:
        if name not in rules:
            with contextlib.suppress(ValueError):
                rules[name] = make()
    return rules


def _whole(env: Any, market: Any) -> Record:
    """Prices of a range: a ruined policy's record is shorter."""
    bars = slice(int(market.first), int(market.last) + 1)
    return {
        "close": np.asarray(market.ohlcv)[bars, 3],
        "bar_time": market.bar_time[bars],
        "equity": np.array([env.config.cash_range[0]]),
    }


def _metrics(records: Sequence[Record], frame: Any) -> dict[str, list[float]]:
    summaries = [summarize(record, frame) for record in records]
    return {name: [summary[name] for summary in summaries] for name in summaries[0]}


def print_table(comparison: Comparison, title: str, console: Any) -> None:
    """Print the rows with rich; of several values the median, lowest and highest."""
    from rich import box
    from rich.table import Table

    # Fits 80 columns.
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption="* without costs; of several (n): median, lowest, highest",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("policy", no_wrap=True)
    for _, heading, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for row, metrics in comparison.metrics.items():
        count = len(next(iter(metrics.values())))
        name = row.replace(" (no costs)", " *")
        if count == 1:
            table.add_row(name, *(pattern.format(metrics[key][0]) for key, _, pattern in COLUMNS))
            continue
        for label, of, style in (
            (f"{name} ({count})", np.median, None),
            ("  lowest", np.min, "dim"),
            ("  highest", np.max, "dim"),
        ):
            cells = [pattern.format(float(of(metrics[key]))) for key, _, pattern in COLUMNS]
            table.add_row(label, *cells, style=style)
    console.print(table)


def caveat(days: float) -> str:
    """How little a range of this length can show."""
    error = math.sqrt(_DAYS_PER_YEAR / days) if days > 0 else math.inf
    return (
        f"{days:.0f} days cannot show much: the standard error of an annual Sharpe ratio near zero "
        f"is sqrt(365 / days) = {error:.1f}, so that anything within ±{1.96 * error:.1f} is "
        "indistinguishable from no skill. Seeds show the spread of training, not of markets."
    )
