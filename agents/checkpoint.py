"""Checkpoints of a run: the training state with orbax, and beside it what it belongs to.

A folder holds ``manifest.json`` (resolved settings, hashes, data fingerprint, versions) and one
sub-folder per saved update. Restoring refuses a folder whose manifest differs in anything that
changes the meaning of the state. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from agents import processes
from agents.learner_config import LearnerConfig
from jaxtrade.descriptions import describe_features, hash_of, versions
from jaxtrade.files import atomic_write

_MANIFEST = "manifest.json"
# Written down for the reader; a difference is no reason to refuse.
_INFORMATION = ("versions", "commit", "features", "actions")
_REMEDY = {
    "learner": "resume with the settings of the run's config.json",
    "environment": "resume with the settings of the run's config.json",
    "feature_hash": "resume with the same time frames, windows and features",
    "action_hash": "resume with the same action levels or brackets and the same leverage",
    "data": "resume with the same price file and dates",
}


def learner_settings(config: LearnerConfig) -> dict[str, Any]:
    """JSON form of the learner's settings."""
    settings = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        settings[field.name] = list(value) if isinstance(value, tuple) else value
    return settings


def fingerprint(market: Any) -> dict[str, Any]:
    """Range and SHA-256 of the execution bars a market decides on."""
    first, last = int(market.first), int(market.last)
    digest = hashlib.sha256()
    for part in (market.ohlcv, market.funding, market.open_minute):
        if part is not None:
            digest.update(np.ascontiguousarray(np.asarray(part)[first : last + 1]).tobytes())
    return {"first": first, "last": last, "bars": market.num_bars, "sha256": digest.hexdigest()}


def manifest_of(env: Any, config: LearnerConfig, market: Any, seeds: list[int]) -> dict[str, Any]:
    """What a checkpoint of this run belongs to; JSON-able."""
    actions = env.action_description()
    return {
        "learner": {**learner_settings(config), "seeds": seeds},
        "environment": {"name": env.name, **env.config.to_dict()},
        "features": describe_features(env.market.spec),
        "feature_hash": env.market.spec.feature_hash,
        "actions": actions,
        "action_hash": hash_of(actions),
        "data": fingerprint(market),
        "versions": versions(),
        "commit": git_commit(),
    }


def git_commit() -> str:
    """Commit of the working directory, or "" outside a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


class Checkpoints:
    """Saved states of one run in one folder; use as a context manager.

    A state may lie on several devices and, where all processes see the folder and call this alike,
    in several processes. It is restored onto those of the state it is to be like.

    Args:
      directory: folder of the checkpoints, created when missing.
      manifest: of this run (`manifest_of`); compared with the one in the folder, written when
        there is none.
      keep: newest saves to keep.

    Raises:
      ValueError: the folder belongs to another run, or its manifest is damaged.
    """

    def __init__(
        self, directory: str | os.PathLike[str], manifest: Mapping[str, Any], keep: int = 3
    ) -> None:
        import orbax.checkpoint as ocp  # slow to import, and not needed to use a policy

        # A relative path would fail much later, in the thread that writes.
        self.directory = Path(directory).resolve()
        described: dict[str, Any] = json.loads(json.dumps(manifest))
        path = self.directory / _MANIFEST
        if path.exists():
            _compare(path, _read(path), described)
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
            if processes.is_first():
                write_json(path, described)
        logging.getLogger("absl").setLevel(logging.ERROR)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._ocp = ocp
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Update of the newest save, or None."""
        return self._manager.latest_step()

    def save(self, update: int, state: Any) -> None:
        """Copy the state to the host and write it in the background; it may be donated after."""
        if update not in self._manager.all_steps():
            self._manager.save(update, args=self._ocp.args.StandardSave(state))

    def wait(self) -> None:
        """Wait until the saves so far are on disk."""
        self._manager.wait_until_finished()

    def restore(self, like: Any, update: int | None = None) -> Any:
        """A saved state, bit for bit.

        Args:
          like: state of the same structure (arrays or shapes). update: which; None = the newest.

        Raises:
          ValueError: there is no save, or it is damaged; nothing is changed on disk.
        """
        update = self.latest if update is None else update
        if update is None:
            raise ValueError(
                f"{self.directory}: holds no checkpoint; start the run without --resume"
            )
        shapes = jax.tree.map(_shape, like)
        try:
            return self._manager.restore(update, args=self._ocp.args.StandardRestore(shapes))
        # Whatever storage and decoders raise, the file is at fault and the remedy is the same.
        except Exception as error:
            others = sorted(step for step in self._manager.all_steps() if step != update)
            hint = (
                f"delete that folder to go on from update {others[-1]}"
                if others
                else ("delete the folder and start again")
            )
            raise ValueError(
                f"{self.directory / str(update)}: damaged checkpoint ({_first_line(error)}); {hint}"
            ) from error


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _first_line(error: Exception) -> str:
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return text if len(text) <= 160 else text[:157] + "..."


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("not a JSON object")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: damaged manifest ({error}); delete the checkpoint folder and start again"
        ) from error
    return found


def _compare(path: Path, saved: dict[str, Any], current: dict[str, Any]) -> None:
    for name in (name for name in current if name not in _INFORMATION):
        ours, theirs = saved.get(name), current[name]
        if ours == theirs:
            continue
        if isinstance(ours, dict) and isinstance(theirs, dict):
            field = next(f for f in {**ours, **theirs} if ours.get(f) != theirs.get(f))
            ours, theirs, shown = ours.get(field), theirs.get(field), f"{name}.{field}"
        else:
            shown = name
        raise ValueError(
            f"{path.parent}: its checkpoints were written with {shown} = {ours!r}, this run has "
            f"{theirs!r}; {_REMEDY[name]}, or choose another folder"
        )


def write_json(path: Path, value: Any) -> None:
    """Write JSON through a temporary file: an existing file is replaced whole or not at all."""
    with atomic_write(path) as stream:
        stream.write((json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


@contextlib.contextmanager
def interruptible() -> Iterator[Any]:
    """Count Ctrl-C instead of raising, once: a chunk finishes and the run can save.

    Yields a list that is non-empty after the first Ctrl-C; the second one raises as usual.
    """
    import signal

    asked: list[bool] = []

    def note(number: int, frame: Any) -> None:
        asked.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: nothing to catch
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
