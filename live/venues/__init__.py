"""Adapters: one exchange each behind `live.venue.Venue`."""
