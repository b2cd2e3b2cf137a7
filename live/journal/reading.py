"""What a journal knows: positions, open questions, protection, latches, history."""

from __future__ import annotations

import decimal
from decimal import Decimal
from operator import itemgetter
from pathlib import Path

from live.journal.failures import UnknownIntentError
from live.journal.health import Health
from live.journal.opening import view_storage
from live.journal.rows import (
    AdjustmentRow,
    DecisionRow,
    EquityMarks,
    EventRow,
    IntentRow,
    LatchRow,
    ProtectionRow,
    RunRow,
    Watermark,
    fill_of,
)
from live.journal.storage import Storage
from live.orders import IntentState, TrackedOrder
from live.types import ZERO, Fill, FillKind, IntentKind, Role

DAY_MS = 86_400_000
_EXACT = decimal.Context(prec=2500)  # a sum that is rounded would depend on its order
_ALL = 1 << 62


class JournalReader:
    """The reading half of a journal; `live.journal.Journal` adds the writing."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._positions: dict[str, Decimal] = {}
        for row in storage.past.every("fills"):
            self._add(row["symbol"], position_change(fill_of(row)))
        for adjustment in self.adjustments(acknowledged=True):
            self._add(adjustment.symbol, adjustment.quantity)
        self._marks = self._read_marks()

    @staticmethod
    def view(path: Path | str) -> JournalReader:
        """Open a file for reading only, also while a daemon writes it.

        What is at hand stays as it was when the file was opened.

        Raises:
          JournalError: missing, damaged or of another version.
        """
        return JournalReader(view_storage(Path(path)))

    def close(self) -> None:
        """Release the file and its lock; again is harmless."""
        self._storage.close()

    @property
    def path(self) -> Path | None:
        """The file, None = memory only."""
        return self._storage.path

    @property
    def health(self) -> Health:
        """How writing goes; a ``failure`` there means that entries are refused."""
        return self._storage.health

    @property
    def warnings(self) -> tuple[str, ...]:
        """What opening noticed without refusing."""
        return self._storage.warnings

    @property
    def seq(self) -> int:
        """Number of the newest event."""
        return self._storage.seq

    def free_bytes(self) -> int | None:
        """Free space where the journal lies; None without a disk or an answer."""
        return self._storage.free_bytes()

    # Positions and orders

    def position(self, symbol: str) -> Decimal:
        """Signed base units: every booked fill and acknowledged adjustment, each once."""
        return self._positions.get(symbol, ZERO)

    def symbols(self) -> tuple[str, ...]:
        """Symbols that the journal has a position, fills or adjustments of."""
        return tuple(sorted(self._positions))

    def intent(self, client_id: str) -> IntentRow:
        """One intent.

        Raises:
          UnknownIntentError: there is none with this id.
        """
        row = self._storage.past.one("intents", "client_id = ?", client_id)
        if row is None:
            raise UnknownIntentError(f"journal: no intent has the client id {client_id!r}.")
        return IntentRow.of(row)

    def knows(self, client_id: str, symbol: str) -> bool:
        """Whether an order of a symbol is one of the journal."""
        row = self._storage.past.one("intents", "client_id = ?", client_id)
        return row is not None and row["symbol"] == symbol

    def tracked(self, client_id: str) -> TrackedOrder:
        """The order of an intent with its booked fills.

        Raises:
          UnknownIntentError: there is none with this id.
        """
        row, filled, trade_ids = self.intent(client_id), ZERO, set()
        for fill in self._storage.past.found("fills", "client_id = ?", client_id):
            if fill["symbol"] == row.symbol and fill["kind"] != FillKind.FUNDING:
                filled = _EXACT.add(filled, Decimal(fill["quantity"]))
                trade_ids.add(fill["trade_id"])
        return row.tracked(filled, frozenset(trade_ids))

    def unresolved(self, symbol: str | None = None) -> list[IntentRow]:
        """Intents whose outcome is not known, oldest first: the venue has to be asked."""
        return self._intents(symbol, (IntentState.INTENT, IntentState.UNKNOWN))

    def working(self, symbol: str | None = None) -> list[IntentRow]:
        """Orders that the venue has accepted and not ended, as far as the journal knows."""
        rows = self._intents(symbol, (IntentState.ACKED, IntentState.PARTIAL))
        return [row for row in rows if row.kind is not IntentKind.AMEND]

    def entries_sent(self, since_ms: int) -> list[int]:
        """When orders that open or increase were sent since an instant, ascending."""
        sent = "role = ? AND sent_ms >= ?"
        rows = self._storage.past.found("intents", sent, Role.ENTRY, since_ms)
        return sorted(int(row["sent_ms"]) for row in rows)

    def short_of_fills(self, symbol: str, since_ms: int = 0) -> list[TrackedOrder]:
        """Orders created since an instant of which the venue reported more than was booked."""
        rows = self._storage.past.found(
            "intents", "symbol = ? AND created_ms >= ? AND reported != '0'", symbol, since_ms
        )
        rows.sort(key=itemgetter("intent_id"))
        orders = (self.tracked(row["client_id"]) for row in rows)
        return [order for order in orders if order.missing_fills > 0]

    def intents(self, symbol: str, bar_open_ms: int) -> list[IntentRow]:
        """Every intent of one bar, oldest first."""
        rows = self._storage.past.found(
            "intents", "symbol = ? AND bar_open_ms = ?", symbol, bar_open_ms
        )
        return [IntentRow.of(row) for row in sorted(rows, key=itemgetter("intent_id"))]

    def last_bar(self, symbol: str) -> int | None:
        """Opening time of the newest decided bar."""
        (row,) = self._storage.rows(
            "SELECT max(bar_open_ms) AS bar FROM decisions WHERE symbol = ?", symbol
        )
        return None if row["bar"] is None else int(row["bar"])

    def fills(self, symbol: str, since_ms: int = 0) -> list[Fill]:
        """Booked fills since an instant, by time of the venue."""
        rows = self._storage.past.found("fills", "symbol = ? AND venue_ms >= ?", symbol, since_ms)
        return [fill_of(row) for row in sorted(rows, key=itemgetter("venue_ms", "trade_id"))]

    def fill(self, symbol: str, trade_id: str) -> Fill | None:
        """The booked fill of a trade id."""
        row = self._storage.past.one("fills", "symbol = ? AND trade_id = ?", symbol, trade_id)
        return None if row is None else fill_of(row)

    def protection(self, symbol: str) -> ProtectionRow | None:
        """The legs known to guard the position."""
        rows = self._storage.rows("SELECT * FROM protection WHERE symbol = ?", symbol)
        return ProtectionRow.of(rows[0]) if rows else None

    # The rest

    def adjustments(self, *, acknowledged: bool | None = None) -> list[AdjustmentRow]:
        """Changes that no order explains; None = all of them."""
        where = {None: "", True: " WHERE acknowledged_by NOTNULL"}.get(
            acknowledged, " WHERE acknowledged_by IS NULL"
        )
        rows = self._storage.rows(f"SELECT * FROM adjustments{where} ORDER BY id")  # noqa: S608
        return [AdjustmentRow.of(row) for row in rows]

    def latches(self) -> list[LatchRow]:
        """The latches that nobody has cleared, oldest first."""
        rows = self._storage.rows("SELECT * FROM latches WHERE cleared_ms IS NULL ORDER BY id")
        return [LatchRow.of(row) for row in rows]

    def watermark(self, symbol: str, feed: str) -> Watermark | None:
        """How far a feed was read."""
        rows = self._storage.rows(
            "SELECT * FROM watermarks WHERE symbol = ? AND feed = ?", symbol, feed
        )
        return Watermark.of(rows[0]) if rows else None

    def marks(self) -> EquityMarks | None:
        """What losses are measured from; None before the first reading of equity."""
        return self._marks

    def baseline(self) -> Decimal | None:
        """Equity when trading was armed, quote units."""
        return None if self._marks is None else self._marks.baseline

    def peak(self) -> Decimal | None:
        """Highest equity since, quote units."""
        return None if self._marks is None else self._marks.peak

    def day_start(self) -> Decimal | None:
        """First equity of the UTC day of the newest reading, quote units."""
        return None if self._marks is None else self._marks.day_start

    def meta(self, key: str) -> str | None:
        """One fact about the journal itself."""
        rows = self._storage.rows("SELECT value FROM meta WHERE key = ?", key)
        return rows[0]["value"] if rows else None

    def runs(self) -> list[RunRow]:
        """Lives of the daemon, oldest first."""
        return [RunRow.of(row) for row in self._storage.rows("SELECT * FROM runs ORDER BY run_id")]

    def decisions(self, symbol: str, since_ms: int = 0, *, limit: int = _ALL) -> list[DecisionRow]:
        """The newest ``limit`` decisions with their observations, oldest first; from the disk."""
        rows = self._storage.archive(
            "SELECT * FROM decisions WHERE symbol = ? AND bar_open_ms >= ?"
            " ORDER BY bar_open_ms DESC LIMIT ?",
            symbol,
            since_ms,
            limit,
        )
        return [DecisionRow.of(row) for row in reversed(rows)]

    def history(
        self,
        *,
        kind: str | None = None,
        symbol: str | None = None,
        after_seq: int = 0,
        limit: int = _ALL,
    ) -> list[EventRow]:
        """The newest ``limit`` events of a kind or symbol, oldest of them first; from the disk."""
        rows = self._storage.archive(
            "SELECT * FROM events WHERE seq > ? AND (? IS NULL OR kind = ?)"
            " AND (? IS NULL OR symbol = ?) ORDER BY seq DESC LIMIT ?",
            after_seq,
            kind,
            kind,
            symbol,
            symbol,
            limit,
        )
        return [EventRow.of(row) for row in reversed(rows)]

    def _intents(self, symbol: str | None, states: tuple[IntentState, ...]) -> list[IntentRow]:
        rows = self._storage.rows(
            f"SELECT * FROM intents WHERE state IN ({', '.join('?' * len(states))})"  # noqa: S608
            " AND (? IS NULL OR symbol = ?) ORDER BY intent_id",
            *states,
            symbol,
            symbol,
        )
        return [IntentRow.of(row) for row in rows]

    def _read_marks(self) -> EquityMarks | None:
        rows = self._storage.archive("SELECT * FROM equity ORDER BY venue_ms DESC LIMIT 1")
        baseline = self.meta("baseline")
        if not rows or baseline is None:
            return None
        return EquityMarks(
            Decimal(baseline),
            Decimal(rows[0]["peak"]),
            Decimal(rows[0]["day_start"]),
            rows[0]["venue_ms"],
        )

    def _add(self, symbol: str, signed: Decimal) -> None:
        self._positions[symbol] = _EXACT.add(self.position(symbol), signed)


def position_change(fill: Fill) -> Decimal:
    """What a fill does to the position, signed base units; funding is cash alone."""
    return ZERO if fill.kind is FillKind.FUNDING else fill.signed
