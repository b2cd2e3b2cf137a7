"""What Bybit's market replies say: instruments, rates, quotes and bars; pure and exact."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

import numpy as np

from live.types import Bars, Instrument, Quote, UnreadableError
from live.venues.bybit_parse import SETTLE, VENUE, Envelope, each
from live.venues.fields import Fields, exact, milliseconds
from live.venues.symbols import usdt_perpetual

# Where the venue does not tell.
TAKER_FEE, MAINTENANCE_RATE = Decimal("0.00055"), Decimal("0.004")


def instrument(reply: Envelope, symbol: str) -> Instrument | None:
    """The listed symbol, or None where a readable reply does not list it.

    Other symbols in the reply are not looked at. Fee and maintenance rate are the usual ones.
    """
    rows = [row for row in reply.result.list("list") if isinstance(row, Mapping)]
    rows = [row for row in rows if row.get("symbol") == symbol]
    if not rows:
        return None
    row = Fields(rows[0], f"{VENUE} instrument {symbol}")
    lot, price = row.object("lotSizeFilter"), row.object("priceFilter")
    leverage = row.object("leverageFilter")
    status = row.text("status")
    if row.text("settleCoin") != SETTLE:
        raise row.wrong("settleCoin", repr(SETTLE))
    return Instrument(
        venue=VENUE,
        symbol=usdt_perpetual(symbol),
        venue_symbol=symbol,
        base=row.text("baseCoin"),
        quote=row.text("quoteCoin"),
        settle=SETTLE,
        contract_size=Decimal(1),
        quantity_step=lot.positive("qtyStep"),
        min_quantity=lot.positive("minOrderQty"),
        max_market_quantity=lot.positive("maxMktOrderQty"),
        tick=price.positive("tickSize"),
        min_notional=lot.not_negative("minNotionalValue"),
        max_leverage=leverage.positive("maxLeverage"),
        taker_fee=TAKER_FEE,
        maintenance_rate=MAINTENANCE_RATE,
        status="trading" if status == "Trading" else status.lower(),
        delist_ms=milliseconds(row.raw.get("deliveryTime")),  # "0" of a perpetual is no time
    )


def taker_fee(reply: Envelope, symbol: str) -> Decimal:
    """The account's taker fee of a symbol, a fraction."""
    return _rate(_row_of(reply, symbol, "fee rate"), "takerFeeRate")


def taker_fees(reply: Envelope) -> dict[str, Decimal]:
    """The account's taker fees by symbol, fractions; rows that make no sense are left out."""
    rows = each(
        reply.result.list("list"),
        f"{VENUE} fee rates",
        lambda row: (row.text("symbol"), _rate(row, "takerFeeRate")),
    )
    told = Counter(name for name, _ in rows.items)
    return {name: fee for name, fee in rows.items if told[name] == 1}


def maintenance_rate(reply: Envelope, symbol: str) -> Decimal:
    """The maintenance rate of a symbol's first tier, a fraction."""
    tiers = each(reply.result.list("list"), f"{VENUE} risk limit", lambda row: row).all()
    own = [tier for tier in tiers if tier.raw.get("symbol") == symbol]
    if not own:
        raise UnreadableError(f"{VENUE} risk limit: names no tier of {symbol}.")
    return _rate(min(own, key=lambda tier: tier.positive("riskLimitValue")), "maintenanceMargin")


def quote(reply: Envelope, symbol: str) -> Quote:
    """Best prices and mark."""
    return _quote(_row_of(reply, symbol, "ticker"), reply.time_ms)


def quotes(reply: Envelope, symbols: Collection[str]) -> dict[str, Quote]:
    """Quotes of many symbols; one without exactly one row that makes sense is left out."""
    rows: dict[str, list[Fields]] = {name: [] for name in symbols}
    for raw in reply.result.list("list"):
        name = raw.get("symbol") if isinstance(raw, Mapping) else None
        if isinstance(name, str) and name in rows:
            rows[name].append(Fields(raw, f"{VENUE} ticker {name}"))
    found: dict[str, Quote] = {}
    for name, own in rows.items():
        if len(own) == 1:
            with contextlib.suppress(UnreadableError):
                found[name] = _quote(own[0], reply.time_ms)
    return found


def _quote(row: Fields, time_ms: int) -> Quote:
    bid, ask = row.positive("bid1Price"), row.positive("ask1Price")
    if not bid <= ask:
        raise row.wrong("bid1Price", f"at most the best ask {ask}")
    return Quote(bid, ask, row.positive("markPrice"), time_ms)


