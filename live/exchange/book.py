"""Orders and executions of the exchange, and what it refuses before an order rests or trades."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from live.types import FillKind, Instrument, OrderStatus, Side

# Closed orders that a look-up among the open ones still finds.
RECENT = 500


class Refusal(enum.StrEnum):
    """Why the exchange refuses; each wire protocol has its own code for it."""

    PARAMETER = "parameter"
    SYMBOL = "symbol"
    QUANTITY_STEP = "quantity_step"
    MINIMUM_QUANTITY = "minimum_quantity"
    MAXIMUM_QUANTITY = "maximum_quantity"
    MINIMUM_NOTIONAL = "minimum_notional"
    PRICE_TICK = "price_tick"
    WRONG_SIDE = "wrong_side"
    MARGIN = "margin"
    REDUCE_ONLY = "reduce_only"
    DUPLICATE = "duplicate"
    NOT_FOUND = "not_found"
    POSITION_INDEX = "position_index"
    NO_POSITION = "no_position"
    HALTED = "halted"
    ONLY_REDUCING = "only_reducing"
    LEVERAGE_RANGE = "leverage_range"
    LEVERAGE_SAME = "leverage_same"
    PROTECTION_SAME = "protection_same"
    PROTECTION = "protection"
    POSITION_MODE_SAME = "position_mode_same"
    MARGIN_MODE_SAME = "margin_mode_same"
    MODE_IN_USE = "mode_in_use"


class RefusedError(Exception):
    """The exchange says no; nothing has changed."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class OrderKind(enum.StrEnum):
    """What an order is to the exchange."""

    MARKET = "market"
    TRIGGER = "trigger"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    LIQUIDATION = "liquidation"
    ADL = "adl"
    SETTLEMENT = "settlement"

    @property
    def conditional(self) -> bool:
        """Whether it waits for the mark price."""
        return self in (OrderKind.TRIGGER, OrderKind.STOP_LOSS, OrderKind.TAKE_PROFIT)

    @property
    def protective(self) -> bool:
        """Whether it belongs to a position and follows its size."""
        return self in (OrderKind.STOP_LOSS, OrderKind.TAKE_PROFIT)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What somebody asks for; quantities unsigned, base units.

    Attributes:
      index: 0 one-way, 1 the long and 2 the short position of hedge mode.
      rising: of a trigger: whether it waits for the mark to rise to ``trigger_price``.
      stop_price, target_price: of the position, once the order has traded.
    """

    symbol: str
    side: Side
    quantity: Decimal
    client_id: str = ""
    reduce_only: bool = False
    index: int = 0
    kind: OrderKind = OrderKind.MARKET
    trigger_price: Decimal | None = None
    rising: bool = False
    stop_price: Decimal | None = None
    target_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One order as the exchange keeps it; ``value`` and ``fee`` of what has traded, quote units."""

    order_id: str
    client_id: str
    symbol: str
    side: Side
    quantity: Decimal
    kind: OrderKind
    index: int
    reduce_only: bool
    status: OrderStatus
    created_ms: int
    updated_ms: int
    trigger_price: Decimal | None = None
    rising: bool = False
    stop_price: Decimal | None = None
    target_price: Decimal | None = None
    filled: Decimal = Decimal(0)
    value: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)
    reject_reason: str = ""

    @property
    def average_price(self) -> Decimal | None:
        """Mean price of what has traded."""
        return self.value / self.filled if self.filled else None


@dataclass(frozen=True, slots=True)
class Execution:
    """One trade or payment of the account.

    Attributes:
      quantity: unsigned; of a funding payment the size it was paid on.
      fee: paid, negative = received. realised: profit of the closed part before the fee.
      closed: part of the quantity that reduced the position. leaves: of the order, afterwards.
    """

    execution_id: str
    order_id: str
    client_id: str
    symbol: str
    index: int
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    kind: FillKind
    time_ms: int
    sequence: int
    closed: Decimal = Decimal(0)
    realised: Decimal = Decimal(0)
    order_quantity: Decimal = Decimal(0)
    leaves: Decimal = Decimal(0)
    order_kind: OrderKind = OrderKind.MARKET

    @property
    def signed(self) -> Decimal:
        """Change of the position; 0 for funding."""
        return Decimal(0) if self.kind is FillKind.FUNDING else self.side.sign * self.quantity


