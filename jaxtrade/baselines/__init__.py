"""Rule-based policies, and the curve of holding the underlying, to put beside a trained policy.

A policy is a pure function ``(observation, draw) -> action``: the observation in mode "dict" with
any batch axes [B], one uniform draw in [0, 1) per decision [B], actions [B] (int32, or float32
where the environment's action is a number). It may be traced and vmapped, and reads nothing but
the observation, so that it serves evaluation, imitation and live trading alike.
"""

from jaxtrade.baselines.indicators import (
    bollinger_bands,
    moving_average,
    relative_strength,
    stochastic_strength,
)
from jaxtrade.baselines.rules import mean_reversion, moving_average_cross
from jaxtrade.baselines.simple import (
    Policy,
    always_flat,
    always_long,
    buy_and_hold,
    constant,
    holding_equity,
    random,
)

__all__ = [
    "Policy",
    "always_flat",
    "always_long",
    "bollinger_bands",
    "buy_and_hold",
    "constant",
    "holding_equity",
    "mean_reversion",
    "moving_average",
    "moving_average_cross",
    "random",
    "relative_strength",
    "stochastic_strength",
]
