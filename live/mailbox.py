"""Commands to a running daemon through its state folder, for when no page is served.

Who may write the folder may command: it is its owner's alone. A command is one file that appears
whole; the daemon takes it, acts, and leaves an answer beside it. ``HALT`` needs no daemon: it is a
file that every daemon of the folder obeys for as long as it is there. Times are those of the
machine's own clock, milliseconds UTC.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets as random_bytes
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxtrade.files import atomic_write
from live.secrets import private_folder, redacted

HALT = "HALT"
FOLDER = "commands"
COMMANDS = ("halt", "reduce", "flatten", "stop", "resume", "acknowledge")
# An old command is not carried out by a daemon that starts much later.
LIFETIME_SECONDS = 30.0
_LONGEST_REASON = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One command.

    Attributes:
      name: one of `COMMANDS`. options: such as ``reset_baseline``. by: the user's name.
    """

    id: str
    name: str
    reason: str
    by: str
    options: Mapping[str, Any]


def check_reason(reason: str) -> str:
    """The reason on one line.

    Raises:
      ValueError: it is empty or too long.
    """
    line = " ".join(reason.split())
    if not line or len(line) > _LONGEST_REASON:
        raise ValueError(f"reason: expected 1 to {_LONGEST_REASON} characters of text")
    return line


def write_halt(folder: Path, reason: str) -> Path:
    """Have every daemon of a state folder halt, now and at its next start."""
    path = private_folder(folder) / HALT
    with atomic_write(path) as stream:
        stream.write(f"{check_reason(reason)}\n".encode())
    return path


def read_halt(folder: Path) -> str | None:
    """The reason in the ``HALT`` file; None = there is no such file."""
    path = folder / HALT
    try:
        reason = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:  # there is one, whatever it says
        return f"HALT cannot be read ({error.strerror})"
    return " ".join(reason.split())[:_LONGEST_REASON] or "the file HALT exists"


# The side of the person -------------------------------------------------------------------------


def post(
    folder: Path,
    name: str,
    reason: str,
    *,
    by: str,
    options: Mapping[str, Any] | None = None,
    now_ms: int,
) -> str:
    """Leave a command; returns its id."""
    if name not in COMMANDS:
        raise ValueError(f"command: must be one of {', '.join(COMMANDS)}, was {name!r}")
    box = private_folder(private_folder(folder) / FOLDER)
    identifier = f"{now_ms:015d}-{random_bytes.token_hex(4)}"
    body = {
        "name": name,
        "reason": check_reason(reason),
        "by": by,
        "options": dict(options or {}),
        "posted_ms": now_ms,
    }
    with atomic_write(box / f"{identifier}.json") as stream:
        stream.write(json.dumps(body).encode())
    return identifier


def wait(
    folder: Path,
    identifier: str,
    seconds: float,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any] | None:
    """The answer to a command; None = nobody took it, and it is withdrawn.

    ``accepted`` of an answer is None if the command was taken and nothing more is known of it.
    """
    answer = folder / FOLDER / f"{identifier}.answer"
    end = monotonic() + seconds
    while monotonic() < end:
        try:
            text = answer.read_text(encoding="utf-8")
        except FileNotFoundError:
            sleep(0.05)
        else:
            answer.unlink(missing_ok=True)
            found: dict[str, Any] = json.loads(text)
            return found
    try:
        (folder / FOLDER / f"{identifier}.json").unlink()
    except FileNotFoundError:
        return {"accepted": None, "detail": "the daemon took the command and has not answered yet"}
    return None


# The side of the daemon -------------------------------------------------------------------------


def take(folder: Path, now_ms: int) -> list[Request]:
    """The commands that wait, oldest first; each is returned once, stale and broken ones never."""
    box = folder / FOLDER
    if not box.is_dir():
        return []
    requests = []
    for path in sorted(box.glob("*.json")):
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            body = None
        path.unlink(missing_ok=True)
        request = _request(path.stem, body, now_ms)
        if request is not None:
            requests.append(request)
    for old in box.glob("*.answer"):  # nobody waits for it any more
        posted = old.stem.partition("-")[0]
        if not posted.isdecimal() or now_ms - int(posted) > 10 * LIFETIME_SECONDS * 1000:
            old.unlink(missing_ok=True)
    return requests


def answer(folder: Path, request: Request, result: Mapping[str, Any]) -> None:
    """Tell the person what became of a command; an ``error`` in ``result`` means it was refused."""
    body = {"accepted": "error" not in result, **redacted(dict(result))}
    with atomic_write(folder / FOLDER / f"{request.id}.answer") as stream:
        stream.write(json.dumps(body, default=str).encode())


def _request(identifier: str, body: Any, now_ms: int) -> Request | None:
    if not isinstance(body, dict) or body.get("name") not in COMMANDS:
        return None
    posted, options = body.get("posted_ms"), body.get("options", {})
    if not isinstance(posted, int) or abs(now_ms - posted) > LIFETIME_SECONDS * 1000:
        return None
    try:
        reason = check_reason(str(body.get("reason", "")))
    except ValueError:
        return None
    by = str(body.get("by", ""))[:64]
    return Request(identifier, body["name"], reason, by, options if type(options) is dict else {})


def user() -> str:
    """Who gives a command, for the journal."""
    return f"{os.environ.get('USER', '')}#{os.getuid()}".lstrip("#")
