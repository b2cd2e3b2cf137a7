"""What runs beside a daemon: the operations page, the venue's clock, and messages to people."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from jaxtrade.extras import missing_extra
from live.clock import SystemClock
from live.clock.keeping import keep_time
from live.config import LiveConfig
from live.operations.meter import PrometheusMeter
from live.operations.notify import Notifier, notifier_of
from live.operations.server import OperationsServer
from live.operations.systemd import Notify
from live.operations.telling import Reporter
from live.secrets import Secret, Tokens
from live.trading.daemon import Daemon
from live.trading.meter import Meter
from live.venue import Venue

try:
    import aiohttp
except ImportError as error:
    raise missing_extra("live trading", "aiohttp", "live") from error

_log = logging.getLogger("live.operations.services")

_LOOK_SECONDS = 1.0
_FLUSH_SECONDS = 5.0


@contextlib.asynccontextmanager
async def notified(
    config: LiveConfig,
    secrets: Mapping[str, Secret],
    dropped: Callable[[], None] = lambda: None,
) -> AsyncIterator[Notifier]:
    """The notifier of a configuration, delivering until the block ends.

    Args:
      dropped: called for every message that was not delivered.
    """
    async with aiohttp.ClientSession() as session:
        notifier = notifier_of(
            config.notify,
            session,
            strategy_id=config.runner.strategy_id,
            telegram_token=secrets.get("telegram_token"),
            dropped=dropped,
        )
        async with _running(notifier.run()):
            try:
                yield notifier
            finally:
                await notifier.flush(_FLUSH_SECONDS)


@contextlib.asynccontextmanager
async def served(config: LiveConfig, daemon: Daemon, meter: Meter) -> AsyncIterator[None]:
    """The operations page, where it is wanted."""
    if not config.server.enabled:
        yield
        return
    render = None
    if isinstance(meter, PrometheusMeter):
        measuring = meter

        def render() -> bytes:
            return measuring.render(daemon)

    tokens = Tokens.of(config.runner.folder)
    server = OperationsServer(daemon, config.server, tokens, metrics=render)
    async with server.running() as address:
        _log.info("operations page at %s", address)
        yield


@contextlib.asynccontextmanager
async def managed(daemon: Daemon, notify: Notify | None = None) -> AsyncIterator[None]:
    """The service manager hears that the daemon is ready, lives, and ends.

    Args:
      notify: None = as the environment of this process says.
    """
    told = notify or Notify.of()
    daemon.alive = told.alive
    async with _running(_keep_telling(daemon, told)):
        try:
            yield
        finally:
            told.stopping()


async def _keep_telling(daemon: Daemon, notify: Notify) -> None:
    """An end that takes long, as a flattening does, is alive too."""
    await daemon.stopping.wait()
    notify.stopping()
    while True:
        notify.alive(daemon)
        await asyncio.sleep(_LOOK_SECONDS)


@contextlib.asynccontextmanager
async def timed(clock: SystemClock, venue: Venue, daemon: Daemon) -> AsyncIterator[None]:
    """The venue's clock is measured again and again, and at once when the machine had slept."""
    async with _running(keep_time(clock, venue.server_time, daemon.look_now)):
        yield


@contextlib.asynccontextmanager
async def reported(daemon: Daemon, notifier: Notifier) -> AsyncIterator[None]:
    """People hear of a degradation that lasts, and of every day that ends."""
    async with _running(Reporter(daemon, notifier).run()):
        yield


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A task beside a block; it ends with the block."""
    task = asyncio.create_task(work)
    task.add_done_callback(_report)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    """A service that failed is heard of at once; the daemon goes on without it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        told = {"message": "a service of the daemon failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(told)
