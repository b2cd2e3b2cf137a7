"""Where an isolated position ends: liquidation and bankruptcy price, by the library's formulas."""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from live.exchange.ledger import Holding, Settings
from live.exchange.prices import to_step
from live.types import Instrument


@functools.lru_cache(maxsize=4096)
def isolated_levels(
    holding: Holding, settings: Settings, instrument: Instrument
) -> tuple[Decimal, Decimal]:
    """Liquidation and bankruptcy price of an isolated position, rounded in favour of its margin.

    The formulas are those of `jaxtrade.core.account`.
    """
    levels = _core_levels(
        holding.side,
        float(holding.entry_price),
        float(settings.leverage(holding.side)),
        float(instrument.maintenance_rate),
        float(instrument.taker_fee),
    )
    rounding = ROUND_CEILING if holding.side > 0 else ROUND_FLOOR
    liquidation, bankruptcy = (
        # Twelve digits drop the noise of float64, which would round to the wrong tick.
        to_step(Decimal(f"{level:.12g}"), instrument.tick, rounding)
        for level in levels
    )
    return max(liquidation, Decimal(0)), max(bankruptcy, instrument.tick)


def _core_levels(
    side: int, entry_price: float, leverage: float, maintenance_rate: float, fee: float
) -> tuple[float, float]:
    """Liquidation and bankruptcy price of one unit, in float64."""
    import jax

    with jax.enable_x64(True):
        values = (float(side), entry_price, leverage, maintenance_rate, fee)
        liquidation, bankruptcy = _compiled()(*values)
        return float(liquidation), float(bankruptcy)


@functools.cache
def _compiled() -> Callable[..., tuple[Any, Any]]:
    """The formulas, compiled once: every new position asks for them."""
    import jax
    import jax.numpy as jnp

    from jaxtrade.core import account as core
    from jaxtrade.core.rules import Costs, Terms

    def levels(
        side: Any, entry_price: Any, leverage: Any, maintenance_rate: Any, fee: Any
    ) -> tuple[Any, Any]:
        zero, nan = jnp.zeros(()), jnp.full((), jnp.nan)
        terms = Terms.of(leverage, maintenance_rate, nan, jnp.ones(()), spot=False)
        costs = Costs(fee=fee, half_spread=zero, slippage=zero)
        held = core.Account(
            cash=zero,
            quantity=side,
            entry_price=entry_price,
            held_bars=jnp.ones((), jnp.int32),
            last_level=nan,
            stop_price=zero,
            target_price=zero,
        )
        return core.liquidation_price(held, terms), core.bankruptcy_price(held, costs, terms)

    return jax.jit(levels)
