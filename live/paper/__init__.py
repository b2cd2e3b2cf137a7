"""Paper accounts: the replay account, fed by closed bars as they come."""

from live.paper.venue import PaperVenue

__all__ = ["PaperVenue"]
