"""An environment for programs without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from live.env.base import ExchangeTradingEnv
    from live.env.report import Observation

T = TypeVar("T")


class BlockingEnv:
    """The calls of an environment, each returning when it is done; made by `blocking`.

    Attributes:
      env: the environment itself.
    """

    def __init__(self, env: ExchangeTradingEnv, loop: asyncio.AbstractEventLoop) -> None:
        self.env, self._loop = env, loop

    def reset(self) -> tuple[Observation, dict[str, Any]]:
        """See `ExchangeTradingEnv.reset`."""
        return self._done(self.env.reset())

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See `ExchangeTradingEnv.step`."""
        return self._done(self.env.step(action))

    def rearm(self, by: str, reason: str) -> None:
        """See `ExchangeTradingEnv.rearm`."""
        self._done(self.env.rearm(by, reason))

    def close(self, **unknown: Any) -> None:
        """See `ExchangeTradingEnv.close`."""
        self._done(self.env.close(**unknown))

    def _done(self, call: Coroutine[Any, Any, T]) -> T:
        pending = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return pending.result()
        except BaseException:
            # Whoever stops waiting (Ctrl-C) must not leave a step running behind their back.
            pending.cancel()
            raise


@contextlib.contextmanager
def blocking(env: ExchangeTradingEnv) -> Iterator[BlockingEnv]:
    """Run an environment on an event loop of its own thread; it is closed at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="jaxtrade-env", daemon=True)
    thread.start()
    try:
        calls = BlockingEnv(env, loop)
        try:
            yield calls
        finally:
            calls.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
