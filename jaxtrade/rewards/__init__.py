"""Rewards: what a step is worth to the learner, as pure pairs ``(init, update)``.

``init(params) -> carry`` starts an episode, ``update(carry, x, params) -> (reward, carry)`` scores
one step from a `RewardInput`. Every function here named after a reward (`log_return`, `sharpe`,
...) builds such a pair from its parameters; `resolve` turns what a configuration says (a name, a
dict of weights, a pair) into one.

The dtype of a reward is that of ``x.equity_before``; the carry is typed like ``params.cash_low``.
All of it runs under ``jit``, ``vmap`` and ``lax.scan``, in float32 and float64. Divisors and the
arguments of roots and logarithms are made safe before they are used, so that neither a value nor a
gradient becomes NaN or infinite. Definitions: docs/semantics.md, "Rewards".
"""

from jaxtrade.rewards.configuration import NAMES, resolve, weighted_sum
from jaxtrade.rewards.money import (
    activity,
    drawdown,
    drawdown_penalty,
    log_return,
    pnl,
    position_return,
    simple_return,
)
from jaxtrade.rewards.parts import Reward, RewardInput, RewardParams
from jaxtrade.rewards.ratios import (
    differential_sharpe,
    differential_sortino,
    risk_adjusted,
    sharpe,
    sharpe_change,
    sortino,
    sortino_change,
)

__all__ = [
    "NAMES",
    "Reward",
    "RewardInput",
    "RewardParams",
    "activity",
    "differential_sharpe",
    "differential_sortino",
    "drawdown",
    "drawdown_penalty",
    "log_return",
    "pnl",
    "position_return",
    "resolve",
    "risk_adjusted",
    "sharpe",
    "sharpe_change",
    "simple_return",
    "sortino",
    "sortino_change",
    "weighted_sum",
]
