"""Figures of recorded episodes: one function per figure, each returning a matplotlib figure.

The figures are drawn headless and leave the process's plotting backend alone; only showing one
(`render_history` without ``return_fig``) asks pyplot for a window.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxtrade.core.trade import CLOSED, DECREASED, INCREASED, OPENED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIQUIDATION = 1  # of exit_kind
_HISTORY_KEYS = (
    "close",
    "equity",
    "quantity",
    "event",
    "fill_price",
    "fill_quantity",
    "exit_kind",
    "exit_price",
    "leverage",
)
# Distinguishable with every common colour vision, and by line style in a black and white print.
LINE_STYLES = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#E69F00", (0, (5, 1))),
    ("#56B4E9", (0, (3, 1, 1, 1))),
    ("#000000", (0, (1, 1))),
)
_GRID: dict[str, Any] = {"color": "0.88", "linewidth": 0.6}


class Markers(NamedTuple):
    """One kind of event: where it happened, and how it is drawn.

    Attributes:
      label: in the legend. states: rows of the record [k]. prices: [k].
      marker, color, size: of matplotlib's ``scatter``.
    """

    label: str
    states: np.ndarray
    prices: np.ndarray
    marker: str
    color: str
    size: float


def event_markers(history: Mapping[str, Any]) -> list[Markers]:
    """The events of a record as marker groups, without the empty ones.

    An order appears at the bar whose close decided it, a bar exit at the bar that caused it. The
    side of a close is that of the quantity before it, so both legs of a flip are marked.
    """
    event, exit_kind = np.asarray(history["event"]), np.asarray(history["exit_kind"])
    before = np.asarray(history["quantity"], float)[:-1]
    after_order = before + np.asarray(history["fill_quantity"], float)
    step = np.arange(event.size)
    fills, exits = np.asarray(history["fill_price"]), np.asarray(history["exit_price"])
    opened, closed = (event & OPENED) != 0, (event & CLOSED) != 0
    resized, left = (event & (INCREASED | DECREASED)) != 0, exit_kind != 0

    def at(orders: np.ndarray, bar_exits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        states = np.concatenate([step[orders], step[bar_exits] + 1])
        return states, np.concatenate([fills[orders], exits[bar_exits]])

    # Closes are drawn first and larger: in a flip the opening leg lies on top of the closing one.
    none = np.zeros(event.size, bool)
    long_closed = at(closed & (before > 0), left & (after_order > 0))
    short_closed = at(closed & (before < 0), left & (after_order < 0))
    groups = [
        Markers("Long closed", *long_closed, "v", "orange", 120),
        Markers("Short closed", *short_closed, "^", "cyan", 120),
        Markers("Long opened", *at(opened & (after_order > 0), none), "^", "green", 50),
        Markers("Short opened", *at(opened & (after_order < 0), none), "v", "red", 50),
        Markers("Resized", *at(resized, none), ".", "0.25", 30),
        Markers("Liquidated", *at(none, exit_kind == _LIQUIDATION), "x", "black", 90),
    ]
    return [group for group in groups if group.states.size]


def buy_and_hold(close: np.ndarray, initial_equity: float, leverage: float) -> np.ndarray:
    """Equity [n] of holding from the first close, without costs; 0 from the first loss of all."""
    value = initial_equity * (1 + leverage * ((close - close[0]) / close[0]))
    return np.where(np.logical_or.accumulate(value <= 0), 0.0, value)


def exposure_percent(history: Mapping[str, Any]) -> np.ndarray:
    """Signed notional over equity in percent, per state; 0 without equity."""
    equity = np.asarray(history["equity"], float)
    notional = np.asarray(history["quantity"], float) * np.asarray(history["close"], float)
    alive = equity > 0
    return np.where(alive, 100 * notional / np.where(alive, equity, 1), 0.0)


def _time_axis(history: Mapping[str, Any], rows: int) -> np.ndarray:
    if "bar_time" not in history:
        return np.arange(rows)
    return np.asarray(history["bar_time"], "int64").astype("datetime64[ns]")


def _check(history: Mapping[str, Any]) -> None:
    if not history or ("event" in history and np.size(history["event"]) == 0):
        raise ValueError("render_history: the history has no rows.")
    absent = [name for name in _HISTORY_KEYS if name not in history]
    if absent:
        raise ValueError(
            f"render_history: the history has no {', '.join(absent)}; "
            "pass what jaxtrade.trace returns."
        )


def render_history(
    history: Mapping[str, Any], return_fig: bool = False, plot_bh_baseline: bool = True
) -> Figure | None:
    """Draw an episode: price with fills, equity beside buy-and-hold, exposure.

    Args:
      history: record of one episode, as `jaxtrade.trace` returns it.
      return_fig: return the figure instead of showing it.
      plot_bh_baseline: also draw holding from the first close at the account's leverage.

    Returns: the matplotlib figure (12 x 10 inches) when ``return_fig``, else None.

    Raises:
      ValueError: for a record without a step or without a column that is drawn.
    """
    _check(history)
    if return_fig:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 10), layout="constrained")
        _draw_history(figure, history, plot_bh_baseline)
        return figure
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(12, 10), layout="constrained")
    _draw_history(figure, history, plot_bh_baseline)
    plt.show()
    if plt.get_backend().lower() == "agg":
        plt.close(figure)  # it was never shown, so nobody else will close it
        warnings.warn(
            "render_history: there is no display; pass return_fig=True and save the figure.",
            UserWarning,
            stacklevel=2,
        )
    return None


def _draw_history(figure: Figure, history: Mapping[str, Any], baseline: bool) -> None:
    price, equity, exposure = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2, 1]}
    )
    close = np.asarray(history["close"], float)
    value = np.asarray(history["equity"], float)
    leverage = float(np.asarray(history["leverage"]))
    time = _time_axis(history, close.size)

    price.plot(time, close, color="0.35", linewidth=1.0, label="Price")
    for group in event_markers(history):
        outline = {} if group.marker == "x" else {"edgecolors": "0.15", "linewidths": 0.5}
        price.scatter(
            time[group.states],
            group.prices,
            marker=group.marker,
            c=group.color,
            s=group.size,
            label=group.label,
            zorder=3,
            **outline,
        )
    _finish(price, "Price")

    equity.plot(time, value, color="#0072B2", linewidth=1.3, label="Equity")
    if baseline:
        equity.plot(
            time,
            buy_and_hold(close, value[0], leverage),
            color="0.45",
            linewidth=1.0,
            linestyle="--",
            label=f"Buy and hold ({leverage:g}x)",
        )
    _finish(equity, "Equity")

    share = exposure_percent(history)
    # The value of a state was held through the bar that led to it, hence step="pre"; both areas
    # run over all states, because a flip from one to the next has no state at 0 in between.
    for part, color in ((np.maximum(share, 0), "green"), (np.minimum(share, 0), "red")):
        exposure.fill_between(time, part, 0, step="pre", color=color, alpha=0.45, linewidth=0)
    exposure.axhline(0, color="0.35", linewidth=0.8)
    _finish(exposure, "Exposure (%)", legend=False)
    _label_time(exposure, time)


def _finish(axes: Axes, label: str, legend: bool = True) -> None:
    axes.set_ylabel(label)
    axes.grid(**_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    if legend:
        axes.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="0.85", fontsize=9)


def _label_time(axes: Axes, time: np.ndarray) -> None:
    if time.dtype.kind != "M":
        axes.set_xlabel("Bar")
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel("Start of the bar (UTC)")


def compare_equity(records: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Equity of several records over their first value, on a log axis, and their drawdowns."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(12, 6.5), layout="constrained")
    growth, fall = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    time, lowest, highest = np.zeros(0), 1.0, 1.0
    for k, (name, record) in enumerate(records.items()):
        equity = np.asarray(record["equity"], float)
        time = _time_axis(record, equity.size)
        color, style = LINE_STYLES[k % len(LINE_STYLES)]
        share = np.where(equity > 0, equity / equity[0], np.nan)  # a logarithm ends at ruin
        lowest, highest = min(lowest, np.nanmin(share)), max(highest, np.nanmax(share))
        growth.plot(time, share, label=name, color=color, linestyle=style, linewidth=1.4)
        depth = 100 * (equity / np.maximum.accumulate(equity) - 1)
        fall.plot(time, depth, color=color, linestyle=style, linewidth=1.4)
    growth.axhline(1, color="0.5", linewidth=0.8)
    _finish(growth, "Equity / initial")
    _finish(fall, "Drawdown (%)", legend=False)
    if highest > 3 * lowest:  # below that a logarithm looks straight and has too few round numbers
        growth.set_yscale("log")
        growth.set_ylabel("Equity / initial (log)")
        plain = FuncFormatter(lambda value, position: f"{value:g}")
        growth.yaxis.set_major_formatter(plain)
        growth.yaxis.set_minor_formatter(plain if highest < 20 * lowest else NullFormatter())
    _label_time(fall, time)
    return figure


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as a "png" (150 dots per inch) or "svg" file, the same bytes on every run."""
    from io import BytesIO

    import matplotlib as mpl

    unstamped: dict[str, Any] = {"Software": None}
    if kind == "svg":
        unstamped = {"Date": None, "Creator": None, "Format": None, "Type": None}
    stream = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "jaxtrade"}):
        figure.savefig(stream, format=kind, dpi=150, metadata=unstamped)
    return stream.getvalue()
