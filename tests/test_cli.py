"""The ``jaxtrade`` command: help, dispatch, exit codes and the one line an error takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import jaxtrade
from jaxtrade import cli

COMMANDS = ("trace", "train", "sweep", "evaluate", "demo", "bench", "exchange", "live")


class _Command(EntryPoint):
    """An entry point whose function is given instead of imported."""

    def load(self) -> Callable[[list[str]], int]:
        return _behaviour[self.name]


_behaviour: dict[str, Callable[[list[str]], int]] = {}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], int]], None]:
    """Make one function the only installed command, named "sample"."""

    def put(function: Callable[[list[str]], int]) -> None:
        monkeypatch.setitem(_behaviour, "sample", function)
        entry = _Command("sample", "jaxtrade.nowhere:sample", cli.GROUP)
        monkeypatch.setattr(cli, "entry_points", lambda group: [entry])

    return put


def _raises(error: BaseException) -> Callable[[list[str]], int]:
    def command(arguments: list[str]) -> int:
        raise error

    return command


def test_help_lists_every_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in COMMANDS:
        row = next(line.split(maxsplit=1) for line in lines if line.split()[:1] == [name])
        assert len(row) == 2, f"{name} has no summary: its function needs a docstring"


def test_no_command_prints_the_help_and_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: jaxtrade")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxtrade {jaxtrade.__version__}\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("trian", "did you mean 'train'?"), ("xyzzy", "`jaxtrade --help` lists them")],
)
def test_unknown_command(name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name]) == 2
    assert capsys.readouterr().err == f"error: no command {name!r}: {hint}\n"


def test_arguments_and_exit_code_pass_through(install: Callable) -> None:
    seen: list[list[str]] = []
    install(lambda arguments: seen.append(arguments) or 1)
    assert cli.main(["sample", "--steps", "3"]) == 1
    assert seen == [["--steps", "3"]]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("fee must be >= 0, was -1"), 1, "error: fee must be >= 0, was -1"),
        (ValueError("two\n  lines"), 1, "error: two lines"),
        (ValueError(), 1, "error: ValueError"),
        (FileNotFoundError("no file prices.csv"), 2, "error: no file prices.csv"),
        (PermissionError("runs/ is read-only"), 1, "error: runs/ is read-only"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit("cannot"), 1, "error: cannot"),
        (SystemExit(2), 2, ""),
        (SystemExit(), 0, ""),
    ],
)
def test_errors_become_one_line_and_a_code(
    error: BaseException,
    code: int,
    line: str,
    install: Callable,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(_raises(error))
    assert cli.main(["sample"]) == code
    assert capsys.readouterr().err.strip() == line


def test_traceback_on_request(install: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTRADE_TRACEBACK", "1")
    install(_raises(ValueError("here")))
    with pytest.raises(ValueError, match="here"):
        cli.main(["sample"])


def test_a_programming_error_keeps_its_traceback(install: Callable) -> None:
    install(_raises(KeyError("bug")))
    with pytest.raises(KeyError):
        cli.main(["sample"])


def test_compilation_cache_is_the_users_choice_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere/else")
    cli.use_compilation_cache()
    assert cli.os.environ["JAX_COMPILATION_CACHE_DIR"] == "/somewhere/else"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    cli.use_compilation_cache()
    assert "jaxtrade" in cli.os.environ["JAX_COMPILATION_CACHE_DIR"]


def test_the_installed_command_answers_without_jax(project_folder: Path) -> None:
    code = (
        "import sys; from jaxtrade.cli import main; code = main(['--help']);"
        "assert code == 0 and 'jax' not in sys.modules and 'agents.ppo' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project_folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "demo" in result.stdout
