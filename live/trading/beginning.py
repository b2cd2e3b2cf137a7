"""How a life with a symbol begins: what an earlier one left is ended, and everything explained.

Nothing is traded before (docs/live.md, "Journal").
"""

from __future__ import annotations

import asyncio

from live.clock import Clock
from live.reconcile.startup import disagreement
from live.trading.steward import Steward
from live.types import Snapshot, Unknown, UnreadableError


async def take_up(steward: Steward, *, patient: bool) -> None:
    """Finish what the journal has begun and not ended.

    Args:
      patient: an account that cannot be read is waited for.

    Raises:
      UnreadableError: it cannot be read, and nobody waits.
    """
    try:
        # A position that a crash has left bare gets its stop before any question is asked.
        await steward.guard(restore=True)
    except UnreadableError:
        if not patient:
            raise
    await steward.trader.unknowns.settle()
    await steward.examiner.fetch_fills()


async def agree(steward: Steward, clock: Clock, stopping: asyncio.Event | None) -> None:
    """Look until two readings in a row agree: a stale one is no fact.

    Args:
      stopping: ends it; None = nobody waits for an account that cannot be read.

    Raises:
      UnreadableError: the account cannot be read, and nobody waits.
    """
    before: Snapshot | None = None
    while stopping is None or not stopping.is_set():
        looking = steward.look if stopping is None else steward.reconcile
        snapshot = await looking(restore=True)
        match snapshot:
            case None:
                pass
            case Snapshot(position=Unknown(reason)):
                if stopping is None:
                    raise UnreadableError(f"position: {reason}")
            case _:
                if before is not None and disagreement(before, snapshot) is None:
                    return
                before = snapshot
        await clock.sleep(steward.config.second_look)
