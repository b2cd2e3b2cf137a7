"""From a configuration to a daemon: its account, its symbols, limits and deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from decimal import Decimal

from live.clock import Clock
from live.config import LiveConfig
from live.config.environments import ExchangeEnvConfig
from live.journal import Journal
from live.policy import Policy
from live.trading.cash import CashWatch
from live.trading.daemon import Daemon, DaemonConfig
from live.trading.desk import Desk
from live.trading.listing import Listed
from live.trading.meter import Meter
from live.trading.policies import decision_of, policy_of
from live.trading.stewards import Account, Place, steward_of
from live.trading.symbol import SymbolLoop
from live.trading.turns import Turns
from live.venue import Venue

_SETTINGS_AT_ONCE = 10
_SET_UP_AT_ONCE = 4


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


async def set_up_all(venue: Venue, config: LiveConfig) -> dict[str, Listed]:
    """Every symbol of a configuration as `set_up` leaves it, by its name there.

    The first goes alone: what belongs to the whole account it changes for all.

    Raises:
      ValueError: as `set_up`. Of several failures one is raised, when nothing runs any more.
    """
    gate = asyncio.Semaphore(_SET_UP_AT_ONCE)

    async def one(name: str) -> Listed:
        async with gate:
            return await set_up(venue, config.env_of(name))

    first, *others = config.symbols
    listed = [await one(first)]
    tasks = [asyncio.ensure_future(one(name)) for name in others]
    try:
        listed += await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return dict(zip(config.symbols, listed, strict=True))


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
    env, runner, reconcile = config.env, config.runner, config.reconcile
    desk = Desk(
        journal,
        config.risk,
        symbols,
        clock,
        bankrupt_threshold=env.bankrupt_threshold if env.done_on_bankruptcy else None,
        tell=tell,
    )
    gate = asyncio.Semaphore(_SETTINGS_AT_ONCE)
    account = Account(venue, journal, clock, desk, Turns(symbols), gate)
    return Daemon(
        venue,
        _loops_of(config, account, listed, meter_of, wall),
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
        cash=CashWatch(venue, journal, symbols, clock) if runner.mode != "paper" else None,
        wall=wall,
    )


def _loops_of(
    config: LiveConfig,
    account: Account,
    listed: Mapping[str, Listed],
    meter_of: Callable[[str], Meter],
    wall: Callable[[], float],
) -> list[SymbolLoop]:
    """The symbols of an account; they share its policy where that remembers nothing."""
    journal, clock, desk, turns = account.journal, account.clock, account.desk, account.turns
    loops: list[SymbolLoop] = []
    policy: Policy | None = None
    for name, one in listed.items():
        env, meter = config.env_of(name), meter_of(one.instrument.symbol)
        decision = decision_of(env, one.instrument)
        observer, policy = policy_of(config, decision, like=policy)
        steward = steward_of(
            config,
            env,
            account,
            one,
            decision,
            observer,
            meter=meter,
            wall=wall,
            place=Place(len(loops), len(listed)),
        )
        loops.append(
            SymbolLoop(steward, policy, journal, clock, desk, turns=turns, meter=meter, wall=wall)
        )
    return loops
