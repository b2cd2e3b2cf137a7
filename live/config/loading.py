"""The daemon's configuration: one TOML file, variables of the environment, the command line.

The later wins: file, then ``JAXTRADE__SECTION__FIELD``, then what the caller passes as overrides.
Everything that is wrong anywhere is named in one message.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtrade.hints import did_you_mean
from live.config.environments import ENVIRONMENTS
from live.config.schema import (
    DEFAULT_ENVIRONMENT,
    ENVIRONMENT_NAME,
    SECTIONS,
    TABLES,
    LiveConfig,
    symbol_conflict,
)
from live.fields import ConfigError, Table, parse_value

PREFIX = "JAXTRADE__"
_NO_FILE = ("", "none")


@dataclass(frozen=True, slots=True)
class Merged:
    """What was given, before values are checked.

    Attributes:
      values: table -> field -> value. origins: (table, field) -> file, variable or option.
      problems: names of tables that do not exist, and the like.
    """

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def load(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LiveConfig:
    """The configuration of a daemon.

    Args:
      path: TOML file; None = defaults alone.
      overrides: "section.field" -> value; text is read as in TOML, or is the value itself.
      environ: variables; None = those of the process.

    Raises:
      ConfigError: naming every unknown name and every value that does not fit.
      FileNotFoundError: there is no such file.
    """
    merged = merge(path, overrides, environ)
    problems = list(merged.problems)
    tables: dict[str, Any] = {}
    for section in SECTIONS:
        try:
            tables[section] = _build(section, merged.values.get(section, {}))
        except ConfigError as error:
            problems += [f"[{section}] {problem}" for problem in error.problems]
    if not problems:
        problems += _symbol_problems(merged, tables)
    if not problems:
        try:
            return LiveConfig(**tables)
        except ConfigError as error:
            problems += error.problems
    if path is not None:
        problems[0] = f"{path}: {problems[0]}"
    raise ConfigError(problems)


def _symbol_problems(merged: Merged, tables: Mapping[str, Any]) -> list[str]:
    """A symbol that was given, even the usual one, beside others that were given."""
    env, runner = tables["env"], tables["runner"]
    if not runner.symbols or "symbol" not in merged.values.get("env", {}):
        return []
    canonical = env.constants.canonical
    try:
        among = canonical(env.symbol) in [canonical(symbol) for symbol in runner.symbols]
    except ValueError:
        return []  # said by the whole
    return [] if among else [symbol_conflict(env.symbol, runner.symbols)]


def load_tables(
    path: str | Path | None,
    sections: tuple[str, ...],
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Some tables alone: a daemon can be halted although another table is broken.

    Raises:
      ConfigError: one of these tables is wrong.
    """
    merged = merge(path, overrides, environ)
    return {section: _build(section, merged.values.get(section, {})) for section in sections}


def merge(
    path: str | Path | None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Merged:
    """What was given, the later over the earlier; values are not checked.

    Raises:
      ConfigError: the file is not TOML.
      FileNotFoundError: there is no such file.
    """
    merged = Merged()
    problems = merged.problems
    source = "" if path is None else str(path)
    for section, table in _read_file(path).items():
        if not isinstance(table, Mapping):
            problems.append(f"{section}: expected a table [{section}], was a single value")
        elif section not in SECTIONS:
            problems.append(_unknown_section(section))
        else:
            merged.values[section] = _located(section, table, Path(source).parent)
            merged.origins.update({(section, name): source for name in table})
    variables = os.environ if environ is None else environ
    given: list[tuple[str, str, str, Any]] = []
    for variable in sorted(variables):
        if variable.startswith(PREFIX):
            section, _, name = variable[len(PREFIX) :].lower().partition("__")
            given.append((variable, section, name.replace("__", "."), variables[variable]))
    for dotted, value in (overrides or {}).items():
        section, _, name = dotted.partition(".")
        given.append((f"option {dotted}", section, name, value))
    # The environment's name says what the other texts of its table mean.
    given.sort(key=lambda item: item[2] != ENVIRONMENT_NAME)
    for origin, section, name, value in given:
        if section not in SECTIONS:
            problems.append(f"{origin}: {_unknown_section(section)}")
        elif not name:
            problems.append(f"{origin}: names no field; expected section and field")
        else:
            _put(merged, section, name, value, origin)
    return merged


def _read_file(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such file; `jaxtrade live init` writes one to start from"
        ) from None
    except ValueError as error:
        raise ConfigError([f"{path}: cannot be read as TOML ({error})"]) from None


def _located(section: str, table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A table of the file; the bundle that it names is looked for from the file's folder."""
    found = dict(table)
    bundle = found.get("bundle")
    if section == "policy" and isinstance(bundle, str) and bundle.strip().lower() not in _NO_FILE:
        found["bundle"] = str(folder / Path(bundle).expanduser())
    return found


def _put(merged: Merged, section: str, name: str, value: Any, origin: str) -> None:
    table = merged.values.setdefault(section, {})
    name, _, inner = name.partition(".")
    if inner:  # a table in the table, as [env.rules]
        nested = table.get(name)
        value = parse_value(value) if isinstance(value, str) else value
        value = {**(nested if isinstance(nested, Mapping) else {}), inner: value}
    elif isinstance(value, str):
        kind = _class_of(section, table)
        value = value if kind is None else kind.parse_text(name, value)
    table[name] = value
    merged.origins[section, name] = origin


def _class_of(section: str, table: Mapping[str, Any]) -> type[Table] | None:
    if section == "env":
        return ENVIRONMENTS.get(str(table.get(ENVIRONMENT_NAME, DEFAULT_ENVIRONMENT)))
    return TABLES[section]


def _build(section: str, values: Mapping[str, Any]) -> Any:
    if section != "env":
        return TABLES[section].build(values)
    given = dict(values)
    name = given.pop(ENVIRONMENT_NAME, DEFAULT_ENVIRONMENT)
    kind = ENVIRONMENTS.get(str(name))
    if kind is None:
        hint = did_you_mean(name, ENVIRONMENTS) or f"known: {', '.join(ENVIRONMENTS)}"
        raise ConfigError([f"{ENVIRONMENT_NAME}: no environment {name!r}; {hint}"])
    return kind.build(given)


def _unknown_section(section: str) -> str:
    hint = did_you_mean(section, SECTIONS) or f"known: {', '.join(SECTIONS)}"
    return f"unknown table [{section}]; {hint}"
