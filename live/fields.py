"""Fields of configuration tables: what each accepts, and one message for all that does not fit.

A table is a frozen dataclass derived from `Table`, whose fields are made by the functions below.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

from jaxtrade.checks import is_number
from jaxtrade.hints import did_you_mean
from jaxtrade.timeframe import short_repr

_RULE = "jaxtrade.live.rule"
# Names under which people keep keys; no field of any table is one.
_KEY_WORDS = ("api_key", "apikey", "secret", "passphrase", "password", "private_key", "token")
_KEYS_ELSEWHERE = (
    "keys are read from the environment or from a file given by --credentials, never from a "
    "configuration"
)


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, in one message.

    Attributes:
      problems: one clear line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


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


def rule_of(field: dataclasses.Field[Any]) -> Rule:
    """The rule of a field of a table."""
    rule: Rule = field.metadata[_RULE]
    return rule


def _field(default: Any, rule: Rule) -> Any:
    shown = not rule.secret
    return dataclasses.field(default=default, metadata={_RULE: rule}, repr=shown)


# Kinds of values --------------------------------------------------------------------------------


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


def _read_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _RefusedError
    return value


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
    spelled = word_rule([member.name for member in allowed])

    def read(value: Any) -> enum.StrEnum:
        name = value.name if isinstance(value, kind) else value
        return kind[spelled.read(name)]

    return Rule(spelled.says, read, words=True)


def text_rule(says: str, pattern: str, *, secret: bool = False) -> Rule:
    """Text that matches a pattern as a whole."""
    compiled = re.compile(pattern)

    def read(value: Any) -> str:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise _RefusedError
        return value

    return Rule(says, read, words=True, secret=secret)


def _read_path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise _RefusedError
    return Path(value).expanduser()


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


# Fields -----------------------------------------------------------------------------------------


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
    rule = Rule("true or false", _read_flag)
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
    return _field(default, optional_rule(Rule("a path", _read_path, words=True)))


def ruled(default: Any, rule: Rule) -> Any:
    """A field with any rule."""
    return _field(default, rule)


# Tables -----------------------------------------------------------------------------------------


class Table:
    """Base of a configuration table: refuses unknown names, checks every field, then the whole.

    Derived classes are frozen keyword-only dataclasses. Every problem is in one message.
    """

    __slots__ = ()

    # Names that a user may expect here, and why they are refused.
    misplaced: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, **values: Any) -> Self:
        """Refuse unknown names.

        Raises:
          ConfigError: with the nearest known name of each.
        """
        problems = cls.unknown(values)
        if problems:
            raise ConfigError(problems)
        return super().__new__(cls)

    @classmethod
    def table_fields(cls) -> dict[str, dataclasses.Field[Any]]:
        """The fields by name, in order."""
        return {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # every derived class is a dataclass

    @classmethod
    def unknown(cls, values: Mapping[str, Any]) -> list[str]:
        """One line for every name that is no field."""
        known = cls.table_fields()
        problems = []
        for name in values:
            if name in known:
                continue
            if any(word in name.lower() for word in _KEY_WORDS):
                why = _KEYS_ELSEWHERE
            else:
                why = cls.misplaced.get(name) or did_you_mean(name, known)
            why = why or f"known: {', '.join(known)}"
            problems.append(f"{name}: unknown field of {cls.__name__}; {why}")
        return problems

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        """A table from a mapping: unknown names and wrong values together in one message.

        Raises:
          ConfigError: naming everything that is wrong.
        """
        problems = cls.unknown(values)
        known = cls.table_fields()
        try:
            table = cls(**{name: value for name, value in values.items() if name in known})
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems]) from None
        if problems:
            raise ConfigError(problems)
        return table

    def __post_init__(self) -> None:
        """Bring every field into normal form and check the table as a whole."""
        problems = []
        for name, field in self.table_fields().items():
            try:
                value = rule_of(field).value(name, getattr(self, name))
            except ValueError as error:
                problems.append(str(error))
            else:
                object.__setattr__(self, name, value)
        if not problems:  # the rules of the whole may rely on the fields
            problems = list(self.problems())
        if problems:
            raise ConfigError(problems)
        self.remarks()

    def problems(self) -> Iterator[str]:
        """What is wrong with fields that fit one by one."""
        return iter(())

    def remarks(self) -> None:
        """Warn of what is legal and may surprise."""

    def values(self, *, secrets: bool = True) -> dict[str, Any]:
        """Field name -> value, in order; without ``secrets`` those are masked."""
        given = {name: getattr(self, name) for name in self.table_fields()}
        if not secrets:
            for name, field in self.table_fields().items():
                if rule_of(field).secret and given[name] is not None:
                    given[name] = "***"
        return given

    @classmethod
    def parse_text(cls, name: str, text: str) -> Any:
        """What text from a variable or the command line stands for in field ``name``."""
        field = cls.table_fields().get(name)
        return text if field is None else rule_of(field).parse(text)
