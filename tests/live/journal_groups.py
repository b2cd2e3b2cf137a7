"""Writers that share commits, and the program that tests of shared commits kill.

``python -m tests.live.journal_groups COMMAND PATH...``
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from live import crash
from live.journal import Journal, JournalError
from live.types import Certainty, Definitive, Intent, Role
from tests.live.journaling import BAR, HOUR, entry, fill, leaving, opened

MINUTE = 60_000
LEAVES, HOLDS, EXITS, NOTES = "AUSDT", "BUSDT", "CUSDT", "DUSDT"
KILLS = 40


def decide(
    journal: Journal, symbol: str, bar: int, *intents: Intent, **changes: Any
) -> tuple[Intent, ...]:
    """The decision of a bar of any symbol."""
    fields = {
        "action": 2,
        "level": 1.0,
        "decision": "open" if intents else "hold",
        "refusal": None,
        "observation": b"\x00\x01\xff" * 40,
        "policy_ms": 1.5,
        "fallback": False,
        "intents": [replace(intent, symbol=symbol) for intent in intents],
    }
    return journal.decide(symbol, bar, **{**fields, **changes})


def leave(journal: Journal, symbol: str, bar: int, *intents: Intent) -> tuple[Intent, ...]:
    """Decide, and mark what is about to leave, as one."""
    given = decide(journal, symbol, bar, *intents)
    for intent in given:
        journal.sent(intent.client_id)
    return given


# A round of writers -------------------------------------------------------------------------------


async def _round(journal: Journal, number: int, heard: Callable[[str], None]) -> None:
    """One bar of four symbols; what is heard was durable before."""
    bar = BAR + number * MINUTE

    async def enters() -> None:
        (intent,) = await journal.grouped(leave, journal, LEAVES, bar, entry())
        heard(f"sent {intent.client_id}")
        await journal.grouped(
            journal.resolve, intent.client_id, Definitive(Certainty.ACCEPTED, "v1")
        )
        bought = fill(f"t{number}", "0.5", intent.client_id)
        if await journal.grouped(journal.book, LEAVES, bought, "rest"):
            heard(f"booked {bought.trade_id}")

    async def holds() -> None:
        await journal.grouped(decide, journal, HOLDS, bar)
        heard(f"decided {HOLDS} {bar}")

    async def exits() -> None:
        (intent,) = await journal.grouped(leave, journal, EXITS, bar, leaving())
        heard(f"sent {intent.client_id}")
        # Not in a group: what is open or under way comes first.
        journal.resolve(intent.client_id, Definitive(Certainty.REJECTED, code="1"))
        heard(f"resolved {intent.client_id}")

    async def notes() -> None:
        await asyncio.sleep(0)  # a turn later: a commit is under way
        await journal.grouped(journal.event, "note", NOTES, {"round": number})

    await asyncio.gather(enters(), holds(), exits(), notes())


def play(path: Path, rounds: int | None) -> None:
    """Rounds without end or some; beside the journal it is told what was heard, and where the
    commits ended."""
    journal = opened(path)
    ends, told = path.with_suffix(".ends"), path.with_suffix(".heard")

    def ended(_: float) -> None:
        with ends.open("a") as file:
            file.write(f"{journal.seq}\n")

    def heard(word: str) -> None:
        with told.open("a") as file:
            file.write(word + "\n")

    async def run() -> None:
        for number in itertools.count():
            if number == rounds:
                return
            await _round(journal, number, heard)

    journal.health.told = ended
    asyncio.run(run())
    journal.close()


def drive(folder: Path) -> None:
    """Kill one process at every crash point of two rounds, and others at any time."""
    crash.arm("never")
    play(folder / "whole.db", 2)
    passed = crash.passed()
    (folder / "points.json").write_text(json.dumps(passed))
    for number in range(1, len(passed) + 1):
        process = os.fork()
        if process == 0:
            crash.arm(str(number))
            play(folder / f"point{number:03d}.db", 2)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (number, status)
    chance = random.Random(11)
    for number in range(KILLS):
        process = os.fork()
        if process == 0:
            crash.arm(None)
            play(folder / f"time{number:03d}.db", None)
        time.sleep(chance.uniform(0.01, 0.06))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def limit(path: Path) -> None:
    """Groups of an entry and an exit, until the operating system makes no file longer."""
    journal = opened(path)
    journal.event("first")
    used = Path(f"{path}-wal").stat().st_size
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 80_000, resource.RLIM_INFINITY))

    async def run() -> None:
        for number in itertools.count():
            bar = BAR + HOUR * number
            entered, left = await asyncio.gather(
                journal.grouped(decide, journal, LEAVES, bar, entry()),
                journal.grouped(leave, journal, EXITS, bar, leaving(Role.FLATTEN)),
                return_exceptions=True,
            )
            assert not isinstance(left, BaseException)
            if isinstance(entered, JournalError):
                shown = [len(journal.intents(symbol, bar)) for symbol in (LEAVES, EXITS)]
                print(json.dumps({"refused": str(entered), "durable": number, "shown": shown}))
                return
            assert not isinstance(entered, BaseException)

    asyncio.run(run())
    journal.close()


COMMANDS: dict[str, Callable[[Path], None]] = {"drive": drive, "limit": limit}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](Path(sys.argv[2]))
