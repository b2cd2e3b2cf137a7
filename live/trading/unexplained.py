"""Changes of the account that no order explains: nobody goes on before they are accepted."""

from __future__ import annotations

from live.journal.reading import JournalReader

# Latches whose cause is such a change.
_LATCHES = ("mismatch", "foreign")


def refuse_unexplained(journal: JournalReader) -> None:
    """Refuse to go on while a change has latched that nobody has acknowledged.

    Raises:
      ValueError: it says how many wait.
    """
    waiting = journal.adjustments(acknowledged=False)
    caused = [row.reason for row in journal.latches() if row.reason in _LATCHES]
    if waiting and caused:
        raise ValueError(
            f"resume: refused: {len(waiting)} changes that no order explains wait for `jaxtrade "
            "live acknowledge`"
        )
