"""Options of ``jaxtrade live`` and what several of its commands make of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

SUCCESS, ERROR, REFUSED, INTERNAL = 0, 1, 2, 70
DEFAULT_FILE = "live.toml"


class Parser(argparse.ArgumentParser):
    """Wrong usage is exit code 1: 2 means that a run was refused."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end."""
        self.print_usage(sys.stderr)
        self.exit(ERROR, f"error: {message}\n")


def add_config(part: argparse.ArgumentParser) -> None:
    """Where the configuration is, and fields over it."""
    part.add_argument(
        "--config", type=Path, metavar="FILE", help=f"default: {DEFAULT_FILE}, if it is there"
    )
    part.add_argument("--state-dir", metavar="FOLDER", help="instead of [runner] state_dir")
    part.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.FIELD=VALUE",
        help="any field, over file and variables; may be repeated",
    )


def add_mode(part: argparse.ArgumentParser) -> None:
    """What a run would be: mode, policy, keys and the second switch."""
    part.add_argument("--mode", choices=("paper", "demo", "live"))
    part.add_argument("--policy", metavar="BUNDLE", help="instead of [policy] bundle")
    part.add_argument(
        "--confirm-live", metavar="ACCOUNT", help="second switch of real money: the account's name"
    )
    part.add_argument(
        "--credentials", metavar="FILE", help="KEY=VALUE lines, readable by you alone (0600)"
    )


def add_withdrawing(part: argparse.ArgumentParser) -> None:
    """Keys that may withdraw."""
    part.add_argument(
        "--allow-withdraw-keys", action="store_true", help="accept keys that may withdraw"
    )


def add_run(part: argparse.ArgumentParser) -> None:
    """How a run goes."""
    part.add_argument(
        "--allow-local", action="store_true", help="leave positions whose stop ends with us"
    )
    part.add_argument("--skip-doctor", action="store_true", help="start without the checks")
    part.add_argument("--plain-logs", action="store_true", help="for people instead of JSON lines")


def file_of(given: argparse.Namespace) -> Path | None:
    """The configuration file, None = defaults alone."""
    if given.config is not None:
        chosen: Path = given.config
        return chosen
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).exists() else None


def overrides_of(given: argparse.Namespace) -> dict[str, str | bool]:
    """Fields over the file, as `live.config.load` takes them.

    Raises:
      ValueError: a ``--set`` has no value.
    """
    overrides: dict[str, str | bool] = {}
    for word in given.set:
        name, separator, value = word.partition("=")
        if not separator:
            raise ValueError(f"--set {name}: expected TABLE.FIELD=VALUE")
        overrides[name.strip()] = value.strip()
    for option, field in (
        ("state_dir", "runner.state_dir"),
        ("mode", "runner.mode"),
        ("policy", "policy.bundle"),
    ):
        value = getattr(given, option, None)
        if value is not None:
            overrides[field] = value
    if getattr(given, "allow_local", False):
        overrides["runner.allow_local"] = True
    return overrides
