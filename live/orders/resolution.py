"""What became of an order nobody is sure about: ask until something positive is known.

An order is unknown after an ambiguous reply, or when a crash left its intent without one. Seeing it
anywhere resolves it. Not seeing it resolves it only after several rounds in which every list that
the venue keeps was read successfully and did not name it, spread over longer than the request
could still have been on its way. No number of failed reads and no amount of time invents an end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import assert_never

from live.orders import IntentState, TrackedOrder, advance, move
from live.types import (
    ZERO,
    Absent,
    Answer,
    Bracket,
    Fill,
    Flat,
    Found,
    Held,
    IntentKind,
    OrderReport,
    Position,
    Unavailable,
    Unknown,
)

ORDERS = "orders"  # the listing of open and conditional orders
FILLS = "fills"  # the listing of fills
POSITION = "position"  # the position, which carries the legs of some venues


@dataclass(frozen=True, slots=True)
class Absence:
    """When a venue's silence about an order is an answer.

    Attributes:
      endpoints: every one of them has to have been read without the order. The names are those of
        `Absent.endpoint` (several joined by "+"), `ORDERS` and `FILLS`.
      expiry_ms: how long a request may still arrive after it was sent.
    """

    endpoints: frozenset[str]
    expiry_ms: int


_BY_ID = frozenset({"order", ORDERS, FILLS})

ABSENCE: Mapping[str, Absence] = MappingProxyType(
    {
        "binance": Absence(_BY_ID, 5_000),
        # The list of recent orders is emptied when the venue restarts, so the history must agree.
        "bybit": Absence(frozenset({"realtime", "history", FILLS}), 5_000),
        "okx": Absence(_BY_ID | {"history"}, 2_000),
        "bitget": Absence(_BY_ID, 30_000),
        "alpaca": Absence(_BY_ID, 30_000),
        "polymarket": Absence(frozenset({"order", FILLS}), 30_000),
    }
)
DEFAULT_ABSENCE = Absence(_BY_ID, 30_000)


@dataclass(frozen=True, slots=True)
class ResolveConfig:
    """Milliseconds, and how much silence is enough.

    Attributes:
      waits_ms: before the rounds; the last one repeats. min_rounds: rounds that count as absence.
      min_spread_ms: between the first and the last of them; never less than the expiry and
        ``margin_ms``. alarm_ms: age at which a person is told.
    """

    waits_ms: tuple[int, ...] = (500, 1000, 2000, 4000, 5000)
    min_rounds: int = 3
    min_endpoints: int = 2
    min_spread_ms: int = 15_000
    margin_ms: int = 5_000
    alarm_ms: int = 120_000


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of questions brought; None = that read failed.

    Attributes:
      at_ms: when it ended, on a clock that never goes back. answer: to the query by id.
      orders: open and conditional orders of the symbol. fills: since before the intent.
      clock_good: the venue's time is known well enough for its lists to be believed.
    """

    at_ms: int
    answer: Answer
    orders: tuple[OrderReport, ...] | None
    fills: tuple[Fill, ...] | None
    position: Position
    clock_good: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """The end of the doubt.

    Attributes:
      order: in the state that the venue gave it, or NOT_ARRIVED; every fill that was seen is in it.
      fills: those fills, to be booked.
    """

    order: TrackedOrder
    fills: tuple[Fill, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolution:
    """The search for one order; its symbol opens nothing until it has ended.

    Attributes:
      bracket: wanted by an amendment, which has no order of its own. started_ms, next_ms: of the
        search and of its next round. absences: times of the rounds that count. seen_absent: per
        endpoint the last time it was read without the order.
    """

    order: TrackedOrder
    absence: Absence
    config: ResolveConfig
    started_ms: int
    next_ms: int
    bracket: Bracket | None = None
    tick: Decimal = ZERO
    rounds: int = 0
    absences: tuple[int, ...] = ()
    seen_absent: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: MappingProxyType(dict[str, int]())
    )
    alarmed: bool = False

    @classmethod
    def start(
        cls,
        order: TrackedOrder,
        venue: str,
        now_ms: int,
        config: ResolveConfig,
        *,
        bracket: Bracket | None = None,
        tick: Decimal = ZERO,
    ) -> Resolution:
        """Begin after an ambiguous reply, or at a start with an intent that has none.

        Args:
          bracket, tick: of an amendment: what was asked, and the step of its prices.

        Raises:
          ValueError: the order is in no doubt.
        """
        if order.state is IntentState.INTENT:
            order = move(order, IntentState.UNKNOWN)
        if order.state is not IntentState.UNKNOWN:
            raise ValueError(f"order {order.client_id}: is {order.state}; nothing to resolve.")
        absence = ABSENCE.get(venue, DEFAULT_ABSENCE)
        first = now_ms + config.waits_ms[0]
        return cls(order, absence, config, now_ms, first, bracket, tick)

    @property
    def spread_ms(self) -> int:
        """How long absence has to have lasted, milliseconds."""
        return max(
            self.config.min_spread_ms,
            self.absence.expiry_ms + self.config.margin_ms,
        )

    def age_ms(self, now_ms: int) -> int:
        """How long the order has been searched for, milliseconds."""
        return now_ms - self.started_ms

    def alarm(self, now_ms: int) -> tuple[Resolution, bool]:
        """Whether a person has to be told now: once per order."""
        if self.alarmed or self.age_ms(now_ms) < self.config.alarm_ms:
            return self, False
        return dataclasses.replace(self, alarmed=True), True

    def note(self, heard: Round) -> Resolution | Resolved:
        """What a round brought: the end of the search, or the search with one round more."""
        found = self._seen(heard)
        if found is not None:
            return found
        rounds = self.rounds + 1
        wait = self.config.waits_ms[min(rounds, len(self.config.waits_ms) - 1)]
        search = dataclasses.replace(self, rounds=rounds, next_ms=heard.at_ms + wait)
        empty = search._empty_endpoints(heard)
        if not empty:
            return search
        # Only silence that begins after the request had expired proves that it never came; a round
        # that is not later than the one before it is the same silence heard twice.
        if search.absences and heard.at_ms <= search.absences[-1]:
            return search
        search = dataclasses.replace(
            search,
            absences=(*search.absences, heard.at_ms),
            seen_absent=MappingProxyType(
                {**search.seen_absent, **dict.fromkeys(empty, heard.at_ms)}
            ),
        )
        if search._absent_for_good():
            return Resolved(move(search.order, IntentState.NOT_ARRIVED))
        return search

    def _seen(self, heard: Round) -> Resolved | None:
        """The order as any of the lists shows it."""
        client_id = self.order.client_id
        fills = tuple(f for f in heard.fills or () if client_id and f.client_id == client_id)
        reports = [r for r in heard.orders or () if client_id and r.client_id == client_id]
        match heard.answer:
            case Found(report):
                reports.append(report)
            case Absent() | Unavailable():
                pass
            case _:
                assert_never(heard.answer)
        order = self.order
        # Fills first: a list of fills may be short, but what it shows is certain.
        for fill in fills:
            order = advance(order, fill)
        for report in sorted(reports, key=lambda one: (one.status.terminal, one.filled)):
            order = advance(order, report)
        if fills or reports:
            return Resolved(order, fills)
        if self.order.kind is IntentKind.AMEND and self._amended(heard.position):
            return Resolved(move(order, IntentState.ACKED))
        return None

    def _amended(self, position: Position) -> bool:
        """Whether a position carries the legs that an amendment asked for."""
        match position:
            case Held(stop_price=stop, target_price=target):
                wanted = self.bracket
                return wanted is not None and (
                    _same_price(stop, wanted.stop_price, self.tick)
                    and _same_price(target, wanted.target_price, self.tick)
                )
            case Flat() | Unknown():
                return False
            case _:
                assert_never(position)

    def _empty_endpoints(self, heard: Round) -> frozenset[str]:
        """Endpoints that answered without the order; none unless the round counts as a whole."""
        known = not isinstance(heard.position, Unknown)
        if self.order.kind is IntentKind.AMEND:
            if not known or heard.orders is None or not heard.clock_good:
                return frozenset()
            return frozenset({ORDERS, POSITION})
        if not isinstance(heard.answer, Absent) or not heard.clock_good:
            return frozenset()
        if heard.orders is None and heard.fills is None and not known:
            return frozenset()
        names = {name for name in heard.answer.endpoint.split("+") if name}
        if heard.orders is not None:
            names.add(ORDERS)
        if heard.fills is not None:
            names.add(FILLS)
        return frozenset(names)

    def _absent_for_good(self) -> bool:
        """Whether every list was silent, often enough and for long enough."""
        if self.order.filled > 0 or self.order.reported > 0:
            return False  # it did arrive; only the venue can say how it ended
        if len(self.absences) < self.config.min_rounds:
            return False
        if len(self.seen_absent) < self.config.min_endpoints:
            return False
        if self.absences[-1] - self.absences[0] < self.spread_ms:
            return False
        wanted = self.absence.endpoints
        if self.order.kind is IntentKind.AMEND:
            wanted = frozenset({ORDERS, POSITION})
        settled = self.started_ms + self.absence.expiry_ms
        return all(self.seen_absent.get(name, -1) >= settled for name in wanted)


def _same_price(left: Decimal | None, right: Decimal | None, tick: Decimal) -> bool:
    if left is None or right is None:
        return left is right
    return abs(left - right) <= tick / 2
