"""The form of Bybit v5 requests and replies: parameters, error codes, pages, envelope."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from live.exchange.book import Refusal, RefusedError
from live.exchange.engine import Engine
from live.exchange.prices import NEVER_MS

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_Item = TypeVar("_Item")

# What the venue answers for each refusal: code and message.
CODES: Mapping[Refusal, tuple[int, str]] = {
    Refusal.PARAMETER: (10001, "params error"),
    Refusal.SYMBOL: (10001, "Not supported symbols"),
    Refusal.QUANTITY_STEP: (10001, "Qty invalid"),
    Refusal.MINIMUM_QUANTITY: (10001, "The number of contracts exceeds minimum limit allowed"),
    Refusal.MAXIMUM_QUANTITY: (10001, "The number of contracts exceeds maximum limit allowed"),
    Refusal.MINIMUM_NOTIONAL: (110094, "Order does not meet minimum order value"),
    Refusal.PRICE_TICK: (10001, "Price invalid"),
    Refusal.WRONG_SIDE: (10001, "Trigger price is on the wrong side of base_price"),
    Refusal.MARGIN: (110007, "ab not enough for new order"),
    Refusal.REDUCE_ONLY: (110017, "current position is zero, cannot fix reduce-only order qty"),
    Refusal.DUPLICATE: (110072, "OrderLinkedID is duplicate"),
    Refusal.NOT_FOUND: (110001, "order not exists or too late to cancel"),
    Refusal.POSITION_INDEX: (10001, "position idx not match position mode"),
    Refusal.NO_POSITION: (10001, "can not set tp/sl/ts for zero position"),
    Refusal.HALTED: (110074, "This contract is not live"),
    Refusal.ONLY_REDUCING: (110023, "Currently you can only reduce your positions"),
    Refusal.LEVERAGE_RANGE: (110013, "cannot set leverage due to risk limit level"),
    Refusal.LEVERAGE_SAME: (110043, "leverage not modified"),
    Refusal.PROTECTION_SAME: (34040, "not modified"),
    Refusal.PROTECTION: (10001, "TP/SL rejected"),
    Refusal.POSITION_MODE_SAME: (110025, "Position mode is not modified"),
    Refusal.MARGIN_MODE_SAME: (110026, "Cross/isolated margin mode is not modified"),
    Refusal.MODE_IN_USE: (110024, "There are existing positions or orders"),
}


class BybitError(Exception):
    """A refusal that has a code of its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def refusal_error(error: RefusedError) -> BybitError:
    """The venue's code of a refusal."""
    code, message = CODES[error.reason]
    return BybitError(code, f"{message}: {error.detail}")


def envelope(code: int, message: str, result: Any, time_ms: int) -> dict[str, Any]:
    """What every reply is wrapped in."""
    return {
        "retCode": code,
        "retMsg": message,
        "result": result,
        "retExtInfo": {},
        "time": time_ms,
    }


class Params:
    """Parameters of a request, from its query or its JSON body."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def error(self, message: str) -> BybitError:
        """A parameter error."""
        return BybitError(10001, message)

    def given(self, name: str) -> bool:
        """Whether a parameter is there and not empty."""
        return self._values.get(name) not in (None, "")

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        """A string."""
        if not self.given(name):
            if required:
                raise self.error(f"params error: {name} is missing")
            return default
        value = self._values[name]
        if not isinstance(value, str):
            raise self.error(f"params error: {name} is no string")
        return value

    def whole(self, name: str, default: int) -> int:
        """A whole number, as JSON number or as digits."""
        if not self.given(name):
            return default
        value = self._values[name]
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,18}", str(value)):
            raise self.error(f"params error: {name} is no whole number")
        return int(value)

    def flag(self, name: str) -> bool:
        """True or false, false when absent."""
        value = self._values.get(name) or False
        if value not in (True, False, "true", "false"):
            raise self.error(f"params error: {name} is no boolean")
        return value in (True, "true")

    def number(self, name: str, *, required: bool = False) -> Decimal | None:
        """A decimal, written as a plain string; None when absent."""
        written = self.text(name, required=required)
        if not written:
            return None
        if not _NUMBER.fullmatch(written):
            raise self.error(f"params error: {name} is no number")
        return Decimal(written)

    def listed(self, engine: Engine, *, required: bool = True) -> str:
        """The symbol, which must be listed in the linear category; empty when not given."""
        if self.text("category", required=True) != "linear":
            raise self.error("Not supported category")
        symbol = self.text("symbol", required=required)
        if symbol and symbol not in engine.instruments:
            raise self.error("Not supported symbols")
        return symbol

    def span(self) -> tuple[int, int]:
        """StartTime and endTime, both inclusive; at most seven days when both are given."""
        start, end = self.whole("startTime", 0), self.whole("endTime", NEVER_MS)
        if self.given("startTime") and self.given("endTime") and end - start > 7 * 86_400_000:
            raise self.error("The time range between startTime and endTime cannot exceed 7 days")
        return start, end


def page(
    items: Sequence[_Item], params: Params, *, default: int, most: int
) -> tuple[list[_Item], str]:
    """One page of a list and the cursor of the next, empty at the end."""
    limit = min(max(params.whole("limit", default), 1), most)
    start = params.whole("cursor", 0)
    end = start + limit
    return list(items[start:end]), str(end) if end < len(items) else ""
