"""The command ``jaxtrade live``: start a daemon, look at it, stop it, and prepare its settings.

Everything heavy is imported by the command that needs it. Exit codes of ``run``: 0 clean, 1 wrong
configuration or usage, 2 refused to start, 3 halted, 4 journal lost, 5 second signal, 70 a defect.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from live.operations import cli_prepare as prepare
from live.operations import cli_run as runs
from live.operations import cli_steer as steer
from live.operations.cli_options import (
    DEFAULT_FILE,
    ERROR,
    REFUSED,
    Parser,
    add_config,
    add_mode,
    add_run,
    add_withdrawing,
)

_HELP = """\
commands:
  init            write a configuration file with every field
  doctor          check everything that can be known before a run, at the venue too
  check           the same without asking the venue
  run             trade: paper unless the configuration says otherwise
  replay          run the same daemon over recorded bars, or a journal's decisions again
  replay-journal  decide every bar of a journal again, and name the first difference
  status          state, position, orders, last decisions
  halt            no new orders; stops stay at the venue
  reduce          only smaller positions from now on
  flatten         close what is owned, then halt
  stop            end the daemon as its shutdown policy says
  resume          clear halts, once their cause is gone
  acknowledge     accept changes of the account that no order explains
  restore         put the copy of a damaged journal in its place
  config          show the merged configuration, check it, or list every field

example: jaxtrade live init --policy runs/best/bundle.zip
         jaxtrade live doctor
         jaxtrade live run"""


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

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"note: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = show
        yield


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="jaxtrade live",
        description=live.__doc__,
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def add(name: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        part = commands.add_parser(name, description=act.__doc__)
        part.set_defaults(act=act)
        part.add_argument("--json", action="store_true", help="print one JSON object")
        return part

    _add_preparing(add)
    _add_running(add)
    _add_steering(add)
    return parser


_Add = Callable[[str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def _add_preparing(add: _Add) -> None:
    init = add("init", prepare.init)
    init.add_argument("file", nargs="?", type=Path, default=Path(DEFAULT_FILE))
    init.add_argument("--environment", default="BybitFuturesTradingEnv", metavar="NAME")
    init.add_argument("--policy", metavar="BUNDLE", help="the trained policy to trade")
    for name, act in (("check", prepare.check), ("doctor", prepare.doctor)):
        part = add(name, act)
        add_config(part)
        add_mode(part)
        if name == "doctor":
            add_withdrawing(part)
    config = add("config", prepare.config)
    config.add_argument("what", choices=("show", "check", "schema"))
    add_config(config)


def _add_running(add: _Add) -> None:
    run = add("run", runs.run)
    for options in (add_config, add_mode, add_withdrawing, add_run):
        options(run)
    replay = add("replay", runs.replay)
    replay.add_argument("journal", nargs="?", type=Path, metavar="JOURNAL", help="of a daemon")
    replay.add_argument("--data", type=Path, metavar="FILE", help="bars")
    replay.add_argument("--check-parity", action="store_true", help="compare with a backtest")
    replay.add_argument("--enforce-risk", action="store_true", help="let limits act")
    again = add("replay-journal", runs.replay_journal)
    again.add_argument("journal", type=Path, metavar="JOURNAL", help="of a daemon")
    for part in (replay, again):
        add_config(part)
        add_mode(part)


def _add_steering(add: _Add) -> None:
    status = add("status", steer.status)
    add_config(status)
    status.add_argument("--symbol", metavar="NAME", help="with its orders and decisions")
    for name in ("halt", "reduce", "flatten", "stop", "resume", "acknowledge", "restore"):
        part = add(name, steer.restore if name == "restore" else steer.command)
        part.description = _SUMMARY[name]
        add_config(part)
        part.add_argument("--reason", required=True, metavar="TEXT", help="kept in the journal")
        if name == "resume":
            part.add_argument(
                "--reset-baseline", action="store_true", help="measure losses anew from now"
            )
        if name == "acknowledge":
            part.add_argument("--symbol", metavar="NAME", help="of this symbol alone")
        if name == "restore":
            help_text = "default: the only one of the state folder"
            part.add_argument("journal", nargs="?", type=Path, metavar="JOURNAL", help=help_text)


_SUMMARY = {
    line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1]
    for line in _HELP.partition("commands:\n")[2].partition("\n\n")[0].splitlines()
}
