"""One instant of the exchange: orders become trades, trades move positions and their protection."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal

from live.exchange import ledger
from live.exchange.book import (
    Execution,
    Order,
    OrderKind,
    OrderRequest,
    Refusal,
    RefusedError,
    closed,
)
from live.exchange.desk import Desk
from live.exchange.ledger import Holding, Key
from live.exchange.prices import to_step
from live.types import FillKind, OrderStatus, Side

_FILL_KINDS = {
    OrderKind.LIQUIDATION: FillKind.LIQUIDATION,
    OrderKind.ADL: FillKind.ADL,
    OrderKind.SETTLEMENT: FillKind.SETTLEMENT,
}


class Fills(Desk):
    """Everything that happens in one instant."""

    # Orders ---------------------------------------------------------------------------------------

    def new_order(self, request: OrderRequest) -> Order:
        """An order that nobody knows of yet."""
        return Order(
            order_id=self._identity(),
            client_id=request.client_id,
            symbol=request.symbol,
            side=request.side,
            quantity=request.quantity,
            kind=request.kind,
            index=request.index,
            reduce_only=request.reduce_only,
            status=OrderStatus.OPEN,
            created_ms=self.now_ms,
            updated_ms=self.now_ms,
            trigger_price=request.trigger_price,
            rising=request.rising,
            stop_price=request.stop_price,
            target_price=request.target_price,
        )

    def _accept(self, order: Order) -> Order:
        self._tell("order", order.symbol, order)
        return self.book.add(order)

    def _put(self, order: Order) -> Order:
        self._tell("order", order.symbol, order)
        return self.book.put(order)

    def price_order(self, order: Order, base: Decimal) -> tuple[Order, Decimal]:
        """The order cut to what it may trade, and its price; nothing changes.

        Raises:
          RefusedError: nothing to reduce, or not enough margin.
        """
        quantity = self._tradable(order)
        price = self._price(order.symbol, order.side, base)
        self.check_margin((order.symbol, order.index), order.side.sign * quantity, price)
        return replace(order, quantity=order.filled + quantity), price

    def _execute(self, order: Order, price: Decimal) -> Order:
        """Trade an accepted order now, in the parts of `plan_fills`; the rest goes as it says."""
        key = (order.symbol, order.index)
        step = self.instruments[order.symbol].quantity_step
        if self._refused_stops and (order.stop_price or order.target_price):
            self._refused_stops -= 1
            order = replace(order, stop_price=None, target_price=None)
        fractions, self._fractions = self._fractions or [Decimal(1)], []
        keeps_rest, self._keeps_rest = self._keeps_rest, False
        whole = left = order.quantity - order.filled
        for fraction in fractions:
            # All of a quantity trades also where the step has grown since it was opened.
            part = min(to_step(whole * fraction, step, ROUND_FLOOR), left)
            part = left if fraction == 1 else part
            if part > 0:
                order = self._fill(order, key, part, price)
                left -= part
        if order.filled < order.quantity and not keeps_rest:
            order = self._put(closed(order, OrderStatus.CANCELLED, self.now_ms))
        return order

    def _tradable(self, order: Order) -> Decimal:
        """What is left of the order's quantity; a reducing one is cut to the position.

        Raises:
          RefusedError: it reduces and there is nothing on the other side.
        """
        left = order.quantity - order.filled
        holding = self.account.holding((order.symbol, order.index))
        held = Decimal(0)
        if holding is not None and holding.side != order.side.sign:
            held = abs(holding.quantity)
        closes = order.index in (1, 2) and order.side.sign != (1 if order.index == 1 else -1)
        if not (order.reduce_only or order.kind.protective or closes):
            return left
        if not held:
            raise RefusedError(Refusal.REDUCE_ONLY, "there is no position to reduce")
        if closes and not order.reduce_only and left > held:
            raise RefusedError(Refusal.REDUCE_ONLY, f"the position is only {held}")
        return held if order.kind.protective else min(left, held)

    def check_margin(self, key: Key, signed: Decimal, price: Decimal) -> None:
        """Refuse a trade whose opening part the account cannot post.

        Raises:
          RefusedError: with what is missing.
        """
        fee = self._fee(key[0], abs(signed), price)
        after, traded = ledger.trade(self.account, key, signed, price, fee, self.now_ms)
        if not traded.opened:
            return
        free = ledger.available(after, self.settings, self.marks())
        if not free >= 0:
            raise RefusedError(Refusal.MARGIN, f"{-free} more would be needed")

    def _fill(self, order: Order, key: Key, quantity: Decimal, price: Decimal) -> Order:
        """One execution, and everything that follows from it."""
        fee = self._fee(order.symbol, quantity, price)
        before = self.account.holding(key)
        self.account, traded = ledger.trade(
            self.account, key, order.side.sign * quantity, price, fee, self.now_ms
        )
        filled = order.filled + quantity
        done = filled >= order.quantity
        order = replace(
            order,
            status=OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
            filled=filled,
            value=order.value + quantity * price,
            fee=order.fee + fee,
            updated_ms=self.now_ms,
        )
        self._record(
            Execution(
                execution_id=self._identity(),
                order_id=order.order_id,
                client_id=order.client_id,
                symbol=order.symbol,
                index=key[1],
                side=order.side,
                quantity=quantity,
                price=price,
                fee=fee,
                kind=_FILL_KINDS.get(order.kind, FillKind.TRADE),
                time_ms=self.now_ms,
                sequence=self._sequence,
                closed=traded.closed,
                realised=traded.realised,
                order_quantity=order.quantity,
                leaves=order.quantity - filled,
                order_kind=order.kind,
            )
        )
        order = self._put(order)
        self._follow(order, key, before)
        self._tell("position", order.symbol, key)
        self._tell("wallet", order.symbol)
        return order

    # Protection -----------------------------------------------------------------------------------

    def protection(self, key: Key) -> dict[OrderKind, Order]:
        """The live stop and target of a position."""
        return {
            order.kind: order
            for order in self.book.open(key[0])
            if order.kind.protective and order.index == key[1]
        }

    def _follow(self, order: Order, key: Key, before: Holding | None) -> None:
        """Stop and target follow the position, leave with it, and come with the order."""
        holding = self.account.holding(key)
        turned = before is not None and (holding is None or holding.side != before.side)
        for leg in self.protection(key).values():
            if holding is None or turned:
                if leg.order_id != order.order_id:
                    self._put(closed(leg, OrderStatus.CANCELLED, self.now_ms))
            elif leg.quantity != abs(holding.quantity) and leg.order_id != order.order_id:
                self._put(replace(leg, quantity=abs(holding.quantity), updated_ms=self.now_ms))
        wanted = order.stop_price is not None or order.target_price is not None
        if holding is None or not wanted or holding.side != order.side.sign:
            return
        self._set_leg(key, OrderKind.STOP_LOSS, order.stop_price)
        self._set_leg(key, OrderKind.TAKE_PROFIT, order.target_price)

    def _set_leg(self, key: Key, kind: OrderKind, price: Decimal | None) -> None:
        """Set or move a leg of a held position; None leaves it as it is."""
        holding = self.account.holdings[key]
        leg = self.protection(key).get(kind)
        if price is None or (leg is not None and leg.trigger_price == price):
            return
        rising = (holding.side > 0) == (kind is OrderKind.TAKE_PROFIT)
        if leg is not None:
            self._put(replace(leg, trigger_price=price, updated_ms=self.now_ms))
            return
        leg = self.new_order(
            OrderRequest(
                symbol=key[0],
                side=Side.of(-holding.quantity),
                quantity=abs(holding.quantity),
                reduce_only=True,
                index=key[1],
                kind=kind,
                trigger_price=price,
                rising=rising,
            )
        )
        self._accept(leg)
