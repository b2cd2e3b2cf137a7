"""What can go wrong with a journal.

`JournalError` and its kinds speak of the file; the others of a call that the journal forbids.
"""

from __future__ import annotations


class JournalError(RuntimeError):
    """The journal cannot be opened or written; what was to be recorded must not be sent."""


class JournalLockedError(JournalError):
    """Another process writes this journal."""


class JournalDamagedError(JournalError):
    """The file is not what was written; nothing in it was changed."""


class AlreadyDecidedError(ValueError):
    """The bar of this symbol has its decision."""


class DuplicateIntentError(ValueError):
    """The bar of this symbol has its entry."""


class AlreadySentError(ValueError):
    """An intent is sent once, whatever became of it."""


class UnknownIntentError(LookupError):
    """No intent of the journal has this client id."""
