"""The ``jaxtrade`` command: finds its sub-commands by entry point and turns errors into one line.

A sub-command is an entry point of the group ``jaxtrade.commands``, ``name = "module:function"``.
The function takes the arguments after its name and returns an exit code, and the first line of its
docstring is its line in ``jaxtrade --help``. This module imports none of them until one is called,
so that the help appears at once and the library never imports what stands above it.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import jaxtrade

GROUP = "jaxtrade.commands"

SUCCESS = 0
ERROR = 1
USAGE = 2
INTERRUPTED = 130

_EPILOGUE = """\
`jaxtrade COMMAND --help` explains one command.

exit codes: 0 success, 1 error, 2 wrong usage or not found, 130 interrupted
environment:
  JAXTRADE_TRACEBACK=1        show where an error came from
  JAX_COMPILATION_CACHE_DIR   folder of compiled programs (now: {cache})"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
      arguments: what follows ``jaxtrade`` on the command line; None reads ``sys.argv``.

    Returns: 0 success, 1 error, 2 wrong usage or something not found, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    use_compilation_cache()
    commands = {entry.name: entry for entry in entry_points(group=GROUP)}
    if words and words[0] in ("--version", "-V"):
        print(f"jaxtrade {jaxtrade.__version__}")
        return SUCCESS
    if not words or words[0] in ("--help", "-h", "help"):
        print(_help(commands))
        return SUCCESS if words else USAGE
    name, *rest = words
    if name not in commands:
        _complain(_unknown(name, commands))
        return USAGE
    return _run(commands[name], rest)


def use_compilation_cache() -> None:
    """Let JAX keep compiled programs in the user's cache folder, unless the user chose otherwise.

    JAX reads these variables when it is imported, so this must come before that.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_default_cache_folder()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def _default_cache_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("jaxtrade", appauthor=False)) / "compiled"


def _run(entry: EntryPoint, arguments: list[str]) -> int:
    """Call one command and map what it raises to an exit code."""
    try:
        return int(entry.load()(arguments) or SUCCESS)
    except SystemExit as stop:  # argument parsers leave this way
        if isinstance(stop.code, str):
            _complain(stop.code)
            return ERROR
        return SUCCESS if stop.code is None else int(stop.code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output left, as in `jaxtrade ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("JAXTRADE_TRACEBACK", "0") not in ("", "0"):
            raise
        _complain(str(error) or type(error).__name__)
        return USAGE if isinstance(error, FileNotFoundError) else ERROR


def _complain(message: str) -> None:
    """Print one line on stderr, whatever the message looks like."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def _unknown(name: str, commands: dict[str, EntryPoint]) -> str:
    near = difflib.get_close_matches(name, commands, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "`jaxtrade --help` lists them"
    return f"no command {name!r}: {hint}"


def _help(commands: dict[str, EntryPoint]) -> str:
    width = max((len(name) for name in commands), default=0)
    lines = [f"  {name:<{width}}  {_summary(commands[name])}".rstrip() for name in sorted(commands)]
    listed = "\n".join(lines) or "  (none installed)"
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    return (
        "usage: jaxtrade [--help] [--version] COMMAND ...\n\n"
        "Trading environments and learners in JAX.\n\n"
        f"commands:\n{listed}\n\n{_EPILOGUE.format(cache=cache)}"
    )


def _summary(entry: EntryPoint) -> str:
    """First docstring line of a command's function, read from its source without running it."""
    try:
        spec = importlib.util.find_spec(entry.module)
        if spec is None or spec.origin is None:
            return ""
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


if __name__ == "__main__":
    sys.exit(main())
