"""How a person's command reaches a daemon: its page, its state folder, or the journal it left.

Halting always works: where nothing answers, the file ``HALT`` in the state folder stays behind, and
every daemon of the folder obeys it at once or at its next start.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import http.client
import json
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from live.config import load_tables
from live.config.tables import JournalConfig, RunnerConfig, ServerConfig
from live.journal import Journal
from live.journal.checking import lock_path
from live.journal.reading import JournalReader
from live.operations import mailbox
from live.risk import TradingState
from live.secrets import Tokens

_HTTP_SECONDS = 20.0
_ANSWER_SECONDS = 15.0
_RECENT = 5  # decisions and runs that a status shows
_PAGE_COMMANDS = ("halt", "reduce", "flatten", "stop")
# Latches whose cause is an adjustment that nobody has acknowledged.
_UNEXPLAINED = ("mismatch", "foreign")


class NoDaemonError(ValueError):
    """The command needs a running daemon."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon is found.

    Attributes:
      folder: state folder. journal: None = the files in it. server: where its page would be.
    """

    folder: Path
    journal: Path | None
    server: ServerConfig

    @classmethod
    def of(
        cls,
        config: str | Path | None,
        overrides: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Place:
        """From the three tables that say it; the others may be broken.

        Raises:
          ConfigError: one of the three is wrong.
        """
        tables = load_tables(config, ("runner", "journal", "server"), overrides, environ)
        runner: RunnerConfig = tables["runner"]
        journal: JournalConfig = tables["journal"]
        return cls(runner.folder, journal.path, tables["server"])

    @property
    def journals(self) -> list[Path]:
        """The journal files there are."""
        if self.journal is not None:
            return [self.journal] if self.journal.exists() else []
        return sorted(self.folder.glob("*.db"))

    @property
    def running(self) -> bool:
        """Whether a daemon holds a journal of this place."""
        return any(_locked(lock_path(path)) for path in self.journals)


def _locked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return True
        raise
    finally:
        os.close(handle)
    return False


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
        answer = _ask_page(place, "POST", f"/{name}", {"reason": reason})
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
    owner = JournalReader.view(path)
    account, strategy = owner.meta("account_id"), owner.meta("strategy_id")
    owner.close()
    journal = Journal.open(
        path,
        account_id=account or "",
        strategy_id=strategy or "",
        now_ms=lambda: time.time_ns() // 1_000_000,
    )
    by = mailbox.user()
    try:
        if name == "reduce":
            journal.latch(TradingState.REDUCING.value, "operator", f"{reason} ({by})")
            return f"{path.name}: reducing from the next start on"
        if name == "acknowledge":
            count = journal.acknowledge(f"{by}: {reason}", options.get("symbol"))
            return f"{path.name}: {count} adjustments acknowledged"
        _refuse_unexplained(journal)
        return f"{path.name}: {journal.clear_latches(by, reason)} latches cleared"
    finally:
        journal.close()


def _refuse_unexplained(journal: JournalReader) -> None:
    waiting = journal.adjustments(acknowledged=False)
    caused = [row.reason for row in journal.latches() if row.reason in _UNEXPLAINED]
    if waiting and caused:
        raise ValueError(
            f"resume: refused: {len(waiting)} changes that no order explains wait for `jaxtrade "
            "live acknowledge`"
        )


# Status -----------------------------------------------------------------------------------------


def status(place: Place) -> dict[str, Any]:
    """What the page shows, or what the journal knows; ``via`` says which.

    Raises:
      FileNotFoundError: there is neither a daemon nor a journal.
    """
    answer = _ask_page(place, "GET", "/status")
    if answer is not None:
        return {**answer, "via": "page", "running": True}
    if not place.journals:
        raise FileNotFoundError(f"{place.folder}: no daemon runs here and there is no journal")
    found: dict[str, Any] = {"via": "journal", "running": place.running}
    halt = mailbox.read_halt(place.folder)
    if halt is not None:
        found["halt_file"] = halt
    found["accounts"] = [_account(path) for path in place.journals]
    return found


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
            for row in reversed(journal.decisions(symbol)[-_RECENT:])
        ],
    }


# The page ---------------------------------------------------------------------------------------


def _ask_page(
    place: Place, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The page's answer; None = there is no page, or nothing listens.

    Raises:
      ValueError: the daemon refuses, or what listens there is no daemon of this folder.
    """
    server = place.server
    if not server.enabled:
        return None
    try:
        tokens = Tokens.read_only(place.folder)
    except FileNotFoundError:
        return None
    token = tokens.read if method == "GET" else tokens.control
    connection: http.client.HTTPConnection
    if server.certificate is None:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=_HTTP_SECONDS)
    else:
        context = ssl.create_default_context(cafile=server.certificate)
        connection = http.client.HTTPSConnection(
            server.host, server.port, timeout=_HTTP_SECONDS, context=context
        )
    try:
        connection.request(
            method,
            path,
            body=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {token.reveal()}"},
        )
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        # Nothing there, or nothing that makes sense: the other ways remain.
        return None
    finally:
        connection.close()
    if not isinstance(answer, dict):
        return None
    if response.status >= 400:
        said = answer.get("error", f"HTTP status {response.status}")
        raise ValueError(f"{path.strip('/')}: the daemon's page refuses: {said}")
    return answer
