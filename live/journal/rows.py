"""What the journal gives back: one frozen value per row, with decimals and enumerations."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Self

from live.orders import IntentState, TrackedOrder
from live.types import Bracket, Fill, Intent, IntentKind, Role, Side


class _Row:
    """A dataclass made from a row of the same column names."""

    __slots__ = ()

    @classmethod
    def of(cls, row: sqlite3.Row) -> Self:
        """The value of a row; an unknown word or number raises ValueError."""
        values = {}
        for column in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            value, convert = row[column.name], _CONVERT.get(str(column.type))
            values[column.name] = convert(value) if convert and value is not None else value
        return cls(**values)


_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    "Decimal": Decimal,
    "Decimal | None": Decimal,
    "bool": bool,
    "Role": Role,
    "Side": Side,
    "IntentKind": IntentKind,
    "IntentState": IntentState,
    "dict[str, Any]": json.loads,
    "tuple[str, ...]": lambda text: tuple(json.loads(text)),
}


@dataclass(frozen=True, slots=True)
class IntentRow(_Row):
    """An intent and what became of it.

    Attributes:
      leg: counts the intents of one bar and role. parent_id: client id of the entry it belongs to.
      reason: why it was wanted. code, detail: what the venue said.
      reported: filled according to the venue, base units; fills are what counts.
      sent_ms: when it was about to leave, see `Journal.sent`.
    """

    intent_id: int
    client_id: str
    venue_hash: str | None
    symbol: str
    bar_open_ms: int
    role: Role
    leg: int
    kind: IntentKind
    side: Side
    quantity: Decimal
    reduce_only: bool
    price: Decimal | None
    trigger_price: Decimal | None
    stop_price: Decimal | None
    target_price: Decimal | None
    parent_id: str | None
    state: IntentState
    code: str | None
    reason: str
    detail: str
    venue_order_id: str | None
    reported: Decimal
    created_ms: int
    sent_ms: int | None
    resolved_ms: int | None

    def intent(self) -> Intent:
        """The intent as it was sent."""
        legs = (self.stop_price, self.target_price)
        return Intent(
            kind=self.kind,
            role=self.role,
            symbol=self.symbol,
            side=self.side,
            quantity=self.quantity,
            reduce_only=self.reduce_only,
            reason=self.reason,
            client_id=self.client_id,
            price=self.price,
            trigger_price=self.trigger_price,
            bracket=Bracket(*legs) if self.kind in BRACKETED else None,
            parent=self.parent_id,
        )

    def tracked(self, filled: Decimal, trade_ids: frozenset[str]) -> TrackedOrder:
        """The order as `live.orders` follows it, with its booked fills."""
        return TrackedOrder(
            client_id=self.client_id,
            symbol=self.symbol,
            kind=self.kind,
            role=self.role,
            side=self.side,
            quantity=self.quantity,
            reduce_only=self.reduce_only,
            state=self.state,
            filled=filled,
            reported=self.reported,
            trade_ids=trade_ids,
            venue_order_id=self.venue_order_id,
            code=self.code,
        )


BRACKETED = (IntentKind.BRACKET, IntentKind.AMEND)  # kinds that carry a stop and a target


@dataclass(frozen=True, slots=True)
class DecisionRow(_Row):
    """One decision; ``action`` as Python writes it, ``observation`` the very bytes."""

    symbol: str
    bar_open_ms: int
    run_id: int | None
    action: str
    level: float | None
    decision: str
    refusal: str | None
    observation_sha256: str
    observation: bytes | None
    policy_ms: float
    fallback: bool


@dataclass(frozen=True, slots=True)
class ProtectionRow(_Row):
    """The legs known to guard a position; ``where_held`` is "venue" or "local"."""

    symbol: str
    client_id: str | None
    stop_price: Decimal | None
    target_price: Decimal | None
    quantity: Decimal
    confirmed_ms: int
    where_held: str

    @property
    def bracket(self) -> Bracket:
        """The two prices."""
        return Bracket(self.stop_price, self.target_price)


@dataclass(frozen=True, slots=True)
class AdjustmentRow(_Row):
    """A change of position or cash that no order explains; it counts once it is acknowledged."""

    id: int
    symbol: str
    kind: str
    quantity: Decimal
    cash: Decimal
    evidence: dict[str, Any]
    venue_ms: int
    acknowledged_by: str | None


@dataclass(frozen=True, slots=True)
class LatchRow(_Row):
    """A state that only an operator ends."""

    id: int
    state: str
    reason: str
    detail: str
    set_ms: int
    cleared_ms: int | None
    cleared_by: str | None
    cleared_reason: str | None


@dataclass(frozen=True, slots=True)
class Watermark(_Row):
    """How far a feed was read."""

    symbol: str
    feed: str
    venue_ms: int
    last_id: str


@dataclass(frozen=True, slots=True)
class RunRow(_Row):
    """One life of the daemon; without an ``ended_ms`` it was cut short."""

    run_id: int
    started_ms: int
    ended_ms: int | None
    exit_code: int | None
    mode: str
    venue: str
    symbols: tuple[str, ...]
    config_sha256: str
    bundle_sha256: str | None
    version: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class EventRow(_Row):
    """One line of what happened; ``seq`` counts every write."""

    seq: int
    run_id: int | None
    wall_ms: int
    venue_ms: int | None
    kind: str
    symbol: str | None
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EquityMarks:
    """What losses are measured from, quote units.

    Attributes:
      baseline: equity when trading was armed. peak: highest since. day_start: first of the UTC day.
      venue_ms: of the newest reading.
    """

    baseline: Decimal
    peak: Decimal
    day_start: Decimal
    venue_ms: int


def fill_of(row: sqlite3.Row) -> Fill:
    """The fill of a row."""
    return Fill.of_text(row, row["venue_ms"])
