"""What a run is made of, and its three forms: dataclasses, command-line flags, one JSON file."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from agents.checkpoint import learner_settings
from agents.ppo import PPOConfig
from jaxtrade.envs.config import OBSERVATIONS
from jaxtrade.envs.sequential import ACTIONS, SequentialTradingEnvConfig


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
      updates_per_chunk: updates between two progress lines.
      checkpoint_chunks: chunks between two saves.
      random_policies: draws of the random baseline.
      out: folder that holds run folders.
      name: of the run folder; None = date and time.
    """

    frame: str = "eurusd_1h"
    split: tuple[str, ...] = ("0.8",)
    embargo_bars: int | None = None
    total_steps: int = 2_000_000
    seeds: int = 1
    seed: int = 0
    updates_per_chunk: int = 4
    checkpoint_chunks: int = 5
    random_policies: int = 32
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
        if not _is_whole(self.seed, 0):
            problems.append(f"seed: must be a whole number >= 0, was {self.seed!r}")
        texts = isinstance(self.split, tuple) and all(isinstance(x, str) for x in self.split)
        if not texts or not 1 <= len(self.split) <= 2:
            problems.append(f"split: must be 1 or 2 fractions or dates as text, was {self.split!r}")
        if self.name is not None and (
            not isinstance(self.name, str) or Path(self.name).name != self.name or not self.name
        ):
            problems.append(f"name: must be the name of a folder, was {self.name!r}")
        if problems:
            raise ValueError("; ".join(problems))


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that determines a run."""

    run: RunSettings = dataclasses.field(default_factory=RunSettings)
    environment: SequentialTradingEnvConfig = dataclasses.field(
        default_factory=SequentialTradingEnvConfig
    )
    learner: PPOConfig = dataclasses.field(default_factory=PPOConfig)

    def to_dict(self) -> dict[str, Any]:
        """JSON form, one section per part; `from_dict` reads it."""
        return {
            "algorithm": "ppo",
            "run": {**dataclasses.asdict(self.run), "split": list(self.run.split)},
            "environment": self.environment.to_dict(),
            "learner": learner_settings(self.learner),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from sections ``run``, ``environment`` and ``learner``; the rest is default.

        Raises:
          ValueError: an unknown section or field (with the nearest name), or a value out of range.
        """
        _refuse_unknown("config", values, ("algorithm", "run", "environment", "learner"))
        run = _tuples(values.get("run", {}))
        _refuse_unknown("run", run, RunSettings.__dataclass_fields__)
        learner = _tuples(values.get("learner", {}))
        _refuse_unknown("learner", learner, PPOConfig.__dataclass_fields__)
        environment = dict(values.get("environment", {}))
        functions = {}
        for name in ("features", "reward"):
            if _has_function(environment.get(name)):
                functions[name] = _import_functions(name, environment.pop(name))
        return cls(
            run=RunSettings(**run),
            environment=SequentialTradingEnvConfig.from_dict(environment, **functions),
            learner=PPOConfig(**learner),
        )


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
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
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


# The command line -------------------------------------------------------------------------------

_ENVIRONMENT_TYPES: dict[str, Any] = {
    "time_frames": tuple[str, ...],
    "window_sizes": tuple[int, ...],
    "execute_on": str,
    "features": tuple[str, ...],
    "initial_cash": tuple[float, ...],
    "action": Literal[ACTIONS],
    "action_levels": tuple[float, ...] | None,
    "observation": Literal[OBSERVATIONS],
    "reward": tuple[str, ...],
}
_ENVIRONMENT_NOTES = {
    "features": 'Or "module:function".',
    "reward": 'Or "name=weight ...", or "module:reward".',
}


def parse_flags(argv: Sequence[str], base: Settings, prog: str, description: str) -> Settings:
    """Settings from command-line flags over ``base``; leaves by SystemExit on wrong usage."""
    import tyro

    sections = _flag_sections()
    parts = (base.run, base.environment, base.learner)
    defaults = [_to_flags(section, part) for section, part in zip(sections, parts, strict=True)]
    fields = [
        (name, section, dataclasses.field(default=default))
        for name, section, default in zip(
            ("run", "environment", "learner"), sections, defaults, strict=True
        )
    ]
    flags = dataclasses.make_dataclass("Flags", fields, frozen=True)
    given: Any = tyro.cli(
        flags,
        args=list(argv),
        prog=prog,
        description=description,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
    )
    return Settings(
        run=RunSettings(**_shallow(given.run)),
        environment=_environment_of(given.environment, base.environment),
        learner=PPOConfig(**_shallow(given.learner)),
    )


