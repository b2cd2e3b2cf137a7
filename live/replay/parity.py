"""Whether a replay came to what jaxtrade's environment comes to, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import jaxtrade
from live.config import ConfigError, LiveConfig
from live.config.environments import BracketEnvConfig
from live.replay.data import ReplayData
from live.replay.money import ReplayTerms, Standing

# Tolerance: a fraction of the initial cash, or of the price or quantity.
_WITHIN = 1e-9
_COMPARED = ("equity", "cash", "quantity", "entry_price")


def threshold_of(config: LiveConfig) -> float:
    """Fraction of the initial equity below which an account is bankrupt; 0 = only at nothing."""
    return config.env.bankrupt_threshold if config.env.done_on_bankruptcy else 0.0


def refuse_incomparable(config: LiveConfig, enforce_risk: bool) -> None:
    """Say which settings jaxtrade's environments do not have."""
    env, usual = config.env, type(config.env).table_fields()
    problems = [
        f"[env] {name}: --check-parity needs {usual[name].default!r}, was {getattr(env, name)!r}"
        for name in ("equity_buffer", "rebalance_tolerance", "min_trade_quote", "allocation")
        if getattr(env, name) != usual[name].default
    ]
    if isinstance(env, BracketEnvConfig) and env.kelly is not None:
        problems.append("[env] kelly: environments size alike whatever was won and lost; remove it")
    if env.shorts == env.spot:
        problems.append("[env] include_short_positions: environments short with any leverage")
    if enforce_risk:
        problems.append("--enforce-risk: environments have no risk gate; leave --check-parity out")
    if problems:
        raise ConfigError(problems)


def first_difference(
    config: LiveConfig,
    frame: Any,
    terms: ReplayTerms,
    bars: ReplayData,
    *,
    start_ms: int,
    actions: Sequence[Any],
    standings: Sequence[Standing],
) -> str | None:
    """The first step and field where jaxtrade's environment comes to something else, or None."""
    if not all(isinstance(action, int | np.integer) for action in actions):
        return "an action was missing or no index: the environment cannot repeat it"
    # Loaded by name when it is used: the live layer itself stands on no environment.
    traced = jaxtrade.trace(
        _environment(config, frame, terms, bars),
        np.asarray(actions),
        start=start_ms * 1_000_000,
        float64=True,
    )
    expected = traced["equity"].shape[0]
    for row, standing in enumerate(standings):
        if row >= expected:
            return f"step {row}: the environment's episode had ended"
        for name, value in zip(_COMPARED, _numbers(standing), strict=True):
            other = float(traced[name][row])
            scale = terms.initial_cash if name in ("equity", "cash") else max(abs(other), 1e-3)
            if not abs(value - other) <= _WITHIN * scale:
                return f"step {row}, {name}: {value!r} here, {other!r} in the environment"
    return None


def _numbers(standing: Standing) -> tuple[float, ...]:
    return standing.equity, standing.cash, standing.quantity, standing.entry


def _environment(config: LiveConfig, frame: Any, terms: ReplayTerms, bars: ReplayData) -> Any:
    env = config.env
    shared: dict[str, Any] = {
        "time_frames": [one.name for one in bars.spec.time_frames],
        "window_sizes": list(bars.spec.window_sizes),
        "execute_on": bars.spec.execute_on.name,
        "initial_cash": terms.initial_cash,
        "transaction_fee": terms.transaction_fee,
        "half_spread": terms.half_spread,
        "slippage": terms.slippage,
        "leverage": terms.leverage,
        "maintenance_margin_rate": terms.maintenance_margin_rate,
        "bankrupt_threshold": threshold_of(config),
        "random_start": False,
        "rules": terms.rules,
    }
    if not isinstance(env, BracketEnvConfig):
        made = jaxtrade.SequentialTradingEnvConfig(**shared, action_levels=env.levels)
        return jaxtrade.SequentialTradingEnv(frame, made)
    brackets = jaxtrade.SequentialTradingEnvSLTPConfig(
        **shared,
        stoploss_levels=env.stoploss_levels,
        takeprofit_levels=env.takeprofit_levels,
        include_hold_action=env.include_hold_action,
        include_close_action=env.include_close_action,
        lock_position_until_sltp=env.lock_position_until_sltp,
        trade_mode=env.trade_mode,
        position_fraction=env.position_fraction,
        quantity_per_trade=env.quantity_per_trade,
    )
    return jaxtrade.SequentialTradingEnvSLTP(frame, brackets)