class Book:
    """Every order and execution, in the order they came."""

    def __init__(self) -> None:
        self.executions: list[Execution] = []
        self._orders: dict[str, Order] = {}
        self._open: dict[str, None] = {}
        self._open_of: dict[str, dict[str, None]] = {}
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._by_client: dict[str, str] = {}

    def __iter__(self) -> Iterator[Order]:
        return iter(self._orders.values())

    def add(self, order: Order) -> Order:
        """Keep a new order."""
        if order.client_id:
            self._by_client[order.client_id] = order.order_id
        return self.put(order)

    def put(self, order: Order) -> Order:
        """Keep the newest state of an order."""
        self._orders[order.order_id] = order
        own = self._open_of.setdefault(order.symbol, {})
        if not order.status.terminal:
            self._open[order.order_id] = own[order.order_id] = None
        elif order.order_id in self._open or order.order_id not in self._recent:
            self._open.pop(order.order_id, None)
            own.pop(order.order_id, None)
            self._recent.append(order.order_id)
        return order

    def known(self, client_id: str) -> bool:
        """Whether an order ever had this client id."""
        return client_id in self._by_client

    def get(self, order_id: str) -> Order:
        """An order by the exchange's id."""
        return self._orders[order_id]

    def find(self, symbol: str | None, order_id: str = "", client_id: str = "") -> Order | None:
        """An order by either id (the exchange's first), or None."""
        order = self._orders.get(order_id or self._by_client.get(client_id, ""))
        return order if order is not None and symbol in (None, order.symbol) else None

    def open(self, symbol: str | None = None) -> list[Order]:
        """Orders that may still trade, oldest first."""
        found = self._open if symbol is None else self._open_of.get(symbol, {})
        return [self._orders[order_id] for order_id in found]

    def recent(self) -> list[Order]:
        """The closed orders that are still at hand, oldest first."""
        return [self._orders[order_id] for order_id in self._recent]

    def forget_recent(self) -> None:
        """Lose the closed orders at hand, as a restart of a matching engine does."""
        self._recent.clear()


def check_order(request: OrderRequest, instrument: Instrument, mark: Decimal) -> None:
    """Refuse what no account could send.

    Raises:
      RefusedError: halted market, quantity or price outside the instrument's filters, a stop or
        target on the wrong side of the mark.
    """
    if instrument.status != "trading" and not (
        instrument.status == "reduce_only" and request.reduce_only
    ):
        reducing = instrument.status == "reduce_only"
        reason = Refusal.ONLY_REDUCING if reducing else Refusal.HALTED
        raise RefusedError(reason, f"{request.symbol} is {instrument.status}")
    check_quantity(request, instrument, mark)
    if request.kind is OrderKind.TRIGGER:
        _check_trigger(request, instrument, mark)
    check_protection(request.side.sign, request.stop_price, request.target_price, instrument, mark)


def check_quantity(request: OrderRequest, instrument: Instrument, mark: Decimal) -> None:
    """Refuse a quantity outside the filters; a reducing order may be below the minimum notional.

    Raises:
      RefusedError: with what is wrong.
    """
    quantity = request.quantity
    if not (quantity.is_finite() and quantity > 0) or quantity % instrument.quantity_step:
        raise RefusedError(Refusal.QUANTITY_STEP, f"quantity {quantity} is not in steps")
    if quantity < instrument.min_quantity:
        raise RefusedError(Refusal.MINIMUM_QUANTITY, f"quantity {quantity} is too small")
    if 0 < instrument.max_market_quantity < quantity:
        raise RefusedError(Refusal.MAXIMUM_QUANTITY, f"quantity {quantity} is too large")
    if not request.reduce_only and quantity * mark < instrument.min_notional:
        raise RefusedError(Refusal.MINIMUM_NOTIONAL, f"value {quantity * mark} is too small")


def check_protection(
    side: int,
    stop_price: Decimal | None,
    target_price: Decimal | None,
    instrument: Instrument,
    mark: Decimal,
) -> None:
    """Refuse prices off the tick, or on the wrong side of the mark for a position of ``side``.

    Raises:
      RefusedError: with what is wrong.
    """
    for name, price, beyond in (("stop", stop_price, -side), ("target", target_price, side)):
        if price is None:
            continue
        _check_price(name, price, instrument)
        if (price - mark) * beyond <= 0:
            where = "higher" if beyond > 0 else "lower"
            detail = f"{name} {price} should be {where} than the mark {mark}"
            raise RefusedError(Refusal.WRONG_SIDE, detail)


def _check_trigger(request: OrderRequest, instrument: Instrument, mark: Decimal) -> None:
    price = request.trigger_price
    if price is None:
        raise RefusedError(Refusal.PARAMETER, "a conditional order needs a trigger price")
    _check_price("trigger", price, instrument)
    if price <= mark if request.rising else price >= mark:
        raise RefusedError(Refusal.WRONG_SIDE, f"the mark {mark} is already beyond {price}")


def _check_price(name: str, price: Decimal, instrument: Instrument) -> None:
    if not (price.is_finite() and price > 0) or price % instrument.tick:
        raise RefusedError(Refusal.PRICE_TICK, f"{name} price {price} is not in ticks")


def closed(order: Order, status: OrderStatus, time_ms: int, reason: str = "") -> Order:
    """The order in its last state."""
    return replace(order, status=status, updated_ms=time_ms, reject_reason=reason)
