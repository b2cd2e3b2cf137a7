"""Checks of the machine: versions, disk, files, proxies. Nothing is asked of the venue."""

from __future__ import annotations

import importlib.metadata
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import live
from live.config import LiveConfig
from live.operations.doctor_rows import Row, Verdict

GROUP = "host"
_MIB, _GIB = 2**20, 2**30
# What computes the decisions and what talks to the venue.
_PACKAGES = ("jax", "jaxlib", "numpy", "pandas", "aiohttp", "pybit", "prometheus-client")
_SYNCS, _SYNC_BYTES, _GOOD_SYNC_MS = 50, 4096, 50.0
_GOOD_FILES, _FEWEST_FILES = 1024, 256
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# Where a lock or a write-ahead log is not what it is on a disk.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs")


def versions(
    pins: Path | None = None, installed: Callable[[str], str] = importlib.metadata.version
) -> Iterator[Row]:
    """Python and the packages that matter, against the versions they were tested with.

    Args:
      pins: file of ``name==version`` lines; None = that of the checkout, if there is one.
    """
    yield _python()
    path = Path(live.__file__).parents[1] / "constraints.txt" if pins is None else pins
    tested = dict(_pinned(path)) if path.exists() else {}
    others, missing = [], []
    for name in _PACKAGES:
        try:
            found = installed(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if tested and found != tested.get(name):
            others.append(f"{name} {found} (tested: {tested.get(name, 'none')})")
    if missing:
        text, fix = f"not installed: {', '.join(missing)}", "pip install 'jaxtrade[live]'"
        yield Row(GROUP, "packages", Verdict.FAIL, text, fix)
    elif others:
        fix = f"pip install --constraint {path} 'jaxtrade[live]'"
        yield Row(GROUP, "packages", Verdict.WARN, ", ".join(others), fix)
    elif tested:
        yield Row(GROUP, "packages", Verdict.OK, f"{len(_PACKAGES)} as they were tested")
    else:
        yield Row(GROUP, "packages", Verdict.SKIP, f"{path} is not there to compare with")


def _python() -> Row:
    here = sys.version_info[:2]
    text = ".".join(map(str, sys.version_info[:3]))
    wanted = importlib.metadata.metadata("jaxtrade")["Requires-Python"] or ""
    least, below = (_version(wanted, sign) for sign in (r">=", "<"))
    fits = (least is None or here >= least) and (below is None or here < below)
    if fits:
        return Row(GROUP, "python", Verdict.OK, text)
    return Row(GROUP, "python", Verdict.FAIL, f"{text}, expected {wanted}", "use another Python")


def _version(wanted: str, sign: str) -> tuple[int, int] | None:
    found = re.search(rf"{sign}\s*(\d+)\.(\d+)", wanted)
    return None if found is None else (int(found[1]), int(found[2]))


def _pinned(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, version = line.partition("==")
        if separator and not line.startswith("#"):
            yield name.strip(), version.split()[0]


def disk(config: LiveConfig) -> Iterator[Row]:
    """Room and rights where the journal is kept."""
    folder = _folder(config)
    free = shutil.disk_usage(folder).free
    text = f"{free / _GIB:.1f} GiB free at {folder}"
    if not free >= config.journal.min_free_mib * _MIB:
        fix = f"free some: below {config.journal.min_free_mib:g} MiB nothing starts"
        yield Row(GROUP, "disk", Verdict.FAIL, text, fix)
    elif not free >= config.journal.warn_free_gib * _GIB:
        yield Row(GROUP, "disk", Verdict.WARN, text, "free some")
    else:
        yield Row(GROUP, "disk", Verdict.OK, text)
    yield _writable(folder)


def _writable(folder: Path) -> Row:
    if not os.access(folder, os.W_OK | os.X_OK):
        text, fix = f"{folder} cannot be written", "name another [runner] state_dir"
        return Row(GROUP, "folder", Verdict.FAIL, text, fix)
    kind = _file_system(folder)
    if kind in _REMOTE:
        text = f"{folder} is on a file system of the network ({kind})"
        return Row(GROUP, "folder", Verdict.FAIL, text, "keep the journal on a local disk")
    return Row(GROUP, "folder", Verdict.OK, f"{folder} can be written")


def _file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Kind of the file system of a folder; None = this system does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    resolved, found = folder.resolve(), ("", "")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        if resolved.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, kind)
    return found[1] or None


def syncs(
    config: LiveConfig,
    sync: Callable[[int], None] = os.fsync,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Row]:
    """How long the disk takes to make a small write durable; the file is removed again."""
    took = []
    with tempfile.TemporaryFile(dir=_folder(config)) as stream:
        for _ in range(_SYNCS):
            stream.write(bytes(_SYNC_BYTES))
            stream.flush()
            begun = monotonic()
            sync(stream.fileno())
            took.append(1000 * (monotonic() - begun))
    worst = percentile(took, 0.99)
    text = f"99 % within {worst:.1f} ms"
    if not worst <= config.journal.commit_warn_ms:
        fix = "every order waits for this; use a faster disk"
        yield Row(GROUP, "fsync", Verdict.FAIL, text, fix)
    elif not worst <= _GOOD_SYNC_MS:
        fix = f"expected {_GOOD_SYNC_MS:g} ms; every order waits for this"
        yield Row(GROUP, "fsync", Verdict.WARN, text, fix)
    else:
        yield Row(GROUP, "fsync", Verdict.OK, text)


def percentile(values: list[float], share: float) -> float:
    """The value that a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def limits(
    environ: Mapping[str, str] | None = None,
    open_files: Callable[[], tuple[int, int]] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
) -> Iterator[Row]:
    """Open files, and proxies that requests with keys would pass."""
    files, _ = open_files()
    text, fix = f"{files} may be open", f"ulimit -n {_GOOD_FILES}"
    if files >= _GOOD_FILES or files == resource.RLIM_INFINITY:
        yield Row(GROUP, "files", Verdict.OK, text)
    else:
        verdict = Verdict.WARN if files >= _FEWEST_FILES else Verdict.FAIL
        yield Row(GROUP, "files", verdict, text, fix)
    variables = os.environ if environ is None else environ
    names = sorted(name for name, value in variables.items() if name.lower() in _PROXIES and value)
    if names:
        text = f"{', '.join(names)}: requests with keys would pass a proxy"
        yield Row(GROUP, "proxies", Verdict.WARN, text, f"unset {' '.join(names)}")
    else:
        yield Row(GROUP, "proxies", Verdict.OK, "none")


def _folder(config: LiveConfig) -> Path:
    """The folder of the journal, or where it would be made."""
    path = config.journal.path
    folder = config.runner.folder if path is None else path.absolute().parent
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())
