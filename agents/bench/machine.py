"""What a number depends on: the device, its driver stack and the versions."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxtrade
from agents.bench.loops import mesh_of
from agents.bench.timing import measure

Array = jax.Array

# Float32 numbers that memory traffic is measured with, of all devices and at least of one.
_NUMBERS = 64 * 1024 * 1024
_FEWEST_NUMBERS = 4 * 1024 * 1024
# So many that the first one, into memory that the system has yet to supply, hardly counts.
_PASSES = 32
_PACKAGES = ("jax", "jaxlib", "gymnax", "flax", "optax", "numpy", "pandas")
_PROJECT = Path(__file__).resolve().parent.parent.parent


def describe() -> dict[str, Any]:
    """Hardware and versions."""
    device = jax.devices()[0]
    cores = os.cpu_count()
    processor = _processor()
    on_cpu = device.platform == "cpu"
    count = 1 if on_cpu else len(jax.devices())
    name = device.device_kind if count == 1 else f"{count} x {device.device_kind}"
    return {
        "name": f"{cores} cores of {processor}" if on_cpu else name,
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
        "x64": jnp.zeros(()).dtype == jnp.float64,
    }


def device_counts() -> list[int]:
    """1, 2, 4, ... and all devices."""
    everything = len(jax.devices())
    powers = [1 << i for i in range(everything.bit_length()) if 1 << i < everything]
    return [*powers, everything]


def rows(repeats: int) -> Iterator[dict[str, Any]]:
    """Plain memory traffic on one device and on all."""
    counts = device_counts()
    for devices in dict.fromkeys((counts[0], counts[-1])):
        rates = fill(devices, repeats)
        yield {"what": "memory fill", "devices": devices, "bytes_per_second": rates}
        rates = copy(devices, repeats)
        yield {
            "what": "memory copy, read + written",
            "devices": devices,
            "bytes_per_second": rates,
        }


def fill(devices: int, repeats: int) -> dict[str, float]:
    """Bytes per second at which a compiled program overwrites memory it owns, 256 MB in all."""

    def overwrite(buffer: Array, number: Array) -> tuple[Array, None]:
        return jnp.broadcast_to(number, buffer.shape), None

    return _traffic(devices, repeats, lambda source: overwrite, written_and_read=1)


def copy(devices: int, repeats: int) -> dict[str, float]:
    """Bytes per second, read and written, of adding a number to 256 MB into other memory."""

    def added(source: Array) -> Any:
        return lambda buffer, number: (source + number, None)

    return _traffic(devices, repeats, added, written_and_read=2)


def _traffic(devices: int, repeats: int, body_of: Any, written_and_read: int) -> dict[str, float]:
    """Rates of several passes over a buffer that is spread over devices."""
    count, passes = max(_NUMBERS // devices, _FEWEST_NUMBERS), _PASSES
    mesh = mesh_of(devices)

    def several(source: Array, numbers: Array) -> Array:
        return jax.lax.scan(body_of(source), jnp.zeros_like(source), numbers)[0]

    run = jax.shard_map(
        several, mesh=mesh, in_specs=(P("env"), P()), out_specs=P("env"), check_vma=False
    )
    numbers = jax.device_put(jnp.arange(passes, dtype=jnp.float32), NamedSharding(mesh, P()))
    source = jnp.ones(count * devices, jnp.float32, device=NamedSharding(mesh, P("env")))
    measured = measure(run, source, numbers, repeats=repeats)
    return measured.rates(count * devices * passes * 4 * written_and_read)


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
    """Commit of the checkout, marked when it holds changes; empty for an installed package."""
    if not (_PROJECT / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
