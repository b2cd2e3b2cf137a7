"""The daemon's configuration: one TOML file, variables of the environment, the command line.

The later wins: file, then ``JAXTRADE__SECTION__FIELD``, then what the caller passes as overrides.
Everything that is wrong anywhere is named in one message.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jaxtrade.hints import did_you_mean
from live.config.environments import (
    BYBIT,
    ENVIRONMENTS,
    BracketEnvConfig,
    BybitFuturesSLTPTradingEnvConfig,
    BybitFuturesTradingEnvConfig,
    EnvConfig,
    ExchangeEnvConfig,
    FractionalEnvConfig,
    VenueConstants,
)
from live.config.tables import (
    ClockConfig,
    JournalConfig,
    NotifyConfig,
    PolicyConfig,
    RateConfig,
    ReconcileConfig,
    RunnerConfig,
    ServerConfig,
    VenueConfig,
)
from live.fields import ConfigError, Table, parse_value
from live.risk import RiskConfig

__all__ = [
    "BYBIT",
    "ENVIRONMENTS",
    "BracketEnvConfig",
    "BybitFuturesSLTPTradingEnvConfig",
    "BybitFuturesTradingEnvConfig",
    "ClockConfig",
    "ConfigError",
    "EnvConfig",
    "ExchangeEnvConfig",
    "FractionalEnvConfig",
    "JournalConfig",
    "LiveConfig",
    "NotifyConfig",
    "PolicyConfig",
    "RateConfig",
    "ReconcileConfig",
    "RiskConfig",
    "RunnerConfig",
    "ServerConfig",
    "VenueConfig",
    "VenueConstants",
    "check_modes",
    "load",
    "load_tables",
    "merge",
]

PREFIX = "JAXTRADE__"
CONFIRM_VARIABLE = "JAXTRADE_CONFIRM_LIVE"
DEFAULT_ENVIRONMENT = "BybitFuturesTradingEnv"

# Table -> its dataclass; the table [env] names its own.
TABLES: Mapping[str, type[Table]] = {
    "runner": RunnerConfig,
    "venue": VenueConfig,
    "risk": RiskConfig,
    "reconcile": ReconcileConfig,
    "clock": ClockConfig,
    "journal": JournalConfig,
    "rate": RateConfig,
    "server": ServerConfig,
    "notify": NotifyConfig,
    "policy": PolicyConfig,
}
SECTIONS = ("runner", "venue", "env", *tuple(TABLES)[2:])
_ENVIRONMENT_NAME = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig:
    """Everything that determines a run, one table each; the type of ``env`` is the environment."""

    runner: RunnerConfig = field(default_factory=RunnerConfig)
    venue: VenueConfig = field(default_factory=VenueConfig)
    env: EnvConfig = field(default_factory=BybitFuturesTradingEnvConfig)
    risk: RiskConfig = field(default_factory=RiskConfig)
    reconcile: ReconcileConfig = field(default_factory=ReconcileConfig)
    clock: ClockConfig = field(default_factory=ClockConfig)
    journal: JournalConfig = field(default_factory=JournalConfig)
    rate: RateConfig = field(default_factory=RateConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)

    def _problems(self) -> Iterator[str]:
        env, runner = self.env, self.runner
        if env.constants.venue != self.venue.name:
            yield (
                f"[venue] name: {self.environment} trades on {env.constants.venue!r}, was "
                f"{self.venue.name!r}"
            )
        bar = self.bar_seconds
        for name, seconds in (
            ("bar_deadline", runner.bar_deadline_seconds(bar)),
            ("policy_timeout_seconds", runner.policy_seconds(bar)),
            ("intent_ttl_seconds", runner.intent_seconds(bar)),
            ("bar_delay_seconds", runner.bar_delay_seconds),
        ):
            if seconds >= bar:
                yield (
                    f"[runner] {name}: must be shorter than a bar of [env] execute_on "
                    f"({bar:g} seconds), was {seconds:g}"
                )

    @property
    def environment(self) -> str:
        """Name of the environment."""
        names = [name for name, kind in ENVIRONMENTS.items() if kind is type(self.env)]
        return names[0] if names else type(self.env).__name__

    @property
    def bar_seconds(self) -> float:
        """Length of an execution bar."""
        return float(self.env.execution_frame.seconds)

    @property
    def bar_deadline_seconds(self) -> float:
        """Until when, after its end, a bar must have been read."""
        return self.runner.bar_deadline_seconds(self.bar_seconds)

    @property
    def policy_timeout_seconds(self) -> float:
        """How long the policy may take."""
        return self.runner.policy_seconds(self.bar_seconds)

    @property
    def intent_ttl_seconds(self) -> float:
        """How old an intent may be when it is sent."""
        return self.runner.intent_seconds(self.bar_seconds)

    def to_dict(self, *, secrets: bool = False) -> dict[str, dict[str, Any]]:
        """JSON-able tables as `load` reads them; addresses that are secrets only on request."""
        tables: dict[str, dict[str, Any]] = {}
        for section in SECTIONS:
            table: Table = getattr(self, section)
            named = {_ENVIRONMENT_NAME: self.environment} if section == "env" else {}
            tables[section] = {**named, **plain(table.values(secrets=secrets))}
        return tables

    @property
    def digest(self) -> str:
        """SHA-256 hex of the whole configuration."""
        text = json.dumps(self.to_dict(secrets=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """A field's value as JSON knows it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return str(value)


