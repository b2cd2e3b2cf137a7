"""Environments for the adapter tests; one object per set of fields, so that programs are shared."""

from __future__ import annotations

import functools
import sys
from typing import Any

import pytest

from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig, make
from jaxtrade.market import Market
from tests.envs.builders import MINUTES, flat_frame, walk

# Opens below everything a long at leverage 5 survives.
CRASH = {"open": 50.0, "low": 50.0, "high": 50.0, "close": 50.0}


@functools.cache
def market() -> Market:
    """120 one-minute bars of a random walk."""
    return Market.from_frame(walk(120, sigma=5e-3), **MINUTES)


@functools.cache
def env_of(name: str = "SequentialTradingEnv", **fields: Any) -> Any:
    """A registered environment on `market`."""
    return make(name, market(), **MINUTES, **fields)


@functools.cache
def crash_env(**fields: Any) -> SequentialTradingEnv:
    """Bars at 100, the one after three transitions a crash; levels (-1, 0, 1) at leverage 5.

    Episodes begin at the first bar and are cut off after six transitions. A long is ruined by the
    third transition, whoever is flat is truncated by the sixth.
    """
    config = SequentialTradingEnvConfig(
        **MINUTES,
        leverage=5,
        action_levels=(-1, 0, 1),
        max_steps=6,
        random_start=False,
        **fields,
    )
    return SequentialTradingEnv(flat_frame(12, bar3=CRASH), config)


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function (package, *modules): the package is not installed, the modules not imported."""

    def hide(package: str, *modules: str) -> None:
        for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, package, None)
        for name in modules:
            monkeypatch.delitem(sys.modules, name, raising=False)

    return hide
