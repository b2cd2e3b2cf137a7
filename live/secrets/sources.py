"""Where keys come from, and the account that they must open."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from live.fields import ConfigError
from live.secrets.private import read_private
from live.secrets.redaction import remember
from live.secrets.secret import Secret


def read_secrets(
    wanted: Mapping[str, tuple[str, ...]],
    *,
    given: Mapping[str, str | Secret | None] | None = None,
    environ: Mapping[str, str] | None = None,
    file: str | Path | None = None,
) -> dict[str, Secret]:
    """The secrets of a venue: constructor arguments, then the environment, then a file.

    Args:
      wanted: argument -> variables that may hold it. given: argument -> value or None.
      environ: None = of this process. file: KEY=VALUE lines, readable by its owner alone.

    Raises:
      ConfigError: secrets are missing, malformed, or two sources differ; names only.
    """
    variables = os.environ if environ is None else environ
    lines = {} if file is None else read_file(file)
    problems, missing, found = [], [], {}
    for argument, names in wanted.items():
        sources: list[tuple[str, str]] = []
        direct = (given or {}).get(argument)
        if direct is not None:
            value = direct.reveal() if isinstance(direct, Secret) else direct
            sources.append((f"argument {argument}", value))
        sources += [(f"variable {name}", variables[name]) for name in names if variables.get(name)]
        sources += [(f"{file}: {name}", lines[name]) for name in names if name in lines]
        if not sources:
            missing.append(" or ".join(names))
        elif any(value != sources[0][1] for _, value in sources):
            where = ", ".join(source for source, _ in sources)
            problems.append(f"{argument}: its sources differ ({where}); keep one")
        else:
            try:
                found[argument] = Secret(names[0], sources[0][1])
            except ValueError as error:
                problems.append(str(error))
    if missing:
        problems.append(
            f"missing: {', '.join(missing)}; set them in the environment or in a file for "
            "--credentials"
        )
    if problems:
        raise ConfigError(problems)
    return found


def refuse_unused(given: Mapping[str, str | Secret | None], why: str) -> None:
    """Refuse keys where none are used; an empty one counts as given.

    Args:
      given: argument -> value. why: completes "... not used:".

    Raises:
      ConfigError: naming them.
    """
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ConfigError([f"{', '.join(names)}: not used: {why}; remove"])


def read_file(path: str | Path) -> dict[str, str]:
    """KEY=VALUE lines; blank lines and those that start with # are skipped, quotes are taken off.

    Raises:
      ConfigError: others may read or change the file, or a line is malformed (its number alone is
        named).
      FileNotFoundError: there is none.
    """
    text = read_private(path)
    values: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if not separator or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not value:
            problems.append(f"{path}: line {number}: expected NAME=VALUE")
        elif name in values:
            problems.append(f"{path}: line {number}: {name} is given twice")
        else:
            values[name] = value
            remember(value)
    if problems:
        raise ConfigError(problems)
    return values


def confirm_account(confirmed: str, account_id: str | None, api_key: Secret) -> None:
    """The second switch of real money: the confirmed account is the one that the keys open.

    Args:
      account_id: as the venue reports it; None = it reports none.

    Raises:
      ConfigError: it is another.
    """
    actual = account_id or api_key.fingerprint
    if confirmed != actual:
        raise ConfigError(
            [f"--confirm-live: the keys open account {actual!r}, confirmed was {confirmed!r}"]
        )
