"""Commands that prepare a run: a configuration file, its checks, what is in force."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from live.operations.cli_options import ERROR, SUCCESS, file_of, overrides_of
from live.operations.doctor_rows import Row, Verdict, worst


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
    text = initial(environment, given.file.name, given.policy, fields)
    try:
        with given.file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ValueError(f"{given.file}: exists already; remove it or name another") from None
    said = f"wrote {given.file}; next: jaxtrade live doctor --config {given.file}"
    print(json.dumps({"file": str(given.file)}) if given.json else said)
    return SUCCESS


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
        said = f"{path or 'defaults'}: fits, {loaded.environment}, mode {loaded.runner.mode}"
        print(json.dumps({"fits": True}) if given.json else said)
    elif given.json:
        print(json.dumps(loaded.to_dict()))
    else:
        print(template.merged(loaded, configs.merge(path, overrides).origins))
    return SUCCESS
