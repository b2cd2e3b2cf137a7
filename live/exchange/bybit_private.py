"""Private endpoints of Bybit v5: orders, executions, positions, account."""

from __future__ import annotations

import re
from decimal import Decimal

from live.exchange.book import Order, OrderKind, OrderRequest, Refusal, RefusedError
from live.exchange.bybit_rows import (
    CATEGORY,
    SIDES,
    Row,
    execution_row,
    order_row,
    position_row,
    position_rows,
    text,
    wallet_row,
)
from live.exchange.bybit_wire import BybitError, Params, page
from live.exchange.engine import Engine
from live.types import Bracket, FillKind, MarginMode, PositionMode

_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_MARGIN_MODES = {
    "ISOLATED_MARGIN": MarginMode.ISOLATED,
    "REGULAR_MARGIN": MarginMode.CROSS,
}
_POSITION_MODES = {0: PositionMode.ONE_WAY, 3: PositionMode.HEDGE}
_EXECUTION_KINDS = {
    "Trade": FillKind.TRADE,
    "BustTrade": FillKind.LIQUIDATION,
    "AdlTrade": FillKind.ADL,
    "Funding": FillKind.FUNDING,
}

# Orders -------------------------------------------------------------------------------------------


def create(engine: Engine, params: Params) -> Row:
    """order/create: market orders, at once or on a trigger."""
    symbol = params.listed(engine)
    side = SIDES.get(params.text("side", required=True))
    if side is None:
        raise params.error("Side invalid")
    if params.text("orderType", required=True) != "Market":
        raise params.error("OrderType invalid: this exchange trades market orders only")
    client_id = params.text("orderLinkId")
    if client_id and not _CLIENT_ID.fullmatch(client_id):
        raise params.error("OrderLinkId invalid")
    trigger = params.number("triggerPrice")
    direction = params.whole("triggerDirection", 0)
    if trigger is not None and direction not in (1, 2):
        raise params.error("TriggerDirection invalid")
    _check_trigger_by(params, "triggerBy", "slTriggerBy", "tpTriggerBy")
    if params.text("tpslMode", "Full") != "Full":
        raise params.error("tpslMode: this exchange protects whole positions only")
    order = engine.submit(
        OrderRequest(
            symbol=symbol,
            side=side,
            quantity=params.number("qty", required=True) or Decimal(0),
            client_id=client_id,
            reduce_only=params.flag("reduceOnly"),
            index=params.whole("positionIdx", 0),
            kind=OrderKind.MARKET if trigger is None else OrderKind.TRIGGER,
            trigger_price=trigger,
            rising=direction == 1,
            stop_price=params.number("stopLoss") or None,
            target_price=params.number("takeProfit") or None,
        )
    )
    return _ids(order)


def _check_trigger_by(params: Params, *names: str) -> None:
    for name in names:
        if params.text(name, "MarkPrice") not in ("MarkPrice", "LastPrice", "IndexPrice"):
            raise params.error(f"{name} invalid")


def _ids(order: Order) -> Row:
    return {"orderId": order.order_id, "orderLinkId": order.client_id}


def _named(engine: Engine, params: Params) -> dict[str, str]:
    """Which order is meant."""
    if not (params.given("orderId") or params.given("orderLinkId")):
        raise params.error("params error: orderId or orderLinkId is missing")
    return {"order_id": params.text("orderId"), "client_id": params.text("orderLinkId")}


def amend(engine: Engine, params: Params) -> Row:
    """order/amend: quantity and trigger price of a waiting order."""
    symbol = params.listed(engine)
    order = engine.amend(
        symbol,
        **_named(engine, params),
        quantity=params.number("qty"),
        trigger_price=params.number("triggerPrice"),
    )
    return _ids(order)


def cancel(engine: Engine, params: Params) -> Row:
    """order/cancel."""
    symbol = params.listed(engine)
    return _ids(engine.cancel(symbol, **_named(engine, params)))


def cancel_all(engine: Engine, params: Params) -> Row:
    """order/cancel-all: stops and targets of positions too."""
    symbol = params.listed(engine, required=not params.given("settleCoin"))
    found = engine.orders(symbol or None, live=True)
    rows = [_ids(engine.cancel(order.symbol, order_id=order.order_id)) for order in found]
    return {"list": rows, "success": "1"}


def realtime(engine: Engine, params: Params) -> Row:
    """order/realtime: open orders; asked by id also one of the newest closed ones."""
    symbol = params.listed(engine, required=False)
    if not (symbol or params.given("settleCoin")):
        raise params.error("Missing some parameters that must be filled in, symbol or settleCoin")
    found = engine.orders(symbol or None, live=True)
    if params.given("orderId") or params.given("orderLinkId"):
        found = [order for order in [*found, *engine.book.recent()] if _is_meant(order, params)]
    elif params.whole("openOnly", 0):
        found = [order for order in engine.book.recent() if symbol in ("", order.symbol)]
    return _order_page(found, params)


def history(engine: Engine, params: Params) -> Row:
    """order/history: orders that have ended, newest first."""
    symbol = params.listed(engine, required=False)
    start, end = params.span()
    found = [
        order
        for order in engine.orders(symbol or None)
        if order.status.terminal and start <= order.updated_ms <= end and _is_meant(order, params)
    ]
    return _order_page(found, params)


def _is_meant(order: Order, params: Params) -> bool:
    order_id, client_id = params.text("orderId"), params.text("orderLinkId")
    return order_id in ("", order.order_id) and client_id in ("", order.client_id)


