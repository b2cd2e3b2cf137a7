"""The command ``jaxtrade live``: start a daemon, look at it, stop it, and prepare its settings.

Everything heavy is imported by the command that needs it. Exit codes of ``run``: 0 clean, 1 wrong
configuration or usage, 2 refused to start, 3 halted, 4 journal lost, 5 second signal, 70 a defect.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import importlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from live.config import LiveConfig
    from live.secrets import Secret

SUCCESS, ERROR, REFUSED, JOURNAL_LOST, INTERNAL = 0, 1, 2, 4, 70
DEFAULT_FILE = "live.toml"

_HELP = """\
commands:
  init         write a configuration file with every field
  check        check configuration, keys, policy and state without asking the venue
  run          trade: paper unless the configuration says otherwise
  replay       run the same daemon over recorded bars
  status       state, position, orders, last decisions
  halt         no new orders; stops stay at the venue
  reduce       only smaller positions from now on
  flatten      close what is owned, then halt
  stop         end the daemon as its shutdown policy says
  resume       clear halts, once their cause is gone
  acknowledge  accept changes of the account that no order explains
  config       show the merged configuration, check it, or list every field

example: jaxtrade live init --policy runs/best/bundle
         jaxtrade live check
         jaxtrade live run"""


class _Parser(argparse.ArgumentParser):
    """Wrong usage is exit code 1: 2 means that a run was refused."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ERROR, f"error: {message}\n")


def live(argv: Sequence[str]) -> int:
    """Trade a policy on an exchange: paper, demo or real money, and watch it."""
    given = _parser().parse_args(list(argv))
    if given.command is None:
        print(_parser().format_help(), file=sys.stderr)
        return ERROR
    from live.journal.storage import JournalError
    from live.secrets import redact

    act: Callable[[argparse.Namespace], int] = given.act
    try:
        with _notes():
            return act(given)
    except BrokenPipeError:  # the reader left, as in `jaxtrade live status | head`
        raise
    except JournalError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return REFUSED
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("JAXTRADE_TRACEBACK", "0") not in ("", "0"):
            raise
        print(f"error: {redact(' '.join(str(error).split()))}", file=sys.stderr)
        return ERROR


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Warnings as one line each, as long as no log takes them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"note: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = show
        yield


# Options ----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jaxtrade live",
        description=live.__doc__,
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def add(name: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        part = commands.add_parser(name, description=act.__doc__)
        part.set_defaults(act=act)
        part.add_argument("--json", action="store_true", help="print one JSON object")
        return part

    init = add("init", _init)
    init.add_argument("file", nargs="?", type=Path, default=Path(DEFAULT_FILE))
    init.add_argument("--environment", default="BybitFuturesTradingEnv", metavar="NAME")
    init.add_argument("--policy", metavar="BUNDLE", help="the trained policy to trade")
    for name, act in (("check", _check), ("run", _run), ("replay", _replay)):
        part = add(name, act)
        _add_config(part)
        _add_run(part)
        if name == "replay":
            part.add_argument("--data", required=True, type=Path, metavar="FILE", help="bars")
            part.add_argument("--check-parity", action="store_true", help="compare with a backtest")
            part.add_argument("--enforce-risk", action="store_true", help="let limits act")
    _add_config(add("status", _status))
    for name in ("halt", "reduce", "flatten", "stop", "resume", "acknowledge"):
        part = add(name, _command)
        part.description = _SUMMARY[name]
        _add_config(part)
        part.add_argument("--reason", required=True, metavar="TEXT", help="kept in the journal")
        if name == "resume":
            part.add_argument(
                "--reset-baseline", action="store_true", help="measure losses anew from now"
            )
        if name == "acknowledge":
            part.add_argument("--symbol", metavar="NAME", help="of this symbol alone")
    config = add("config", _config)
    config.add_argument("what", choices=("show", "check", "schema"))
    _add_config(config)
    return parser


_SUMMARY = {
    line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1]
    for line in _HELP.partition("commands:\n")[2].partition("\n\n")[0].splitlines()
}


def _add_config(part: argparse.ArgumentParser) -> None:
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


def _add_run(part: argparse.ArgumentParser) -> None:
    part.add_argument("--mode", choices=("paper", "demo", "live"))
    part.add_argument("--policy", metavar="BUNDLE", help="instead of [policy] bundle")
    part.add_argument(
        "--confirm-live", metavar="ACCOUNT", help="second switch of real money: the account's name"
    )
    part.add_argument(
        "--credentials", metavar="FILE", help="KEY=VALUE lines, readable by you alone (0600)"
    )
    part.add_argument(
        "--allow-local", action="store_true", help="leave positions whose stop ends with us"
    )
    part.add_argument("--plain-logs", action="store_true", help="for people instead of JSON lines")


def _file(given: argparse.Namespace) -> Path | None:
    if given.config is not None:
        chosen: Path = given.config
        return chosen
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).exists() else None


def _overrides(given: argparse.Namespace) -> dict[str, str | bool]:
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


# Commands that prepare --------------------------------------------------------------------------


def _init(given: argparse.Namespace) -> int:
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
    said = f"wrote {given.file}; next: jaxtrade live check --config {given.file}"
    print(json.dumps({"file": str(given.file)}) if given.json else said)
    return SUCCESS


