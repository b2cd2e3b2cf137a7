"""From a configuration to what decides: the planner's terms, the observer, the policy."""

from __future__ import annotations

from typing import Any

from jaxtrade.bundle import Bundle
from live.config import LiveConfig
from live.config.environments import BracketEnvConfig, ExchangeEnvConfig, FractionalEnvConfig
from live.observation import Observer
from live.planner.decision import DecisionConfig
from live.policy import (
    BaselinePolicy,
    BundlePolicy,
    CallablePolicy,
    Policy,
    PolicyTarget,
    observer_for,
)
from live.types import Instrument


def decision_of(
    env: FractionalEnvConfig | BracketEnvConfig, instrument: Instrument
) -> DecisionConfig:
    """What the planner decides by; what the configuration leaves open is the venue's."""
    fee = float(instrument.taker_fee) if env.transaction_fee is None else env.transaction_fee
    read = float(instrument.maintenance_rate) or None
    shared: dict[str, Any] = {
        "symbol": instrument.symbol,
        "leverage": env.leverage,
        "fee": fee,
        "maintenance_rate": env.maintenance_rate(read),
        "equity_buffer": env.equity_buffer,
        "rebalance_tolerance": env.rebalance_tolerance,
        "min_trade_quote": env.min_trade_quote,
        "rules": env.rules,
        "shorts": env.shorts,
        "allocation": env.allocation,
        "closes_residue": env.constants.cuts_reduce_only,
    }
    if isinstance(env, BracketEnvConfig):
        return DecisionConfig(
            **shared,
            table=env.action_table,
            trade_mode=env.trade_mode,
            position_fraction=env.position_fraction,
            quantity_per_trade=env.quantity_per_trade,
            lock_position=env.lock_position_until_sltp,
            kelly=env.kelly,
        ).sized_by(())
    return DecisionConfig(**shared, levels=env.levels)


def policy_of(
    config: LiveConfig,
    decision: DecisionConfig,
    *,
    replay: bool = False,
    like: Policy | None = None,
) -> tuple[Observer, Policy]:
    """Who decides, and the observer that shows it what it was trained on.

    Args:
      replay: the account is that of the environments, not a venue's.
      like: of another symbol of the same configuration; what is compiled and remembers nothing
        serves both.

    Raises:
      ValueError: none is configured, or it does not fit.
    """
    env, wanted = config.env, config.policy
    leverage, rate = decision.leverage, decision.maintenance_rate
    if wanted.bundle is not None:
        bundle = like.bundle if isinstance(like, BundlePolicy) else Bundle.load(wanted.bundle)
        observer = observer_for(
            bundle,
            leverage=leverage,
            maintenance_rate=rate,
            replay=replay,
            allocation=decision.allocation,
        )
        _check_observed(observer, env)
        if isinstance(like, BundlePolicy):
            return observer, like
        return observer, BundlePolicy.load(wanted.bundle, _target(observer, decision))
    observer = observer_of(env, decision, replay=replay)
    if isinstance(like, BaselinePolicy):
        return observer, like
    target = _target(observer, decision)
    if wanted.factory is not None:
        return observer, CallablePolicy.made_by(wanted.factory, target)
    if wanted.baseline is not None:
        return observer, BaselinePolicy(wanted.baseline, target, seed=env.seed)
    raise ValueError("[policy]: give a bundle, a factory or a baseline.")


def _check_observed(observer: Observer, env: ExchangeEnvConfig) -> None:
    """Refuse a configuration of other observations than those of a bundle's training."""
    spec = observer.spec
    for name, trained, asked in (
        ("execute_on", spec.execute_on.name, env.execution_frame.name),
        (
            "time_frames",
            [frame.name for frame in spec.time_frames],
            [frame.name for frame in env.frames],
        ),
        ("window_sizes", list(spec.window_sizes), list(env.windows)),
    ):
        if trained != asked:
            raise ValueError(
                f"[env] {name}: the bundle was trained on {trained}, the configuration has "
                f"{asked}; write {trained!r}."
            )


def observer_of(
    env: ExchangeEnvConfig,
    decision: DecisionConfig,
    *,
    features: Any = "default",
    replay: bool = False,
) -> Observer:
    """The observer that a configuration describes.

    Args:
      features: as offline. replay: the account is that of the environments, not a venue's.
    """
    return Observer.create(
        time_frames=[frame.name for frame in env.frames],
        window_sizes=list(env.windows),
        execute_on=env.execution_frame.name,
        features=features,
        leverage=decision.leverage,
        maintenance_rate=decision.maintenance_rate,
        replay=replay,
        allocation=decision.allocation,
        base_features=env.include_base_features,
    )


def _target(observer: Observer, decision: DecisionConfig) -> PolicyTarget:
    return PolicyTarget(
        spec=observer.spec,
        spot=decision.spot,
        levels=decision.levels,
        table=decision.table,
    )
