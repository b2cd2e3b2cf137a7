"""Where venue, journal and planner disagree, and what is done about it. Pure."""

from live.reconcile.sightings import Sightings

__all__ = ["Sightings"]
