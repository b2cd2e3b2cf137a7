"""Checks of the risk gate that compare an order with the venue's filters and with amounts of money.

Each returns why it denies, or None; what it cannot know raises `UnknownInputError`.
"""

from __future__ import annotations

from decimal import Decimal

from live.risk import RiskConfig
from live.risk.context import (
    RiskContext,
    held_quantity,
    known,
    positive,
    prices,
    sizing_price,
)
from live.types import Held, Intent, IntentKind

# Above what a plan reaches by rounding and by the drift between its price and the mark.
NOTIONAL_SLACK = Decimal("1.05")
LEVERAGE_SLACK = Decimal("1.02")
_ROUNDING = Decimal("1.000000001")  # of what float64 arithmetic may add

_UNSIZED = (IntentKind.CANCEL, IntentKind.AMEND)
_RESTING = (IntentKind.STOP, IntentKind.TARGET)


def finite(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """Everything that an intent names is a number above 0, and what it has to name is there."""
    if intent.kind not in _UNSIZED and not positive(intent.quantity):
        return f"quantity {intent.quantity}"
    bad = [price for price in prices(intent) if not positive(price)]
    if bad:
        return f"price {bad[0]}"
    if intent.kind in _RESTING and intent.trigger_price is None:
        return "no trigger price"
    if intent.kind in (IntentKind.AMEND, IntentKind.BRACKET) and intent.bracket is None:
        return "no bracket"
    return None


def on_tick(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """Prices are multiples of the tick."""
    tick = known(context.instrument, "the instrument").tick
    off = [price for price in prices(intent) if tick > 0 and price % tick != 0]
    return f"price {off[0]} is no multiple of {tick}" if off else None


def _closes_all(intent: Intent, context: RiskContext) -> bool:
    held = context.position
    return intent.reduce_only and isinstance(held, Held) and intent.quantity == abs(held.quantity)


def on_step(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """The quantity is a multiple of the step, or the whole position in the venue's own words."""
    step = known(context.instrument, "the instrument").quantity_step
    fits = intent.kind in _UNSIZED or not step > 0 or intent.quantity % step == 0
    if fits or _closes_all(intent, context):
        return None
    return f"quantity {intent.quantity} is no multiple of {step}"


def at_least(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """The smallest quantity, and for what opens the smallest notional; a whole close is exempt."""
    listed = known(context.instrument, "the instrument")
    if intent.kind in _UNSIZED or _closes_all(intent, context):
        return None
    if intent.quantity < listed.min_quantity:
        return f"quantity {intent.quantity} is below {listed.min_quantity}"
    if intent.reduce_only:
        return None
    notional = intent.quantity * sizing_price(intent, context)
    if notional >= listed.min_notional:
        return None
    return f"{notional:f} {listed.quote} is below {listed.min_notional}"


def at_most(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """The largest market order; a larger one is refused, not split."""
    most = known(context.instrument, "the instrument").max_market_quantity
    if intent.kind in (*_UNSIZED, *_RESTING) or not most > 0 or intent.quantity <= most:
        return None
    return f"quantity {intent.quantity} is above {most}"


def collar(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """The price that sized the order is near the mark and near the last close."""
    width = Decimal(repr(config.price_collar))
    sized = [sizing_price(intent, context)]
    if intent.price is not None:
        sized.append(intent.price)
    mark = known(context.quote, "the quote").mark
    for name, anchor in (("mark", mark), ("last close", known(context.last_close, "last close"))):
        for price in sized:
            if not (anchor > 0 and abs(price - anchor) <= width * anchor):
                return f"price {price} is more than {width} from the {name} {anchor}"
    return None


def _compare(
    notional: Decimal, fixed: float | None, equity: Decimal | None, leverage: Decimal | None
) -> str | None:
    """A notional against its limit, quote units."""
    if fixed is None:
        most = NOTIONAL_SLACK * known(equity, "equity") * known(leverage, "leverage")
    else:
        most = Decimal(repr(fixed))
    return None if notional <= most else f"{notional:f} exceeds {most:f}"


def _after(intent: Intent, context: RiskContext) -> Decimal:
    """Notional of the position that the order would leave, at the mark, quote units."""
    quantity = held_quantity(context) + intent.side.sign * intent.quantity
    return abs(quantity) * known(context.quote, "the quote").mark


def order_notional(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """The order alone."""
    price = max(sizing_price(intent, context), known(context.quote, "the quote").mark)
    fixed = config.max_order_notional
    return _compare(intent.quantity * price, fixed, context.equity, context.leverage)


def position_notional(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """The position that it would leave."""
    fixed = config.max_position_notional
    return _compare(_after(intent, context), fixed, context.account_equity, context.leverage)


def gross_notional(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """That position and those of the other symbols."""
    others = known(context.other_notional, "the notional of other symbols")
    if not others >= 0:
        return f"other positions of {others}"
    gross = _after(intent, context) + others
    return _compare(gross, config.max_gross_notional, context.account_equity, context.leverage)


def effective_leverage(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """The leverage that the position would have, and no short without leverage."""
    leverage, equity = known(context.leverage, "leverage"), known(context.equity, "equity")
    if not (leverage >= 1 and equity > 0):
        return f"leverage {leverage} on an equity of {equity}"
    after = held_quantity(context) + intent.side.sign * intent.quantity
    if leverage <= 1 and after < 0:
        return "there are no shorts at leverage 1"
    used = _after(intent, context) / equity
    return None if used <= leverage * LEVERAGE_SLACK else f"{used:.4f} exceeds {leverage}"


def affordable(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """The available balance pays margin and fee."""
    leverage, fee = known(context.leverage, "leverage"), known(context.fee, "the fee")
    available = known(context.available, "the available balance")
    if not (leverage >= 1 and fee >= 0):
        return f"leverage {leverage} and fee {fee}"
    cost = intent.quantity * sizing_price(intent, context) * (1 / leverage + fee)
    if cost <= available * _ROUNDING:
        return None
    return f"margin and fee of {cost:f} exceed {available:f}"
