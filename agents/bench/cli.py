"""The command ``jaxtrade bench``: measures group by group and prints, keeps and tabulates results.

Each group runs in its own process, each learner too, so that its peak memory is its own and no
compiled program of another is around. Results are kept per device: running on a second machine
adds its tables to the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.bench import cases
from agents.bench.cases import Options

SUCCESS, ERROR = 0, 1

_GROUPS_HELP = """\
groups:
  machine       memory fill and copy, on one device and on all
  startup       imports, building a market
  environments  steps per second of gymnax CartPole and of the environments, by number of
                environments and of devices
  decisions     one-step decisions: scored pairs, the table of all outcomes
  learner       PPO and GRPO end to end, beside the matrix products of the update alone; by number
                of environments and of seeds
  adapters      Python loops through gymnasium and Stable-Baselines3

example: jaxtrade bench --quick
         jaxtrade bench --only environments learner --json results.json --table results.md"""


def bench(argv: Sequence[str]) -> int:
    """Measure environments, learners and start-up on this machine; print tables."""
    given = _parser().parse_args(list(argv))
    options = _options(given)
    groups = given.only or list(cases.QUICK_GROUPS if given.quick else cases.GROUPS)
    everything, failed = _read(given.json), []
    measured: dict[str, Any] = {}
    for group in groups:
        print(f"measuring: {group}", file=sys.stderr, flush=True)
        result = _run_group(group, options)
        if result is None:
            failed.append(group)
            continue
        merge(everything, result)
        merge(measured, result)
        if given.json is not None:  # after every group: a long run may be stopped
            write(given.json, json.dumps(everything, indent=1, sort_keys=True) + "\n")
    from agents.bench import pages

    if given.table is not None:
        pages.write_page(given.table, everything)
    pages.show(measured)
    if failed:
        print(f"error: not measured: {', '.join(failed)}; see above", file=sys.stderr)
    return ERROR if failed else SUCCESS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxtrade bench",
        description=f"{bench.__doc__} Takes about a quarter of an hour on two cores.",
        epilog=_GROUPS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=cases.GROUPS, metavar="GROUP", help="groups to measure"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two or three minutes: fewer rows, repeats"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="results file to write or update")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="Markdown page whose tables are replaced"
    )
    parser.add_argument(
        "--repeats", type=_count, metavar="N", help="timed runs of every row (5, quick: 2)"
    )
    parser.add_argument(
        "--minutes",
        type=_count,
        metavar="N",
        help="rows of synthetic prices (500000, quick: 100000)",
    )
    parser.add_argument(
        "--lanes",
        type=_count,
        nargs="+",
        metavar="N",
        help="environments, one row for each (1 ... 65536, quick: 4096)",
    )
    parser.add_argument(
        "--seeds",
        type=_count,
        nargs="+",
        metavar="N",
        help="learners side by side, one row for each (1 8)",
    )
    return parser


def _count(text: str) -> int:
    """A whole number >= 1."""
    try:
        number = int(text.replace("_", ""))
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, was {text!r}")
    return number


def _options(given: argparse.Namespace) -> Options:
    default = Options(repeats=2, minutes=100_000, quick=True) if given.quick else Options()
    return Options(
        repeats=given.repeats or default.repeats,
        minutes=given.minutes or default.minutes,
        lanes=None if given.lanes is None else tuple(given.lanes),
        seeds=tuple(given.seeds or default.seeds),
        quick=given.quick,
    )


def _run_group(group: str, options: Options) -> dict[str, Any] | None:
    """Machine -> description and the group's rows; None if it could not be measured."""
    if group != "learner":
        return _run(group, options)
    whole: dict[str, Any] | None = None
    for case in cases.learner_cases(options):
        found = _run(group, options, case.name)
        if found is None:
            return None
        rows = [] if whole is None else whole["group"]["rows"]
        whole = {**found, "group": {**found["group"], "rows": rows + found["group"]["rows"]}}
    return whole


def _run(group: str, options: Options, case: str | None = None) -> dict[str, Any] | None:
    """Measure one group, or one case of it, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        # -P: what lies in the user's folder is no module of ours.
        command = [sys.executable, "-P", "-m", "agents.bench.worker", group, "--out", str(out)]
        command += ["--repeats", str(options.repeats), "--minutes", str(options.minutes)]
        if options.lanes is not None:
            command += ["--lanes", *map(str, options.lanes)]
        command += ["--seeds", *map(str, options.seeds)]
        command += ["--quick"] if options.quick else []
        command += [] if case is None else ["--case", case]
        environment = _environment(group, Path(folder) / "compiled")
        if subprocess.run(command, check=False, env=environment).returncode:  # noqa: S603
            return None
        return {"name": group, **json.loads(out.read_text(encoding="utf-8"))}


def _environment(group: str, cache: Path) -> dict[str, str]:
    """Variables of a measuring process."""
    # Compile times are of compiling, not of reading what an earlier run left.
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    if group == "learner":  # times reading as well, of what it just wrote
        environment |= {
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    if group in ("machine", "environments"):
        # One device per core for the sharded rows; the other rows use the first one.
        count = f"--xla_force_host_platform_device_count={os.cpu_count()}"
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
    return environment


def _read(path: Path | None) -> dict[str, Any]:
    """Results measured before, by machine."""
    if path is None or not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: must hold results of jaxtrade bench, was no JSON ({error}); name another file"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ValueError(f"{path}: must hold results of jaxtrade bench; name another file")
    return found


def merge(everything: dict[str, Any], result: dict[str, Any]) -> None:
    """Replace one group of one machine in results by machine."""
    device = everything.setdefault(result["machine"]["name"], {})
    device["machine"] = result["machine"]
    # "machine" is taken: it says what the device is.
    device["memory" if result["name"] == "machine" else result["name"]] = result["group"]


def write(path: Path, text: str) -> None:
    """Replace a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
