"""What a user waits for before the first step: imports, and building a market from minutes."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from agents.bench import markets
from agents.bench.cases import SETTINGS
from agents.bench.timing import spread

_IMPORTS = {
    "import jaxtrade": "import jaxtrade",
    "import jaxtrade.market": "import jaxtrade.market",
    "from jaxtrade import SequentialTradingEnv": "from jaxtrade import SequentialTradingEnv",
    "jaxtrade --help": "from jaxtrade.cli import main; main(['--help'])",
}
_TIMER = "import time, sys; begin = time.perf_counter(); {code}; " + (
    "print(time.perf_counter() - begin, file=sys.stderr)"
)


def import_times(repeats: int) -> list[dict[str, Any]]:
    """Seconds of each import in a fresh interpreter, the interpreter's own start left out."""
    rows = []
    for name, code in _IMPORTS.items():
        seconds = []
        for repeat in range(repeats + 1):
            result = subprocess.run(  # noqa: S603
                [sys.executable, "-c", _TIMER.format(code=code)],
                capture_output=True,
                text=True,
                check=True,
            )
            if repeat:  # the first run fills the file cache
                seconds.append(float(result.stderr.split()[-1]))
        rows.append({"what": name, "seconds": spread(seconds)})
    return rows


def market_build(minutes: int, repeats: int) -> list[dict[str, Any]]:
    """Seconds of ``Market.from_frame`` on the benchmark's frame, for both feature sets."""
    frame = markets.frame(minutes)
    rows = []
    for setting in ("four frames", "four frames, scale-free"):
        seconds = []
        for repeat in range(repeats + 1):
            begin = time.perf_counter()
            markets.build(frame, setting)
            if repeat:
                seconds.append(time.perf_counter() - begin)
        features = SETTINGS[setting].features
        name = f"Market.from_frame, {len(frame):,} rows, 4 frames, features={features!r}"
        rows.append({"what": name, "seconds": spread(seconds)})
    return rows
