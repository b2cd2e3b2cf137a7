"""How a person's command reaches a daemon: its page, its state folder, or the journal it left.

Halting always works: where nothing answers, the file ``HALT`` in the state folder stays behind, and
every daemon of the folder obeys it at once or at its next start.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from live import mailbox
from live.journal import Journal
from live.journal.checking import checked, lock_path
from live.journal.failures import JournalDamagedError
from live.journal.locking import Lock
from live.journal.opening import restore
from live.journal.reading import JournalReader
from live.operations.place import Place, ask_page
from live.risk import TradingState
from live.trading.unexplained import refuse_unexplained
from live.venues.symbols import among

__all__ = ["NoDaemonError", "Place", "give", "restored", "status"]

_ANSWER_SECONDS = 15.0
_RECENT = 5  # decisions and runs that a status shows
_PAGE_COMMANDS = ("halt", "reduce", "flatten", "stop")


class NoDaemonError(ValueError):
    """The command needs a running daemon."""


# Commands ---------------------------------------------------------------------------------------


def give(
    place: Place, name: str, reason: str, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Have a command carried out; what became of it, and ``via`` which way.

    Raises:
      NoDaemonError: it needs a running daemon and there is none, or none answers.
      ValueError: the daemon refuses.
    """
    reason = mailbox.check_reason(reason)
    if name in _PAGE_COMMANDS:
        answer = ask_page(place, "POST", f"/{name}", {"reason": reason})
        if answer is not None:
            return {**answer, "via": "page"}
    if place.running:
        return _by_mail(place, name, reason, options or {})
    return _without_daemon(place, name, reason, options or {})


