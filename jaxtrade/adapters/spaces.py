"""gymnasium's spaces of an environment, with the bounds that hold whatever the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnax.environments import spaces as gymnax_spaces

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.config import MAX_LEVERAGE


def account_bounds(env: TradingEnv[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest ``account_state``, float32 [6] each; infinite where nothing bounds it.

    They do not depend on data or costs, so that the spaces of a training and of a test range are
    equal (docs/semantics.md, "Account state").
    """
    infinity = np.inf
    spot = env.config.spot
    low = [0, -1, -1 if spot else -infinity, 0, 1, 0]
    high = [infinity, 1, infinity, infinity, MAX_LEVERAGE, 1 if spot else infinity]
    return np.array(low, np.float32), np.array(high, np.float32)


def observation_space(env: TradingEnv[Any]) -> spaces.Space[Any]:
    """The gymnasium space of the environment's observations.

    Wrapped environments keep the bounds they state themselves: the account may be scaled there.
    """
    space = _converted(env.observation_space())
    if type(env).observation_space is not TradingEnv.observation_space:
        return space
    return _bounded(space, *account_bounds(env))


def action_space(env: TradingEnv[Any]) -> spaces.Space[Any]:
    """The gymnasium space of the actions: ``Discrete(A)``, or ``Box(-1, 1, (1,))``."""
    if env.continuous:
        return spaces.Box(-1.0, 1.0, (1,), np.float32)
    return spaces.Discrete(env.num_actions)


def _converted(space: Any) -> spaces.Space[Any]:
    if isinstance(space, gymnax_spaces.Dict):
        return spaces.Dict({name: _converted(part) for name, part in space.spaces.items()})
    if isinstance(space, gymnax_spaces.Box):
        low, high = (np.broadcast_to(np.asarray(x), space.shape) for x in (space.low, space.high))
        return _box(low, high, np.dtype(space.dtype))
    raise ValueError(f"observation_space: expected a Box or a Dict of them; got {space!r}.")


def _bounded(space: spaces.Space[Any], low: np.ndarray, high: np.ndarray) -> spaces.Space[Any]:
    """The space with the bounds of the account put in: its entry, or the end of a flat vector."""
    if isinstance(space, spaces.Dict):
        parts = dict(space.items())
        parts["account_state"] = _bounded(parts["account_state"], low, high)
        return spaces.Dict(parts)
    assert isinstance(space, spaces.Box)
    lowest, highest = space.low.copy(), space.high.copy()
    lowest[-low.size :], highest[-high.size :] = low, high
    return _box(lowest, highest, space.low.dtype)


def _box(low: np.ndarray, high: np.ndarray, dtype: Any) -> spaces.Box:
    return spaces.Box(low.astype(dtype), high.astype(dtype), low.shape, dtype.type)
