"""The copy of a journal: continued at every start, and why old history is not read again."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from live.journal import Journal, JournalDamagedError, JournalError, copying, opening
from live.journal.checking import checked, copy_path
from live.journal.reading import JournalReader
from live.types import Bracket
from tests.live.journaling import BAR, HOUR, SYMBOL, decide, dump, entry, fill, opened, play

OLD = b"an old observation, seen and copied"
NEW = b"a new observation, not copied yet.."


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "account.db"


def lived(path: Path) -> Path:
    """A journal that was started twice, so that its copy has what the first life wrote."""
    journal = opened(path)
    for bar in range(6):
        decide(journal, bar, entry(), observation=OLD)
    journal.book(SYMBOL, fill("t1", "1.5"), "rest")
    journal.close()
    opened(path).close()
    return path


def damaged(path: Path, old: bytes) -> None:
    """Change the first of some bytes where a file has them last, in the oldest row of a page."""
    whole = path.read_bytes()
    place = whole.rindex(old)
    path.write_bytes(whole[:place] + b"X" + whole[place + 1 :])


def statements(path: Path) -> list[str]:
    """What a start asks of SQLite."""
    asked: list[str] = []
    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]  # as sqlite3.connect
            self.set_trace_callback(asked.append)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sqlite3, "connect", lambda *args, **options: connect(*args, factory=Watched, **options)
        )
        opened(path).close()
    return asked


# The copy -----------------------------------------------------------------------------------------


def test_the_copy_follows_every_table(path: Path):
    journal = opened(path)
    for _ in play(journal, lambda _: None):
        pass
    changes: tuple[Callable[[Journal], object], ...] = (
        lambda it: it.latch("HALTED", "drawdown"),
        lambda it: it.clear_latches("me", "why"),
        lambda it: it.record_equity(BAR + 5, Decimal(5), Decimal(4)),
        lambda it: it.reset_baseline(BAR + 6, Decimal(5), Decimal(4)),
        lambda it: it.start_run(mode="d", venue="v", symbols=[], config_sha256="", version=""),
        lambda it: decide(it, BAR + 9 * HOUR, entry()),
        lambda it: it.book(SYMBOL, fill("t9", "1"), "rest"),
    )
    for change in changes:
        change(journal)
        journal.close()
        journal = opened(path)
        assert dump(copy_path(path)) == dump(path)
    journal.set_protection(SYMBOL, Bracket(Decimal(1), None), Decimal(1))
    journal.set_protection(SYMBOL, None)
    journal.resolve(journal.working()[0].client_id, journal.working()[0].state)
    journal.close()
    opened(path).close()
    assert not list(path.parent.glob("*.bak.*")), "nothing is left beside it"
    assert dump(copy_path(path)) == dump(path)
    assert checked(copy_path(path), {}, 0), "its checksums and pages hold"


def test_a_start_continues_the_copy_and_reads_old_history_no_more(path: Path):
    lived(path)
    journal = opened(path)
    decide(journal, BAR, observation=NEW)
    journal.close()
    asked = statements(path)
    assert not [text for text in asked if text == "PRAGMA integrity_check(10)"]
    assert "PRAGMA integrity_check(fills)" in asked
    assert any(text.startswith("INSERT INTO main.decisions") for text in asked)
    assert dump(copy_path(path)) == dump(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP INDEX fills_by_time")  # as an earlier daemon left it
    connection.close()
    for _ in range(2):
        assert "PRAGMA integrity_check(10)" not in statements(path)
    copy_path(path).unlink()
    assert "PRAGMA integrity_check(10)" in statements(path), "without a copy all of it is read"


def test_a_copy_that_is_of_no_use_is_made_anew(path: Path):
    lived(path)
    other = lived(path.with_name("other.db"))
    journal = opened(other)
    journal.event("later")
    journal.close()
    opened(other).close()
    for useless in (b"", b"y" * 5000, copy_path(other).read_bytes()):
        copy_path(path).write_bytes(useless)
        assert copying.copied_rows(path) is None
        opened(path).close()
        assert dump(copy_path(path)) == dump(path)
    damaged(copy_path(path), b"create{}")
    opened(path).close()
    assert checked(path, {}, 0)


def test_a_copy_that_cannot_be_continued_stays_and_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    lived(path)
    before = dump(copy_path(path))
    journal = opened(path)
    decide(journal, BAR, observation=NEW)
    journal.close()
    monkeypatch.setattr(copying, "COLUMNS", {**copying.COLUMNS, "nothing": ("one",)})
    journal = opened(path)
    assert "could not be renewed" in journal.warnings[0]
    journal.close()
    assert dump(copy_path(path)) == before
    monkeypatch.undo()
    opened(path).close()
    assert dump(copy_path(path)) == dump(path)


def test_what_the_log_of_a_copy_holds_is_restored_too(path: Path):
    lived(path)
    copy = copy_path(path)
    connection = sqlite3.connect(copy, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    copying.schema.prepare(connection)
    connection.execute("UPDATE meta SET value = 'x' WHERE key = 'tag'")
    kept = {end: Path(f"{copy}{end}").read_bytes() for end in ("", "-wal")}
    connection.close()
    for end, content in kept.items():
        Path(f"{copy}{end}").write_bytes(content)
    path.write_bytes(b"x" * 5000)
    opening.restore(path)
    assert ("tag", "x") in dump(path)["meta"]


# Damage -------------------------------------------------------------------------------------------


def test_damage_in_new_history_is_refused(path: Path):
    lived(path)
    journal = opened(path)
    decide(journal, BAR, observation=NEW)
    journal.close()
    damaged(path, NEW)
    with pytest.raises(JournalDamagedError, match="1 rows of decisions do not match"):
        opened(path)


def test_damage_in_old_history_is_told_when_it_is_read(path: Path):
    lived(path)
    damaged(path, OLD)
    journal = opened(path)
    assert (journal.position(SYMBOL), journal.last_bar(SYMBOL)) == (Decimal("1.5"), 5)
    with pytest.raises(JournalDamagedError, match="doctor"):
        journal.decisions(SYMBOL)
    journal.close()
    with pytest.raises(JournalDamagedError, match="1 rows of decisions do not match"):
        JournalReader.view(path)
    assert {row[8] for row in dump(copy_path(path))["decisions"]} == {OLD}, "the copy is not spoilt"
    opening.restore(path)
    journal = opened(path)
    assert len(journal.decisions(SYMBOL)) == 6
    journal.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events) - 1",
        "UPDATE decisions SET run_id = 77 WHERE bar_open_ms = 1749999600000",
    ],
)
def test_new_history_that_does_not_fit_together_is_refused(path: Path, statement: str):
    lived(path)
    journal = opened(path)
    decide(journal, BAR, observation=NEW)
    journal.event("note")
    journal.close()
    with sqlite3.connect(path) as connection:
        copying.schema.prepare(connection)
        connection.execute("PRAGMA foreign_keys=OFF")
        triggers = list(
            connection.execute(
                "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%_no_%'"
            )
        )
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
        for _, text in triggers:
            connection.execute(text)
    connection.close()
    with pytest.raises(JournalDamagedError, match="missing"):
        opened(path)


def test_no_flipped_bit_is_silently_wrong_beside_a_copy(path: Path, tmp_path: Path):
    lived(path)
    journal = opened(path)
    for bar in (BAR, BAR + HOUR):
        decide(journal, bar, observation=NEW)
    expected = (journal.position(SYMBOL), journal.last_bar(SYMBOL), journal.unresolved())
    journal.close()
    rows, chance = dump(path), random.Random(5)
    refused = late = 0
    for _ in range(120):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(path.parent, folder)
        target = folder / path.name
        content = bytearray(target.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        target.write_bytes(content)
        try:
            journal = opened(target)
        except JournalError:
            refused += 1
            continue
        known = (journal.position(SYMBOL), journal.last_bar(SYMBOL), journal.unresolved())
        assert known == expected, "what is traded by is as it was"
        if not told(journal):
            found = [tuple(row) for row in journal._storage.archive("SELECT * FROM decisions")]
            same = sorted((row[:-1] for row in found), key=repr) == rows["decisions"]
            assert same or not whole(target)
        journal.close()
        if not whole(target):
            late += 1
    assert refused > 10 and late > 0


def told(journal: Journal) -> bool:
    """Whether reading the history says that it is damaged."""
    try:
        journal.decisions(SYMBOL)
        journal.history()
    except (JournalDamagedError, sqlite3.DatabaseError):
        return True
    return False


def whole(path: Path) -> bool:
    """Whether the doctor would call it intact."""
    try:
        JournalReader.view(path).close()
    except JournalError:
        return False
    return True
