"""A simulated account as a venue would run it: orders, fills, protection, all in memory.

Prices, draws and time come from the caller; replay and paper venues stand on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from jaxtrade.core import exits
from live.replay.book import ZERO, Book, exact
from live.replay.money import Money, Passed, ReplayTerms, Standing
from live.types import (
    Ambiguous,
    Balance,
    Bracket,
    Category,
    Certainty,
    Definitive,
    Fill,
    FillKind,
    Flat,
    Held,
    Instrument,
    Intent,
    IntentKind,
    MarginMode,
    OrderReport,
    OrderStatus,
    Outcome,
    Position,
    Role,
)
from live.venue import VenueEvent

DEFAULT_SYMBOL = "BTC/USDT:USDT"
_LEG_OF_EXIT = {exits.STOP: Role.STOP, exits.TARGET: Role.TARGET}


def unfiltered(terms: ReplayTerms, symbol: str = DEFAULT_SYMBOL) -> Instrument:
    """An instrument without steps, ticks and minima: nothing is rounded, as offline.

    Args:
      symbol: ``BASE/QUOTE`` or ``BASE/QUOTE:SETTLE``, or one word, quoted in USD.
    """
    pair, _, settle = symbol.partition(":")
    base, _, quote = pair.partition("/")
    none = Decimal(0)
    return Instrument(
        venue="replay",
        symbol=symbol,
        venue_symbol=symbol,
        base=base,
        quote=quote or "USD",
        settle=settle or quote or "USD",
        contract_size=Decimal(1),
        quantity_step=none,
        min_quantity=none,
        max_market_quantity=none,
        tick=none,
        min_notional=none,
        max_leverage=exact(terms.leverage),
        taker_fee=exact(terms.transaction_fee),
        maintenance_rate=exact(terms.maintenance_margin_rate),
    )


class SimulatedAccount:
    """One symbol of one account: what a venue keeps of it and what it refuses.

    A position has at most one stop and one target, which follow its size and vanish with it.

    Args:
      terms: costs and terms. instrument: its filters are enforced; steps of 0 accept anything.
      notify: gets every event.
    """

    def __init__(
        self, terms: ReplayTerms, instrument: Instrument, notify: Callable[[VenueEvent], None]
    ) -> None:
        self.terms, self.instrument = terms, instrument
        self._money = Money(terms)
        self._book = Book(instrument.symbol, instrument.settle, notify)

    def reset(self) -> None:
        """Back to the initial cash: no position, no order, no fill."""
        self._money.reset()
        self._book.clear()

    def state(self) -> dict[str, Any]:
        """Everything that `resume` needs: money, ids, legs, orders and fills."""
        return {"money": self._money.state(), **self._book.state()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self._money.resume(state["money"])
        self._on_step()
        self._book.resume(state)

    # Reading.

    def price(self, base: float, side: int, draw: float) -> float:
        """Price at which an order of ``side`` (+1, -1) executes."""
        return self._money.price(base, side, draw)

    def standing(self, mark: float) -> Standing:
        """The account at a mark price, in float64."""
        return self._money.standing(mark)

    def position(self, mark: float, now_ms: int) -> Position:
        """Flat or held; a simulated account always knows."""
        at = self._money.standing(mark)
        if at.quantity == 0:
            return Flat()
        return Held(
            quantity=exact(at.quantity),
            entry_price=exact(at.entry),
            mark_price=exact(mark),
            unrealised_pnl=exact(at.unrealised),
            leverage=exact(self.terms.leverage),
            margin_mode=MarginMode.ISOLATED,
            liquidation_price=exact(at.liquidation) if at.liquidation > 0 else None,
            venue_time_ms=now_ms,
            stop_price=exact(at.stop) if at.stop > 0 else None,
            target_price=exact(at.target) if at.target > 0 else None,
            residue=abs(exact(at.quantity)) < self.instrument.min_quantity,
        )

    def balance(self, mark: float, now_ms: int) -> Balance:
        """Equity at a mark price, and free cash."""
        at = self._money.standing(mark)
        return Balance(
            equity=exact(at.equity),
            available=exact(max(at.cash, 0.0)),
            maintenance_margin=exact(at.maintenance),
            asset=self.instrument.settle,
            venue_time_ms=now_ms,
        )

    @property
    def fills(self) -> list[Fill]:
        """Every change of position or cash, in order."""
        return self._book.fills

    @property
    def open_orders(self) -> tuple[OrderReport, ...]:
        """The legs that guard the position; market orders never rest."""
        return self._book.open_orders

    def report(self, client_id: str) -> OrderReport | None:
        """An order by its client id; refused ones are not known."""
        return self._book.report(client_id)

    # Trading.

    def submit(self, intent: Intent, base: float, price: float, now_ms: int) -> Outcome:
        """Carry out one intent.

        Args:
          base: un-slipped price. price: at which an order of this side executes.
        """
        if intent.symbol != self.instrument.symbol:
            return _refused(Category.OTHER, f"the account trades {self.instrument.symbol} only")
        if intent.kind is IntentKind.CANCEL:
            return self.cancel(intent.client_id, now_ms)
        if intent.kind is IntentKind.AMEND:
            return self.amend(intent.bracket or Bracket(None, None), now_ms)
        if self._book.report(intent.client_id) is not None:
            return Ambiguous(f"an order with the id {intent.client_id} exists")
        if intent.kind in (IntentKind.STOP, IntentKind.TARGET):
            return self._rest(intent, now_ms)
        problem = self._filtered(intent, price)
        return self._market(intent, base, price, now_ms) if problem is None else problem

    def _filtered(self, intent: Intent, price: float) -> Definitive | None:
        """Why the filters refuse a market order, or None."""
        quantity, rules = intent.quantity, self.instrument
        if not (quantity.is_finite() and quantity > 0):
            return _refused(Category.PRECISION, f"quantity {quantity} is not > 0")
        if rules.quantity_step and quantity % rules.quantity_step:
            return _refused(Category.PRECISION, f"quantity is off the step {rules.quantity_step}")
        if rules.max_market_quantity and quantity > rules.max_market_quantity:
            return _refused(Category.OTHER, f"quantity is above {rules.max_market_quantity}")
        if intent.reduce_only:
            return None
        if quantity < rules.min_quantity:
            return _refused(Category.MINIMUM, f"quantity is below {rules.min_quantity}")
        if rules.min_notional and not float(quantity) * price >= rules.min_notional:
            return _refused(Category.MINIMUM, f"notional is below {rules.min_notional}")
        return None

    def _market(self, intent: Intent, base: float, price: float, now_ms: int) -> Outcome:
        """Fill a market order: first against the position, then what is left of it."""
        signed = intent.side.sign * float(intent.quantity)
        held = self._held
        against = held * signed < 0
        closing = math.copysign(min(abs(signed), abs(held)), held) if against else 0.0
        opening = signed + closing
        if intent.reduce_only:
            if not against:
                return _refused(Category.REDUCE_ONLY, "there is nothing to reduce")
            opening = 0.0
        if self.terms.spot and opening < 0:
            return _refused(Category.MARGIN, f"cannot sell more than the {held:g} held")
        order = self._book.next_id("o")
        client_id = intent.client_id or order
        bracket = intent.bracket or Bracket(None, None)
        stop, target = float(bracket.stop_price or 0), float(bracket.target_price or 0)
        fills: list[Fill] = []
        complete = True
        for leg in ((closing, 0.0), (0.0, opening)):
            if not any(leg) or not complete:
                continue
            before = self._held
            done = self._money.trade(*leg, base=base, price=price, stop=stop, target=target)
            self._on_step()
            # A quantity too small to change the position at all is as good as refused.
            complete = not done.refused and self._held != before
            if complete:
                fill = self._book.fill(
                    before,
                    self._held,
                    done.price,
                    done.fee,
                    client_id=client_id,
                    order=order,
                    now_ms=now_ms,
                )
                fills.append(fill)
            if self._held == 0:
                self._drop_legs(now_ms)
        if not fills:
            return _refused(Category.MARGIN, "the free margin does not pay for it")
        self._write(intent, client_id, order, fills, complete, now_ms)
        self._align_legs(client_id, now_ms)
        self._book.tell_account()
        return Definitive(Certainty.ACCEPTED, venue_order_id=order)

    def _on_step(self) -> None:
        """A venue counts whole steps; what a sum of floats is off by would never be sold."""
        step = self.instrument.quantity_step
        if step:
            whole = (exact(self._held) / step).to_integral_value()
            self._money.resize(float(whole * step))

    def _write(
        self,
        intent: Intent,
        client_id: str,
        order: str,
        fills: list[Fill],
        complete: bool,
        now_ms: int,
    ) -> None:
        """Report a market order that traded; an unpaid remainder is cancelled."""
        filled = sum((fill.quantity for fill in fills), ZERO)
        notional = sum((fill.quantity * fill.price for fill in fills), ZERO)
        report = OrderReport(
            client_id=client_id,
            venue_order_id=order,
            role=intent.role,
            side=intent.side,
            quantity=intent.quantity,
            filled=filled,
            average_price=fills[0].price if len(fills) == 1 else notional / filled,
            trigger_price=None,
            reduce_only=intent.reduce_only,
            status=OrderStatus.FILLED if complete else OrderStatus.CANCELLED,
            venue_time_ms=now_ms,
        )
        self._book.write(report)
        for fill in fills:
            self._book.tell_fill(fill)

    # Protection.

    def amend(self, bracket: Bracket, now_ms: int) -> Outcome:
        """Set, move or (None) remove stop and target of the position."""
        return self._protect(
            {Role.STOP: bracket.stop_price, Role.TARGET: bracket.target_price}, now_ms
        )

    def _rest(self, intent: Intent, now_ms: int) -> Outcome:
        """A stop or target order of its own; it guards the whole position."""
        if intent.trigger_price is None:
            return _refused(Category.PRECISION, "a stop or target needs a trigger price")
        if self._held * intent.side.sign >= 0:
            return _refused(Category.REDUCE_ONLY, "there is nothing to reduce")
        role = Role.STOP if intent.kind is IntentKind.STOP else Role.TARGET
        return self._protect({role: intent.trigger_price}, now_ms, intent.client_id)

    def _protect(
        self, prices: dict[Role, Decimal | None], now_ms: int, client_id: str | None = None
    ) -> Outcome:
        """Set the legs that ``prices`` names; None ends one.

        Args:
          client_id: of the new order; None keeps the order that is open.
        """
        held = self._held
        if held == 0:
            return _refused(Category.NOT_FOUND, "there is no position to protect")
        for price in prices.values():
            if price is not None and not (price.is_finite() and price > 0):
                return _refused(Category.PRECISION, f"price {price} is not > 0")
        for role, price in prices.items():
            self._money.protect(**{_LEG_FIELDS[role]: float(price or 0)})
            if price is None:
                self._book.end_leg(role, OrderStatus.CANCELLED, now_ms)
            else:
                self._book.set_leg(role, held, float(price), now_ms, client_id)
        return Definitive(Certainty.ACCEPTED, venue_order_id=self._book.next_id("p"))

    def cancel(self, client_id: str, now_ms: int, *, venue_order_id: str = "") -> Outcome:
        """End a stop or a target by either id; everything else is filled already."""
        wanted = client_id or venue_order_id
        for leg in self._book.open_orders:
            if leg.role is not None and wanted in (leg.client_id, leg.venue_order_id):
                return self._protect({leg.role: None}, now_ms)
        return _refused(Category.NOT_FOUND, f"no open order has the id {wanted}")

    def _align_legs(self, entry: str, now_ms: int) -> None:
        """Bring the leg orders in line with the account after the trade of order ``entry``."""
        for role, price in self._leg_prices.items():
            if price == 0:
                self._book.end_leg(role, OrderStatus.CANCELLED, now_ms)
                continue
            new = None if role in self._book.legs else ""
            if new is not None and entry.endswith(Role.ENTRY.value):
                # The id of the entry with another role letter, as the journal would give it.
                new = entry[:-1] + role.value
            self._book.set_leg(role, self._held, price, now_ms, new)

    # Time.

    def pass_bar(
        self, bar: tuple[float, float, float, float], draw: float, rate: float, now_ms: int
    ) -> Passed:
        """Let a bar act on what is held, book what it did, then funding.

        Args:
          bar: open, high, low, close. draw: uniform in [0, 1). rate: of funding.
          now_ms: end of the bar.
        """
        before = self._held
        passed = self._money.pass_bar(bar, draw, rate)
        if passed.kind != exits.NO_EXIT:
            self._book_exit(before, passed, now_ms)
        if passed.funding:
            self._book.pay(passed.funding, bar[3], before, now_ms)
        if passed.kind != exits.NO_EXIT or passed.funding:
            self._book.tell_account()
        return passed

    def _book_exit(self, before: float, passed: Passed, now_ms: int) -> None:
        role = _LEG_OF_EXIT.get(passed.kind)
        name = "" if role is None else self._book.legs.get(role, "")
        report = self._book.report(name)
        fill = self._book.fill(
            before,
            self._held,
            passed.price,
            passed.fee,
            client_id=name,
            order=self._book.next_id("l") if report is None else report.venue_order_id,
            now_ms=now_ms,
            kind=FillKind.LIQUIDATION if role is None else FillKind.TRADE,
        )
        if role is not None:
            self._book.end_leg(role, OrderStatus.FILLED, now_ms, fill)
        self._drop_legs(now_ms)
        self._book.tell_fill(fill)

    def _drop_legs(self, now_ms: int) -> None:
        for role in tuple(self._book.legs):
            self._book.end_leg(role, OrderStatus.CANCELLED, now_ms)

    @property
    def _held(self) -> float:
        return float(self._money.account.quantity)

    @property
    def _leg_prices(self) -> dict[Role, float]:
        account = self._money.account
        return {
            Role.STOP: float(account.stop_price),
            Role.TARGET: float(account.target_price),
        }


_LEG_FIELDS = {Role.STOP: "stop", Role.TARGET: "target"}


def _refused(category: Category, detail: str) -> Definitive:
    return Definitive(Certainty.REJECTED, code=category.value, category=category, detail=detail)
