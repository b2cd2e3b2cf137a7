"""How Bybit v5 writes what the exchange holds: numbers are strings, times are strings of ms."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from live.exchange import ledger
from live.exchange.book import Execution, Order, OrderKind
from live.exchange.engine import Engine
from live.exchange.levels import isolated_levels
from live.types import FillKind, MarginMode, OrderStatus, PositionMode, Side

Row = dict[str, Any]

CATEGORY = "linear"
SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
_SIDE_NAMES = {side: name for name, side in SIDES.items()}
_STATUS = {
    OrderStatus.OPEN: "New",
    OrderStatus.PARTIALLY_FILLED: "PartiallyFilled",
    OrderStatus.FILLED: "Filled",
    OrderStatus.CANCELLED: "Cancelled",
    OrderStatus.REJECTED: "Rejected",
    OrderStatus.TRIGGERED: "Triggered",
}
_STOP_TYPES = {
    OrderKind.STOP_LOSS: "StopLoss",
    OrderKind.TAKE_PROFIT: "TakeProfit",
    OrderKind.TRIGGER: "Stop",
}
_CREATED_BY = {
    OrderKind.STOP_LOSS: "CreateByStopLoss",
    OrderKind.TAKE_PROFIT: "CreateByTakeProfit",
    OrderKind.LIQUIDATION: "CreateByLiq",
    OrderKind.ADL: "CreateByAdl_PassThrough",
    OrderKind.SETTLEMENT: "CreateBySettle",
}
_EXECUTION_TYPES = {
    FillKind.TRADE: "Trade",
    FillKind.LIQUIDATION: "BustTrade",
    FillKind.ADL: "AdlTrade",
    FillKind.FUNDING: "Funding",
    FillKind.SETTLEMENT: "Settle",
}


def text(value: Decimal | float | None) -> str:
    """A number as the wire has it: fixed point, no trailing zeros; None is empty."""
    if value is None:
        return ""
    number = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    return format(number.normalize(ledger.CONTEXT), "f") if number else "0"


def rounded(value: Decimal) -> str:
    """A derived number, to eight decimals."""
    return text(value.quantize(Decimal("1e-8")))


def status_of(order: Order) -> str:
    """The order's state in the venue's words."""
    if order.kind.conditional and not order.filled:
        if order.status is OrderStatus.OPEN:
            return "Untriggered"
        if order.status is OrderStatus.CANCELLED:
            return "Deactivated"
    if order.status is OrderStatus.CANCELLED and order.filled:
        return "PartiallyFilledCanceled"
    return _STATUS[order.status]


def order_row(order: Order) -> Row:
    """One order."""
    return {
        "symbol": order.symbol,
        "orderType": "Market",
        "orderLinkId": order.client_id,
        "slLimitPrice": "0",
        "orderId": order.order_id,
        "cancelType": "UNKNOWN",
        "avgPrice": "" if order.average_price is None else rounded(order.average_price),
        "stopOrderType": _STOP_TYPES.get(order.kind, ""),
        "orderStatus": status_of(order),
        "takeProfit": text(order.target_price),
        "stopLoss": text(order.stop_price),
        "cumExecValue": text(order.value),
        "createType": _CREATED_BY.get(order.kind, "CreateByUser"),
        "tpslMode": "Full" if order.kind.protective else "UNKNOWN",
        "smpType": "None",
        "triggerDirection": _direction(order),
        "timeInForce": "IOC",
        "rejectReason": "EC_NoError" if not order.reject_reason else "EC_NoEnoughQtyToFill",
        "price": "0",
        "cumExecFee": text(order.fee),
        "createdTime": str(order.created_ms),
        "updatedTime": str(order.updated_ms),
        "side": _SIDE_NAMES[order.side],
        "triggerPrice": text(order.trigger_price),
        "positionIdx": order.index,
        "reduceOnly": order.reduce_only,
        "closeOnTrigger": order.kind.protective,
        "qty": text(order.quantity),
        "leavesQty": "0" if order.status.terminal else text(order.quantity - order.filled),
        "cumExecQty": text(order.filled),
        "slTriggerBy": "MarkPrice" if order.stop_price else "",
        "tpTriggerBy": "MarkPrice" if order.target_price else "",
        "triggerBy": "MarkPrice" if order.kind.conditional else "",
    }


def _direction(order: Order) -> int:
    if not order.kind.conditional:
        return 0
    return 1 if order.rising else 2


def execution_row(execution: Execution) -> Row:
    """One trade or payment."""
    return {
        "symbol": execution.symbol,
        "orderId": execution.order_id,
        "orderLinkId": execution.client_id,
        "side": _SIDE_NAMES[execution.side],
        "orderPrice": "0",
        "orderQty": text(execution.order_quantity),
        "leavesQty": text(execution.leaves),
        "createType": _CREATED_BY.get(execution.order_kind, "CreateByUser"),
        "orderType": "UNKNOWN" if execution.kind is FillKind.FUNDING else "Market",
        "stopOrderType": _STOP_TYPES.get(execution.order_kind, ""),
        "execFee": text(execution.fee),
        "feeCurrency": "",
        "execId": execution.execution_id,
        "execPrice": text(execution.price),
        "execQty": text(execution.quantity),
        "execType": _EXECUTION_TYPES[execution.kind],
        "execValue": text(execution.quantity * execution.price),
        "execTime": str(execution.time_ms),
        "isMaker": False,
        "feeRate": rounded(execution.fee / (execution.quantity * execution.price)),
        "closedSize": text(execution.closed),
        "seq": execution.sequence,
    }


def position_rows(engine: Engine, symbol: str) -> list[Row]:
    """The positions of a symbol: one, or in hedge mode always two."""
    hedged = engine.settings[symbol].position_mode is PositionMode.HEDGE
    return [position_row(engine, (symbol, index)) for index in ((1, 2) if hedged else (0,))]


def position_row(engine: Engine, key: ledger.Key) -> Row:
    """One position, held or flat."""
    symbol, index = key
    settings, instrument = engine.settings[symbol], engine.instruments[symbol]
    holding, mark = engine.account.holding(key), engine.mark(symbol)
    bracket = engine.bracket(symbol, index)
    side = holding.side if holding else -1 if index == 2 else 1
    margin = rounded(ledger.initial_margin(holding, settings)) if holding else ""
    liquidation, bankruptcy = _levels(engine, key)
    return {
        "positionIdx": index,
        "riskId": 1,
        "riskLimitValue": "2000000",
        "symbol": symbol,
        "side": "" if holding is None else "Buy" if side > 0 else "Sell",
        "size": text(abs(holding.quantity)) if holding else "0",
        "avgPrice": rounded(holding.entry_price) if holding else "0",
        "positionValue": text(abs(holding.cost)) if holding else "",
        # A unified account has no margin mode per symbol; account/info has the truth.
        "tradeMode": 0,
        "autoAddMargin": 0,
        "positionStatus": "Normal",
        "leverage": text(settings.leverage(side)),
        "markPrice": text(mark),
        "liqPrice": liquidation,
        "bustPrice": bankruptcy,
        "positionIM": margin,
        "positionMM": text(ledger.maintenance_margin(holding, instrument)) if holding else "",
        "takeProfit": text(bracket.target_price),
        "stopLoss": text(bracket.stop_price),
        "tpslMode": "Full",
        "trailingStop": "0",
        "unrealisedPnl": text(holding.unrealised(mark)) if holding else "",
        "curRealisedPnl": text(holding.realised) if holding else "0",
        "cumRealisedPnl": text(engine.realised.get(key, Decimal(0))),
        "adlRankIndicator": 2 if holding else 0,
        "isReduceOnly": instrument.status == "reduce_only",
        "seq": len(engine.book.executions),
        "createdTime": str(holding.opened_ms if holding else 0),
        "updatedTime": str(holding.updated_ms if holding else 0),
        "sessionAvgPrice": "",
        "leverageSysUpdatedTime": "",
        "mmrSysUpdatedTime": "",
        "positionBalance": margin or "0",
    }


def _levels(engine: Engine, key: ledger.Key) -> tuple[str, str]:
    """Liquidation and bankruptcy price, empty where there is none."""
    holding, settings = engine.account.holding(key), engine.settings[key[0]]
    if holding is None:
        return "", ""
    if settings.margin_mode is MarginMode.CROSS:
        return text(engine.cross_level(key[0])), ""
    levels = isolated_levels(holding, settings, engine.instruments[key[0]])
    return text(levels[0] or None), text(levels[1])


def wallet_row(engine: Engine) -> Row:
    """The unified account; isolated accounts leave the account-wide margins blank."""
    account, marks = engine.account, engine.marks()
    cross = all(s.margin_mode is MarginMode.CROSS for s in engine.settings.values())
    unrealised, equity = account.unrealised(marks), account.equity(marks)
    held = account.holdings.values()
    initial = sum(
        (ledger.initial_margin(h, engine.settings[h.symbol]) for h in held), start=Decimal(0)
    )
    kept = sum(
        (ledger.maintenance_margin(h, engine.instruments[h.symbol]) for h in held),
        start=Decimal(0),
    )
    free = max(ledger.available(account, engine.settings, marks), Decimal(0))

    def cross_only(value: Decimal) -> str:
        return rounded(value) if cross else ""

    return {
        "accountType": "UNIFIED",
        "totalEquity": rounded(equity),
        "totalWalletBalance": rounded(account.wallet),
        "totalMarginBalance": cross_only(equity),
        "totalAvailableBalance": cross_only(free),
        "totalPerpUPL": rounded(unrealised),
        "totalInitialMargin": cross_only(initial),
        "totalMaintenanceMargin": cross_only(kept),
        "accountIMRate": cross_only(initial / equity) if equity > 0 else "",
        "accountMMRate": cross_only(kept / equity) if equity > 0 else "",
        "accountLTV": "",
        "coin": [
            {
                "coin": next(iter(engine.instruments.values())).settle,
                "equity": text(equity),
                "usdValue": rounded(equity),
                "walletBalance": text(account.wallet),
                "locked": "0",
                "borrowAmount": "0",
                "accruedInterest": "0",
                "availableToWithdraw": "",
                "totalOrderIM": "0",
                "totalPositionIM": rounded(initial),
                "totalPositionMM": rounded(kept),
                "unrealisedPnl": text(unrealised),
                "cumRealisedPnl": text(account.realised - account.fees - account.funding),
                "bonus": "0",
                "marginCollateral": True,
                "collateralSwitch": True,
                "spotHedgingQty": "0",
            }
        ],
    }
