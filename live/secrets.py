"""Keys: where they come from, how they are kept, and how they are kept out of everything written.

A `Secret` shows its name, never its value. Every secret that exists is known to the process-wide
`redact`, which logs, exceptions, pages and notifications pass through.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import os
import re
import secrets as random_bytes
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import quote

from live.fields import ConfigError

MASK = "***"
# Shorter text occurs by chance in ordinary words; a key of that length is a mistake anyway.
_SHORTEST = 8
_TOKEN_BYTES = 32


class Redactor:
    """Replaces known values, in the spellings they take in URLs, JSON and headers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def remember(self, value: str) -> None:
        """Replace ``value`` from now on; too short text is ignored."""
        if len(value) < _SHORTEST:
            return
        encoded = base64.b64encode(value.encode()).decode()
        spellings = {
            value,
            quote(value, safe=""),
            quote(value),
            json.dumps(value)[1:-1],
            repr(value)[1:-1],
            encoded,
            encoded.rstrip("="),
            base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
            value.encode().hex(),
        }
        with self._lock:
            self._known |= spellings
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(text) for text in longest_first))

    def text(self, given: str) -> str:
        """``given`` without any known value."""
        pattern = self._pattern
        return given if pattern is None else pattern.sub(MASK, given)


_REDACTOR = Redactor()


def remember(value: str) -> None:
    """Have `redact` replace a value that is not a `Secret`, such as an address with a key in it."""
    _REDACTOR.remember(value)


def redact(text: str) -> str:
    """Text without any secret that this process knows."""
    return _REDACTOR.text(text)


def redacted(value: Any) -> Any:
    """A nested value of dicts, lists and text without any secret, keys included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


class Secret:
    """A value that nothing shows: no text, pickle, JSON or copy of it exists but `reveal`'s."""

    __slots__ = ("__value", "name")

    def __init__(self, name: str, value: str) -> None:
        """Keep ``value`` and have it replaced in everything that is written.

        Raises:
          ValueError: it is empty, too short to be a key, or holds blanks or control characters.
        """
        if not isinstance(value, str) or len(value) < _SHORTEST:
            raise ValueError(f"{name}: expected a key of at least {_SHORTEST} characters")
        if not value.isprintable() or value != value.strip():
            raise ValueError(f"{name}: blanks at its ends or control characters; copy it anew")
        self.name = name
        self.__value = value
        _REDACTOR.remember(value)

    def reveal(self) -> str:
        """The value, for the one call that needs it."""
        return self.__value

    def matches(self, other: str) -> bool:
        """Whether ``other`` is the value, in constant time."""
        return hmac.compare_digest(self.__value.encode(), other.encode("utf-8", "replace"))

    @property
    def fingerprint(self) -> str:
        """``key:`` and the first 8 hex digits of the value's SHA-256."""
        return f"key:{hashlib.sha256(self.__value.encode()).hexdigest()[:8]}"

    def __repr__(self) -> str:
        return f"<secret {self.name}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{self.name}: a secret cannot be pickled")


# Sources ----------------------------------------------------------------------------------------


def read_secrets(
    wanted: Mapping[str, tuple[str, ...]],
    *,
    given: Mapping[str, str | Secret | None] | None = None,
    environ: Mapping[str, str] | None = None,
    file: str | Path | None = None,
) -> dict[str, Secret]:
    """The secrets of a venue: constructor arguments, then the environment, then a file.

    Args:
      wanted: argument -> variables that may hold it. given: argument -> value or None.
      environ: None = of this process. file: KEY=VALUE lines, readable by its owner alone.

    Raises:
      ConfigError: secrets are missing, malformed, or two sources differ; names only.
    """
    variables = os.environ if environ is None else environ
    lines = {} if file is None else read_file(file)
    problems, missing, found = [], [], {}
    for argument, names in wanted.items():
        sources: list[tuple[str, str]] = []
        direct = (given or {}).get(argument)
        if direct is not None:
            value = direct.reveal() if isinstance(direct, Secret) else direct
            sources.append((f"argument {argument}", value))
        sources += [(f"variable {name}", variables[name]) for name in names if variables.get(name)]
        sources += [(f"{file}: {name}", lines[name]) for name in names if name in lines]
        if not sources:
            missing.append(" or ".join(names))
        elif any(value != sources[0][1] for _, value in sources):
            where = ", ".join(source for source, _ in sources)
            problems.append(f"{argument}: its sources differ ({where}); keep one")
        else:
            try:
                found[argument] = Secret(names[0], sources[0][1])
            except ValueError as error:
                problems.append(str(error))
    if missing:
        problems.append(
            f"missing: {', '.join(missing)}; set them in the environment or in a file for "
            "--credentials"
        )
    if problems:
        raise ConfigError(problems)
    return found


def refuse_unused(given: Mapping[str, str | Secret | None], why: str) -> None:
    """Refuse keys where none are used; an empty one counts as given.

    Args:
      given: argument -> value. why: completes "... not used:".

    Raises:
      ConfigError: naming them.
    """
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ConfigError([f"{', '.join(names)}: not used: {why}; remove"])


def read_file(path: str | Path) -> dict[str, str]:
    """KEY=VALUE lines; blank lines and those that start with # are skipped, quotes are taken off.

    Raises:
      ConfigError: others may read or change the file, or a line is malformed (its number alone is
        named).
      FileNotFoundError: there is none.
    """
    text = read_private(path)
    values: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if not separator or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not value:
            problems.append(f"{path}: line {number}: expected NAME=VALUE")
        elif name in values:
            problems.append(f"{path}: line {number}: {name} is given twice")
        else:
            values[name] = value
            _REDACTOR.remember(value)
    if problems:
        raise ConfigError(problems)
    return values


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


# The account ------------------------------------------------------------------------------------


def confirm_account(confirmed: str, account_id: str | None, api_key: Secret) -> None:
    """The second switch of real money: the confirmed account is the one that the keys open.

    Args:
      account_id: as the venue reports it; None = it reports none.

    Raises:
      ConfigError: it is another.
    """
    actual = account_id or api_key.fingerprint
    if confirmed != actual:
        raise ConfigError(
            [f"--confirm-live: the keys open account {actual!r}, confirmed was {confirmed!r}"]
        )


# Tokens of the operations page ------------------------------------------------------------------


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
                    stream.write(f"{name}={random_bytes.token_hex(_TOKEN_BYTES)}\n")
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
