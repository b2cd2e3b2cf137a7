"""The bars of a daemon: each one that closes is offered to all symbols at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from live.clock import Clock, newest_closed_bar, next_tick, undisturbed
from live.trading.symbol import SymbolLoop


async def trade(
    symbols: Sequence[SymbolLoop],
    clock: Clock,
    stopping: asyncio.Event,
    *,
    bar_delay: float,
    max_steps: int | None,
) -> None:
    """Trade every symbol until it has done its steps, or until told to stop.

    Args:
      bar_delay: waited after a bar before it is offered, seconds.
      max_steps: bars of each symbol, None = for ever.
    """
    after = newest_closed_bar(clock.now_ms(), symbols[0].trader.bar_ms)
    traded = asyncio.ensure_future(_traded(symbols, after, max_steps))
    offered = asyncio.ensure_future(_offer(symbols, clock, after, bar_delay))
    stopped = asyncio.ensure_future(stopping.wait())
    tasks = (traded, offered, stopped)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if traded.done():
            traded.result()
        elif offered.done():
            offered.result()
        else:
            # A bar that is being decided is finished, not cut off.
            for one in symbols:
                await one.idle()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _traded(symbols: Sequence[SymbolLoop], after: int, max_steps: int | None) -> None:
    async with asyncio.TaskGroup() as group:
        for one in symbols:
            group.create_task(one.trade(after, max_steps))


async def _offer(
    symbols: Sequence[SymbolLoop], clock: Clock, after: int | None, bar_delay: float
) -> None:
    """Offer every bar to all symbols once it has closed."""
    delay_ms, bar_ms = round(bar_delay * 1000), symbols[0].trader.bar_ms
    while True:
        tick = await next_tick(clock, bar_ms, after=after, delay_ms=delay_ms)
        for one in symbols:
            one.offer(tick)
        # Time that only passes when somebody waits must not pass while a bar is decided.
        bars = [asyncio.ensure_future(one.rested()) for one in symbols]
        left_ms = tick.decision_ms + bar_ms - clock.now_ms()
        await asyncio.wait(bars, timeout=max(left_ms, 0) / 1000)
        for bar in bars:
            bar.cancel()
        # After a sleep of the machine nothing is offered that closed meanwhile.
        after = tick.bar_open_ms if undisturbed(clock, tick) else None
