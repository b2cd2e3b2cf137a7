"""Where a daemon is found: its state folder, its journals, its page."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from live.config import load_tables
from live.config.tables import JournalConfig, RunnerConfig, ServerConfig
from live.journal.checking import lock_path
from live.secrets import Tokens

_HTTP_SECONDS = 20.0


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


def ask_page(
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
