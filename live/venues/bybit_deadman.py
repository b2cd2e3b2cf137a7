"""Bybit's timer for a client that has fallen silent: set, and read back.

It cancels resting orders of derivatives once every private socket that asked to be watched has
been gone for so long. Stop and target of a position are not among them: they go with the position.
The venue has to enable it for an account first, and may need some seconds to heed a new time.
"""

from __future__ import annotations

import logging

from live.types import Ambiguous, Definitive, UnreadableError
from live.venues.bybit_client import BybitClient
from live.venues.bybit_parse import VENUE, Envelope
from live.venues.codes import Operation
from live.venues.rate import Lane

_log = logging.getLogger("live.venues")

PRODUCT = "DERIVATIVES"
# Of the private stream: it says nothing, and a socket that has it is one that is watched.
TOPIC = "dcp.future"
_STATES = {"ON": True, "OFF": False}


async def read_window(client: BybitClient) -> int | None:
    """Seconds of the timer, None where it is off.

    Raises:
      UnreadableError: the venue did not say.
    """
    reply = await client.read("account/query-dcp-info")
    for row in reply.result.rows("dcpInfos"):
        if row.text("product") != PRODUCT:
            continue
        if not row.word("dcpStatus", _STATES):
            return None
        seconds = row.positive("timeWindow")
        if seconds % 1:
            raise row.wrong("timeWindow", "whole seconds")
        return int(seconds)
    return None


async def arm(client: BybitClient, seconds: int) -> None:
    """Set the timer; a venue that then says something else is told of, it may be late.

    Raises:
      ValueError: the venue refused. UnreadableError: nobody knows whether it did.
    """
    what = f"{VENUE}: the dead man's timer of {seconds} s"
    answer = await client.send(
        "order/disconnected-cancel-all",
        Operation.CONFIGURE,
        {"product": PRODUCT, "timeWindow": seconds},
        lane=Lane.NORMAL,
    )
    match answer:
        case Envelope():
            pass
        case Ambiguous(reason=reason):
            raise UnreadableError(f"{what} may be set or not: {reason}.")
        case Definitive(code=code, detail=detail):
            raise ValueError(
                f"{what} was refused (code {code}: {detail}); have it enabled for the account, or "
                "write [risk] deadman_seconds = 0."
            )
    try:
        found = await read_window(client)
    except UnreadableError as error:
        _log.warning("%s was set but could not be read back: %s", what, error)
        return
    if found != seconds:
        shown = "off" if found is None else f"{found} s"
        _log.warning("%s was taken, the venue still says %s; look again later", what, shown)
