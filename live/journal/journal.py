"""The journal: every wish before it is sent, every fill once, every latch until a person clears it.

Synchronous: a method returns when its one transaction is on the disk; `Journal.grouped` lets the
writes of many symbols share one. If the disk fails, entries are refused with `JournalError`;
cancels, exits, fills and outcomes go on in memory and are told on standard error, and
``health.failure`` says why.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from live import crash
from live.journal import ids
from live.journal.failures import (
    AlreadyDecidedError,
    AlreadySentError,
    DuplicateIntentError,
    JournalDamagedError,
    JournalError,
    JournalLockedError,
    UnknownIntentError,
)
from live.journal.intents import ADOPTED, IntentRecorder
from live.journal.opening import open_storage
from live.journal.reading import position_change
from live.journal.rows import IntentRow
from live.journal.schema import Value
from live.journal.statements import (
    adds_risk,
    fill_row,
    insert,
    intent_row,
    moved_columns,
    text_of,
    update,
)
from live.orders import IntentState, TrackedOrder, advance, move
from live.types import (
    Ambiguous,
    Definitive,
    Fill,
    Intent,
    IntentKind,
    OrderReport,
    Outcome,
    Role,
)

__all__ = [
    "AlreadyDecidedError",
    "AlreadySentError",
    "DuplicateIntentError",
    "Journal",
    "JournalDamagedError",
    "JournalError",
    "JournalLockedError",
    "UnknownIntentError",
]

P = ParamSpec("P")
T = TypeVar("T")

OPERATIONS = ("adopt", "sent", "resolve", "book")
for _operation in OPERATIONS:
    crash.register(f"journal.{_operation}", crash.WRITE_POINTS)


class Journal(IntentRecorder):
    """The journal of one account. Made by `open`; one per account at a time."""

    @classmethod
    def open(
        cls,
        path: Path | str | None,
        *,
        account_id: str,
        strategy_id: str,
        now_ms: Callable[[], int],
        commit_warn_ms: float = 250.0,
        min_free_mib: float = 100.0,
        warn_free_gib: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Journal:
        """Lock, check and open the file, or create it; None keeps everything in memory.

        Args:
          account_id: of the venue; two daemons of one account must name the same file.
          now_ms: clock, milliseconds UTC of the venue.
          commit_warn_ms: a slower commit is counted. monotonic: measures it, seconds.

        Raises:
          JournalError: locked, damaged, of another owner or version, or too little room.
        """
        storage = open_storage(
            None if path is None else Path(path),
            {
                "account_id": account_id,
                "strategy_id": strategy_id,
                "tag": ids.account_tag(account_id),
            },
            now_ms(),
            slow_ms=commit_warn_ms,
            min_free_mib=min_free_mib,
            warn_free_gib=warn_free_gib,
            monotonic=monotonic,
        )
        return cls(storage, account_id, strategy_id, now_ms)

    async def grouped(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call whose writes share one commit with those of others; durable on return.

        ``await journal.grouped(journal.decide, symbol, bar, ...)``, or any function that only
        writes here: everything that is written in one turn of the event loop, or while another
        commit is under way, becomes durable together, in a thread. What a call writes is at hand at
        once; nothing may leave before the await is over.

        Raises:
          JournalError: an entry of the call is not durable; it is not recorded. Of what the call
            wrote besides, the promise of the class holds.
          Exception: of the call; what it wrote before stays.
        """
        return await self._storage.grouped(functools.partial(call, *args, **kwargs))

    # One order

    def adopt(self, symbol: str, bar_open_ms: int, report: OrderReport) -> IntentRow:
        """Take up an order that carries our tag and that the journal has lost.

        Raises:
          ValueError: its id is not one of ours.
        """
        parsed = ids.parse(report.client_id)
        if parsed is None or parsed.tag != self.tag(symbol):
            raise ValueError(f"journal: {report.client_id!r} is not an id of ours for {symbol}.")
        if self.knows(report.client_id, symbol):
            return self.resolve(report.client_id, report)
        kinds = {Role.STOP: IntentKind.STOP, Role.TARGET: IntentKind.TARGET}
        intent = Intent(
            kind=kinds.get(parsed.role, IntentKind.MARKET),
            role=parsed.role,
            symbol=symbol,
            side=report.side,
            quantity=report.quantity,
            reduce_only=report.reduce_only,
            reason=ADOPTED,
            client_id=report.client_id,
            trigger_price=report.trigger_price,
        )
        order = TrackedOrder(
            client_id=intent.client_id,
            symbol=symbol,
            kind=intent.kind,
            role=intent.role,
            side=intent.side,
            quantity=intent.quantity,
            reduce_only=intent.reduce_only,
        )
        seen = advance(order, report)
        now, leg = self._now_ms(), self._free_leg(symbol, bar_open_ms, intent.role)
        new = intent_row(intent, bar_open_ms, leg, self._intent_id + 1, now, parsed.time_ms)
        values: dict[str, Value] = {
            **new.values,
            "state": seen.state,
            "venue_order_id": seen.venue_order_id,
            "reported": text_of(seen.reported),
            "resolved_ms": now,
        }
        body = {"client_id": report.client_id, "state": seen.state}
        self._write("adopt", [insert("intents", **values)], symbol=symbol, body=body)
        self._intent_id += 1
        self._number = max(self._number, parsed.number)
        return self.intent(report.client_id)

    def sent(self, client_id: str, *, venue_hash: str | None = None) -> None:
        """Record that an intent is about to leave; call it right before the one attempt.

        After a crash, an entry without this mark has certainly not left; an exit neither, unless
        the disk had failed before.

        Raises:
          AlreadySentError: it was sent, or its end is known. UnknownIntentError: it is not there.
          JournalError: the mark of an entry is not durable, do not send.
        """
        row = self.intent(client_id)
        if row.sent_ms is not None or row.state is not IntentState.INTENT:
            raise AlreadySentError(
                f"journal: {client_id} ({row.state}) was sent before; ask the venue, never repeat."
            )
        change = update(
            "intents",
            "client_id",
            client_id=client_id,
            sent_ms=self._now_ms(),
            venue_hash=venue_hash,
        )
        risky, body = adds_risk(row.intent()), {"client_id": client_id}
        self._write("sent", [change], symbol=row.symbol, body=body, risky=risky)

    def resolve(
        self, client_id: str, news: Outcome | OrderReport | IntentState, *, detail: str = ""
    ) -> IntentRow:
        """Record what is known of an intent; news that the state excludes changes nothing.

        Raises:
          UnknownIntentError: there is no such intent.
        """
        row, order = self.intent(client_id), self.tracked(client_id)
        moved = move(order, news) if isinstance(news, IntentState) else advance(order, news)
        changes = moved_columns(row, moved, self._now_ms())
        match news:
            case Definitive() if moved != order:
                words = (news.category and str(news.category), news.detail, detail)
                changes["detail"] = ": ".join(word for word in words if word)
            case Ambiguous() if moved != order:
                changes["detail"] = detail or news.reason
            case _ if detail and moved != order:
                changes["detail"] = detail
        if changes:
            change = update("intents", "client_id", client_id=client_id, **changes)
            body = {"client_id": client_id, "from": row.state, **changes}
            self._write("resolve", [change], symbol=row.symbol, body=body)
        return self.intent(client_id)

    # Positions

    def book(self, symbol: str, fill: Fill, source: str) -> bool:
        """Record a fill; False = it was there. The state of its order follows.

        One trade id with two contents is recorded as an event ``fill_conflict`` and not booked; one
        that may be on a disk that can no longer be read as ``fill_in_doubt``.
        """
        known = self.fill(symbol, fill.trade_id)
        if known is not None:
            seen = (known.side, known.quantity, known.kind)
            if seen != (fill.side, fill.quantity, fill.kind):
                body = {"trade_id": fill.trade_id, "booked": seen, "source": source}
                self.event("fill_conflict", symbol, {**body, "got": [fill.side, fill.quantity]})
            return False
        if self._storage.past.may_hold(fill.venue_time_ms):
            # Nobody can say whether it was booked; the comparison with the venue tells.
            self.event("fill_in_doubt", symbol, {"trade_id": fill.trade_id, "source": source})
            return False
        statements = [fill_row(symbol, fill, source)]
        if self.knows(fill.client_id, symbol):
            row, order = self.intent(fill.client_id), self.tracked(fill.client_id)
            changes = moved_columns(row, advance(order, fill), self._now_ms())
            if changes:
                statements.append(
                    update("intents", "client_id", client_id=row.client_id, **changes)
                )
        body = {"trade_id": fill.trade_id, "client_id": fill.client_id, "source": source}
        self._write("book", statements, symbol=symbol, venue_ms=fill.venue_time_ms, body=body)
        self._add(symbol, position_change(fill))
        return True
