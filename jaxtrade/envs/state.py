"""State and parameters of every environment, and the record of a step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment

from jaxtrade.core.account import Account
from jaxtrade.core.exits import Exit
from jaxtrade.core.trade import Fill
from jaxtrade.market.market import Market

Array = jax.Array


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """One running episode; about 60 bytes. Leaves [...], money in quote currency.

    Attributes:
      time: int32, transitions of this episode. bar: int32, the newest execution bar.
      price: its close, the mark price.
      initial_equity: equity at reset. last_action: the previous step's action, 0 at reset.
      reward_carry: whatever the reward function remembers.
    """

    time: Array
    bar: Array
    price: Array
    account: Account
    initial_equity: Array
    last_action: Array
    reward_carry: Any


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """Everything numeric an environment reads, as traced leaves: sweep any of it with `vmap`.

    Attributes:
      max_steps_in_episode: int32. market: device `Market`.
      fee, half_spread, slippage: fractions. leverage, maintenance_margin_rate: as configured.
      margin_call_threshold: NaN = none. bankrupt_threshold, ruin_reward: as configured.
      cash_low, cash_high: range of the initial cash. reward_weights: [k].
      unit: 1, not to be changed; see `core.fusion.fence`.
    """

    max_steps_in_episode: Array
    market: Market
    fee: Array
    half_spread: Array
    slippage: Array
    leverage: Array
    maintenance_margin_rate: Array
    margin_call_threshold: Array
    bankrupt_threshold: Array
    ruin_reward: Array
    cash_low: Array
    cash_high: Array
    reward_weights: Array
    unit: Array


def record_of(fill: Fill, exit_: Exit, funding: Array, equity: Array) -> dict[str, Array]:
    """The step record (docs/semantics.md, "Records")."""
    return {
        "event": fill.event,
        "fill_price": fill.price,
        "fill_quantity": fill.quantity,
        "exit_kind": exit_.kind,
        "exit_price": exit_.price,
        "exit_fee": exit_.fee,
        "fee": fill.fee + exit_.fee,
        "traded_notional": fill.notional + exit_.notional,
        "cost": fill.cost + exit_.cost + funding,
        "funding": funding,
        "equity": equity,
        "closed_cash": fill.closed_cash,
    }


def where_active(active: Array, new: Any, old: Any) -> Any:
    """``new`` where ``active`` (bool ()), else ``old``; leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, old)
