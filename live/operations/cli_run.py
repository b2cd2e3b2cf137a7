"""Commands that trade, and those that run what was traded again."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from live.operations.cli_options import (
    ERROR,
    INTERNAL,
    REFUSED,
    SUCCESS,
    file_of,
    overrides_of,
)

if TYPE_CHECKING:
    from live.config import LiveConfig
    from live.secrets import Secret

_SHOWN_SYMBOLS = 5


def loaded(given: argparse.Namespace) -> LiveConfig:
    """The configuration of a run.

    Raises:
      ConfigError: it is wrong, or names no policy.
    """
    from live.config import ConfigError, load
    from live.secrets import remember

    config = load(file_of(given), overrides_of(given))
    for address in (config.notify.webhook_url, config.notify.ping_url):
        if address is not None:
            remember(address)
    if not config.policy.sources:
        raise ConfigError(
            [
                "[policy] bundle: a run needs a policy; give a bundle with --policy, or the "
                "configuration of the run with --config"
            ]
        )
    return config


def run(given: argparse.Namespace) -> int:
    """Trade until told to stop: paper unless the configuration says otherwise."""
    from live.config import ConfigError, check_modes, confirmation
    from live.journal.storage import JournalError
    from live.operations import logs
    from live.secrets import private_folder

    config = loaded(given)
    confirm = confirmation(given.confirm_live)
    check_modes(config, confirm)
    secrets = _secrets(config, given.credentials)
    folder = private_folder(config.runner.folder)
    print(banner(config), file=sys.stderr)
    if not given.skip_doctor and not _healthy(config, given, confirm):
        return REFUSED
    runner = importlib.import_module("live.runner")
    logs.configure(folder=folder, plain=given.plain_logs)
    try:
        code: int = asyncio.run(runner.run(config, secrets=secrets, confirm=confirm))
    except (ConfigError, JournalError):
        raise
    except Exception:  # the edge of the process: what a run expects it turns into its exit code
        logging.getLogger("live").critical("ended by a defect", exc_info=True)
        return INTERNAL
    return code


def _healthy(config: LiveConfig, given: argparse.Namespace, confirm: str | None) -> bool:
    """Whether no check of the doctor fails; what is not right is printed."""
    from live.operations import cli_prepare
    from live.operations.doctor import examined
    from live.operations.doctor_rows import Verdict, worst

    rows = examined(
        config,
        confirm=confirm,
        credentials=given.credentials,
        withdrawing=given.allow_withdraw_keys,
        path=file_of(given),
    )
    cli_prepare.warn(rows)
    if worst(rows) is not Verdict.FAIL:
        return True
    print("refused to start: see above; --skip-doctor starts all the same", file=sys.stderr)
    return False


def _secrets(config: LiveConfig, credentials: str | None) -> dict[str, Secret]:
    """The keys that the mode needs, by argument name; none in paper mode."""
    from live.secrets import read_secrets, refuse_unused

    if config.runner.mode == "paper":
        refuse_unused({"--credentials": credentials}, "paper mode reads no keys")
        wanted = {}
    else:
        wanted = dict(config.env.constants.secrets)
    if config.notify.telegram_chat_id is not None:
        wanted["telegram_token"] = ("TELEGRAM_BOT_TOKEN",)
    return read_secrets(wanted, file=credentials) if wanted else {}


def banner(config: LiveConfig) -> str:
    """What is about to run, for people."""
    mode = {
        "paper": "PAPER: a local account on public bars, no keys, no orders",
        "demo": "DEMO: orders on the venue's demo account, whose prices may differ",
        "live": "LIVE: REAL MONEY",
    }[config.runner.mode]
    symbols = config.symbols
    named = ", ".join(symbols[:_SHOWN_SYMBOLS])
    if len(symbols) > _SHOWN_SYMBOLS:
        named += f" and {len(symbols) - _SHOWN_SYMBOLS} more"
    lines = [
        f"mode      {mode}",
        f"trades    {named} on {config.venue.name}, {config.environment}, "
        f"bars of {config.env.execute_on}, leverage {config.env.leverage:g}",
        f"state     {config.runner.folder}",
    ]
    if config.risk.disabled:
        lines.append(f"WITHOUT   {', '.join(config.risk.disabled)}")
    if config.server.enabled:
        where = f"{config.server.host}:{config.server.port}"
        lines.append(f"page      {where}, tokens in the state folder")
    return "\n".join(lines)


def replay(given: argparse.Namespace) -> int:
    """Run the same daemon over recorded bars, or decide a journal's bars again."""
    if (given.journal is None) == (given.data is None):
        raise ValueError("replay: expected a journal, or bars with --data FILE; give one of them")
    if given.journal is not None:
        return replay_journal(given)
    config = loaded(given)
    backtest = importlib.import_module("live.replay.backtest")
    result = backtest.replay(
        config, given.data, check_parity=given.check_parity, enforce_risk=given.enforce_risk
    )
    return _printed(result, given.json, failed=result.get("parity") is False)


def replay_journal(given: argparse.Namespace) -> int:
    """Decide every bar of a journal again, from what it stored, and name the first difference."""
    from live.replay.reproduction import reproduce

    path: Path = given.journal
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    result = reproduce(loaded(given), path)
    return _printed(result, given.json, failed=not result["reproduced"])


def _printed(result: dict[str, Any], as_json: bool, *, failed: bool) -> int:
    if as_json:
        print(json.dumps(result, default=str))
    else:
        for name, value in result.items():
            print(f"{name:<24} {value}")
    return ERROR if failed else SUCCESS
