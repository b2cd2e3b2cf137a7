"""From a configuration to a running daemon: the wiring, and nothing that decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import jaxtrade
from jaxtrade.bundle import Bundle
from live.clock import ClockLimits, SystemClock, synchronise
from live.config import LiveConfig, check_modes
from live.config.environments import BracketEnvConfig, ExchangeEnvConfig, FractionalEnvConfig
from live.journal import Journal, JournalError
from live.observation import Observer
from live.observation.bars import duration_ms
from live.operations.meter import Meter, MeteredVenue
from live.operations.metrics import Metrics
from live.operations.notify import Kind
from live.operations.services import TellingMeter, notified, served, teller, timed
from live.orders.followup import FollowConfig
from live.orders.resolution import ResolveConfig
from live.paper import PaperVenue
from live.planner.decision import DecisionConfig
from live.policy import (
    BaselinePolicy,
    BundlePolicy,
    CallablePolicy,
    Policy,
    PolicyTarget,
    observer_for,
)
from live.reconcile.reactions import ForeignPolicy
from live.replay.money import ReplayTerms
from live.risk import Latch, TradingState
from live.secrets import Secret, confirm_account, private_folder
from live.timing import OffsetEstimator
from live.trading.daemon import LOST_JOURNAL, REFUSED, SECOND_SIGNAL, Daemon, DaemonConfig
from live.trading.desk import Desk
from live.trading.execution import SendTiming
from live.trading.snapshots import ReadTiming
from live.trading.trader import SymbolTrader, TraderConfig
from live.types import AccountInfo, Instrument, UnreadableError
from live.venue import Venue
from live.venues.bybit import BybitVenue
from live.venues.rate import RateConfig

_log = logging.getLogger("live.runner")

PAPER_CASH = 10_000.0
_CLOCK_SAMPLES = 5
# Wrappers such as `timeout` send one signal to the process and to its group.
_ONE_SIGNAL_SECONDS = 1.0


async def run(
    config: LiveConfig,
    *,
    secrets: Mapping[str, Secret] | None = None,
    confirm: str | None = None,
) -> int:
    """Trade until told to stop; the exit code of `live.trading.daemon`.

    Args:
      secrets: keys by argument name; none in paper mode. confirm: the second switch of real money.

    Raises:
      ConfigError: mode, account and confirmation do not fit. JournalError: no journal.
    """
    check_modes(config, confirm)
    keys = secrets or {}
    estimator = OffsetEstimator()
    clock = SystemClock(estimator, _limits(config))
    venue: Venue = venue_of(config, keys, clock)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(venue.close)
        try:
            account, instrument = await _prepared(config, venue, clock, estimator)
            if config.runner.mode == "live":
                confirm_account(confirm or "", account.account_id, keys["api_key"])
        except (UnreadableError, ValueError) as error:
            return _refused(error)
        journal = _journal_of(config, account.account_id, clock)
        stack.callback(journal.close)
        notifier = await stack.enter_async_context(notified(config, keys))
        meter = TellingMeter(Metrics(), instrument.symbol, notifier)
        journal.health.told = meter.committed
        try:
            daemon = daemon_of(
                config,
                MeteredVenue(venue, meter),
                instrument,
                journal,
                clock,
                meter=meter,
                tell=teller(notifier),
            )
            await stack.enter_async_context(served(config, daemon, meter))
        except ValueError as error:
            return _refused(error)
        journal.start_run(
            mode=config.runner.mode,
            venue=venue.name,
            symbols=[instrument.symbol],
            config_sha256=config.digest,
            bundle_sha256=daemon.policy.digest or None,
            version=jaxtrade.__version__,
        )
        await stack.enter_async_context(timed(clock, estimator, venue, daemon))
        notifier.send(Kind.START, f"mode {config.runner.mode}, {venue.name}", instrument.symbol)
        code = await _until_told(daemon)
        with contextlib.suppress(JournalError):
            journal.end_run(code)
        notifier.send(Kind.STOP, f"ended with code {code}", instrument.symbol)
        return code


def replay(
    config: LiveConfig, data: Any, *, check_parity: bool = False, enforce_risk: bool = False
) -> dict[str, Any]:
    """See `live.replay.backtest.replay`."""
    from live.replay import backtest

    return backtest.replay(config, data, check_parity=check_parity, enforce_risk=enforce_risk)


def _refused(error: Exception) -> int:
    _log.error("refused to start: %s", error)
    return REFUSED


async def _prepared(
    config: LiveConfig, venue: Venue, clock: SystemClock, estimator: OffsetEstimator
) -> tuple[AccountInfo, Instrument]:
    """Connect, learn the venue's time, whose account it is and what trades, and set it up."""
    await venue.connect()
    await synchronise(clock, estimator, venue.server_time, samples=_CLOCK_SAMPLES)
    account = await venue.account()
    return account, await set_up(venue, config.env)


