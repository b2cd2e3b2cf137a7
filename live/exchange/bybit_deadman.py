"""Bybit's name for the dead man's timer: disconnected-cancel-all, of derivatives alone."""

from __future__ import annotations

from live.exchange.bybit_rows import Row
from live.exchange.bybit_wire import Params
from live.exchange.engine import Engine

PRODUCT = "DERIVATIVES"
# Of the private stream; it says nothing, and who has it is waited for when gone.
TOPIC = "dcp.future"


def set_window(engine: Engine, params: Params) -> Row:
    """order/disconnected-cancel-all: how long the socket may be gone, seconds."""
    if params.text("product", "OPTIONS") != PRODUCT:
        raise params.error("product invalid: this exchange has derivatives only")
    seconds = params.whole("timeWindow", 0)
    if not 3 <= seconds <= 300:
        raise params.error("timeWindow invalid")
    engine.deadman.seconds = seconds
    return {}


def info(engine: Engine, params: Params) -> Row:
    """account/query-dcp-info: nothing where it was never set."""
    seconds = engine.deadman.seconds
    row = {"product": PRODUCT, "dcpStatus": "ON", "timeWindow": str(seconds)}
    return {"dcpInfos": [] if seconds is None else [row]}
