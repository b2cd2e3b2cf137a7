"""The stop of a position: placed, moved to the fill, watched; and the way out where that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from live.clock import Clock
from live.journal import Journal
from live.orders.protection import (
    AmendStop,
    CancelLeftovers,
    FlattenUnprotected,
    Guard,
    PlaceStop,
    protection_of,
)
from live.planner import rounding
from live.planner.decision import BracketRow
from live.planner.legs import disaster_stop, reanchor
from live.risk import Latch, TradingState
from live.trading import snapshots
from live.trading.desk import Desk
from live.trading.execution import Executor, Sent
from live.trading.following import Following
from live.trading.gating import Gatekeeper
from live.trading.terms import TraderConfig
from live.types import (
    Bracket,
    Flat,
    Held,
    Instrument,
    Intent,
    IntentKind,
    Position,
    Role,
    Side,
    Snapshot,
    Unknown,
)
from live.venue import Venue

# Tries at being flat before giving up until the next look.
_FLATTEN_ORDERS = 10


@dataclass(slots=True)
class Protector:
    """Sees to the legs of one symbol's position.

    Attributes:
      bar: the bar that further intents belong to. searched: told of an order that is unknown.
      guard: how long the position has been without its stop.
    """

    venue: Venue
    journal: Journal
    clock: Clock
    desk: Desk
    executor: Executor
    following: Following
    gate: Gatekeeper
    config: TraderConfig
    bar: Callable[[], int]
    searched: Callable[[str, Bracket | None], None]
    guard: Guard = field(default_factory=Guard)

    def wanted(
        self, position: Position, instrument: Instrument, remembered: Bracket | None
    ) -> Bracket | None:
        """The legs that a position should have; ``remembered`` are those of the policy."""
        if not isinstance(position, Held) or not self.config.needs_stop:
            return None
        if remembered is not None:
            return remembered
        if self.config.decision.table is not None and position.stop_price is not None:
            # Of an entry that was in doubt: its own legs, which nothing may widen or remove.
            return confirmed(position)
        fraction = self.config.disaster_stop
        stop = disaster_stop(
            position,
            self.config.decision,
            instrument,
            None if fraction in (None, "auto") else float(fraction),
        )
        return Bracket(stop, None)

    async def look(self, snapshot: Snapshot, remembered: Bracket | None) -> None:
        """Place what is missing, or give up and flatten; cancel what a gone position left."""
        if not self.config.needs_stop:
            return
        instrument, position = snapshot.instrument, snapshot.position
        wanted = self.wanted(position, instrument, remembered)
        symbol = instrument.symbol
        protection = protection_of(
            position,
            snapshot.orders,
            wanted,
            known={row.client_id for row in self.journal.working(symbol)},
            tick=instrument.tick,
        )
        self.guard, command = self.guard.look(
            protection,
            snapshot.received_monotonic_ns // 1_000_000,
            self._now(),
            deadline_ms=int(self.config.stop_deadline * 1000),
        )
        match command:
            case PlaceStop(reason):
                assert wanted is not None
                assert isinstance(position, Held)
                sent = await self.amend(position, instrument, wanted, f"protect: {reason}")
                self.guard = self.guard.placed(sent is not None and sent.executed)
            case FlattenUnprotected(reason):
                # First the latch: a crash in between must not forget why.
                self.desk.latch(Latch(TradingState.HALTED, "unprotected", reason))
                await self.flatten(instrument, f"unprotected: {reason}")
            case CancelLeftovers(client_ids):
                for client_id in client_ids:
                    await self.following.cancel(client_id)
            case AmendStop():
                assert wanted is not None
                assert isinstance(position, Held)
                await self.amend(position, instrument, wanted, "protect: moved")
        if isinstance(position, Flat):
            await self.journal.grouped(self.journal.set_protection, symbol, None)

    async def amend(
        self, position: Held, instrument: Instrument, bracket: Bracket, reason: str
    ) -> Sent | None:
        """Set the legs of the position; None where the gate denied it."""
        symbol, quantity = instrument.symbol, abs(position.quantity)
        wanted = Intent(
            kind=IntentKind.AMEND,
            role=Role.STOP,
            symbol=symbol,
            side=Side.of(-position.quantity),
            quantity=quantity,
            reduce_only=True,
            reason=reason,
            trigger_price=bracket.stop_price,
            bracket=bracket,
        )
        if self.gate.denial(wanted, instrument, position) is not None:
            return None
        (intent,) = await self.journal.grouped(self.executor.add, self.bar(), (wanted,))
        sent = await self.executor.send(intent)
        if sent.executed:
            await self.journal.grouped(
                self.journal.set_protection,
                symbol,
                bracket,
                quantity,
                client_id=intent.client_id,
            )
        elif sent.unknown:
            self.searched(intent.client_id, intent.bracket)
        return sent

    async def anchor(
        self,
        position: Position,
        instrument: Instrument,
        remembered: Bracket | None,
        row: BracketRow | None,
        *,
        client_id: str,
    ) -> Bracket | None:
        """Move the legs of a fresh position to its real fill; give levels their safety net.

        Args:
          remembered: legs of the policy. row: what it has opened; None = a level.
          client_id: of the entry.

        Returns: the legs of the policy from now on.
        """
        wanted = self.wanted(position, instrument, remembered)
        if wanted is None or not isinstance(position, Held):
            return remembered
        if row is not None:
            wanted = reanchor(row, position.entry_price, position.mark_price, instrument)
        held = Bracket(position.stop_price, position.target_price)
        if near(held, wanted, instrument.tick):
            await self.journal.grouped(
                self.journal.set_protection,
                instrument.symbol,
                held,
                abs(position.quantity),
                client_id=client_id,
            )
            return remembered
        sent = await self.amend(position, instrument, wanted, "anchored to the fill")
        if row is None or sent is None or not sent.executed:
            return remembered
        return confirmed(await snapshots.readable_position(self.venue, instrument.symbol))

    async def place_target(self, instrument: Instrument, price: Decimal) -> None:
        """Set the target of the position again; its stop stays where it is."""
        position = await snapshots.readable_position(self.venue, instrument.symbol)
        if isinstance(position, Held):
            legs = Bracket(position.stop_price, price)
            await self.amend(position, instrument, legs, "the target was missing")

    async def flatten(self, instrument: Instrument, reason: str) -> bool:
        """Close what the venue holds, reduce-only, until flat is read; whether it was.

        What is larger than one market order may be goes in several.
        """
        symbol, most = instrument.symbol, instrument.max_market_quantity
        for _ in range(_FLATTEN_ORDERS):
            position = await snapshots.readable_position(self.venue, symbol)
            if isinstance(position, Flat):
                return True
            if isinstance(position, Unknown):
                await self.clock.sleep(0.5)
                continue
            held = abs(position.quantity)
            quantity = rounding.closing(min(held, most) if most else held, instrument)
            if self.venue.capabilities.reduce_only:  # which cuts an order down to the position
                quantity = max(quantity, instrument.min_quantity)
            wanted = Intent(
                kind=IntentKind.MARKET,
                role=Role.FLATTEN,
                symbol=symbol,
                side=Side.of(-position.quantity),
                quantity=quantity,
                reduce_only=True,
                reason=reason,
            )
            if self.gate.denial(wanted, instrument, position) is not None:
                return False
            (intent,) = await self.journal.grouped(self.executor.add, self.bar(), (wanted,))
            await self.executor.send(intent)
        position = await snapshots.readable_position(self.venue, symbol)
        return isinstance(position, Flat)

    def filled(self) -> None:
        """A fill changed the position: its stop is due from now."""
        self.guard = self.guard.filled(self._now())

    def _now(self) -> int:
        return int(self.clock.monotonic() * 1000)


def near(one: Bracket, other: Bracket, tick: Decimal) -> bool:
    """Whether both legs of two brackets are less than a tick apart."""
    for a, b in ((one.stop_price, other.stop_price), (one.target_price, other.target_price)):
        if (a is None) != (b is None):
            return False
        if a is not None and b is not None and abs(a - b) >= max(tick, abs(b) * Decimal("1e-12")):
            return False
    return True


def confirmed(position: Position) -> Bracket | None:
    """The legs that the venue shows on a position."""
    if not isinstance(position, Held) or position.stop_price is None:
        return None
    return Bracket(position.stop_price, position.target_price)
