"""Writers that share one commit: all of it is durable, or nobody was told that it is."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.journal import AlreadyDecidedError, Journal, JournalError, storage
from live.journal.groups import Committed, roll_back
from live.journal.reading import JournalReader
from live.orders import IntentState
from live.types import Intent, Role
from tests.live.journal_groups import EXITS, HOLDS, LEAVES, MINUTE, decide, leave
from tests.live.journaling import (
    BAR,
    dump,
    entry,
    fill,
    leaving,
    lines,
    opened,
    program,
)

SYMBOLS = tuple(f"S{number:03d}USDT" for number in range(200))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "account.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = opened(path)
    yield journal
    journal.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


class Gate:
    """A clock of seconds that holds up the thread that commits, and nobody else."""

    def __init__(self) -> None:
        self.free, self.reached = threading.Event(), threading.Event()
        self._main = threading.current_thread()

    def __call__(self) -> float:
        if threading.current_thread() is not self._main:
            self.reached.set()
            assert self.free.wait(10)
        return time.monotonic()

    async def waited_for(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 10)


def failing(number: int) -> Callable[..., Committed]:
    """`commit`, but the one of that number finds no disk, and none does after it."""
    left, real = [number], storage.commit

    def commit(disk: Any, monotonic: Any) -> Committed:
        left[0] -= 1
        if left[0] >= 0:
            return real(disk, monotonic)
        roll_back(disk)
        return Committed("OperationalError: disk I/O error")

    return commit


# One commit ---------------------------------------------------------------------------------------


def test_two_hundred_decisions_of_a_turn_cost_one_commit(path: Path, journal: Journal):
    async def all_of_them() -> list[tuple[Intent, ...]]:
        return await asyncio.gather(
            *(
                journal.grouped(decide, journal, symbol, BAR, *([entry()] * (number % 2)))
                for number, symbol in enumerate(SYMBOLS)
            )
        )

    before = journal.health.commits
    given = run(all_of_them())
    assert journal.health.commits == before + 1
    rows = dump(path)
    assert len(rows["decisions"]) == 200
    ids = [intent.client_id for one in given for intent in one]
    assert len(set(ids)) == 100 and sorted(ids, key=lambda text: text[6:-1]) == ids
    assert sorted(row[1] for row in rows["intents"]) == sorted(ids)
    assert [len(one) for one in given] == [0, 1] * 100
    assert len(rows["events"]) == 201 == journal.seq


def test_a_call_may_write_several_times(path: Path, journal: Journal):
    (intent,) = run(journal.grouped(leave, journal, LEAVES, BAR, entry()))
    assert journal.health.commits == 1
    assert journal.intent(intent.client_id).sent_ms is not None
    kinds = [row[4] for row in sorted(dump(path)["events"])]
    assert kinds == ["create", "decide", "sent"]


def test_what_breaks_a_rule_fails_alone(path: Path, journal: Journal):
    decide(journal, HOLDS, BAR)

    async def several() -> list[Any]:
        return await asyncio.gather(
            journal.grouped(decide, journal, LEAVES, BAR, entry()),
            journal.grouped(decide, journal, LEAVES, BAR, entry()),
            journal.grouped(decide, journal, HOLDS, BAR),
            journal.grouped(decide, journal, EXITS, 1 << 70),
            journal.grouped(decide, journal, EXITS, BAR, leaving()),
            return_exceptions=True,
        )

    first, again, before, odd, last = run(several())
    assert isinstance(again, AlreadyDecidedError) and isinstance(before, AlreadyDecidedError)
    assert isinstance(odd, OverflowError)
    assert journal.health.commits == 2 and journal.health.failure is None
    kept = {first[0].client_id, last[0].client_id}
    assert {row[1] for row in dump(path)["intents"]} == kept
    assert {row.client_id for row in journal.unresolved()} == kept
    assert [event.seq for event in journal.history()] == list(range(1, 5))


def test_what_memory_cannot_take_is_not_on_the_disk_either(path: Path, journal: Journal):
    journal._storage.mirror.execute(
        f"CREATE TRIGGER no BEFORE INSERT ON intents WHEN NEW.symbol = '{LEAVES}'"
        " BEGIN SELECT RAISE(ABORT, 'no'); END"
    )

    async def several() -> list[Any]:
        return await asyncio.gather(
            journal.grouped(decide, journal, HOLDS, BAR),
            journal.grouped(decide, journal, LEAVES, BAR, entry()),
            return_exceptions=True,
        )

    held, entered = run(several())
    assert held == () and isinstance(entered, sqlite3.IntegrityError)
    assert journal.last_bar(LEAVES) is None and journal.last_bar(HOLDS) == BAR
    rows = dump(path)
    assert len(rows["decisions"]) == 1 and not rows["intents"]


def test_a_decision_older_than_memory_is_refused_in_a_group(path: Path):
    journal = opened(path)
    for bar in (BAR, BAR + MINUTE):
        decide(journal, HOLDS, bar)
    with pytest.raises(AlreadyDecidedError):
        run(journal.grouped(decide, journal, HOLDS, BAR))
    run(journal.grouped(decide, journal, HOLDS, BAR - MINUTE))
    journal.close()
    assert len(dump(path)["decisions"]) == 3


def test_without_a_file_a_group_is_a_call():
    journal = opened(None)
    (intent,) = run(journal.grouped(leave, journal, LEAVES, BAR, entry()))
    with pytest.raises(AlreadyDecidedError):
        run(journal.grouped(decide, journal, LEAVES, BAR))
    assert journal.intent(intent.client_id).sent_ms is not None
    journal.close()


# Who waits for whom -------------------------------------------------------------------------------


def test_the_loop_goes_on_while_a_commit_waits_and_the_next_one_takes_all_others(path: Path):
    gate = Gate()
    journal = opened(path, monotonic=gate)

    async def work() -> None:
        first = asyncio.create_task(journal.grouped(leave, journal, LEAVES, BAR, entry()))
        await gate.waited_for()
        others = [
            asyncio.create_task(journal.grouped(decide, journal, symbol, BAR))
            for symbol in SYMBOLS[:50]
        ]
        await asyncio.sleep(0.01)
        assert not first.done(), "nothing may leave yet"
        reader = JournalReader.view(path)
        assert reader.seq == 1 and not reader.unresolved()
        reader.close()
        assert journal.last_bar(SYMBOLS[0]) is None, "the next group has not begun"
        gate.free.set()
        await asyncio.gather(first, *others)

    run(work())
    assert journal.health.commits == 2
    assert len(dump(path)["decisions"]) == 51
    journal.close()


def test_a_write_of_its_own_brings_the_others_to_their_end_first(path: Path):
    gate = Gate()
    journal = opened(path, monotonic=gate)

    async def work() -> None:
        waiting = asyncio.create_task(journal.grouped(decide, journal, LEAVES, BAR, entry()))
        await gate.waited_for()
        threading.Timer(0.02, gate.free.set).start()
        journal.event("under way")
        assert [row[4] for row in sorted(dump(path)["events"])][-2:] == ["decide", "under way"]
        also = asyncio.create_task(journal.grouped(decide, journal, HOLDS, BAR))
        await asyncio.sleep(0)  # it has written, and nobody has committed
        journal.event("open")
        assert [row[4] for row in sorted(dump(path)["events"])][-2:] == ["decide", "open"]
        await asyncio.gather(waiting, also)

    run(work())
    assert journal.health.commits == 4
    journal.close()


def test_what_the_disk_alone_holds_is_read_when_the_commit_is_through(path: Path):
    gate = Gate()
    journal = opened(path, monotonic=gate)

    async def work() -> None:
        waiting = asyncio.create_task(journal.grouped(decide, journal, HOLDS, BAR))
        await gate.waited_for()
        threading.Timer(0.02, gate.free.set).start()
        assert len(journal.decisions(HOLDS)) == 1 == journal.health.commits
        await waiting

    run(work())
    journal.close()


def test_who_stops_waiting_takes_nothing_back(path: Path):
    gate = Gate()
    journal = opened(path, monotonic=gate)

    async def work() -> None:
        waiting = asyncio.create_task(journal.grouped(decide, journal, LEAVES, BAR, entry()))
        other = asyncio.create_task(journal.grouped(decide, journal, HOLDS, BAR))
        await gate.waited_for()
        waiting.cancel()
        await asyncio.sleep(0)
        assert waiting.done() and not other.done()
        gate.free.set()
        await other

    run(work())
    assert len(dump(path)["intents"]) == 1 == len(journal.unresolved(LEAVES))
    journal.close()


@pytest.mark.parametrize("then", ["close", "write", "group"])
def test_a_group_outlives_the_loop_that_began_it(path: Path, then: str):
    gate = Gate()
    journal = opened(path, monotonic=gate)

    async def work() -> None:
        asyncio.get_running_loop().create_task(journal.grouped(decide, journal, HOLDS, BAR))
        await gate.waited_for()

    asyncio.run(work())
    threading.Timer(0.02, gate.free.set).start()
    if then == "write":
        journal.event("after")
    elif then == "group":
        run(journal.grouped(decide, journal, LEAVES, BAR))
    journal.close()
    assert len(dump(path)["decisions"]) == 1 + (then == "group")


@pytest.mark.parametrize("then", ["close", "group"])
def test_a_group_that_nobody_has_begun_to_commit_is_not_forgotten(path: Path, then: str):
    journal = opened(path)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(journal.grouped(decide, journal, HOLDS, BAR))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not dump(path)["decisions"] and journal.last_bar(HOLDS) == BAR
    if then == "group":
        run(journal.grouped(decide, journal, LEAVES, BAR))
    journal.close()
    assert len(dump(path)["decisions"]) == 1 + (then == "group")
    loop.run_until_complete(waiting)
    loop.close()


# A disk that fails --------------------------------------------------------------------------------


def test_a_commit_that_fails_fails_every_entry_of_its_group(
    path: Path,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    decide(journal, HOLDS, BAR)
    before, seq = dump(path), journal.seq
    monkeypatch.setattr(storage, "commit", failing(0))

    async def several() -> list[Any]:
        return await asyncio.gather(
            journal.grouped(leave, journal, LEAVES, BAR, entry()),
            journal.grouped(leave, journal, EXITS, BAR, leaving(Role.FLATTEN)),
            journal.grouped(journal.book, HOLDS, fill("t1", "2"), "rest"),
            journal.grouped(decide, journal, "OTHER", BAR, entry()),
            return_exceptions=True,
        )

    entered, left, booked, other = run(several())
    for refused in (entered, other):
        assert isinstance(refused, JournalError) and "decide is not on the disk" in str(refused)
    (exit_,) = left
    assert booked is True and journal.position(HOLDS) == 2
    assert [row.client_id for row in journal.unresolved()] == [exit_.client_id]
    assert journal.intent(exit_.client_id).sent_ms is not None
    assert journal.last_bar(LEAVES) is None and journal.last_bar(EXITS) == BAR
    assert journal.seq == journal.history()[-1].seq == seq + 5 and dump(path) == before
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["unwritten"] for line in told} == {"decide", "sent", "book"}
    assert {line.get("symbol") for line in told if "symbol" in line} == {EXITS, HOLDS}
    # What follows: entries are refused at once, exits pass.
    with pytest.raises(JournalError, match="decide is not on the disk"):
        run(journal.grouped(decide, journal, LEAVES, BAR, entry()))
    run(journal.grouped(leave, journal, LEAVES, BAR, leaving()))
    run(journal.grouped(journal.resolve, exit_.client_id, IntentState.NOT_SENT))
    assert dump(path) == before


def test_a_statement_that_fails_ends_the_group_it_came_to(
    path: Path, journal: Journal, capsys: pytest.CaptureFixture[str]
):
    decide(journal, HOLDS, BAR)
    before = dump(path)
    disk = journal._storage.disk
    assert disk is not None
    (pages,) = disk.execute("PRAGMA page_count").fetchone()
    disk.execute(f"PRAGMA max_page_count={pages}")

    async def several() -> list[Any]:
        return await asyncio.gather(
            journal.grouped(decide, journal, LEAVES, BAR, entry()),
            journal.grouped(decide, journal, HOLDS, BAR + MINUTE, observation=b"x" * 100_000),
            journal.grouped(decide, journal, EXITS, BAR, leaving()),
            journal.grouped(decide, journal, "OTHER", BAR, entry()),
            return_exceptions=True,
        )

    entered, held, left, other = run(several())
    assert isinstance(entered, JournalError) and isinstance(other, JournalError)
    assert held == () and len(left) == 1
    assert [row.symbol for row in journal.unresolved()] == [EXITS]
    assert "full" in str(journal.health.failure) and dump(path) == before
    assert capsys.readouterr().err


def test_a_real_limit_of_the_file_system_fails_the_group(path: Path):
    process = program("limit", path, module="tests.live.journal_groups")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    told = json.loads(output)
    assert told["refused"].startswith("journal: decide is not on the disk")
    assert told["shown"] == [0, 1] and told["durable"] > 0
    assert '"unwritten": "sent"' in errors
    journal = opened(path)
    assert len(journal.unresolved()) == 2 * told["durable"], "whole groups, none of the last"
    journal.close()


WRITERS = st.lists(
    st.tuples(
        st.sampled_from(["entry", "exit", "hold", "direct entry", "direct hold", "fill"]),
        st.integers(0, 3),  # turns of the loop before
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(WRITERS, st.integers(0, 5), st.booleans())
def test_whatever_the_order_nobody_is_told_what_is_not_so(
    writers: list[tuple[str, int]], survives: int, mends: bool
):
    """The commit after some fails: what a caller was told agrees with memory, and memory with the
    disk as far as risk goes."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "account.db"
        journal = opened(path)
        if not mends:
            patch.setattr(storage, "commit", failing(survives))

        async def one(number: int, kind: str, turns: int) -> Any:
            for _ in range(turns):
                await asyncio.sleep(0)
            symbol = SYMBOLS[number]
            match kind:
                case "entry":
                    return await journal.grouped(leave, journal, symbol, BAR, entry())
                case "exit":
                    return await journal.grouped(leave, journal, symbol, BAR, leaving())
                case "hold":
                    return await journal.grouped(decide, journal, symbol, BAR)
                case "direct entry":
                    return decide(journal, symbol, BAR, entry())
                case "direct hold":
                    return decide(journal, symbol, BAR)
                case _:
                    bought = fill(f"t{number}", "1")
                    return await journal.grouped(journal.book, symbol, bought, "rest")

        async def all_of_them() -> list[Any]:
            work = (one(number, *writer) for number, writer in enumerate(writers))
            return await asyncio.gather(*work, return_exceptions=True)

        results = run(all_of_them())
        durable = dump(path)
        on_disk = {row[1] for row in durable["intents"]}
        for number, ((kind, _), result) in enumerate(zip(writers, results, strict=True)):
            symbol = SYMBOLS[number]
            in_memory = {row.client_id: row for row in journal.intents(symbol, BAR)}
            if isinstance(result, JournalError):
                assert "entry" in kind and journal.health.failure is not None
                assert not in_memory and journal.last_bar(symbol) is None
                assert not any(row[3] == symbol for row in durable["intents"])
                continue
            assert not isinstance(result, BaseException), result
            if kind == "fill":
                assert result and journal.position(symbol) == 1
                continue
            assert journal.last_bar(symbol) == BAR
            assert {intent.client_id for intent in result} == set(in_memory)
            marked = not kind.startswith("direct")
            assert all((row.sent_ms is not None) is marked for row in in_memory.values())
            if "entry" in kind:
                assert set(in_memory) <= on_disk
        assert sorted(row[0] for row in durable["events"]) == [
            number + 1 for number in range(len(durable["events"]))
        ]
        if mends:
            assert journal.health.failure is None and journal.seq == len(durable["events"])
        journal.close()
        assert dump(path) == durable


