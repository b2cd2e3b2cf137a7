"""Market data: frames in, pytrees out.

``Market``, ``MarketSpec`` and ``stack`` are loaded on first use, so that importing the package
costs nothing and starts no JAX backend.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtrade.market.market import Market
    from jaxtrade.market.spec import MarketSpec
    from jaxtrade.market.stacking import stack

__all__ = ["Market", "MarketSpec", "stack"]
_MODULES = {"Market": "market", "MarketSpec": "spec", "stack": "stacking"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"jaxtrade.market.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
