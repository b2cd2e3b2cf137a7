"""The settings of a run as command-line flags: every field is one, with its documentation."""

from __future__ import annotations

import argparse
import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from agents.settings import RunSettings, Settings, import_name
from jaxtrade.envs import TradingEnvConfig
from jaxtrade.envs.config import OBSERVATIONS
from jaxtrade.envs.sequential import ACTIONS

# Fields whose types say more than a flag can: what the flag takes instead.
_ENVIRONMENT_TYPES: dict[str, Any] = {
    "time_frames": tuple[str, ...],
    "window_sizes": tuple[int, ...],
    "execute_on": str,
    "features": tuple[str, ...],
    "initial_cash": tuple[float, ...],
    "action": Literal[ACTIONS],
    "action_levels": tuple[float, ...] | None,
    "stoploss_levels": tuple[float, ...],
    "takeprofit_levels": tuple[float, ...],
    "observation": Literal[OBSERVATIONS],
    "reward": tuple[str, ...],
}
_ENVIRONMENT_NOTES = {
    "features": 'Or "module:function".',
    "reward": 'Or "name=weight ...", or "module:reward".',
}


def parse_flags(argv: Sequence[str], base: Settings, prog: str, description: str) -> Settings:
    """Settings from command-line flags over ``base``; leaves by SystemExit on wrong usage.

    Where environment and learner have a field of the same name, the environment's flag starts with
    ``--env-``.
    """
    import tyro

    sections = _flag_sections(base)
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
    return dataclasses.replace(
        base,
        run=RunSettings(**_shallow(given.run)),
        environment=_environment_of(given.environment, base.environment),
        learner=type(base.learner)(**_shallow(given.learner)),
    )


def _flag_sections(base: Settings) -> tuple[type, type, type]:
    """One dataclass per section, every field of the settings a flag with its documentation."""
    environment, learner = type(base.environment), type(base.learner)
    shared = set(environment.__dataclass_fields__) & set(learner.__dataclass_fields__)
    return (
        _section("Run", RunSettings),
        _section("Environment", environment, {name: f"env_{name}" for name in shared}),
        _section("Learner", learner),
    )


def _section(name: str, owner: Any, renamed: Mapping[str, str] | None = None) -> type:
    import tyro

    hints = typing.get_type_hints(owner)
    notes = {k: v for base in reversed(owner.__mro__) for k, v in field_notes(base).items()}
    of_environment = issubclass(owner, TradingEnvConfig)
    fields = []
    for field in dataclasses.fields(owner):
        kind, note = hints[field.name], notes.get(field.name, "")
        if "choices" in field.metadata:
            kind = Literal[field.metadata["choices"]]
        if of_environment:
            kind = _ENVIRONMENT_TYPES.get(field.name, kind)
            note = " ".join(filter(None, (note, _ENVIRONMENT_NOTES.get(field.name))))
        label = (renamed or {}).get(field.name)
        fields.append((field.name, Annotated[kind, tyro.conf.arg(name=label, help=note)]))
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
    if isinstance(config, TradingEnvConfig):
        names = config.to_dict()
        values["time_frames"] = tuple(frame.name for frame in config.frames)
        values["window_sizes"] = config.windows
        values["execute_on"] = config.execution_frame.name
        values["features"] = _spelled(names["features"])
        values["reward"] = _spelled(names["reward"])
        low, high = config.cash_range
        values["initial_cash"] = (low,) if low == high else (low, high)
        for name in ("action_levels", "stoploss_levels", "takeprofit_levels"):
            if values.get(name) is not None:
                values[name] = tuple(float(level) for level in values[name])
    return section(**values)


def _spelled(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        if "function" in value:
            return (str(value["function"]),)
        return tuple(f"{name}={weight}" for name, weight in value.items())
    if isinstance(value, list):
        return tuple(part for item in value for part in _spelled(item))
    return (str(value),)


def _environment_of(flags: Any, base: TradingEnvConfig) -> TradingEnvConfig:
    values = _shallow(flags)
    unchanged = _shallow(_to_flags(type(flags), base))
    for name in _ENVIRONMENT_TYPES:
        # A value that no flag touched stays the object it was: not all of them can be spelled.
        if name in values and values[name] == unchanged[name]:
            values[name] = getattr(base, name)
    if values["window_sizes"] is base.window_sizes and len(set(base.windows)) == 1:
        values["window_sizes"] = base.windows[0]  # one size serves any number of frames
    for name in ("time_frames", "window_sizes", "initial_cash"):
        if isinstance(values[name], tuple) and len(values[name]) == 1:
            values[name] = values[name][0]
    if values["features"] is not base.features:
        named = tuple(
            import_name("features", one) if ":" in one else one for one in values["features"]
        )
        values["features"] = named[0] if len(named) == 1 else named
    if values["reward"] is not base.reward:
        values["reward"] = _reward_of(values["reward"])
    return type(base)(**values)


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
