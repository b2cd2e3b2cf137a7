"""Fixtures of the adapter tests."""

from __future__ import annotations

from tests.adapters.builders import hidden

__all__ = ["hidden"]