# Death --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed() -> Iterator[Path]:
    """Journals of writers that were killed at every crash point, and at any time."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as name:
        process = program("drive", name, module="tests.live.journal_groups")
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        yield Path(name)


def ends(path: Path) -> list[int]:
    return [int(word) for word in lines(path.with_suffix(".ends"))]


def heard(path: Path) -> list[list[str]]:
    told = path.with_suffix(".heard")
    # The last line may be cut short: the process was killed while it was written.
    whole = told.read_text().rpartition("\n")[0] if told.exists() else ""
    return [line.split() for line in whole.splitlines()]


def check_heard(journal: Journal, path: Path) -> None:
    """What anybody was told is there."""
    for word, name, *rest in heard(path):
        match word:
            case "sent":
                assert journal.intent(name).sent_ms is not None
            case "resolved":
                assert journal.intent(name).state is IntentState.REJECTED
            case "booked":
                assert journal.fill(LEAVES, name) is not None
            case "decided":
                assert journal.last_bar(name) is not None
                assert (journal.last_bar(name) or 0) >= int(rest[0])


def check_whole(journal: Journal) -> None:
    """Nothing is there by half: an intent has its mark and its decision, numbers have no gap."""
    history = journal.history()
    assert [event.seq for event in history] == list(range(1, journal.seq + 1))
    for symbol in (LEAVES, EXITS):
        for decision in journal.decisions(symbol):
            (row,) = journal.intents(symbol, decision.bar_open_ms)
            assert row.sent_ms is not None


def test_a_kill_at_any_point_leaves_whole_groups(killed: Path):
    points = json.loads((killed / "points.json").read_text())
    whole = {1, *ends(killed / "whole.db")}
    assert {point.split(".")[2] for point in points} == {"before", "written", "after"}
    reached = set()
    for number in range(1, len(points) + 1):
        path = killed / f"point{number:03d}.db"
        if not path.exists() or not path.stat().st_size:
            continue  # killed before there was a journal
        journal = opened(path)
        assert journal.seq in whole, (number, points[number - 1])
        assert journal.seq >= max(ends(path), default=1)
        reached.add(journal.seq)
        check_heard(journal, path)
        check_whole(journal)
        journal.close()
    assert reached == whole, "every end of a group is one that a kill left"


def test_a_kill_at_any_time_leaves_whole_groups(killed: Path):
    known = ends(killed / "whole.db")
    per_round = (known[-1] - 1) // 2
    places = {(end - 1) % per_round for end in known}
    written = 0
    for path in sorted(killed.glob("time*.db")):
        journal = opened(path)
        assert (journal.seq - 1) % per_round in places, path
        # At most one commit may have got through that nobody heard of.
        assert max(ends(path), default=1) <= journal.seq
        check_heard(journal, path)
        check_whole(journal)
        written += len(heard(path))
        journal.close()
    assert written > 100, "they lived long enough to write"
