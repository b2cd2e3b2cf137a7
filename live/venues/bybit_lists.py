"""Bybit's private lists, read to their last page: orders and positions, one order, fills."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from live.types import (
    Absent,
    Answer,
    Fill,
    Found,
    MarginMode,
    OrderReport,
    Position,
    Unavailable,
    UnreadableError,
)
from live.venue import TooLongError
from live.venues import bybit_parse as parse
from live.venues.bybit_client import BybitClient
from live.venues.bybit_orders import fill, order, order_of_fills
from live.venues.bybit_parse import SETTLE
from live.venues.fields import Fields
from live.venues.rate import Lane

_ROWS = {  # of one request
    "order/realtime": 50,
    "order/history": 50,
    "execution/list": 100,
    "position/list": 200,
}
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
    raise TooLongError(f"bybit {what}: more than {_MOST_PAGES} pages.")


async def open_orders(client: BybitClient, name: str) -> tuple[OrderReport, ...]:
    """Open and conditional orders of a symbol, oldest first.

    Raises:
      UnreadableError: a row could not be read: a list with a hole is no list.
    """
    return _live(order(row, name) for row in await _both_books(client, {"symbol": name}))


async def listed_orders(
    client: BybitClient, names: Collection[str]
) -> dict[str, tuple[OrderReport, ...]]:
    """Open and conditional orders of many symbols, each oldest first.

    A symbol with a row that could not be read is left out: a list with a hole is no list.

    Raises:
      UnreadableError: a page could not be read, or a row does not tell its symbol.
    """
    rows = by_symbol(await _both_books(client, {"settleCoin": SETTLE}), names)
    found: dict[str, tuple[OrderReport, ...]] = {}
    for name, own in rows.items():
        with contextlib.suppress(UnreadableError):
            found[name] = _live([order(row, name) for row in own])
    return found


async def listed_positions(
    client: BybitClient,
    names: Collection[str],
    margin_mode: MarginMode,
    least: Mapping[str, Decimal],
) -> dict[str, Position]:
    """Positions of the symbols that the list of the settlement coin shows.

    Args:
      least: symbol -> smallest order; see `parse.position`.

    Raises:
      UnreadableError: as `listed_orders`.
    """
    listing = await pages(client, "position/list", {"settleCoin": SETTLE})
    shown = {name: own for name, own in by_symbol(listing.rows, names).items() if own}
    return {
        name: parse.position(
            _reply_of(own, listing.time_ms), name, margin_mode, least.get(name, Decimal(0))
        )
        for name, own in shown.items()
    }


def by_symbol(rows: Iterable[Fields], names: Collection[str]) -> dict[str, list[Fields]]:
    """The rows of each wanted symbol, perhaps none, in their order; others are left out.

    Raises:
      UnreadableError: a row does not tell its symbol, so it may be anybody's.
    """
    found: dict[str, list[Fields]] = {name: [] for name in names}
    for row in rows:
        own = found.get(row.text("symbol"))
        if own is not None:
            own.append(row)
    return found


def _reply_of(rows: list[Fields], time_ms: int) -> parse.Envelope:
    """Rows of one symbol as a reply of their own."""
    return parse.Envelope(Fields({"list": [row.raw for row in rows]}, rows[0].where), time_ms)


async def _both_books(client: BybitClient, query: Mapping[str, object]) -> list[Fields]:
    """Rows of the plain and of the conditional orders; some are in both."""
    asked = {**query, "openOnly": 0}
    # The plain list should name conditional orders too; asking for them costs one request more.
    books = await asyncio.gather(
        pages(client, "order/realtime", dict(asked)),
        pages(client, "order/realtime", {**asked, "orderFilter": "StopOrder"}),
    )
    return [row for book in books for row in book.rows]


def _live(reports: Iterable[OrderReport]) -> tuple[OrderReport, ...]:
    """Those that have not ended, each once, oldest first."""
    found = {one.venue_order_id: one for one in reports if not one.status.terminal}
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


async def fills_since(
    client: BybitClient, names: Collection[str], since_ms: int
) -> dict[str, list[Fill]]:
    """Every change of position or cash since an instant, by symbol, oldest first, each trade once.

    Args:
      names: one is asked for alone; of several the whole account is listed, and one with a row
        that could not be read is left out.

    Raises:
      UnreadableError: a page or a row could not be read: a list with a hole is no list.
    """
    alone = next(iter(names)) if len(names) == 1 else None
    found: dict[str, dict[str, Fill]] = {name: {} for name in names}
    start = since_ms
    while True:
        end = start + _FILL_WINDOW_MS - 1
        query: dict[str, object] = {"startTime": start, "endTime": end}
        if alone is not None:
            query["symbol"] = alone
        listing = await pages(client, "execution/list", query)
        rows = by_symbol(listing.rows, names) if alone is None else {alone: listing.rows}
        for name in rows.keys() & found.keys():
            try:
                _add(found[name], rows[name], name)
            except UnreadableError:
                if alone is not None:
                    raise
                del found[name]
        if end >= listing.time_ms:
            return {name: sorted(own.values(), key=_by_time) for name, own in found.items()}
        start = end + 1


def _add(known: dict[str, Fill], rows: Iterable[Fields], name: str) -> None:
    for row in rows:
        one = fill(row, name)
        if known.setdefault(one.trade_id, one) != one:
            raise UnreadableError(f"bybit fills: {one.trade_id} came in two versions.")


def _by_time(fill: Fill) -> tuple[int, str]:
    return fill.venue_time_ms, fill.trade_id
