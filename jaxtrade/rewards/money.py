"""Rewards from returns, money, drawdown, position and activity."""

from __future__ import annotations

import jax.numpy as jnp

from jaxtrade.rewards.parts import (
    Array,
    Reward,
    RewardInput,
    RewardParams,
    Ring,
    check_choice,
    check_window,
    divide,
    empty_ring,
    log_gain,
    nothing,
    or_ruin,
    push,
    zero,
)


def log_return() -> Reward:
    """ln(equity after / equity before); ``ruin_reward`` when wiped out."""

    def update(carry: tuple[()], x: RewardInput, params: RewardParams) -> tuple[Array, tuple[()]]:
        return or_ruin(log_gain(x), x, params), carry

    return Reward(nothing, update, telescopes=True)


def pnl(relative: bool = False) -> Reward:
    """Change of equity in quote currency; ``relative``: as a fraction of the initial equity."""

    def update(carry: tuple[()], x: RewardInput, params: RewardParams) -> tuple[Array, tuple[()]]:
        gain = x.equity_after - x.equity_before
        return (divide(gain, x.initial_equity) if relative else gain), carry

    return Reward(nothing, update, telescopes=True)


def simple_return(window: int = 1) -> Reward:
    """Return over the last ``window`` steps, or since the start while there are fewer."""
    check_window(window, 1)

    def init(params: RewardParams) -> Ring:
        return empty_ring(window, params)

    def update(ring: Ring, x: RewardInput, params: RewardParams) -> tuple[Array, Ring]:
        ring = push(ring, x.equity_before)
        oldest = jnp.where(ring.pushed < window, 0, ring.pushed % window)
        first = jnp.sum(jnp.where(jnp.arange(window) == oldest, ring.values, 0))
        return divide(x.equity_after - first, first), ring

    return Reward(init, update)


def _drawdown(peak: Array, x: RewardInput) -> tuple[Array, Array]:
    """Fraction lost since the episode's highest equity, and that peak."""
    peak = jnp.maximum(peak, jnp.maximum(x.initial_equity, x.equity_after))
    return divide(peak - x.equity_after, peak), peak


def drawdown_penalty(
    base: str = "log_return", coefficient: float = 5.0, threshold: float = 0.1
) -> Reward:
    """``base`` minus ``coefficient`` times the drawdown while that exceeds ``threshold``.

    ``base`` is "log_return" (then ``ruin_reward`` when wiped out) or "pnl" (money; usually with
    coefficient 1 and threshold 0).
    """
    check_choice("base", base, ("log_return", "pnl"))

    def update(peak: Array, x: RewardInput, params: RewardParams) -> tuple[Array, Array]:
        fall, peak = _drawdown(peak, x)
        penalty = jnp.where(fall > threshold, coefficient * fall, 0)
        if base == "pnl":
            return x.equity_after - x.equity_before - penalty, peak
        return or_ruin(log_gain(x) - penalty, x, params), peak

    return Reward(zero, update)


def drawdown() -> Reward:
    """Minus the fraction lost since the highest equity of the episode."""

    def update(peak: Array, x: RewardInput, params: RewardParams) -> tuple[Array, Array]:
        fall, peak = _drawdown(peak, x)
        return -fall, peak

    return Reward(zero, update)


def position_return(
    flat: float = 0.0,
    relative: bool = True,
    trade_penalty: float = 0.0,
    hold_bonus: float = 0.0,
    hold_threshold: float = 0.001,
) -> Reward:
    """Move of the price in the direction held; not the profit of the account.

    Args:
      flat: direction counted when nothing is held.
      relative: the move as a fraction of the price, else in quote currency.
      trade_penalty: subtracted when the action changed.
      hold_bonus: added when it did not and the move is below ``hold_threshold`` (a fraction).
    """

    def update(carry: tuple[()], x: RewardInput, params: RewardParams) -> tuple[Array, tuple[()]]:
        change = x.price_after - x.price_before
        fraction = divide(change, x.price_before)
        direction = jnp.where(x.quantity == 0, flat, jnp.sign(x.quantity))
        value = direction * (fraction if relative else change)
        still = ~x.action_changed & (jnp.abs(fraction) < hold_threshold)
        value = value - jnp.where(x.action_changed, trade_penalty, 0)
        return value + jnp.where(still, hold_bonus, 0), carry

    return Reward(nothing, update)


def activity(bonus: float = 1.0, window: int = 50) -> Reward:
    """``bonus`` for a fill, else a penalty that grows to ``-bonus`` over ``window`` idle steps."""
    check_window(window, 1)

    def init(params: RewardParams) -> Array:
        return jnp.zeros((), jnp.int32)

    def update(idle: Array, x: RewardInput, params: RewardParams) -> tuple[Array, Array]:
        idle = jnp.where(x.filled, 0, idle + 1)
        waited = jnp.minimum(idle.astype(x.equity_before.dtype) / window, 1)
        return jnp.where(x.filled, bonus, -bonus * waited), idle

    return Reward(init, update)
