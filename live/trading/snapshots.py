"""One consistent look at a symbol: every read of a decision, together and under one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from live.clock import Clock
from live.observation import Observer
from live.observation.bars import StaleBarsError, duration_ms
from live.types import Balance, Bars, Held, Instrument, Position, Snapshot, Unknown, UnreadableError
from live.venue import Venue

# Position and balance that are farther apart in time are read again, once.
_PAIR_MS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTiming:
    """How long reading may take, seconds.

    Attributes:
      snapshot: of all reads together. late_waits: between tries when the newest bar is late.
    """

    snapshot: float = 10.0
    late_waits: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)


async def take(
    venue: Venue,
    observer: Observer,
    instrument: Instrument,
    clock: Clock,
    bar_open_ms: int,
    timing: ReadTiming,
) -> Snapshot:
    """Everything a decision at the end of the bar that began at ``bar_open_ms`` sees.

    Raises:
      UnreadableError: something could not be read in time, or made no sense.
    """
    try:
        async with asyncio.timeout(timing.snapshot):
            return await _take(venue, observer, instrument, clock, bar_open_ms, timing)
    except TimeoutError:
        raise UnreadableError(f"snapshot: not complete within {timing.snapshot:g} s.") from None


async def glance(
    venue: Venue, instrument: Instrument, clock: Clock, bar_open_ms: int, timing: ReadTiming
) -> Snapshot:
    """The account and its orders now, without bars.

    Raises:
      UnreadableError: as `take`.
    """
    try:
        async with asyncio.timeout(timing.snapshot):
            (position, balance), quote, orders = await _together(
                *_account_reads(venue, instrument.symbol)
            )
    except TimeoutError:
        raise UnreadableError(f"account: not read within {timing.snapshot:g} s.") from None
    return Snapshot(
        bar_open_ms=bar_open_ms,
        venue_time_ms=clock.now_ms(),
        received_monotonic_ns=int(clock.monotonic() * 1e9),
        instrument=instrument,
        position=position,
        balance=balance,
        quote=quote,
        orders=orders,
        market_status=instrument.status,
    )


async def _take(
    venue: Venue,
    observer: Observer,
    instrument: Instrument,
    clock: Clock,
    bar_open_ms: int,
    timing: ReadTiming,
) -> Snapshot:
    symbol = instrument.symbol
    names = [frame.name for frame in observer.frames]
    decision_ms = bar_open_ms + duration_ms(observer.spec.execute_on)
    waits = timing.late_waits
    (position, balance), quote, orders, *bars = await _together(
        *_account_reads(venue, symbol),
        *(_closed(venue, observer, symbol, one, decision_ms, clock, waits) for one in names),
    )
    return Snapshot(
        bar_open_ms=bar_open_ms,
        venue_time_ms=clock.now_ms(),
        received_monotonic_ns=int(clock.monotonic() * 1e9),
        instrument=instrument,
        position=position,
        balance=balance,
        quote=quote,
        bars=dict(zip(names, bars, strict=True)),
        orders=orders,
        market_status=instrument.status,
    )


def _account_reads(venue: Venue, symbol: str) -> tuple[Coroutine[Any, Any, Any], ...]:
    return _position_and_balance(venue, symbol), venue.quote(symbol), venue.orders(symbol)


async def _together(*reads: Coroutine[Any, Any, Any]) -> list[Any]:
    """All at once; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(read) for read in reads]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _closed(
    venue: Venue,
    observer: Observer,
    symbol: str,
    name: str,
    decision_ms: int,
    clock: Clock,
    waits: tuple[float, ...],
) -> Bars:
    """Validated bars of one frame; a venue that is late is asked again."""
    for wait in (*waits, None):
        bars = await venue.closed_bars(symbol, name, observer.needed(name))
        try:
            return observer.validate(bars, decision_ms)
        except StaleBarsError:
            if wait is None:
                raise
            await clock.sleep(wait)
    raise AssertionError("the last try returns or raises")


async def _position_and_balance(venue: Venue, symbol: str) -> tuple[Position, Balance]:
    """Both of one instant, as far as the venue tells."""
    position, balance = await _together(readable_position(venue, symbol), venue.balance())
    if isinstance(position, Held):
        apart = abs(position.venue_time_ms - balance.venue_time_ms)
        if apart > _PAIR_MS:
            position, balance = await _together(readable_position(venue, symbol), venue.balance())
    return position, balance


async def readable_position(venue: Venue, symbol: str) -> Position:
    """The position; a read that fails is an unknown one."""
    try:
        return await venue.position(symbol)
    except UnreadableError as error:
        return Unknown(str(error))
