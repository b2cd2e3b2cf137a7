"""Makers of journals, and the program that tests of the journal kill.

``python -m tests.live.journaling COMMAND PATH...`` plays a sequence that uses every operation.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from live import crash
from live.journal import (
    Journal,
    JournalError,
    ids,
    schema,
)
from live.types import (
    Ambiguous,
    Bracket,
    Certainty,
    Definitive,
    Fill,
    FillKind,
    Intent,
    IntentKind,
    OrderReport,
    OrderStatus,
    Role,
    Side,
)

ROOT = Path(__file__).parents[2]
SYMBOL = "BTCUSDT"
BAR = 1_750_000_000_000 // 3_600_000 * 3_600_000
HOUR = 3_600_000


class Ticks:
    """A clock that moves on by one millisecond whenever it is read."""

    def __init__(self, start: int = BAR + HOUR) -> None:
        self.now = start

    def __call__(self) -> int:
        self.now += 1
        return self.now


def opened(path: Path | str | None, **changes: Any) -> Journal:
    options = {"account_id": "42", "strategy_id": "default", "now_ms": Ticks(), **changes}
    return Journal.open(path, **options)


def entry(quantity: str = "0.5", **changes: Any) -> Intent:
    fields = {
        "kind": IntentKind.BRACKET,
        "role": Role.ENTRY,
        "symbol": SYMBOL,
        "side": Side.BUY,
        "quantity": Decimal(quantity),
        "reduce_only": False,
        "reason": "open",
        "bracket": Bracket(Decimal("95"), Decimal("1E+2")),
    }
    return Intent(**{**fields, **changes})


def leaving(role: Role = Role.REDUCE, **changes: Any) -> Intent:
    fields = {"kind": IntentKind.MARKET, "role": role, "side": Side.SELL, "reduce_only": True}
    return entry(**{**fields, "reason": "close", "bracket": None, **changes})


STOP = leaving(Role.STOP, kind=IntentKind.STOP, trigger_price=Decimal("95"), reason="protect")


def fill(trade_id: str, quantity: str, client_id: str = "", **changes: Any) -> Fill:
    fields = {
        "trade_id": trade_id,
        "client_id": client_id,
        "venue_order_id": "v1",
        "side": Side.BUY,
        "quantity": Decimal(quantity),
        "price": Decimal("100.5"),
        "fee": Decimal("0.01"),
        "fee_asset": "USDT",
        "kind": FillKind.TRADE,
        "venue_time_ms": BAR + HOUR,
    }
    return Fill(**{**fields, **changes})


def report(client_id: str, status: OrderStatus, filled: str = "0", **changes: Any) -> OrderReport:
    fields = {
        "client_id": client_id,
        "venue_order_id": "v1",
        "role": Role.ENTRY,
        "side": Side.BUY,
        "quantity": Decimal("0.5"),
        "filled": Decimal(filled),
        "average_price": None,
        "trigger_price": None,
        "reduce_only": False,
        "status": status,
        "venue_time_ms": BAR + HOUR,
    }
    return OrderReport(**{**fields, **changes})


def decide(
    journal: Journal, bar: int = BAR, *intents: Intent, **changes: Any
) -> tuple[Intent, ...]:
    fields = {
        "action": 2,
        "level": 1.0,
        "decision": "open",
        "refusal": None,
        "observation": b"\x00\x01\xff" * 40,
        "policy_ms": 1.5,
        "fallback": False,
        "intents": intents or (entry(),),
    }
    return journal.decide(SYMBOL, bar, **{**fields, **changes})


def dump(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a file, read without a right to write."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return {
            table: sorted(connection.execute(f"SELECT {', '.join(columns)} FROM {table}"), key=repr)
            for table, columns in schema.COLUMNS.items()
        }
    finally:
        connection.close()


# A sequence that uses every operation ------------------------------------------------------------


def play(journal: Journal, send: Callable[[str], None]) -> Iterator[str]:
    """One bar after another through every operation; a step is yielded when it is recorded."""
    journal.start_run(mode="demo", venue="bybit", symbols=[SYMBOL], config_sha256="c", version="0")
    yield "start_run"
    journal.record_equity(
        BAR, Decimal("10000"), Decimal("9000"), quantity=Decimal(0), mark=Decimal("100")
    )
    yield "equity"
    (first,) = decide(journal)
    yield "decide"
    journal.sent(first.client_id)
    yield "sent"
    send(first.client_id)
    journal.resolve(first.client_id, Ambiguous("timeout"))
    yield "resolve"
    journal.resolve(first.client_id, report(first.client_id, OrderStatus.FILLED, "0.5"))
    yield "resolve"
    journal.book(SYMBOL, fill("t1", "0.2", first.client_id), "rest")
    yield "book"
    journal.book(SYMBOL, fill("t2", "0.3", first.client_id), "stream")
    yield "book"
    (stop,) = journal.add_intents(SYMBOL, BAR, [STOP])
    yield "add_intents"
    journal.sent(stop.client_id)
    yield "sent"
    send(stop.client_id)
    journal.resolve(stop.client_id, Definitive(Certainty.ACCEPTED, "v2"))
    yield "resolve"
    journal.set_protection(
        SYMBOL, Bracket(Decimal("95"), None), Decimal("0.5"), client_id=stop.client_id
    )
    yield "protection"
    journal.set_watermark(SYMBOL, "fills", BAR + HOUR, "t2")
    yield "watermark"
    journal.adjust(SYMBOL, "manual", Decimal("-0.1"), Decimal(0), {"seen": Decimal("0.4")})
    yield "adjust"
    journal.acknowledge("operator")
    yield "acknowledge"
    lost = ids.client_id(journal.tag(SYMBOL), 1 << 40, Role.TARGET)
    journal.adopt(SYMBOL, BAR, report(lost, OrderStatus.OPEN, side=Side.SELL, reduce_only=True))
    yield "adopt"
    journal.latch("REDUCING", "mismatch", "0.4 is not 0.5")
    yield "latch"
    journal.clear_latches("operator", "traded by hand")
    yield "clear_latches"
    journal.reset_baseline(BAR + 1, Decimal("9990"), Decimal("9000"))
    yield "baseline"
    decide(journal, BAR + HOUR, leaving(quantity=Decimal("0.4")), decision="close", level=0.0)
    yield "decide"
    journal.event("note", SYMBOL, {"value": float("nan")})
    yield "event"
    journal.end_run(0)
    yield "end_run"


def child(path: Path, sent_to: Path, progress: Path) -> None:
    """Play the sequence, telling outside of the journal what was sent and what was recorded."""
    crash.register("send.submit", crash.SEND_POINTS)

    def send(client_id: str) -> None:
        crash.point("send.submit.before")
        with sent_to.open("a") as file:
            file.write(client_id + "\n")
        crash.point("send.submit.after")

    journal = opened(path)
    for step in play(journal, send):
        with progress.open("a") as file:
            file.write(step + "\n")
    journal.close()


def drive(folder: Path) -> None:
    """Fork one process for every crash point of the sequence; each dies there."""
    crash.arm("never")
    child(folder / "whole.db", folder / "whole.sent", folder / "whole.progress")
    passed = crash.passed()
    (folder / "points.json").write_text(json.dumps(passed))
    for number in range(1, len(passed) + 1):
        name = f"{number:03d}"
        process = os.fork()
        if process == 0:
            crash.arm(str(number))
            child(folder / f"{name}.db", folder / f"{name}.sent", folder / f"{name}.progress")
            os._exit(0)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (
            name,
            status,
        )


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def program(
    *arguments: object, module: str = "tests.live.journaling", **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


STEPS = (
    "create",
    "start_run",
    "end_run",
    "decide",
    "add_intents",
    "adopt",
    "sent",
    "resolve",
    "book",
    "adjust",
    "acknowledge",
    "protection",
    "latch",
    "clear_latches",
    "equity",
    "baseline",
    "watermark",
    "event",
)


def stages() -> list[dict[str, Any]]:
    """The rows after no step of the sequence, after one, after two and so on, in memory."""
    journal = opened(None)

    def rows() -> dict[str, Any]:
        return {
            table: sorted(
                map(tuple, journal._storage.rows(f"SELECT {', '.join(columns)} FROM {table}")),
                key=repr,
            )
            for table, columns in schema.COLUMNS.items()
        }

    found = [rows()]
    found += [rows() for _ in play(journal, lambda _: None)]
    journal.close()
    return found


# The process that is killed ----------------------------------------------------------------------


def hold(path: Path) -> None:
    journal = opened(path)
    journal.event("note")
    print("held", flush=True)
    sys.stdin.read()


def tear(path: Path) -> None:
    """Leave rows in the database and in its log, then die."""
    journal = opened(path)
    for _ in play(journal, lambda _: None):
        pass
    for bar in range(10):
        decide(journal, bar, entry(), STOP)
    disk = journal._storage.disk
    assert disk is not None
    disk.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for bar in range(10, 13):
        decide(journal, bar)
    journal.book(SYMBOL, fill("late", "0.7"), "rest")
    os.kill(os.getpid(), signal.SIGKILL)


def limit(path: Path) -> None:
    """Let the operating system refuse to make any file longer, then trade on."""
    journal = opened(path)
    decide(journal)
    used = Path(f"{path}-wal").stat().st_size
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 30_000, resource.RLIM_INFINITY))
    for bar in itertools.count(BAR + 1):
        try:
            decide(journal, bar)
        except JournalError as error:
            durable = len(journal.unresolved())
            journal.add_intents(SYMBOL, BAR, [leaving(Role.FLATTEN)])
            print(f"refused: {error} {durable}")
            break
    journal.close()


COMMANDS: dict[str, Callable[..., None]] = {
    "hold": hold,
    "tear": tear,
    "limit": limit,
    "drive": drive,
    "child": child,
}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    COMMANDS[command](*map(Path, arguments))
