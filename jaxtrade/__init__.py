"""Trading environments in JAX: the market, the account, the environments and their metrics.

Names are loaded on first use. ``import jaxtrade`` is quick and starts no JAX backend, so that a
process may still choose its platform afterwards.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jaxtrade.bundle import Bundle as Bundle
    from jaxtrade.core.rules import Rules as Rules
    from jaxtrade.envs import OneStepTradingEnv as OneStepTradingEnv
    from jaxtrade.envs import OneStepTradingEnvConfig as OneStepTradingEnvConfig
    from jaxtrade.envs import SequentialTradingEnv as SequentialTradingEnv
    from jaxtrade.envs import SequentialTradingEnvConfig as SequentialTradingEnvConfig
    from jaxtrade.envs import SequentialTradingEnvSLTP as SequentialTradingEnvSLTP
    from jaxtrade.envs import SequentialTradingEnvSLTPConfig as SequentialTradingEnvSLTPConfig
    from jaxtrade.envs import VectorizedSequentialTradingEnv as VectorizedSequentialTradingEnv
    from jaxtrade.envs import (
        VectorizedSequentialTradingEnvSLTP as VectorizedSequentialTradingEnvSLTP,
    )
    from jaxtrade.envs.registry import make as make
    from jaxtrade.market import Market as Market
    from jaxtrade.report.figures import render_history as render_history
    from jaxtrade.timeframe import TimeFrame as TimeFrame
    from jaxtrade.tracing import trace as trace

    from . import metrics as metrics
    from . import rewards as rewards

# Public name -> module that defines it.
_EXPORTS = {
    "Bundle": "jaxtrade.bundle",
    "Market": "jaxtrade.market",
    "Rules": "jaxtrade.core.rules",
    "OneStepTradingEnv": "jaxtrade.envs",
    "OneStepTradingEnvConfig": "jaxtrade.envs",
    "SequentialTradingEnv": "jaxtrade.envs",
    "SequentialTradingEnvConfig": "jaxtrade.envs",
    "SequentialTradingEnvSLTP": "jaxtrade.envs",
    "SequentialTradingEnvSLTPConfig": "jaxtrade.envs",
    "TimeFrame": "jaxtrade.timeframe",
    "VectorizedSequentialTradingEnv": "jaxtrade.envs",
    "VectorizedSequentialTradingEnvSLTP": "jaxtrade.envs",
    "make": "jaxtrade.envs.registry",
    "render_history": "jaxtrade.report.figures",
    "trace": "jaxtrade.tracing",
}
# Modules that are reached as attributes, ``jaxtrade.metrics.sharpe_ratio``.
_MODULES = (
    "adapters",
    "baselines",
    "core",
    "envs",
    "market",
    "metrics",
    "report",
    "rewards",
    "testing",
    "tracking",
    "wrappers",
)

__all__ = [*sorted(_EXPORTS), "metrics", "rewards", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(_EXPORTS[name]), name)
        globals()[name] = value  # the next look-up does not come here
        return value
    if name in _MODULES:
        return importlib.import_module(f"jaxtrade.{name}")
    raise AttributeError(f"module 'jaxtrade' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS, *_MODULES})
