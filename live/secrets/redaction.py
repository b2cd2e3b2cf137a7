"""What hides secrets in everything written: logs, errors, pages and notifications pass through it.

The secrets are known to the whole process.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

MASK = "***"
# Shorter text occurs by chance in ordinary words; a key of that length is a mistake anyway.
SHORTEST = 8


class Redactor:
    """Replaces known values, in the spellings they take in URLs, JSON and headers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def remember(self, value: str) -> None:
        """Replace ``value`` from now on; too short text is ignored."""
        if len(value) < SHORTEST:
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
