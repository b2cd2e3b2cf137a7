"""The HTML report: what it says, that it needs no network, that it is written whole or not."""

from __future__ import annotations

import base64
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxtrade.report import Verdict, judge, write_report
from tests.report.test_figures import history

ROWS: list[dict[str, Any]] = [
    {"policy": "ppo", "total_return": [0.1, -0.02, 0.05], "sharpe_ratio": [1.5, -0.3, 0.8]},
    {"policy": "always <flat>", "total_return": 0.0, "sharpe_ratio": 0.0},
    {"policy": "buy and hold", "total_return": -0.0301, "sharpe_ratio": float("nan")},
]
DETAILS = {"config": {"leverage": 5, "time_frames": ["1Hour", "4Hour"]}, "note": "a & b <c>"}


class _Page(HTMLParser):
    """Collects tags, links and text, and checks that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(path: Path) -> _Page:
    """The parsed report."""
    parsed = _Page()
    parsed.feed(path.read_text(encoding="utf-8"))
    assert parsed.open == []
    return parsed


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report over two records, in a folder that did not exist."""
    path = tmp_path_factory.mktemp("runs") / "new" / "report.html"
    records = {"ppo <1>": history(), "flat": history()}
    assert write_report(path, "A <title> & more", ROWS, records, DETAILS) == path
    return path


def test_report_says_what_it_was_given(report: Path) -> None:
    text = " ".join(page(report).text)
    for piece in (
        "A <title> & more",
        "always <flat>",
        "3 seeds",
        "5.00 %",
        "\N{MINUS SIGN}2.00 % to 10.00 %",
        "0.00 %",
        "\N{MINUS SIGN}3.01 %",
        "n/a",
        "Sharpe ratio (annual)",
        "config \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} leverage",
        "1Hour, 4Hour",
        "a & b <c>",
        "ppo <1>: price and fills, equity, exposure",
        "No edge shown.",
    ):
        assert piece in text, piece


def test_report_is_self_contained(report: Path) -> None:
    parsed = page(report)
    assert len(parsed.links) == 3
    assert all(link.startswith("data:image/") for link in parsed.links)
    source = report.read_text(encoding="utf-8")
    for forbidden in ("http://", "https://", "<script", "@import", "url(", "//cdn"):
        assert forbidden not in source
    assert "default-src 'none'" in source
    for link in parsed.links:
        image = base64.b64decode(link.split("base64,")[1]).decode()
        names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        names.add("http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd")
        assert set(re.findall(r"https?://[^\s\"'<>]+", image)) <= names  # names, not links


def test_long_records_are_drawn_as_pixels(tmp_path: Path) -> None:
    record = {
        name: np.tile(values, 400) if values.ndim else values for name, values in history().items()
    }
    record["bar_time"] = np.arange(3200, dtype=np.int64) * 60_000_000_000
    steps = ("event", "fill_price", "fill_quantity", "exit_kind", "exit_price")
    record |= {name: np.resize(record[name], 3199) for name in steps}
    path = write_report(tmp_path / "long.html", "Long", ROWS, {"ppo": record}, {})
    assert all(link.startswith("data:image/png") for link in page(path).links)


def test_report_is_the_same_on_every_run(report: Path, tmp_path: Path) -> None:
    records = {"ppo <1>": history(), "flat": history()}
    again = write_report(tmp_path / "again.html", "A <title> & more", ROWS, records, DETAILS)
    assert again.read_bytes() == report.read_bytes()


def test_failure_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def refuse(source: Any, target: Any) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk is full"):
        write_report(path, "New", ROWS, {}, {})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_broken_record_leaves_the_old_report(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="the history has no close"):
        write_report(path, "New", ROWS, {"ppo": {"equity": np.ones(3)}}, {})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize("rows", [[], [{"total_return": 1.0}]])
def test_rows_need_a_policy(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError) as caught:
        write_report(tmp_path / "report.html", "New", rows, {}, {})
    assert str(caught.value) == (
        "write_report: expected at least one row, each with its 'policy' name."
    )


def test_verdict_can_be_given(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", "T", ROWS, {}, {}, verdict="We <know> nothing.")
    text = " ".join(page(path).text)
    assert "We <know> nothing." in text
    assert "No edge shown" not in text


def test_numbers_are_written_for_readers(tmp_path: Path) -> None:
    rows = [
        {
            "policy": "p",
            "num_trades": 1234,
            "costs": 1234567.891,
            "max_drawdown": -1e-9,
            "own_metric": 0.000123456,
            "profit_factor": [1.0, float("nan")],
        }
    ]
    text = " ".join(page(write_report(tmp_path / "r.html", "T", rows, {}, {})).text)
    for piece in ("1,234", "1,234,567.89", "0.00 %", "0.0001235", "Own metric", "1.00, 1 n/a"):
        assert piece in text, piece
    assert "\N{MINUS SIGN}0.00" not in text


def row(name: str, *returns: float, sharpe: float = 9.0) -> dict[str, Any]:
    """A row of the table."""
    return {"policy": name, "total_return": list(returns), "sharpe_ratio": sharpe}


@pytest.mark.parametrize(
    ("rows", "days", "ahead", "words"),
    [
        ([row("a", 0.1), row("b", 0.2)], 365, False, "b, the best baseline, returned 20.00 %"),
        ([row("a", -0.1), row("b", -0.2)], 365, False, "holding cash, the best baseline"),
        ([row("a", 0.3, 0.2, 0.1), row("b", 0.15)], 365, False, "1 of 3 seeds did not beat it"),
        ([row("a", 0.3, sharpe=1.0)], 365, False, "within the noise of 365 days (0 ± 1.96, 95 %)"),
        ([row("a", 0.3)], None, False, "length of the range is unknown"),
        ([row("a", 0.3, float("nan"))], 365, False, "1 more seeds have no finite return"),
        ([row("a", float("nan"))], 365, False, "a has no total_return"),
        ([row("a", 0.3, 0.2), row("b", 0.15)], 365, True, "One range is no proof"),
        ([row("a", 0.3, 0.2), row("b", 0.3)], 365, False, "No edge shown."),
    ],
)
def test_verdict(rows: list[dict[str, Any]], days: float | None, ahead: bool, words: str) -> None:
    verdict = judge(rows, days)
    assert verdict.ahead is ahead
    assert words in verdict.text
    assert verdict.text.startswith(("No verdict", "Ahead" if ahead else "No edge shown"))


def test_verdict_of_a_named_policy() -> None:
    rows = [row("b", 0.1), row("a", 0.2, 0.3)]
    assert judge(rows, 365, "a") == Verdict(
        True,
        "Ahead of every baseline on this range. a returned 25.00 % (median of 2 seeds, 20.00 % to "
        "30.00 %); b, the best baseline, returned 10.00 %. One range is no proof: confirm it on "
        "data that no decision has looked at.",
    )
    with pytest.raises(ValueError, match="no row has the policy 'c'"):
        judge(rows, 365, "c")
