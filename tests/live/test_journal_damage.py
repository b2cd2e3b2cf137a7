"""Damage and death: a broken journal is refused, a killed writer loses nothing it recorded."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from live import crash
from live.journal import (
    JournalDamagedError,
    JournalError,
    JournalLockedError,
    opening,
)
from tests.live.journaling import STEPS, SYMBOL, dump, fill, lines, opened, program, stages


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "account.db"


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: a killed process needs no fsync to be remembered."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def crashed(scratch: Path) -> Path:
    """A folder of journals whose writers died, one per crash point."""
    folder = scratch / "crashed"
    folder.mkdir()
    _, errors = (process := program("drive", folder)).communicate()
    assert process.returncode == 0, errors
    return folder


# Damage -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torn(scratch: Path) -> tuple[Path, dict[str, Any]]:
    """A journal whose process was killed, with rows in the file and in its log; and its rows."""
    path = scratch / "torn" / "account.db"
    process = program("tear", path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert Path(f"{path}-wal").stat().st_size > 10_000 and path.stat().st_size > 50_000
    return path, dump(path)


def copied(path: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for end in ("", "-wal", ".lock"):
        shutil.copy(f"{path}{end}", folder)
    return folder / path.name


def refused_or_whole(path: Path, rows: dict[str, Any]) -> bool:
    """Open a damaged journal; True = refused. Anything silently different fails."""
    before, refusal = path.read_bytes(), ""
    try:
        journal = opened(path)
    except JournalError as error:
        refusal = str(error)
    if refusal:
        assert path.read_bytes() == before, "a refused file stays as it is"
        assert Path(f"{path}-wal").exists()
        assert ".recover" in refusal
        return True
    assert dump(path) == rows
    journal.close()
    assert dump(path) == rows
    return False


@pytest.mark.parametrize("which", ["", "-wal"], ids=["database", "log"])
def test_a_flipped_bit_is_refused_or_without_effect(
    torn: tuple[Path, dict[str, Any]], scratch: Path, which: str
):
    source, rows = torn
    size = Path(f"{source}{which}").stat().st_size
    chance = random.Random(7)
    places = [*range(0, 100, 9), *(chance.randrange(size) for _ in range(90))]
    refused = 0
    for place in places:
        path = copied(source, scratch / "copy")
        damaged = bytearray(Path(f"{path}{which}").read_bytes())
        damaged[place] ^= 1 << chance.randrange(8)
        Path(f"{path}{which}").write_bytes(damaged)
        refused += refused_or_whole(path, rows)
    assert refused > 10, "the flips reach what is used"


def test_a_cut_or_lost_log_is_refused(torn: tuple[Path, dict[str, Any]], scratch: Path):
    source, rows = torn
    log = Path(f"{source}-wal").read_bytes()
    for keep in (0, 31, 32, 5000, len(log) // 2, len(log) - 1):
        path = copied(source, scratch / "copy")
        Path(f"{path}-wal").write_bytes(log[:keep])
        assert refused_or_whole(path, rows), keep
    path = copied(source, scratch / "copy")
    Path(f"{path}-wal").write_bytes(log + random.Random(1).randbytes(5000))
    assert not refused_or_whole(path, rows), "what follows the last commit was never promised"


def test_a_cut_database_is_refused(torn: tuple[Path, dict[str, Any]], scratch: Path):
    source, rows = torn
    size = source.stat().st_size
    refused = {}
    for keep in (0, 1, 100, 4096, size // 2, size * 3 // 4, size - 4096):
        path = copied(source, scratch / "copy")
        path.write_bytes(path.read_bytes()[:keep])
        refused[keep] = refused_or_whole(path, rows)
    # The log may hold a newer last page.
    refused.pop(size - 4096)
    assert all(refused.values()), refused


def test_a_changed_digit_is_refused_although_sqlite_sees_nothing(path: Path):
    journal = opened(path)
    journal.book(SYMBOL, fill("t1", "1.5"), "rest")
    journal.close()
    opened(path).close()  # takes the copy
    whole = path.read_bytes()
    assert whole.count(b"1.5100.5") == 1
    path.write_bytes(whole.replace(b"1.5100.5", b"2.5100.5"))
    with pytest.raises(JournalDamagedError) as caught:
        opened(path)
    message = str(caught.value)
    assert "1 rows of fills do not match their checksums" in message
    for promised in (f"{path}.bak", ".recover", f"{path}.lock", "UTC"):
        assert promised in message


def test_the_copy_is_restored_and_the_damaged_file_kept(path: Path):
    journal = opened(path)
    journal.book(SYMBOL, fill("t1", "1.5"), "rest")
    journal.close()
    with pytest.raises(JournalError, match="there is no"):
        opening.restore(path)
    journal = opened(path)
    journal.book(SYMBOL, fill("t2", "1"), "rest")
    with pytest.raises(JournalLockedError):
        opening.restore(path)
    journal.close()
    path.write_bytes(b"x" * 5000)
    with pytest.raises(JournalDamagedError, match="not a database"):
        opened(path)
    aside = opening.restore(path)
    assert aside.read_bytes() == b"x" * 5000
    again = opened(path)
    assert again.position(SYMBOL) == Decimal("1.5")
    again.close()
    for useless in (b"y", b"y" * 5000, b""):
        opening.copy_path(path).write_bytes(useless)
        with pytest.raises(JournalError):
            opening.restore(path)
    opened(path).close()


def test_an_older_file_in_the_place_of_a_newer_one_is_refused(path: Path):
    journal = opened(path)
    journal.event("first")
    journal.close()
    old = path.read_bytes()
    journal = opened(path)
    journal.event("second")
    journal.close()
    path.write_bytes(old)
    with pytest.raises(JournalDamagedError, match="ends at record 2, but 3 were written"):
        opened(path)
    path.unlink()
    with pytest.raises(JournalDamagedError, match="it has 0 bytes but had 3 records"):
        opened(path)
    opening.lock_path(path).unlink()  # the operator accepts
    journal = opened(path)
    assert journal.seq == 1
    journal.close()


def test_a_damaged_lock_file_does_no_harm(path: Path):
    opened(path).close()
    for text in (b"", b"\0" * 64, b"00000000000000000009 0000000001 00000000\n"):
        opening.lock_path(path).write_bytes(text)
        opened(path).close()


# Crashes ------------------------------------------------------------------------------------------


def test_a_kill_at_any_point_loses_nothing_that_was_recorded(crashed: Path):
    points = json.loads((crashed / "points.json").read_text())
    recorded = {f"journal.{name}.{word}" for name in STEPS for word in crash.WRITE_POINTS}
    sends = {f"send.submit.{word}" for word in crash.SEND_POINTS}
    assert set(points) == recorded | sends, "the sequence passes every point there is"
    ours = {name for name in crash.names() if name.startswith("journal.")}
    assert ours == recorded
    expected = stages()
    for number in range(1, len(points) + 1):
        path = crashed / f"{number:03d}.db"
        done = len(lines(path.with_suffix(".progress")))
        journal = opened(path)
        rows = dump(path)
        assert rows in expected[done : done + 2] or (done == 0 and journal.seq == 1), number
        for client_id in lines(path.with_suffix(".sent")):
            assert journal.intent(client_id).sent_ms is not None, (number, points[number - 1])
        assert [event.seq for event in journal.history()] == list(range(1, journal.seq + 1))
        journal.close()


def test_the_environment_names_the_point_to_die_at(tmp_path: Path):
    for setting, done in (("journal.book.after:2", 7), ("journal.decide.before", 2), ("never", 22)):
        path = tmp_path / f"{done}.db"
        files = (path, path.with_suffix(".sent"), path.with_suffix(".progress"))
        process = program("child", *files, **{crash.VARIABLE: setting})
        _, errors = process.communicate()
        assert process.returncode == (0 if setting == "never" else -signal.SIGKILL), errors
        assert len(lines(files[2])) == done


def test_an_unannounced_point_is_an_error():
    with pytest.raises(ValueError, match=r"'journal\.typo' is not registered"):
        crash.point("journal.typo")
    assert crash.passed() == ()
