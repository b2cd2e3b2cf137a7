"""The stop that every position must have: whether it is there, and what to do until it is.

`protection_of` looks at one snapshot; `Guard` is the clock that runs while a position is bare. A
position that could not be read is neither protected nor flat: it never stops that clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from typing import assert_never

from live.orders.cover import (
    Bare,
    Exiting,
    Lack,
    LocalStop,
    Missing,
    Protected,
    Protection,
    Unclear,
    Where,
)
from live.types import (
    ZERO,
    Bracket,
    Flat,
    Held,
    OrderReport,
    OrderStatus,
    Position,
    Role,
    Side,
    Unknown,
)

_LIVE = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)


def protection_of(
    position: Position,
    orders: tuple[OrderReport, ...] | None,
    bracket: Bracket | None,
    *,
    known: AbstractSet[str],
    tick: Decimal = ZERO,
    local: LocalStop | None = None,
    max_quote_age_ms: float = 10_000,
) -> Protection:
    """Whether the position of a snapshot has the stop it must have.

    Args:
      orders: open and conditional orders; None = the listing failed. bracket: where the legs should
        be. known: client ids of the journal. tick: of the instrument. local: the watcher's stop,
        where the venue has none.
    """
    match position:
        case Unknown(reason):
            return Unclear(reason)
        case Flat():
            if orders is None:
                return Unclear("the orders could not be read")
            # What an unknown order is for is not ours to decide: it is foreign, not a leftover.
            legs = (o for o in orders if o.client_id in known and _protective(o))
            return Bare(tuple(o.client_id for o in legs if not o.status.terminal))
        case Held():
            return _of_held(position, orders, bracket, known, tick, local, max_quote_age_ms)
        case _:
            assert_never(position)


def _protective(order: OrderReport) -> bool:
    return order.role is not None and order.role.protective


def _of_held(
    held: Held,
    orders: tuple[OrderReport, ...] | None,
    bracket: Bracket | None,
    known: AbstractSet[str],
    tick: Decimal,
    local: LocalStop | None,
    max_quote_age_ms: float,
) -> Protection:
    wanted = None if bracket is None else bracket.stop_price
    size = abs(held.quantity)
    if held.stop_price is not None:  # of the position as a whole, so it covers all of it
        return _placed(held, held.stop_price, wanted, tick, Where.VENUE)
    if local is not None:
        if not local.quote_age_ms <= max_quote_age_ms:
            return Missing(Lack.STALE, f"the newest price is {local.quote_age_ms:.0f} ms old")
        if not local.quantity >= size:
            return Missing(Lack.SHORT, f"the watcher guards {local.quantity} of {size}")
        return _placed(held, local.stop_price, wanted, tick, Where.LOCAL)
    if orders is None:
        return Unclear("the orders could not be read")
    stops = [order for order in orders if order.role is Role.STOP and not order.status.terminal]
    closing = Side.of(-held.quantity)
    right = [
        o for o in stops if o.side is closing and o.reduce_only and o.trigger_price is not None
    ]
    ours = [o for o in right if o.client_id in known]
    if any(order.status is OrderStatus.TRIGGERED for order in ours):
        return Exiting("the stop has triggered")
    live = [order for order in ours if order.status in _LIVE]
    if not live:
        lack = (
            Lack.FOREIGN if right and not ours else Lack.SIDE if stops and not right else Lack.NONE
        )
        return Missing(lack, f"no live stop of ours among {len(stops)}")
    covered = sum((order.quantity - order.filled for order in live), ZERO)
    if not covered >= size:
        return Missing(Lack.SHORT, f"the stops cover {covered} of {size}")
    # The one that fires first, though all are needed for the size.
    prices = [order.trigger_price for order in live if order.trigger_price is not None]
    nearest = max(prices) if held.quantity > 0 else min(prices)
    return _placed(held, nearest, wanted, tick, Where.VENUE)


def _placed(
    held: Held, stop: Decimal, wanted: Decimal | None, tick: Decimal, where: Where
) -> Protection:
    """A stop of the right side and size: is it still ahead of the mark?"""
    if not held.mark_price.is_finite():
        return Unclear(f"the mark is {held.mark_price}")
    if not (stop.is_finite() and stop > 0):
        return Missing(Lack.NONE, f"the stop is at {stop}")
    sign = 1 if held.quantity > 0 else -1
    if not sign * (held.mark_price - stop) > 0:
        return Exiting(f"the mark {held.mark_price} has passed the stop {stop}")
    return Protected(stop, where, wanted is not None and abs(stop - wanted) > tick / 2)


# The clock of a bare position ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Nothing:
    """No action."""


@dataclass(frozen=True, slots=True)
class PlaceStop:
    """Create or repair the stop now; report the outcome with `Guard.placed`."""

    reason: str


@dataclass(frozen=True, slots=True)
class AmendStop:
    """The stop is live but elsewhere: move it when convenient."""


@dataclass(frozen=True, slots=True)
class CancelLeftovers:
    """Cancel protective orders of a position that is gone, before any new bracket."""

    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlattenUnprotected:
    """Close by market, reduce-only, and latch HALTED(unprotected); repeated until flat is read."""

    reason: str


GuardCommand = Nothing | PlaceStop | AmendStop | CancelLeftovers | FlattenUnprotected


@dataclass(frozen=True, slots=True)
class Guard:
    """How long a position may have been without its stop.

    Attributes:
      since_ms: of the first fill without a stop, or of the first look that found none; None =
        protected or flat. busy: a stop is on its way. failures: of placing it since then.
    """

    since_ms: int | None = None
    busy: bool = False
    failures: int = 0
    flattening: bool = False

    def filled(self, fill_ms: int) -> Guard:
        """A fill added to the position: until a later look says otherwise it has no stop."""
        since = fill_ms if self.since_ms is None else min(self.since_ms, fill_ms)
        return dataclasses.replace(self, since_ms=since)

    def placed(self, success: bool) -> Guard:
        """The stop was accepted or not. Only a look at the venue ends the clock."""
        failures = self.failures if success else self.failures + 1
        return dataclasses.replace(self, busy=False, failures=failures)

    def look(
        self,
        protection: Protection,
        as_of_ms: int,
        now_ms: int,
        *,
        deadline_ms: int = 5_000,
        attempts: int = 2,
    ) -> tuple[Guard, GuardCommand]:
        """What one look at the position means.

        Args:
          as_of_ms: venue time of what was read; older than the last fill it proves nothing.
          deadline_ms: how long a position may be bare. attempts: failures before flattening.
        """
        fresh = self.since_ms is None or as_of_ms >= self.since_ms
        match protection:
            case Bare(leftovers):
                if not fresh:
                    return self._overdue(now_ms, deadline_ms, attempts, "flat was read too early")
                return Guard(), CancelLeftovers(leftovers) if leftovers else Nothing()
            case Protected(deviates=deviates):
                if not fresh:
                    return self._overdue(now_ms, deadline_ms, attempts, "stop was read too early")
                if self.flattening:  # decided is decided: the position is closed
                    return self, FlattenUnprotected("a stop appeared after the deadline")
                return Guard(), AmendStop() if deviates else Nothing()
            case Unclear(reason):
                return self._overdue(now_ms, deadline_ms, attempts, reason)
            case Exiting(detail):
                guard = self._started(now_ms)
                return guard._overdue(now_ms, deadline_ms, attempts, detail)
            case Missing(lack, detail):
                reason = f"{lack}: {detail}"
                guard, command = self._started(now_ms)._overdue(
                    now_ms, deadline_ms, attempts, reason
                )
                if isinstance(command, FlattenUnprotected) or guard.busy:
                    return guard, command
                return dataclasses.replace(guard, busy=True), PlaceStop(reason)
            case _:
                assert_never(protection)

    def _started(self, now_ms: int) -> Guard:
        if self.since_ms is not None:
            return self
        return dataclasses.replace(self, since_ms=now_ms)

    def _overdue(
        self, now_ms: int, deadline_ms: int, attempts: int, reason: str
    ) -> tuple[Guard, GuardCommand]:
        if self.since_ms is None:
            return self, Nothing()
        late = now_ms - self.since_ms >= deadline_ms
        if not (late or self.failures >= attempts or self.flattening):
            return self, Nothing()
        return dataclasses.replace(self, flattening=True), FlattenUnprotected(reason)
