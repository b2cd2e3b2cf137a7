"""What may be sent and when trading stops: states, the gate, limits, breakers. Pure."""

from live.risk.standing import (
    DISABLEABLE,
    PERMITTED,
    Effect,
    Latch,
    OrderRate,
    RiskConfig,
    Standing,
    TradingState,
    effect,
    worst,
)

__all__ = [
    "DISABLEABLE",
    "PERMITTED",
    "Effect",
    "Latch",
    "OrderRate",
    "RiskConfig",
    "Standing",
    "TradingState",
    "effect",
    "worst",
]
