"""The command ``python -m live.bench``: measures, prints a table, keeps the figures as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from live.bench.cases import CASES
from live.bench.report import machine, table


def main() -> int:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m live.bench", description=__doc__)
    parser.add_argument("case", nargs="+", choices=sorted(CASES))
    parser.add_argument("--symbols", type=int, help="how many trade; default: of the case")
    parser.add_argument("--bars", type=int, help="how many pass; default: of the case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures to a file")
    given = parser.parse_args()
    kept = {}
    if given.json is not None and given.json.exists():
        kept = json.loads(given.json.read_text())
    for name in given.case:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        figures = CASES[name](given.symbols, given.bars)
        kept[name] = {"machine": machine(), **figures}
        print(table(name, figures))
        if given.json is not None:
            given.json.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
