"""Public endpoints of Bybit v5: time, contracts, prices, bars."""

from __future__ import annotations

from decimal import Decimal

from live.exchange.bybit_rows import CATEGORY, Row, rounded, text
from live.exchange.bybit_wire import Params, page
from live.exchange.engine import Engine
from live.exchange.prices import NEVER_MS, Candle
from live.types import Instrument

# Interval names -> minutes; weeks and months are not served.
INTERVALS = {
    **{str(minutes): minutes for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": 1440,
}
_LISTED = {"trading": "Trading", "reduce_only": "Delivering", "closed": "Closed"}


def server_time(engine: Engine, params: Params) -> Row:
    """market/time."""
    now = engine.shown_ms
    return {"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)}


def instruments_info(engine: Engine, params: Params) -> Row:
    """market/instruments-info."""
    symbol = params.listed(engine, required=False)
    found = [i for name, i in engine.instruments.items() if symbol in ("", name)]
    rows, cursor = page([instrument_row(i) for i in found], params, default=500, most=1000)
    return {"category": CATEGORY, "list": rows, "nextPageCursor": cursor}


def tickers(engine: Engine, params: Params) -> Row:
    """market/tickers."""
    symbol = params.listed(engine, required=False)
    names = [symbol] if symbol else list(engine.instruments)
    return {"category": CATEGORY, "list": [ticker_row(engine, name) for name in names]}


def kline(engine: Engine, params: Params) -> Row:
    """market/kline: newest first, row 0 still in progress."""
    return _candles(engine, params, volume=True)


def mark_price_kline(engine: Engine, params: Params) -> Row:
    """market/mark-price-kline: the same without volume."""
    return _candles(engine, params, volume=False)


def _candles(engine: Engine, params: Params, *, volume: bool) -> Row:
    symbol = params.listed(engine)
    interval = params.text("interval", required=True)
    minutes = INTERVALS.get(interval)
    limit = params.whole("limit", 200)
    if minutes is None or not 1 <= limit <= 1000:
        raise params.error("Invalid period!" if minutes is None else "limit invalid")
    length = minutes * 60_000
    start = params.whole("start", 0)
    end = min(params.whole("end", NEVER_MS), engine.now_ms)
    if not params.given("start"):
        start = end - limit * length
    elif not params.given("end"):
        end = min(end, start + limit * length - 1)
    start = max(start, end - (limit + 1) * length)
    try:
        candles = engine.paths[symbol].candles(minutes, start, end, engine.now_ms)
    except ValueError as error:
        raise params.error(str(error)) from error
    rows = [candle_row(candle, volume=volume) for candle in reversed(candles[-limit:])]
    return {"category": CATEGORY, "symbol": symbol, "list": rows}


def instrument_row(instrument: Instrument) -> Row:
    """One listed contract."""
    digits = -int(instrument.tick.normalize().as_tuple().exponent)
    return {
        "symbol": instrument.venue_symbol,
        "contractType": "LinearPerpetual",
        "status": _LISTED.get(instrument.status, instrument.status),
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "settleCoin": instrument.settle,
        "launchTime": "1585526400000",
        "deliveryTime": str(instrument.delist_ms or 0),
        "deliveryFeeRate": "",
        "priceScale": str(max(digits, 0)),
        "leverageFilter": {
            "minLeverage": "1",
            "maxLeverage": text(instrument.max_leverage),
            "leverageStep": "0.01",
        },
        "priceFilter": {
            "minPrice": text(instrument.tick),
            "maxPrice": "1999999.80",
            "tickSize": text(instrument.tick),
        },
        "lotSizeFilter": {
            "maxOrderQty": text(instrument.max_market_quantity or Decimal(10**9)),
            "minOrderQty": text(instrument.min_quantity),
            "qtyStep": text(instrument.quantity_step),
            "postOnlyMaxOrderQty": text(instrument.max_market_quantity or Decimal(10**9)),
            "maxMktOrderQty": text(instrument.max_market_quantity or Decimal(10**9)),
            "minNotionalValue": text(instrument.min_notional),
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "copyTrading": "none",
        "upperFundingRate": "0.00375",
        "lowerFundingRate": "-0.00375",
        "isPreListing": False,
        "preListingInfo": None,
    }


def candle_row(candle: Candle, *, volume: bool = True) -> list[str]:
    """One bar: start, open, high, low, close and, unless of marks, volume and turnover."""
    prices = [candle.open, candle.high, candle.low, candle.close]
    row = [str(candle.open_ms), *map(text, prices)]
    if volume:
        row += [text(candle.volume), text(candle.volume * candle.close)]
    return row


def candle_push(candle: Candle, interval: str, minutes: int, now_ms: int) -> Row:
    """One bar as the stream sends it."""
    return {
        "start": candle.open_ms,
        "end": candle.open_ms + minutes * 60_000 - 1,
        "interval": interval,
        "open": text(candle.open),
        "close": text(candle.close),
        "high": text(candle.high),
        "low": text(candle.low),
        "volume": text(candle.volume),
        "turnover": text(candle.volume * candle.close),
        "confirm": candle.closed,
        "timestamp": now_ms,
    }


def ticker_row(engine: Engine, symbol: str) -> Row:
    """Prices of a symbol; nobody else trades, so last and index are the mark."""
    quote = engine.quote(symbol)
    day = engine.paths[symbol].day(engine.now_ms)
    mark = text(quote.mark)
    funding = engine.funding[symbol]
    following = funding.following(engine.now_ms)
    return {
        "symbol": symbol,
        "lastPrice": mark,
        "indexPrice": mark,
        "markPrice": mark,
        "prevPrice24h": text(day.open),
        "highPrice24h": text(day.high),
        "lowPrice24h": text(day.low),
        "volume24h": text(day.volume),
        "turnover24h": text(day.turnover),
        "openInterest": "0",
        "fundingRate": rounded(funding.rate(following)),
        "nextFundingTime": "0" if following == NEVER_MS else str(following),
        "bid1Price": text(quote.bid),
        "bid1Size": "1000",
        "ask1Price": text(quote.ask),
        "ask1Size": "1000",
    }
