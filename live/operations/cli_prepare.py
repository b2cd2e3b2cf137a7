"""Commands that prepare a run: a configuration file, its checks, what is in force."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from live.operations.cli_options import ERROR, SUCCESS, file_of, overrides_of
from live.operations.doctor_rows import Row, Verdict, guarded, worst

if TYPE_CHECKING:
    from live.config import LiveConfig


def init(given: argparse.Namespace) -> int:
    """Write a configuration file with every field, its default and its rule.

    Environment, frames, actions and leverage are those of a bundle's training, if one is there.
    """
    from jaxtrade.hints import did_you_mean
    from live.config.environments import ENVIRONMENTS
    from live.config.template import initial

    if given.environment not in ENVIRONMENTS:
        hint = did_you_mean(given.environment, ENVIRONMENTS) or f"known: {', '.join(ENVIRONMENTS)}"
        raise ValueError(f"--environment: no environment {given.environment!r}; {hint}")
    environment: str = given.environment
    fields: dict[str, Any] = {}
    if given.policy is not None and Path(given.policy).is_file():
        from live.config.trained import settings_of

        environment, fields = settings_of(given.policy)
    policy = None if given.policy is None else _beside(given.policy, given.file)
    text = initial(environment, given.file.name, policy, fields)
    try:
        with given.file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ValueError(f"{given.file}: exists already; remove it or name another") from None
    said = f"wrote {given.file}; next: jaxtrade live doctor --config {given.file}"
    print(json.dumps({"file": str(given.file)}) if given.json else said)
    return SUCCESS


def _beside(policy: str, file: Path) -> str:
    """A path as the configuration file has to write it: relative to its own folder."""
    path, folder = Path(policy).expanduser(), file.parent.resolve()
    if path.is_absolute() or folder == Path.cwd():
        return policy
    return os.path.relpath(path.parent.resolve() / path.name, folder)


def check(given: argparse.Namespace) -> int:
    """Check configuration, keys, policy and state: the doctor without what it asks the venue."""
    from live.config import confirmation
    from live.operations.preflight import checks

    confirm = confirmation(given.confirm_live)
    return told(checks(file_of(given), overrides_of(given), confirm, given.credentials), given.json)


def doctor(given: argparse.Namespace) -> int:
    """Check everything that can be known before a run, at the venue too; no order is placed."""
    from live.config import confirmation
    from live.operations.doctor import examine

    rows = examine(
        file_of(given),
        overrides_of(given),
        confirm=confirmation(given.confirm_live),
        credentials=given.credentials,
        withdrawing=given.allow_withdraw_keys,
    )
    return told(rows, given.json)


def told(rows: list[Row], as_json: bool) -> int:
    """Print every row; the exit code is that of the worst: 1 if one fails."""
    from live.secrets import redact

    if as_json:
        print(redact(json.dumps([dataclasses.asdict(row) for row in rows])))
    else:
        print("\n".join(map(line, rows)))
    return ERROR if worst(rows) is Verdict.FAIL else SUCCESS


def line(row: Row) -> str:
    """A row for people."""
    from live.secrets import redact

    fix = f"; {row.fix}" if row.fix else ""
    return redact(f"{row.verdict.value:<4}  {row.group:<11} {row.name:<14} {row.text}{fix}")


def warn(rows: Iterable[Row]) -> None:
    """Print the rows that are not right, for people, beside the output."""
    for row in rows:
        if row.verdict in (Verdict.WARN, Verdict.FAIL):
            print(line(row), file=sys.stderr)


def config(given: argparse.Namespace) -> int:
    """Show the merged configuration, check it, or list every field with default and rule."""
    from live import config as configs
    from live.config import template

    if given.what == "schema":
        print(json.dumps(template.reference(), indent=2))
        return SUCCESS
    path, overrides = file_of(given), overrides_of(given)
    loaded = configs.load(path, overrides)
    if given.what == "check":
        return _fits(path, loaded, as_json=given.json)
    if given.json:
        print(json.dumps(loaded.to_dict()))
    else:
        print(template.merged(loaded, configs.merge(path, overrides).origins))
    return SUCCESS


def _fits(path: Path | None, loaded: LiveConfig, *, as_json: bool) -> int:
    """Say whether a run would take a configuration that was loaded, its policy included."""
    from live.operations import preflight

    rows = guarded("policy", "fit", lambda: preflight.policy(loaded))
    problems = [row.text for row in rows if row.verdict is Verdict.FAIL]
    named = path or "defaults"
    if as_json:
        print(json.dumps({"fits": not problems, **({"problems": problems} if problems else {})}))
    elif problems:
        print(f"{named}: does not fit: {'; '.join(problems)}")
    else:
        print(f"{named}: fits, {loaded.environment}, mode {loaded.runner.mode}")
    return ERROR if problems else SUCCESS
