"""Rule-based policies and the curve of holding the underlying, to put beside a trained policy.

A policy is a pure function ``(observation, draw) -> action``: the observation with any batch axes
[B], one uniform draw in [0, 1) per decision [B], int32 actions [B]. It may be traced and vmapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Policy = Callable[[Mapping[str, Array], Array], Array]


def constant(action: int) -> Policy:
    """The policy that always takes ``action``."""

    def policy(observation: Mapping[str, Array], draw: Array) -> Array:
        return jnp.full(observation["account_state"].shape[:-1], action, jnp.int32)

    return policy


def always_flat(levels: Sequence[float] | np.ndarray) -> Policy:
    """The policy that never holds a position.

    Args:
      levels: [A], level of each action (``env.levels``).

    Raises:
      ValueError: no level is 0, so that an agent of this environment cannot stay flat.
    """
    values = np.asarray(levels, np.float64)
    if not (values == 0).any():
        raise ValueError(
            f"always_flat: no level is 0 in {values.tolist()}; add 0 to action_levels."
        )
    return constant(int(np.argmax(values == 0)))


def always_long(levels: Sequence[float] | np.ndarray) -> Policy:
    """The policy that always asks for the highest level; it pays the environment's costs.

    Args:
      levels: [A], level of each action (``env.levels``).
    """
    return constant(int(np.argmax(np.asarray(levels, np.float64))))


def random(num_actions: int) -> Policy:
    """The policy that picks every action with equal chance, by the draw it is given."""

    def policy(observation: Mapping[str, Array], draw: Array) -> Array:
        scaled = jnp.floor(jnp.asarray(draw) * num_actions).astype(jnp.int32)
        # A draw just below 1 may round up to the number of actions.
        return jnp.minimum(scaled, num_actions - 1)

    return policy


def buy_and_hold(close: Any, initial: float = 1.0, leverage: float = 1.0) -> np.ndarray:
    """Equity of holding the underlying from the first close on, without costs, float64 [n + 1].

    ``initial * (1 + leverage * (p / p_0 - 1))``; once it reaches 0 it stays there.

    Args:
      close: [n + 1] prices at which the account is marked.
      initial: equity at the first price, quote currency.
    """
    prices = np.asarray(close, np.float64)
    equity = initial * (1 + leverage * (prices / prices[0] - 1))
    ruined = np.maximum.accumulate(equity <= 0)
    return np.where(ruined, 0.0, equity)
