"""One-step decisions looked up instead of carried out: with certain costs they never change."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxtrade.envs import EnvParams, EnvState, OneStepTradingEnv

Array = jax.Array


@struct.dataclass(kw_only=True)
class TableParams(EnvParams):
    """Parameters of a one-step environment and what they lead to.

    Attributes:
      outcomes: float32 [T, A], reward of every action at every bar.
    """

    outcomes: Array


class OutcomeTable:
    """A one-step environment whose rewards are read from a table, for learners.

    It has the key-free methods a learner uses, under parameters of `params_of`. Its records are
    empty: how a reward came about is not in the table.

    Args:
      env: the environment, with observations in index form.

    Raises:
      ValueError: outcomes depend on more than bar and action.
    """

    continuous = False

    def __init__(self, env: OneStepTradingEnv) -> None:
        if not isinstance(env, OneStepTradingEnv):
            raise ValueError(
                f'outcomes: "table" needs OneStepTradingEnv, was {type(env).__name__}; use '
                '"simulate"'
            )
        low, high = env.config.cash_range
        if env.config.slippage > 0 or low != high:
            raise ValueError(
                f'outcomes: "table" needs slippage 0 and one initial_cash, was slippage '
                f'{env.config.slippage:g} and cash from {low:g} to {high:g}; use "simulate"'
            )
        self.env = env

    @property
    def num_actions(self) -> int:
        """Number of discrete actions."""
        return self.env.num_actions

    def fresh_state(self, start_bits: Array, cash_draw: Array, params: TableParams) -> EnvState:
        """See `jaxtrade.envs.OneStepTradingEnv`."""
        return self.env.fresh_state(start_bits, cash_draw, params)

    def observe(self, key: Any, state: EnvState, action: Any, params: TableParams) -> Any:
        """See `jaxtrade.envs.OneStepTradingEnv`."""
        return self.env.observe(key, state, action, params)

    def transition(
        self, state: EnvState, action: Array, draw: Array, params: TableParams
    ) -> tuple[EnvState, Array, Array, dict[str, Array]]:
        """The state stays where it decided, one decision older."""
        stepped = dataclasses.replace(state, time=state.time + 1)
        return stepped, params.outcomes[state.bar, action], jnp.ones((), bool), {}

    def is_truncated(self, state: EnvState, params: TableParams) -> Array:
        """Never: an outcome is final."""
        return jnp.zeros((), bool)


def params_of(env: Any, params: EnvParams) -> EnvParams:
    """The parameters a learner on ``env`` takes: those given, with the table if it has one."""
    if not isinstance(env, OutcomeTable):
        return params
    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return TableParams(**fields, outcomes=env.env.outcome_table(params).astype(np.float32))
