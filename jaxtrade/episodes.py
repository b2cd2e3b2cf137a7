"""Replay decisions of the one-step environment, each an episode of its own, as NumPy arrays."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade.core import account as accounts
from jaxtrade.core import trade
from jaxtrade.market.windows import windows

if TYPE_CHECKING:
    from jaxtrade.envs.onestep import OneStepTradingEnv
    from jaxtrade.envs.state import EnvParams, EnvState

Array = jax.Array


def replay(
    env: OneStepTradingEnv,
    params: EnvParams,
    states: EnvState,
    actions: np.ndarray,
    draws: np.ndarray,
    *,
    observations: bool = False,
) -> dict[str, np.ndarray]:
    """What became of each decision; see `jaxtrade.trace`.

    Args:
      states: fresh, leaves [E]. actions: [E]. draws: [E] uniform in [0, 1).
    """
    given = (jnp.asarray(actions), jnp.asarray(draws, params.fee.dtype))
    found = jax.tree.map(np.asarray, _resolved(env, params, states, *given, observations))
    for name in ("ep_start_time", "ep_final_bar_time"):
        found[name] = env.market.bar_time[found[name]]
    return {**found, "ep_action": actions, "leverage": np.asarray(params.leverage, np.float64)}


@partial(jax.jit, static_argnames=("env", "observations"))
def _resolved(
    env: OneStepTradingEnv,
    params: EnvParams,
    states: EnvState,
    actions: Array,
    draws: Array,
    observations: bool,
) -> dict[str, Array]:
    """Arrays [E]; times as numbers of bars."""
    terms = env.terms(params)

    def one(state: EnvState, action: Array, draw: Array) -> dict[str, Array]:
        found = env.resolve(state, action, draw, params)
        opened, final, exit_ = found.opened, found.state.account, found.exit
        seen = windows(params.market, state.bar) if observations else {}
        return {
            "ep_start_time": state.bar,
            "ep_base_price": state.price,
            "ep_initial_portfolio_value": accounts.equity(state.account, state.price, terms),
            "ep_opened": (found.fill.event & trade.OPENED) != 0,
            "ep_refused": (found.fill.event & trade.REFUSED) != 0,
            "ep_exec_price": found.fill.price,
            "ep_open_fee": found.fill.fee,
            "ep_open_balance": opened.cash,
            "ep_open_position_size": opened.quantity,
            "ep_open_liquidation_price": accounts.liquidation_price(opened, terms),
            "ep_open_stop_loss": opened.stop_price,
            "ep_open_take_profit": opened.target_price,
            "ep_exit_kind": exit_.kind,
            "ep_exit_price": exit_.price,
            "ep_exit_fee": exit_.fee,
            "ep_rollout_bars": found.exposed,
            "ep_funding": found.funding,
            "ep_final_bar_time": found.state.bar,
            "ep_final_balance": final.cash,
            "ep_final_position_size": final.quantity,
            "ep_final_entry_price": final.entry_price,
            "ep_final_portfolio_value": found.equity,
            "ep_final_hold_counter": final.held_bars,
            "ep_final_account_state": accounts.account_state(final, found.state.price, terms),
            "ep_reward": found.reward,
            "ep_terminated": found.terminated,
            "ep_truncated": env.is_truncated(found.state, params),
            **seen,
        }

    return jax.vmap(one)(states, actions, draws)
