"""From what a configuration says to one reward: names, weights, a user's own pair."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrade.rewards.money import (
    activity,
    drawdown,
    drawdown_penalty,
    log_return,
    pnl,
    position_return,
    simple_return,
)
from jaxtrade.rewards.parts import Array, Reward, RewardInput, RewardParams
from jaxtrade.rewards.ratios import (
    differential_sharpe,
    differential_sortino,
    risk_adjusted,
    sharpe,
    sharpe_change,
    sortino,
    sortino_change,
)


def weighted_sum(parts: tuple[Reward, ...]) -> Reward:
    """Sum of the parts times ``params.reward_weights`` [len(parts)], which may be traced."""

    def init(params: RewardParams) -> tuple[Any, ...]:
        return tuple(part.init(params) for part in parts)

    def update(
        carry: tuple[Any, ...], x: RewardInput, params: RewardParams
    ) -> tuple[Array, tuple[Any, ...]]:
        total, carries = jnp.zeros_like(x.equity_before), []
        for k, part in enumerate(parts):
            value, part_carry = part.update(carry[k], x, params)
            total = total + jnp.asarray(params.reward_weights)[k].astype(total.dtype) * value
            carries.append(part_carry)
        return total, tuple(carries)

    return Reward(init, update, telescopes=all(part.telescopes for part in parts))


def _typed(init: Callable[[Any], Any], update: Callable[..., Any]) -> Reward:
    """A user's pair with array leaves of fixed dtypes, so that Python numbers in its carry and
    promoted results do not break a ``scan``."""

    def typed_init(params: RewardParams) -> Any:
        def leaf(value: Any) -> Array:
            if isinstance(value, float):
                return jnp.asarray(value, jnp.result_type(params.cash_low))
            if isinstance(value, int) and not isinstance(value, bool):
                return jnp.asarray(value, jnp.int32)
            return jnp.asarray(value)

        return jax.tree.map(leaf, init(params))

    def typed_update(carry: Any, x: RewardInput, params: RewardParams) -> tuple[Array, Any]:
        value, after = update(carry, x, params)
        after = jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), carry, after)
        return jnp.asarray(value, x.equity_before.dtype), after

    return Reward(typed_init, typed_update)


_FACTORIES: dict[str, Callable[..., Reward]] = {
    factory.__name__: factory
    for factory in (
        log_return,
        pnl,
        simple_return,
        sharpe,
        risk_adjusted,
        sortino,
        sharpe_change,
        sortino_change,
        differential_sharpe,
        differential_sortino,
        drawdown_penalty,
        drawdown,
        position_return,
        activity,
    )
}

NAMES = (*_FACTORIES, "composite")


def _composite() -> dict[Any, float]:
    return {"sortino_change": 0.4, pnl(relative=True): 0.3, "activity": 0.2, "drawdown": 0.1}


def _single(reward: Any, periods_per_year: float) -> Reward:
    if isinstance(reward, Reward):
        return _typed(reward.init, reward.update)._replace(telescopes=reward.telescopes)
    pair = isinstance(reward, tuple | list) and len(reward) == 2
    if pair and all(callable(function) for function in reward):
        return _typed(reward[0], reward[1])
    if not isinstance(reward, str):
        raise ValueError(
            f"reward: expected a name, a dict of weights or a pair (init, update); got {reward!r}."
        )
    if reward not in _FACTORIES:
        nearest = difflib.get_close_matches(reward, NAMES, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"reward: unknown {reward!r}; did you mean {nearest!r}? Known: {', '.join(NAMES)}."
        )
    if reward == "sortino":
        return sortino(periods_per_year=periods_per_year)
    return _FACTORIES[reward]()


def _check_weights(weights: Mapping[Any, Any]) -> None:
    values = list(weights.values())
    finite = all(
        isinstance(w, numbers.Real) and not isinstance(w, bool) and math.isfinite(w) for w in values
    )
    if not finite or not any(w != 0 for w in values):
        raise ValueError(
            f"reward: weights must be finite numbers, at least one of them not 0; got {weights}."
        )


def resolve(reward: Any, periods_per_year: float) -> tuple[Reward, tuple[float, ...]]:
    """The pair that a configuration's ``reward`` means, and its default weights.

    Args:
      reward: a name of `NAMES`; a pair (init, update), for instance ``sharpe(window=60)``; or a
        dict of weights whose keys are names or pairs. "composite" within a dict stands for its
        parts, its weight multiplying theirs.
      periods_per_year: execution bars in a year, for rewards with an annual rate.

    Returns: the reward and the weights. A sum reads ``params.reward_weights`` in the order of the
      weights returned; a single reward has the weights ``(1.0,)`` and is not scaled.

    Raises:
      ValueError: unknown name (with the nearest one), weights that are not finite or all 0, or
        something that is none of the three.

    Example:
      >>> resolve({"log_return": 1.0, "drawdown": 0.1}, 8760.0)[1]
      (1.0, 0.1)
    """
    if not isinstance(reward, Mapping):
        if reward != "composite":
            return _single(reward, periods_per_year), (1.0,)
        reward = {"composite": 1.0}
    parts: list[tuple[Reward, Any, float]] = []  # part, key of its weight, share of that weight
    for key in reward:
        shares = _composite() if key == "composite" else {key: 1.0}
        parts += [(_single(part, periods_per_year), key, shares[part]) for part in shares]
    _check_weights(reward)
    weights = tuple(float(reward[key]) * share for _, key, share in parts)
    return weighted_sum(tuple(part for part, _, _ in parts)), weights
