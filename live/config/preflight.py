"""What can be checked before a run without asking the venue; it changes nothing."""

from __future__ import annotations

import dataclasses
import enum
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from live import config as configs
from live.config.environments import FractionalEnvConfig
from live.fields import ConfigError
from live.journal.reading import JournalReader
from live.journal.storage import JournalError
from live.operations import mailbox
from live.operations.control import Place
from live.secrets import read_private, read_secrets, refuse_unused

_MIB, _GIB = 2**20, 2**30


class Verdict(enum.StrEnum):
    """Outcome of a check, the worst last."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One check: what it found and, where that is bad, what to do."""

    group: str
    verdict: Verdict
    text: str


def checks(
    path: str | Path | None,
    overrides: Mapping[str, Any],
    confirm: str | None,
    credentials: str | Path | None,
    environ: Mapping[str, str] | None = None,
) -> list[Row]:
    """Every check; a configuration that does not load ends it."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            config = configs.load(path, overrides, environ)
        except ConfigError as error:
            return [Row("config", Verdict.FAIL, problem) for problem in error.problems]
    rows = [Row("config", Verdict.OK, f"{config.environment}, mode {config.runner.mode}")]
    rows += [Row("config", Verdict.WARN, str(note.message)) for note in noted]
    rows += _remarks(config)
    parts: tuple[tuple[str, Callable[[], Iterator[Row]]], ...] = (
        ("modes", lambda: _modes(config, confirm)),
        ("secrets", lambda: _secrets(config, credentials, environ)),
        ("policy", lambda: _policy(config)),
        ("host", lambda: _host(config)),
        ("state", lambda: _state(config)),
    )
    for group, part in parts:
        try:
            rows += part()
        except (ConfigError, JournalError, OSError) as error:
            rows.append(Row(group, Verdict.FAIL, str(error)))
    return rows


def worst(rows: list[Row]) -> Verdict:
    """The verdict of the whole."""
    order = list(Verdict)
    return max((row.verdict for row in rows), key=order.index, default=Verdict.OK)


def _remarks(config: configs.LiveConfig) -> Iterator[Row]:
    env = config.env
    full = isinstance(env, FractionalEnvConfig) and any(abs(x) == 1 for x in env.action_levels)
    if full and env.equity_buffer == 0:
        text = "[env] equity_buffer: 0 with a level of 1 may be refused for margin; 0.02 is usual"
        yield Row("config", Verdict.WARN, text)
    if config.risk.disabled:
        text = f"[risk] disabled: {', '.join(config.risk.disabled)} do not protect this run"
        yield Row("config", Verdict.WARN, text)


def _modes(config: configs.LiveConfig, confirm: str | None) -> Iterator[Row]:
    configs.check_modes(config, confirm)
    yield Row("modes", Verdict.OK, f"{config.runner.mode} on {config.venue.name}")


def _secrets(
    config: configs.LiveConfig,
    credentials: str | Path | None,
    environ: Mapping[str, str] | None,
) -> Iterator[Row]:
    if config.runner.mode == "paper":
        given = None if credentials is None else str(credentials)
        refuse_unused({"--credentials": given}, "paper mode reads no keys")
        yield Row("secrets", Verdict.SKIP, "paper mode reads no keys")
        return
    found = read_secrets(config.env.constants.secrets, environ=environ, file=credentials)
    names = ", ".join(f"{secret.name} ({secret.fingerprint})" for secret in found.values())
    yield Row("secrets", Verdict.OK, names)


def _policy(config: configs.LiveConfig) -> Iterator[Row]:
    policy = config.policy
    if not policy.sources:
        yield Row("policy", Verdict.FAIL, "[policy] bundle: give a bundle, factory or baseline")
    elif policy.bundle is not None and not policy.bundle.exists():
        yield Row("policy", Verdict.FAIL, f"[policy] bundle: {policy.bundle} does not exist")
    else:
        try:
            said = _fit(config)
        except (ValueError, OSError, ImportError) as error:
            yield Row("policy", Verdict.FAIL, f"[policy] {policy.sources[0]}: {error}")
        else:
            yield Row("policy", Verdict.OK, said)


def _fit(config: configs.LiveConfig) -> str:
    """Load the policy as a run would, for an instrument without filters.

    Raises:
      ValueError, OSError, ImportError: it cannot be loaded or does not fit.
    """
    # Heavy, and of no use to the other checks.
    from live.replay.account import unfiltered
    from live.replay.backtest import terms_of
    from live.runner import decision_of, policy_of

    decision = decision_of(config.env, unfiltered(terms_of(config)))
    _, policy = policy_of(config, decision)
    return f"{policy.name} fits"


def _host(config: configs.LiveConfig) -> Iterator[Row]:
    folder = config.runner.folder
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < config.journal.min_free_mib * _MIB:
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.WARN if free < config.journal.warn_free_gib * _GIB else Verdict.OK
    yield Row("host", verdict, f"{free / _GIB:.1f} GiB free at {existing}")
    if not os.access(existing, os.W_OK):
        yield Row("host", Verdict.FAIL, f"{existing}: cannot be written")
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy")]
    if proxies:
        text = f"{', '.join(proxies)}: requests with keys would pass a proxy; unset"
        yield Row("host", Verdict.WARN, text)


def _state(config: configs.LiveConfig) -> Iterator[Row]:
    place = Place(config.runner.folder, config.journal.path, config.server)
    if place.folder.exists() and place.folder.stat().st_mode & 0o077:
        yield Row("state", Verdict.FAIL, f"{place.folder}: chmod 700, others may enter it")
    tokens = place.folder / "tokens"
    if tokens.exists():
        read_private(tokens)
    halt = mailbox.read_halt(place.folder)
    if halt is not None:
        yield Row("state", Verdict.WARN, f"the file HALT is there: {halt}; `jaxtrade live resume`")
    if place.running:
        yield Row("state", Verdict.WARN, "a daemon runs in this state folder")
    for path in place.journals:
        journal = JournalReader.view(path)
        latches, lost = journal.latches(), journal.unresolved()
        journal.close()
        for latch in latches:
            text = f"{path.name}: {latch.state} ({latch.reason}); `jaxtrade live resume` clears it"
            yield Row("state", Verdict.WARN, text)
        if lost:
            text = f"{path.name}: {len(lost)} orders of unknown outcome, asked for at the start"
            yield Row("state", Verdict.WARN, text)
        if not latches and not lost:
            yield Row("state", Verdict.OK, f"{path.name}: readable, nothing open")
    if not place.journals:
        yield Row("state", Verdict.OK, f"{place.folder}: no journal yet")
