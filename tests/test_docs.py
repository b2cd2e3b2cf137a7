"""The documentation says what the code does: its examples run and its tables name what exists."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxtrade import (
    OneStepTradingEnvConfig,
    Rules,
    SequentialTradingEnvConfig,
    SequentialTradingEnvSLTPConfig,
)

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def blocks(page: Path) -> str:
    """All Python blocks of a page, as one program."""
    return "\n".join(_BLOCK.findall(page.read_text(encoding="utf-8")))


LONG = ("training.md",)  # compiles several learners


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.name in LONG else ())
        for page in PAGES
        if blocks(page)
    ],
    ids=lambda page: page.name,
)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", blocks(page)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_readme_has_an_example() -> None:
    assert blocks(PROJECT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _ in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_sections_that_the_code_points_at_exist() -> None:
    page = (PROJECT / "docs" / "semantics.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (.+)$", page, re.MULTILINE))
    pointer = re.compile(r'docs/semantics\.md,\s+("[^"]+"(?:(?:,| and)\s+"[^"]+")*)')
    found = 0
    for source in (*PROJECT.glob("jaxtrade/**/*.py"), *PROJECT.glob("tests/**/*.py")):
        for cited in pointer.findall(source.read_text(encoding="utf-8")):
            names = set(re.findall(r'"([^"]+)"', cited))
            assert names <= sections, f"{source.name} points at {sorted(names - sections)}"
            found += len(names)
    assert found > 20


def table_of(heading: str) -> dict[str, str]:
    """Field -> default as written, of the configuration tables under a heading."""
    page = (PROJECT / "docs" / "environments.md").read_text(encoding="utf-8")
    section = page.partition(f"## {heading}")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE))


def test_configuration_table_is_complete_and_right() -> None:
    written = table_of("Configuration")
    expected = dataclasses.asdict(SequentialTradingEnvConfig())
    expected.pop("rules")
    assert written.pop("rules") == f"{Rules.__name__}()"
    assert {name: ast.literal_eval(text) for name, text in written.items()} == expected


def test_bracket_table_is_complete_and_right() -> None:
    written = table_of("Brackets, and one decision per episode")
    fields = dataclasses.asdict(SequentialTradingEnvSLTPConfig())
    fields |= dataclasses.asdict(OneStepTradingEnvConfig())
    shared = dataclasses.asdict(SequentialTradingEnvConfig())
    expected = {name: value for name, value in fields.items() if name not in shared}
    assert {name: ast.literal_eval(text) for name, text in written.items()} == expected
