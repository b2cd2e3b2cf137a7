"""What the codes of a venue mean: a table in data, one row per code; what is not listed is unknown.

A venue's code is taken from the body of its reply, never from the class of an SDK's exception and
never from the words of a message.
"""

from __future__ import annotations

import enum
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any, assert_never

from live.types import Ambiguous, Category, Certainty, Definitive, Outcome, UnreadableError


class Operation(enum.StrEnum):
    """What a request asks for; one code may mean different things."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    AMEND = "amend"
    CONFIGURE = "configure"
    READ = "read"


class Meaning(enum.StrEnum):
    """What a code says about a request."""

    REJECTED = "rejected"
    ACCEPTED = "accepted"
    AMBIGUOUS = "ambiguous"


class RefusedReadError(UnreadableError):
    """The venue refused a read with a code.

    Attributes:
      category: why; ``Category.AUTH`` halts. code: the venue's, as text.
    """

    def __init__(self, message: str, category: Category, code: str) -> None:
        super().__init__(message)
        self.category = category
        self.code = code


class UnreachableError(UnreadableError):
    """No connection to the venue came about."""


# Errors of the SDK's requests that tell of the way to the venue, not of the venue.
_NO_WAY = ("ConnectionError", "ConnectTimeout", "ProxyError", "SSLError")


def unread(what: str, host: str, answer: str) -> UnreadableError:
    """The error of a read that got no answer.

    Args:
      what: venue and route. answer: the last thing learnt, which ends with the error's name.
    """
    name = answer.rpartition(" ")[2]
    if name in _NO_WAY:
        return UnreachableError(f"{what}: no connection to {host} ({name})")
    return UnreadableError(f"{what}: {answer}.")


@dataclass(frozen=True, slots=True)
class Row:
    """One code for some operations; ``category`` is what to make of it, if anything."""

    code: int
    on: frozenset[Operation]
    meaning: Meaning
    category: Category | None
    says: str

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Row:
        """A row of the file.

        Raises:
          ValueError: a rejection without a category, or a word that is not known.
        """
        category = Category(raw["category"]) if "category" in raw else None
        meaning = Meaning(raw["outcome"])
        if (meaning is Meaning.REJECTED) != (category is not None) and (
            meaning is not Meaning.AMBIGUOUS
        ):
            raise ValueError(f"code {raw['code']}: exactly a rejection needs a category.")
        on = frozenset(Operation(word) for word in raw["on"])
        return cls(int(raw["code"]), on, meaning, category, str(raw["says"]))


@dataclass(frozen=True, slots=True)
class CodeTable:
    """The codes of one venue."""

    venue: str
    rows: Mapping[tuple[int, Operation], Row]

    def row(self, code: object, operation: Operation) -> Row | None:
        """The row of a code, or None: not listed, or not a whole number at all."""
        if not isinstance(code, int) or isinstance(code, bool):
            return None
        return self.rows.get((code, operation))

    def outcome(self, code: object, operation: Operation, detail: str) -> Outcome:
        """What a refusal says about a request that would have changed something.

        Args:
          detail: the venue's words, redacted.
        """
        row = self.row(code, operation)
        if row is None:
            return Ambiguous(f"{self.venue} code {code} is not in the table: {detail}")
        match row.meaning:
            case Meaning.REJECTED:
                return Definitive(
                    Certainty.REJECTED, code=str(code), category=row.category, detail=detail
                )
            case Meaning.ACCEPTED:
                return Definitive(Certainty.ACCEPTED, code=str(code), detail=row.says)
            case Meaning.AMBIGUOUS:
                return Ambiguous(f"{self.venue} code {code}, {row.says}")
            case _:
                assert_never(row.meaning)

    def refusal(self, code: object, what: str, detail: str) -> UnreadableError | None:
        """The error of a read that asking again would not help; None: it might."""
        row = self.row(code, Operation.READ)
        if row is None or row.category is None or row.meaning is not Meaning.REJECTED:
            return None
        return RefusedReadError(
            f"{self.venue} {what}: code {code}, {row.says}: {detail}", row.category, str(code)
        )

    def throttled(self, code: object, operation: Operation) -> bool:
        """Whether a code means that there were too many requests."""
        row = self.row(code, operation)
        return row is not None and row.category is Category.THROTTLED


@functools.cache
def load(venue: str) -> CodeTable:
    """The table ``<venue>_codes.toml`` beside this module.

    Raises:
      ValueError: a code has two rows for one operation.
    """
    text = resources.files("live.venues").joinpath(f"{venue}_codes.toml").read_text("utf-8")
    rows: dict[tuple[int, Operation], Row] = {}
    for raw in tomllib.loads(text)["code"]:
        row = Row.parse(raw)
        for operation in row.on:
            if (row.code, operation) in rows:
                raise ValueError(f"{venue} codes: {row.code} has two rows for {operation}.")
            rows[row.code, operation] = row
    return CodeTable(venue, MappingProxyType(rows))
