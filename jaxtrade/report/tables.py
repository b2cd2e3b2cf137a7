"""Numbers of policies as tables of a page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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


def finite(values: Any) -> np.ndarray:
    """[N] the finite numbers of one or many; of None there are none."""
    if values is None:
        return np.zeros(0)
    array = np.atleast_1d(np.asarray(values, float)).ravel()
    return array[np.isfinite(array)]


def percent(value: float) -> str:
    """A fraction as text in per cent."""
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


def metrics_table(table_rows: Sequence[Mapping[str, Any]]) -> str:
    """HTML of the metrics, a column per policy; of several seeds the median and the range."""
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
    known = finite(values)
    if not known.size:
        return "n/a"
    middle = _format(float(np.median(known)), kind)
    if np.size(values) == 1:
        return middle
    low, high = _format(float(known.min()), kind), _format(float(known.max()), kind)
    lost = np.size(values) - known.size
    absent = f", {lost} n/a" if lost else ""
    return f'{middle}<span class="spread">{low} to {high}{absent}</span>'


def details_table(details: Mapping[str, Any]) -> str:
    """HTML of names and values; a mapping in it becomes rows under its name."""
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
