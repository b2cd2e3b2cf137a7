"""What every reward is made of: the pair, its input, safe arithmetic, the ring of last values."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

Array = jax.Array


class RewardParams(Protocol):
    """What rewards read of the environment's parameters; ``cash_low`` only for its dtype."""

    @property
    def cash_low(self) -> Any:
        """Scalar array."""
        ...

    @property
    def ruin_reward(self) -> Any:
        """Scalar, the reward of a step that leaves nothing."""
        ...

    @property
    def reward_weights(self) -> Any:
        """[parts], the weights of a sum."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RewardInput:
    """What a reward may look at; leaves of shape (), money in quote currency.

    Attributes:
      equity_before, equity_after: at the closes of bar n (before the order) and of bar n + 1.
      initial_equity: of the episode.
      price_before, price_after: closes of bar n and bar n + 1.
      quantity: signed, after the order and through the bar.
      filled: bool, a leg of an order or an exit of the bar executed.
      action_changed: bool, the action differs from the one of the step before; False on the first.
      wiped: bool, no equity is left (within rounding).
    """

    equity_before: Array
    equity_after: Array
    initial_equity: Array
    price_before: Array
    price_after: Array
    quantity: Array
    filled: Array
    action_changed: Array
    wiped: Array


class Reward(NamedTuple):
    """A pure pair.

    Attributes:
      init: ``init(params) -> carry``, any pytree of arrays (``()`` when nothing is remembered).
      update: ``update(carry, x, params) -> (reward, carry)``; the carry keeps structure and dtypes.
      telescopes: the rewards of consecutive steps that wipe nothing out add up to the reward of one
        step from the first equity to the last.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, RewardInput, Any], tuple[Array, Any]]
    telescopes: bool = False


def zero(params: RewardParams) -> Array:
    """Carry of one number that starts at 0."""
    return jnp.zeros((), jnp.result_type(params.cash_low))


def nothing(params: RewardParams) -> tuple[()]:
    """Carry of a reward that remembers nothing."""
    return ()


def divide(numerator: Array, denominator: Array) -> Array:
    """Quotient, 0 where the denominator is not positive."""
    usable = denominator > 0
    return jnp.where(usable, numerator / jnp.where(usable, denominator, 1), 0)


def root(value: Array) -> Array:
    """Square root with gradient 0, not infinity, at 0."""
    usable = value > 0
    return jnp.where(usable, jnp.sqrt(jnp.where(usable, value, 1)), 0)


def clip_ratio(value: Array, limit: float | None) -> Array:
    """The value within ±limit; None = unbounded."""
    return value if limit is None else jnp.clip(value, -limit, limit)


def simple_gain(x: RewardInput) -> Array:
    """Simple return of the step."""
    return divide(x.equity_after - x.equity_before, x.equity_before)


def log_gain(x: RewardInput) -> Array:
    """Log return of the step from the difference of equity; 0 where there is no logarithm."""
    gain = simple_gain(x)
    return jnp.log1p(jnp.where(gain <= -1, 0, gain))


def or_ruin(value: Array, x: RewardInput, params: RewardParams) -> Array:
    """The value, or ``ruin_reward`` when nothing is left: a wipe-out never scores like a hold."""
    ruin = jnp.asarray(params.ruin_reward, value.dtype)
    return jnp.where(x.wiped | (x.equity_after <= 0), ruin, value)


class Ring(NamedTuple):
    """The last values of an episode, in a fixed buffer.

    Attributes:
      values: [window], written round and round.
      pushed: int32, values ever written.
    """

    values: Array
    pushed: Array


def empty_ring(window: int, params: RewardParams) -> Ring:
    """A ring of ``window`` places in the dtype of the account."""
    values = jnp.zeros((window,), jnp.result_type(params.cash_low))
    return Ring(values=values, pushed=jnp.zeros((), jnp.int32))


def push(ring: Ring, value: Array) -> Ring:
    """The ring after the oldest value gave way to this one."""
    # A masked select instead of an indexed write: vmapped, the latter becomes a scatter.
    window = ring.values.shape[0]
    slot = jnp.arange(window, dtype=jnp.int32) == ring.pushed % window
    return Ring(values=jnp.where(slot, value, ring.values), pushed=ring.pushed + 1)


def masked_mean(ring: Ring, values: Array) -> Array:
    """Mean of ``values`` [window] over the places that have been written."""
    window = ring.values.shape[0]
    present = jnp.arange(window, dtype=jnp.int32) < ring.pushed
    size = jnp.clip(ring.pushed, 1, window).astype(values.dtype)
    return jnp.sum(jnp.where(present, values, 0)) / size


def check_window(window: int, smallest: int) -> None:
    """Raise unless ``window`` is a whole number of at least ``smallest``."""
    whole = isinstance(window, numbers.Integral) and not isinstance(window, bool)
    if not whole or window < smallest:
        raise ValueError(f"window: must be a whole number >= {smallest}; got {window}.")


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{field}: must be one of {choices}; got {value!r}.")
