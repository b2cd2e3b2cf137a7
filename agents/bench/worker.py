"""One group, or one learner of its group, measured in this process.

``python -m agents.bench.worker learner --case "PPO, segment TCN"`` prints that row as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agents.bench import cases
from agents.bench.cases import Options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write JSON: the machine's description and the group."""
    parser = argparse.ArgumentParser(prog="python -m agents.bench.worker", description=__doc__)
    parser.add_argument("group", choices=cases.GROUPS)
    parser.add_argument("--case", help="name of the learner to measure")
    parser.add_argument("--repeats", type=int, default=Options.repeats)
    parser.add_argument("--minutes", type=int, default=Options.minutes)
    parser.add_argument("--lanes", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=Options.seeds)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="file to write; default: print")
    given = parser.parse_args(arguments)
    lanes = None if given.lanes is None else tuple(given.lanes)
    options = Options(given.repeats, given.minutes, lanes, tuple(given.seeds), given.quick)
    text = json.dumps(measured(given.group, options, given.case))
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    return 0


def measured(group: str, options: Options, case: str | None = None) -> dict[str, Any]:
    """The group's rows, where they were measured, and when.

    Raises:
      ValueError: there is no such case.
    """
    from agents.bench import machine
    from agents.bench.timing import device_peak_megabytes, peak_megabytes

    measure = {
        "machine": _machine,
        "startup": _startup,
        "environments": _environments,
        "decisions": _decisions,
        "adapters": _adapters,
    }
    found = _learner(options, case) if group == "learner" else measure[group](options)
    found |= {
        "peak_megabytes": peak_megabytes(),
        "device_peak_megabytes": device_peak_megabytes(),
        "repeats": options.repeats,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": machine.commit(),
        "date": machine.today(),
    }
    return {"machine": machine.describe(), "group": found}


def _machine(options: Options) -> dict[str, Any]:
    from agents.bench import machine

    return {"rows": _reported(machine.rows(options.repeats))}


def _startup(options: Options) -> dict[str, Any]:
    from agents.bench import startup

    rows = startup.import_times(options.repeats)
    rows += startup.market_build(options.minutes, options.repeats)
    return {"rows": _reported(rows)}


def _environments(options: Options) -> dict[str, Any]:
    from agents.bench import environments

    rows = _reported(environments.group(options))
    return {"rows": rows, **environments.details(options)}


def _decisions(options: Options) -> dict[str, Any]:
    from agents.bench import decisions, markets

    market = markets.market(decisions.SETTING, options.minutes)
    found = decisions.one_step(market, options.repeats)
    return {**found, "rows": _reported(found["rows"])}


def _adapters(options: Options) -> dict[str, Any]:
    from agents.bench import adapters, markets

    market = markets.market(adapters.SETTING, options.minutes)
    return {"rows": _reported(adapters.rows(market, options.repeats)), "note": adapters.notes()}


def _learner(options: Options, name: str | None) -> dict[str, Any]:
    known = {case.name: case for case in cases.learner_cases(options)}
    if name not in known:
        raise ValueError(f"case: must be one of {', '.join(map(repr, known))}, was {name!r}")
    from agents.bench import learners

    return {"rows": _reported([learners.row(known[name], options.minutes, options.repeats)])}


def _reported(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each told as soon as it is measured."""
    told = []
    for row in rows:
        print(f"  {_told(row)}", file=sys.stderr, flush=True)
        told.append(row)
    return told


def _told(row: dict[str, Any]) -> str:
    """One row in a few words: what it is and how quick."""
    names = {"loop": "{}", "lanes": "N={}", "num_envs": "N={}", "bars": "{} bars"}
    names |= {"devices": "devices={}", "seeds": "seeds={}"}
    parts = [row["what"], *(text.format(row[key]) for key, text in names.items() if key in row)]
    if "seconds" in row:
        speed = f"{row['seconds']['median']:.3f} s"
    elif "bytes_per_second" in row:
        speed = f"{row['bytes_per_second']['median'] / 1e9:.1f} GB/s"
    else:
        rate = row.get("steps_per_second") or row["pairs_per_second"]
        speed = f"{rate['median']:,.0f}/s"
    return f"{' '.join(parts):<60} {speed:>16}"


if __name__ == "__main__":
    sys.exit(main())
