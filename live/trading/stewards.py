"""From a configuration to whoever looks after one symbol: terms, intervals, trader and steward."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from live.clock import Clock
from live.config import LiveConfig
from live.config.environments import EnvConfig, ExchangeEnvConfig
from live.journal import Journal
from live.observation import Observer
from live.orders.followup import FollowConfig
from live.orders.resolution import ResolveConfig
from live.planner.decision import DecisionConfig
from live.reconcile.reactions import ForeignPolicy
from live.trading.desk import Desk
from live.trading.listing import Listed, ListingWatch
from live.trading.meter import Meter
from live.trading.progress import SymbolConfig
from live.trading.settings import SettingsWatch
from live.trading.snapshots import ReadTiming
from live.trading.steward import Steward
from live.trading.terms import SendTiming, TraderConfig
from live.trading.trader import SymbolTrader
from live.trading.turns import Turns
from live.venue import Venue

_LISTING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """A connected venue, and what all symbols on it share.

    Attributes:
      turns: exits before entries. settings_gate: how many symbols are asked
        for their settings at once; None = one.
    """

    venue: Venue
    journal: Journal
    clock: Clock
    desk: Desk
    turns: Turns = field(default_factory=lambda: Turns(()))
    settings_gate: asyncio.Semaphore | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The ``number``-th, from 0, ``of`` so many symbols of an account."""

    number: int = 0
    of: int = 1


def steward_of(
    config: LiveConfig,
    env: EnvConfig,
    account: Account,
    listed: Listed,
    decision: DecisionConfig,
    observer: Observer,
    *,
    meter: Meter,
    wall: Callable[[], float],
    place: Place = Place(),
    enforce_risk: bool = True,
    simulated: bool = False,
) -> Steward:
    """Who looks after a symbol that is ready to be traded.

    Args:
      env: of this symbol. decision: what its planner decides by. observer: shows it its bars.
      meter: hears what happens. wall: seconds, for what it is told.
      place: among the symbols, which take turns with what is read rarely.
      enforce_risk: limits act; False: they only report. simulated: see `SymbolConfig`.
    """
    venue, journal, clock, desk = account.venue, account.journal, account.clock, account.desk
    instrument, bars = listed.instrument, config.reconcile.settings_bars
    terms = dataclasses.replace(terms_of(config, env, decision), enforce_risk=enforce_risk)
    # A listing takes requests that orders need: of many symbols each is read more rarely.
    every = max(_LISTING_SECONDS, _LISTING_SECONDS * place.of / 10)
    age = every * place.number / place.of
    return Steward(
        venue,
        SymbolTrader(venue, journal, clock, instrument, observer, terms, desk, turns=account.turns),
        journal,
        clock,
        desk,
        looks_of(config, simulated=simulated),
        listing=ListingWatch(venue, instrument, clock, every=every, stale=5 * every, age=age),
        settings=SettingsWatch(
            venue,
            instrument.symbol,
            listed.settings,
            every_bars=bars,
            bars=bars * place.number // place.of,
            gate=account.settings_gate,
        ),
        meter=meter,
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
            follow=FollowConfig(
                deadline_ms=int(runner.fill_deadline_seconds * 1000),
                # A part has its stop when the order has ended, and that takes a few answers.
                part_ms=int(runner.stop_deadline_seconds * 300),
            ),
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


def looks_of(config: LiveConfig, *, simulated: bool = False) -> SymbolConfig:
    """How often and how a symbol is looked after."""
    env, reconcile = config.env, config.reconcile
    return SymbolConfig(
        policy=config.policy_timeout_seconds,
        fills_every=reconcile.fills_seconds,
        foreign=ForeignPolicy(env.foreign_position),
        unreadable=env.observation_failure_policy,
        grace_bars=env.unreadable_grace_bars,
        close_on_start=env.close_position_on_init,
        simulated=simulated,
    )
