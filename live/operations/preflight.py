"""What can be checked before a run without asking the venue; it changes nothing."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from live import config as configs
from live import mailbox
from live.config.environments import FractionalEnvConfig
from live.fields import ConfigError
from live.journal.checking import checked, copy_path, lock_path
from live.journal.failures import JournalError
from live.journal.reading import JournalReader
from live.operations import doctor_host as host
from live.operations.control import Place
from live.operations.doctor_rows import Check, Row, Verdict, guarded, worst
from live.secrets import read_private, read_secrets, refuse_unused

__all__ = ["Row", "Verdict", "checks", "loaded", "local", "policy", "worst"]


def checks(
    path: str | Path | None,
    overrides: Mapping[str, Any],
    confirm: str | None,
    credentials: str | Path | None,
    environ: Mapping[str, str] | None = None,
) -> list[Row]:
    """Every check; a configuration that does not load ends it."""
    config, rows = loaded(path, overrides, environ)
    if config is None:
        return rows
    return rows + local(config, confirm, credentials, path=path, environ=environ)


def loaded(
    path: str | Path | None,
    overrides: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
) -> tuple[configs.LiveConfig | None, list[Row]]:
    """The configuration, None where it cannot be used, and what is to be said of it."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            config = configs.load(path, overrides, environ)
        except ConfigError as error:
            return None, [Row("config", "fields", Verdict.FAIL, text) for text in error.problems]
    text = f"{config.environment}, mode {config.runner.mode}"
    rows = [Row("config", "fields", Verdict.OK, text)]
    return config, rows + [Row("config", "remark", Verdict.WARN, str(n.message)) for n in noted]