def _by_mail(place: Place, name: str, reason: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if name == "resume":  # it has become a latch long since, and would set it again
        (place.folder / mailbox.HALT).unlink(missing_ok=True)
    now_ms = time.time_ns() // 1_000_000
    identifier = mailbox.post(
        place.folder, name, reason, by=mailbox.user(), options=options, now_ms=now_ms
    )
    answer = mailbox.wait(place.folder, identifier, _ANSWER_SECONDS)
    if answer is None:
        if name == "halt":
            return _leave_halt(place, reason)
        raise NoDaemonError(
            f"{name}: a daemon holds the journal in {place.folder} but takes no commands; "
            "`jaxtrade live halt` leaves the file HALT, or stop the process"
        )
    if answer.get("accepted") is False:
        raise ValueError(f"{name}: refused: {answer.get('error', 'no reason given')}")
    return {**answer, "via": "state folder"}


def _leave_halt(place: Place, reason: str) -> dict[str, Any]:
    path = mailbox.write_halt(place.folder, reason)
    return {"accepted": True, "via": "file", "detail": f"{path} halts every daemon of this folder"}


def _without_daemon(
    place: Place, name: str, reason: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    if name == "halt":
        return _leave_halt(place, reason)
    if name in ("flatten", "stop"):
        raise NoDaemonError(f"{name}: no daemon runs in {place.folder}; nothing was done")
    if not place.journals and name != "resume":
        raise NoDaemonError(f"{name}: {place.folder} holds no journal; nothing was done")
    if options.get("reset_baseline"):
        raise NoDaemonError("--reset-baseline: needs the equity that a running daemon reads")
    done = [_in_journal(path, name, reason, options) for path in place.journals]
    if name == "resume":
        (place.folder / mailbox.HALT).unlink(missing_ok=True)
    return {"accepted": True, "via": "journal", "detail": "; ".join(done) or "nothing was latched"}


def _in_journal(path: Path, name: str, reason: str, options: Mapping[str, Any]) -> str:
    journal = _taken_over(path)
    by = mailbox.user()
    try:
        if name == "reduce":
            journal.latch(TradingState.REDUCING.value, "operator", f"{reason} ({by})")
            return f"{path.name}: reducing from the next start on"
        if name == "acknowledge":
            symbol = _known(journal, options.get("symbol"))
            count = journal.acknowledge(f"{by}: {reason}", symbol)
            return f"{path.name}: {count} adjustments acknowledged"
        refuse_unexplained(journal)
        return f"{path.name}: {journal.clear_latches(by, reason)} latches cleared"
    finally:
        journal.close()


def _taken_over(path: Path) -> Journal:
    """A journal opened for writing in the name of the daemon that it belongs to."""
    owner = JournalReader.view(path)
    account, strategy = owner.meta("account_id"), owner.meta("strategy_id")
    owner.close()
    return Journal.open(
        path,
        account_id=account or "",
        strategy_id=strategy or "",
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


def _known(journal: JournalReader, spelling: str | None) -> str | None:
    """The symbol of a journal that a spelling means; None = none was asked for."""
    if spelling is None:
        return None
    known = {*journal.symbols(), *(row.symbol for row in journal.adjustments())}
    symbol = among(spelling, known)
    if symbol is None:
        raise _unknown(spelling, known)
    return symbol


def _unknown(spelling: str, known: Iterable[str]) -> ValueError:
    return ValueError(
        f"--symbol: the journal knows no {spelling!r}; expected one of "
        f"{', '.join(sorted(known)) or 'none, it is empty'}"
    )


def restored(path: Path, reason: str) -> Path:
    """Put the copy of a damaged journal in its place; where the damaged one is kept.

    Raises:
      ValueError: it is intact. JournalError: a daemon runs, or there is no intact copy.
    """
    reason = mailbox.check_reason(reason)
    _refuse_intact(path)
    aside = restore(path)
    journal = _taken_over(path)
    try:
        body = {"by": mailbox.user(), "reason": reason, "damaged": aside.name}
        journal.event("restored", None, body)
    finally:
        journal.close()
    return aside


def _refuse_intact(path: Path) -> None:
    lock = Lock(lock_path(path))
    try:
        known, _ = lock.read()
        if checked(path, {}, known):
            raise ValueError(f"restore: {path} is intact; nothing was done")
    except JournalDamagedError:
        return
    finally:
        lock.release()


# Status -----------------------------------------------------------------------------------------


def status(place: Place, symbol: str | None = None) -> dict[str, Any]:
    """What the page shows, or what the journal knows; ``via`` says which.

    Args:
      symbol: the one in detail, in any spelling; None = the first, of a journal every one.

    Raises:
      ValueError: it is not traded. FileNotFoundError: there is neither a daemon nor a journal.
    """
    query = "" if symbol is None else f"?symbol={quote(symbol, safe='')}"
    answer = ask_page(place, "GET", f"/status{query}")
    if answer is not None:
        return {**answer, "via": "page", "running": True}
    if not place.journals:
        raise FileNotFoundError(f"{place.folder}: no daemon runs here and there is no journal")
    found: dict[str, Any] = {"via": "journal", "running": place.running}
    halt = mailbox.read_halt(place.folder)
    if halt is not None:
        found["halt_file"] = halt
    accounts = [_account(path) for path in place.journals]
    if symbol is not None:
        _narrow(accounts, symbol)
    found["accounts"] = accounts
    return found


def _narrow(accounts: list[dict[str, Any]], spelling: str) -> None:
    """Leave one symbol alone; a ValueError says that no journal knows it."""
    known = {row["symbol"] for account in accounts for row in account["symbols"]}
    symbol = among(spelling, known)
    if symbol is None:
        raise _unknown(spelling, known)
    for account in accounts:
        account["symbols"] = [row for row in account["symbols"] if row["symbol"] == symbol]


def _account(path: Path) -> dict[str, Any]:
    journal = JournalReader.view(path)
    try:
        marks, runs = journal.marks(), journal.runs()
        return {
            "journal": str(path),
            "account": journal.meta("tag"),
            "strategy": journal.meta("strategy_id"),
            "mode": runs[-1].mode if runs else None,
            "last_run": dataclasses.asdict(runs[-1]) if runs else None,
            "latches": [dataclasses.asdict(row) for row in journal.latches()],
            "equity": None if marks is None else dataclasses.asdict(marks),
            "unacknowledged": len(journal.adjustments(acknowledged=False)),
            "symbols": [_symbol(journal, symbol) for symbol in journal.symbols()],
        }
    finally:
        journal.close()


def _symbol(journal: JournalReader, symbol: str) -> dict[str, Any]:
    guard = journal.protection(symbol)
    unresolved = journal.unresolved(symbol)
    return {
        "symbol": symbol,
        "booked_quantity": journal.position(symbol),
        "protection": None if guard is None else dataclasses.asdict(guard),
        "unknown_orders": [{"client_id": row.client_id, "state": row.state} for row in unresolved],
        "decisions": [
            {
                "bar_open_ms": row.bar_open_ms,
                "action": row.action,
                "decision": row.decision,
                "refused": row.refusal,
                "fallback": row.fallback,
            }
            for row in reversed(journal.decisions(symbol, limit=_RECENT))
        ],
    }
