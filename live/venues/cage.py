"""A synchronous SDK inside asyncio: a bounded pool of threads, a deadline of our own, no surprises.

Abandoning an asyncio wait does not stop a request in a thread. So a call ends in one of four ways:
it returned, it raised, it never began, or nobody knows yet; only a call that never began is certain
to have sent nothing. The SDK's own socket timeout must be the shorter one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from live.venues.rate import Lane

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Returned(Generic[T]):
    """The call came back."""

    value: T


@dataclass(frozen=True, slots=True)
class Raised:
    """The call raised; any exception, so that none can escape unclassified."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class NeverBegan:
    """No thread was free in time: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """The deadline passed while the call was under way; it may still do what it was asked to.

    Attributes:
      seconds: for which it had been under way.
    """

    seconds: float = field(default=0.0, compare=False)


Ending = Returned[T] | Raised | NeverBegan | Overdue


class Cage:
    """A bounded pool of threads for one SDK.

    A thread that hangs keeps its place until the SDK's socket timeout frees it, so hanging calls
    can never pile up; calls of the reserved lane have places of their own.

    Args:
      name: of the threads. places: calls under way at once, by lane.

    Attributes:
      failures: calls that did not return, by how they ended.
    """

    def __init__(self, name: str, *, places: int = 4, reserved_places: int = 4) -> None:
        self.failures: Counter[str] = Counter()
        self._pool = ThreadPoolExecutor(places + reserved_places, thread_name_prefix=name)
        self._free = {
            Lane.NORMAL: asyncio.Semaphore(places),
            Lane.RESERVED: asyncio.Semaphore(reserved_places),
        }

    async def call(self, function: Callable[[], T], *, lane: Lane, within: float) -> Ending[T]:
        """Run a function in a thread, for at most ``within`` seconds of waiting."""
        ending = await self._called(function, lane, within)
        if not isinstance(ending, Returned):
            self.failures[_word(ending)] += 1
        return ending

    async def _called(self, function: Callable[[], T], lane: Lane, within: float) -> Ending[T]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        gate = self._free[lane]
        try:
            async with asyncio.timeout_at(deadline):
                await gate.acquire()
        except TimeoutError:
            return NeverBegan()
        begun = loop.time()
        try:
            future = loop.run_in_executor(self._pool, function)
        except RuntimeError:  # the cage is closed
            gate.release()
            return NeverBegan()
        future.add_done_callback(lambda ended: _leave(gate, ended))
        done, _ = await asyncio.wait({future}, timeout=max(deadline - loop.time(), 0.0))
        if not done:
            return Overdue(loop.time() - begun)
        error = future.exception()
        return Returned(future.result()) if error is None else Raised(error)

    def close(self) -> None:
        """Start nothing more; calls under way end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _word(ending: Raised | NeverBegan | Overdue) -> str:
    """How a call failed: few words, fit for a label."""
    if isinstance(ending, NeverBegan):
        return "busy"
    if isinstance(ending, Overdue):
        return "overdue"
    status = getattr(ending.error, "status_code", None)
    if isinstance(status, int) and 400 <= status < 600:
        return f"{status // 100}xx"
    return "refused" if isinstance(status, int) else type(ending.error).__name__


def _leave(gate: asyncio.Semaphore, ended: asyncio.Future[Any]) -> None:
    gate.release()
    if not ended.cancelled():
        ended.exception()  # an abandoned error is not worth a warning


def never_left(error: BaseException) -> bool:
    """Whether an error of `requests` proves that no byte of the request left this machine.

    A refused connection, a name that does not resolve and a connection that was not established in
    time do. Everything that happens on an established connection does not.
    """
    import requests.exceptions as errors
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    if isinstance(error, errors.ConnectTimeout):
        return True
    if type(error) is not errors.ConnectionError:  # proxies and TLS may have seen the request
        return False
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", inner)
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError))
