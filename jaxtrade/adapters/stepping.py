"""The compiled functions under the adapters: one episode, or many lanes of episodes.

They are compiled once per environment object, however many adapters stand on it; market and costs
are arguments. Every random number comes from the seed of the call, a uint32.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade.adapters.records import Columns, account_values, step_values

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams

Array = jax.Array

_SEEDS = 2**32


def draw_seed(generator: np.random.Generator) -> np.uint32:
    """The seed of one compiled call, from a generator of gymnasium's kind."""
    return np.uint32(generator.integers(_SEEDS))


def writable(tree: Any) -> Any:
    """The arrays of a pytree as NumPy arrays that their owner may write to."""
    return jax.tree.map(np.array, tree)


def as_actions(env: TradingEnv[Any], actions: Any, count: int | None = None) -> np.ndarray:
    """Actions for a compiled step, int32 or float32: [count], or () without a count.

    Outside the action space they are clamped, or refused where the environment checks.

    Args:
      actions: [count] or [count, 1] (without a count: () or [1]).

    Raises:
      ValueError: for another number of actions, or outside the space with ``check``.
    """
    given = np.asarray(actions)
    shape = () if count is None else (count,)
    if given.shape not in (shape, (*shape, 1)):
        raise ValueError(f"action: expected shape {shape}; got {given.shape}.")
    given = given.reshape(shape)
    if env.check:
        env.check_action(given)
    return given.astype(np.float32 if env.continuous else np.int32)


def _look(env: TradingEnv[Any], state: Any, params: EnvParams) -> tuple[Any, dict[str, Array]]:
    return env.observe(None, state, None, params), account_values(env, state, params)


def _reset_draws(key: Array, shape: tuple[int, ...], params: EnvParams) -> tuple[Array, Array]:
    key_start, key_cash = jax.random.split(key)
    bits = jax.random.bits(key_start, shape, jnp.uint32)
    return bits, jax.random.uniform(key_cash, shape, params.cash_low.dtype)


def _advance(
    env: TradingEnv[Any], state: Any, action: Array, draw: Array, params: EnvParams
) -> tuple[Any, dict[str, Array]]:
    """The state reached and everything about the step, reward and flags among it; all ()."""
    stepped, reward, terminated, record = env.transition(state, action, draw, params)
    values = step_values(env, stepped, record, params)
    flags = {"terminated": terminated, "truncated": env.is_truncated(stepped, params)}
    return stepped, {**values, "reward": reward, **flags}


# One episode.


@partial(jax.jit, static_argnames="env")
def start_one(env: TradingEnv[Any], seed: Array, params: EnvParams) -> tuple[Any, Any, Columns]:
    """A fresh episode: state, observation, `account_values`."""
    state = env.fresh_state(*_reset_draws(jax.random.key(seed), (), params), params)
    observation, values = _look(env, state, params)
    return state, observation, Columns.of(values)


@partial(jax.jit, static_argnames="env")
def start_at(
    env: TradingEnv[Any], state: Any, bar: Array, params: EnvParams
) -> tuple[Any, Any, Columns]:
    """The fresh episode ``state`` begun at ``bar`` (int32) instead, with its cash."""
    state = env.initial_state(bar, state.initial_equity, params)
    observation, values = _look(env, state, params)
    return state, observation, Columns.of(values)


@partial(jax.jit, static_argnames="env")
def restart_one(
    env: TradingEnv[Any], seed: Array, state: Any, params: EnvParams
) -> tuple[Any, Any, Columns]:
    """The episode after ``state``, with what the environment carries over; as `start_one`."""
    draws = _reset_draws(jax.random.key(seed), (), params)
    state = env.restarted(jnp.ones((), bool), state, *draws, params)
    observation, values = _look(env, state, params)
    return state, observation, Columns.of(values)


@partial(jax.jit, static_argnames="env")
def step_one(
    env: TradingEnv[Any], seed: Array, state: Any, action: Array, params: EnvParams
) -> tuple[Any, Any, Columns]:
    """One transition without reset: state, observation, reward, flags and record."""
    draw = jax.random.uniform(jax.random.key(seed), (), params.fee.dtype)
    stepped, values = _advance(env, state, action, draw, params)
    return stepped, env.observe(None, stepped, None, params), Columns.of(values)


# Many lanes.


@partial(jax.jit, static_argnames=("env", "count"))
def start_lanes(
    env: TradingEnv[Any], seed: Array, params: EnvParams, count: int
) -> tuple[Any, Any, Columns]:
    """`start_one` for ``count`` lanes; leading axis [count]."""
    draws = _reset_draws(jax.random.key(seed), (count,), params)
    states = jax.vmap(env.fresh_state, in_axes=(0, 0, None))(*draws, params)
    observation, values = jax.vmap(partial(_look, env), in_axes=(0, None))(states, params)
    return states, observation, Columns.of(values)


@partial(jax.jit, static_argnames="env")
def restart_lanes(
    env: TradingEnv[Any], seed: Array, states: Any, params: EnvParams
) -> tuple[Any, Any, Columns]:
    """`restart_one` for every lane."""
    done = jnp.ones(states.time.shape, bool)
    draws = _reset_draws(jax.random.key(seed), done.shape, params)
    states = jax.vmap(env.restarted, in_axes=(0, 0, 0, 0, None))(done, states, *draws, params)
    observation, values = jax.vmap(partial(_look, env), in_axes=(0, None))(states, params)
    return states, observation, Columns.of(values)


@partial(jax.jit, static_argnames="env")
def step_lanes(
    env: TradingEnv[Any], seed: Array, states: Any, actions: Array, params: EnvParams
) -> tuple[Any, tuple[Any, Any, Columns, Columns]]:
    """One transition of every lane with auto-reset; columns are [k, N].

    Returns: states, and what the host needs: observations (of the next episode where done) and
      those before any reset, the columns of `step_one`, and `account_values` of the states.
    """
    key_step, key_reset = jax.random.split(jax.random.key(seed))
    draws = jax.random.uniform(key_step, actions.shape, params.fee.dtype)

    def lane(state: Any, action: Array, draw: Array, bits: Array, cash_draw: Array) -> Any:
        stepped, values = _advance(env, state, action, draw, params)
        done = values["terminated"] | values["truncated"]
        following = env.restarted(done, stepped, bits, cash_draw, params)
        observation, fresh = _look(env, following, params)
        final_observation = env.observe(None, stepped, None, params)
        return following, observation, final_observation, values, fresh

    following, observation, final_observation, values, fresh = jax.vmap(lane)(
        states, actions, draws, *_reset_draws(key_reset, actions.shape, params)
    )
    return following, (observation, final_observation, Columns.of(values), Columns.of(fresh))
