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

from jaxtrade import SequentialTradingEnvConfig

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def blocks(page: Path) -> str:
    """All Python blocks of a page, as one program."""
    return "\n".join(_BLOCK.findall(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name
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


def test_configuration_table_is_complete_and_right() -> None:
    page = (PROJECT / "docs" / "environments.md").read_text(encoding="utf-8")
    section = page.partition("## Configuration")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE)
    defaults = SequentialTradingEnvConfig()
    expected = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(defaults)}
    rules = expected.pop("rules")
    written = dict(rows)
    assert written.pop("rules") == f"{type(rules).__name__}()"
    assert {name: ast.literal_eval(text) for name, text in written.items()} == expected
