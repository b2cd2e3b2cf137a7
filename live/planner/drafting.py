"""One decision in progress: what the core decided, fitted to what a venue accepts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from jaxtrade.core.brackets import CLOSE, HOLD
from live.planner import rounding, sizing
from live.planner.decision import Decision, DecisionConfig, Goal, Plan, SymbolState
from live.planner.legs import on_grid
from live.planner.memory import counted, sign
from live.planner.sizing import Reading, Sized
from live.types import (
    ZERO,
    Held,
    Instrument,
    Intent,
    IntentKind,
    Role,
    Side,
    Snapshot,
    Unknown,
    UnreadableError,
    confirmed_quantity,
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A goal on a snapshot; the state is in step with its position."""

    state: SymbolState
    snapshot: Snapshot
    goal: Goal
    config: DecisionConfig

    def made(self) -> tuple[SymbolState, Plan]:
        """State and plan, the state without what only an outcome may change.

        Raises:
          UnreadableError: a number that the decision depends on cannot be used.
        """
        position = self.snapshot.position
        if counted(position) is None:
            detail = position.reason if isinstance(position, Unknown) else "no usable quantity"
            return self._hold(f"the position is unknown: {detail}", refused="unknown_position")
        if isinstance(position, Held) and position.residue and self.goal.flat:
            return self._close_residue(position)
        reading = self._reading()
        sized = sizing.size(self.goal, reading, self.state.last_level, self.config)
        if sized.closing:
            return self._reduce(sized)
        if sized.opening:
            return self._add(sized, reading)
        if self.goal.opens and not self.quantity:
            if self.goal.row is not None and self.config.position_fraction == 0:
                return self._refuse("no_edge", "earlier round trips justify no position")
            return self._refuse("unaffordable", "there is no equity to commit")
        return self._not_needed("the position is what the action asks for")

    @property
    def quantity(self) -> Decimal:
        """The signed position that decisions are about, base units."""
        return counted(self.snapshot.position) or ZERO

    @property
    def _instrument(self) -> Instrument:
        return self.snapshot.instrument

    # What goes in.

    def _reading(self) -> Reading:
        position = self.snapshot.position
        held = position if isinstance(position, Held) and not position.residue else None
        try:
            return Reading.of(held, self.snapshot.balance, self.snapshot.quote, self.config)
        except UnreadableError:
            if self._depends_on_numbers():
                raise
            return Reading.unpriced(float(self.quantity))

    def _depends_on_numbers(self) -> bool:
        """Whether price and equity matter: to hold or to go flat needs neither."""
        goal, direction = self.goal, sign(self.quantity)
        if goal.row is None:
            latched = direction != 0 and goal.level == self.state.last_level
            return not (goal.flat or latched)
        locked = self.config.lock_position and direction != 0
        return not (locked or goal.row.side in (HOLD, CLOSE, direction))

    def _price(self, side: int) -> Decimal | None:
        """The quoted price of a purchase (+1) or a sale (-1); None where there is no usable one."""
        quoted = self.snapshot.quote.ask if side > 0 else self.snapshot.quote.bid
        return quoted if quoted.is_finite() and quoted > 0 else None

    # What comes out.

    def _reduce(self, sized: Sized) -> tuple[SymbolState, Plan]:
        """Close, or take the difference off; of a flip the first phase."""
        side, held = sign(self.quantity), abs(self.quantity)
        price = self._price(-side)
        if abs(sized.closing) >= float(held):
            quantity = rounding.closing(held, self._instrument)
            if not quantity:
                return self._refuse("residue", "what is held is below the smallest order")
        else:
            assert price is not None  # a resize depends on numbers, so the quote was usable
            difference = rounding.exact(abs(sized.closing))
            quantity = rounding.trim(held, difference, price, self._instrument)
        if not quantity:
            return self._not_needed("the difference is below the smallest order")
        largest = self._instrument.max_market_quantity
        capped = 0 < largest < quantity
        if capped:
            quantity = rounding.floor_quantity(largest, self._instrument)
        flips = quantity == held and bool(sized.opening)
        decision, reason = Decision.CLOSE, "the target is flat"
        if quantity < held:
            decision, reason = Decision.DECREASE, "the target is smaller"
        elif flips:
            decision, reason = Decision.FLIP, "close first, then open the other side"
        intent = self._exit(-side, quantity, reason)
        planned = self._planned(decision, intent, price, side * (held - quantity))
        if capped:
            # A rest stays that the action did not ask for: no latch, the next bar goes on.
            planned = replace(planned, level=None, reason="capped at the largest market order")
        return replace(self.state, opening=self.goal.action if flips else None), planned

    def _close_residue(self, held: Held) -> tuple[SymbolState, Plan]:
        """Close what is below the smallest order, where the venue cuts an order to the position."""
        if not self.config.closes_residue:
            return self._refuse("residue", "what is held is below the smallest order")
        side = sign(held.quantity)
        quantity = max(abs(held.quantity), self._instrument.min_quantity)
        intent = self._exit(-side, quantity, "the rest is below the smallest order")
        return self.state, self._planned(Decision.CLOSE, intent, self._price(-side), ZERO)

    def _add(self, sized: Sized, reading: Reading) -> tuple[SymbolState, Plan]:
        """Open or increase, cut to what can be paid where that is allowed."""
        if sized.refused:
            state, planned = self._refuse("unaffordable", "free margin does not pay the order")
            # Whether the latch forgets a refusal of the core is a rule of the core.
            return replace(state, last_level=sized.last_level), planned
        size, side = abs(sized.opening), sign(sized.opening)
        if not sized.is_payable(reading.available):
            size = sized.payable(reading.available)
            if not self._may_cut(size, sized):
                return self._refuse("unaffordable", "the available balance does not pay the order")
        price = self._price(side)
        assert price is not None  # an opening depends on numbers, so the quote was usable
        quantity = rounding.floor_quantity(rounding.exact(size), self._instrument)
        if not quantity or quantity < rounding.smallest_order(price, self._instrument):
            if self.quantity:
                return self._not_needed("the difference is below the smallest order")
            return self._refuse("below_minimum", "the order is below the venue's minimum")
        largest = self._instrument.max_market_quantity
        if 0 < largest < quantity:
            return self._refuse("above_maximum", f"the largest market order is {largest}")
        return self._enter(side, quantity, price, sized)

    def _may_cut(self, size: float, sized: Sized) -> bool:
        """Whether an order that cannot be paid may shrink to ``size``."""
        if not size > 0:
            return False
        if self.goal.row is not None:
            return self.config.trade_mode == "fractional"
        if not self.quantity:
            return True
        return self.config.rules.partial_increase and size >= sized.tolerance

    def _enter(
        self, side: int, quantity: Decimal, price: Decimal, sized: Sized
    ) -> tuple[SymbolState, Plan]:
        bracket = None
        if self.goal.row is not None:
            stop, target = rounding.exact(sized.stop), rounding.exact(sized.target)
            try:
                bracket = on_grid(stop, target, side, self.snapshot.quote.mark, self._instrument)
            except ValueError as error:
                return self._refuse("bracket", str(error))
        decision, reason = Decision.OPEN, "nothing is held"
        if self.quantity:
            decision, reason = Decision.INCREASE, "the target is larger"
        intent = Intent(
            kind=IntentKind.MARKET if bracket is None else IntentKind.BRACKET,
            role=Role.ENTRY,
            symbol=self.config.symbol,
            side=Side.of(side),
            quantity=quantity,
            reduce_only=False,
            reason=reason,
            bracket=bracket,
        )
        position = self.snapshot.position
        after = confirmed_quantity(position) + side * quantity
        planned = self._planned(decision, intent, price, after)
        return self.state, replace(planned, bracket=bracket)

    def _exit(self, side: int, quantity: Decimal, reason: str) -> Intent:
        return Intent(
            kind=IntentKind.MARKET,
            role=Role.REDUCE,
            symbol=self.config.symbol,
            side=Side.of(side),
            quantity=quantity,
            reduce_only=True,
            reason=reason,
        )

    def _planned(
        self, decision: Decision, intent: Intent, price: Decimal | None, target: Decimal
    ) -> Plan:
        return Plan(
            intents=(intent,),
            decision=decision,
            reason=intent.reason,
            action=self.goal.action,
            level=self.goal.level,
            row=self.goal.row,
            price=price,
            target_quantity=target,
            target_tolerance=rounding.smallest_trade(price, self._instrument),
        )

    def _hold(self, reason: str, refused: str | None = None) -> tuple[SymbolState, Plan]:
        return self.state, Plan.still(self.state, self.goal, reason, refused)

    def _not_needed(self, reason: str) -> tuple[SymbolState, Plan]:
        """The position is near enough to what the action asks for: its level is latched."""
        state, planned = self._hold(reason)
        return replace(state, last_level=self.goal.level), planned

    def _refuse(self, code: str, reason: str) -> tuple[SymbolState, Plan]:
        """Something was wanted and cannot be: nothing is latched, the next bar tries again."""
        state, planned = self._hold(reason, refused=code)
        return replace(state, last_level=None), planned
