"""One self-contained HTML file about a set of policies on one range of data."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtrade.files import atomic_write
from jaxtrade.report.figures import compare_equity, figure_bytes, render_history
from jaxtrade.report.tables import details_table, metrics_table
from jaxtrade.report.verdict import Verdict, judge

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VECTOR_STATES = 1500  # longer records are drawn as pixels: a vector file would be larger
_NANOSECONDS_PER_DAY = 86_400_000_000_000

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
{metrics_table(table_rows)}
<p class="note">Where a policy was trained with several seeds, the figure is the median and the
range below it runs from the lowest to the highest seed. Returns and equity are after all costs.
Ratios are annualised for a market that is open all year.</p>
<h2>Figures</h2>
{"".join(figures) or '<p class="note">No episode was recorded.</p>'}
<h2>Details</h2>
{details_table(details)}
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
