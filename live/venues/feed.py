"""Closed bars from memory: told by a public stream, checked against the venue's history.

At a bar boundary nobody has time to ask for the bars of every symbol. So the rows are kept, the
newest one comes with the stream, and an answer is given from memory only if it is contiguous,
finite, long enough, and ends with the bar that ended last in venue time. Anything else is asked of
the venue as ever, whose answer is the authority and fills the memory too. Rows that only the stream
has told are compared with the venue's history later, between the boundaries.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

from jaxtrade.timeframe import TimeFrame
from live.clock import Clock, last_boundary, newest_closed_bar, next_boundary
from live.types import Bars, UnreadableError
from live.venue import Usage, Venue
from live.venues.bar_memory import BarMemory
from live.venues.bar_stream import BarGap, ClosedBar, MakeBarStream
from live.venues.split import SplitVenue

_log = logging.getLogger("live.venues.feed")

# A row of the stream may end so much later than the clock shows: clocks are not exact.
_AHEAD_MS = 1000
_PREPARING = 4  # requests at once while nothing is urgent
_LATER_SECONDS = 5.0  # before a symbol is looked at again that could not be proven

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """Seconds.

    Attributes:
      patience: after a boundary, for the stream to tell the bar that has just ended. pause: between
        two requests that prove rows. calm_before, calm_after: around every boundary of the shortest
        frame, without such requests. request: deadline of one of them. spare: rows kept besides
        those that are asked for.
    """

    patience: float = 0.3
    pause: float = 0.15
    calm_before: float = 2.0
    calm_after: float = 5.0
    request: float = 10.0
    spare: int = 3

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"feed: {field.name} must be finite and >= 0; got {value}.")
        if not (self.pause > 0 and self.request > 0):
            raise ValueError("feed: pause and request must be > 0.")


class BarFeed(SplitVenue):
    """`live.venue.Venue` whose closed bars come from memory where they can.

    Args:
      venue: everything else, and the history. stream: makes the venue's public stream.
      clock: venue time.

    Attributes:
      from_memory, from_venue: answers so far. gaps: times a memory was dropped. revised: closed
        bars that the history told differently than they were known.
    """

    def __init__(
        self,
        venue: Venue,
        stream: MakeBarStream,
        clock: Clock,
        config: FeedConfig | None = None,
    ) -> None:
        super().__init__(venue, venue)
        self.config = config or FeedConfig()
        self.from_memory = self.from_venue = self.gaps = self.revised = 0
        self._stream, self._clock = stream(self._heard), clock
        self._memories: dict[Key, BarMemory] = {}
        self._told: dict[Key, asyncio.Event] = {}
        # Not to be proven before this second of the loop.
        self._later: dict[Key, float] = {}
        self._proving: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect the venue and begin to listen."""
        await super().connect()
        if self._proving is None:
            self._stream.start()
            self._proving = asyncio.get_running_loop().create_task(self._prove(), name="bars")

    async def close(self) -> None:
        """Stop listening and close the venue."""
        task, self._proving = self._proving, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self._stream.stop()
        await super().close()

    def usage(self) -> Usage:
        """That of the venue, and how long the stream of bars has been silent."""
        counted, silence = super().usage(), self._stream.silence
        silences = {} if silence is None else {"bars": silence}
        return dataclasses.replace(counted, silences={**counted.silences, **silences})

    async def prepare(self, wanted: Iterable[tuple[str, str, int]]) -> None:
        """Subscribe to (symbol, frame, rows) and read them, before the first bar needs them.

        What cannot be read now is read later; nothing depends on it.

        Raises:
          ValueError: the venue has no such bars.
        """
        gate = asyncio.Semaphore(_PREPARING)

        async def one(symbol: str, frame: str, count: int) -> None:
            async with gate:
                with contextlib.suppress(UnreadableError):
                    await self.closed_bars(symbol, frame, count)

        wanted = tuple(wanted)
        for symbol, frame, _ in wanted:
            self._memory((symbol, TimeFrame.parse(frame).name))
        await asyncio.gather(*(one(*each) for each in wanted))

    async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
        """The newest ``count`` closed bars, from memory or from the venue.

        Raises:
          ValueError: the venue has no such time frame. UnreadableError: as the venue.
        """
        self._check()
        key = (symbol, TimeFrame.parse(frame).name)
        memory = self._memory(key)
        memory.want(count)
        found = memory.answer(count, self._due_ms(memory)) or await self._soon(key, count)
        if found is not None:
            self.from_memory += 1
            return found
        self.from_venue += 1
        bars = await self._trades.closed_bars(*key, count)
        self._fill(key, bars, count)
        return bars

    # The memory ----------------------------------------------------------------------------------

    def _memory(self, key: Key) -> BarMemory:
        """The rows of a symbol and frame, which the stream fills from now on."""
        if key not in self._memories:
            self._stream.follow(*key)
            duration = TimeFrame.parse(key[1]).minutes * 60_000
            self._memories[key] = BarMemory(key[1], duration, spare=self.config.spare)
            self._told[key] = asyncio.Event()
        return self._memories[key]

    def _due_ms(self, memory: BarMemory) -> int:
        return newest_closed_bar(self._clock.now_ms(), memory.duration_ms)

    async def _soon(self, key: Key, count: int) -> Bars | None:
        """The answer once the stream has told the bar that has just ended, if it does in time."""
        memory = self._memories[key]
        now = self._clock.now_ms()
        due = newest_closed_bar(now, memory.duration_ms)
        left = self.config.patience - (now - due - memory.duration_ms) / 1000
        if not (left > 0 and memory.lacks_only(count, due) and self._stream.live(*key)):
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                while memory.lacks_only(count, due):
                    self._told[key].clear()
                    await self._told[key].wait()
        return memory.answer(count, due)

    def _heard(self, said: ClosedBar | BarGap) -> None:
        """What the stream tells, in its own task."""
        key = (said.symbol, said.frame)
        memory = self._memories.get(key)
        if memory is None:
            return
        if isinstance(said, BarGap):
            self._lost(key, said.reason)
        elif said.open_time_ms + memory.duration_ms > self._clock.now_ms() + _AHEAD_MS:
            self._lost(key, f"the bar at {said.open_time_ms} cannot have ended")
        elif not memory.push(said.open_time_ms, said.ohlcv):
            self._lost(key, f"the bar at {said.open_time_ms} does not follow", dropped=True)
        self._told[key].set()

    def _lost(self, key: Key, reason: str, *, dropped: bool = False) -> None:
        memory = self._memories[key]
        if dropped or len(memory):
            self.gaps += 1
            _log.info("bars of %s %s are read anew: %s", *key, reason)
        if not dropped:
            memory.forget()

    def _fill(self, key: Key, bars: Bars, asked: int) -> None:
        """Take what the venue's history says; a closed bar that was known differently is told."""
        for one in self._memories[key].fill(bars, asked):
            self.revised += 1
            shown = (*key, one.open_time_ms, one.known, one.told)
            _log.warning("bar_revised: %s %s at %d was %s, is %s", *shown)

    # Between the boundaries ----------------------------------------------------------------------

    def _check(self) -> None:
        """Raise what broke a task of ours: a feed that died silently would be slow for ever."""
        self._stream.check()
        if self._proving is not None and self._proving.done() and not self._proving.cancelled():
            self._proving.result()

    async def _prove(self) -> None:
        """Read again what only the stream has told, and what is missing, one after the other."""
        while True:
            await asyncio.sleep(self.config.pause)
            key = None if self._hot() else self._unproven()
            if key is not None:
                await self.prove(*key)

    def _hot(self) -> bool:
        """Whether a boundary is too near for requests that can wait."""
        durations = {memory.duration_ms for memory in self._memories.values()}
        if not durations:
            return True
        now, shortest = self._clock.now_ms(), min(durations)
        after = now - last_boundary(now, shortest)
        before = next_boundary(now, shortest) - now
        return after < 1000 * self.config.calm_after or before < 1000 * self.config.calm_before

    def _unproven(self) -> Key | None:
        """What to read next: first where rows are missing, then what was told first."""
        now = asyncio.get_running_loop().time()
        ready = [key for key in self._memories if self._later.get(key, 0.0) <= now]
        short = next((key for key in ready if self._memories[key].short), None)
        if short is not None:
            return short
        told = [(self._memories[key].unproven_ms, key) for key in ready]
        return min(((time, key) for time, key in told if time is not None), default=(0, None))[1]

    async def prove(self, symbol: str, frame: str) -> None:
        """Compare what only the stream has told with the venue's history, or read what is missing.

        What cannot be read now is tried again later.
        """
        key = (symbol, frame)
        memory = self._memories[key]
        oldest, count = memory.unproven_ms, memory.wanted
        if oldest is not None and not memory.short:
            count = (self._due_ms(memory) - oldest) // memory.duration_ms + 1
        if count > 0:
            with contextlib.suppress(UnreadableError, TimeoutError):
                async with asyncio.timeout(self.config.request):
                    bars = await self._trades.closed_bars(symbol, frame, count)
                    self._fill(key, bars, count)
        if memory.unproven_ms is not None or memory.short:
            self._later[key] = asyncio.get_running_loop().time() + _LATER_SECONDS
