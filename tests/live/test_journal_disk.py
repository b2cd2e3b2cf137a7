"""The file of the journal: one writer, synced commits, and what happens when the disk is full."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from live.journal import (
    AlreadyDecidedError,
    Journal,
    JournalDamagedError,
    JournalError,
    JournalLockedError,
    ids,
    opening,
    schema,
)
from live.journal.reading import JournalReader
from live.orders import IntentState
from live.types import (
    Certainty,
    Definitive,
    Side,
)
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
    program,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "account.db"


# Files and locks ----------------------------------------------------------------------------------


def test_the_file_is_written_ahead_synced_and_private(path: Path):
    with_file = opened(path)
    disk = with_file._storage.disk
    assert disk is not None
    found = {
        name: disk.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    for file in (path, opening.lock_path(path), Path(f"{path}-wal")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert with_file.meta("schema_version") == "1"
    assert with_file.meta("account_id") == "42"
    assert with_file.meta("tag") == ids.account_tag("42")
    with_file.close()
    with_file.close()


def test_the_tables_have_the_promised_columns():
    promised = {
        "meta": "key value",
        "runs": "run_id started_ms ended_ms exit_code mode venue symbols config_sha256"
        " bundle_sha256 version boot_id",
        "events": "seq run_id wall_ms venue_ms kind symbol body",
        "decisions": "symbol bar_open_ms run_id action level decision refusal observation_sha256"
        " observation policy_ms fallback",
        "intents": "intent_id client_id venue_hash symbol bar_open_ms role leg side quantity"
        " reduce_only price trigger_price parent_id state code reason venue_order_id created_ms"
        " sent_ms resolved_ms",
        "fills": "symbol trade_id client_id venue_order_id side quantity price fee fee_asset kind"
        " venue_ms source",
        "adjustments": "id symbol kind quantity cash evidence venue_ms acknowledged_by",
        "protection": "symbol client_id stop_price target_price quantity confirmed_ms where_held",
        "equity": "venue_ms equity available quantity mark peak day_start",
        "latches": "id state reason detail set_ms cleared_ms cleared_by cleared_reason",
        "watermarks": "symbol feed venue_ms last_id",
    }
    assert promised.keys() == schema.COLUMNS.keys()
    for table, columns in promised.items():
        assert set(columns.split()) <= set(schema.COLUMNS[table]), table


def test_a_second_journal_of_the_account_is_refused(path: Path):
    first = opened(path)
    with pytest.raises(JournalLockedError, match=f"process \\({os.getpid()}\\)"):
        opened(path)
    first.close()
    opened(path).close()


def test_a_second_process_is_refused_until_the_first_is_gone(path: Path):
    process = program("hold", path)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(JournalLockedError, match=f"process \\({process.pid}\\); one daemon"):
        opened(path)
    process.kill()
    process.communicate()
    journal = opened(path)
    assert [event.kind for event in journal.history()] == ["create", "note"]
    journal.close()


def test_a_journal_of_somebody_else_is_refused(path: Path):
    opened(path).close()
    with pytest.raises(JournalError, match="belongs to account_id '42'; expected '43'"):
        opened(path, account_id="43")
    with pytest.raises(JournalError, match="belongs to strategy_id"):
        opened(path, strategy_id="other")
    opened(path).close()


def test_another_version_is_refused(path: Path):
    opened(path).close()
    with sqlite3.connect(path) as connection:
        schema.prepare(connection)
        connection.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(JournalError, match="schema version 2; expected 1") as caught:
        opened(path)
    assert not isinstance(caught.value, JournalDamagedError)


def test_little_room_is_refused_or_told(path: Path, monkeypatch: pytest.MonkeyPatch):
    free = 200 * 2**20
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, free))
    with pytest.raises(JournalError, match=r"200 MiB are free .* expected at least 500"):
        opened(path, min_free_mib=500)
    journal = opened(path)
    assert "only 200 MiB are free" in journal.warnings[0]
    assert journal.free_bytes() == free
    journal.close()
    plenty = opened(path, warn_free_gib=0.1)
    assert plenty.warnings == ()
    plenty.close()


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot use"):
        opened(tmp_path / "file" / "account.db")


def test_a_reader_sees_the_journal_while_it_is_written(path: Path):
    journal = opened(path)
    (sent,) = decide(journal)
    reader = JournalReader.view(path)
    assert reader.unresolved()[0].client_id == sent.client_id
    journal.event("later")
    assert [event.kind for event in reader.history()] == ["create", "decide", "later"]
    with pytest.raises(JournalError, match="opened for reading"):
        reader._storage.write("event", [], risky=False)
    reader.close()
    journal.close()
    with pytest.raises(JournalError, match="holds no journal"):
        JournalReader.view(path.with_name("none.db"))


# Room and speed -----------------------------------------------------------------------------------


def fill_the_disk(journal: Journal) -> None:
    """No further page for this file."""
    disk = journal._storage.disk
    assert disk is not None
    (pages,) = disk.execute("PRAGMA page_count").fetchone()
    disk.execute(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_refuses_entries_and_lets_exits_pass(
    path: Path, capsys: pytest.CaptureFixture[str]
):
    journal = opened(path)
    (held,) = decide(journal)
    journal.book(SYMBOL, fill("t1", "0.5", held.client_id), "rest")
    before = dump(path)
    fill_the_disk(journal)
    seq = journal.seq
    with pytest.raises(JournalError, match=r"nothing may be sent that adds risk .*full"):
        decide(journal, BAR + HOUR, entry(), observation=b"x" * 100_000)
    assert journal.health.failure is not None
    assert journal.intents(SYMBOL, BAR + HOUR) == [] and journal.seq == seq

    decide(journal, BAR + HOUR, leaving(), decision="close")
    with pytest.raises(AlreadyDecidedError):
        decide(journal, BAR + HOUR, leaving())
    with pytest.raises(AlreadyDecidedError):
        decide(journal, BAR, leaving())
    with pytest.raises(JournalError):
        journal.add_intents(SYMBOL, BAR + HOUR, [entry()])
    (stop,) = journal.add_intents(SYMBOL, BAR, [STOP])
    journal.sent(stop.client_id)
    journal.resolve(stop.client_id, Definitive(Certainty.ACCEPTED))
    assert journal.book(SYMBOL, fill("t2", "0.5", stop.client_id, side=Side.SELL), "rest")
    assert not journal.book(SYMBOL, fill("t1", "0.5", held.client_id), "rest")
    assert journal.position(SYMBOL) == 0
    assert journal.intent(stop.client_id).state is IntentState.FILLED
    journal.latch("REDUCING", "journal")
    assert journal.history(kind="latch")
    journal.close()

    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["unwritten"] for line in told} >= {"decide", "add_intents", "book", "latch"}
    assert any(line.get("client_id") == stop.client_id for line in told)
    assert dump(path) == before, "the file holds what was recorded before, whole"
    again = opened(path)
    assert again.health.failure is None and again.position(SYMBOL) == Decimal("0.5")
    again.close()


def test_an_entry_whose_mark_is_not_durable_is_not_sent(path: Path):
    journal = opened(path)
    (intent,) = decide(journal)
    disk = journal._storage.disk
    assert disk is not None
    disk.execute("PRAGMA query_only=ON")  # the disk turns read-only between the two commits
    with pytest.raises(JournalError, match="sent is not on the disk"):
        journal.sent(intent.client_id)
    assert journal.intent(intent.client_id).sent_ms is None
    journal.close()
    again = opened(path)
    assert again.unresolved()[0].sent_ms is None
    again.close()


def test_exits_fall_back_to_memory_at_the_very_commit_that_fails(
    path: Path, capsys: pytest.CaptureFixture[str]
):
    journal = opened(path)
    fill_the_disk(journal)
    for number in itertools.count():
        (intent,) = journal.add_intents(SYMBOL, number, [leaving()])
        journal.sent(intent.client_id)
        if journal.health.failure:
            break
    assert journal.intent(intent.client_id).sent_ms is not None
    journal.close()
    assert capsys.readouterr().err


def test_memory_holds_what_is_at_hand_and_the_disk_the_rest(path: Path):
    journal = opened(path)
    decide(journal)
    journal.record_equity(BAR, Decimal(1), Decimal(1))
    for table in ("events", "equity"):
        assert journal._storage.rows(f"SELECT * FROM {table}") == []
        assert journal._storage.archive(f"SELECT * FROM {table}")
    (kept,) = journal._storage.rows("SELECT observation FROM decisions")
    assert kept["observation"] is None and journal.decisions(SYMBOL)[0].observation
    journal.close()


def test_memory_keeps_the_newest_decision_of_each_symbol(path: Path):
    journal = opened(path)
    for bar in range(5):
        decide(journal, bar)
    (row,) = journal._storage.rows("SELECT bar_open_ms FROM decisions")
    assert row["bar_open_ms"] == 4 == journal.last_bar(SYMBOL)
    for bar in range(5):
        with pytest.raises(AlreadyDecidedError):
            decide(journal, bar, leaving())
    assert len(journal.unresolved()) == 5 and journal.health.failure is None
    kept = [row.bar_open_ms for row in journal.decisions(SYMBOL, limit=2)]
    assert kept == [3, 4], "the newest, oldest first"
    journal.close()


def test_what_every_bar_asks_searches_and_never_scans(path: Path):
    journal = opened(path)
    (intent,) = decide(journal)
    asked: list[str] = []
    mirror = journal._storage.mirror
    mirror.set_trace_callback(asked.append)
    decide(journal, BAR + HOUR, STOP)
    journal.sent(intent.client_id)
    journal.resolve(intent.client_id, Definitive(Certainty.ACCEPTED, "v1"))
    journal.book(SYMBOL, fill("t1", "0.5", intent.client_id), "rest")
    journal.set_protection(SYMBOL, None)
    journal.set_watermark(SYMBOL, "fills", 1)
    journal.add_intents(SYMBOL, BAR, [leaving()])
    for read in (journal.unresolved, journal.working, journal.position, journal.last_bar):
        read(SYMBOL)
    journal.tracked(intent.client_id)
    journal.entries_sent(BAR)
    mirror.set_trace_callback(None)
    plans = [
        row["detail"]
        for text in asked
        if text.split()[0] in ("SELECT", "UPDATE", "INSERT", "DELETE")
        for row in mirror.execute(f"EXPLAIN QUERY PLAN {text}")
    ]
    assert any("intents" in plan for plan in plans) and any("fills" in plan for plan in plans)
    assert not [plan for plan in plans if plan.startswith("SCAN")]
    journal.close()


def test_the_log_ahead_of_the_file_stays_small(path: Path):
    journal = opened(path)
    observation, bars = os.urandom(1500), range(4000)

    def hundred(first: int) -> None:
        for bar in bars[first : first + 100]:
            decide(journal, bar, intents=(), observation=observation)

    async def all_of_them() -> None:
        for first in bars[::100]:
            await journal.grouped(hundred, first)

    asyncio.run(all_of_them())
    log = Path(f"{path}-wal").stat().st_size
    journal.close()
    assert log < 6 * 2**20 < path.stat().st_size
    assert path.stat().st_size / len(bars) < 2 * len(observation)


def test_a_real_limit_of_the_file_system_refuses_entries(path: Path):
    process = program("limit", path)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert output.startswith("refused: journal: decide is not on the disk")
    assert "unwritten" in errors
    journal = opened(path)
    assert len(journal.unresolved()) == int(output.split()[-1])
    journal.close()


def test_slow_commits_are_counted(path: Path):
    times = iter(itertools.accumulate([0, 0.1] * 1 + [0, 0.3] * 3 + [0, 0.2] + [0, 0.3]))
    journal = opened(path, monotonic=lambda: next(times))
    counts = []
    for _ in range(6):
        journal.event("note")
        counts.append((journal.health.slow, journal.health.slow_in_a_row))
    assert counts == [(0, 0), (1, 1), (2, 2), (3, 3), (3, 0), (4, 1)]
    assert journal.health.commits == 6
    assert journal.health.worst_ms == pytest.approx(300)
    journal.close()


def test_the_latency_of_a_commit_is_measured(
    path: Path, record_property: Callable[[str, object], None]
):
    journal = opened(path)
    milliseconds = []
    for bar in range(100):
        decide(journal, bar, observation=bytes(2000))
        milliseconds.append(journal.health.last_ms)
    assert journal.health.commits == 100
    assert max(milliseconds) == journal.health.worst_ms > 0
    journal.close()
    milliseconds.sort()
    record_property("commit_median_ms", round(milliseconds[50], 3))
    record_property("commit_worst_ms", round(milliseconds[-1], 3))
