"""The whole configuration as one value: its tables, and what holds between them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from live.config.environments import (
    ENVIRONMENTS,
    BybitFuturesTradingEnvConfig,
    EnvConfig,
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
from live.fields import ConfigError, Table
from live.risk import RiskConfig

_ROUNDING = 1e-9  # of shares such as 1/3
DEFAULT_ENVIRONMENT = "BybitFuturesTradingEnv"
ENVIRONMENT_NAME = "name"  # field of the table [env] that is none of its dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig:
    """Everything that determines a run, one table each; the type of ``env`` is the environment.

    Every symbol is traded with the fields of ``env``; see `symbols` and `env_of`.
    """

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
        self._adopt_symbol()
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)

    def _adopt_symbol(self) -> None:
        """Let ``env.symbol``, where nobody named one, be the first of several."""
        symbols, usual = self.runner.symbols, type(self.env).table_fields()["symbol"].default
        if symbols and self.env.symbol == usual and not self._spelled(usual):
            object.__setattr__(self, "env", _with(self.env, symbol=symbols[0]))

    def _spelled(self, symbol: str) -> str | None:
        """The configured spelling of a symbol, None where it is not traded."""
        name = self._canonical(symbol)
        return next((one for one in self.symbols if self._canonical(one) == name), None)

    def _canonical(self, symbol: str) -> str:
        """The one name of a symbol; a spelling that the venue does not know stands for itself."""
        try:
            return self.env.constants.canonical(symbol)
        except ValueError:
            return symbol

    def _problems(self) -> Iterator[str]:
        env, runner = self.env, self.runner
        yield from self._symbol_problems()
        if env.constants.venue != self.venue.name:
            yield (
                f"[venue] name: {self.environment} trades on {env.constants.venue!r}, was "
                f"{self.venue.name!r}"
            )
        yield from self._deadman_problems()
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

    def _deadman_problems(self) -> Iterator[str]:
        known, seconds = self.env.constants.deadman_seconds, self.risk.deadman_seconds
        if not seconds:
            return
        if known is None:
            yield f"[risk] deadman_seconds: {self.venue.name!r} has no such timer; write 0"
        elif not (known[0] <= seconds <= known[1] and seconds % 1 == 0):
            yield (
                f"[risk] deadman_seconds: {self.venue.name!r} takes whole seconds from {known[0]} "
                f"to {known[1]}, or 0 = off; was {seconds:g}"
            )

    def _symbol_problems(self) -> Iterator[str]:
        given: dict[str, str] = {}
        for symbol in self.runner.symbols:
            try:
                name = self.env.constants.canonical(symbol)
            except ValueError as error:
                yield f"[runner] symbols: {str(error).rstrip('.')}"
                continue
            if name in given:
                yield f"[runner] symbols: {given[name]!r} and {symbol!r} are one; name it once"
            given[name] = symbol
        if self.runner.symbols and not self._spelled(self.env.symbol):
            yield symbol_conflict(self.env.symbol, self.runner.symbols)
        count, allocation = len(self.symbols), self.env.allocation
        if allocation is not None and allocation <= 1 < allocation * count - _ROUNDING:
            yield (
                f"[env] allocation: {count} symbols with {allocation:g} of the equity each need "
                f"{allocation * count:g} of it; give at most {1 / count:.6g}, or none for equal "
                "shares"
            )

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is traded, as spelled: ``[runner] symbols`` or the one of ``[env] symbol``."""
        return self.runner.symbols or (self.env.symbol,)

    def env_of(self, symbol: str) -> EnvConfig:
        """The environment of one symbol: its name, and the part of the equity that it may use.

        Without ``allocation`` one symbol may use everything (None) and several an equal share each.

        Args:
          symbol: one of `symbols`, in any spelling.

        Raises:
          KeyError: it is not traded.
        """
        spelled = self._spelled(symbol)
        if spelled is None:
            raise KeyError(f"{symbol}: not traded; known: {', '.join(self.symbols)}")
        allocation, count = self.env.allocation, len(self.symbols)
        if allocation is None and count > 1:
            allocation = 1 / count
        return _with(self.env, symbol=spelled, allocation=allocation)

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
            named = {ENVIRONMENT_NAME: self.environment} if section == "env" else {}
            tables[section] = {**named, **plain(table.values(secrets=secrets))}
        return tables

    @property
    def digest(self) -> str:
        """SHA-256 hex of the whole configuration."""
        text = json.dumps(self.to_dict(secrets=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def symbol_conflict(symbol: str, symbols: tuple[str, ...]) -> str:
    """What is wrong where ``[env] symbol`` is none of ``[runner] symbols``."""
    return (
        f"[env] symbol: {symbol!r} is none of [runner] symbols ({', '.join(symbols)}); "
        "remove one of both"
    )


def _with(env: EnvConfig, **changed: Any) -> EnvConfig:
    """The same environment with other fields, without repeating its warnings."""
    if all(getattr(env, name) == value for name, value in changed.items()):
        return env
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dataclasses.replace(env, **changed)


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
