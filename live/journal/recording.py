"""The half of the journal that records what happened around orders: runs, latches, equity, events.

Every write is one transaction and ends in one line of ``events``, so the history is complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from live import crash
from live.journal.reading import DAY_MS, JournalReader
from live.journal.rows import EquityMarks, LatchRow
from live.journal.schema import Value
from live.journal.statements import (
    Statement,
    baseline_row,
    insert,
    json_text,
    optional_text,
    reading_row,
    text_of,
    update,
    upsert,
)
from live.journal.storage import Storage
from live.types import ZERO, Bracket

OPERATIONS = (
    "start_run",
    "end_run",
    "adjust",
    "acknowledge",
    "protection",
    "latch",
    "clear_latches",
    "equity",
    "baseline",
    "watermark",
    "event",
)
for _operation in OPERATIONS:
    crash.register(f"journal.{_operation}", crash.WRITE_POINTS)


class Recorder(JournalReader):
    """Writes everything but intents and fills; `live.journal.Journal` adds those."""

    def __init__(self, storage: Storage, now_ms: Callable[[], int]) -> None:
        super().__init__(storage)
        self._now_ms = now_ms
        self._run_id: int | None = None

    # Runs

    def start_run(
        self,
        *,
        mode: str,
        venue: str,
        symbols: Sequence[str],
        config_sha256: str,
        bundle_sha256: str | None = None,
        version: str,
        boot_id: str = "",
    ) -> int:
        """Begin a life of the daemon; what follows is recorded under its id."""
        run_id = len(self.runs()) + 1
        row = insert(
            "runs",
            run_id=run_id,
            started_ms=self._now_ms(),
            mode=mode,
            venue=venue,
            symbols=json.dumps(list(symbols)),
            config_sha256=config_sha256,
            bundle_sha256=bundle_sha256,
            version=version,
            boot_id=boot_id,
        )
        self._write("start_run", [row], body={"run_id": run_id})
        self._run_id = run_id
        return run_id

    def end_run(self, code: int) -> None:
        """End the life of this daemon with its exit code."""
        ended = update(
            "runs", "run_id", run_id=self._run_id, ended_ms=self._now_ms(), exit_code=code
        )
        self._write("end_run", [ended], body={"code": code})

    # What the venue did

    def adjust(
        self,
        symbol: str,
        kind: str,
        quantity: Decimal,
        cash: Decimal,
        evidence: Mapping[str, Any],
        *,
        venue_ms: int | None = None,
        acknowledged_by: str | None = None,
    ) -> int:
        """Record a change that no order explains; it counts when somebody acknowledges it."""
        adjustment = len(self.adjustments()) + 1
        row = insert(
            "adjustments",
            id=adjustment,
            symbol=symbol,
            kind=kind,
            quantity=text_of(quantity),
            cash=text_of(cash),
            evidence=json_text(evidence),
            venue_ms=self._now_ms() if venue_ms is None else venue_ms,
            acknowledged_by=acknowledged_by,
        )
        self._write("adjust", [row], symbol=symbol, body={"id": adjustment, "kind": kind})
        if acknowledged_by is not None:
            self._add(symbol, quantity)
        return adjustment

    def acknowledge(self, by: str, symbol: str | None = None) -> int:
        """Accept the adjustments of a symbol, or of all, as part of the position; their number."""
        waiting = [
            row
            for row in self.adjustments(acknowledged=False)
            if symbol is None or row.symbol == symbol
        ]
        if waiting:
            changes = [
                update("adjustments", "id", id=row.id, acknowledged_by=by) for row in waiting
            ]
            body = {"by": by, "ids": [row.id for row in waiting]}
            self._write("acknowledge", changes, symbol=symbol, body=body)
        for row in waiting:
            self._add(row.symbol, row.quantity)
        return len(waiting)

    def set_protection(
        self,
        symbol: str,
        bracket: Bracket | None,
        quantity: Decimal = ZERO,
        *,
        client_id: str | None = None,
        where_held: str = "venue",
    ) -> None:
        """Record the legs that were confirmed; None = there are none any more."""
        if bracket is None and self.protection(symbol) is None:
            return
        if bracket is None:
            change = Statement(
                "protection", "DELETE FROM protection WHERE symbol = :symbol", {"symbol": symbol}
            )
            body: dict[str, Any] = {}
        else:
            values: dict[str, Value] = {
                "client_id": client_id,
                "stop_price": optional_text(bracket.stop_price),
                "target_price": optional_text(bracket.target_price),
                "quantity": text_of(quantity),
                "confirmed_ms": self._now_ms(),
                "where_held": where_held,
            }
            change, body = upsert("protection", ("symbol",), symbol=symbol, **values), values
        self._write("protection", [change], symbol=symbol, body=body)

    # States and equity

    def latch(self, state: str, reason: str, detail: str = "") -> LatchRow:
        """Set a state that only an operator ends; the same one twice is one."""
        for row in self.latches():
            if (row.state, row.reason) == (state, reason):
                return row
        (count,) = self._storage.rows("SELECT count(*) AS n FROM latches")
        words: dict[str, Value] = {"state": str(state), "reason": reason, "detail": detail}
        new = insert("latches", id=count["n"] + 1, set_ms=self._now_ms(), **words)
        self._write("latch", [new], body=words)
        return self.latches()[-1]

    def clear_latches(self, by: str, reason: str) -> int:
        """Clear every latch, with the name and the words of who does it; their number."""
        active = self.latches()
        changes = [
            update(
                "latches",
                "id",
                id=row.id,
                cleared_ms=self._now_ms(),
                cleared_by=by,
                cleared_reason=reason,
            )
            for row in active
        ]
        if changes:
            self._write("clear_latches", changes, body={"by": by, "reason": reason})
        return len(active)

    def record_equity(
        self,
        venue_ms: int,
        equity: Decimal,
        available: Decimal,
        *,
        quantity: Decimal | None = None,
        mark: Decimal | None = None,
    ) -> EquityMarks:
        """Record a reading of equity, quote units; returns what losses are measured from.

        The first reading ever is the baseline, the first of a UTC day its start; one that is not
        newer than the last is not news.
        """
        old = self._marks
        if old is None:
            new = EquityMarks(equity, equity, equity, venue_ms)
        elif venue_ms <= old.venue_ms:
            return old
        else:
            next_day = venue_ms // DAY_MS > old.venue_ms // DAY_MS
            day_start = equity if next_day else old.day_start
            new = EquityMarks(old.baseline, max(old.peak, equity), day_start, venue_ms)
        reading = reading_row(venue_ms, equity, available, new, quantity, mark)
        statements = [reading] if old else [reading, baseline_row(equity)]
        self._write("equity", statements, venue_ms=venue_ms)
        self._marks = new
        return new

    def reset_baseline(self, venue_ms: int, equity: Decimal, available: Decimal) -> EquityMarks:
        """Measure losses from this equity on, by the word of an operator."""
        return self.restate(EquityMarks(equity, equity, equity, venue_ms), equity, available)

    def restate(self, marks: EquityMarks, equity: Decimal, available: Decimal) -> EquityMarks:
        """Measure losses from other marks: money came or went that is no profit and no loss."""
        reading = reading_row(marks.venue_ms, equity, available, marks, None, None)
        body = {"equity": equity, "baseline": marks.baseline, "peak": marks.peak}
        changes = [reading, baseline_row(marks.baseline)]
        self._write("baseline", changes, venue_ms=marks.venue_ms, body=body)
        self._marks = marks
        return marks

    # Feeds and events

    def set_watermark(self, symbol: str, feed: str, venue_ms: int, last_id: str = "") -> None:
        """Record how far a feed was read; never back."""
        old = self.watermark(symbol, feed)
        if old is not None and old.venue_ms > venue_ms:
            return
        if old is not None and (old.venue_ms, old.last_id) == (venue_ms, last_id):
            return
        values: dict[str, Value] = {"symbol": symbol, "feed": feed}
        row = upsert("watermarks", ("symbol", "feed"), **values, venue_ms=venue_ms, last_id=last_id)
        self._write("watermark", [row], symbol=symbol, venue_ms=venue_ms, body={"feed": feed})

    def event(
        self,
        kind: str,
        symbol: str | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        venue_ms: int | None = None,
    ) -> None:
        """Append a line to the history."""
        self._write("event", [], kind=kind, symbol=symbol, venue_ms=venue_ms, body=body)

    def _write(
        self,
        operation: str,
        statements: Sequence[Statement],
        *,
        kind: str | None = None,
        symbol: str | None = None,
        venue_ms: int | None = None,
        body: Mapping[str, Any] | None = None,
        risky: bool = False,
    ) -> None:
        event = insert(
            "events",
            seq=self.seq + 1,
            run_id=self._run_id,
            wall_ms=self._now_ms(),
            venue_ms=venue_ms,
            kind=kind or operation,
            symbol=symbol,
            body=json_text(body or {}),
        )
        self._storage.write(operation, [*statements, event], risky=risky)
