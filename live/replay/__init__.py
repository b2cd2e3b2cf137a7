"""The replay venue: recorded bars, a clock that moves when told, fills by ``jaxtrade.core``."""

from live.replay.tape import EndOfDataError
from live.replay.venue import ReplayVenue

__all__ = ["EndOfDataError", "ReplayVenue"]
