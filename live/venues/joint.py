"""One request for many callers: whoever asks before it is sent shares it, nobody gets an older one.

An answer may only be as old as the question. So a question joins the round that waits to be sent,
never one that is under way; at most one round is under way while another gathers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from live.types import UnreadableError

K = TypeVar("K")
V = TypeVar("V")


class _Round(Generic[K, V]):
    """One request in the making."""

    task: asyncio.Task[V]

    def __init__(self) -> None:
        self.keys: set[K] = set()


class JointRead(Generic[K, V]):
    """Questions of one kind.

    Args:
      name: for messages. read: asks for all keys of a round at once.
      gather: seconds that a round waits for others to join. patience: seconds that it waits besides
        for the round before it. deadline: seconds that its request may take.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[frozenset[K]], Awaitable[V]],
        *,
        gather: float,
        patience: float,
        deadline: float,
    ) -> None:
        self._name, self._read = name, read
        self._gather, self._patience, self._deadline = gather, patience, deadline
        self._waiting: _Round[K, V] | None = None
        self._sent: asyncio.Task[V] | None = None

    async def ask(self, key: K) -> V:
        """The answer of a request that is sent after this call.

        Raises:
          UnreadableError: it failed, for everybody who shares it.
        """
        if self._waiting is None or self._waiting.task.done():
            self._waiting = _Round()
            own = self._run(self._waiting)
            self._waiting.task = asyncio.get_running_loop().create_task(own, name=self._name)
            self._waiting.task.add_done_callback(_heeded)
        task = self._waiting.task
        self._waiting.keys.add(key)
        # One caller's deadline must not take the answer from the others.
        return await asyncio.shield(task)

    async def _run(self, own: _Round[K, V]) -> V:
        await asyncio.sleep(self._gather)
        if self._sent is not None and not self._sent.done():
            await asyncio.wait({self._sent}, timeout=self._patience)
        self._waiting, self._sent = None, own.task
        try:
            async with asyncio.timeout(self._deadline):
                return await self._read(frozenset(own.keys))
        except TimeoutError:
            raise UnreadableError(f"{self._name}: no answer in {self._deadline:g} s.") from None


def _heeded(task: asyncio.Task[V]) -> None:
    """Callers that have given up do not collect the error; that is not worth a warning."""
    if not task.cancelled():
        task.exception()
