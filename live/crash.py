"""Points at which a test may kill the process, to prove that a restart loses nothing.

Every durable write and every send passes points before and after itself. They do nothing unless
``JAXTRADE_CRASH_AT`` is set: ``7`` dies at the seventh point that is passed, a name at the first of
that name, ``journal.decide.after:2`` at its second; ``never`` only counts, for `passed`. The
process dies by SIGKILL, so nothing of it gets to clean up.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "JAXTRADE_CRASH_AT"
WRITE_POINTS = ("before", "written", "after")  # of a durable write: around its statements and fsync
SEND_POINTS = ("before", "after")  # of a request to a venue

_setting = os.environ.get(VARIABLE)
_names: set[str] = set()
_passed: list[str] = []


def register(operation: str, points: tuple[str, ...]) -> None:
    """Announce the points ``operation.point`` that a module passes; again is harmless."""
    _names.update(f"{operation}.{word}" for word in points)


def arm(setting: str | None) -> None:
    """Take a setting of ``JAXTRADE_CRASH_AT`` now, and count from here; for a forked process."""
    global _setting
    _setting = setting
    _passed.clear()


def names() -> tuple[str, ...]:
    """Every point that the imported modules announced, sorted."""
    return tuple(sorted(_names))


def passed() -> tuple[str, ...]:
    """The points that this process came by, in order; empty unless the environment asks."""
    return tuple(_passed)


def point(name: str) -> None:
    """Come by a point; the process ends here if the environment says so.

    Raises:
      ValueError: nobody announced the name, so a run over all names would miss it.
    """
    if name not in _names:
        raise ValueError(f"crash point: {name!r} is not registered; announce it with register().")
    if _setting is None:
        return
    _passed.append(name)
    wanted, _, count = _setting.partition(":")
    if wanted.isdecimal():
        hit = len(_passed) == int(wanted)
    else:
        hit = name == wanted and _passed.count(name) == int(count or 1)
    if hit:
        os.kill(os.getpid(), signal.SIGKILL)
