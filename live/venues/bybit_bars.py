"""Closed bars of Bybit: paged, merged, closed by the venue's own time, and without holes."""

from __future__ import annotations

from jaxtrade.timeframe import TimeFrame
from live.types import Bars, UnreadableError
from live.venues import bybit_market as market
from live.venues.bybit_client import BybitClient

_INTERVALS = {
    **{minutes * 60_000: str(minutes) for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    86_400_000: "D",
}
_ROWS = 1000  # of one request


def interval_of(frame: TimeFrame) -> str:
    """What the venue calls a time frame.

    Raises:
      ValueError: it has no such bars.
    """
    name = _INTERVALS.get(frame.minutes * 60_000)
    if name is None:
        raise ValueError(f"bybit: has no bars of {frame.name}.")
    return name


async def closed_bars(client: BybitClient, name: str, frame: str, count: int) -> Bars:
    """The newest ``count`` closed bars, fewer where the symbol is young.

    A bar is closed when its end is not after the venue's time of the newest reply.

    Raises:
      ValueError: the venue has no such time frame, or none was asked for.
      UnreadableError: rows make no sense, or bars are missing after a second look.
    """
    parsed = TimeFrame.parse(frame)
    interval_of(parsed)
    duration = parsed.minutes * 60_000
    if not count > 0:
        raise ValueError(f"bars: expected a count > 0; got {count}.")
    where = f"bybit kline {name}"
    rows, closed_ms = await _newest(client, name, duration, count)
    found = market.merge((row for row in rows if row[0] + duration <= closed_ms), where)
    missing = market.hole(sorted(found), duration)
    if missing is not None:
        again, _ = await _page(client, name, duration, start=missing[0], end=missing[1])
        found = market.merge([*found.values(), *again], where)
        missing = market.hole(sorted(found), duration)
    if missing is not None:
        raise UnreadableError(f"{where}: no bar at {missing[0]}.")
    if not found:
        raise UnreadableError(f"{where}: no closed bar.")
    newest = sorted(found)[-count:]
    return market.bars({start: found[start] for start in newest}, parsed.name)


async def _newest(
    client: BybitClient, name: str, duration: int, count: int
) -> tuple[list[market.Candle], int]:
    """At least ``count`` closed rows if there are so many, and the venue's time of the first."""
    rows: list[market.Candle] = []
    closed_ms, end = 0, None
    while (left := count + 1 - len(rows)) > 0:
        page, time_ms = await _page(client, name, duration, end=end, limit=min(left, _ROWS))
        closed_ms = closed_ms or time_ms
        fresh = [row for row in page if end is None or row[0] <= end]
        if not fresh:
            break
        rows += fresh
        end = min(row[0] for row in fresh) - 1
    return rows, closed_ms


async def _page(
    client: BybitClient,
    name: str,
    duration: int,
    *,
    start: int | None = None,
    end: int | None = None,
    limit: int = _ROWS,
) -> tuple[list[market.Candle], int]:
    query: dict[str, object] = {"start": start, "end": end}
    reply = await client.read(
        "market/kline",
        {
            "category": "linear",
            "symbol": name,
            "interval": _INTERVALS[duration],
            "limit": limit,
            **{key: value for key, value in query.items() if value is not None},
        },
    )
    return market.candles(reply, name, duration), reply.time_ms
