"""The exchange as its clients and its tests use it: requests, reads, interventions."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

from live.exchange import ledger
from live.exchange.book import (
    Execution,
    Order,
    OrderKind,
    OrderRequest,
    closed,
)
from live.exchange.desk import Gap
from live.exchange.ledger import Holding
from live.exchange.requests import Requests
from live.types import Bracket, OrderStatus, Side

# What `change_filters` may change.
_FILTERS = frozenset(
    {
        "quantity_step",
        "min_quantity",
        "max_market_quantity",
        "tick",
        "min_notional",
        "max_leverage",
        "taker_fee",
        "maintenance_rate",
    }
)


class Engine(Requests):
    """One exchange account and its market. Every method locks; any thread may call.

    Interventions do what a venue, its risk desk or another user of the account does behind a
    client's back.
    """

    # Reads ----------------------------------------------------------------------------------------

    def position(self, symbol: str) -> Decimal:
        """Signed net position, base units."""
        with self.turn():
            held = (h.quantity for h in self.account.holdings.values() if h.symbol == symbol)
            return sum(held, start=Decimal(0))

    def holding(self, symbol: str, index: int = 0) -> Holding | None:
        """One position, None when flat."""
        return self.account.holding((symbol, index))

    def bracket(self, symbol: str, index: int = 0) -> Bracket:
        """Live stop and target of a position."""
        with self.turn():
            legs = self.protection((symbol, index))
            prices = {kind: leg.trigger_price for kind, leg in legs.items()}
            return Bracket(prices.get(OrderKind.STOP_LOSS), prices.get(OrderKind.TAKE_PROFIT))

    def equity(self) -> Decimal:
        """Wallet and unrealised profit, quote units."""
        with self.turn():
            return self.account.equity(self.marks())

    def available(self) -> Decimal:
        """What new positions may post, quote units."""
        with self.turn():
            return ledger.available(self.account, self.settings, self.marks())

    def orders(self, symbol: str | None = None, *, live: bool = False) -> list[Order]:
        """Orders, oldest first; ``live``: only those that may still trade."""
        with self.turn():
            if live:
                return self.book.open(symbol)
            return [order for order in self.book if symbol in (None, order.symbol)]

    def executions(self, symbol: str | None = None) -> list[Execution]:
        """Trades and payments, oldest first."""
        with self.turn():
            return [e for e in self.book.executions if symbol in (None, e.symbol)]

    def protection_gaps(self) -> list[Gap]:
        """Times during which a position had no live stop that covers it."""
        with self.turn():
            return list(self.gaps)

    # Interventions --------------------------------------------------------------------------------

    def manual_trade(self, symbol: str, signed: Decimal, index: int = 0) -> Order:
        """Another user of the account trades ``signed`` base units at the market.

        Raises:
          RefusedError: as for any order.
        """
        side = Side.of(signed)
        return self.submit(OrderRequest(symbol, side, abs(signed), index=index))

    def liquidate(self, symbol: str, index: int = 0) -> None:
        """The risk desk closes a position at the mark."""
        with self.turn():
            self._liquidate((symbol, index), self.mark(symbol))

    def deleverage(self, symbol: str, fraction: Decimal = Decimal(1), index: int = 0) -> None:
        """Auto-deleveraging closes a part of a position at the mark."""
        with self.turn():
            key = (symbol, index)
            holding = self.account.holdings[key]
            self._close_by_force(key, holding, OrderKind.ADL, self.mark(symbol), fraction)

    def pay_funding(self, symbol: str, rate: Decimal) -> None:
        """A funding payment now, for every position of the symbol."""
        with self.turn():
            for holding in list(self.account.holdings.values()):
                if holding.symbol == symbol:
                    self._pay_funding(holding, rate)

    def deposit(self, amount: Decimal) -> None:
        """Money comes in (negative: goes out)."""
        with self.turn():
            self.account = ledger.deposit(self.account, amount)
            self._tell("wallet", "")

    def cancel_stop(self, symbol: str, index: int = 0) -> None:
        """The stop of a position vanishes."""
        with self.turn():
            stop = self.protection((symbol, index))[OrderKind.STOP_LOSS]
            self._put(closed(stop, OrderStatus.CANCELLED, self.now_ms))

    def reject_stops(self, count: int = 1) -> None:
        """The next ``count`` brackets are lost: entries fill without them, settings are refused."""
        with self.turn():
            self._refused_stops = count

    def plan_fills(
        self, *fractions: Decimal | str, rest: Literal["cancelled", "live"] = "cancelled"
    ) -> None:
        """The next market order trades in these parts of its quantity.

        Args:
          rest: of what is left: cancelled at once, or open until `trade_rest` or a cancel.
        """
        parts = [Decimal(fraction) for fraction in fractions]
        if not parts or not all(part > 0 for part in parts) or not sum(parts) <= 1:
            raise ValueError(f"fractions: must be > 0 and at most 1 together; got {fractions}.")
        with self.turn():
            self._fractions, self._keeps_rest = parts, rest == "live"

    def trade_rest(self, symbol: str, fraction: Decimal | str = Decimal(1)) -> list[Order]:
        """A part of what `plan_fills` has left open of market orders trades now.

        Returns: those orders; a reducing one that has nothing left to reduce is cancelled.
        """
        with self.turn():
            found = self._resting(symbol)
            for order in found:
                self._fractions, self._keeps_rest = [Decimal(fraction)], True
                self._carry_out(order, self.mark(symbol))
            self._fractions, self._keeps_rest = [], False
            return [self.book.get(order.order_id) for order in found]

    def cancel_rest(self, symbol: str) -> list[Order]:
        """The exchange takes back what `plan_fills` has left open of market orders."""
        with self.turn():
            return [
                self._put(closed(order, OrderStatus.CANCELLED, self.now_ms))
                for order in self._resting(symbol)
            ]

    def _resting(self, symbol: str) -> list[Order]:
        market = (one for one in self.book.open(symbol) if one.kind is OrderKind.MARKET)
        return [order for order in market if order.order_id not in self._waiting]

    def hold_fills(self, milliseconds: int) -> None:
        """Market orders wait so long before they trade, and can be cancelled meanwhile; 0 = not."""
        with self.turn():
            self._fill_delay_ms = milliseconds

    def keep_leverage(self, keeps: bool = True) -> None:
        """Leverage requests are answered well and change nothing."""
        self.keeps_leverage = keeps

    def override(self, symbol: str, **settings: Any) -> None:
        """Somebody changes settings of a symbol (fields of `Settings`) without asking."""
        with self.turn():
            self.settings = {**self.settings, symbol: replace(self.settings[symbol], **settings)}

    def change_filters(self, symbol: str, **filters: Decimal) -> None:
        """The venue changes filters or rates of a symbol (fields of `Instrument`).

        Raises:
          ValueError: not a filter.
        """
        unknown = sorted(set(filters) - _FILTERS)
        if unknown:
            raise ValueError(f"filters: expected some of {sorted(_FILTERS)}; got {unknown}.")
        self._relist(symbol, **filters)

    def watch(self, who: str, present: bool) -> None:
        """A client that the dead man's timer waits for is there, or has gone."""
        with self.turn():
            self.deadman.watch(who, present, self.now_ms)

    def delist(self, symbol: str, at_ms: int, *, announced: bool = False) -> None:
        """The symbol only reduces from now on; at ``at_ms`` positions are settled and trading ends.

        Args:
          announced: until then it trades as usual; only its listing tells.
        """
        status = "trading" if announced else "reduce_only"
        self._relist(symbol, status=status, delist_ms=at_ms)

    def close_market(self, symbol: str) -> None:
        """No order is accepted any more."""
        self._relist(symbol, status="closed")

    def open_market(self, symbol: str) -> None:
        """Trading is as usual again."""
        self._relist(symbol, status="trading", delist_ms=None)

    def forget_closed(self) -> None:
        """The matching engine restarts: closed orders are in the history only."""
        with self.turn():
            self.book.forget_recent()

    def _relist(self, symbol: str, **change: Any) -> None:
        with self.turn():
            self.instruments[symbol] = dataclasses.replace(self.instruments[symbol], **change)
