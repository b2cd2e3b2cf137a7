"""The part of the journal that turns a plan into durable intents with ids, in one commit."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from live import crash
from live.journal import ids
from live.journal.failures import AlreadyDecidedError, DuplicateIntentError
from live.journal.recording import Recorder
from live.journal.statements import Statement, adds_risk, insert, intent_row, number_text, validate
from live.journal.storage import Storage
from live.types import Intent, IntentKind, Role

ADOPTED = "adopted"  # reason of an order whose id was not given here

for _operation in ("decide", "add_intents"):
    crash.register(f"journal.{_operation}", crash.WRITE_POINTS)


class IntentRecorder(Recorder):
    """Gives intents their ids and records them before they leave."""

    def __init__(
        self, storage: Storage, account_id: str, strategy_id: str, now_ms: Callable[[], int]
    ) -> None:
        super().__init__(storage, now_ms)
        self._owner = (account_id, strategy_id)
        # The newest are at hand.
        (row,) = storage.rows("SELECT coalesce(max(intent_id), 0) AS last FROM intents")
        self._intent_id: int = row["last"]
        self._number = self._last_number()

    def tag(self, symbol: str) -> str:
        """The characters that mark our orders of a symbol, for `live.journal.ids.is_ours`."""
        return ids.owner_tag(*self._owner, symbol)

    def decide(
        self,
        symbol: str,
        bar_open_ms: int,
        *,
        action: float | None,
        level: float | None,
        decision: str,
        refusal: str | None,
        observation: bytes,
        policy_ms: float,
        fallback: bool,
        intents: Sequence[Intent],
        facts: Mapping[str, Any] | None = None,
    ) -> tuple[Intent, ...]:
        """Record the decision of a bar and its intents in one commit; returns them with their ids.

        Legs without a parent belong to the entry among the intents. A cancel keeps its id.

        Args:
          facts: what the plan was made of, kept with the event (`live.trading.evidence`).

        Raises:
          AlreadyDecidedError: the bar has its decision. JournalError: not durable, send nothing.
        """
        newest = self.last_bar(symbol)
        if self.health.failure is not None and newest is not None and bar_open_ms < newest:
            # Memory knows the newest decision alone, and the disk can no longer be asked.
            raise _already_decided(symbol, bar_open_ms)
        rows, given = self._given(symbol, bar_open_ms, intents)
        decided = insert(
            "decisions",
            symbol=symbol,
            bar_open_ms=bar_open_ms,
            run_id=self._run_id,
            action=number_text(action),
            level=level,
            decision=decision,
            refusal=refusal,
            observation_sha256=hashlib.sha256(observation).hexdigest(),
            observation=observation,
            policy_ms=policy_ms,
            fallback=int(fallback),
        )
        try:
            self._record("decide", [decided, *rows], given, bar_open_ms, facts)
        except sqlite3.IntegrityError as error:
            if "decisions" not in str(error):
                raise
            raise _already_decided(symbol, bar_open_ms) from None
        return given

    def add_intents(
        self, symbol: str, bar_open_ms: int, intents: Sequence[Intent]
    ) -> tuple[Intent, ...]:
        """Record further intents of a bar: protection, exits, the second phase of a flip.

        Raises:
          DuplicateIntentError: the bar has its entry. JournalError: an entry is not durable.
        """
        rows, given = self._given(symbol, bar_open_ms, intents)
        self._record("add_intents", rows, given, bar_open_ms)
        return given

    # What the methods share

    def _given(
        self, symbol: str, bar_open_ms: int, intents: Sequence[Intent]
    ) -> tuple[list[Statement], tuple[Intent, ...]]:
        """Rows for intents and the intents with their ids; nothing is recorded yet."""
        rows: list[Statement] = []
        given: list[Intent] = []
        legs: dict[Role, int] = {}
        entry: str | None = None
        for intent in intents:
            validate(intent, symbol)
            if intent.kind is IntentKind.CANCEL:  # ends an order that has its row
                given.append(intent)
                continue
            leg = legs.get(intent.role, self._next_leg(symbol, bar_open_ms, intent))
            legs[intent.role] = leg + 1
            counter = self._intent_id + len(rows) + 1
            self._number = ids.next_number(self._now_ms(), counter, self._number)
            client_id = ids.client_id(self.tag(symbol), self._number, intent.role)
            if intent.role is Role.ENTRY:
                entry = client_id
            parent = intent.parent or (entry if intent.role.protective else None)
            intent = replace(intent, client_id=client_id, parent=parent)
            rows.append(intent_row(intent, bar_open_ms, leg, counter, self._now_ms()))
            given.append(intent)
        return rows, tuple(given)

    def _next_leg(self, symbol: str, bar_open_ms: int, intent: Intent) -> int:
        """A bar has one batch of entries; stops and exits may be tried again."""
        return 0 if adds_risk(intent) else self._free_leg(symbol, bar_open_ms, intent.role)

    def _free_leg(self, symbol: str, bar_open_ms: int, role: Role) -> int:
        rows = self._storage.past.found(
            "intents", "symbol = ? AND bar_open_ms = ? AND role = ?", symbol, bar_open_ms, role
        )
        return max((int(row["leg"]) + 1 for row in rows), default=0)

    def _last_number(self) -> int:
        """The highest number of an id: every one that was given here was above all before it."""
        number = 0
        for row in self._storage.past.every("intents", "intent_id DESC"):
            parsed = ids.parse(row["client_id"])
            if parsed is not None:
                number = max(number, parsed.number)
            if row["reason"] != ADOPTED:
                break
        return number

    def _record(
        self,
        operation: str,
        rows: list[Statement],
        given: tuple[Intent, ...],
        bar_open_ms: int,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        body: dict[str, Any] = {
            "bar_open_ms": bar_open_ms,
            "intents": [[i.kind, i.client_id] for i in given],
        }
        if facts is not None:
            body["facts"] = facts
        symbol = str(rows[0].values["symbol"]) if rows else given[0].symbol if given else None
        try:
            self._write(operation, rows, symbol=symbol, body=body, risky=any(map(adds_risk, given)))
        except sqlite3.IntegrityError as error:
            if "intents" not in str(error):
                raise
            raise DuplicateIntentError(
                f"journal: {symbol} has its entry for the bar of {bar_open_ms}; the next bar"
                " decides again."
            ) from None
        self._intent_id += sum(row.table == "intents" for row in rows)


def _already_decided(symbol: str, bar_open_ms: int) -> AlreadyDecidedError:
    return AlreadyDecidedError(
        f"journal: {symbol} has a decision for the bar of {bar_open_ms}; a bar is decided once."
    )
