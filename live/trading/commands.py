"""What an operator may ask of a daemon, by whatever way it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from live.risk import Latch, TradingState

if TYPE_CHECKING:
    from live.trading.daemon import Daemon


async def carry_out(
    daemon: Daemon, name: str, reason: str, *, by: str, options: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Carry out a command: halt, reduce, flatten, stop, resume, acknowledge.

    Args:
      reason: kept in the journal. by: who asks. options: ``reset_baseline`` of resume, ``symbol``
        of acknowledge.

    Raises:
      ValueError: it cannot be carried out; the message says why.
    """
    desk = daemon.desk
    daemon.journal.event("command", None, {"name": name, "by": by, "reason": reason})
    match name:
        case "halt":
            desk.latch(Latch(TradingState.HALTED, "operator", reason))
        case "reduce":
            desk.latch(Latch(TradingState.REDUCING, "operator", reason))
        case "flatten":
            desk.latch(Latch(TradingState.HALTED, "operator", reason))
            return {"flat": await daemon.flatten(reason), "state": desk.state}
        case "stop":
            daemon.stopping.set()
        case "resume":
            reset = bool(options.get("reset_baseline", False))
            cleared = desk.resume(by, reason, reset_baseline=reset)
            daemon.look_now(settings=True)  # what has not gone away halts again at once
            return {"cleared": cleared, "state": desk.state}
        case "acknowledge":
            return {"acknowledged": desk.acknowledge(by, options.get("symbol"))}
        case _:
            raise ValueError(f"command: {name!r} is not known.")
    return {"state": desk.state}
