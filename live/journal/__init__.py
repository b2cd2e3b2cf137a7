"""The journal: everything that was wanted, sent and filled, durable before it happens."""

from live.journal.failures import (
    AlreadyDecidedError,
    AlreadySentError,
    DuplicateIntentError,
    JournalDamagedError,
    JournalError,
    JournalLockedError,
    UnknownIntentError,
)
from live.journal.journal import Journal

__all__ = [
    "AlreadyDecidedError",
    "AlreadySentError",
    "DuplicateIntentError",
    "Journal",
    "JournalDamagedError",
    "JournalError",
    "JournalLockedError",
    "UnknownIntentError",
]
