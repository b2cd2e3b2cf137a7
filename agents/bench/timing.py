"""How a benchmark measures: compile apart, results awaited, median and range of several repeats."""

from __future__ import annotations

import dataclasses
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One timed function.

    Attributes:
      seconds: wall time of each repeat.
      compile_seconds: tracing and compiling, no cache.
      program_megabytes: what the program holds at once: arguments, results and temporaries.
    """

    seconds: tuple[float, ...]
    compile_seconds: float
    program_megabytes: float | None

    def rates(self, count: int) -> dict[str, float]:
        """Median, lowest and highest ``count`` per second over the repeats."""
        return spread([count / second for second in self.seconds])


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest of several repeats."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(
    function: Callable[..., Any], *arguments: Any, repeats: int = REPEATS, target_seconds: float = 0
) -> Measurement:
    """Compile once, run once unmeasured, then time ``repeats`` runs, each until its results exist.

    Args:
      function: pure function of arrays.
      arguments: its arguments; none is donated.
      repeats: timed runs.
      target_seconds: a run shorter than this is repeated inside one timing, so that the clock and a
        busy machine disturb it less.
    """
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    once = time.perf_counter() - begin
    inner = max(1, round(target_seconds / max(once, 1e-6)))
    seconds = []
    for _ in range(repeats):
        gc.collect()
        begin = time.perf_counter()
        for _ in range(inner):
            result = jax.block_until_ready(compiled(*arguments))
        seconds.append((time.perf_counter() - begin) / inner)
        del result
    return Measurement(tuple(seconds), compile_seconds, program_megabytes(compiled))


def program_megabytes(compiled: Any) -> float | None:
    """Memory a compiled program needs at once, in megabytes; None where the backend cannot say."""
    try:
        analysis = compiled.memory_analysis()
        total = (
            analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            + analysis.temp_size_in_bytes
            - analysis.alias_size_in_bytes
        )
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
    return total / 1e6


def peak_megabytes() -> float:
    """Highest resident memory of this process so far, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def device_peak_megabytes() -> float | None:
    """Highest memory in use on the accelerator so far, in megabytes; None on a CPU."""
    statistics_ = jax.devices()[0].memory_stats()
    return statistics_["peak_bytes_in_use"] / 1e6 if statistics_ else None
