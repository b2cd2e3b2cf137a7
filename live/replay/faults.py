"""Faults on purpose: a venue that sometimes refuses, loses answers, or cannot be read.

For trying policies and failure paths on a replay; nothing uses it by itself.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar, cast

import numpy as np

from live.types import (
    Ambiguous,
    Balance,
    Bars,
    Category,
    Certainty,
    Definitive,
    Fill,
    Intent,
    IntentKind,
    OrderReport,
    Outcome,
    Position,
    Quote,
    Unknown,
    UnreadableError,
)
from live.venue import Venue

Value = TypeVar("Value")


class Fault(enum.StrEnum):
    """What goes wrong with one request.

    The first four befall submissions, the next two any read, the last only bars.
    """

    REJECTED = "rejected"
    LOST = "lost"  # no answer, and the order never arrived
    UNANSWERED = "unanswered"  # no answer, but the order was carried out
    PARTIAL = "partial"  # half of a market order is carried out
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"  # the position comes back as unknown; other reads fail
    MISSING_BAR = "missing_bar"  # the newest bar is not there yet


# Name of the request ("submit", "position", "closed_bars", ...) and its number from 0 -> fault.
Faults = Callable[[str, int], Fault | None]

_SUBMISSIONS = (Fault.REJECTED, Fault.LOST, Fault.UNANSWERED, Fault.PARTIAL)


def random_faults(seed: int, probability: float) -> Faults:
    """Every request fails with ``probability``, each in one of its ways, the same for one seed."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: must be in [0, 1]; got {probability}.")

    def fault(name: str, number: int) -> Fault | None:
        generator = np.random.default_rng((seed, *name.encode(), number))
        if not generator.random() < probability:
            return None
        if name == "submit":
            return _SUBMISSIONS[int(generator.integers(len(_SUBMISSIONS)))]
        if name == "closed_bars" and generator.random() < 0.5:
            return Fault.MISSING_BAR
        return Fault.UNKNOWN if name == "position" else Fault.UNREADABLE

    return fault


def with_faults(venue: Venue, faults: Faults) -> Venue:
    """``venue`` with faults; whatever else it has, such as ``advance``, is reached through it."""
    return cast(Venue, _Faulty(venue, faults))


class _Faulty:
    def __init__(self, venue: Venue, faults: Faults) -> None:
        self._venue, self._faults = venue, faults
        self._counts: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._venue, name)

    def _next(self, name: str) -> Fault | None:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        return self._faults(name, number)

    async def _read(self, name: str, answer: Callable[[], Awaitable[Value]]) -> Value:
        fault = self._next(name)
        if fault in (Fault.UNREADABLE, Fault.UNKNOWN):
            raise UnreadableError(f"{name}: a fault on purpose.")
        return await answer()

    async def submit(self, intent: Intent) -> Outcome:
        fault = self._next("submit")
        if fault is Fault.REJECTED:
            detail = "a fault on purpose"
            return Definitive(
                Certainty.REJECTED, code="fault", category=Category.OTHER, detail=detail
            )
        if fault is Fault.LOST:
            return Ambiguous("a fault on purpose: nothing arrived")
        if fault is Fault.PARTIAL and intent.kind in (IntentKind.MARKET, IntentKind.BRACKET):
            intent = replace(intent, quantity=intent.quantity * Decimal("0.5"))
        outcome = await self._venue.submit(intent)
        if fault is Fault.UNANSWERED:
            return Ambiguous("a fault on purpose: the answer is lost")
        return outcome

    async def position(self, symbol: str) -> Position:
        fault = self._next("position")
        if fault is Fault.UNREADABLE:
            raise UnreadableError("position: a fault on purpose.")
        if fault is Fault.UNKNOWN:
            return Unknown("a fault on purpose")
        return await self._venue.position(symbol)

    async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
        fault = self._next("closed_bars")
        if fault is Fault.UNREADABLE:
            raise UnreadableError("closed_bars: a fault on purpose.")
        bars = await self._venue.closed_bars(symbol, frame, count)
        if fault is Fault.MISSING_BAR and len(bars.open_time_ms):
            return Bars(frame, bars.open_time_ms[:-1], bars.ohlcv[:-1])
        return bars

    async def balance(self) -> Balance:
        return await self._read("balance", self._venue.balance)

    async def quote(self, symbol: str) -> Quote:
        return await self._read("quote", lambda: self._venue.quote(symbol))

    async def orders(self, symbol: str) -> tuple[OrderReport, ...]:
        return await self._read("orders", lambda: self._venue.orders(symbol))

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        return await self._read("fills", lambda: self._venue.fills(symbol, since_ms))
