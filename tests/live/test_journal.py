"""The journal: one decision per bar, one id per order, each fill once, latches that stay."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.journal import (
    AlreadyDecidedError,
    AlreadySentError,
    DuplicateIntentError,
    Journal,
    UnknownIntentError,
    ids,
)
from live.journal.reading import JournalReader
from live.orders import TRANSITIONS, IntentState
from live.types import (
    Ambiguous,
    Bracket,
    Category,
    Certainty,
    Definitive,
    Fill,
    FillKind,
    IntentKind,
    OrderReport,
    OrderStatus,
    Role,
    Side,
)
from tests.live.journaling import (
    BAR,
    HOUR,
    STOP,
    SYMBOL,
    Ticks,
    decide,
    entry,
    fill,
    leaving,
    opened,
    report,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "account.db"


@pytest.fixture
def memory() -> Iterator[Journal]:
    journal = opened(None)
    yield journal
    journal.close()


# Decisions and intents ----------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "file"])
def test_a_bar_is_decided_once(path: Path, in_memory: bool):
    journal = opened(None if in_memory else path)
    decide(journal)
    before = (journal.seq, journal.unresolved())
    with pytest.raises(AlreadyDecidedError, match="a bar is decided once"):
        decide(journal, BAR, leaving())
    assert (journal.seq, journal.unresolved()) == before
    decide(journal, BAR + HOUR, leaving())
    journal.close()
    if not in_memory:
        again = opened(path)
        for bar in (BAR, BAR + HOUR):
            with pytest.raises(AlreadyDecidedError):
                decide(again, bar)
        assert again.last_bar(SYMBOL) == BAR + HOUR
        again.close()


def test_a_bar_has_one_entry_and_as_many_exits_as_it_needs(memory: Journal):
    (close,) = decide(memory, BAR, leaving())
    memory.add_intents(SYMBOL, BAR, [entry()])  # the second phase of a flip
    with pytest.raises(DuplicateIntentError, match="the next bar decides again"):
        memory.add_intents(SYMBOL, BAR, [entry()])
    memory.add_intents(SYMBOL, BAR, [leaving(), leaving(), STOP])
    memory.add_intents(SYMBOL, BAR, [leaving(), STOP])
    legs = [(row.role, row.leg) for row in memory.intents(SYMBOL, BAR)]
    exits, stops = [(Role.REDUCE, leg) for leg in range(4)], [(Role.STOP, 0), (Role.STOP, 1)]
    assert sorted(legs) == sorted([*exits, *stops, (Role.ENTRY, 0)])
    assert memory.intent(close.client_id).leg == 0


def test_intents_come_back_as_they_went_in(path: Path):
    journal = opened(path)
    planned = (
        entry(price=Decimal("100.10")),
        STOP,
        leaving(Role.TARGET, kind=IntentKind.TARGET, trigger_price=Decimal("110")),
    )
    given = decide(journal, BAR, *planned)
    journal.close()
    again = opened(path)
    assert [row.intent() for row in again.intents(SYMBOL, BAR)] == list(given)
    for before, after in zip(planned, given, strict=True):
        parent = given[0].client_id if before.role.protective else None
        assert after == replace(before, client_id=after.client_id, parent=parent)
        assert ids.is_ours(after.client_id, again.tag(SYMBOL))
        assert ids.role_of(after.client_id) is before.role
    (decision,) = again.decisions(SYMBOL)
    assert (decision.action, decision.level, decision.fallback) == ("2", 1.0, False)
    assert decision.observation == b"\x00\x01\xff" * 40
    again.close()


def test_what_no_row_can_stand_for_is_refused(memory: Journal):
    for wrong in (
        entry("NaN"),
        entry("0"),
        entry("-1"),
        entry("Infinity"),
        entry(symbol="ETHUSDT"),
        entry(client_id="mine"),
        leaving(kind=IntentKind.CANCEL),
        entry(price=Decimal("NaN")),
    ):
        with pytest.raises(ValueError, match="journal: "):
            decide(memory, BAR, wrong)
    with pytest.raises(ValueError, match="finite"):
        memory.record_equity(BAR, Decimal("NaN"), Decimal(1))
    with pytest.raises(ValueError, match="finite"):
        memory.book(SYMBOL, fill("t", "NaN"), "rest")
    assert memory.seq == 1 and memory.marks() is None and not memory.fills(SYMBOL)


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "file"])
def test_a_value_that_cannot_be_stored_leaves_the_journal_usable(path: Path, in_memory: bool):
    journal = opened(None if in_memory else path)
    with pytest.raises(OverflowError):
        decide(journal, 1 << 70)
    assert journal.health.failure is None and journal.unresolved() == []
    (intent,) = decide(journal)
    row = journal.resolve(intent.client_id, Ambiguous("half a character: \ud800"))
    assert row.detail == "half a character: ?"
    journal.close()


def test_a_cancel_keeps_the_id_of_its_order_and_an_amendment_gets_one(memory: Journal):
    (opened_,) = decide(memory)
    cancel = leaving(kind=IntentKind.CANCEL, client_id=opened_.client_id, quantity=Decimal(0))
    amend = leaving(
        Role.STOP, kind=IntentKind.AMEND, quantity=Decimal(0), bracket=Bracket(Decimal("96"), None)
    )
    kept, amended = memory.add_intents(SYMBOL, BAR, [cancel, amend])
    assert kept == cancel
    assert memory.intent(amended.client_id).intent() == amended
    memory.resolve(amended.client_id, Definitive(Certainty.ACCEPTED))
    memory.resolve(opened_.client_id, Definitive(Certainty.ACCEPTED))
    assert [row.client_id for row in memory.working()] == [opened_.client_id]
    assert memory.history()[-3].body["intents"][0] == ["cancel", opened_.client_id]


def test_actions_are_kept_as_they_came(memory: Journal):
    for bar, action in enumerate((None, 3, 0.1, float("nan"), float("inf"))):
        decide(memory, bar, action=action, intents=())
    kept = [row.action for row in memory.decisions(SYMBOL)]
    assert kept == [None, "3", "0.1", "nan", "inf"]


def test_ids_grow_over_restarts_and_when_the_clock_steps_back(path: Path):
    given: list[str] = []
    for number, start in enumerate((BAR, BAR - 10**9, BAR - 2 * 10**9)):
        journal = opened(path, now_ms=Ticks(start))
        given += [intent.client_id for intent in decide(journal, number, entry(), STOP)]
        journal.close()
    assert [text[6:-1] for text in given] == sorted({text[6:-1] for text in given})


def test_an_intent_is_sent_once(memory: Journal):
    first, second = decide(memory, BAR, entry(), STOP)
    memory.sent(first.client_id, venue_hash="0xabc")
    assert memory.intent(first.client_id).venue_hash == "0xabc"
    with pytest.raises(AlreadySentError, match="never repeat"):
        memory.sent(first.client_id)
    memory.resolve(second.client_id, Definitive(Certainty.NOT_SENT))
    with pytest.raises(AlreadySentError):
        memory.sent(second.client_id)
    with pytest.raises(UnknownIntentError, match="no intent has the client id 'jtx'"):
        memory.sent("jtx")


# States and fills ---------------------------------------------------------------------------------


@pytest.mark.parametrize("before", list(IntentState))
@pytest.mark.parametrize("after", list(IntentState))
def test_states_move_by_the_table_alone(before: IntentState, after: IntentState, memory: Journal):
    (intent,) = decide(memory)
    if before is not IntentState.INTENT:
        memory.resolve(intent.client_id, before)
    assert memory.intent(intent.client_id).state is before
    seq = memory.seq
    row = memory.resolve(intent.client_id, after)
    moves = after in TRANSITIONS[before]
    assert row.state is (after if moves else before)
    assert memory.seq == seq + moves
    waits = row.state in (IntentState.INTENT, IntentState.UNKNOWN)
    assert [found.client_id for found in memory.unresolved(SYMBOL)] == [row.client_id] * waits
    assert memory.unresolved("ETHUSDT") == []


def test_outcomes_become_states(memory: Journal):
    expected = [
        (Definitive(Certainty.ACCEPTED, "v9"), IntentState.ACKED, "v9", None, ""),
        (
            Definitive(Certainty.REJECTED, None, "110007", Category.MARGIN, "too little"),
            IntentState.REJECTED,
            None,
            "110007",
            "margin: too little",
        ),
        (Definitive(Certainty.NOT_SENT), IntentState.NOT_SENT, None, None, ""),
        (Ambiguous("timeout"), IntentState.UNKNOWN, None, None, "timeout"),
    ]
    for bar, (outcome, state, order_id, code, detail) in enumerate(expected):
        (intent,) = decide(memory, bar)
        row = memory.resolve(intent.client_id, outcome)
        assert (row.state, row.venue_order_id, row.code, row.detail) == (
            state,
            order_id,
            code,
            detail,
        )
        assert (row.resolved_ms is None) is (state is IntentState.UNKNOWN)


def test_a_late_fill_books_and_the_end_stays(memory: Journal):
    (intent,) = decide(memory)
    memory.resolve(intent.client_id, IntentState.CANCELLED)
    assert memory.book(SYMBOL, fill("t1", "0.5", intent.client_id), "rest")
    assert memory.position(SYMBOL) == Decimal("0.5")
    assert memory.intent(intent.client_id).state is IntentState.CANCELLED


def test_a_status_without_its_fills_asks_for_them(memory: Journal):
    (intent,) = decide(memory)
    memory.resolve(intent.client_id, report(intent.client_id, OrderStatus.CANCELLED, "0.3"))
    assert memory.position(SYMBOL) == 0
    memory.book(SYMBOL, fill("t1", "0.1", intent.client_id), "rest")
    (short,) = memory.short_of_fills(SYMBOL)
    assert short.missing_fills == Decimal("0.2")
    memory.book(SYMBOL, fill("t2", "0.2", intent.client_id), "rest")
    assert memory.short_of_fills(SYMBOL) == []


def test_funding_is_cash_and_a_foreign_fill_is_position(memory: Journal):
    memory.book(SYMBOL, fill("f1", "3", kind=FillKind.FUNDING, fee=Decimal("-0.2")), "rest")
    assert memory.position(SYMBOL) == 0
    memory.book(SYMBOL, fill("l1", "1.5", side=Side.SELL, kind=FillKind.LIQUIDATION), "rest")
    assert memory.position(SYMBOL) == Decimal("-1.5")
    assert [found.trade_id for found in memory.fills(SYMBOL)] == ["f1", "l1"]


def test_one_trade_with_two_contents_is_told_and_not_booked(memory: Journal):
    assert memory.book(SYMBOL, fill("t1", "1"), "stream")
    assert not memory.book(SYMBOL, fill("t1", "1.0"), "rest")
    assert memory.history(kind="fill_conflict") == []
    assert not memory.book(SYMBOL, fill("t1", "2"), "rest")
    assert memory.position(SYMBOL) == 1
    (conflict,) = memory.history(kind="fill_conflict")
    assert conflict.body["got"] == ["buy", "2"]
    assert memory.book("ETHUSDT", fill("t1", "2"), "rest"), "a trade id is unique per symbol"


EXACT = st.decimals("0.00000001", "100000000", allow_nan=False, places=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(EXACT, min_size=1, max_size=5), st.booleans(), st.data())
def test_any_order_and_repetition_of_events_gives_one_state(
    parts: list[Decimal], cut: bool, data: st.DataObject
):
    journal = opened(None)
    total = sum(parts)
    (intent,) = decide(journal, BAR, entry(str(total + cut)))
    name = intent.client_id
    events: list[Fill | OrderReport] = [
        fill(f"t{number}", str(part), name) for number, part in enumerate(parts)
    ]
    end = OrderStatus.CANCELLED if cut else OrderStatus.FILLED
    events.append(fill("manual", str(parts[0]), "web", side=Side.SELL))
    for status, filled in (
        (OrderStatus.OPEN, Decimal(0)),
        (OrderStatus.PARTIALLY_FILLED, parts[0]),
    ):
        events.append(report(name, status, str(filled)))
    events.append(report(name, end, str(total)))
    repeated = events + data.draw(st.lists(st.sampled_from(events), max_size=6))
    new = 0
    for event in data.draw(st.permutations(repeated)):
        if isinstance(event, Fill):
            new += journal.book(SYMBOL, event, "rest")
        else:
            journal.resolve(name, event)
    order = journal.tracked(name)
    assert new == len(parts) + 1
    assert journal.position(SYMBOL) == total - parts[0]
    assert order.filled == order.reported == total
    assert order.state is (IntentState.CANCELLED if cut else IntentState.FILLED)
    assert journal.short_of_fills(SYMBOL) == []
    journal.close()


def test_the_position_survives_a_restart(path: Path):
    journal = opened(path)
    journal.book(SYMBOL, fill("t1", "0.1"), "rest")
    journal.book(SYMBOL, fill("t2", "0.2"), "rest")
    journal.adjust(SYMBOL, "manual", Decimal("0.4"), Decimal(0), {})
    journal.adjust("ETHUSDT", "adopt", Decimal("-2"), Decimal(0), {}, acknowledged_by="policy")
    journal.close()
    again = opened(path)
    assert again.position(SYMBOL) == Decimal("0.3")
    assert again.acknowledge("operator", "ETHUSDT") == 0
    assert again.acknowledge("operator", SYMBOL) == 1
    again.close()
    last = opened(path)
    assert (last.position(SYMBOL), last.position("ETHUSDT")) == (Decimal("0.7"), Decimal("-2"))
    assert last.position("SOLUSDT") == 0
    assert last.symbols() == (SYMBOL, "ETHUSDT")
    last.close()


def test_an_order_with_our_tag_is_taken_up(memory: Journal):
    name = ids.client_id(memory.tag(SYMBOL), ids.next_number(BAR + 10**9, 5, 0), Role.STOP)
    row = memory.adopt(SYMBOL, BAR, report(name, OrderStatus.OPEN, reduce_only=True))
    assert (row.state, row.role, row.kind) == (IntentState.ACKED, Role.STOP, IntentKind.STOP)
    assert decide(memory)[0].client_id[6:-1] > name[6:-1]
    for foreign in ("web-1", ids.client_id(memory.tag("ETHUSDT"), 1, Role.STOP)):
        with pytest.raises(ValueError, match="not an id of ours"):
            memory.adopt(SYMBOL, BAR, report(foreign, OrderStatus.OPEN))


# The rest -----------------------------------------------------------------------------------------


def test_latches_stay_until_a_person_clears_them(path: Path):
    journal = opened(path)
    first = journal.latch("HALTED", "drawdown", "0.06")
    assert journal.latch("HALTED", "drawdown", "0.07") == first
    journal.latch("REDUCING", "foreign")
    journal.close()
    again = opened(path)
    assert [row.reason for row in again.latches()] == ["drawdown", "foreign"]
    assert again.clear_latches("me", "understood") == 2
    assert again.latches() == [] and again.clear_latches("me", "again") == 0
    assert again.latch("HALTED", "drawdown").id == 3
    again.close()


def test_losses_are_measured_from_the_first_the_highest_and_the_midnight_equity(path: Path):
    journal, midnight = opened(path), 1_750_032_000_000
    assert journal.baseline() is None
    for venue_ms, equity in (
        (midnight - 2, "100"),
        (midnight - 1, "120"),
        (midnight, "110"),
        (midnight + 1, "90"),
        (midnight + 1, "500"),  # not newer
        (midnight - 5, "500"),
    ):
        journal.record_equity(venue_ms, Decimal(equity), Decimal(1))
    assert (journal.baseline(), journal.peak(), journal.day_start()) == (
        Decimal(100),
        Decimal(120),
        Decimal(110),
    )
    journal.close()
    again = opened(path)
    assert (again.baseline(), again.peak(), again.day_start()) == (
        Decimal(100),
        Decimal(120),
        Decimal(110),
    )
    again.reset_baseline(midnight + 1, Decimal(90), Decimal(1))
    again.close()
    last = opened(path)
    assert (last.baseline(), last.peak(), last.day_start()) == (
        Decimal(90),
        Decimal(90),
        Decimal(90),
    )
    last.close()


def test_protection_and_watermarks_survive_a_restart(path: Path):
    journal = opened(path)
    journal.set_protection(SYMBOL, Bracket(Decimal("95.50"), None), Decimal("0.5"), client_id="a")
    journal.set_protection(
        "ETHUSDT", Bracket(Decimal(1), Decimal(2)), Decimal(1), where_held="local"
    )
    journal.set_protection("ETHUSDT", None)
    journal.set_watermark(SYMBOL, "fills", 10, "a")
    journal.set_watermark(SYMBOL, "fills", 5, "b")
    seq = journal.seq
    journal.set_watermark(SYMBOL, "fills", 10, "a")
    assert journal.seq == seq
    journal.close()
    again = opened(path)
    held = again.protection(SYMBOL)
    assert held is not None and held.bracket == Bracket(Decimal("95.50"), None)
    assert (held.quantity, held.client_id, held.where_held) == (Decimal("0.5"), "a", "venue")
    assert again.protection("ETHUSDT") is None
    mark = again.watermark(SYMBOL, "fills")
    assert mark is not None and (mark.venue_ms, mark.last_id) == (10, "a")
    again.close()


def test_a_run_that_was_cut_short_has_no_end(path: Path):
    for end in (None, 3):
        journal = opened(path)
        journal.start_run(mode="demo", venue="v", symbols=["A"], config_sha256="c", version="1")
        if end is not None:
            journal.end_run(end)
        journal.close()
    reader = JournalReader.view(path)
    assert [(run.run_id, run.exit_code, run.ended_ms is None) for run in reader.runs()] == [
        (1, None, True),
        (2, 3, False),
    ]
    assert [event.run_id for event in reader.history(kind="end_run")] == [2]
    reader.close()


def test_history_only_grows(path: Path):
    journal = opened(path)
    decide(journal)
    journal.book(SYMBOL, fill("t1", "1"), "rest")
    disk = journal._storage.disk
    assert disk is not None
    for table in ("events", "decisions", "fills"):
        with pytest.raises(sqlite3.IntegrityError, match=f"{table} only grow"):
            disk.execute(f"DELETE FROM {table}")
        with pytest.raises(sqlite3.IntegrityError, match=f"{table} only grow"):
            disk.execute(f"UPDATE {table} SET symbol = 'X'")
    journal.event(
        "odd", None, {"a": Decimal("1.50"), "b": float("inf"), "c": [Side.BUY, {1: None}]}
    )
    (odd,) = journal.history(kind="odd")
    assert odd.body == {"a": "1.50", "b": "inf", "c": ["buy", {"1": None}]}
    assert [event.kind for event in journal.history(symbol=SYMBOL, limit=1)] == ["book"]
    journal.close()
