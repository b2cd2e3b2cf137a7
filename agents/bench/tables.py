"""A table of results, and how its cells are written.

Results of an older version may lack fields; their cells stay empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
# Heading -> cell of a row; headings that begin with "<" are text, the others numbers.
Columns = dict[str, Callable[[Row], str]]


@dataclasses.dataclass(frozen=True)
class Table:
    """One table: a title, what to know about it, and cells as text; no column is empty."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, title: str, about: str, columns: Columns, rows: list[Row]) -> Table:
        """The cells of ``rows`` under ``columns``; a column of which no row knows is left out."""
        filled = {name: [cell(row) for row in rows] for name, cell in columns.items()}
        kept = {name: cells for name, cells in filled.items() if any(cells)}
        return cls(title, about, tuple(kept), tuple(zip(*kept.values(), strict=True)))


def text(key: str) -> Callable[[Row], str]:
    """A word of the row."""
    return lambda row: str(row.get(key, ""))


def number(key: str, pattern: str = ",", scale: float = 1) -> Callable[[Row], str]:
    """A number of the row, empty where there is none; with spread the median."""

    def cell(row: Row) -> str:
        value = row.get(key)
        if isinstance(value, dict):
            value = value["median"]
        if value is None:
            return ""
        return format(value if scale == 1 else value * scale, pattern)

    return cell


def extent(key: str, shown: Callable[[float], str]) -> Callable[[Row], str]:
    """Lowest and highest of a spread."""

    def cell(row: Row) -> str:
        value = row.get(key)
        return "" if value is None else f"{shown(value['low'])} - {shown(value['high'])}"

    return cell


def rate(key: str) -> Callable[[Row], str]:
    """The median of a rate."""
    return lambda row: count(row[key]["median"]) if key in row else ""


def count(value: float) -> str:
    """A rate with three significant digits and a unit: 950, 12.3 k, 4.56 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def gigabytes(value: float) -> str:
    """Bytes in units of 1e9."""
    return f"{value / 1e9:.1f}"