def _order_page(found: list[Order], params: Params) -> Row:
    wanted = params.text("orderFilter")
    if wanted:
        conditional = wanted in ("StopOrder", "tpslOrder")
        found = [order for order in found if order.kind.conditional == conditional]
    shown, cursor = page(found[::-1], params, default=20, most=50)
    rows = [order_row(order) for order in shown]
    return {"category": CATEGORY, "list": rows, "nextPageCursor": cursor}


def executions(engine: Engine, params: Params) -> Row:
    """execution/list: newest first."""
    symbol = params.listed(engine, required=False)
    start, end = params.span()
    kind = _EXECUTION_KINDS.get(params.text("execType"))
    if params.given("execType") and kind is None:
        raise params.error("execType invalid")
    client_id, order_id = params.text("orderLinkId"), params.text("orderId")
    found = [
        e
        for e in reversed(engine.executions(symbol or None))
        if start <= e.time_ms <= end
        and kind in (None, e.kind)
        and client_id in ("", e.client_id)
        and order_id in ("", e.order_id)
    ]
    rows, cursor = page([execution_row(e) for e in found], params, default=50, most=100)
    return {"category": CATEGORY, "list": rows, "nextPageCursor": cursor}


# Positions ----------------------------------------------------------------------------------------


def positions(engine: Engine, params: Params) -> Row:
    """position/list: one symbol, flat or not, or everything held in a settlement coin."""
    symbol = params.listed(engine, required=False)
    if not (symbol or params.given("settleCoin")):
        raise params.error("Missing some parameters that must be filled in, symbol or settleCoin")
    if symbol:
        rows, cursor = page(position_rows(engine, symbol), params, default=20, most=200)
    else:  # only what is held
        keys, cursor = page(sorted(engine.account.holdings), params, default=20, most=200)
        rows = [position_row(engine, key) for key in keys]
    return {"category": CATEGORY, "list": rows, "nextPageCursor": cursor}


def trading_stop(engine: Engine, params: Params) -> Row:
    """position/trading-stop: "0" removes, absent keeps."""
    symbol = params.listed(engine)
    _check_trigger_by(params, "slTriggerBy", "tpTriggerBy")
    if params.text("tpslMode", "Full") != "Full":
        raise params.error("tpslMode: this exchange protects whole positions only")
    stop, target = params.number("stopLoss"), params.number("takeProfit")
    prices = {OrderKind.STOP_LOSS: stop, OrderKind.TAKE_PROFIT: target}
    engine.set_protection(
        symbol,
        params.whole("positionIdx", 0),
        change=Bracket(stop or None, target or None),
        remove=[kind for kind, price in prices.items() if price == 0],
    )
    return {}


def set_leverage(engine: Engine, params: Params) -> Row:
    """position/set-leverage."""
    symbol = params.listed(engine)
    long = params.number("buyLeverage", required=True) or Decimal(0)
    short = params.number("sellLeverage", required=True) or Decimal(0)
    hedged = engine.settings[symbol].position_mode is PositionMode.HEDGE
    if long != short and not hedged:
        raise params.error("buy leverage must equal sell leverage")
    engine.set_leverage(symbol, long, short)
    return {}


def switch_mode(engine: Engine, params: Params) -> Row:
    """position/switch-mode."""
    symbol = params.listed(engine, required=not params.given("coin"))
    mode = _POSITION_MODES.get(params.whole("mode", -1))
    if mode is None:
        raise params.error("mode invalid")
    engine.set_position_mode(mode, symbol or None)
    return {}


def switch_isolated(engine: Engine, params: Params) -> Row:
    """position/switch-isolated: not for unified accounts."""
    raise BybitError(100028, "The API cannot be accessed by unified account users.")


# Account ------------------------------------------------------------------------------------------


def wallet_balance(engine: Engine, params: Params) -> Row:
    """account/wallet-balance."""
    if params.text("accountType", required=True) != "UNIFIED":
        raise params.error("accountType only support UNIFIED.")
    return {"list": [wallet_row(engine)]}


def account_info(engine: Engine, params: Params) -> Row:
    """account/info."""
    modes = {settings.margin_mode for settings in engine.settings.values()}
    names = {mode: name for name, mode in _MARGIN_MODES.items()}
    return {
        "marginMode": names[modes.pop()] if len(modes) == 1 else "PORTFOLIO_MARGIN",
        "updatedTime": str(engine.now_ms),
        "unifiedMarginStatus": 5,
        "dcpStatus": "OFF" if engine.deadman.seconds is None else "ON",
        "timeWindow": engine.deadman.seconds or 10,
        "smpGroup": 0,
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
    }


def set_margin_mode(engine: Engine, params: Params) -> Row:
    """account/set-margin-mode, of the whole account."""
    mode = _MARGIN_MODES.get(params.text("setMarginMode", required=True))
    if mode is None:
        raise params.error("setMarginMode invalid")
    try:
        engine.set_margin_mode(mode)
    except RefusedError as error:
        if error.reason is Refusal.MODE_IN_USE:
            raise BybitError(3400045, "Set margin mode failed") from error
        raise
    return {"reasons": []}


def fee_rate(engine: Engine, params: Params) -> Row:
    """account/fee-rate."""
    symbol = params.listed(engine, required=False)
    rows = [
        {"symbol": name, "takerFeeRate": text(i.taker_fee), "makerFeeRate": text(i.taker_fee)}
        for name, i in engine.instruments.items()
        if symbol in ("", name)
    ]
    return {"category": CATEGORY, "list": rows}
