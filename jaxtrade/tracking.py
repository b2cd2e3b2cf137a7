"""Where curves are written: TensorBoard, Weights & Biases or MLflow behind one small protocol.

Trainers and `jaxtrade.adapters.tracker` write through it, under the tags of this module, so that
runs of any learner stand side by side in the tool of choice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxtrade.extras import missing_extra
from jaxtrade.hints import did_you_mean

# Tags of what is written per finished episode.
RETURN_ON_INVESTMENT = "episode/return_on_investment"
SHARPE_RATIO = "episode/sharpe_ratio"
MAX_DRAWDOWN = "episode/max_drawdown"
TRADES = "episode/trades"
REWARD = "episode/reward"
LENGTH = "episode/length"
EPISODE_TAGS = (RETURN_ON_INVESTMENT, SHARPE_RATIO, MAX_DRAWDOWN, TRADES, REWARD, LENGTH)

# What a kind needs: package, and the extra of jaxtrade that brings it.
PACKAGES = {
    "tensorboard": ("tensorboardX", "tracking"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
}


class MetricWriter(Protocol):
    """Takes named numbers as they come; anything with these two methods is one."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by tag at ``step``, the number of environment steps so far."""

    def close(self) -> None:
        """Write what is left and end the run."""


def open_writer(kind: str, folder: str | os.PathLike[str], **options: Any) -> MetricWriter:
    """Open a writer.

    Args:
      kind: "tensorboard", "wandb" or "mlflow".
      folder: where a run is written, created if needed. Weights & Biases also sends it to its
        server unless ``mode="offline"``; MLflow keeps it in ``mlflow.db`` there, or on the server
        named by ``tracking_uri``.
      options: passed on to ``tensorboardX.SummaryWriter``, to ``wandb.init``, or to MLflow
        (``experiment``, ``run_name``, ``tracking_uri``).

    Raises:
      ValueError: for an unknown kind, with the nearest known one.
      ImportError: when the package of that kind is not installed.
    """
    if kind not in _WRITERS:
        hint = f" {did_you_mean(kind, _WRITERS)}".rstrip()
        raise ValueError(f"tracking: unknown kind {kind!r};{hint} Known: {', '.join(_WRITERS)}.")
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return _WRITERS[kind](path, **options)


class TensorBoardWriter:
    """Event files in ``folder``; ``tensorboard --logdir`` shows them. See `open_writer`."""

    def __init__(self, folder: Path, **options: Any) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as error:
            raise missing_extra("tensorboard", *PACKAGES["tensorboard"]) from error
        self._writer = SummaryWriter(str(folder), **options)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by tag at ``step``."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, float(value), int(step))

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandbWriter:
    """A run of Weights & Biases. See `open_writer`."""

    def __init__(self, folder: Path, **options: Any) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise missing_extra("wandb", *PACKAGES["wandb"]) from error
        self._run = wandb.init(dir=str(folder), **options)
        # Its own step must never go back, which trainer and tracker together may do.
        self._run.define_metric("*", step_metric="env_steps")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by tag at ``step``."""
        numbers = {tag: float(value) for tag, value in values.items()}
        self._run.log({**numbers, "env_steps": int(step)})

    def close(self) -> None:
        """Send what is left and end the run."""
        self._run.finish()


class MlflowWriter:
    """A run of MLflow. See `open_writer`."""

    def __init__(
        self,
        folder: Path,
        *,
        experiment: str = "jaxtrade",
        run_name: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        try:
            from mlflow.entities import Metric
            from mlflow.tracking import MlflowClient
        except ModuleNotFoundError as error:
            raise missing_extra("mlflow", *PACKAGES["mlflow"]) from error
        self._metric = Metric
        home = folder.resolve()
        self._client = MlflowClient(tracking_uri or f"sqlite:///{(home / 'mlflow.db').as_posix()}")
        found = self._client.get_experiment_by_name(experiment)
        number = (
            self._client.create_experiment(experiment, (home / "artifacts").as_uri())
            if found is None
            else found.experiment_id
        )
        self._run = self._client.create_run(number, run_name=run_name).info.run_id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by tag at ``step``."""
        now = int(time.time() * 1000)
        metrics = [self._metric(tag, float(v), now, int(step)) for tag, v in values.items()]
        self._client.log_batch(self._run, metrics)

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._run)


_WRITERS: dict[str, Callable[..., MetricWriter]] = {
    "tensorboard": TensorBoardWriter,
    "wandb": WandbWriter,
    "mlflow": MlflowWriter,
}
