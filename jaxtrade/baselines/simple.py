"""Policies that look at the account at most, and the curve of holding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Policy = Callable[[Mapping[str, Array], Array], Array]

# Column of account_state.
DIRECTION = 1


def constant(action: float) -> Policy:
    """The policy that always takes ``action``, an index or (a float) a number in [-1, 1]."""
    value = action_table(action)[0]

    def policy(observation: Mapping[str, Array], draw: Array) -> Array:
        return jnp.full(observation["account_state"].shape[:-1], value)

    return policy


def always_flat(env: Any) -> Policy:
    """The policy that never holds a position.

    Raises:
      ValueError: the environment has no action for that.
    """
    return constant(action_for(env, 0, "always_flat"))


def always_long(env: Any) -> Policy:
    """The policy that asks for the largest long position on every step; it pays all costs.

    Raises:
      ValueError: the environment has no long action.
    """
    return constant(action_for(env, 1, "always_long"))


def buy_and_hold(env: Any) -> Policy:
    """The policy that buys all it can whenever it holds nothing, and keeps what it holds.

    With brackets this is to buy again after every exit. `holding_equity` is the curve of the
    underlying itself.

    Raises:
      ValueError: the environment has no long action.
    """
    long, short = action_for(env, 1, "buy_and_hold"), env.action_for(-1)
    table = action_table(long if short is None else short, long)

    def policy(observation: Mapping[str, Array], draw: Array) -> Array:
        held_short = observation["account_state"][..., DIRECTION] < 0
        return jnp.where(held_short, table[0], table[1])

    return policy


def random(actions: Any) -> Policy:
    """The policy that picks every action with equal chance, by the draw it is given.

    Args:
      actions: an environment (with continuous actions: uniform in [-1, 1)), or the number of
        actions.
    """
    if getattr(actions, "continuous", False):
        return lambda observation, draw: 2 * jnp.asarray(draw, jnp.float32) - 1
    count = int(getattr(actions, "num_actions", actions))

    def policy(observation: Mapping[str, Array], draw: Array) -> Array:
        scaled = jnp.floor(jnp.asarray(draw) * count).astype(jnp.int32)
        # A draw just below 1 may round up to the number of actions.
        return jnp.minimum(scaled, count - 1)

    return policy


def holding_equity(close: Any, initial: float = 1.0, leverage: float = 1.0) -> np.ndarray:
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


def action_for(env: Any, side: int, name: str) -> int | float:
    """``env.action_for(side)`` for the policy called ``name``.

    Raises:
      ValueError: the environment has no such action.
    """
    action = env.action_for(side)
    if action is None:
        wanted = {1: "a long position", -1: "a short position", 0: "no position"}[side]
        remedy = {1: "a level above 0", -1: "a level below 0", 0: "level 0, hold or close"}[side]
        raise ValueError(
            f"{name}: the environment has no action for {wanted}; configure {remedy}, "
            f"got {env.action_description()}."
        )
    return action


def action_table(*actions: int | float) -> np.ndarray:
    """Actions as an array of the dtype policies return: int32 for indices, float32 for numbers."""
    return np.asarray(actions, np.float32 if isinstance(actions[0], float) else np.int32)
