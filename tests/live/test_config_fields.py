"""No field without a meaning: each is read somewhere, documented, and in the written file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.config import ENVIRONMENTS, TABLES, reference, template
from live.fields import rule_of

PROJECT = Path(__file__).resolve().parents[2]
KINDS = {**TABLES, **ENVIRONMENTS}
# Fields that nothing reads, and why they may stay.
UNREAD = {
    "fallback_action": "says what a policy that fails leads to; there is no other choice yet",
}
# Functions of a table that check it: to check a field is no use of it.
_CHECKS = ("problems", "remarks", "__post_init__")
# Tables print, compare and write every field; none of that is a use either.
_NO_USE = ("template.py", "reference.py", "trained.py")


def attributes(tree: ast.AST) -> set[str]:
    """Names that are read as attributes, also by `getattr` with a literal."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            named = node.args[1:2] if node.func.id == "getattr" else []
            found |= {arg.value for arg in named if isinstance(arg, ast.Constant)}
            found.add(node.func.id)
    return found


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def used(folder: Path) -> set[str]:
    """What the live layer reads, by itself or through properties of the tables that it reads."""
    inside, names = [], set()
    for path in sorted((folder / "live").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.parent.name != "config":
            names |= attributes(tree)
        elif path.name not in _NO_USE:
            inside += [one for one in functions(tree) if not one.name.endswith(_CHECKS)]
            if path.name in ("loading.py", "modes.py", "preflight.py"):
                names |= {one.name for one in functions(tree)}
    while True:
        more = set().union(*(attributes(one) for one in inside if one.name in names))
        if more <= names:
            return names
        names |= more


def test_every_field_is_read_somewhere():
    names = used(PROJECT)
    unread = {
        field for kind in KINDS.values() for field in kind.table_fields() if field not in names
    }
    assert unread == set(UNREAD), f"read by nothing: {sorted(unread - set(UNREAD))}"


def test_reading_is_recognised(tmp_path):
    config = tmp_path / "live" / "config"
    config.mkdir(parents=True)
    (config / "tables.py").write_text(
        "class Table:\n"
        "    def problems(self):\n        return self.checked\n"
        "    def remarks(self):\n        return self.warned\n"
        "    @property\n    def folder(self):\n        return self.path\n"
        "    @property\n    def unused(self):\n        return self.hidden\n"
    )
    (config / "template.py").write_text("def text(table):\n    return table.written\n")
    (tmp_path / "live" / "runner.py").write_text(
        "def run(config):\n    config.assigned = 1\n"
        "    return config.folder, config.plain, getattr(config, 'named', None)\n"
    )
    assert {"folder", "path", "plain", "named"} <= used(tmp_path)
    assert not {"checked", "warned", "hidden", "written", "assigned"} & used(tmp_path)


@pytest.mark.parametrize("name", KINDS)
def test_every_field_says_what_it_means_and_what_it_must_be(name):
    told = reference.meanings(KINDS[name])
    for field, defined in KINDS[name].table_fields().items():
        assert told.get(field), f"{field}: the docstring of {name} does not say what it means"
        assert rule_of(defined).says


def test_shared_words_are_those_of_each_field():
    class Told:
        """Some.

        Attributes:
          one, two: of both. three: of itself.
        """

    both = reference._meanings(Told, ("one", "two", "three"))
    assert both == {"one": "of both", "two": "of both", "three": "of itself"}
    told = reference.meanings(TABLES["risk"])
    assert told["price_collar"] == "distance of the sizing price from mark and last close"


def test_the_documented_settings_are_the_schema():
    page = (PROJECT / "docs" / "live-config.md").read_text(encoding="utf-8")
    assert page == reference.page(), (
        "docs/live-config.md is not what the tables say; write it anew with: "
        "python -m live.config.reference > docs/live-config.md"
    )
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert set(rows) == {field for kind in KINDS.values() for field in kind.table_fields()}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_written_file_has_every_field_with_what_it_must_be(environment):
    text = template.initial(environment, "bot.toml")
    for section, fields in template.reference(environment).items():
        part = text.partition(f"\n[{section}]\n")[2].partition("\n\n")[0]
        for field, about in fields.items():
            line = re.search(rf"^(# )?{field} = .*", part, re.MULTILINE)
            if line is None:  # a table in the table
                assert f"# [{section}.{field}]" in part
            elif (section, field) not in (("env", "equity_buffer"), ("server", "enabled")):
                assert line[0].endswith(f"  # {about['must_be']}")


def test_settings_that_the_pages_name_exist():
    """`[table] field` and `table.field` of the pages about trading."""
    for page in ("live.md", "live-vs-backtest.md"):
        text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
        named = re.findall(r"`\[(\w+)\] (\w+)", text) + re.findall(r"--set (\w+)\.(\w+)=", text)
        assert named
        for section, field in named:
            kinds = ENVIRONMENTS.values() if section == "env" else [TABLES[section]]
            known = {"name"}.union(*(kind.table_fields() for kind in kinds))
            assert field in known, f"{page}: [{section}] {field}"
