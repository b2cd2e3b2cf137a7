"""What the journal lets go from memory: it stays small, and nothing is forgotten."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from live.journal import Journal, JournalDamagedError, JournalError, UnknownIntentError, storage
from live.journal.groups import Committed, roll_back
from live.journal.past import KEPT
from live.journal.reading import JournalReader
from live.orders import IntentState
from live.types import Bracket, Certainty, Definitive, Fill, IntentKind, OrderStatus, Role, Side
from tests.live.journaling import (
    BAR,
    HOUR,
    STOP,
    SYMBOL,
    decide,
    dump,
    entry,
    fill,
    leaving,
    opened,
    report,
)

ORDERS = KEPT + 100
UNIT = Decimal("0.5")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "account.db"


def trade(journal: Journal, orders: int = ORDERS, first: int = 0) -> list[str]:
    """Orders that fill at once, buys and sells in turn, fifty to a commit; their ids."""

    def one(number: int) -> str:
        bar, side = BAR + number * HOUR, (Side.BUY, Side.SELL)[number % 2]
        (intent,) = decide(journal, bar, entry(side=side))
        journal.sent(intent.client_id)
        journal.resolve(intent.client_id, Definitive(Certainty.ACCEPTED, f"v{number}"))
        journal.book(SYMBOL, filled(number, intent.client_id), "stream")
        return intent.client_id

    async def fifty(numbers: Sequence[int]) -> list[str]:
        return await asyncio.gather(*(journal.grouped(one, number) for number in numbers))

    numbers = range(first, first + orders)
    parts = [numbers[start : start + 50] for start in range(0, orders, 50)]
    return [client_id for part in parts for client_id in asyncio.run(fifty(part))]


def filled(number: int, client_id: str) -> Fill:
    side = (Side.BUY, Side.SELL)[number % 2]
    return fill(f"t{number}", "0.5", client_id, side=side, venue_time_ms=BAR + number * HOUR)


def held(journal: Journal, table: str) -> int:
    (row,) = journal._storage.rows(f"SELECT count(*) AS n FROM {table}")
    return int(row["n"])


def unreadable(journal: Journal) -> None:
    """No row of the disk can be read any more."""
    disk = journal._storage.past._disk
    assert disk is not None
    disk.close()


# Small --------------------------------------------------------------------------------------------


def test_memory_holds_the_newest_orders_and_no_more(path: Path):
    journal = opened(path)
    trade(journal)
    assert held(journal, "intents") == held(journal, "fills") == KEPT
    rows = dump(path)
    assert len(rows["intents"]) == len(rows["fills"]) == ORDERS
    journal.close()
    again = opened(path)
    assert held(again, "intents") == held(again, "fills") == KEPT
    trade(again, 10, ORDERS)
    assert held(again, "intents") == held(again, "fills") == KEPT
    again.close()


def test_memory_does_not_grow_with_amendments(path: Path):
    journal = opened(path)
    change = leaving(
        Role.STOP, kind=IntentKind.AMEND, quantity=Decimal(0), bracket=Bracket(Decimal(96), None)
    )

    def amend() -> None:
        (amended,) = journal.add_intents(SYMBOL, BAR, [change])
        journal.resolve(amended.client_id, Definitive(Certainty.ACCEPTED))

    async def all_of_them() -> None:
        for _ in range(ORDERS // 4):
            await asyncio.gather(*(journal.grouped(amend) for _ in range(4)))

    asyncio.run(all_of_them())
    assert held(journal, "intents") == KEPT and journal.working() == []
    legs = [row.leg for row in journal.intents(SYMBOL, BAR)]
    assert legs == list(range(ORDERS)), "a leg is counted on, also from those let go"
    journal.close()


@pytest.mark.parametrize("state", [state for state in IntentState if not state.terminal])
def test_what_may_still_change_stays_at_hand(path: Path, state: IntentState):
    journal = opened(path)
    (old,) = decide(journal, BAR - HOUR)
    if state is not IntentState.INTENT:
        journal.resolve(old.client_id, state)
    journal.book(SYMBOL, fill("old", "0.1", old.client_id), "rest")
    trade(journal)

    def check(journal: Journal) -> None:
        waiting = {row.client_id for row in (*journal.unresolved(), *journal.working())}
        assert waiting == {old.client_id}
        unreadable(journal)  # nothing else is needed for it
        assert journal.tracked(old.client_id).filled == Decimal("0.1")
        assert journal.health.failure is None or "Programming" in journal.health.failure

    journal.close()
    again = opened(path)
    check(again)
    again.close()


# Whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_very_late_duplicate_of_a_fill_is_dropped(path: Path, restarted: bool):
    journal = opened(path)
    given = trade(journal)
    if restarted:
        journal.close()
        journal = opened(path)
    position, seq = journal.position(SYMBOL), journal.seq
    for number in (0, 1, ORDERS - KEPT - 1, ORDERS - KEPT, ORDERS - 1):
        assert not journal.book(SYMBOL, filled(number, given[number]), "rest")
    assert (journal.position(SYMBOL), journal.seq) == (position, seq)
    assert not journal.book(SYMBOL, fill("t0", "9", given[0]), "rest")
    (conflict,) = journal.history(kind="fill_conflict")
    assert conflict.body["booked"] == ["buy", "0.5", "trade"]
    journal.close()


def test_an_old_order_is_found_with_its_fills(path: Path):
    journal = opened(path)
    given = trade(journal)
    for reader in (journal, JournalReader.view(path)):
        row = reader.intent(given[0])
        assert (row.state, row.bar_open_ms) == (IntentState.FILLED, BAR)
        assert reader.knows(given[0], SYMBOL) and not reader.knows(given[0], "ETHUSDT")
        assert reader.tracked(given[0]).trade_ids == {"t0"}
        assert reader.fill(SYMBOL, "t0") == filled(0, given[0])
        assert [one.client_id for one in reader.intents(SYMBOL, BAR)] == [given[0]]
        assert len(reader.fills(SYMBOL)) == len(reader.entries_sent(0)) == ORDERS
        times = [one.venue_time_ms for one in reader.fills(SYMBOL, BAR + 5 * HOUR)]
        assert times == sorted(times) and len(times) == ORDERS - 5
        with pytest.raises(UnknownIntentError):
            reader.intent("jtx")
        reader.close()


def test_a_late_fill_of_an_old_order_books_and_its_end_stays(path: Path):
    journal = opened(path)
    (old,) = decide(journal, BAR - HOUR)
    journal.resolve(old.client_id, report(old.client_id, OrderStatus.CANCELLED, "0.2"))
    trade(journal)
    assert old.client_id not in {
        row["client_id"] for row in journal._storage.rows("SELECT client_id FROM intents")
    }
    (short,) = journal.short_of_fills(SYMBOL)
    assert short.missing_fills == Decimal("0.2")
    for name in ("a", "b"):
        assert journal.book(SYMBOL, fill(name, "0.1", old.client_id), "rest")
    assert journal.tracked(old.client_id).filled == Decimal("0.2")
    assert journal.short_of_fills(SYMBOL) == []
    journal.resolve(old.client_id, report(old.client_id, OrderStatus.CANCELLED, "0.3"))
    expected = (IntentState.CANCELLED, Decimal("0.3"))
    row = journal.intent(old.client_id)
    assert (row.state, row.reported) == expected
    journal.close()
    again = opened(path)
    row = again.intent(old.client_id)
    assert (row.state, row.reported) == expected
    assert again.position(SYMBOL) == Decimal("0.2") + UNIT * (ORDERS % 2)
    again.close()


def test_what_is_known_of_an_old_order_outlives_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    journal = opened(path)
    (old,) = decide(journal, BAR - HOUR, leaving())
    journal.resolve(old.client_id, IntentState.CANCELLED)
    trade(journal)

    def full(disk: sqlite3.Connection, _: object) -> Committed:
        roll_back(disk)
        return Committed("OperationalError: disk is full")

    monkeypatch.setattr(storage, "commit", full)
    asyncio.run(
        journal.grouped(
            journal.resolve, old.client_id, report(old.client_id, OrderStatus.CANCELLED, "0.2")
        )
    )
    assert journal.health.failure is not None and capsys.readouterr().err
    assert journal.intent(old.client_id).reported == Decimal("0.2")
    assert journal.book(SYMBOL, fill("late", "0.2", old.client_id), "rest")
    assert journal.tracked(old.client_id).filled == Decimal("0.2")
    assert not journal.book(SYMBOL, fill("t0", "0.5"), "rest"), "it can still be read"
    journal.close()


def test_ids_grow_although_most_are_let_go(path: Path):
    journal = opened(path)
    given = trade(journal)
    high = f"{given[-1][:6]}v{given[-1][7:-1]}{Role.STOP.value}"
    journal.adopt(SYMBOL, BAR, report(high, OrderStatus.OPEN, side=Side.SELL, reduce_only=True))
    journal.close()
    again = opened(path)
    (after,) = decide(again, BAR - HOUR)
    assert after.client_id[6:-1] > high[6:-1] > given[-1][6:-1]
    again.close()
    last = opened(path)
    assert decide(last, BAR - 2 * HOUR)[0].client_id[6:-1] > after.client_id[6:-1]
    last.close()


# A disk that fails, rows that changed -------------------------------------------------------------


def test_without_a_disk_to_read_no_fill_is_booked_twice(path: Path):
    journal = opened(path)
    given = trade(journal)
    journal.close()
    journal = opened(path)
    position = journal.position(SYMBOL)
    unreadable(journal)
    assert not journal.book(SYMBOL, filled(0, given[0]), "rest")
    assert journal.health.failure is not None and journal.position(SYMBOL) == position
    assert journal.history(kind="fill_in_doubt")
    with pytest.raises(JournalError, match="is not on the disk"):
        decide(journal, BAR + ORDERS * HOUR)
    (exit_,) = journal.add_intents(SYMBOL, BAR, [leaving()])
    new = fill("new", "0.5", exit_.client_id, side=Side.SELL, venue_time_ms=BAR + ORDERS * HOUR)
    assert journal.book(SYMBOL, new, "stream") and not journal.book(SYMBOL, new, "rest")
    assert journal.position(SYMBOL) == position - UNIT
    assert journal.intent(exit_.client_id).state is IntentState.FILLED
    journal.close()


def test_a_row_that_changed_under_a_running_daemon_is_never_believed(path: Path):
    journal = opened(path)
    given = trade(journal)
    disk = journal._storage.disk
    assert disk is not None
    disk.execute(f"UPDATE intents SET crc = crc + 1 WHERE client_id = '{given[0]}'")
    with pytest.raises(UnknownIntentError):
        journal.intent(given[0])
    assert "checksum" in str(journal.health.failure)
    reader = JournalReader(journal._storage)
    journal._storage.past.health = None  # as of a journal that is only read
    with pytest.raises(JournalDamagedError, match="doctor"):
        reader.intent(given[0])
    journal.close()


def test_looking_up_what_was_let_go_searches_and_never_scans(path: Path):
    journal = opened(path)
    given = trade(journal)
    asked: list[str] = []
    disk = journal._storage.past._disk
    assert disk is not None
    disk.set_trace_callback(asked.append)
    journal.intent(given[0])
    journal.tracked(given[0])
    journal.knows("web-1", SYMBOL)
    journal.book(SYMBOL, filled(0, given[0]), "rest")
    journal.resolve(given[0], Definitive(Certainty.ACCEPTED))
    journal.book(SYMBOL, fill("late", "0.1", given[1]), "rest")
    journal.add_intents(SYMBOL, BAR, [STOP])
    journal.intents(SYMBOL, BAR)
    journal.entries_sent(BAR)
    journal.fills(SYMBOL, BAR + HOUR)
    journal.short_of_fills(SYMBOL, BAR)
    disk.set_trace_callback(None)
    plans = [row["detail"] for text in asked for row in disk.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert len(plans) > 10
    assert not [plan for plan in plans if plan.startswith("SCAN")], plans
    # Looked for at every turn: not even all orders of the symbol are passed.
    assert [plan for plan in plans if "intents_by_age (symbol=? AND created_ms>?)" in plan]
    journal.close()


def test_a_file_without_indices_gets_them(path: Path):
    journal = opened(path)
    trade(journal, 3)
    journal.close()
    before = dump(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP INDEX fills_of_order")
        connection.execute("DROP INDEX intents_by_state")
    connection.close()
    JournalReader.view(path).close()
    for _ in range(2):
        opened(path).close()
    with sqlite3.connect(path) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    assert {"fills_of_order", "intents_by_state", "fills_by_time", "intents_by_mark"} <= names
    assert dump(path) == before
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE INDEX foreign_one ON fills (price)")
    connection.close()
    with pytest.raises(JournalDamagedError, match="schema"):
        opened(path)
