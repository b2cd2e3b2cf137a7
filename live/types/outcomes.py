"""Outcomes: what is certain about a request, and answers to the question for an order."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from live.types.orders import OrderReport


class Category(enum.StrEnum):
    """Why a venue refused."""

    MARGIN = "margin"
    PRECISION = "precision"
    MINIMUM = "minimum"
    REDUCE_ONLY = "reduce_only"
    DUPLICATE = "duplicate"
    THROTTLED = "throttled"
    CLOCK = "clock"
    AUTH = "auth"
    HALTED = "halted"
    NOT_FOUND = "not_found"
    RISK = "risk"
    OTHER = "other"


class Certainty(enum.StrEnum):
    """What is certain about a request."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class Definitive:
    """The venue's answer is known. Accepted is not filled."""

    kind: Certainty
    venue_order_id: str | None = None
    code: str | None = None
    category: Category | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The venue may have acted: ask by id, never send again."""

    reason: str


Outcome = Definitive | Ambiguous


@dataclass(frozen=True, slots=True)
class Found:
    """The venue knows the order."""

    report: OrderReport


@dataclass(frozen=True, slots=True)
class Absent:
    """A successful answer that names no such order.

    Attributes:
      endpoint: which list was asked; absence counts only if several say so.
    """

    endpoint: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer that counts."""

    reason: str


Answer = Found | Absent | Unavailable


class UnreadableError(Exception):
    """A read failed or did not make sense; what it would have told is unknown."""
