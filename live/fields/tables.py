"""A table: refuses unknown names, checks every field, and says all that is wrong at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from jaxtrade.hints import did_you_mean
from live.fields.makers import rule_of

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
