"""What makes the exchange move: time, triggers, funding and liquidation.

Time runs from one thing that happens to the next, so that any way of cutting it gives the same
executions at the same prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal

from live.exchange import ledger
from live.exchange.book import Execution, Order, OrderKind, OrderRequest, RefusedError, closed
from live.exchange.fills import Fills
from live.exchange.ledger import Holding, Key
from live.exchange.levels import isolated_levels
from live.exchange.prices import NEVER_MS, to_step
from live.types import FillKind, MarginMode, OrderStatus, Side

_RANKS = {OrderKind.STOP_LOSS: 1, OrderKind.TRIGGER: 2, OrderKind.TAKE_PROFIT: 3}


@dataclass(frozen=True, slots=True)
class _Trigger:
    """Something that happens when the mark reaches a level.

    Attributes:
      order: what becomes a market order; None = a liquidation, of the isolated position ``key``
        or (None) of all cross positions.
    """

    symbol: str
    level: Decimal
    falling: bool
    rank: int
    order: Order | None
    key: Key | None


class Matching(Fills):
    """The moving part of the exchange; `live.exchange.engine.Engine` is what others use."""

    # Time -----------------------------------------------------------------------------------------

    def advance(self, milliseconds: int) -> None:
        """Let time pass."""
        self.advance_to(self.now_ms + milliseconds)

    def advance_to(self, time_ms: int) -> None:
        """Let time pass up to an instant; an earlier one changes nothing."""
        with self.turn():
            while self.now_ms <= time_ms:
                triggers = self._triggers()
                if not (triggers or self._waiting or self.account.holdings):
                    self.now_ms = time_ms
                    self._funded_ms = time_ms
                    self._end_delisted()
                    return
                end = max(self.now_ms, min(time_ms, self._next_boundary()))
                if self._fire_first(triggers, end):
                    continue
                self.now_ms = end
                if self._trade_waiting() or self._pay_funding_if_due() or self._end_delisted():
                    continue
                if self._liquidate_if_wiped() or self._end_silence():
                    continue
                if end == time_ms:
                    return

    def _next_boundary(self) -> int:
        knots = (path.next_knot(self.now_ms) for path in self.paths.values())
        known = (*self._waiting.values(), *self._ends().values(), self._next_funding())
        return min(*knots, *known, self.deadman.due_ms, NEVER_MS)

    def _next_funding(self) -> int:
        """When the next payment that has not been made is due."""
        return min(funding.following(self._funded_ms) for funding in self.funding.values())

    def _ends(self) -> dict[str, int]:
        """When the symbols stop trading that are to."""
        listed = self.instruments.items()
        return {s: i.delist_ms for s, i in listed if i.delist_ms and i.status != "closed"}

    def _triggers(self) -> list[_Trigger]:
        found = []
        for order in self.book.open():
            if order.kind.conditional and order.trigger_price is not None:
                rank = _RANKS[order.kind]
                level, falling = order.trigger_price, not order.rising
                found.append(_Trigger(order.symbol, level, falling, rank, order, None))
        for key, holding in self.account.holdings.items():
            symbol, settings = holding.symbol, self.settings[holding.symbol]
            if settings.margin_mode is MarginMode.ISOLATED:
                level, _ = isolated_levels(holding, settings, self.instruments[symbol])
                found.append(_Trigger(symbol, level, holding.side > 0, 0, None, key))
        for symbol in {holding.symbol for holding in self.account.holdings.values()}:
            cross = self.cross_level(symbol)
            if cross is not None:
                falling = cross < self.mark(symbol)
                found.append(_Trigger(symbol, cross, falling, 0, None, None))
        return found

    def cross_level(self, symbol: str) -> Decimal | None:
        """Mark of one symbol that liquidates the cross positions, or None."""
        if self.settings[symbol].margin_mode is not MarginMode.CROSS:
            return None
        return ledger.cross_level(
            symbol, self.account, self.settings, self.instruments, self.marks()
        )

    def _fire_first(self, triggers: Sequence[_Trigger], end: int) -> bool:
        """Let the first trigger up to ``end`` happen; False when there is none."""
        first: tuple[tuple[int, Decimal, int], _Trigger, Decimal] | None = None
        for trigger in triggers:
            path = self.paths[trigger.symbol]
            at = path.first(trigger.level, trigger.falling, self.now_ms, end)
            if at is None:
                continue
            before, mark = path.mark(at - 1), path.mark(at)
            passed = min(before, mark) <= trigger.level <= max(before, mark)
            jumped = path.jumps_at(at) or not passed
            distance = Decimal(0) if jumped else abs(trigger.level - before)
            order = (at, distance, trigger.rank)
            if first is None or order < first[0]:
                first = order, trigger, mark if jumped else trigger.level
        if first is None:
            return False
        (self.now_ms, _, _), trigger, base = first
        if trigger.order is not None:
            self._fire(trigger.order, base)
        elif trigger.key is not None:
            self._liquidate(trigger.key, base)
        else:
            self._liquidate_cross({trigger.symbol: base})
        return True

    def _trade_waiting(self) -> bool:
        """Trade the held-back market orders whose time has come and that are still open."""
        due = [order_id for order_id, at in self._waiting.items() if at <= self.now_ms]
        for order_id in due:
            del self._waiting[order_id]
            order = self.book.get(order_id)
            if not order.status.terminal:
                self._carry_out(order, self.mark(order.symbol))
        return bool(due)

    def _fire(self, order: Order, base: Decimal) -> None:
        """A conditional order becomes a market order at ``base``."""
        self._carry_out(
            self._put(replace(order, status=OrderStatus.TRIGGERED, updated_ms=self.now_ms)), base
        )

    def _carry_out(self, order: Order, base: Decimal) -> None:
        """Trade an order that was accepted before; what cannot be traded now is rejected."""
        try:
            order, price = self.price_order(order, base)
        except RefusedError as refusal:
            # What has traded in part is no more refused as a whole.
            status = OrderStatus.CANCELLED if order.filled else OrderStatus.REJECTED
            self._put(closed(order, status, self.now_ms, refusal.reason))
        else:
            self._execute(order, price)

    def _pay_funding_if_due(self) -> bool:
        due = self._next_funding()
        if due > self.now_ms:
            return False
        self._funded_ms = due
        for holding in list(self.account.holdings.values()):
            self._pay_funding(holding, self.funding[holding.symbol].rate(due))
        return True

    def _pay_funding(self, holding: Holding, rate: Decimal) -> None:
        mark = self.mark(holding.symbol)
        paid = (holding.quantity * mark * rate).quantize(ledger.UNIT)
        if not paid:
            return
        self.account = ledger.pay_funding(self.account, paid)
        self._record(
            Execution(
                execution_id=self._identity(),
                order_id=self._identity(),
                client_id="",
                symbol=holding.symbol,
                index=holding.index,
                side=Side.of(holding.quantity),
                quantity=abs(holding.quantity),
                price=mark,
                fee=paid,
                kind=FillKind.FUNDING,
                time_ms=self.now_ms,
                sequence=self._sequence,
            )
        )
        self._tell("wallet", holding.symbol)

    def _end_silence(self) -> bool:
        """Cancel what rests for a client that has gone; legs of a position stay with it."""
        if self.now_ms < self.deadman.due_ms:
            return False
        self.deadman.due_ms = NEVER_MS
        for order in self.book.open():
            if not order.kind.protective:
                self._put(closed(order, OrderStatus.CANCELLED, self.now_ms))
        return True

    def _end_delisted(self) -> bool:
        """Settle what is held of a delisted symbol at its mark, and take no order any more."""
        due = [symbol for symbol, end_ms in self._ends().items() if end_ms <= self.now_ms]
        for symbol in due:
            for order in self.book.open(symbol):
                if not order.kind.protective:  # those leave with the position
                    self._put(closed(order, OrderStatus.CANCELLED, self.now_ms))
            for key, holding in list(self.account.holdings.items()):
                if key[0] == symbol:
                    self._close_by_force(key, holding, OrderKind.SETTLEMENT, self.mark(symbol))
            self.instruments[symbol] = replace(self.instruments[symbol], status="closed")
        return bool(due)

    # Liquidation ----------------------------------------------------------------------------------

    def _liquidate_if_wiped(self) -> bool:
        """Liquidate the cross positions if all marks together leave too little."""
        if not any(
            self.settings[h.symbol].margin_mode is MarginMode.CROSS
            for h in self.account.holdings.values()
        ):
            return False
        balance, needed = ledger.cross_balance(
            self.account, self.settings, self.instruments, self.marks()
        )
        if balance > needed:
            return False
        self._liquidate_cross({})
        return True

    def _liquidate_cross(self, bases: Mapping[str, Decimal]) -> None:
        for key, holding in list(self.account.holdings.items()):
            if self.settings[holding.symbol].margin_mode is MarginMode.CROSS:
                base = bases.get(holding.symbol, self.mark(holding.symbol))
                self._close_by_force(key, holding, OrderKind.LIQUIDATION, base)
        self.account = ledger.insure(self.account)

    def _liquidate(self, key: Key, base: Decimal) -> None:
        """Close an isolated position, at its bankruptcy price at the worst."""
        holding = self.account.holdings[key]
        self._close_by_force(key, holding, OrderKind.LIQUIDATION, base)
        self.account = ledger.insure(self.account)

    def _close_by_force(
        self, key: Key, holding: Holding, kind: OrderKind, base: Decimal, part: Decimal = Decimal(1)
    ) -> None:
        instrument = self.instruments[holding.symbol]
        quantity = abs(holding.quantity)
        if part < 1:
            quantity = to_step(quantity * part, instrument.quantity_step, ROUND_CEILING)
        request = OrderRequest(
            symbol=holding.symbol,
            side=Side.of(-holding.quantity),
            quantity=quantity,
            reduce_only=True,
            index=holding.index,
            kind=kind,
        )
        price = self._price(holding.symbol, request.side, base)
        settings = self.settings[holding.symbol]
        if kind in (OrderKind.ADL, OrderKind.SETTLEMENT):
            price = base
        elif settings.margin_mode is MarginMode.ISOLATED:
            _, bankruptcy = isolated_levels(holding, settings, instrument)
            bound = max if holding.side > 0 else min
            price = bound(price, bankruptcy)
        self._fill(self._accept(self.new_order(request)), key, quantity, price)
