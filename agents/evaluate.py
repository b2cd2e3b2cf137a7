"""One deterministic pass over a range: highest-scored action, cost draw 0.5, money in float64.

The pass is one scan of fixed length; what follows the first done is not counted. Several policies
of one kind (seeds, random draws) run side by side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents import members
from agents.networks import ACCOUNT_STATE, ActorCritic
from agents.sac import deterministic
from jaxtrade import baselines
from jaxtrade.envs import (
    OneStepTradingEnv,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
)
from jaxtrade.envs.bracket import BracketTradingEnvConfig
from jaxtrade.market.windows import windows
from jaxtrade.recording import joined, record_steps

Array = jax.Array
Record = dict[str, np.ndarray]
# (variables, observation of one decision, draw) -> action ().
Chooser = Callable[[Any, Mapping[str, Array], Array], Array]

COST_DRAW = 0.5


@dataclasses.dataclass(frozen=True)
class NetworkPolicy:
    """Deterministic choice of a network; variables are those of `variables_of`.

    Attributes:
      continuous: whether the network's first output is the mean of a number instead of logits.
    """

    network: ActorCritic
    continuous: bool = False

    def __call__(self, variables: Any, observation: Mapping[str, Array], draw: Array) -> Array:
        """The action with the highest logit, int32 (), or the number without noise, float32 ()."""
        seen = variables["normalizer"].observation(observation)
        output: Any = self.network.apply({"params": variables["params"]}, seen)[0]
        if self.continuous:
            return deterministic(output)
        return jnp.argmax(output, axis=-1).astype(jnp.int32)


def variables_of(state: Any) -> dict[str, Any]:
    """What `NetworkPolicy` reads of a `TrainState` of K seeds, a leading axis [K] on every leaf."""
    seeds = state.update.shape
    normalizer = jax.tree.map(lambda x: jnp.broadcast_to(x, (*seeds, *x.shape)), state.normalizer)
    return {"params": state.params, "normalizer": normalizer}


@dataclasses.dataclass(frozen=True)
class RulePolicy:
    """A policy of `jaxtrade.baselines` (or any like it) as a chooser without variables."""

    policy: baselines.Policy

    def __call__(self, variables: Any, observation: Mapping[str, Array], draw: Array) -> Array:
        """The rule's action ()."""
        return self.policy(observation, draw)


@dataclasses.dataclass(frozen=True)
class RulePolicies:
    """Several rules in one program; variables are the number of the rule to follow, int32 [K]."""

    policies: tuple[baselines.Policy, ...]

    def __call__(self, variables: Any, observation: Mapping[str, Array], draw: Array) -> Array:
        """The action of rule number ``variables`` ()."""
        return jnp.stack([policy(observation, draw) for policy in self.policies])[variables]


@dataclasses.dataclass(frozen=True, eq=False)
class BundlePolicy:
    """The choice of a `jaxtrade.bundle.Bundle`; runs one policy at a time."""

    bundle: Any

    def __call__(self, variables: Any, observation: Mapping[str, Array], draw: Array) -> Array:
        """The bundle's deterministic action ()."""
        batch = jax.tree.map(lambda part: part[None], dict(observation))
        action: Array = self.bundle.decide(batch)[0]
        return action


def evaluated(env: Any) -> Any:
    """The environment in which a policy of ``env`` is judged: one that goes bar by bar.

    For the one-step environment that is the bracket environment with the same brackets, where a
    position waits for its stop or target; others are judged in themselves.
    """
    if not isinstance(env, OneStepTradingEnv):
        return env
    shared = {
        field.name: getattr(env.config, field.name)
        for field in dataclasses.fields(BracketTradingEnvConfig)
    }
    config = SequentialTradingEnvSLTPConfig(**shared, lock_position_until_sltp=True)
    return SequentialTradingEnvSLTP(env.market, config)


