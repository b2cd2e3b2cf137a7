"""The rows that the journal writes, as SQL and values; pure."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from live.journal.rows import EquityMarks, IntentRow
from live.journal.schema import Value
from live.orders import IntentState, TrackedOrder
from live.risk import Effect, effect
from live.types import Fill, Intent, IntentKind, Role


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and its named values; half characters in a venue's text become "?".

    Attributes:
      changes: the table, if it changes a row that is there.
    """

    table: str
    sql: str
    values: Mapping[str, Value]
    changes: str = ""

    def __post_init__(self) -> None:
        whole = {
            name: _whole(value) if isinstance(value, str) else value
            for name, value in self.values.items()
        }
        object.__setattr__(self, "values", whole)


def _whole(text: str) -> str:
    return str(text) if text.isascii() else text.encode("utf-8", "replace").decode()


def insert(table: str, /, **values: Value) -> Statement:
    """A statement that adds a row."""
    names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    text = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 (names of ours)
    return Statement(table, text, values)


def upsert(table: str, keys: tuple[str, ...], /, **values: Value) -> Statement:
    """A statement that adds a row or changes the one with the same keys."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in values if name not in keys)
    new = insert(table, **values)
    return Statement(
        table, f"{new.sql} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}", values
    )


def update(table: str, key: str, /, **values: Value) -> Statement:
    """A statement that changes the row whose ``key`` is among the values."""
    changes = ", ".join(f"{name} = :{name}" for name in values if name != key)
    return Statement(
        table,
        f"UPDATE {table} SET {changes} WHERE {key} = :{key}",  # noqa: S608 (names of ours)
        values,
        changes=table,
    )


def text_of(value: Decimal) -> str:
    """A decimal as the journal writes it, without an exponent.

    Raises:
      ValueError: it is not finite.
    """
    if not value.is_finite():
        raise ValueError(f"journal: expected a finite number; got {value}.")
    return format(value, "f")


def optional_text(value: Decimal | None) -> str | None:
    """As `text_of`; None stays None."""
    return None if value is None else text_of(value)


def json_text(body: Mapping[str, Any]) -> str:
    """A body as JSON: decimals and numbers that are not finite become text."""
    return json.dumps(_plain(body), sort_keys=True, allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return repr(value)
        case bool() | int() | float() | str() | None:
            return value
        case _:
            return str(value)


def baseline_row(equity: Decimal) -> Statement:
    """What losses are measured from."""
    return upsert("meta", ("key",), key="baseline", value=text_of(equity))


def reading_row(
    venue_ms: int,
    equity: Decimal,
    available: Decimal,
    marks: EquityMarks,
    quantity: Decimal | None,
    mark: Decimal | None,
) -> Statement:
    """One reading of equity."""
    return upsert(
        "equity",
        ("venue_ms",),
        venue_ms=venue_ms,
        equity=text_of(equity),
        available=text_of(available),
        quantity=optional_text(quantity),
        mark=optional_text(mark),
        peak=text_of(marks.peak),
        day_start=text_of(marks.day_start),
    )


def adds_risk(intent: Intent) -> bool:
    """Whether an intent may make a position larger; only such ones need the disk."""
    return intent.role is Role.ENTRY or effect(intent) is Effect.INCREASE


def validate(intent: Intent, symbol: str) -> None:
    """Refuse an intent that the journal cannot stand for.

    Raises:
      ValueError: of another symbol, with or without an id where it should not, or without a size.
    """
    if intent.symbol != symbol:
        raise ValueError(f"journal: an intent of {intent.symbol} came with those of {symbol}.")
    if (intent.kind is IntentKind.CANCEL) is not bool(intent.client_id):
        raise ValueError(
            "journal: a cancel names the order that it ends, anything else gets its id here; got"
            f" a {intent.kind} with client id {intent.client_id!r}."
        )
    sized = intent.kind not in (IntentKind.CANCEL, IntentKind.AMEND)
    if sized and not (intent.quantity.is_finite() and intent.quantity > 0):
        raise ValueError(f"journal: expected a quantity above 0; got {intent.quantity}.")


def fill_row(symbol: str, fill: Fill, source: str) -> Statement:
    """One fill."""
    return insert(
        "fills",
        symbol=symbol,
        trade_id=fill.trade_id,
        client_id=fill.client_id,
        venue_order_id=fill.venue_order_id,
        side=fill.side,
        quantity=text_of(fill.quantity),
        price=text_of(fill.price),
        fee=text_of(fill.fee),
        fee_asset=fill.fee_asset,
        kind=fill.kind,
        venue_ms=fill.venue_time_ms,
        source=source,
    )


def number_text(action: float | None) -> str | None:
    """An action as Python writes it, whatever kind of number it came as."""
    if action is None:
        return None
    return repr(int(action)) if isinstance(action, numbers.Integral) else repr(float(action))


def intent_row(
    intent: Intent,
    bar_open_ms: int,
    leg: int,
    number: int,
    now_ms: int,
    sent_ms: int | None = None,
) -> Statement:
    """One intent, not sent yet."""
    bracket = intent.bracket
    return insert(
        "intents",
        intent_id=number,
        client_id=intent.client_id,
        symbol=intent.symbol,
        bar_open_ms=bar_open_ms,
        role=intent.role,
        leg=leg,
        kind=intent.kind,
        side=intent.side,
        quantity=text_of(intent.quantity),
        reduce_only=int(intent.reduce_only),
        price=optional_text(intent.price),
        trigger_price=optional_text(intent.trigger_price),
        stop_price=optional_text(bracket.stop_price) if bracket else None,
        target_price=optional_text(bracket.target_price) if bracket else None,
        parent_id=intent.parent,
        state=IntentState.INTENT,
        reason=intent.reason,
        created_ms=now_ms,
        sent_ms=sent_ms,
    )


def moved_columns(row: IntentRow, order: TrackedOrder, now_ms: int) -> dict[str, Value]:
    """The columns of an intent that differ from what is known of its order now."""
    new: dict[str, Value] = {
        "state": order.state,
        "code": order.code,
        "venue_order_id": order.venue_order_id,
        "reported": text_of(order.reported),
    }
    old = {
        "state": row.state,
        "code": row.code,
        "venue_order_id": row.venue_order_id,
        "reported": text_of(row.reported),
    }
    changes = {name: value for name, value in new.items() if value != old[name]}
    if row.resolved_ms is None and not order.state.unresolved:
        changes["resolved_ms"] = now_ms
    return changes
