"""What the mechanics may be told: behaviour switches, costs and the terms of the account."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

Array = jax.Array

_CHOICES = {
    "fill_at": ("close", "next_open"),
    "slippage_side": ("adverse", "symmetric"),
    "nan_prices": ("error", "repair"),
    "partial_bars": ("drop", "keep"),
}


@dataclasses.dataclass(frozen=True)
class Rules:
    """Behaviour switches; static, hashable, the same offline and live.

    Attributes:
      fill_at: price of an order decided on bar n: ``"close"`` of bar n, or ``"next_open"``, the
        open of bar n + 1.
      slippage_side: ``"adverse"``: the draw always worsens the price; ``"symmetric"``: the
        multiplier is uniform in [1 - s, 1 + s).
      exit_slippage: stop and liquidation fills pay spread and slippage.
      target_first_on_gap: a bar that opens at or past the target exits there before the stop is
        looked at; False: stop first, always.
      partial_increase: an unaffordable fractional increase is cut to what free cash pays; False:
        refused whole.
      retry_refused: the same-level latch ignores refused trades, so that they are tried again.
      nan_prices: NaN price fields in the input rows are an ``"error"`` or are ``"repair"``-ed.
      partial_bars: bars at the two ends of the data that rows do not cover fully are ``"drop"``-ped
        or ``"keep"``-t as if complete.
    """

    fill_at: str = "close"
    slippage_side: str = "adverse"
    exit_slippage: bool = True
    target_first_on_gap: bool = True
    partial_increase: bool = True
    retry_refused: bool = True
    nan_prices: str = "error"
    partial_bars: str = "drop"

    def __post_init__(self) -> None:
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if value not in choices:
                raise ValueError(f"rules.{field}: must be one of {choices}; got {value!r}.")

    @classmethod
    def reference(cls) -> Rules:
        """How the recorded reference trajectories behave (docs/semantics.md, "Rules")."""
        return cls(
            slippage_side="symmetric",
            exit_slippage=False,
            target_first_on_gap=False,
            partial_increase=False,
            retry_refused=False,
            nan_prices="repair",
            partial_bars="keep",
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Costs:
    """Fractions of the traded price or notional; leaves [...] in the account's dtype."""

    fee: Array
    half_spread: Array
    slippage: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Terms:
    """Terms of the margin account.

    Attributes:
      leverage: [...] >= 1; 1 is spot.
      initial_rate: [...] 1 / leverage, fraction of the entry notional posted as margin.
      maintenance_rate: [...] fraction of the entry notional that must remain before liquidation.
      unit: 1; see `core.fusion.fence`.
      spot: static; True when the account trades without leverage, shorts and liquidation.
    """

    leverage: Array
    initial_rate: Array
    maintenance_rate: Array
    unit: Array
    spot: bool = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(
        cls,
        leverage: Array,
        maintenance_margin_rate: Array,
        margin_call_threshold: Array,
        unit: Array,
        *,
        spot: bool,
    ) -> Terms:
        """Terms in which a margin-call threshold (NaN = none) replaces the maintenance rate.

        A threshold t asks for liquidation at (margin + unrealised) / margin = t, which is a
        maintenance rate of t / leverage (docs/semantics.md, "Liquidation").
        """
        rate = jnp.where(
            jnp.isnan(margin_call_threshold),
            maintenance_margin_rate,
            margin_call_threshold / leverage,
        )
        return cls(
            leverage=leverage,
            initial_rate=1 / leverage,
            maintenance_rate=rate,
            unit=unit,
            spot=spot,
        )


def slack(dtype: jnp.dtype) -> float:
    """Relative slack for "can be paid" and "is wiped out": max(1e-9, 8 eps of the dtype)."""
    return max(1e-9, 8 * float(jnp.finfo(dtype).eps))


def order_price(base: Array, side: Array, draw: Array, costs: Costs, rules: Rules) -> Array:
    """Price an order executes at (docs/semantics.md, "Order price").

    Args:
      base: [...] un-slipped price.
      side: [...] +1 buys, -1 sells, 0 leaves an adverse price unslipped.
      draw: [...] the step's uniform draw in [0, 1).
    """
    if rules.slippage_side == "adverse":
        return base * (1 + side * (costs.half_spread + costs.slippage * draw))
    return base * (1 + costs.slippage * (2 * draw - 1) + side * costs.half_spread)
