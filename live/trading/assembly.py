"""From a configuration to a daemon: its account, its symbols, limits and deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from live.clock import Clock
from live.config import LiveConfig
from live.config.environments import ExchangeEnvConfig
from live.journal import Journal
from live.operations.meter import Meter
from live.orders.followup import FollowConfig
from live.orders.resolution import ResolveConfig
from live.planner.decision import DecisionConfig
from live.policy import Policy
from live.reconcile.reactions import ForeignPolicy
from live.trading.cash import CashWatch
from live.trading.daemon import Daemon, DaemonConfig
from live.trading.desk import Desk
from live.trading.execution import SendTiming
from live.trading.listing import ListingWatch
from live.trading.policies import decision_of, policy_of
from live.trading.progress import SymbolConfig
from live.trading.settings import SettingsWatch
from live.trading.snapshots import ReadTiming
from live.trading.symbol import SymbolLoop
from live.trading.terms import TraderConfig
from live.trading.trader import SymbolTrader
from live.trading.turns import Turns
from live.types import Configured, Instrument
from live.venue import Venue

_LISTING_SECONDS = 60.0
_SETTINGS_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Listed:
    """A symbol that is ready to be traded: how it is listed, and the settings as read back."""

    instrument: Instrument
    settings: Configured


async def set_up(venue: Venue, env: ExchangeEnvConfig) -> Listed:
    """The instrument of a configuration, with leverage and modes set and read back.

    Raises:
      ValueError: it does not trade, or what was read back differs.
    """
    instrument = await venue.instrument(env.symbol)
    settings = await venue.configure(
        instrument.symbol,
        Decimal(str(env.leverage)),
        env.margin_mode,
        env.position_mode,
        account_wide=env.configure_account,
    )
    return Listed(instrument, settings)


def daemon_of(
    config: LiveConfig,
    venue: Venue,
    listed: Mapping[str, Listed],
    journal: Journal,
    clock: Clock,
    *,
    meter_of: Callable[[str], Meter] = lambda symbol: Meter(),
    tell: Callable[[str, str], None] = lambda word, text: None,
    wall: Callable[[], float] = time.monotonic,
) -> Daemon:
    """The daemon of a configuration, around a connected venue and an open journal.

    Args:
      listed: what is traded, by the symbol that the configuration names.
      meter_of: who hears what happens to a symbol. tell: gets what people should hear of, a word
        and a sentence. wall: real seconds, for what is measured.

    Raises:
      ValueError: the policy cannot be loaded or does not fit.
    """
    symbols = [one.instrument.symbol for one in listed.values()]
    desk = Desk(
        journal,
        config.risk,
        symbols,
        clock,
        bankrupt_threshold=(
            config.env.bankrupt_threshold if config.env.done_on_bankruptcy else None
        ),
        tell=tell,
    )
    turns = Turns(symbols)
    # A listing takes requests that orders need: of many symbols each is read more rarely.
    every = max(_LISTING_SECONDS, _LISTING_SECONDS * len(listed) / 10)
    gate = asyncio.Semaphore(_SETTINGS_AT_ONCE)
    loops: list[SymbolLoop] = []
    policy: Policy | None = None
    for name, one in listed.items():
        env, instrument = config.env_of(name), one.instrument
        decision = decision_of(env, instrument)
        observer, policy = policy_of(config, decision, like=policy)
        terms = terms_of(config, env, decision)
        trader = SymbolTrader(venue, journal, clock, instrument, observer, terms, desk, turns=turns)
        loops.append(
            SymbolLoop(
                venue,
                trader,
                journal,
                clock,
                desk,
                policy,
                looks_of(config),
                listing=ListingWatch(
                    venue,
                    instrument,
                    clock,
                    every=every,
                    stale=5 * every,
                    age=every * len(loops) / len(listed),
                ),
                settings=SettingsWatch(
                    venue,
                    instrument.symbol,
                    one.settings,
                    every_bars=config.reconcile.settings_bars,
                    bars=config.reconcile.settings_bars * len(loops) // len(listed),
                    gate=gate,
                ),
                turns=turns,
                meter=meter_of(instrument.symbol),
                wall=wall,
            )
        )
    runner, reconcile = config.runner, config.reconcile
    counted = CashWatch(venue, journal, symbols, clock) if runner.mode != "paper" else None
    return Daemon(
        venue,
        loops,
        journal,
        clock,
        desk,
        DaemonConfig(
            mode=runner.mode,
            bar_delay=runner.bar_delay_seconds,
            # A look reads orders and position together.
            look_every=min(reconcile.orders_seconds, reconcile.position_seconds),
            cash_every=reconcile.balance_seconds,
            shutdown=runner.shutdown_policy,
            shutdown_timeout=runner.shutdown_timeout_seconds,
            allow_local=runner.allow_local,
            max_steps=runner.max_steps,
            state_dir=runner.folder,
        ),
        cash=counted,
        wall=wall,
    )


def terms_of(config: LiveConfig, env: ExchangeEnvConfig, decision: DecisionConfig) -> TraderConfig:
    """Limits and deadlines of one symbol."""
    runner, reconcile = config.runner, config.reconcile
    paper = runner.mode == "paper"
    return TraderConfig(
        decision=decision,
        risk=config.risk,
        reads=ReadTiming(snapshot=runner.snapshot_timeout_seconds),
        sends=SendTiming(
            submit=runner.submit_timeout_seconds + 2,
            entry_ttl=config.intent_ttl_seconds,
            good_clock_ms=config.clock.halt_ms,
            follow=FollowConfig(deadline_ms=int(runner.fill_deadline_seconds * 1000)),
            resolve=ResolveConfig(
                min_rounds=reconcile.absence_min_answers,
                min_spread_ms=int(reconcile.absence_min_seconds * 1000),
                alarm_ms=int(reconcile.unknown_alarm_seconds * 1000),
            ),
        ),
        entry_window=config.bar_deadline_seconds,
        disaster_stop=None if paper else getattr(env, "disaster_stop_fraction", None),
        stop_deadline=runner.stop_deadline_seconds,
    )


def looks_of(config: LiveConfig) -> SymbolConfig:
    """How often and how a symbol is looked after."""
    env, reconcile = config.env, config.reconcile
    return SymbolConfig(
        policy=config.policy_timeout_seconds,
        fills_every=reconcile.fills_seconds,
        foreign=ForeignPolicy(env.foreign_position),
        unreadable=env.observation_failure_policy,
        grace_bars=env.unreadable_grace_bars,
        close_on_start=env.close_position_on_init,
    )
