"""What a number depends on: the device, its driver stack and the versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxtrade
from tests.benchmarks.timing import measure

_PACKAGES = ("jax", "jaxlib", "gymnax", "flax", "optax", "numpy", "pandas")


def describe() -> dict[str, Any]:
    """Hardware and versions."""
    device = jax.devices()[0]
    cores = os.cpu_count()
    processor = _processor()
    on_cpu = device.platform == "cpu"
    return {
        "name": f"{cores} cores of {processor}" if on_cpu else device.device_kind,
        "platform": device.platform,
        "processor": processor,
        "cores": cores,
        "memory_gigabytes": _memory_gigabytes(),
        "system": platform.system(),
        "versions": {
            "python": platform.python_version(),
            "jaxtrade": jaxtrade.__version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "x64": jnp.zeros(()).dtype == jnp.float64,
    }


def memory_fill_gigabytes_per_second(repeats: int) -> float:
    """Rate at which a compiled program overwrites 256 MB it owns; the ceiling of dict rows."""
    count, passes = 64 * 1024 * 1024, 8

    def fill(buffer: jax.Array) -> jax.Array:
        def overwrite(buffer: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
            return jnp.broadcast_to(number, buffer.shape), None

        return jax.lax.scan(overwrite, buffer, jnp.arange(passes, dtype=jnp.float32))[0]

    measured = measure(fill, jnp.zeros(count, jnp.float32), repeats=repeats)
    return measured.rates(count * passes * 4)["median"] / 1e9


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gigabytes() -> float | None:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    return round(pages * size / 1e9, 1)


def today() -> str:
    """Date in UTC, as year-month-day."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def commit() -> str:
    """Commit of the checkout, marked when it holds changes; empty outside a repository."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
