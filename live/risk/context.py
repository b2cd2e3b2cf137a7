"""What the risk gate is told when an intent is about to be sent, and what of it counts as known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from live.risk import TradingState
from live.types import ZERO, Flat, Held, Instrument, Intent, Position, Quote, Side, Unknown

T = TypeVar("T")
_LARGE = Decimal("1e18")  # no quantity, price or amount of a real account is beyond


class UnknownInputError(Exception):
    """A check needs what is missing, unknown or no number; it denies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskContext:
    """What is known when an intent is about to be sent; None = it is not known.

    Attributes:
      state: of trading. frozen: an order of the symbol is unknown. in_flight: a request that
        changes the symbol is on its way. allowed_symbols: that the run trades.
      environment_proven: host, mode and account are what the configuration says.
      venue_time_ms: now. snapshot_age_ms: of position and prices. lateness_ms: since the end of
        the bar. entry_window_ms: how late an entry may be.
      clock_uncertainty_ms, clock_limit_ms: of the venue's time. clock_denial: why the clock's own
        limits permit no entry; empty = they do.
      journal_writable, disk_ok: whether intents become durable.
      position, journal_quantity: as the venue reports it and as booked fills add up.
      last_close: of the newest execution bar. equity: that this symbol may use. account_equity,
        available: of the account. leverage, fee: configured and read back. other_notional: gross,
        of positions in other symbols. All quote units.
      orders_minute, orders_day: sent so far. repeated: the journal has this intent already.
      stop_possible: a stop for it can be placed, or none is needed (a replay).
      venue_reduce_only: the venue enforces the flag.
    """

    state: TradingState | None = None
    frozen: bool | None = None
    in_flight: bool | None = None
    allowed_symbols: frozenset[str] | None = None
    market_status: str | None = None
    environment_proven: bool | None = None
    venue_time_ms: int | None = None
    snapshot_age_ms: float | None = None
    lateness_ms: float | None = None
    entry_window_ms: float | None = None
    clock_uncertainty_ms: float | None = None
    clock_limit_ms: float | None = 1000.0
    clock_denial: str | None = ""
    journal_writable: bool | None = None
    disk_ok: bool | None = None
    instrument: Instrument | None = None
    position: Position | None = None
    journal_quantity: Decimal | None = None
    quote: Quote | None = None
    last_close: Decimal | None = None
    equity: Decimal | None = None
    account_equity: Decimal | None = None
    available: Decimal | None = None
    leverage: Decimal | None = None
    fee: Decimal | None = None
    other_notional: Decimal | None = None
    orders_minute: int | None = None
    orders_day: int | None = None
    repeated: bool | None = None
    stop_possible: bool | None = None
    venue_reduce_only: bool | None = None


def known(value: T | None, name: str) -> T:
    """An input that says something.

    Raises:
      UnknownInputError: it is missing, an unknown position, not finite, or absurdly large.
    """
    if value is None or not usable(value):
        raise UnknownInputError(f"{name} is not known")
    return value


def usable(value: Any) -> bool:
    """Whether an input says something."""
    match value:
        case None | Unknown():
            return False
        case bool() | str() | frozenset() | Flat():
            return True
        case Decimal():
            return value.is_finite() and abs(value) <= _LARGE
        case int() | float():
            return math.isfinite(value)
        case Quote():
            return all(positive(price) for price in (value.bid, value.ask, value.mark))
        case Held():
            return usable(value.quantity) and value.quantity != 0 and positive(value.mark_price)
        case Instrument():
            sizes = (value.quantity_step, value.min_quantity, value.max_market_quantity)
            amounts = (*sizes, value.tick, value.min_notional)
            return all(usable(amount) and amount >= 0 for amount in amounts)
        case _:
            raise TypeError(f"gate: cannot judge {type(value).__name__}.")


def positive(value: Decimal) -> bool:
    """Whether an amount is a sane number above 0."""
    return usable(value) and value > 0


def held_quantity(context: RiskContext) -> Decimal:
    """Signed position, base units.

    Raises:
      UnknownInputError: it is not known.
    """
    position = known(context.position, "the position")
    return position.quantity if isinstance(position, Held) else ZERO


def sizing_price(intent: Intent, context: RiskContext) -> Decimal:
    """What a market order pays: the ask of a buy, the bid of a sell, quote units."""
    quote = known(context.quote, "the quote")
    return quote.ask if intent.side is Side.BUY else quote.bid


def prices(intent: Intent) -> tuple[Decimal, ...]:
    """Every price that an intent names."""
    legs = intent.bracket
    named = [intent.price, intent.trigger_price]
    if legs is not None:
        named += [legs.stop_price, legs.target_price]
    return tuple(price for price in named if price is not None)
