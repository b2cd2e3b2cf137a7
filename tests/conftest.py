"""What every test shares: where compiled programs are kept, how hypothesis draws, shared files."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from hypothesis import settings

# Read by JAX at its first import, which comes after this file. Programs compiled by an earlier run
# are loaded instead of compiled again; set JAX_COMPILATION_CACHE_DIR to keep them elsewhere.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(platformdirs.user_cache_dir("jaxtrade", appauthor=False)) / "compiled-tests"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# Windows without a display: figures are drawn into memory.
os.environ.setdefault("MPLBACKEND", "Agg")

# A test gives the same verdict on every machine and on every run; a shared machine may be slow.
settings.register_profile("jaxtrade", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "jaxtrade"))

PROJECT = Path(__file__).resolve().parent.parent


# Every compiled program maps memory, and Linux gives a process 65 530 maps.
MANY_MAPS = 10_000
MAPS = Path("/proc/self/maps")


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_are_freed() -> Iterator[None]:
    """Drop compiled programs after a file, once there are many; until then files share them."""
    yield
    jax = sys.modules.get("jax")
    if jax is None:
        return
    if not MAPS.exists() or len(MAPS.read_bytes().splitlines()) > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def project_folder() -> Path:
    """Root of the checkout."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder of recordings and large data beside the checkout; skips where it is absent."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (reference recordings and minute prices), which is absent")
    return folder


@pytest.fixture(scope="session")
def reference_folder(shared_folder: Path) -> Path:
    """Recorded reference episodes; skips where they are absent."""
    folder = shared_folder / "reference"
    if not folder.is_dir():
        pytest.skip("needs ../shared/reference, which is absent")
    return folder


@pytest.fixture(scope="session")
def btc_minutes_file(shared_folder: Path) -> Path:
    """One month of minute prices of a perpetual future; skips where it is absent."""
    path = shared_folder / "data" / "btc_perp_1m_2022-01.csv.gz"
    if not path.is_file():
        pytest.skip("needs ../shared/data/btc_perp_1m_2022-01.csv.gz, which is absent")
    return path
