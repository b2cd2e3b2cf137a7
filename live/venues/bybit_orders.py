"""What Bybit's replies and pushes say of orders and fills; pure and exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType

from live.journal import ids
from live.types import Fill, FillKind, OrderReport, OrderStatus, Role
from live.venue import EventKind, VenueEvent
from live.venues.bybit_parse import SETTLE, SIDES, VENUE, each
from live.venues.fields import Fields
from live.venues.symbols import usdt_perpetual

_STATUSES = MappingProxyType(
    {
        "Created": OrderStatus.OPEN,
        "New": OrderStatus.OPEN,
        "Active": OrderStatus.OPEN,
        "Untriggered": OrderStatus.OPEN,
        "Triggered": OrderStatus.TRIGGERED,
        "PartiallyFilled": OrderStatus.PARTIALLY_FILLED,
        "Filled": OrderStatus.FILLED,
        "Cancelled": OrderStatus.CANCELLED,
        "PartiallyFilledCanceled": OrderStatus.CANCELLED,
        "Deactivated": OrderStatus.CANCELLED,
        "Rejected": OrderStatus.REJECTED,
    }
)
_LEG_ROLES = MappingProxyType(
    {
        "Stop": Role.STOP,
        "StopLoss": Role.STOP,
        "PartialStopLoss": Role.STOP,
        "TrailingStop": Role.STOP,
        "TakeProfit": Role.TARGET,
        "PartialTakeProfit": Role.TARGET,
    }
)
_FILL_KINDS = MappingProxyType(
    {
        "Trade": FillKind.TRADE,
        "BlockTrade": FillKind.TRADE,
        "MovePosition": FillKind.TRADE,
        "BustTrade": FillKind.LIQUIDATION,
        "AdlTrade": FillKind.ADL,
        "Funding": FillKind.FUNDING,
        "Delivery": FillKind.SETTLEMENT,
        "Settle": FillKind.SETTLEMENT,
        "SessionSettlePnL": FillKind.SETTLEMENT,
    }
)


def order(row: Fields, symbol: str | None = None) -> OrderReport:
    """One order; a status that is not known is unrecognised, never an end."""
    if symbol is not None and row.text("symbol") != symbol:
        raise row.wrong("symbol", repr(symbol))
    client_id = row.text_or_blank("orderLinkId")
    leg = row.optional_text("stopOrderType")
    quantity, filled = row.not_negative("qty"), row.not_negative("cumExecQty")
    if not filled <= quantity and quantity > 0:
        raise row.wrong("cumExecQty", f"at most the order's quantity {quantity}")
    return OrderReport(
        client_id=client_id,
        venue_order_id=row.text("orderId"),
        role=ids.role_of(client_id) or _LEG_ROLES.get(leg or ""),
        side=row.word("side", SIDES),
        quantity=quantity,
        filled=filled,
        average_price=row.optional_price("avgPrice"),
        trigger_price=row.optional_price("triggerPrice"),
        reduce_only=row.flag("reduceOnly"),
        status=_STATUSES.get(row.text("orderStatus"), OrderStatus.UNRECOGNISED),
        venue_time_ms=row.time_ms("updatedTime"),
    )


def fill(row: Fields, symbol: str | None = None) -> Fill:
    """One change of position or cash.

    A kind that is not known is unreadable: it may have changed the position or only the cash.
    """
    if symbol is not None and row.text("symbol") != symbol:
        raise row.wrong("symbol", repr(symbol))
    kind = row.word("execType", _FILL_KINDS)
    cash = kind is FillKind.FUNDING
    return Fill(
        trade_id=row.text("execId"),
        client_id=row.text_or_blank("orderLinkId"),
        venue_order_id=row.text_or_blank("orderId"),
        side=row.word("side", SIDES),
        quantity=Decimal(0) if cash else row.positive("execQty"),
        price=row.positive("execPrice"),
        fee=row.number("execFee"),
        fee_asset=row.optional_text("feeCurrency") or SETTLE,
        kind=kind,
        venue_time_ms=row.time_ms("execTime"),
        role=_LEG_ROLES.get(row.optional_text("stopOrderType") or ""),
    )


def order_of_fills(client_id: str, fills: tuple[Fill, ...]) -> OrderReport:
    """What fills alone tell of their order: that it exists and how much it did, never its end."""
    filled = sum((one.quantity for one in fills), Decimal(0))
    value = sum((one.quantity * one.price for one in fills), Decimal(0))
    newest = max(fills, key=lambda one: one.venue_time_ms)
    return OrderReport(
        client_id=client_id,
        venue_order_id=newest.venue_order_id,
        role=ids.role_of(client_id),
        side=newest.side,
        quantity=filled,
        filled=filled,
        average_price=value / filled if filled > 0 else None,
        trigger_price=None,
        reduce_only=False,
        status=OrderStatus.UNRECOGNISED,
        venue_time_ms=newest.venue_time_ms,
    )


# Pushes -----------------------------------------------------------------------------------------

TOPICS = ("order", "execution", "position", "wallet")


def pushed(message: Mapping[str, object]) -> tuple[VenueEvent, ...]:
    """The events of one push, in order; an item that makes no sense is one of its own.

    Products other than perpetuals in USDT are left out; topics that were not asked for say nothing.
    """
    topic = message.get("topic")
    read = _READERS.get(topic) if isinstance(topic, str) else None
    if read is None:
        return ()
    where = f"{VENUE} push {topic}"
    rows = message.get("data")
    if not isinstance(rows, list):
        return (VenueEvent(EventKind.MALFORMED, detail=f"{where}: field 'data': no list"),)
    events: list[VenueEvent] = []
    for i, row in enumerate(rows):
        parsed = each([row], f"{where} {i}", read)
        events += [event for event in parsed.items if event is not None]
        events += [VenueEvent(EventKind.MALFORMED, detail=fault) for fault in parsed.faults]
    return tuple(events)


def _symbol(row: Fields) -> str | None:
    """The canonical symbol, or None for a product that is not traded here."""
    if row.text("category") != "linear":
        return None
    try:
        return usdt_perpetual(row.text("symbol"))
    except ValueError:
        return None


def _order_event(row: Fields) -> VenueEvent | None:
    symbol = _symbol(row)
    return None if symbol is None else VenueEvent(EventKind.ORDER, symbol, order=order(row))


def _fill_event(row: Fields) -> VenueEvent | None:
    symbol = _symbol(row)
    return None if symbol is None else VenueEvent(EventKind.FILL, symbol, fill=fill(row))


def _position_event(row: Fields) -> VenueEvent | None:
    symbol = _symbol(row)
    return None if symbol is None else VenueEvent(EventKind.POSITION, symbol)


def _wallet_event(_row: Fields) -> VenueEvent | None:
    return VenueEvent(EventKind.BALANCE)


_READERS: Mapping[str, Callable[[Fields], VenueEvent | None]] = MappingProxyType(
    dict(
        zip(
            TOPICS,
            (_order_event, _fill_event, _position_event, _wallet_event),
            strict=True,
        )
    )
)
