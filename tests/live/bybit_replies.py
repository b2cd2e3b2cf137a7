"""Replies of Bybit as its client was seen to accept them; deep copies, to be changed at will."""

from __future__ import annotations

import copy
from typing import Any

TIME = 1_795_170_305_563


def reply(result: Any) -> dict[str, Any]:
    """A successful reply around a result."""
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": copy.deepcopy(result),
        "retExtInfo": {},
        "time": TIME,
    }


def listed(*rows: Any, **more: Any) -> dict[str, Any]:
    """A successful reply with a list."""
    result = {"category": "linear", "nextPageCursor": "", "list": list(rows), **more}
    return reply(result)


KLINE = listed(
    ["1700000100000", "2", "3", "1", "2.5", "10", "25"],
    ["1700000040000", "1", "2", "1", "2", "10", "15"],
    symbol="BTCUSDT",
)
INSTRUMENT_ROW = {
    "symbol": "BTCUSDT",
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "settleCoin": "USDT",
    "launchTime": "1585526400000",
    "deliveryTime": "0",
    "priceScale": "2",
    "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
    "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
    "lotSizeFilter": {
        "maxOrderQty": "1190.000",
        "minOrderQty": "0.001",
        "qtyStep": "0.001",
        "postOnlyMaxOrderQty": "1190.000",
        "maxMktOrderQty": "500.000",
        "minNotionalValue": "5",
    },
    "unifiedMarginTrade": True,
    "fundingInterval": 480,
}
INSTRUMENT = listed(INSTRUMENT_ROW)
TICKER = listed(
    {
        "symbol": "BTCUSDT",
        "lastPrice": "50000",
        "indexPrice": "50001",
        "markPrice": "50000.5",
        "bid1Price": "49999.9",
        "bid1Size": "1",
        "ask1Price": "50000.1",
        "ask1Size": "1",
        "fundingRate": "0.0001",
        "nextFundingTime": "1700006400000",
    }
)
COIN = {
    "coin": "USDT",
    "equity": "10000",
    "usdValue": "10000",
    "walletBalance": "10000",
    "locked": "0",
    "unrealisedPnl": "0",
    "totalPositionIM": "0",
    "totalOrderIM": "0",
    "availableToWithdraw": "",
}
WALLET = reply(
    {
        "list": [
            {
                "accountType": "UNIFIED",
                "totalEquity": "10000",
                "totalWalletBalance": "10000",
                "totalMarginBalance": "10000",
                "totalAvailableBalance": "10000",
                "totalInitialMargin": "0",
                "totalMaintenanceMargin": "0",
                "coin": [COIN],
            }
        ]
    }
)
ACCOUNT = reply({"marginMode": "REGULAR_MARGIN", "unifiedMarginStatus": 5, "dcpStatus": "OFF"})
LEG = {
    "positionIdx": 0,
    "riskId": 1,
    "symbol": "BTCUSDT",
    "side": "Buy",
    "size": "0.01",
    "avgPrice": "50000",
    "positionValue": "500",
    "tradeMode": 0,
    "positionStatus": "Normal",
    "leverage": "10",
    "markPrice": "50010",
    "liqPrice": "45200.5",
    "takeProfit": "53000",
    "stopLoss": "48000",
    "unrealisedPnl": "0.1",
    "updatedTime": "1700000000000",
}
NO_LEG = LEG | {"side": "", "size": "0", "avgPrice": "0", "liqPrice": "", "positionValue": ""}
POSITION = listed(LEG)
FLAT = listed(NO_LEG)
ORDER = {
    "orderId": "1321003749386327552",
    "orderLinkId": "jtabcd0000000000001e",
    "symbol": "BTCUSDT",
    "price": "0",
    "qty": "0.01",
    "side": "Buy",
    "positionIdx": 0,
    "orderStatus": "Filled",
    "rejectReason": "EC_NoError",
    "avgPrice": "50000",
    "leavesQty": "0",
    "cumExecQty": "0.01",
    "cumExecValue": "500",
    "cumExecFee": "0.275",
    "timeInForce": "IOC",
    "orderType": "Market",
    "stopOrderType": "",
    "reduceOnly": False,
    "closeOnTrigger": False,
    "triggerPrice": "",
    "takeProfit": "",
    "stopLoss": "",
    "createdTime": "1700000000000",
    "updatedTime": "1700000000100",
}
EXECUTION = {
    "symbol": "BTCUSDT",
    "orderId": "o1",
    "orderLinkId": "my-id-1",
    "side": "Sell",
    "execId": "e1",
    "execPrice": "50000",
    "execQty": "0.01",
    "execValue": "500",
    "execFee": "0.275",
    "feeRate": "0.00055",
    "execType": "Trade",
    "isMaker": False,
    "execTime": "1700000000500",
    "leavesQty": "0",
    "closedSize": "0",
    "seq": 1,
}
KEY = reply(
    {
        "id": "1",
        "note": "bot",
        "apiKey": "PUBLIC-MARKER",
        "readOnly": 0,
        "secret": "",
        "permissions": {"ContractTrade": ["Order", "Position"], "Wallet": []},
        "ips": ["10.0.0.1"],
        "userID": 24617703,
        "uta": 1,
    }
)
