"""Every field of the configuration as a page: default, what it must be, what it means.

``python -m live.config.reference > docs/live-config.md`` writes the page of the documentation.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
from collections.abc import Collection, Iterable

from live.config.environments import BybitFuturesSLTPTradingEnvConfig, BybitFuturesTradingEnvConfig
from live.config.exchange import ExchangeEnvConfig
from live.config.schema import SECTIONS, TABLES, plain
from live.config.template import toml_value
from live.fields import Table, rule_of
from live.venue import Capabilities

_HEAD = """\
# Settings of live trading

Every field of `live.toml`, table by table ([how they are given](live.md#configuration)). None is
written "none". `python -m live.config.reference > docs/live-config.md` writes this page; a test
compares the two.
"""


def page() -> str:
    """The whole page, Markdown."""
    parts = [_HEAD]
    for section in SECTIONS:
        if section != "env":
            parts += _part(f"`[{section}]`", TABLES[section], TABLES[section].table_fields())
            continue
        shared = ExchangeEnvConfig.table_fields()
        parts += _part("`[env]`", ExchangeEnvConfig, shared)
        for kind, words in (
            (BybitFuturesTradingEnvConfig, "environments of levels"),
            (BybitFuturesSLTPTradingEnvConfig, "environments of brackets"),
        ):
            own = [name for name in kind.table_fields() if name not in shared]
            parts += _part(f"`[env]` of {words}", kind, own)
    return "\n".join([*parts, *_venues()])


def meanings(kind: type[Table]) -> dict[str, str]:
    """Field -> what the docstrings of its table say; fields that are told together share it."""
    return _meanings(kind, kind.table_fields())


def _meanings(kind: type, known: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for cls in kind.__mro__:
        text = (cls.__doc__ or "").partition("Attributes:")[2]
        text = " ".join(text.split())
        # A run of field names and a colon begins what is said of them.
        begins = [
            match
            for match in re.finditer(r"(?:^|(?<= ))(\w+(?:, \w+)*): ", text)
            if all(name in known for name in match[1].split(", "))
        ]
        for match, following in itertools.zip_longest(begins, begins[1:]):
            end = len(text) if following is None else following.start()
            said = text[match.end() : end].strip().rstrip(".")
            for name in match[1].split(", "):
                found.setdefault(name, said)
    return found


def _part(title: str, kind: type[Table], names: Iterable[str]) -> list[str]:
    known, told = kind.table_fields(), meanings(kind)
    lines = [f"## {title}", "", (kind.__doc__ or "").partition("\n")[0], ""]
    lines += ["| field | default | must be | |", "|---|---|---|---|"]
    for name in names:
        default = plain(known[name].default)
        shown = "a table" if isinstance(default, dict) else f"`{toml_value(default)}`"
        cells = (f"`{name}`", shown, rule_of(known[name]).says, told.get(name, ""))
        cleaned = [cell.replace("|", "\\|").replace("``", "`") for cell in cells]
        lines.append(f"| {' | '.join(cleaned)} |")
    return [*lines, ""]


def _venues() -> list[str]:
    """What the planner may rely on, venue by venue."""
    # The venues' clients are heavy, and of no use to the settings.
    from live.replay.filters import CAPABILITIES
    from live.venues.bybit import BybitVenue

    venues = {"Bybit": BybitVenue.capabilities, "paper, replay": CAPABILITIES}
    fields = [field.name for field in dataclasses.fields(Capabilities)]
    lines = ["## What venues can do", "", f"| | {' | '.join(venues)} |", "|---" * 3 + "|"]
    for name, said in _meanings(Capabilities, fields).items():
        cells = ("yes" if getattr(can, name) else "no" for can in venues.values())
        lines.append(f"| {said} | {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.stdout.write(page())