def _check(given: argparse.Namespace) -> int:
    """Check configuration, keys, policy and state; nothing is sent anywhere."""
    from live.config import confirmation
    from live.config.preflight import Verdict, checks, worst
    from live.secrets import redact

    confirm = confirmation(given.confirm_live)
    rows = checks(_file(given), _overrides(given), confirm, given.credentials)
    if given.json:
        print(redact(json.dumps([dataclasses.asdict(row) for row in rows])))
    else:
        for row in rows:
            print(redact(f"{row.verdict.value:<4}  {row.group:<8} {row.text}"))
    return ERROR if worst(rows) is Verdict.FAIL else SUCCESS


def _config(given: argparse.Namespace) -> int:
    """Show the merged configuration, check it, or list every field with default and rule."""
    from live import config as configs
    from live.config import template

    if given.what == "schema":
        print(json.dumps(template.reference(), indent=2))
        return SUCCESS
    path, overrides = _file(given), _overrides(given)
    config = configs.load(path, overrides)
    if given.what == "check":
        said = f"{path or 'defaults'}: fits, {config.environment}, mode {config.runner.mode}"
        print(json.dumps({"fits": True}) if given.json else said)
    elif given.json:
        print(json.dumps(config.to_dict()))
    else:
        print(template.merged(config, configs.merge(path, overrides).origins))
    return SUCCESS


# Commands that trade ----------------------------------------------------------------------------


def _loaded(given: argparse.Namespace) -> LiveConfig:
    from live.config import ConfigError, load
    from live.secrets import remember

    config = load(_file(given), _overrides(given))
    for address in (config.notify.webhook_url, config.notify.ping_url):
        if address is not None:
            remember(address)
    if not config.policy.sources:
        raise ConfigError(["[policy] bundle: a run needs a policy; give a bundle with --policy"])
    return config


def _run(given: argparse.Namespace) -> int:
    """Trade until told to stop: paper unless the configuration says otherwise."""
    from live.config import ConfigError, check_modes, confirmation
    from live.journal.storage import JournalError
    from live.operations import logs
    from live.secrets import private_folder

    config = _loaded(given)
    confirm = confirmation(given.confirm_live)
    check_modes(config, confirm)
    secrets = _secrets(config, given.credentials)
    folder = private_folder(config.runner.folder)
    print(_banner(config), file=sys.stderr)
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


def _banner(config: LiveConfig) -> str:
    mode = {
        "paper": "PAPER: a local account on public bars, no keys, no orders",
        "demo": "DEMO: orders on the venue's demo account, whose prices may differ",
        "live": "LIVE: REAL MONEY",
    }[config.runner.mode]
    lines = [
        f"mode      {mode}",
        f"trades    {config.env.symbol} on {config.venue.name}, {config.environment}, "
        f"bars of {config.env.execute_on}, leverage {config.env.leverage:g}",
        f"state     {config.runner.folder}",
    ]
    if config.risk.disabled:
        lines.append(f"WITHOUT   {', '.join(config.risk.disabled)}")
    if config.server.enabled:
        where = f"{config.server.host}:{config.server.port}"
        lines.append(f"page      {where}, tokens in the state folder")
    return "\n".join(lines)


def _replay(given: argparse.Namespace) -> int:
    """Run the same daemon over recorded bars, without waiting and without keys."""
    config = _loaded(given)
    runner = importlib.import_module("live.runner")
    result = runner.replay(
        config, given.data, check_parity=given.check_parity, enforce_risk=given.enforce_risk
    )
    if given.json:
        print(json.dumps(result, default=str))
    else:
        for name, value in result.items():
            print(f"{name:<24} {value}")
    return ERROR if result.get("parity") is False else SUCCESS


# Commands to a daemon ---------------------------------------------------------------------------


def _command(given: argparse.Namespace) -> int:
    from live.operations.control import Place, give

    options = {
        name: getattr(given, name)
        for name in ("reset_baseline", "symbol")
        if getattr(given, name, None)
    }
    place = Place.of(_file(given), _overrides(given))
    answer = give(place, given.command, given.reason, options)
    if given.json:
        print(json.dumps(answer, default=str))
    else:
        word = "accepted" if answer.get("accepted") else "taken, not confirmed"
        detail = answer.get("detail")
        print(f"{given.command}: {word} ({answer['via']})" + (f": {detail}" if detail else ""))
    return SUCCESS


def _status(given: argparse.Namespace) -> int:
    """State, position, orders and last decisions of a daemon, or of the journal it left."""
    from live.operations.control import Place, status

    place = Place.of(_file(given), _overrides(given))
    found = status(place)
    if given.json:
        print(json.dumps(found, default=str))
    else:
        print("\n".join(_status_lines(found)))
    return SUCCESS


def _status_lines(found: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Nested values as indented lines; windows of an observation are left out."""
    for name, value in found.items():
        if name in ("observation", "equity_history") or value in (None, [], {}, ""):
            continue
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _status_lines(value, indent + "  ")
        elif isinstance(value, list | tuple) and all(isinstance(item, dict) for item in value):
            for item in value:
                yield f"{indent}{name}"
                yield from _status_lines(item, indent + "  ")
        elif isinstance(value, list | tuple):
            yield f"{indent}{name:<20} {', '.join(map(str, value))}"
        else:
            yield f"{indent}{name:<20} {value}"