def local(
    config: configs.LiveConfig,
    confirm: str | None,
    credentials: str | Path | None,
    *,
    path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[Row]:
    """What a configuration that loads, this machine and the state folder say.

    Args:
      path: of the configuration, which must hold no key.
    """
    parts: tuple[tuple[str, str, Check], ...] = (
        ("config", "remarks", lambda: _remarks(config)),
        ("config", "training", lambda: _training(config)),
        ("modes", "switches", lambda: _modes(config, confirm)),
        ("secrets", "keys", lambda: _secrets(config, credentials, path, environ)),
        ("policy", "fit", lambda: policy(config)),
        (host.GROUP, "versions", host.versions),
        (host.GROUP, "disk", lambda: host.disk(config)),
        (host.GROUP, "fsync", lambda: host.syncs(config)),
        (host.GROUP, "limits", lambda: host.limits(environ)),
        ("state", "folder", lambda: _state(config)),
        ("state", "journal", lambda: _journals(config)),
    )
    return [row for part in parts for row in guarded(*part)]


# Configuration ----------------------------------------------------------------------------------


def _remarks(config: configs.LiveConfig) -> Iterator[Row]:
    env = config.env
    full = isinstance(env, FractionalEnvConfig) and any(abs(x) == 1 for x in env.action_levels)
    if full and env.equity_buffer == 0:
        text = "[env] equity_buffer: 0 with a level of 1 may be refused for margin"
        yield Row("config", "buffer", Verdict.WARN, text, "0.02 is usual")
    if config.risk.disabled:
        text = f"[risk] disabled: {', '.join(config.risk.disabled)} do not protect this run"
        yield Row("config", "disabled", Verdict.WARN, text)


def _training(config: configs.LiveConfig) -> Iterator[Row]:
    """What the policy was trained with and no venue does."""
    bundle = config.policy.bundle
    if bundle is None or not bundle.is_file():
        return
    from jaxtrade.bundle import Bundle

    threshold = Bundle.load(bundle).config.get("margin_call_threshold")
    if threshold is not None:
        text = f"trained with margin_call_threshold {threshold:g}, which no venue enforces"
        yield Row("config", "margin call", Verdict.WARN, text, "expect later liquidations")


def _modes(config: configs.LiveConfig, confirm: str | None) -> Iterator[Row]:
    configs.check_modes(config, confirm)
    text = f"{config.runner.mode} on {config.venue.name}"
    yield Row("modes", "switches", Verdict.OK, text)


def _secrets(
    config: configs.LiveConfig,
    credentials: str | Path | None,
    path: str | Path | None,
    environ: Mapping[str, str] | None,
) -> Iterator[Row]:
    if config.runner.mode == "paper":
        given = None if credentials is None else str(credentials)
        refuse_unused({"--credentials": given}, "paper mode reads no keys")
        yield Row("secrets", "keys", Verdict.SKIP, "paper mode reads no keys")
        return
    found = read_secrets(config.env.constants.secrets, environ=environ, file=credentials)
    names = ", ".join(f"{secret.name} ({secret.fingerprint})" for secret in found.values())
    yield Row("secrets", "keys", Verdict.OK, names)
    if path is None:
        return
    written = Path(path).read_text(encoding="utf-8", errors="replace")
    for secret in found.values():
        if secret.reveal() in written:
            text = f"{path} holds {secret.name}"
            yield Row("secrets", "copies", Verdict.FAIL, text, "remove it there and make a new key")


def policy(config: configs.LiveConfig) -> Iterator[Row]:
    """Whether there is a policy, and whether it fits the configuration."""
    given = config.policy
    if not given.sources:
        text = "[policy] bundle: give a bundle, factory or baseline"
        yield Row("policy", "fit", Verdict.FAIL, text)
    elif given.bundle is not None and not given.bundle.exists():
        text = f"[policy] bundle: {given.bundle} does not exist"
        yield Row("policy", "fit", Verdict.FAIL, text)
    else:
        try:
            said = _fit(config)
        except (ValueError, OSError, ImportError) as error:
            yield Row("policy", "fit", Verdict.FAIL, f"[policy] {given.sources[0]}: {error}")
        else:
            yield Row("policy", "fit", Verdict.OK, said)


def _fit(config: configs.LiveConfig) -> str:
    """Load the policy as a run would, for an instrument without filters.

    Raises:
      ValueError, OSError, ImportError: it cannot be loaded or does not fit.
    """
    # Heavy, and of no use to the other checks.
    from live.replay.backtest import terms_of
    from live.replay.filters import unfiltered
    from live.trading.policies import decision_of, policy_of

    decision = decision_of(config.env_of(config.symbols[0]), unfiltered(terms_of(config)))
    _, found = policy_of(config, decision)
    return f"{found.name} fits"


# State ------------------------------------------------------------------------------------------


def _place(config: configs.LiveConfig) -> Place:
    return Place(config.runner.folder, config.journal.path, config.server)


def _state(config: configs.LiveConfig) -> Iterator[Row]:
    place = _place(config)
    if place.folder.exists() and place.folder.stat().st_mode & 0o077:
        text = f"{place.folder}: others may enter it"
        yield Row("state", "folder", Verdict.FAIL, text, f"chmod 700 {place.folder}")
    tokens = place.folder / "tokens"
    if tokens.exists():
        read_private(tokens)
    halt = mailbox.read_halt(place.folder)
    if halt is not None:
        text = f"the file HALT is there: {halt}"
        yield Row("state", "halt", Verdict.WARN, text, "jaxtrade live resume --reason TEXT")
    if not place.journals:
        yield Row("state", "journal", Verdict.OK, f"{place.folder}: no journal yet")


def _journals(config: configs.LiveConfig) -> Iterator[Row]:
    place = _place(config)
    for path in place.journals:
        yield from _lock(path)
        yield from guarded("state", "journal", functools.partial(_journal, path))
        yield from _copy(copy_path(path))


def _journal(path: Path) -> Iterator[Row]:
    """What opening it for reading, which checks every row, and its contents say."""
    journal = JournalReader.view(path)
    try:
        latches, lost = journal.latches(), journal.unresolved()
        waiting = journal.adjustments(acknowledged=False)
    finally:
        journal.close()
    for latch in latches:
        text = f"{path.name}: {latch.state} ({latch.reason})"
        yield Row("state", "latch", Verdict.WARN, text, "jaxtrade live resume --reason TEXT")
    if lost:
        text = f"{path.name}: {len(lost)} orders of unknown outcome"
        yield Row("state", "unknown orders", Verdict.WARN, text, "the start asks the venue")
    if waiting:
        text = f"{path.name}: {len(waiting)} changes that no order explains"
        fix = "jaxtrade live acknowledge --reason TEXT"
        yield Row("state", "adjustments", Verdict.WARN, text, fix)
    if not (latches or lost or waiting):
        yield Row("state", "journal", Verdict.OK, f"{path.name}: intact, nothing open")


def _copy(path: Path) -> Iterator[Row]:
    """Whether the copy that a start continues could be restored; without one nothing is said."""
    try:
        if checked(path, {}, 0):
            yield Row("state", "copy", Verdict.OK, f"{path.name}: intact")
    except JournalError:
        fix = f"remove {path}; the next start makes a new one"
        yield Row("state", "copy", Verdict.WARN, f"{path.name}: damaged, of no use", fix)


def _lock(path: Path) -> Iterator[Row]:
    """Who holds a journal; a lock ends with its process, whatever file is left."""
    lock = lock_path(path)
    if lock.exists() and not os.access(lock, os.R_OK | os.W_OK):
        fix = f"chown it to the user of the daemon, or remove {lock}"
        yield Row("state", "lock", Verdict.FAIL, f"{lock} cannot be used", fix)
    elif Place(path.parent, path, configs.ServerConfig()).running:
        text = f"a daemon runs in this state folder, it holds {path.name}"
        yield Row("state", "lock", Verdict.WARN, text, "a second one does not start")
    else:
        yield Row("state", "lock", Verdict.OK, f"{path.name}: nobody holds it")
