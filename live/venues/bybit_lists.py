"""Bybit's private lists, read to their last page: open orders, one order, fills."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from live.types import Absent, Answer, Fill, Found, OrderReport, Unavailable, UnreadableError
from live.venues.bybit_client import BybitClient
from live.venues.bybit_orders import fill, order, order_of_fills
from live.venues.fields import Fields
from live.venues.rate import Lane

_ROWS = {"order/realtime": 50, "order/history": 50, "execution/list": 100}  # of one request
_MOST_PAGES = 100
_FILL_WINDOW_MS = 7 * 86_400_000  # the longest stretch of executions in one request


@dataclass(frozen=True, slots=True)
class Listing:
    """All rows of a list, and the venue's time when it began to be read."""

    rows: tuple[Fields, ...]
    time_ms: int


async def pages(client: BybitClient, what: str, query: dict[str, object]) -> Listing:
    """A list to its last page.

    Raises:
      UnreadableError: a page could not be read, or there is no end to them.
    """
    rows: list[Fields] = []
    time_ms = 0
    asked = {"category": "linear", "limit": _ROWS[what], **query}
    for _ in range(_MOST_PAGES):
        reply = await client.read(what, asked, lane=Lane.RESERVED)
        time_ms = time_ms or reply.time_ms
        page = reply.result.rows("list")
        rows += page
        mark = reply.result.text_or_blank("nextPageCursor")
        if not mark or not page:
            return Listing(tuple(rows), time_ms)
        asked["cursor"] = mark
    raise UnreadableError(f"bybit {what}: more than {_MOST_PAGES} pages.")


async def open_orders(client: BybitClient, name: str) -> tuple[OrderReport, ...]:
    """Open and conditional orders of a symbol, oldest first.

    Raises:
      UnreadableError: a row could not be read: a list with a hole is no list.
    """
    query: dict[str, object] = {"symbol": name, "openOnly": 0}
    # The plain list should name conditional orders too; asking for them costs one request more.
    books = await asyncio.gather(
        pages(client, "order/realtime", dict(query)),
        pages(client, "order/realtime", {**query, "orderFilter": "StopOrder"}),
    )
    found: dict[str, OrderReport] = {}
    for book in books:
        for row in book.rows:
            report = order(row, name)
            if not report.status.terminal:
                found[report.venue_order_id] = report
    return tuple(sorted(found.values(), key=lambda one: (one.venue_time_ms, one.venue_order_id)))


async def find_order(client: BybitClient, name: str, client_id: str) -> Answer:
    """What became of an order; absent only if every list answered without it.

    The list of recent orders is emptied when the venue restarts, so an empty one alone proves
    nothing.
    """
    query: dict[str, object] = {"symbol": name, "orderLinkId": client_id}
    asked = []
    try:
        for what in ("order/realtime", "order/history"):
            rows = (await pages(client, what, query)).rows
            own = [row for row in rows if row.raw.get("orderLinkId") == client_id]
            if own:
                return Found(order(own[0], name))
            if rows:
                return Unavailable(f"bybit {what}: named another order than was asked for")
            asked.append(what.removeprefix("order/"))
        rows = (await pages(client, "execution/list", query)).rows
        fills = tuple(fill(row, name) for row in rows)
    except UnreadableError as error:
        return Unavailable(str(error))
    own_fills = tuple(one for one in fills if one.client_id == client_id)
    if own_fills:
        return Found(order_of_fills(client_id, own_fills))
    if fills:
        return Unavailable("bybit execution/list: named another order than was asked for")
    return Absent("+".join([*asked, "fills"]))


async def fills_since(client: BybitClient, name: str, since_ms: int) -> list[Fill]:
    """Every change of position or cash since an instant, oldest first, each trade once.

    Raises:
      UnreadableError: a page or a row could not be read: a list with a hole is no list.
    """
    found: dict[str, Fill] = {}
    start = since_ms
    while True:
        end = start + _FILL_WINDOW_MS - 1
        query: dict[str, object] = {"symbol": name, "startTime": start, "endTime": end}
        listing = await pages(client, "execution/list", query)
        for row in listing.rows:
            one = fill(row, name)
            if found.setdefault(one.trade_id, one) != one:
                raise UnreadableError(f"bybit fills: {one.trade_id} came in two versions.")
        if end >= listing.time_ms:
            return sorted(found.values(), key=lambda each: (each.venue_time_ms, each.trade_id))
        start = end + 1
