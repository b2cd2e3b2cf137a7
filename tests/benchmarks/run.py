"""Measure everything and rewrite the table: ``python -m tests.benchmarks.run --json FILE``.

Each group runs in its own process, so that its peak memory is its own and no compiled program of
another group is around. Results are kept per device: running on a second machine adds its rows to
the same file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

GROUPS = ("startup", "environments", "decisions", "learner", "adapters")
MINUTES = 500_000


def main() -> int:
    """Run the chosen groups, merge their rows into the JSON file and rewrite the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("--json", type=Path, help="results file to update; default: print them")
    parser.add_argument("--table", type=Path, help="page to rewrite; default: beside the JSON file")
    parser.add_argument("--only", choices=GROUPS, action="append", help="group to run; repeatable")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of every row")
    parser.add_argument("--minutes", type=int, default=MINUTES, help="rows of synthetic prices")
    parser.add_argument("--lanes", type=int, nargs="+", help="environments per row")
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # group measured in this process
    options = parser.parse_args()
    if options.worker:
        _worker(options)
        return 0
    result: dict[str, Any] = {}
    for group in options.only or GROUPS:
        print(f"measuring: {group}", file=sys.stderr)
        result.update(_run_group(group, options))
    if options.json is None:
        print(json.dumps(result, indent=1))
        return 0
    from tests.benchmarks.table import write_table

    everything = _merge(options.json, result)
    write_table(options.table or options.json.with_suffix(".md"), everything)
    return 0


def _run_group(group: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one group in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", "tests.benchmarks.run", "--worker", group]
        command += ["--json", str(path), "--repeats", str(options.repeats)]
        command += ["--minutes", str(options.minutes)]
        if options.lanes:
            command += ["--lanes", *map(str, options.lanes)]
        # Compile times are of compiling, not of reading a cache.
        environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
        if group == "environments":
            # One device per core for the sharded rows; the other rows use the first one.
            count = f"--xla_force_host_platform_device_count={os.cpu_count()}"
            environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
        subprocess.run(command, check=True, env=environment)
        return json.loads(path.read_text(encoding="utf-8"))


def _worker(options: argparse.Namespace) -> None:
    from tests.benchmarks import machine
    from tests.benchmarks.timing import device_peak_megabytes, peak_megabytes

    measurers: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "startup": _startup,
        "environments": _environments,
        "decisions": _decisions,
        "learner": _learner,
        "adapters": _adapters,
    }
    rows = measurers[options.worker](options)
    rows["peak_megabytes"] = peak_megabytes()
    rows["device_peak_megabytes"] = device_peak_megabytes()
    rows["commit"], rows["date"] = machine.commit(), machine.today()
    result = {"machine": machine.describe(), options.worker: rows}
    options.json.write_text(json.dumps(result), encoding="utf-8")


def _startup(options: argparse.Namespace) -> dict[str, Any]:
    from tests.benchmarks import startup

    rows = startup.import_times(options.repeats)
    rows += startup.market_build(_frame(options.minutes), options.repeats)
    return {"rows": rows}


def _environments(options: argparse.Namespace) -> dict[str, Any]:
    from tests.benchmarks import environments, machine

    lanes = tuple(options.lanes or environments.LANES)
    market = _market(options.minutes)
    # CartPole again at the end: how much the machine's own speed moved meanwhile.
    rows = _reported(
        itertools.chain(
            environments.cartpole(options.repeats),
            environments.trading(market, lanes, options.repeats),
            environments.cartpole(options.repeats),
        )
    )
    return {
        "minutes": options.minutes,
        "execution_bars": market.num_bars,
        "observation_bytes": environments.observation_bytes(market),
        "memory_fill_gigabytes_per_second": machine.memory_fill_gigabytes_per_second(
            options.repeats
        ),
        "rows": rows,
    }


def _decisions(options: argparse.Namespace) -> dict[str, Any]:
    from tests.benchmarks import decisions

    return decisions.one_step(_market(options.minutes), options.repeats)


def _learner(options: argparse.Namespace) -> dict[str, Any]:
    from tests.benchmarks import learner

    market = _market(options.minutes, features="default")
    return {"rows": _reported(learner.learners(market, options.repeats))}


def _adapters(options: argparse.Namespace) -> dict[str, Any]:
    from tests.benchmarks import adapters

    return {"rows": _reported(adapters.rows(_market(options.minutes), options.repeats))}


def _reported(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each told as soon as it is measured."""
    told = []
    for row in rows:
        name = " ".join(str(row[key]) for key in ("what", "loop", "lanes") if key in row)
        print(f"  {name:<40} {row['steps_per_second']['median']:>13,.0f}/s", file=sys.stderr)
        told.append(row)
    return told


def _frame(minutes: int) -> Any:
    import jax

    from jaxtrade.market import synthetic

    return synthetic.minutes(jax.random.key(0), minutes)


def _market(minutes: int, features: str = "ohlcv") -> Any:
    from jaxtrade.market import Market
    from tests.benchmarks.environments import FRAMES, WINDOWS

    return Market.from_frame(
        _frame(minutes),
        time_frames=FRAMES,
        window_sizes=WINDOWS,
        execute_on="5min",
        features=features,
    )


def _merge(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Replace this device's measured groups in the results file and return all devices."""
    everything = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    device = everything.setdefault(result["machine"]["name"], {})
    device.update(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path)
    return everything


if __name__ == "__main__":
    sys.exit(main())
