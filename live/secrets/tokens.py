"""The tokens that open the operations page."""

from __future__ import annotations

import dataclasses
import os
import secrets as random_bytes
from pathlib import Path

from live.fields import ConfigError
from live.secrets.secret import Secret
from live.secrets.sources import read_file

_BYTES = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Tokens:
    """What opens the operations page: ``read`` shows, ``control`` also acts."""

    read: Secret
    control: Secret

    FILE = "tokens"

    @classmethod
    def of(cls, folder: Path) -> Tokens:
        """The tokens in a state folder, made at the first call.

        Raises:
          ConfigError: the file is readable by others or malformed.
        """
        path = folder / cls.FILE
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                for name in ("READ", "CONTROL"):
                    stream.write(f"{name}={random_bytes.token_hex(_BYTES)}\n")
                stream.flush()
                os.fsync(stream.fileno())
        return cls.read_only(folder)

    @classmethod
    def read_only(cls, folder: Path) -> Tokens:
        """The tokens in a state folder, if it has any.

        Raises:
          ConfigError: the file is readable by others or malformed.
          FileNotFoundError: there are none yet.
        """
        path = folder / cls.FILE
        values = read_file(path)
        if set(values) != {"READ", "CONTROL"}:
            raise ConfigError([f"{path}: expected READ and CONTROL; remove it to make new tokens"])
        return cls(Secret("read token", values["READ"]), Secret("control token", values["CONTROL"]))
