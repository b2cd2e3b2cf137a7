"""Rules: what a value of a configuration must be, and its normal form."""

from __future__ import annotations

import dataclasses
import enum
import re
import tomllib
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from jaxtrade.checks import is_number
from jaxtrade.hints import did_you_mean
from jaxtrade.timeframe import short_repr


class _RefusedError(Exception):
    """A value that a rule does not take; the rule's own text says what it does take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What a field accepts.

    Attributes:
      says: completes "must be ...". read: value -> normal form; a `ValueError` it raises carries a
        message of its own.
      words: text is the value itself and never parsed. secret: values are not shown.
    """

    says: str
    read: Callable[[Any], Any]
    words: bool = False
    secret: bool = False

    def value(self, name: str, given: Any) -> Any:
        """The normal form.

        Raises:
          ValueError: naming the field.
        """
        try:
            return self.read(given)
        except _RefusedError:
            shown = "" if self.secret else f", was {short_repr(given)}"
            raise ValueError(f"{name}: must be {self.says}{shown}") from None
        except ValueError as error:
            said = str(error).rstrip(".")
            raise ValueError(said if said.startswith(name) else f"{name}: {said}") from None

    def parse(self, text: str) -> Any:
        """What text from a command line or an environment variable stands for."""
        return text if self.words else parse_value(text)


def parse_value(text: str) -> Any:
    """What text means as a TOML value; text that is none stands for itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# Kinds of values ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """An interval of numbers; None = no bound on that side."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        low = self.least if self.above is None else self.above
        high = self.most if self.below is None else self.below
        if high is None:
            sign = ">=" if self.above is None else ">"
            return f"{sign} {low:g}" if low is not None else ""
        left = "[" if self.above is None else "("
        right = "]" if self.below is None else ")"
        return f"in {left}{low:g}, {high:g}{right}"


def number_rule(**bounds: float) -> Rule:
    """A finite number in a `Range`, read as float."""
    span = Range(**bounds)

    def read(value: Any) -> float:
        if not is_number(value) or value not in span:
            raise _RefusedError
        return float(value)

    return Rule(f"a finite number {span}".strip(), read)


def whole_rule(least: int, most: int | None = None) -> Rule:
    """A whole number >= ``least``, read as int."""
    says = f">= {least}" if most is None else f"in [{least}, {most}]"

    def read(value: Any) -> int:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            raise _RefusedError
        return int(value)

    return Rule(f"a whole number {says}", read)


def flag_rule() -> Rule:
    """True or false."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise _RefusedError
        return value

    return Rule("true or false", read)


def word_rule(choices: Sequence[str]) -> Rule:
    """One of some words, any case; the given spelling is replaced by that of ``choices``."""
    known = {choice.lower(): choice for choice in choices}

    def read(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in known:
            hint = did_you_mean(value.lower(), known) if isinstance(value, str) else ""
            listed = f"one of {', '.join(choices)}"
            raise ValueError(f"must be {listed}, was {short_repr(value)}; {hint}".rstrip("; "))
        return known[value.lower()]

    return Rule(f"one of {', '.join(choices)}", read, words=True)


def member_rule(kind: type[enum.StrEnum], allowed: Sequence[enum.StrEnum]) -> Rule:
    """A member of an enumeration, or its name in any case."""
    spelled = word_rule([member.name.lower() for member in allowed])

    def read(value: Any) -> enum.StrEnum:
        name = value.name if isinstance(value, kind) else value
        return kind[spelled.read(name).upper()]

    return Rule(spelled.says, read, words=True)


def text_rule(says: str, pattern: str, *, secret: bool = False) -> Rule:
    """Text that matches a pattern as a whole."""
    compiled = re.compile(pattern)

    def read(value: Any) -> str:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise _RefusedError
        return value

    return Rule(says, read, words=True, secret=secret)


def path_rule() -> Rule:
    """The path of a file or folder; ~ is the user's home."""

    def read(value: Any) -> Path:
        if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
            raise _RefusedError
        return Path(value).expanduser()

    return Rule("a path", read, words=True)


def optional_rule(rule: Rule) -> Rule:
    """What ``rule`` accepts, or nothing: None, in files and variables the word none."""

    def read(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return rule.read(value)

    return Rule(f"{rule.says}, or none", read, words=rule.words, secret=rule.secret)


def list_rule(says: str, each: Callable[[Any], Any], *, least: int = 0) -> Rule:
    """Several values, read as a tuple; one alone counts as a list of one."""

    def read(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            tolist = getattr(value, "tolist", None)  # a numpy array
            value = tolist() if tolist is not None else [value]
            value = value if isinstance(value, list) else [value]
        if len(value) < least:
            raise _RefusedError
        return tuple(each(item) for item in value)

    return Rule(says, read)


def free_rule(says: str, read: Callable[[Any], Any], *, words: bool = False) -> Rule:
    """A rule with a reader of its own; the reader calls `refuse` for what it does not take."""
    return Rule(says, read, words=words)


def refuse() -> _RefusedError:
    """What a reader raises where the rule's own text says enough."""
    return _RefusedError()
