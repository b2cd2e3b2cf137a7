"""From a configuration to a running daemon: the wiring, and nothing that decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Mapping
from typing import Any

import jaxtrade
from live.clock import Clock, ClockLimits, SystemClock, synchronise
from live.config import LiveConfig, check_modes
from live.journal import Journal, JournalError
from live.observation.bars import duration_ms
from live.operations import logs
from live.operations.doctor_rows import NETWORK
from live.operations.messages import Kind
from live.operations.meter import MeteredVenue
from live.operations.metrics import Metrics
from live.operations.notify import Notifier
from live.operations.services import managed, notified, reported, served, timed
from live.operations.telling import TellingMeter, teller
from live.paper import PaperVenue
from live.replay.money import ReplayTerms
from live.risk import Latch, TradingState
from live.secrets import Secret, confirm_account, private_folder
from live.timing import OffsetEstimator
from live.trading.assembly import daemon_of, set_up_all
from live.trading.daemon import LOST_JOURNAL, REFUSED, SECOND_SIGNAL, Daemon
from live.trading.listing import Listed
from live.types import AccountInfo, UnreadableError
from live.venue import Venue
from live.venues.bybit import BybitVenue
from live.venues.bybit_wire import RECV_WINDOW_MS, Timeouts
from live.venues.codes import UnreachableError
from live.venues.feed import BarFeed
from live.venues.rate import RateConfig
from live.venues.together import TogetherVenue

_log = logging.getLogger("live.runner")

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
    clock = SystemClock(estimator, clock_limits(config))
    venue: Venue = venue_of(config, keys, clock)
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(logs.loop_errors(metrics.loop_errors_total.inc))
        stack.push_async_callback(venue.close)
        try:
            account, listed = await _prepared(config, venue, clock, estimator)
            if config.runner.mode == "live":
                confirm_account(confirm or "", account.account_id, keys["api_key"])
        except (UnreadableError, ValueError) as error:
            return _refused(error)
        journal = _journal_of(config, account.account_id, clock)
        stack.callback(journal.close)
        counted = metrics.notify_dropped_total.inc
        notifier = await stack.enter_async_context(notified(config, keys, counted))

        def meter_of(symbol: str) -> TellingMeter:
            return TellingMeter(metrics, symbol, notifier)

        meter = meter_of("")
        journal.health.told = meter.committed
        try:
            daemon = daemon_of(
                config,
                MeteredVenue(venue, meter),
                listed,
                journal,
                clock,
                meter_of=meter_of,
                tell=teller(notifier),
            )
            await stack.enter_async_context(served(config, daemon, meter))
        except ValueError as error:
            return _refused(error)
        return await _traded(config, daemon, venue, clock, notifier)


async def _traded(
    config: LiveConfig, daemon: Daemon, venue: Venue, clock: SystemClock, notifier: Notifier
) -> int:
    """One run of a daemon that is set up; its exit code."""
    journal, symbols = daemon.journal, [one.symbol for one in daemon.symbols]
    journal.start_run(
        mode=config.runner.mode,
        venue=venue.name,
        symbols=symbols,
        config_sha256=config.digest,
        bundle_sha256=daemon.symbols[0].policy.digest or None,
        version=jaxtrade.__version__,
    )
    await prepare(venue, daemon)
    named = ", ".join(symbols)
    async with managed(daemon), timed(clock, venue, daemon), reported(daemon, notifier):
        notifier.send(Kind.START, f"mode {config.runner.mode}, {venue.name}", named)
        code = await _until_told(daemon)
        with contextlib.suppress(JournalError):
            journal.end_run(code)
        notifier.send(Kind.STOP, f"ended with code {code}", named)
        return code


def _refused(error: Exception) -> int:
    fix = f"; {NETWORK}" if isinstance(error, UnreachableError) else ""
    _log.error("refused to start: %s%s", error, fix)
    return REFUSED


async def _prepared(
    config: LiveConfig, venue: Venue, clock: SystemClock, estimator: OffsetEstimator
) -> tuple[AccountInfo, dict[str, Listed]]:
    """Connect, learn the venue's time, whose account it is and what trades, and set it up."""
    await venue.connect()
    await synchronise(clock, estimator, venue.server_time, samples=_CLOCK_SAMPLES)
    account = await venue.account()
    listed = await set_up_all(venue, config)
    return account, listed


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


def clock_limits(config: LiveConfig) -> ClockLimits:
    """How far the venue's time may be from this machine's."""
    given = config.clock
    limits = ClockLimits(
        resync_seconds=given.resync_seconds,
        warn_ms=given.warn_ms,
        halt_ms=given.halt_ms,
        suspend_seconds=given.suspend_seconds,
        request_window_ms=RECV_WINDOW_MS,
    )
    return limits.of_own_time() if config.venue.base_url else limits


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


def venue_of(
    config: LiveConfig,
    keys: Mapping[str, Secret],
    clock: SystemClock,
    *,
    looking: bool = False,
) -> Venue:
    """The venue that a mode trades on.

    Args:
      looking: to connect sets nothing at the venue.
    """
    env = config.env
    exchange = BybitVenue(
        keys.get("api_key", ""),
        keys.get("api_secret", ""),
        clock=clock,
        # Paper reads the prices of production, unless a local exchange is named.
        demo=env.demo and config.runner.mode != "paper",
        base_url=config.venue.base_url,
        stream_url=config.venue.stream_url,
        deadman=0 if looking else int(config.risk.deadman_seconds),
        timeouts=Timeouts(
            read=config.venue.request_timeout_seconds,
            read_deadline=2 * config.venue.request_timeout_seconds,
            submit=config.runner.submit_timeout_seconds,
            submit_deadline=config.runner.submit_timeout_seconds + 2,
        ),
        rate=RateConfig(
            reserve_fraction=config.rate.reserve_fraction,
            share_fraction=config.rate.share_fraction,
        ),
    )
    market = together(exchange, clock) if len(config.symbols) > 1 else exchange
    if config.runner.mode != "paper":
        return market
    fee = env.constants.taker_fee if env.transaction_fee is None else env.transaction_fee
    terms = ReplayTerms(
        transaction_fee=fee,
        leverage=env.leverage,
        maintenance_margin_rate=env.maintenance_rate(),
        rules=env.rules,
    )
    frame = env.execution_frame
    return PaperVenue(
        market,
        terms,
        clock,
        frame=frame.name,
        bar_ms=duration_ms(frame),
        folder=private_folder(config.runner.folder),
        symbols=[env.constants.canonical(name) for name in config.symbols],
    )


def together(exchange: BybitVenue, clock: Clock) -> BarFeed:
    """The venue for many symbols: one request reads all of them, and bars come with a stream."""
    return BarFeed(TogetherVenue(exchange), exchange.bar_stream, clock)


async def prepare(venue: Venue, daemon: Daemon) -> None:
    """Let a venue that keeps bars read those that the first decision needs."""
    feed = venue.market if isinstance(venue, PaperVenue) else venue
    if isinstance(feed, BarFeed):
        await feed.prepare(
            (one.symbol, frame.name, one.trader.observer.needed(frame.name))
            for one in daemon.symbols
            for frame in one.trader.observer.frames
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