Candle = tuple[int, tuple[Decimal, Decimal, Decimal, Decimal, Decimal]]


def candles(reply: Envelope, symbol: str, duration_ms: int) -> list[Candle]:
    """Rows of a kline reply as they came, open ones included: START in ms and exact OHLCV.

    A row that makes no sense spoils the reply: dropping it would shift time.
    """
    where = f"{VENUE} kline {symbol}"
    if reply.result.text("symbol") != symbol:
        raise reply.result.wrong("symbol", repr(symbol))
    return [
        _candle(row, f"{where} [{i}]", duration_ms)
        for i, row in enumerate(reply.result.list("list"))
    ]


def pushed_candles(
    message: Mapping[str, object], interval: str, duration_ms: int, where: str
) -> list[Candle]:
    """Rows of one push of bars that the venue calls closed, as they came.

    Rows of a bar that is still forming are left out; of the others one that makes no sense spoils
    the message.
    """
    data = message.get("data")
    if not isinstance(data, list):
        raise UnreadableError(f"{where}: field 'data': no list")
    rows = [Fields.of(item, f"{where} [{i}]") for i, item in enumerate(data)]
    return [_pushed(row, interval, duration_ms) for row in rows if row.flag("confirm")]


def _pushed(row: Fields, interval: str, duration_ms: int) -> Candle:
    if row.text("interval") != interval:
        raise row.wrong("interval", repr(interval))
    names = ("start", "open", "high", "low", "close", "volume")
    candle = _candle([row.raw.get(name) for name in names], row.where, duration_ms)
    if row.time_ms("end") != candle[0] + duration_ms - 1:
        raise row.wrong("end", "the last millisecond of the bar")
    return candle


def _candle(row: object, where: str, duration_ms: int) -> Candle:
    if not isinstance(row, list) or len(row) < 6:
        raise UnreadableError(f"{where}: expected a list of at least 6 numbers.")
    start = milliseconds(row[0])
    if start is None or start % duration_ms:
        raise UnreadableError(f"{where}: field 'start': no begin of a bar.")
    values = []
    for name, text in zip(("open", "high", "low", "close", "volume"), row[1:6], strict=True):
        value = exact(text)
        if value is None or value < 0 or (value == 0 and name != "volume"):
            raise UnreadableError(f"{where}: field {name!r}: no usable number.")
        values.append(value)
    first, high, low, last, volume = values
    if not (high >= max(first, last) and low <= min(first, last)):
        raise UnreadableError(f"{where}: high and low do not cover open and close.")
    return start, (first, high, low, last, volume)


def merge(rows: Iterable[Candle], where: str) -> dict[int, Candle]:
    """Rows by START, exact repeats dropped.

    Raises:
      UnreadableError: two rows of one bar differ.
    """
    merged: dict[int, Candle] = {}
    for row in rows:
        if merged.setdefault(row[0], row) != row:
            raise UnreadableError(f"{where}: two different rows for the bar at {row[0]}.")
    return merged


def bars(rows: Mapping[int, Candle], frame: str) -> Bars:
    """Bars in ascending order."""
    starts = sorted(rows)
    values = [[float(value) for value in rows[start][1]] for start in starts]
    return Bars(
        frame,
        np.asarray(starts, dtype=np.int64),
        np.asarray(values, dtype=np.float64).reshape(len(starts), 5),
    )


def hole(starts: list[int], duration_ms: int) -> tuple[int, int] | None:
    """First and last missing START of ascending bars, or None where they are contiguous."""
    missing = [
        (before + duration_ms, after - duration_ms)
        for before, after in itertools.pairwise(starts)
        if after - before != duration_ms
    ]
    return (missing[0][0], missing[-1][1]) if missing else None


def _row_of(reply: Envelope, symbol: str, what: str) -> Fields:
    rows = [row for row in reply.result.list("list") if isinstance(row, Mapping)]
    rows = [row for row in rows if row.get("symbol") == symbol]
    if len(rows) != 1:
        raise UnreadableError(f"{VENUE} {what} {symbol}: expected one row; got {len(rows)}.")
    return Fields(rows[0], f"{VENUE} {what} {symbol}")


def _rate(row: Fields, name: str) -> Decimal:
    value = row.not_negative(name)
    if not value < 1:
        raise row.wrong(name, "a fraction below 1")
    return value
