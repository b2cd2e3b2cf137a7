"""The end of a daemon: what its shutdown policy asks for, and what remains at the venue."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from live.trading import snapshots
from live.types import Flat, Held, Unknown
from live.venue import Venue

if TYPE_CHECKING:
    from live.trading.daemon import Daemon

_log = logging.getLogger("live.trading.ending")


async def end(daemon: Daemon) -> None:
    """Do as the shutdown policy says, and say what remains at the venue."""
    local = not daemon.venue.capabilities.venue_stops and not daemon.config.allow_local
    if daemon.config.shutdown == "cancel":
        for one in daemon.symbols:
            await one.trader.following.cancel_resting()
    if daemon.config.shutdown == "flatten" or (daemon.config.shutdown == "cancel" and local):
        try:
            async with asyncio.timeout(daemon.config.shutdown_timeout):
                await daemon.flatten("shutdown")
        except TimeoutError:
            _log.error("shutdown: not flat within %g s", daemon.config.shutdown_timeout)
    left = [_remaining(daemon.venue, one.symbol) for one in daemon.symbols]
    for one, text in zip(daemon.symbols, await asyncio.gather(*left), strict=True):
        daemon.journal.event("remains", one.symbol, {"text": text})
        _log.info("%s", text)
        await one.trader.close()


async def _remaining(venue: Venue, symbol: str) -> str:
    match await snapshots.readable_position(venue, symbol):
        case Flat():
            return f"nothing of {symbol} remains at the venue"
        case Held() as held:
            legs = {"stop": held.stop_price, "target": held.target_price}
            told = [f"{name} {price} held by the venue" for name, price in legs.items() if price]
            return f"{held.quantity} {symbol} remain, {' and '.join(told) or 'without a stop'}"
        case Unknown(reason):
            return f"the position of {symbol} is unknown: {reason}"
