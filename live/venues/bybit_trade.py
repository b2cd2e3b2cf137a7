"""What is sent to Bybit for an intent: pure; refused where it is off the grid."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import assert_never

from live.planner.rounding import wire
from live.types import (
    Ambiguous,
    Bracket,
    Category,
    Certainty,
    Definitive,
    Instrument,
    Intent,
    IntentKind,
    Outcome,
    PositionMode,
    Side,
)
from live.venues.bybit_parse import Envelope

_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_TRIGGER = "MarkPrice"


class UnfitError(ValueError):
    """An intent that this machine refuses to send.

    Attributes:
      category: why.
    """

    def __init__(self, detail: str, category: Category = Category.OTHER) -> None:
        super().__init__(detail)
        self.category = category

    def outcome(self) -> Definitive:
        """What is certain about it."""
        return Definitive(Certainty.NOT_SENT, category=self.category, detail=str(self))


def position_index(side: Side, reduce_only: bool, mode: PositionMode) -> int:
    """Which leg an order belongs to: 0 in one-way mode; in a hedge 1 is the long, 2 the short."""
    if mode is PositionMode.ONE_WAY:
        return 0
    long = (side is Side.BUY) != reduce_only
    return 1 if long else 2


def order_body(intent: Intent, instrument: Instrument, mode: PositionMode) -> dict[str, object]:
    """The body of an order, numbers as text.

    Raises:
      UnfitError: the intent is no order, or its numbers are not on the venue's grid.
    """
    if _CLIENT_ID.fullmatch(intent.client_id) is None:
        raise UnfitError(f"client id {intent.client_id!r}: expected 1 to 36 letters and digits")
    side = "Buy" if intent.side is Side.BUY else "Sell"
    body: dict[str, object] = {
        "category": "linear",
        "symbol": instrument.venue_symbol,
        "side": side,
        "orderType": "Market",
        "qty": _quantity(intent.quantity, instrument),
        "orderLinkId": intent.client_id,
        "reduceOnly": intent.reduce_only,
        "positionIdx": position_index(intent.side, intent.reduce_only, mode),
    }
    match intent.kind:
        case IntentKind.MARKET:
            return body
        case IntentKind.BRACKET:
            return body | _legs(intent.bracket, instrument)
        case IntentKind.STOP | IntentKind.TARGET:
            return body | _trigger(intent, instrument)
        case IntentKind.AMEND | IntentKind.CANCEL:
            raise UnfitError(f"{intent.kind}: places no order")


def amend_body(bracket: Bracket, instrument: Instrument, index: int) -> dict[str, object]:
    """The body that sets both legs of a position; a leg that is None is removed.

    Raises:
      UnfitError: a price is not on the venue's grid.
    """
    return {
        "category": "linear",
        "symbol": instrument.venue_symbol,
        "tpslMode": "Full",
        "stopLoss": _leg_price(bracket.stop_price, instrument),
        "takeProfit": _leg_price(bracket.target_price, instrument),
        "slTriggerBy": _TRIGGER,
        "tpTriggerBy": _TRIGGER,
        "positionIdx": index,
    }


def cancel_body(client_id: str, venue_order_id: str) -> dict[str, object]:
    """What names the order to cancel: our id where it has one, else the venue's.

    Raises:
      UnfitError: it has neither.
    """
    if client_id:
        return {"orderLinkId": client_id}
    if venue_order_id:
        return {"orderId": venue_order_id}
    raise UnfitError("cancel: the order has neither a client id nor one of the venue")


def _legs(bracket: Bracket | None, instrument: Instrument) -> dict[str, object]:
    """Stop and target that are set with the entry and follow the position."""
    if bracket is None or (bracket.stop_price is None and bracket.target_price is None):
        raise UnfitError("bracket: has neither stop nor target")
    body: dict[str, object] = {"tpslMode": "Full"}
    if bracket.stop_price is not None:
        body |= {
            "stopLoss": _price(bracket.stop_price, instrument),
            "slTriggerBy": _TRIGGER,
            "slOrderType": "Market",
        }
    if bracket.target_price is not None:
        body |= {
            "takeProfit": _price(bracket.target_price, instrument),
            "tpTriggerBy": _TRIGGER,
            "tpOrderType": "Market",
        }
    return body


def _trigger(intent: Intent, instrument: Instrument) -> dict[str, object]:
    """A conditional order of its own: a stop fires when the price moves its way, a target back."""
    if intent.trigger_price is None or not intent.reduce_only:
        raise UnfitError(f"{intent.kind}: needs a trigger price and the reduce-only flag")
    rises = (intent.side is Side.BUY) == (intent.kind is IntentKind.STOP)
    return {
        "triggerPrice": _price(intent.trigger_price, instrument),
        "triggerDirection": 1 if rises else 2,
        "triggerBy": _TRIGGER,
        "closeOnTrigger": True,
    }


def _quantity(quantity: Decimal, instrument: Instrument) -> str:
    most = instrument.max_market_quantity
    if not (quantity.is_finite() and quantity > 0):
        raise UnfitError(f"quantity: must be > 0; got {quantity}", Category.PRECISION)
    if not quantity <= most:
        raise UnfitError(f"quantity: at most {most} in one order; got {quantity}", Category.RISK)
    return _on_grid("quantity", quantity, instrument.quantity_step)


def _leg_price(price: Decimal | None, instrument: Instrument) -> str:
    return "0" if price is None else _price(price, instrument)


def _price(price: Decimal, instrument: Instrument) -> str:
    if not (price.is_finite() and 0 < price < Decimal("1e15")):
        raise UnfitError(f"price: must be a usable number > 0; got {price}", Category.PRECISION)
    return _on_grid("price", price, instrument.tick)


def _on_grid(name: str, value: Decimal, step: Decimal) -> str:
    """The text of a number that was rounded before; it is never rounded again."""
    try:
        return wire(value, step)
    except ValueError as error:
        raise UnfitError(f"{name}: {error}", Category.PRECISION) from None


def acknowledged(answer: Envelope | Outcome, client_id: str) -> Outcome:
    """What a reply to an order says: accepted only if it names order and id."""
    match answer:
        case Envelope(result=result):
            order_id = result.optional_text("orderId")
            if order_id is None or result.raw.get("orderLinkId") != client_id:
                return Ambiguous("bybit: the reply names no order, or another one")
            return Definitive(Certainty.ACCEPTED, venue_order_id=order_id)
        case Definitive() | Ambiguous():
            return answer
        case _:
            assert_never(answer)