def _flag_sections() -> tuple[type, type, type]:
    """One dataclass per section, every field of the settings a flag with its documentation."""
    run = _section("Run", RunSettings, {})
    environment = _section("Environment", SequentialTradingEnvConfig, _ENVIRONMENT_TYPES)
    learner = _section("Learner", PPOConfig, {})
    return run, environment, learner


def _section(name: str, owner: type, types: Mapping[str, Any]) -> type:
    import typing

    import tyro

    hints = typing.get_type_hints(owner)
    notes = {k: v for base in reversed(owner.__mro__) for k, v in field_notes(base).items()}
    fields = []
    for field in dataclasses.fields(owner):
        note = " ".join(
            filter(None, (notes.get(field.name, ""), _ENVIRONMENT_NOTES.get(field.name)))
        )
        kind = types.get(field.name, hints[field.name])
        fields.append((field.name, Annotated[kind, tyro.conf.arg(help=note)]))
    made = dataclasses.make_dataclass(name, fields, frozen=True, kw_only=True)
    made.__doc__ = f"Settings of the {name.lower()}."
    return made


def field_notes(owner: type) -> dict[str, str]:
    """Field name -> its text in the "Attributes:" part of a class docstring."""
    text = (owner.__dict__.get("__doc__") or "").partition("Attributes:")[2].partition("\n\n")[0]
    text = " ".join(text.split())
    names = "|".join(getattr(owner, "__dataclass_fields__", ()))
    start = rf"(?:^| )((?:{names})(?:, (?:{names}))*): "
    pieces = re.split(start, text)[1:]
    notes = {}
    for group, note in zip(pieces[::2], pieces[1::2], strict=True):
        notes.update(dict.fromkeys(group.split(", "), note.strip().rstrip(".") + "."))
    return notes


def _shallow(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _to_flags(section: type, config: Any) -> Any:
    values = _shallow(config)
    if isinstance(config, SequentialTradingEnvConfig):
        names = config.to_dict()
        values["time_frames"] = tuple(frame.name for frame in config.frames)
        values["window_sizes"] = config.windows
        values["execute_on"] = config.execution_frame.name
        values["features"] = _spelled(names["features"])
        values["reward"] = _spelled(names["reward"])
        low, high = config.cash_range
        values["initial_cash"] = (low,) if low == high else (low, high)
        if config.action_levels is not None:
            values["action_levels"] = config.levels
    return section(**values)


def _spelled(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        if "function" in value:
            return (str(value["function"]),)
        return tuple(f"{name}={weight}" for name, weight in value.items())
    if isinstance(value, list):
        return tuple(part for item in value for part in _spelled(item))
    return (str(value),)


def _environment_of(flags: Any, base: SequentialTradingEnvConfig) -> SequentialTradingEnvConfig:
    values = _shallow(flags)
    unchanged = _shallow(_to_flags(type(flags), base))
    for name in _ENVIRONMENT_TYPES:
        # A value that no flag touched stays the object it was: not all of them can be spelled.
        if values[name] == unchanged[name]:
            values[name] = getattr(base, name)
    frames = values["time_frames"]
    sizes = values["window_sizes"]
    if isinstance(sizes, tuple) and len(sizes) == 1:
        values["window_sizes"] = sizes[0]
    if sizes is base.window_sizes and len(set(base.windows)) == 1:
        values["window_sizes"] = base.windows[0]  # one size serves any number of frames
    if isinstance(frames, tuple) and len(frames) == 1:
        values["time_frames"] = frames[0]
    cash = values["initial_cash"]
    if isinstance(cash, tuple) and len(cash) == 1:
        values["initial_cash"] = cash[0]
    if values["features"] is not base.features:
        named = tuple(
            import_name("features", one) if ":" in one else one for one in values["features"]
        )
        values["features"] = named[0] if len(named) == 1 else named
    if values["reward"] is not base.reward:
        values["reward"] = _reward_of(values["reward"])
    return SequentialTradingEnvConfig(**values)


def _reward_of(words: tuple[str, ...]) -> Any:
    if len(words) == 1 and "=" not in words[0]:
        return import_name("reward", words[0]) if ":" in words[0] else words[0]
    weights = {}
    for word in words:
        name, _, weight = word.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise ValueError(f"reward: expected name=weight, was {word!r}") from None
    return weights


def take_option(argv: Sequence[str], name: str, text: str) -> tuple[str | None, list[str]]:
    """Value of one option that is read before all others, and the remaining words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{name}", help=text)
    found, rest = parser.parse_known_args(list(argv))
    return getattr(found, name), rest
