"""What a client may ask of the exchange: orders, protection, settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from live.exchange import ledger
from live.exchange.book import (
    Order,
    OrderKind,
    OrderRequest,
    Refusal,
    RefusedError,
    check_order,
    check_protection,
    closed,
)
from live.exchange.matching import Matching
from live.types import Bracket, Instrument, MarginMode, OrderStatus, PositionMode


class Requests(Matching):
    """Requests raise `RefusedError` and then have changed nothing."""

    def submit(self, request: OrderRequest) -> Order:
        """Place an order; a market order trades at once, or as `hold_fills` says.

        Raises:
          RefusedError: see `Refusal`.
        """
        with self.turn():
            instrument = self._listed(request.symbol)
            if request.client_id and self.book.known(request.client_id):
                raise RefusedError(Refusal.DUPLICATE, f"{request.client_id} was used before")
            self._check_index(request.symbol, request.index)
            mark = self.mark(request.symbol)
            check_order(request, instrument, mark)
            order = self.new_order(request)
            if request.kind is OrderKind.TRIGGER:
                return self._accept(order)
            order, price = self.price_order(order, mark)
            order = self._accept(order)
            if self._fill_delay_ms:
                self._waiting[order.order_id] = self.now_ms + self._fill_delay_ms
                return order
            return self._execute(order, price)

    def cancel(self, symbol: str, *, order_id: str = "", client_id: str = "") -> Order:
        """Cancel an open order.

        Raises:
          RefusedError: there is none.
        """
        with self.turn():
            order = self._open_order(symbol, order_id, client_id)
            return self._put(closed(order, OrderStatus.CANCELLED, self.now_ms))

    def amend(
        self,
        symbol: str,
        *,
        order_id: str = "",
        client_id: str = "",
        quantity: Decimal | None = None,
        trigger_price: Decimal | None = None,
    ) -> Order:
        """Change a waiting order; None keeps.

        Raises:
          RefusedError: there is none, or the new values are not allowed.
        """
        with self.turn():
            order = self._open_order(symbol, order_id, client_id)
            changed = replace(
                order,
                quantity=order.quantity if quantity is None else quantity,
                trigger_price=order.trigger_price if trigger_price is None else trigger_price,
                updated_ms=self.now_ms,
            )
            request = OrderRequest(
                symbol=symbol,
                side=changed.side,
                quantity=changed.quantity,
                reduce_only=changed.reduce_only,
                index=changed.index,
                kind=OrderKind.TRIGGER,
                trigger_price=changed.trigger_price,
                rising=changed.rising,
            )
            check_order(request, self.instruments[symbol], self.mark(symbol))
            return self._put(changed)

    def set_protection(
        self, symbol: str, index: int, *, change: Bracket, remove: Iterable[OrderKind] = ()
    ) -> None:
        """Set or move (a price), keep (None) or ``remove`` stop and target of a position.

        Raises:
          RefusedError: no position, wrong prices, nothing would change.
        """
        with self.turn():
            instrument = self._listed(symbol)
            self._check_index(symbol, index)
            key = (symbol, index)
            holding = self.account.holding(key)
            if holding is None:
                raise RefusedError(Refusal.NO_POSITION, "there is no position to protect")
            check_protection(
                holding.side,
                change.stop_price,
                change.target_price,
                instrument,
                self.mark(symbol),
            )
            if self._refused_stops:
                self._refused_stops -= 1
                raise RefusedError(Refusal.PROTECTION, "the stop is refused")
            legs = self.protection(key)
            leaving = [legs[kind] for kind in remove if kind in legs]
            prices = {
                OrderKind.STOP_LOSS: change.stop_price,
                OrderKind.TAKE_PROFIT: change.target_price,
            }
            if not leaving and all(
                price is None or (kind in legs and legs[kind].trigger_price == price)
                for kind, price in prices.items()
            ):
                raise RefusedError(Refusal.PROTECTION_SAME, "nothing would change")
            for leg in leaving:
                self._put(closed(leg, OrderStatus.CANCELLED, self.now_ms))
            for kind, price in prices.items():
                self._set_leg(key, kind, price)
            self._tell("position", symbol, key)

    def set_leverage(self, symbol: str, long: Decimal, short: Decimal) -> None:
        """Set leverage; the margin of a held position changes with it.

        Raises:
          RefusedError: out of range, nothing would change, not enough margin.
        """
        with self.turn():
            maximum = self._listed(symbol).max_leverage
            settings = self.settings[symbol]
            for leverage in (long, short):
                if not 1 <= leverage <= maximum:
                    raise RefusedError(Refusal.LEVERAGE_RANGE, f"must be 1 to {maximum}")
            if (long, short) == (settings.long_leverage, settings.short_leverage):
                raise RefusedError(Refusal.LEVERAGE_SAME, "leverage not modified")
            if self.keeps_leverage:
                return
            changed = replace(settings, long_leverage=long, short_leverage=short)
            after = {**self.settings, symbol: changed}
            grows = long < settings.long_leverage or short < settings.short_leverage
            if grows and not ledger.available(self.account, after, self.marks()) >= 0:
                raise RefusedError(Refusal.MARGIN, "not enough for the larger margin")
            self.settings = after

    def set_margin_mode(self, mode: MarginMode, symbol: str | None = None) -> None:
        """Set how margin is held, of one symbol or (None) of the account.

        Raises:
          RefusedError: nothing would change, or positions or orders are in the way.
        """
        with self.turn():
            self._switch(symbol, Refusal.MARGIN_MODE_SAME, margin_mode=mode)

    def set_position_mode(self, mode: PositionMode, symbol: str | None = None) -> None:
        """Set one-way or hedge mode, of one symbol or (None) of the account.

        Raises:
          RefusedError: nothing would change, or positions or orders are in the way.
        """
        with self.turn():
            self._switch(symbol, Refusal.POSITION_MODE_SAME, position_mode=mode)

    def _switch(self, symbol: str | None, same: Refusal, **change: Any) -> None:
        symbols = list(self.settings) if symbol is None else [symbol]
        after = {**self.settings}
        for name in symbols:
            self._listed(name)
            after[name] = replace(self.settings[name], **change)
        if after == self.settings:
            raise RefusedError(same, "mode not modified")
        held = any(holding.symbol in symbols for holding in self.account.holdings.values())
        if held or any(order.symbol in symbols for order in self.book.open()):
            raise RefusedError(Refusal.MODE_IN_USE, "there are positions or orders")
        self.settings = after

    # Helpers --------------------------------------------------------------------------------------

    def _listed(self, symbol: str) -> Instrument:
        if symbol not in self.instruments:
            raise RefusedError(Refusal.SYMBOL, f"{symbol} is not listed")
        return self.instruments[symbol]

    def _check_index(self, symbol: str, index: int) -> None:
        hedged = self.settings[symbol].position_mode is PositionMode.HEDGE
        if index not in ((1, 2) if hedged else (0,)):
            raise RefusedError(Refusal.POSITION_INDEX, f"{index} does not fit the position mode")

    def _open_order(self, symbol: str, order_id: str, client_id: str) -> Order:
        self._listed(symbol)
        order = self.book.find(symbol, order_id, client_id)
        if order is None or order.status.terminal:
            raise RefusedError(Refusal.NOT_FOUND, "there is no such open order")
        return order
