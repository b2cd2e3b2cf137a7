"""One self-contained HTML file about a set of policies on one range of data."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxtrade.files import atomic_write
from jaxtrade.report.figures import compare_equity, figure_bytes, render_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VECTOR_STATES = 1500  # longer records are drawn as pixels: a vector file would be larger
_DAYS_PER_YEAR = 365
_NANOSECONDS_PER_DAY = 86_400_000_000_000

# Name of a metric -> label, kind of number. The order is that of the table.
_METRICS: dict[str, tuple[str, str]] = {
    "total_return": ("Return", "percent"),
    "annual_return": ("Annual return", "percent"),
    "volatility": ("Volatility (annual)", "percent"),
    "sharpe_ratio": ("Sharpe ratio (annual)", "ratio"),
    "sortino_ratio": ("Sortino ratio (annual)", "ratio"),
    "calmar_ratio": ("Calmar ratio", "ratio"),
    "max_drawdown": ("Max drawdown", "percent"),
    "max_drawdown_duration": ("Max drawdown, steps to the trough", "count"),
    "recovery": ("Steps from there to the old peak (-1: never)", "count"),
    "current_drawdown": ("Drawdown at the end", "percent"),
    "peak_value": ("Equity at the peak", "money"),
    "trough_value": ("Equity at the trough", "money"),
    "exposure_time": ("Time in the market", "percent"),
    "average_exposure": ("Mean exposure / equity", "ratio"),
    "num_trades": ("Round trips", "count"),
    "win_rate": ("Round trips won", "percent"),
    "avg_win": ("Mean win", "percent"),
    "avg_loss": ("Mean loss", "percent"),
    "profit_factor": ("Profit factor", "ratio"),
    "turnover": ("Turnover / mean equity", "ratio"),
    "costs": ("Costs paid", "money"),
    "open_trade": ("Position open at the end", "count"),
}

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #222;
  background: #fff; max-width: 68rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem;
  border-bottom: 1px solid #ddd; }
.verdict { border-left: 4px solid #777; background: #f5f5f5; padding: .7rem 1rem; margin: 0; }
.verdict.ahead { border-left-color: #0072B2; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .9rem .28rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #eee; }
.metrics td, .metrics thead th { text-align: right; padding: .28rem .4rem .28rem .9rem; }
.metrics thead th { border-bottom: 1px solid #999; vertical-align: bottom; }
.metrics thead th:first-child { text-align: left; padding-left: 0; }
.metrics tbody th, .details th { font-weight: 400; color: #444; }
.spread { display: block; font-size: .78rem; font-weight: 400; color: #666; white-space: nowrap; }
.note { color: #555; font-size: .88rem; }
.details td { overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.6rem; break-inside: avoid; }
figure img { width: 100%; height: auto; }
figcaption { font-size: .88rem; color: #555; }
@media print {
  @page { margin: 14mm; }
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0; }
  h2 { break-after: avoid; }
  tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  .metrics { font-size: 8.5pt; }
}
"""


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
    returns = _finite(table_rows[chosen].get("total_return"))
    if not returns.size:
        return Verdict(False, f"No verdict: {names[chosen]} has no total_return.")
    baselines = {"holding cash": 0.0}
    for k, row in enumerate(table_rows):
        values = _finite(row.get("total_return"))
        if k != chosen and values.size:
            baselines[names[k]] = float(np.median(values))
    best = max(baselines, key=lambda name: baselines[name])
    median, best_return = float(np.median(returns)), baselines[best]
    told = (
        f"{names[chosen]} returned {_percent(median)}{_seeds_told(returns)}; "
        f"{best}, the best baseline, returned {_percent(best_return)}."
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
    doubts += _sharpe_doubts(_finite(table_rows[chosen].get("sharpe_ratio")), days)
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
    low, high = _percent(returns.min()), _percent(returns.max())
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


def write_report(
    path: str | os.PathLike[str],
    title: str,
    table_rows: Sequence[Mapping[str, Any]],
    records: Mapping[str, Mapping[str, Any]],
    details: Mapping[str, Any],
    *,
    verdict: str | Verdict | None = None,
    subject: str | None = None,
) -> Path:
    """Write one HTML file that needs nothing else: table, figures and details inlined.

    Args:
      path: file to write; an existing one is replaced only once the new one is complete. Missing
        folders are created.
      title: heading.
      table_rows: one mapping per policy: ``"policy"`` is its name, every other key a metric with
        a number, or a sequence of numbers with one per seed (shown as median and range).
      records: name -> record of one episode, as `jaxtrade.trace` returns it; all are compared in
        one figure and drawn one by one.
      details: what a reader needs to repeat it: configuration, data range, costs, seeds, versions.
        Mappings in it become sections of the table.
      verdict: the sentence under the heading; None = `judge` of the rows.
      subject: ``policy`` of the row to judge; None = the first.

    Returns: the path.

    Raises:
      ValueError: for rows without a policy name, or a record that cannot be drawn.
      OSError: when the file cannot be written.
    """
    if not table_rows or any("policy" not in row for row in table_rows):
        raise ValueError("write_report: expected at least one row, each with its 'policy' name.")
    if verdict is None:
        verdict = judge(table_rows, _days(records), subject)
    text = _page(title, verdict, table_rows, records, details)
    path = Path(path)
    with atomic_write(path) as stream:
        stream.write(text.encode())
    return path


def _days(records: Mapping[str, Mapping[str, Any]]) -> float | None:
    spans = [
        float(record["bar_time"][-1] - record["bar_time"][0]) / _NANOSECONDS_PER_DAY
        for record in records.values()
        if "bar_time" in record
    ]
    return max(spans) if spans else None


def _page(
    title: str,
    verdict: str | Verdict,
    table_rows: Sequence[Mapping[str, Any]],
    records: Mapping[str, Mapping[str, Any]],
    details: Mapping[str, Any],
) -> str:
    ahead = isinstance(verdict, Verdict) and verdict.ahead
    sentence = verdict.text if isinstance(verdict, Verdict) else verdict
    figures = []
    if records:
        longest = max(len(record["equity"]) for record in records.values())
        figures.append(_figure(compare_equity(records), longest, "Equity and drawdown"))
    for name, record in records.items():
        drawn = render_history(record, return_fig=True)
        if drawn is not None:
            caption = f"{name}: price and fills, equity, exposure"
            figures.append(_figure(drawn, len(record["equity"]), caption))
    # The policy forbids every request, so that opening the file tells nobody and needs no network.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="verdict{" ahead" if ahead else ""}">{html.escape(sentence)}</p>
<h2>Results</h2>
{_metrics_table(table_rows)}
<p class="note">Where a policy was trained with several seeds, the figure is the median and the
range below it runs from the lowest to the highest seed. Returns and equity are after all costs.
Ratios are annualised for a market that is open all year.</p>
<h2>Figures</h2>
{"".join(figures) or '<p class="note">No episode was recorded.</p>'}
<h2>Details</h2>
{_details_table(details)}
</body>
</html>
"""


def _figure(figure: Figure, states: int, caption: str) -> str:
    kind, mime = ("svg", "svg+xml") if states <= _VECTOR_STATES else ("png", "png")
    data = base64.b64encode(figure_bytes(figure, kind)).decode()
    caption = html.escape(caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/{mime};base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


# ---------------------------------------------------------------------------------------------
# Tables


def _finite(values: Any) -> np.ndarray:
    if values is None:
        return np.zeros(0)
    array = np.atleast_1d(np.asarray(values, float)).ravel()
    return array[np.isfinite(array)]


def _percent(value: float) -> str:
    return _format(value, "percent")


def _format(value: float, kind: str) -> str:
    if kind == "percent":
        text = f"{100 * value:,.2f} %"
    elif kind == "count":
        text = f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
    elif kind in ("money", "ratio"):
        text = f"{value:,.2f}"
    else:
        text = f"{value:,.4g}"
    negative_zero = text.startswith("-") and not any(digit in text for digit in "123456789")
    return (text[1:] if negative_zero else text).replace("-", "\N{MINUS SIGN}")


def _metrics_table(table_rows: Sequence[Mapping[str, Any]]) -> str:
    given = {name for row in table_rows for name in row} - {"policy"}
    others = [name for row in table_rows for name in row if name not in _METRICS]
    names = [name for name in _METRICS if name in given]
    names += [name for name in dict.fromkeys(others) if name != "policy"]
    head = "".join(f'<th scope="col">{_policy(row)}</th>' for row in table_rows)
    body = []
    for name in names:
        label, kind = _METRICS.get(name, (name.replace("_", " ").capitalize(), "number"))
        cells = "".join(f"<td>{_cell(row.get(name), kind)}</td>" for row in table_rows)
        body.append(f'<tr><th scope="row">{html.escape(label)}</th>{cells}</tr>\n')
    return (
        '<div class="scroll"><table class="metrics">\n<thead><tr><th scope="col">Policy</th>'
        f"{head}</tr></thead>\n<tbody>\n{''.join(body)}</tbody></table></div>"
    )


def _policy(row: Mapping[str, Any]) -> str:
    seeds = max((np.size(value) for name, value in row.items() if name != "policy"), default=1)
    note = f'<span class="spread">{seeds} seeds</span>' if seeds > 1 else ""
    return html.escape(str(row["policy"])) + note


def _cell(values: Any, kind: str) -> str:
    if isinstance(values, str):
        return html.escape(values)
    finite = _finite(values)
    if not finite.size:
        return "n/a"
    middle = _format(float(np.median(finite)), kind)
    if np.size(values) == 1:
        return middle
    low, high = _format(float(finite.min()), kind), _format(float(finite.max()), kind)
    lost = np.size(values) - finite.size
    absent = f", {lost} n/a" if lost else ""
    return f'{middle}<span class="spread">{low} to {high}{absent}</span>'


def _details_table(details: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>\n'
        for name, value in _flattened(details)
    )
    return f'<table class="details"><tbody>\n{rows}</tbody></table>'


def _flattened(details: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in details.items():
        label = f"{prefix}{name}"
        if isinstance(value, Mapping):
            rows += _flattened(value, f"{label} \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} ")
        elif isinstance(value, list | tuple):
            rows.append((label, ", ".join(str(item) for item in value)))
        else:
            rows.append((label, str(value)))
    return rows
