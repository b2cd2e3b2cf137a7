"""Files and folders that belong to one user alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from live.fields import ConfigError


def read_private(path: str | Path) -> str:
    """Text of a file that nobody else may touch.

    Raises:
      ConfigError: it is no plain file, another user's, or not of mode 0600.
      FileNotFoundError: there is none.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe must not hang us
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError([f"{path}: not readable as a plain file ({error.strerror})"]) from None
    try:
        # The checks are made on what was opened, not on what the name points to later.
        problem = _not_private(path, os.fstat(handle))
        if problem:
            raise ConfigError([problem])
        with os.fdopen(handle, encoding="utf-8", closefd=False) as stream:
            return stream.read()
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from None
    finally:
        os.close(handle)


def _not_private(path: str | Path, status: os.stat_result) -> str:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return f"{path}: expected a plain file"
    if status.st_uid != os.getuid():
        return f"{path}: belongs to another user (id {status.st_uid})"
    if mode & 0o177:
        return f"{path}: has mode {mode:04o}, expected 0600; chmod 600 {path}"
    return ""


def private_folder(folder: Path) -> Path:
    """The folder, created for its owner alone.

    Raises:
      ConfigError: it is another user's, or others may enter it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid():
        raise ConfigError([f"{folder}: belongs to another user (id {status.st_uid})"])
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise ConfigError([f"{folder}: has mode {mode:04o}, expected 0700; chmod 700 {folder}"])
    return folder
