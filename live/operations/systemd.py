"""What a service manager is told of a daemon: ready, alive, what it does, ending.

The protocol is one datagram of lines to a socket that the manager names in ``NOTIFY_SOCKET``.
Without it nothing is sent. See docs/live.md, "As a service".
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from live.secrets import redact

if TYPE_CHECKING:
    from live.trading.daemon import Daemon

_log = logging.getLogger("live.operations.systemd")

_LONGEST_STATUS = 200
# Of the time after which the manager takes the process for dead.
_WATCHDOG_SHARE = 0.5
_STATUS_SECONDS = 5.0


class Notify:
    """Tells a service manager; call `alive` about once a second.

    A message that cannot be sent is dropped: trading never waits for the manager.

    Args:
      address: of the socket, "@" begins an abstract one; None = nobody listens.
      watchdog_seconds: without a sign of life for so long the manager kills; None = it does not.
      monotonic: seconds.
    """

    def __init__(
        self,
        address: str | None,
        watchdog_seconds: float | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._watchdog = watchdog_seconds
        self._monotonic = monotonic
        self._is_ready = self._is_stopping = False
        self._kicked = self._said_at = float("-inf")
        self._said = ""

    @classmethod
    def of(cls, environ: Mapping[str, str] | None = None) -> Self:
        """What the manager that started this process asks for.

        A socket or a watchdog that is meant for another process is not used.
        """
        variables = os.environ if environ is None else environ
        address = variables.get("NOTIFY_SOCKET") or None
        if address is not None and address[0] not in "/@":
            _log.warning("NOTIFY_SOCKET: expected a path or @name, was %r; not used", address)
            address = None
        microseconds = variables.get("WATCHDOG_USEC", "")
        owner = variables.get("WATCHDOG_PID", "")
        ours = not owner or owner == str(os.getpid())
        wanted = ours and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if wanted else None)

    def alive(self, daemon: Daemon) -> None:
        """The daemon has gone round its loop; the first time means that it is ready."""
        lines, now = [], self._monotonic()
        if not self._is_ready:
            self._is_ready = True
            lines.append("READY=1")
        if self._watchdog is not None and now - self._kicked >= _WATCHDOG_SHARE * self._watchdog:
            self._kicked = now
            lines.append("WATCHDOG=1")
        if now - self._said_at >= _STATUS_SECONDS:
            self._said_at, said = now, _sentence(daemon)
            if said != self._said:
                self._said = said
                lines.append(f"STATUS={said}")
        self._send(lines)

    def stopping(self) -> None:
        """The daemon ends; again is harmless."""
        if not self._is_stopping:
            self._is_stopping = True
            self._send(["STOPPING=1"])

    def _send(self, lines: list[str]) -> None:
        if self._address is None or not lines:
            return
        address = self._address
        name = f"\0{address[1:]}" if address.startswith("@") else address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), name)
        except OSError as error:
            _log.debug("the service manager was not told: %s", error)


def _sentence(daemon: Daemon) -> str:
    """One line for ``systemctl status``: mode, state and why, symbols, positions."""
    positions = [one.progress.seen for one in daemon.symbols]
    held = sum(getattr(seen.position, "quantity", 0) != 0 for seen in positions if seen is not None)
    reasons = ", ".join(daemon.desk.standing.reasons)
    state = f"{daemon.desk.state}{f' ({reasons})' if reasons else ''}"
    symbols = len(daemon.symbols)
    text = f"{daemon.config.mode}, {state}, {symbols} symbols, {held} positions"
    return redact(" ".join(text.split()))[:_LONGEST_STATUS]
