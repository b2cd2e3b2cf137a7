"""The steps of a simulated account, compiled on first use: importing this module starts nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxtrade.core import account as accounts
from jaxtrade.core import exits, trade
from jaxtrade.core.account import Account
from jaxtrade.core.rules import Costs, Rules, Terms


@functools.cache
def standing() -> Callable[..., Any]:
    """(account, mark, terms) -> equity, unrealised profit, liquidation price."""
    import jax.numpy as jnp

    def at_mark(account: Account, mark: Any, terms: Terms) -> Any:
        return jnp.stack(
            [
                accounts.equity(account, mark, terms),
                accounts.unrealized(account, mark),
                accounts.liquidation_price(account, terms),
            ]
        )

    return jax.jit(at_mark)


@functools.cache
def traded() -> Callable[..., Any]:
    """(account, numbers of an order, costs, terms, rule of the fill) -> account, fill."""

    def carry_out(
        account: Account, numbers: list[Any], costs: Costs, terms: Terms, fill_at: str
    ) -> Any:
        order = trade.Order(*numbers)
        # An open beyond the liquidation price leaves nothing to trade with.
        blocked = fill_at == "next_open" and exits.liquidated_by(account, order.base, terms)
        return trade.apply(account, order, costs, terms, blocked=blocked)

    return jax.jit(carry_out, static_argnums=4)


@functools.cache
def passed() -> Callable[..., Any]:
    """(account, bar, draw, funding rate, costs, terms, rules) -> account, exit, funding paid."""

    def through_bar(
        account: Account,
        bar: tuple[Any, ...],
        draw: Any,
        rate: Any,
        costs: Costs,
        terms: Terms,
        rules: Rules,
    ) -> Any:
        opening, high, low, close = bar
        after, exit_ = exits.pass_bar(
            account, (opening, high, low, close), draw, costs, terms, rules
        )
        after, paid = accounts.pay_funding(after, close, rate)
        return after, exit_, paid

    return jax.jit(through_bar, static_argnums=6)