async def set_up(venue: Venue, env: ExchangeEnvConfig) -> Instrument:
    """The instrument of a configuration, with leverage and modes set and read back.

    Raises:
      ValueError: it does not trade, or what was read back differs.
    """
    instrument = await venue.instrument(env.symbol)
    await venue.configure(
        instrument.symbol,
        Decimal(str(env.leverage)),
        env.margin_mode,
        env.position_mode,
        account_wide=env.configure_account,
    )
    return instrument


def _journal_of(config: LiveConfig, account_id: str, clock: SystemClock) -> Journal:
    folder, given = private_folder(config.runner.folder), config.journal
    return Journal.open(
        given.path or folder / f"{config.runner.mode}-{account_id}.db",
        account_id=account_id,
        strategy_id=config.runner.strategy_id,
        now_ms=clock.now_ms,
        commit_warn_ms=given.commit_warn_ms,
        min_free_mib=given.min_free_mib,
        warn_free_gib=given.warn_free_gib,
    )


def _limits(config: LiveConfig) -> ClockLimits:
    given = config.clock
    return ClockLimits(
        resync_seconds=given.resync_seconds,
        warn_ms=given.warn_ms,
        halt_ms=given.halt_ms,
        suspend_seconds=given.suspend_seconds,
    )


async def _until_told(daemon: Daemon) -> int:
    """The exit code: the daemon's own, that of a second signal, or that of a lost journal."""
    try:
        with _signals(daemon):
            return await daemon.run()
    except BaseExceptionGroup as group:
        lost, others = group.split(JournalError)
        if lost is None or others is not None:
            raise
        _log.critical("the journal cannot be written: %s", lost.exceptions[0])
        return LOST_JOURNAL
    except asyncio.CancelledError:
        if not daemon.stopping.is_set():
            raise
        return SECOND_SIGNAL


def venue_of(config: LiveConfig, keys: Mapping[str, Secret], clock: SystemClock) -> Venue:
    """The venue that a mode trades on."""
    env = config.env
    exchange = BybitVenue(
        keys.get("api_key", ""),
        keys.get("api_secret", ""),
        clock=clock,
        # Paper reads the prices of production, unless a local exchange is named.
        demo=env.demo and config.runner.mode != "paper",
        base_url=config.venue.base_url,
        stream_url=config.venue.stream_url,
        rate=RateConfig(
            reserve_fraction=config.rate.reserve_fraction,
            share_fraction=config.rate.share_fraction,
        ),
    )
    if config.runner.mode != "paper":
        return exchange
    fee = env.constants.taker_fee if env.transaction_fee is None else env.transaction_fee
    terms = ReplayTerms(
        initial_cash=PAPER_CASH,
        transaction_fee=fee,
        leverage=env.leverage,
        maintenance_margin_rate=env.maintenance_rate(),
        rules=env.rules,
    )
    frame = env.execution_frame
    return PaperVenue(
        exchange,
        terms,
        clock,
        frame=frame.name,
        bar_ms=duration_ms(frame),
        folder=private_folder(config.runner.folder),
    )


