"""What a check of the doctor answers, and how it is run so that none ends the others."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

from live.journal.failures import JournalError
from live.secrets import redact
from live.types import UnreadableError
from live.venues.codes import UnreachableError

_log = logging.getLogger("live.operations.doctor")


class Verdict(enum.StrEnum):
    """Outcome of a check, the worst last."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Row:
    """One check.

    Attributes:
      name: of the check within its group. text: what was found. fix: what to do; "" = nothing.
    """

    group: str
    name: str
    verdict: Verdict
    text: str
    fix: str = ""


# What to do where no connection to the venue comes about.
NETWORK = "check the network, or [venue] base_url"
Check = Callable[[], Iterator[Row]]


def worst(rows: Iterable[Row]) -> Verdict:
    """The verdict of the whole."""
    order = list(Verdict)
    return max((row.verdict for row in rows), key=order.index, default=Verdict.OK)


def guarded(group: str, name: str, check: Check) -> list[Row]:
    """The rows of a check; whatever it raises is a row too."""
    rows: list[Row] = []
    try:
        rows.extend(check())
    except Exception as error:  # a check that breaks must not hide what the others find
        rows.append(_broken(group, name, error))
    return rows


async def answered(
    group: str, name: str, check: Callable[[], AsyncIterator[Row]], seconds: float
) -> list[Row]:
    """The rows of a check that asks the venue, within a deadline; whatever it raises is a row."""
    rows: list[Row] = []
    try:
        async with asyncio.timeout(seconds):
            async for row in check():
                rows.append(row)  # noqa: PERF401 - what came before a failure is kept
    except TimeoutError:
        text = f"no answer within {seconds:g} s"
        rows.append(Row(group, name, Verdict.FAIL, text, "look at the network, then try again"))
    except Exception as error:  # as in `guarded`
        rows.append(_broken(group, name, error))
    return rows


def _broken(group: str, name: str, error: Exception) -> Row:
    """What is expected to go wrong says so itself; anything else is a defect of the check."""
    said = redact(" ".join(str(error).split()))
    expected = ValueError | OSError | ImportError | JournalError | UnreadableError
    if isinstance(error, UnreachableError):
        return Row(group, name, Verdict.FAIL, said, NETWORK)
    if isinstance(error, expected):
        return Row(group, name, Verdict.FAIL, said or type(error).__name__)
    _log.error("the check %s of %s broke", name, group, exc_info=error)
    return Row(group, name, Verdict.FAIL, f"the check broke: {type(error).__name__}: {said}")