# Reading ----------------------------------------------------------------------------------------


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
        try:
            return LiveConfig(**tables)
        except ConfigError as error:
            problems += error.problems
    if path is not None:
        problems[0] = f"{path}: {problems[0]}"
    raise ConfigError(problems)


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
            merged.values[section] = dict(table)
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
    given.sort(key=lambda item: item[2] != _ENVIRONMENT_NAME)
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
        return ENVIRONMENTS.get(str(table.get(_ENVIRONMENT_NAME, DEFAULT_ENVIRONMENT)))
    return TABLES[section]


def _build(section: str, values: Mapping[str, Any]) -> Any:
    if section != "env":
        return TABLES[section].build(values)
    given = dict(values)
    name = given.pop(_ENVIRONMENT_NAME, DEFAULT_ENVIRONMENT)
    kind = ENVIRONMENTS.get(str(name))
    if kind is None:
        hint = did_you_mean(name, ENVIRONMENTS) or f"known: {', '.join(ENVIRONMENTS)}"
        raise ConfigError([f"{_ENVIRONMENT_NAME}: no environment {name!r}; {hint}"])
    return kind.build(given)


def _unknown_section(section: str) -> str:
    hint = did_you_mean(section, SECTIONS) or f"known: {', '.join(SECTIONS)}"
    return f"unknown table [{section}]; {hint}"


# Modes ------------------------------------------------------------------------------------------


def check_modes(config: LiveConfig, confirm: str | None = None) -> None:
    """Refuse every combination of mode, account and confirmation but the three that make sense.

    Real money needs two switches: ``demo = false`` in the environment, and the account's name on
    the command line or in ``JAXTRADE_CONFIRM_LIVE``. That the name is the account's is checked by
    `live.secrets.confirm_account` once the venue has told it.

    Args:
      confirm: the account's name as given.

    Raises:
      ConfigError: naming everything that does not fit.
    """
    problems = list(_mode_problems(config, confirm))
    if problems:
        raise ConfigError(problems)


def _mode_problems(config: LiveConfig, confirm: str | None) -> Iterator[str]:
    mode, env = config.runner.mode, config.env
    if mode == "live":
        if env.demo:
            yield "[env] demo: must be false with [runner] mode = 'live'"
        if not confirm:
            yield (
                "mode 'live' trades real money: confirm it with --confirm-live ACCOUNT or "
                f"{CONFIRM_VARIABLE}=ACCOUNT (the account's id, or key: and the first 8 hex digits "
                "of the SHA-256 of its API key)"
            )
        if config.venue.base_url is not None or config.venue.stream_url is not None:
            yield "[venue] base_url, stream_url: a local exchange server is not real money; remove"
    else:
        if not env.demo:
            yield (
                f"[env] demo: must be true with [runner] mode = {mode!r}; real money needs "
                "mode = 'live'"
            )
        if confirm is not None:
            yield f"--confirm-live and {CONFIRM_VARIABLE}: only for mode 'live', mode is {mode!r}"
    unstopped = isinstance(env, FractionalEnvConfig) and env.disaster_stop_fraction is None
    if mode != "paper" and unstopped:
        yield (
            f"[env] disaster_stop_fraction: none is for replay and paper; mode {mode!r} needs "
            "'auto' or a fraction"
        )


def confirmation(given: str | None, environ: Mapping[str, str] | None = None) -> str | None:
    """The confirmed account of the command line or, failing that, of the environment.

    Raises:
      ConfigError: both are given and differ.
    """
    variable = (os.environ if environ is None else environ).get(CONFIRM_VARIABLE) or None
    if given and variable and given != variable:
        raise ConfigError([f"--confirm-live and {CONFIRM_VARIABLE} name different accounts"])
    return given or variable
