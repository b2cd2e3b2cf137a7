"""Fields of tables, made from rules."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from live.fields.rules import (
    Rule,
    flag_rule,
    number_rule,
    optional_rule,
    path_rule,
    text_rule,
    whole_rule,
    word_rule,
)

_RULE = "jaxtrade.live.rule"


def rule_of(field: dataclasses.Field[Any]) -> Rule:
    """The rule of a field of a table."""
    rule: Rule = field.metadata[_RULE]
    return rule


def _field(default: Any, rule: Rule) -> Any:
    shown = not rule.secret
    return dataclasses.field(default=default, metadata={_RULE: rule}, repr=shown)


def number(default: float | None, *, optional: bool = False, **bounds: float) -> Any:
    """A finite number within ``least``, ``most``, ``above``, ``below``."""
    rule = number_rule(**bounds)
    return _field(default, optional_rule(rule) if optional else rule)


def whole(default: int | None, least: int, most: int | None = None, optional: bool = False) -> Any:
    """A whole number."""
    rule = whole_rule(least, most)
    return _field(default, optional_rule(rule) if optional else rule)


def flag(default: bool | None, *, optional: bool = False) -> Any:
    """True or false."""
    rule = flag_rule()
    return _field(default, optional_rule(rule) if optional else rule)


def word(default: str, *choices: str) -> Any:
    """One of some words."""
    return _field(default, word_rule(choices))


def text(
    default: str | None, says: str, pattern: str, *, optional: bool = False, secret: bool = False
) -> Any:
    """Text of a shape."""
    rule = text_rule(says, pattern, secret=secret)
    return _field(default, optional_rule(rule) if optional else rule)


def path(default: Path | None = None) -> Any:
    """The path of a file or folder, or none; ~ is the user's home."""
    return _field(default, optional_rule(path_rule()))


def ruled(default: Any, rule: Rule) -> Any:
    """A field with any rule."""
    return _field(default, rule)
