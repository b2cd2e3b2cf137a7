"""The reward of a decision that is resolved at once: the sum over the bars that it is held for."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxtrade import rewards
from jaxtrade.core import account as accounts
from jaxtrade.core import exits
from jaxtrade.core.account import Account
from jaxtrade.core.exits import Exit
from jaxtrade.core.rules import Terms
from jaxtrade.envs.state import EnvParams, EnvState
from jaxtrade.market.windows import close_price

Array = jax.Array


class Ending(NamedTuple):
    """How the bars of an episode end, for its reward; leaves ().

    Attributes:
      first, last: int32, the bars that pass. paid: funding before the last of them.
      filled: bool, the order executed. exit, equity, wiped: of the last bar.
    """

    first: Array
    last: Array
    paid: Array
    filled: Array
    exit: Exit
    equity: Array
    wiped: Array


def total_reward(
    reward: rewards.Reward,
    state: EnvState,
    opened: Account,
    found: Ending,
    terms: Terms,
    params: EnvParams,
) -> tuple[Array, Any]:
    """Sum of the rewards of the bars after ``state`` up to the last, and the carry after it.

    Args:
      state: of the decision. opened: the account right after its order.
    """
    market = params.market
    first, last = found.first, found.last
    before = accounts.equity(state.account, state.price, terms)

    def pay(carry: Any, bar: Array, worths: tuple[Array, Array], until: Array) -> Any:
        """Reward and carry of the step that ends at ``bar`` or of a stretch until there."""
        is_last = bar == last
        exited = is_last & (found.exit.kind != exits.NO_EXIT)
        x = rewards.RewardInput(
            equity_before=worths[0],
            equity_after=worths[1],
            initial_equity=state.initial_equity,
            price_before=close_price(market, until),
            price_after=close_price(market, bar),
            quantity=opened.quantity,
            filled=((bar == first) & found.filled) | exited,
            action_changed=jnp.zeros((), bool),
            wiped=is_last & found.wiped,
        )
        return reward.update(carry, x, params)

    if reward.telescopes:
        # All bars but the last as one stretch: only the last may exit or wipe out.
        at_risk = dataclasses.replace(opened, cash=opened.cash - found.paid)
        worth = accounts.equity(at_risk, close_price(market, last - 1), terms)
        worth = jnp.where(last == first, before, worth)
        stretch, carry = pay(state.reward_carry, last - 1, (before, worth), state.bar)
        final, carry = pay(carry, last, (worth, found.equity), last - 1)
        return final + jnp.where(last == first, 0, stretch), carry

    def step(loop: tuple[Array, Any, Array, Array, Array]) -> Any:
        bar, carry, worth, paid, total = loop
        price = close_price(market, bar)
        if market.funding is not None:
            paid = paid + opened.quantity * price * market.funding[bar]
        at_risk = dataclasses.replace(opened, cash=opened.cash - paid)
        after = jnp.where(bar == last, found.equity, accounts.equity(at_risk, price, terms))
        value, carry = pay(carry, bar, (worth, after), bar - 1)
        return bar + 1, carry, after, paid, total + value

    zero = jnp.zeros_like(before)
    _, carry, _, _, total = jax.lax.while_loop(
        lambda loop: loop[0] <= last, step, (first, state.reward_carry, before, zero, zero)
    )
    return total, carry
