"""Rules by their names, and functions of a user by where they are."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxtrade.hints import did_you_mean
from jaxtrade.market import features as market_features
from live.policy.base import Info, Observation, PolicyTarget

BASELINES = (
    "always_flat",
    "always_long",
    "buy_and_hold",
    "mean_reversion",
    "moving_average_cross",
    "random",
)


class BaselinePolicy:
    """A rule of `jaxtrade.baselines` by its name.

    Args:
      name: one of `BASELINES`. target: what it trades.
      seed: of the rules that draw; a bar's draw depends on nothing else but the bar.
      options: further arguments of the rule.

    Raises:
      ValueError: no rule has this name, or it does not fit the target.
    """

    digest = ""

    def __init__(self, name: str, target: PolicyTarget, *, seed: int = 42, **options: Any) -> None:
        if name not in BASELINES:
            hint = did_you_mean(name, BASELINES) or f"known: {', '.join(BASELINES)}"
            raise ValueError(f"policy: unknown baseline {name!r}; {hint}.")
        from jaxtrade import baselines

        self.name = name
        self._seed = seed
        self._run = jax.jit(getattr(baselines, name)(target, **options))

    def __call__(self, observation: Observation, info: Info) -> int | float:
        """The rule's action; ``info["bar_open_ms"]`` names the bar."""
        draw = np.random.default_rng((self._seed, int(info["bar_open_ms"]))).random()
        batch = {key: np.asarray(part, np.float32)[None] for key, part in observation.items()}
        with jax.enable_x64(False):
            return np.asarray(self._run(batch, np.full(1, draw, np.float32)))[0].item()


class CallablePolicy:
    """A user's function ``(observation, info) -> action``.

    Args:
      function: it, or where it is: ``"module:name"``.

    Raises:
      ValueError: there is no such function.
    """

    digest = ""

    def __init__(self, function: str | Callable[..., Any]) -> None:
        self._function = named_object(function) if isinstance(function, str) else function
        self.name = (
            function if isinstance(function, str) else market_features.name_of(self._function)
        )
        if not callable(self._function):
            raise ValueError(f"policy: {self.name} is not callable.")

    @classmethod
    def made_by(cls, factory: str, target: PolicyTarget) -> CallablePolicy:
        """The policy that ``factory`` (``"module:function"``) makes for a target."""
        policy = cls(named_object(factory)(target))
        policy.name = factory
        return policy

    def __call__(self, observation: Observation, info: Info) -> Any:
        """What the function answers; an array without axes as its number."""
        answer = self._function(observation, info)
        if isinstance(answer, np.generic | np.ndarray | jax.Array) and np.ndim(answer) == 0:
            return np.asarray(answer).item()
        return answer


def named_object(name: str) -> Any:
    """The object at ``"module:name"``.

    Raises:
      ValueError: the name is malformed, the module cannot be found, or it has no such name.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise ValueError(f"policy: expected 'module:name'; got {name!r}.")
    try:
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except ModuleNotFoundError as error:
        raise ValueError(f"policy: {name!r}: {error}.") from error
    except AttributeError as error:
        known: Sequence[str] = dir(importlib.import_module(module))
        hint = did_you_mean(path, known)
        raise ValueError(f"policy: {name!r}: {error}; {hint}".rstrip("; ") + ".") from error
