"""Figures of a measurement: spreads, the machine, a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def spread(values: Sequence[float]) -> dict[str, float]:
    """How a quantity is distributed: number, median, 90th and 99th percentile, largest."""
    if not values:
        return {"number": 0}
    p50, p90, p99 = np.percentile(np.asarray(values, float), (50, 90, 99))
    return {
        "number": len(values),
        "p50": round(float(p50), 3),
        "p90": round(float(p90), 3),
        "p99": round(float(p99), 3),
        "max": round(float(max(values)), 3),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


def resident_mib() -> float:
    """Memory of this process that is in use now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def table(name: str, figures: Mapping[str, Any]) -> str:
    """A Markdown table of the spreads, and the other figures below it."""
    spreads = {key: value for key, value in figures.items() if isinstance(value, Mapping)}
    lines = [f"### {name}", ""]
    if spreads:
        lines += [
            "| quantity | number | median | p90 | p99 | largest |",
            "|---|---|---|---|---|---|",
        ]
        for key, value in spreads.items():
            cells = [
                str(value.get(column, "")) for column in ("number", "p50", "p90", "p99", "max")
            ]
            lines.append(f"| {key} | {' | '.join(cells)} |")
        lines.append("")
    lines += [f"{key}: {value}" for key, value in figures.items() if key not in spreads]
    return "\n".join(lines)
