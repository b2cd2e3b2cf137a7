"""render_history and the comparison of equity curves, read back from the drawn figure."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jaxtrade.report import figures, render_history


def history() -> dict[str, Any]:
    """A long, resized and closed; a short that flips to a long; the bar liquidates it."""
    return {
        "bar_time": np.arange(8, dtype=np.int64) * 3_600_000_000_000,
        "close": np.array([100.0, 101, 102, 103, 104, 90, 60, 61]),
        "equity": np.array([1000.0, 1010, 1020, 1030, 1030, 1100, 700, 700]),
        "quantity": np.array([0.0, 10, 5, 0, -5, 20, 0, 0]),
        "event": np.array([2, 8, 1, 2, 3, 0, 16], np.int32),
        "fill_price": np.array([100.1, 101, 102, 103, 104, np.nan, np.nan]),
        "fill_quantity": np.array([10.0, -5, -5, -5, 25, 0, 0]),
        "exit_kind": np.array([0, 0, 0, 0, 0, 1, 0], np.int32),
        "exit_price": np.array([np.nan] * 5 + [70.0, np.nan]),
        "leverage": np.array(5.0),
    }


def test_markers_lie_where_the_events_happened() -> None:
    found = {group.label: group for group in figures.event_markers(history())}
    expected = {
        "Long opened": ([0, 4], [100.1, 104], "^", "green"),
        "Short opened": ([3], [103], "v", "red"),
        "Long closed": ([2, 6], [102, 70], "v", "orange"),
        "Short closed": ([4], [104], "^", "cyan"),
        "Resized": ([1], [101], ".", "0.25"),
        "Liquidated": ([6], [70], "x", "black"),
    }
    assert set(found) == set(expected)
    for label, (states, prices, marker, color) in expected.items():
        group = found[label]
        assert (group.states.tolist(), group.prices.tolist()) == (states, prices), label
        assert (group.marker, group.color) == (marker, color)


def test_entry_and_exit_in_one_step_are_both_marked() -> None:
    record = history()
    record["exit_kind"][3], record["exit_price"][3] = 2, 105.0  # the new short is stopped out
    found = {group.label: group for group in figures.event_markers(record)}
    assert found["Short opened"].states.tolist() == [3]
    assert (4, 105.0) in zip(
        found["Short closed"].states, found["Short closed"].prices, strict=True
    )


def test_three_panels_of_the_specified_shape() -> None:
    figure = render_history(history(), return_fig=True)
    assert figure is not None
    price, equity, exposure = figure.axes
    assert figure.get_size_inches().tolist() == [12, 10]
    assert price.get_gridspec().get_height_ratios() == [3, 2, 1]
    assert price.get_shared_x_axes().joined(price, exposure)
    assert price.get_shared_x_axes().joined(price, equity)
    record = history()
    np.testing.assert_array_equal(price.lines[0].get_ydata(), record["close"])
    np.testing.assert_array_equal(equity.lines[0].get_ydata(), record["equity"])
    times = price.lines[0].get_xdata(orig=True)
    np.testing.assert_array_equal(times.astype("int64"), record["bar_time"])
    scattered = {collection.get_label(): collection for collection in price.collections}
    assert tuple(scattered["Long closed"].get_facecolor()[0]) == to_rgba("orange")
    offsets = scattered["Long opened"].get_offsets()
    np.testing.assert_allclose(offsets[:, 1], [100.1, 104])


def test_buy_and_hold_is_leveraged_and_stays_at_zero() -> None:
    figure = render_history(history(), return_fig=True)
    assert figure is not None
    line = figure.axes[1].lines[1]
    # 5x from 100: 90 leaves half, 60 loses all; the price's recovery does not bring it back.
    np.testing.assert_allclose(line.get_ydata(), [1000, 1050, 1100, 1150, 1200, 500, 0, 0])
    assert line.get_label() == "Buy and hold (5x)"
    recovering = figures.buy_and_hold(np.array([100.0, 80, 200]), 1000.0, 5.0)
    assert recovering.tolist() == [1000, 0, 0]
    fractional = render_history({**history(), "leverage": 1.5}, return_fig=True)
    assert fractional is not None
    assert fractional.axes[1].lines[1].get_label() == "Buy and hold (1.5x)"


def test_buy_and_hold_can_be_left_out() -> None:
    figure = render_history(history(), return_fig=True, plot_bh_baseline=False)
    assert figure is not None
    assert len(figure.axes[1].lines) == 1


def test_exposure_is_signed_coloured_and_zero_without_equity() -> None:
    record = history()
    share = figures.exposure_percent(record)
    np.testing.assert_allclose(share[:3], [0, 100, 50])
    assert share[4] == pytest.approx(-100 * 5 * 104 / 1030)
    record["equity"][5] = -1
    assert figures.exposure_percent(record)[5] == 0
    figure = render_history(record, return_fig=True)
    assert figure is not None
    above, below = figure.axes[2].collections
    assert tuple(above.get_facecolor()[0])[:3] == to_rgba("green")[:3]
    assert tuple(below.get_facecolor()[0])[:3] == to_rgba("red")[:3]
    heights = [path.vertices[:, 1] for path in above.get_paths()]
    depths = [path.vertices[:, 1] for path in below.get_paths()]
    assert np.min(heights) == 0
    assert np.max(depths) == 0
    assert np.min(depths) == pytest.approx(share[4])


def test_exposure_of_a_single_bar_after_a_flip_is_drawn() -> None:
    figure = render_history(history(), return_fig=True)
    assert figure is not None
    (area,) = figure.axes[2].collections[0].get_paths()
    share = figures.exposure_percent(history())
    assert area.vertices[:, 1].max() == pytest.approx(share[5])  # the only bar of the long


@pytest.mark.parametrize("empty", [{}, {"event": np.zeros(0, np.int32), "close": np.ones(1)}])
def test_empty_history(empty: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        render_history(empty, return_fig=True)
    assert str(caught.value) == "render_history: the history has no rows."


def test_missing_columns_are_named() -> None:
    record = history()
    del record["close"], record["leverage"]
    with pytest.raises(ValueError) as caught:
        render_history(record)
    assert str(caught.value) == (
        "render_history: the history has no close, leverage; pass what jaxtrade.trace returns."
    )


def test_drawing_leaves_the_plotting_backend_alone() -> None:
    code = (
        "import sys, jaxtrade.report\n"
        "assert 'matplotlib' not in sys.modules, 'imported too early'\n"
        "from tests.report.test_figures import history\n"
        "import matplotlib\n"
        "matplotlib.rcParams['backend'] = 'svg'\n"
        "figure = jaxtrade.report.render_history(history(), return_fig=True)\n"
        "jaxtrade.report.figures.figure_bytes(figure, 'png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'a backend was chosen'\n"
        "assert matplotlib.rcParams['backend'] == 'svg'\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_showing_returns_nothing_and_leaves_no_open_figure() -> None:
    import matplotlib.pyplot as plt

    if mpl.get_backend().lower() != "agg":
        pytest.skip("needs the backend without a display")
    before = plt.get_fignums()
    with pytest.warns(UserWarning, match="there is no display; pass return_fig=True"):
        assert render_history(history()) is None
    assert plt.get_fignums() == before


def test_a_record_without_times_counts_bars() -> None:
    record = history()
    del record["bar_time"]
    figure = render_history(record, return_fig=True)
    assert figure is not None
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), np.arange(8))
    assert figure.axes[2].get_xlabel() == "Bar"


def test_comparison_starts_at_one_and_ends_at_ruin() -> None:
    ruined = {**history(), "equity": np.array([500.0, 400, 300, 200, 100, 50, 0, 0])}
    figure = figures.compare_equity({"policy": history(), "ruined": ruined})
    growth, fall = figure.axes
    assert growth.get_yscale() == "log"
    np.testing.assert_allclose(growth.lines[0].get_ydata()[:2], [1, 1.01])
    assert np.isnan(growth.lines[1].get_ydata()[-2:]).all()
    assert fall.lines[1].get_ydata()[-1] == -100
    styles = {(line.get_color(), line.get_linestyle()) for line in growth.lines[:2]}
    assert len(styles) == 2
    calm = figures.compare_equity({"policy": history()})
    assert calm.axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_bytes_are_the_same_on_every_run(kind: str, start: bytes) -> None:
    drawn = [render_history(history(), return_fig=True) for _ in range(2)]
    first, second = (figures.figure_bytes(figure, kind) for figure in drawn if figure is not None)
    assert first.startswith(start)
    assert first == second