def run(
    env: Any,
    choose: Chooser,
    variables: Any = None,
    *,
    market: Any = None,
    draws: Any = None,
    params: Any = None,
) -> list[Record]:
    """Records of one episode from the first to the last bar of a range, one per policy.

    Args:
      env: trading environment. choose: hashable chooser.
      variables: pytree whose leaves have a leading axis [K], or None for one policy (K = 1).
      market: host market of the range; None = the environment's.
      draws: [K, T] or [T] uniform draws given to the policy (random ones read them); None = 0.5.
      params: float64 parameters over ``market``, whose numbers may have an axis [K] where each
        policy has its own (`agents.members`); None = the environment's.

    Returns: K records in the layout of `jaxtrade.trace`, float64 money, cut at the first done.
    """
    market = env.market if market is None else market
    length = int(market.last) - int(market.first)
    leaves = jax.tree.leaves(variables)
    draws = np.full(length, COST_DRAW) if draws is None else np.asarray(draws)
    draws = np.atleast_2d(draws)
    count = leaves[0].shape[0] if leaves else draws.shape[0]
    if draws.shape not in ((count, length), (1, length)):
        raise ValueError(
            f"draws: expected shape {(count, length)} for {count} policies and {length} steps, "
            f"was {draws.shape}"
        )
    draws = np.broadcast_to(draws, (count, length)).astype(np.float32)
    with jax.enable_x64(True):
        if params is None:
            params = env.params(market, dtype=np.float64)
        members.check(count, params)
        # The whole range is one episode, whatever the length of the training episodes.
        params = params.replace(max_steps_in_episode=jnp.asarray(length, jnp.int32))
        rows = _run(env, choose, variables, params, draws)
        rows = jax.tree.map(np.asarray, rows)
    leverage = np.broadcast_to(np.asarray(params.leverage), count)
    return [
        {
            **joined(env, market, jax.tree.map(lambda x, k=k: x[k], rows)),
            "leverage": leverage[k],
        }
        for k in range(count)
    ]


@partial(jax.jit, static_argnames=("env", "choose"))
def _run(env: Any, choose: Chooser, variables: Any, params: Any, draws: Array) -> Any:
    """Rows of every policy, [K, ...]."""

    def one(variables: Any, draws: Array, params: Any) -> Any:
        def decide(state: Any, draw: Array) -> Array:
            observation = windows(params.market, state.bar)
            observation[ACCOUNT_STATE] = env.account_state(state, params)
            return choose(variables, observation, draw)

        state = env.initial_state(params.market.first, params.cash_low, params)
        costs = jnp.full(draws.shape, COST_DRAW, params.fee.dtype)
        _, first, rows, steps = record_steps(env, params, state, decide, draws, costs)
        return first, rows, steps

    if draws.shape[0] == 1:  # an exported policy cannot be vmapped
        first = jax.tree.map(lambda x: x[0], variables)
        alone = one(first, draws[0], members.select(params, 0))
        return jax.tree.map(lambda x: x[None], alone)
    return jax.vmap(one, in_axes=(0, 0, members.axes(params)))(variables, draws, params)


def hold_record(record: Record) -> Record:
    """The record of buying the underlying once, unlevered and without costs, over the same bars.

    Args:
      record: of any policy that ran to the end of the range.
    """
    equity = baselines.holding_equity(record["close"], float(record["equity"][0]))
    states, steps = equity.shape[0], equity.shape[0] - 1
    zero, nan = np.zeros(steps), np.full(steps, np.nan)
    quantity = np.concatenate([[0.0], np.full(steps, equity[0] / record["close"][0])])
    account_state = np.zeros((states, 6))
    account_state[1:, :2] = 1.0
    account_state[:, 2] = np.where(quantity > 0, record["close"] / record["close"][0] - 1, 0)
    account_state[:, 3] = np.arange(states)
    account_state[:, 4:] = 1.0
    bought = np.where(np.arange(steps) == 0, 1.0, 0.0)
    return {
        "bar_time": record["bar_time"],
        "close": record["close"],
        "cash": np.where(quantity > 0, 0.0, equity),
        "quantity": quantity,
        "entry_price": np.where(quantity > 0, record["close"][0], 0.0),
        "liquidation_price": np.zeros(states),
        "equity": equity,
        "held_bars": np.arange(states, dtype=np.int32),
        "account_state": account_state,
        "reward": np.diff(np.log(np.maximum(equity, 1e-300))),
        "terminated": np.zeros(steps, bool),
        "truncated": np.arange(steps) == steps - 1,
        "event": np.where(bought > 0, 2, 0).astype(np.int32),
        "fill_price": np.where(bought > 0, record["close"][0], np.nan),
        "fill_quantity": np.where(bought > 0, quantity[-1], 0.0),
        "exit_kind": np.zeros(steps, np.int32),
        "exit_price": nan,
        "exit_fee": zero,
        "fee": zero,
        "traded_notional": bought * equity[0],
        "cost": zero,
        "funding": zero,
        "closed_cash": nan,
        "leverage": np.float64(1.0),
    }


def random_draws(seed: int, count: int, market: Any) -> np.ndarray:
    """Uniform draws [count, T] for ``count`` random policies over a range."""
    length = int(market.last) - int(market.first)
    return np.random.default_rng(seed).random((count, length))
