"""A key in memory: it shows its name, never its value."""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn, Self

from live.secrets.redaction import SHORTEST, remember


class Secret:
    """A value that nothing shows: no text, pickle, JSON or copy of it exists but `reveal`'s."""

    __slots__ = ("__value", "name")

    def __init__(self, name: str, value: str) -> None:
        """Keep ``value`` and have it replaced in everything that is written.

        Raises:
          ValueError: it is empty, too short to be a key, or holds blanks or control characters.
        """
        if not isinstance(value, str) or len(value) < SHORTEST:
            raise ValueError(f"{name}: expected a key of at least {SHORTEST} characters")
        if not value.isprintable() or value != value.strip():
            raise ValueError(f"{name}: blanks at its ends or control characters; copy it anew")
        self.name = name
        self.__value = value
        remember(value)

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
