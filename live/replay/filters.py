"""What a simulated venue can do, and its filters: none at all, or what they refuse."""

from __future__ import annotations

from decimal import Decimal

from live.replay.book import exact
from live.replay.money import ReplayTerms
from live.types import ZERO, Category, Certainty, Definitive, Instrument, Intent
from live.venue import Capabilities

# Of every venue whose orders a simulated account fills.
CAPABILITIES = Capabilities(
    bracket_with_entry=True,
    protects_position=True,
    reduce_only=True,
    closed_flag=False,
    refuses_repeated_id=True,
)
DEFAULT_SYMBOL = "BTC/USDT:USDT"


def unfiltered(terms: ReplayTerms, symbol: str = DEFAULT_SYMBOL) -> Instrument:
    """An instrument without steps, ticks and minima: nothing is rounded, as offline.

    Args:
      symbol: ``BASE/QUOTE`` or ``BASE/QUOTE:SETTLE``, or one word, quoted in USD.
    """
    pair, _, settle = symbol.partition(":")
    base, _, quote = pair.partition("/")
    return Instrument(
        venue="replay",
        symbol=symbol,
        venue_symbol=symbol,
        base=base,
        quote=quote or "USD",
        settle=settle or quote or "USD",
        contract_size=Decimal(1),
        quantity_step=ZERO,
        min_quantity=ZERO,
        max_market_quantity=ZERO,
        tick=ZERO,
        min_notional=ZERO,
        max_leverage=exact(terms.leverage),
        taker_fee=exact(terms.transaction_fee),
        maintenance_rate=exact(terms.maintenance_margin_rate),
    )


def refusal_of(intent: Intent, price: float, rules: Instrument) -> Definitive | None:
    """Why the filters refuse a market order at a price, or None."""
    quantity = intent.quantity
    open_to = ("trading", "reduce_only") if intent.reduce_only else ("trading",)
    if rules.status not in open_to:
        return refused(Category.HALTED, f"{rules.symbol} is {rules.status}")
    if not (quantity.is_finite() and quantity > 0):
        return refused(Category.PRECISION, f"quantity {quantity} is not > 0")
    if rules.quantity_step and quantity % rules.quantity_step:
        return refused(Category.PRECISION, f"quantity is off the step {rules.quantity_step}")
    if rules.max_market_quantity and quantity > rules.max_market_quantity:
        return refused(Category.OTHER, f"quantity is above {rules.max_market_quantity}")
    if intent.reduce_only:
        return None
    if quantity < rules.min_quantity:
        return refused(Category.MINIMUM, f"quantity is below {rules.min_quantity}")
    if rules.min_notional and not float(quantity) * price >= rules.min_notional:
        return refused(Category.MINIMUM, f"notional is below {rules.min_notional}")
    return None


def refused(category: Category, detail: str) -> Definitive:
    """A venue's no, whose code is the word of its category."""
    return Definitive(Certainty.REJECTED, code=category.value, category=category, detail=detail)
