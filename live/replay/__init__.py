"""The replay venue: recorded bars, a clock that moves when told, fills by ``jaxtrade.core``."""

from live.replay.venue import EndOfDataError, ReplayVenue

__all__ = ["EndOfDataError", "ReplayVenue"]
