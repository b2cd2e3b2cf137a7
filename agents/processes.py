"""Several processes that train as one, on one machine or on many.

A process joins the others before anything is computed, and before `agents.settings` or `jaxtrade`
are imported: gymnax computes a constant at its import, and from then on the devices are fixed.
All processes then run the same program; the first one speaks and writes.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
from collections.abc import Sequence
from typing import Any

# How many processes were started together, as their starters say it.
_STARTED = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
# The first process evaluates and writes after training; the others wait this long for it to end.
_SHUTDOWN_SECONDS = 4 * 3600


def take(words: Sequence[str]) -> list[str]:
    """Join the processes that the words of a command ask for; the remaining words.

    ``--coordinator HOST:PORT`` is an address of the first process, ``--processes`` how many there
    are, ``--process-index`` which this is, from 0. What Slurm, Open MPI or a TPU knows need not be
    given.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process-index", type=int)
    given, rest = parser.parse_known_args(list(words))
    join(given.coordinator, given.processes, given.process_index)
    return rest


def join(coordinator: str | None, processes: int | None, index: int | None) -> None:
    """Become one of several processes, if that is asked for or they were started together.

    Args:
      coordinator: "host:port". processes, index: see `take`; None = as the starter says.

    Raises:
      ValueError: no starter is known that would tell what is missing, or a value is out of range.
    """
    if (coordinator, processes, index) == (None, None, None) and not _started_together():
        return
    if processes is not None and (processes < 1 or not 0 <= (index or 0) < processes):
        raise ValueError(
            f"process-index: must be in [0, {processes}) of {processes} processes, was {index}"
        )
    import jax

    if jax.distributed.is_initialized():
        return
    # Older versions always wait five minutes.
    known = "shutdown_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters
    patience: dict[str, Any] = {"shutdown_timeout_seconds": _SHUTDOWN_SECONDS} if known else {}
    try:
        jax.distributed.initialize(coordinator, processes, index, **patience)
    except ValueError as error:
        raise ValueError(
            f"processes: {error} Give --coordinator HOST:PORT, --processes and --process-index, or "
            "start them with srun or mpirun"
        ) from None


def _started_together() -> bool:
    started = any(int(os.environ.get(name, "1")) > 1 for name in _STARTED)
    return started or any("," in os.environ.get(name, "") for name in _TPU_HOSTS)


def count() -> int:
    """Number of processes that train together."""
    import jax

    return int(jax.process_count())


def is_first() -> bool:
    """Whether this process speaks and writes; one of several does."""
    import jax

    return bool(jax.process_index() == 0)


def any_says(flag: bool) -> bool:
    """Whether any process says so; all must ask together."""
    return flag if count() == 1 else bool(_gathered([flag]).any())


def require_same(what: str, text: str) -> None:
    """Raise in all processes unless all have the same text; all must ask together.

    Raises:
      ValueError: they differ in ``what``.
    """
    if count() == 1:
        return
    found = _gathered(list(hashlib.sha256(text.encode()).digest()))
    if (found != found[0]).any():
        raise ValueError(
            f"processes: their {what} differ; start all of them with the same command, files and "
            "packages"
        )


def _gathered(values: list[int]) -> Any:
    """The values of every process, [processes, len(values)] on the host."""
    import numpy as np
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.asarray(values, np.int32))
