"""Curves of a run in TensorBoard, Weights & Biases or MLflow, beside its progress.jsonl."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agents.settings import Settings
from jaxtrade import tracking
from jaxtrade.extras import missing_extra

# Where the runs of one folder are, so that the tool shows them side by side.
_OPTIONS: dict[str, Callable[[Path], tuple[Path, dict[str, Any]]]] = {
    "tensorboard": lambda folder: (folder, {}),
    "wandb": lambda folder: (folder, {"project": "jaxtrade", "name": folder.name}),
    "mlflow": lambda folder: (folder.parent, {"run_name": folder.name}),
}


def require(kind: str) -> None:
    """Raise `ImportError` unless the package of a tracker is installed; nothing is imported."""
    needed = tracking.PACKAGES.get(kind)
    if needed is not None and importlib.util.find_spec(needed[0]) is None:
        raise missing_extra(f"tracker {kind}", *needed)


@contextlib.contextmanager
def curves(settings: Settings, folder: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields what takes one row of progress and writes its numbers, as the settings ask for."""
    kind = settings.run.tracker
    if kind == "none":
        yield lambda row: None
        return
    place, options = _OPTIONS[kind](folder)
    writer = tracking.open_writer(kind, place, **options)
    try:
        yield lambda row: writer.write(
            row["update"] * settings.learner.steps_per_update, numbers_of(row)
        )
    finally:
        writer.close()


def numbers_of(row: dict[str, Any]) -> dict[str, float]:
    """Every number of a row of progress, under ``train/``; per finished episode, ``episode/``."""
    numbers = {
        f"train/{name}": float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("update", "updates")
    }
    for name in ("return_by_seed", "action_share"):
        for k, value in enumerate(row.get(name) or ()):
            if value is not None:
                numbers[f"train/{name}/{k}"] = float(value)
    return numbers | _per_episode(row)


def _per_episode(row: dict[str, Any]) -> dict[str, float]:
    """Means over the episodes of a chunk, under the tags every learner's tracker uses."""
    if not row.get("episodes"):
        return {}
    length = row["steps"] / row["episodes"]
    found = {tracking.REWARD: row["return_mean"], tracking.LENGTH: length}
    if row.get("equity_ratio") is not None:
        found[tracking.RETURN_ON_INVESTMENT] = row["equity_ratio"] - 1
        found[tracking.TRADES] = row["trades_per_step"] * length
    return found
