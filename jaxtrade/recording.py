"""The record of an episode: what is kept of every state and step, and how it becomes arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxtrade.core import account as accounts

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams, EnvState
    from jaxtrade.market.market import Market

Array = jax.Array


def snapshot(env: TradingEnv[Any], state: EnvState, params: EnvParams) -> dict[str, Array]:
    """What a record keeps of one state; see `trace` for names and units."""
    account, terms = state.account, env.terms(env.in_force(state, params))
    close = state.price
    kept = {
        "bar": state.bar,
        "close": close,
        "cash": account.cash,
        "quantity": account.quantity,
        "entry_price": account.entry_price,
        "liquidation_price": accounts.liquidation_price(account, terms),
        "equity": accounts.equity(account, close, terms),
        "held_bars": account.held_bars,
        "account_state": accounts.account_state(account, close, terms),
    }
    if env.has_brackets:
        kept |= {"stop_price": account.stop_price, "target_price": account.target_price}
    return kept


def record_steps(
    env: TradingEnv[Any],
    params: EnvParams,
    state: EnvState,
    choose: Callable[[EnvState, Any], Array],
    inputs: Any,
    draws: Array,
    observe: Callable[[EnvState], Any] = lambda state: {},
) -> tuple[EnvState, Any, Any, Any]:
    """Scan ``env.transition`` without reset over ``inputs`` and keep the record; jit and vmap it.

    Args:
      choose: (state, one row of ``inputs``) -> action.
      inputs: pytree with leading axis [T], or None leaves. draws: [T].
      observe: state -> pytree kept per state besides the snapshot.

    Returns: the final state, row 0 ({snapshot and observe of the initial state}), and per step the
      rows of the states reached and the step records.
    """

    def look(at: EnvState) -> Any:
        return {**snapshot(env, at, params), **observe(at)}

    def step(at: EnvState, x: Any) -> tuple[EnvState, Any]:
        given, draw = x
        action = choose(at, given)
        following, reward, terminated, info = env.transition(at, action, draw, params)
        info = {name: value for name, value in info.items() if name != "equity"}
        flags = {"terminated": terminated, "truncated": env.is_truncated(following, params)}
        return following, (look(following), {"action": action, "reward": reward, **flags, **info})

    final, (rows, steps) = jax.lax.scan(step, state, (inputs, draws))
    return final, look(state), rows, steps


def joined(env: TradingEnv[Any], market: Market, rows: Any) -> dict[str, np.ndarray]:
    """The record of an episode from the rows of `record_steps`, as NumPy arrays.

    Row 0 is joined with the states reached, and everything is cut at the first done.

    Args:
      market: host market that the episode ran on. rows: (row 0, later rows, steps).
    """
    first, later, steps = rows
    done = steps["terminated"] | steps["truncated"]
    length = int(done.argmax()) + 1 if done.any() else done.size
    states = {
        name: np.concatenate([first[name][None], values[:length]]) for name, values in later.items()
    }
    return {
        "bar_time": market.bar_time[states.pop("bar")],
        **states,
        **{name: values[:length] for name, values in steps.items()},
        "leverage": np.float64(env.config.leverage),
    }
