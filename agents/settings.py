"""What a run is made of, as dataclasses and as one JSON file; `agents.flags` is its third form."""

from __future__ import annotations

import dataclasses
import importlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from agents import algorithms
from agents.checkpoint import learner_settings
from agents.learner_config import LearnerConfig
from jaxtrade.envs import REGISTRY, SequentialTradingEnvConfig, TradingEnvConfig
from jaxtrade.envs.registry import find
from jaxtrade.hints import did_you_mean

TRACKERS = Literal["none", "tensorboard", "wandb", "mlflow"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run that are neither the environment's nor the learner's.

    Attributes:
      frame: prices: a .csv, .csv.gz, .parquet or .npz file, or the name of a bundled sample.
      split: where training ends, as a fraction of the bars or a date. A second value puts a
        validation range between training and the held-out rest.
      embargo_bars: bars left out after each split; None = the longest window.
      total_steps: environment steps of each seed, rounded up to whole chunks.
      seeds: runs trained side by side. seed: of the first of them.
      devices: that share the environments of ppo, a2c and grpo; None = all accelerators that can
        share them evenly, one device without an accelerator.
      initial_policy: bundle whose network every seed starts from; None = a new network.
      updates_per_chunk: updates between two progress lines.
      checkpoint_chunks: chunks between two saves.
      random_policies: draws of the random baseline.
      tracker: where curves are written besides progress.jsonl; its package must be installed.
      out: folder that holds run folders.
      name: of the run folder; None = date and time.
    """

    frame: str = "eurusd_1h"
    split: tuple[str, ...] = ("0.8",)
    embargo_bars: int | None = None
    total_steps: int = 2_000_000
    seeds: int = 1
    seed: int = 0
    devices: int | None = None
    initial_policy: str | None = None
    updates_per_chunk: int = 4
    checkpoint_chunks: int = 5
    random_policies: int = 32
    tracker: TRACKERS = "none"
    out: str = "runs"
    name: str | None = None

    def check(self) -> None:
        """Raise one `ValueError` that lists every value out of range."""
        counts = (
            "total_steps",
            "seeds",
            "updates_per_chunk",
            "checkpoint_chunks",
            "random_policies",
        )
        problems = [
            f"{name}: must be a whole number >= 1, was {getattr(self, name)!r}"
            for name in counts
            if not _is_whole(getattr(self, name), 1)
        ]
        if self.devices is not None and not _is_whole(self.devices, 1):
            problems.append(f"devices: must be a whole number >= 1 or None, was {self.devices!r}")
        if not _is_whole(self.seed, 0):
            problems.append(f"seed: must be a whole number >= 0, was {self.seed!r}")
        texts = isinstance(self.split, tuple) and all(isinstance(x, str) for x in self.split)
        if not texts or not 1 <= len(self.split) <= 2:
            problems.append(f"split: must be 1 or 2 fractions or dates as text, was {self.split!r}")
        if self.name is not None and (
            not isinstance(self.name, str) or Path(self.name).name != self.name or not self.name
        ):
            problems.append(f"name: must be the name of a folder, was {self.name!r}")
        if self.tracker not in get_args(TRACKERS):
            problems.append(f"tracker: must be one of {get_args(TRACKERS)}, was {self.tracker!r}")
        if problems:
            raise ValueError("; ".join(problems))


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _default_learner() -> LearnerConfig:
    config: LearnerConfig = algorithms.find("ppo").config_class()
    return config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that determines a run.

    Attributes:
      algorithm: name of the learner (`agents.algorithms`).
      environment: its type says which environment it is. learner: settings of the algorithm.
    """

    algorithm: str = "ppo"
    run: RunSettings = dataclasses.field(default_factory=RunSettings)
    environment: TradingEnvConfig = dataclasses.field(default_factory=SequentialTradingEnvConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=_default_learner)

    @property
    def env(self) -> str:
        """Name of the environment.

        Raises:
          ValueError: its configuration is of no registered environment.
        """
        for name, entry in REGISTRY.items():
            if entry.config is type(self.environment):
                return name
        raise ValueError(
            f"environment: must be the configuration of one of {', '.join(REGISTRY)}, was "
            f"{type(self.environment).__name__}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form, one section per part; `from_dict` reads it."""
        return {
            "algorithm": self.algorithm,
            "env": self.env,
            "run": {**dataclasses.asdict(self.run), "split": list(self.run.split)},
            "environment": self.environment.to_dict(),
            "learner": learner_settings(self.learner),
        }

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], algorithm: str | None = None, env: str | None = None
    ) -> Settings:
        """Settings from sections ``run``, ``environment`` and ``learner``; the rest is default.

        Args:
          values: the sections, and ``algorithm`` and ``env`` by name.
          algorithm: the one asked for. env: takes precedence over that of ``values``.

        Raises:
          ValueError: an unknown section, name or field (with the nearest name), a value out of
            range, or settings of another algorithm.
        """
        sections = ("algorithm", "env", "run", "environment", "learner")
        _refuse_unknown("config", values, sections)
        held = values.get("algorithm")
        if held is not None and algorithm is not None and held != algorithm:
            raise ValueError(
                f"config: holds settings of {held!r}, was asked for {algorithm!r}; use "
                f"`jaxtrade train {held}`, or remove its sections algorithm and learner"
            )
        algorithm = algorithm or held or "ppo"
        kind = algorithms.find(algorithm)
        env = env or values.get("env") or kind.env
        run = {**kind.run, **_tuples(values.get("run", {}))}
        _refuse_unknown("run", run, RunSettings.__dataclass_fields__)
        learner = {**kind.defaults(env), **_tuples(values.get("learner", {}))}
        _refuse_unknown("learner", learner, kind.config_class.__dataclass_fields__)
        return cls(
            algorithm=algorithm,
            run=RunSettings(**run),
            environment=environment_of(env, values.get("environment", {})),
            learner=kind.config_class(**learner),
        )


def environment_of(env: str, values: Mapping[str, Any]) -> TradingEnvConfig:
    """The configuration of an environment from its JSON form; functions in it are imported.

    Raises:
      ValueError: an unknown name or field, or a value out of range.
    """
    given = dict(values)
    functions = {}
    for name in ("features", "reward"):
        if _has_function(given.get(name)):
            functions[name] = _import_functions(name, given.pop(name))
    return find(env).config.from_dict(given, **functions)


def read_config(path: str) -> dict[str, Any]:
    """Sections of a .toml or .json file.

    Raises:
      ValueError: the file cannot be parsed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected JSON or TOML") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object with sections run, environment and learner")
    return values


def _refuse_unknown(owner: str, given: Mapping[str, Any], known: Any) -> None:
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise ValueError(f"{owner}: unknown field {name!r}; {hint}")


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _has_function(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "function" in value
    return isinstance(value, list) and any(_has_function(item) for item in value)


def _import_functions(field: str, value: Any) -> Any:
    if isinstance(value, Mapping) and "function" in value:
        return import_name(field, value["function"])
    return tuple(_import_functions(field, v) for v in value) if isinstance(value, list) else value


def import_name(field: str, name: str) -> Any:
    """The object that "module:attribute" names.

    Raises:
      ValueError: there is no such module or attribute.
    """
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{field}: cannot import {name!r} ({error}); write module:name") from error
    return found
