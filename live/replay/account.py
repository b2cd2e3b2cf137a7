"""A simulated account as a venue would run it: orders, fills, protection, all in memory.

Prices, draws and time come from the caller; replay and paper venues stand on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxtrade.core import exits
from live.replay.book import Book, exact
from live.replay.filters import refusal_of, refused
from live.replay.money import Money, Passed, ReplayTerms, Standing, Wallet
from live.replay.protection import Protection
from live.types import (
    ZERO,
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

_LEG_OF_EXIT = {exits.STOP: Role.STOP, exits.TARGET: Role.TARGET}


class SimulatedAccount:
    """One symbol of one account: what a venue keeps of it and what it refuses.

    A position has at most one stop and one target, which follow its size and vanish with it.

    Args:
      terms: costs and terms. instrument: its filters are enforced; steps of 0 accept anything.
      notify: gets every event. wallet: shared with other symbols, None = one of its own.
    """

    def __init__(
        self,
        terms: ReplayTerms,
        instrument: Instrument,
        notify: Callable[[VenueEvent], None],
        wallet: Wallet | None = None,
    ) -> None:
        self.terms, self.instrument = terms, instrument
        self._step = instrument.quantity_step
        self._money = Money(terms, wallet)
        self._book = Book(instrument.symbol, instrument.settle, notify)
        self._protection = Protection(self._money, self._book)

    def relist(self, instrument: Instrument) -> None:
        """Enforce other filters from now on; what is held stays in steps that it was bought in."""
        self.instrument = instrument
        steps = [step for step in (self._step, instrument.quantity_step) if step]
        self._step = min(steps, default=ZERO)

    def reset(self) -> None:
        """Back to the initial cash: no position, no order, no fill."""
        self._money.reset()
        self._book.clear()

    def state(self) -> dict[str, Any]:
        """Everything that `resume` needs: money, ids, legs, orders and fills."""
        return {"money": self._money.state(), "step": self._step, **self._book.state()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self._money.resume(state["money"])
        self._step = state["step"]
        self._on_step()
        self._book.resume(state)

    # Reading.

    @property
    def held(self) -> bool:
        """Whether there is a position."""
        return self._money.held != 0

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
            return refused(Category.OTHER, f"the account trades {self.instrument.symbol} only")
        if intent.kind is IntentKind.CANCEL:
            return self.cancel(intent.client_id, now_ms)
        if intent.kind is IntentKind.AMEND:
            return self.amend(intent.bracket or Bracket(None, None), now_ms)
        if self._book.report(intent.client_id) is not None:
            return Ambiguous(f"an order with the id {intent.client_id} exists")
        if intent.kind in (IntentKind.STOP, IntentKind.TARGET):
            return self._protection.rest(intent, now_ms)
        problem = refusal_of(intent, price, self.instrument)
        return self._market(intent, base, price, now_ms) if problem is None else problem

    def _market(self, intent: Intent, base: float, price: float, now_ms: int) -> Outcome:
        """Fill a market order: first against the position, then what is left of it."""
        signed = intent.side.sign * float(intent.quantity)
        held = self._money.held
        against = held * signed < 0
        closing = math.copysign(min(abs(signed), abs(held)), held) if against else 0.0
        opening = signed + closing
        if intent.reduce_only:
            if not against:
                return refused(Category.REDUCE_ONLY, "there is nothing to reduce")
            opening = 0.0
        if self.terms.spot and opening < 0:
            return refused(Category.MARGIN, f"cannot sell more than the {held:g} held")
        order = self._book.next_id("o")
        client_id = intent.client_id or order
        bracket = intent.bracket or Bracket(None, None)
        stop, target = float(bracket.stop_price or 0), float(bracket.target_price or 0)
        fills: list[Fill] = []
        complete = True
        for leg in ((closing, 0.0), (0.0, opening)):
            if not any(leg) or not complete:
                continue
            before = self._money.held
            done = self._money.trade(*leg, base=base, price=price, stop=stop, target=target)
            self._on_step()
            # A quantity too small to change the position at all is as good as refused.
            complete = not done.refused and self._money.held != before
            if complete:
                fill = self._book.fill(
                    before,
                    self._money.held,
                    done.price,
                    done.fee,
                    client_id=client_id,
                    order=order,
                    now_ms=now_ms,
                )
                fills.append(fill)
            if self._money.held == 0:
                self._protection.drop(now_ms)
        if not fills:
            return refused(Category.MARGIN, "the free margin does not pay for it")
        self._write(intent, client_id, order, fills, complete, now_ms)
        self._protection.align(client_id, now_ms)
        self._book.tell_account()
        return Definitive(Certainty.ACCEPTED, venue_order_id=order)

    def amend(self, bracket: Bracket, now_ms: int) -> Outcome:
        """Set, move or (None) remove stop and target of the position."""
        return self._protection.amend(bracket, now_ms)

    def cancel(self, client_id: str, now_ms: int, *, venue_order_id: str = "") -> Outcome:
        """End a stop or a target by either id; everything else is filled already."""
        return self._protection.cancel(client_id, now_ms, venue_order_id=venue_order_id)

    def _on_step(self) -> None:
        """A venue counts whole steps; what a sum of floats is off by would never be sold."""
        step = self._step
        if step:
            whole = (exact(self._money.held) / step).to_integral_value()
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

    # Time.

    def pass_bar(
        self, bar: tuple[float, float, float, float], draw: float, rate: float, now_ms: int
    ) -> Passed:
        """Let a bar act on what is held, book what it did, then funding.

        Args:
          bar: open, high, low, close. draw: uniform in [0, 1). rate: of funding.
          now_ms: end of the bar.
        """
        before = self._money.held
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
            self._money.held,
            passed.price,
            passed.fee,
            client_id=name,
            order=self._book.next_id("l") if report is None else report.venue_order_id,
            now_ms=now_ms,
            kind=FillKind.LIQUIDATION if role is None else FillKind.TRADE,
        )
        if role is not None:
            self._book.end_leg(role, OrderStatus.FILLED, now_ms, fill)
        self._protection.drop(now_ms)
        self._book.tell_fill(fill)
