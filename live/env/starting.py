"""How an environment comes to a connected venue and a symbol that is ready to be traded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from live.clock import Clock, SystemClock, synchronise
from live.clock.keeping import keep_time
from live.config import LiveConfig
from live.config.environments import ExchangeEnvConfig
from live.config.tables import RunnerConfig, VenueConfig
from live.env import credentials
from live.env.report import Listener
from live.env.running import Running
from live.fields import ConfigError
from live.journal import Journal
from live.risk import RiskConfig
from live.secrets import Secret
from live.timing import ClockLimits, OffsetEstimator
from live.trading.assembly import set_up
from live.trading.desk import Desk
from live.trading.policies import decision_of, observer_of
from live.trading.stewards import Account, steward_of
from live.venue import Venue
from live.venues.split import SplitVenue


def place_of(
    config: ExchangeEnvConfig, trader: Venue | None, base_url: str | None, stream_url: str | None
) -> VenueConfig:
    """The addresses that were given for the venue of a configuration.

    Raises:
      ConfigError: nothing would use them, they are not this machine's, or real money is meant.
    """
    if base_url is not None or stream_url is not None:
        if trader is not None:
            raise ConfigError(["base_url, stream_url: not used: trader= is what trades"])
        if not config.demo:
            raise ConfigError(
                ["base_url, stream_url: a local exchange server is not real money; remove"]
            )
    return VenueConfig(base_url=base_url, stream_url=stream_url)


async def connected(
    config: ExchangeEnvConfig,
    keys: Mapping[str, str | Secret | None],
    exchange: Callable[[Mapping[str, Secret], Clock], Venue],
    *,
    observer: Venue | None,
    trader: Venue | None,
    clock: Clock | None,
    own_time: bool = False,
) -> tuple[Venue, Clock]:
    """The venue to trade on, connected, and the clock that has its time.

    Args:
      keys: as given. exchange: makes the venue of the configuration, where no trader is given.
      own_time: it is an exchange on this machine, whose time is not compared with the machine's.

    Raises:
      ConfigError: keys are missing, or real money is not confirmed.
    """
    estimator = OffsetEstimator()
    limits = ClockLimits().of_own_time() if own_time else ClockLimits()
    now = clock or getattr(trader, "clock", None) or SystemClock(estimator, limits)
    secrets: dict[str, Secret] = {}
    if trader is None:
        secrets = credentials.keys_of(config, keys)
        trader = exchange(secrets, now)
    venue = trader if observer is None or observer is trader else SplitVenue(observer, trader)
    await venue.connect()
    if isinstance(now, SystemClock) and now is not clock:
        await synchronise(now, estimator, venue.server_time)
    if secrets:
        credentials.confirm(config, (await venue.account()).account_id, secrets)
    return venue, now


async def running_of(
    config: Any,
    venue: Venue,
    clock: Clock,
    *,
    features: Any,
    journal: Journal | None,
    risk: RiskConfig,
    enforce_risk: bool | None,
    bar_delay: float,
    look_every: float,
) -> Running:
    """The account and the symbol of a connected venue, set up and read back.

    Args:
      config: of the environment's venue. The others: see `live.env.ExchangeTradingEnv`.

    Raises:
      ValueError: the symbol does not trade, or settings that were read back differ.
    """
    listed = await set_up(venue, config)
    account = await venue.account()
    if journal is None:
        journal = Journal.open(
            None, account_id=account.account_id, strategy_id="env", now_ms=clock.now_ms
        )
    decision = decision_of(config, listed.instrument)
    replay = hasattr(venue, "advance")
    # An environment lives by the deadlines and intervals of a daemon that nobody has changed.
    mode = "paper" if replay else "demo" if config.demo else "live"
    usual = LiveConfig(env=config, risk=risk, runner=RunnerConfig(mode=mode))
    symbol = listed.instrument.symbol
    threshold = config.bankrupt_threshold if config.done_on_bankruptcy else None
    desk = Desk(journal, risk, (symbol,), clock, bankrupt_threshold=threshold)
    listener = Listener()
    steward = steward_of(
        usual,
        config,
        Account(venue, journal, clock, desk),
        listed,
        decision,
        observer_of(config, decision, features=features, replay=replay),
        meter=listener,
        wall=clock.monotonic,
        enforce_risk=not replay if enforce_risk is None else enforce_risk,
        simulated=replay,
    )
    shared = config, venue, clock, journal, desk
    running = Running(*shared, steward, listener, bar_delay=bar_delay, look_every=look_every)
    if isinstance(clock, SystemClock):
        doubt = steward.examiner.doubt
        keeping = keep_time(clock, venue.server_time, lambda: doubt(settings=False))
        running.keeping = asyncio.ensure_future(keeping)
    return running
