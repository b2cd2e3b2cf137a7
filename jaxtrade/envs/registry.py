"""Environments by name, here and in gymnax's registry."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnax

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.bracket import SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig
from jaxtrade.envs.config import TradingEnvConfig
from jaxtrade.envs.onestep import OneStepTradingEnv, OneStepTradingEnvConfig
from jaxtrade.envs.sequential import SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.hints import did_you_mean


@dataclasses.dataclass(frozen=True)
class Entry:
    """One registered environment: its class, its configuration class and its gymnax id."""

    env: type[TradingEnv[Any]]
    config: type[TradingEnvConfig]
    gymnax_id: str


REGISTRY: dict[str, Entry] = {
    "SequentialTradingEnv": Entry(
        SequentialTradingEnv, SequentialTradingEnvConfig, "jaxtrade/Sequential-v0"
    ),
    "SequentialTradingEnvSLTP": Entry(
        SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig, "jaxtrade/SequentialSLTP-v0"
    ),
    "OneStepTradingEnv": Entry(OneStepTradingEnv, OneStepTradingEnvConfig, "jaxtrade/OneStep-v0"),
}


def find(name: str) -> Entry:
    """The entry of a registered environment.

    Raises:
      ValueError: for an unknown name, with the nearest known one.
    """
    if name not in REGISTRY:
        hint = f" {did_you_mean(name, REGISTRY)}".rstrip()
        raise ValueError(f"make: unknown environment {name!r};{hint} Known: {', '.join(REGISTRY)}.")
    return REGISTRY[name]


def make(name: str, frame: Any, **fields: Any) -> TradingEnv[Any]:
    """Build a registered environment from a frame (or `Market`) and configuration fields.

    Example:
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> make("SequentialTradingEnv", datasets.load("eurusd_1h"), leverage=2).num_actions
      5

    Raises:
      ValueError: for an unknown name, with the nearest known one.
    """
    entry = find(name)
    return entry.env(frame, entry.config(**fields))


def register_all() -> None:
    """Register every environment with gymnax (idempotent); kwargs: ``frame`` and config fields."""
    known = set(gymnax.registered_envs)
    for name, entry in REGISTRY.items():
        if entry.gymnax_id not in known:

            def factory(*, frame: Any, _name: str = name, **fields: Any) -> TradingEnv[Any]:
                return make(_name, frame, **fields)

            gymnax.register(entry.gymnax_id, factory)