def daemon_of(
    config: LiveConfig,
    venue: Venue,
    instrument: Instrument,
    journal: Journal,
    clock: Any,
    *,
    meter: Meter | None = None,
    tell: Callable[[str, str], None] = lambda word, text: None,
) -> Daemon:
    """The daemon of a configuration, around a connected venue and an open journal.

    Args:
      meter: hears what happens. tell: gets what people should hear of, a word and a sentence.

    Raises:
      ValueError: the policy cannot be loaded or does not fit.
    """
    decision = decision_of(config.env, instrument)
    observer, policy = policy_of(config, decision)
    desk = Desk(
        journal,
        config.risk,
        bankrupt_threshold=(
            config.env.bankrupt_threshold if config.env.done_on_bankruptcy else None
        ),
        tell=tell,
    )
    runner, reconcile = config.runner, config.reconcile
    paper = runner.mode == "paper"
    disaster = getattr(config.env, "disaster_stop_fraction", None)
    trader = SymbolTrader(
        venue,
        journal,
        clock,
        instrument,
        observer,
        TraderConfig(
            decision=decision,
            risk=config.risk,
            reads=ReadTiming(snapshot=runner.snapshot_timeout_seconds),
            sends=SendTiming(
                submit=runner.submit_timeout_seconds + 2,
                follow=FollowConfig(deadline_ms=int(runner.fill_deadline_seconds * 1000)),
                resolve=ResolveConfig(
                    min_rounds=reconcile.absence_min_answers,
                    min_spread_ms=int(reconcile.absence_min_seconds * 1000),
                    alarm_ms=int(reconcile.unknown_alarm_seconds * 1000),
                ),
            ),
            entry_window=config.bar_deadline_seconds,
            disaster_stop=None if paper else disaster,
            stop_deadline=runner.stop_deadline_seconds,
        ),
        standing=lambda: desk.standing,
        latch=desk.latch,
        filled=lambda fill, cause: daemon.filled(fill, cause),
        alarm=lambda client_id: daemon.overdue(client_id),
    )
    daemon = Daemon(
        venue,
        trader,
        journal,
        clock,
        desk,
        policy,
        DaemonConfig(
            mode=runner.mode,
            bar_delay=runner.bar_delay_seconds,
            policy=config.policy_timeout_seconds,
            orders_every=reconcile.orders_seconds,
            foreign=ForeignPolicy(config.env.foreign_position),
            unreadable=config.env.observation_failure_policy,
            grace_bars=config.env.unreadable_grace_bars,
            shutdown=runner.shutdown_policy,
            max_steps=runner.max_steps,
            state_dir=runner.folder,
        ),
        meter=meter,
    )
    return daemon


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
    }
    if isinstance(env, BracketEnvConfig):
        return DecisionConfig(
            **shared,
            table=env.action_table,
            trade_mode=env.trade_mode,
            position_fraction=env.position_fraction,
            quantity_per_trade=env.quantity_per_trade,
            lock_position=env.lock_position_until_sltp,
        )
    return DecisionConfig(**shared, levels=env.levels)


def policy_of(
    config: LiveConfig, decision: DecisionConfig, *, replay: bool = False
) -> tuple[Observer, Policy]:
    """Who decides, and the observer that shows it what it was trained on.

    Args:
      replay: the account is that of the environments, not a venue's.

    Raises:
      ValueError: none is configured, or it does not fit.
    """
    env, wanted = config.env, config.policy
    leverage, rate = decision.leverage, decision.maintenance_rate
    if wanted.bundle is not None:
        bundle = Bundle.load(wanted.bundle)
        observer = observer_for(bundle, leverage=leverage, maintenance_rate=rate, replay=replay)
        paced, asked = observer.spec.execute_on, env.execution_frame
        if paced != asked:
            raise ValueError(
                f"[env] execute_on: the bundle decides on bars of {paced.name}, the configuration "
                f"on those of {asked.name}; write {paced.name!r}."
            )
        return observer, BundlePolicy.load(wanted.bundle, _target(observer, decision))
    observer = observer_of(env, decision, replay=replay)
    target = _target(observer, decision)
    if wanted.factory is not None:
        return observer, CallablePolicy.made_by(wanted.factory, target)
    if wanted.baseline is not None:
        return observer, BaselinePolicy(wanted.baseline, target, seed=env.seed)
    raise ValueError("[policy]: give a bundle, a factory or a baseline.")


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
        base_features=env.include_base_features,
    )


def _target(observer: Observer, decision: DecisionConfig) -> PolicyTarget:
    return PolicyTarget(
        spec=observer.spec,
        spot=decision.spot,
        levels=decision.levels,
        table=decision.table,
    )


@contextlib.contextmanager
def _signals(daemon: Daemon) -> Any:
    """SIGTERM and SIGINT end the daemon in order, a second one at once; SIGUSR1 halts it."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    first: float | None = None

    def stop() -> None:
        nonlocal first
        if first is None:
            first = loop.time()
        elif loop.time() - first > _ONE_SIGNAL_SECONDS and task is not None:
            task.cancel()
        daemon.stopping.set()

    def halt() -> None:
        daemon.desk.latch(Latch(TradingState.HALTED, "operator", "SIGUSR1"))

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGUSR1: halt}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
