"""Tests for environments of your own: `check_env`."""

from jaxtrade.testing.conformance import check_env

__all__ = ["check_env"]
