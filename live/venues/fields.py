"""Reading a venue's JSON: one accessor per kind of field, and an error that names the field.

Numbers stay the exact decimals that were written. Nothing is converted silently: a float, a NaN, a
blank or a missing field is unreadable, unless the field is one that may be absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from live.secrets import redact
from live.types import UnreadableError

_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?")
# Milliseconds from 2001 to 2286: seconds, microseconds and nonsense fall outside.
_EARLIEST_MS, _LATEST_MS = 10**12, 10**13
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object, and where it came from for the messages."""

    raw: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, raw: object, where: str) -> Fields:
        """The object, if it is one.

        Raises:
          UnreadableError: it is a list, a text, a number or nothing.
        """
        if not isinstance(raw, Mapping):
            raise UnreadableError(f"{where}: expected an object; got {_shown(raw)}.")
        return cls(raw, where)

    def wrong(self, name: str, expected: str) -> UnreadableError:
        """The error for a field that is not what it should be."""
        got = _shown(self.raw[name]) if name in self.raw else "nothing"
        return UnreadableError(f"{self.where}: field {name!r}: expected {expected}; got {got}.")

    def text(self, name: str) -> str:
        """A text that is not blank."""
        value = self.raw.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "a text")
        return value

    def text_or_blank(self, name: str) -> str:
        """A text that may be blank but must be there."""
        value = self.raw.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a text, perhaps blank")
        return value

    def word(self, name: str, known: Mapping[str, Any]) -> Any:
        """What a known word stands for; words are matched literally."""
        value = self.raw.get(name)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(name, f"one of {', '.join(map(repr, known))}")
        return known[value]

    def flag(self, name: str) -> bool:
        """A JSON true or false."""
        value = self.raw.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def whole(self, name: str) -> int:
        """A JSON whole number."""
        value = self.raw.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "a whole number")
        return value

    def number(self, name: str) -> Decimal:
        """A finite number written as text."""
        value = exact(self.raw.get(name))
        if value is None:
            raise self.wrong(name, "a number written as text")
        return value

    def positive(self, name: str) -> Decimal:
        """A number > 0."""
        value = self.number(name)
        if not value > 0:
            raise self.wrong(name, "a number > 0")
        return value

    def not_negative(self, name: str) -> Decimal:
        """A number >= 0."""
        value = self.number(name)
        if not value >= 0:
            raise self.wrong(name, "a number >= 0")
        return value

    def optional_number(self, name: str) -> Decimal | None:
        """A number, or None where the field is absent, blank or makes no sense.

        Only for fields that nothing depends on: their failure must not spoil the rest.
        """
        return exact(self.raw.get(name))

    def optional_price(self, name: str) -> Decimal | None:
        """As `optional_number`; 0 and less is no price."""
        value = exact(self.raw.get(name))
        return value if value is not None and value > 0 else None

    def optional_text(self, name: str) -> str | None:
        """A text that is not blank, or None."""
        value = self.raw.get(name)
        return value if isinstance(value, str) and value.strip() else None

    def time_ms(self, name: str) -> int:
        """Milliseconds UTC, as a whole number or digits."""
        value = milliseconds(self.raw.get(name))
        if value is None:
            raise self.wrong(name, "milliseconds since 1970")
        return value

    def object(self, name: str) -> Fields:
        """An object inside this one."""
        if not isinstance(self.raw.get(name), Mapping):
            raise self.wrong(name, "an object")
        return Fields(self.raw[name], f"{self.where} {name}")

    def list(self, name: str) -> Sequence[Any]:
        """A list inside this object."""
        value = self.raw.get(name)
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return value

    def rows(self, name: str) -> tuple[Fields, ...]:
        """A list of objects inside this one."""
        return tuple(
            Fields.of(item, f"{self.where} {name}[{i}]") for i, item in enumerate(self.list(name))
        )


def _shown(value: object) -> str:
    """A value for a message: without keys, and short however much came."""
    text = redact(repr(value))
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def exact(value: object) -> Decimal | None:
    """The decimal that a text writes, or None; whole JSON numbers count, floats do not."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**40:
        return Decimal(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return Decimal(value)
    return None


def milliseconds(value: object) -> int | None:
    """A plausible instant in milliseconds UTC, or None."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{13}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if _EARLIEST_MS <= value < _LATEST_MS else None
    return None
