"""The lock of a journal: one writer at a time, and a witness of how far it had come."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

from live.journal.failures import JournalError, JournalLockedError


class Lock:
    """An exclusive lock of the operating system that ends with the process.

    The file also holds the number of the newest commit and the process that wrote it.
    """

    def __init__(self, path: Path) -> None:
        try:
            import fcntl
        except ImportError:
            raise JournalError("journal: needs file locks of a POSIX system; got none.") from None
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            _, owner = self.read()
            os.close(self._file)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise JournalError(f"journal: cannot lock {path}: {error.strerror}.") from error
            raise JournalLockedError(
                f"journal: {path} is locked by another process ({owner or 'unknown'}); one daemon"
                " per account. Stop that one first, or give this one another account."
            ) from None

    def read(self) -> tuple[int, str]:
        """Number of the newest commit (0 = nothing known) and process id of the last writer."""
        words = os.pread(self._file, 64, 0).decode("ascii", "replace").split()
        number, owner, crc = words if len(words) == 3 else ("", "", "")
        if crc != _crc_text(f"{number} {owner}") or not number.isdecimal():
            return 0, ""
        return int(number), str(int(owner))

    def write(self, number: int) -> None:
        """Remember the newest commit. Not synced: it may lag behind the journal, never lead."""
        text = f"{number:020d} {os.getpid():010d}"
        os.pwrite(self._file, f"{text} {_crc_text(text)}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._file)


def _crc_text(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
