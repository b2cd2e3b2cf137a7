"""The pure pieces together against a venue that loses, delays, repeats and surprises.

`Venue` is the truth; `Daemon` is a small runner that knows only what it is told. The rules are what
may happen; after every one of them the promises are checked on both.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from live.journal.ids import client_id, owner_tag
from live.orders import IntentState, TrackedOrder, advance, fold
from live.orders.cover import Unclear
from live.orders.protection import (
    CancelLeftovers,
    FlattenUnprotected,
    Guard,
    PlaceStop,
    protection_of,
)
from live.orders.resolution import Resolution, ResolveConfig, Resolved, Round
from live.planner.memory import sign
from live.reconcile import Sightings
from live.reconcile.compare import JournalView, cause_of, compare
from live.reconcile.findings import Cause, PositionUnknown
from live.reconcile.reactions import (
    CancelOrder,
    FlattenPosition,
    ForeignPolicy,
    QueryOrder,
    RecordAdjustment,
    ResetPlanner,
    SetLatch,
    react,
)
from live.risk import Effect, Latch, OrderRate, RiskConfig, Standing, TradingState, effect
from live.risk.context import RiskContext
from live.risk.gate import Allow, check
from live.types import (
    Absent,
    Ambiguous,
    Balance,
    Certainty,
    Definitive,
    Fill,
    FillKind,
    Flat,
    Found,
    Held,
    Instrument,
    Intent,
    IntentKind,
    MarginMode,
    OrderReport,
    OrderStatus,
    Quote,
    Role,
    Side,
    Snapshot,
    Unavailable,
    Unknown,
)

D = Decimal
ZERO, ONE, MARK = D(0), D(1), D(100)
TAG = owner_tag("account", "strategy", "BTC")
BTC = Instrument(
    *("bybit", "BTC", "BTCUSDT", "BTC", "USDT", "USDT", ONE, ONE, ONE, ZERO),
    *(ONE, ZERO, D(100), D("0.0005"), D("0.004")),
)
EQUITY, LEVERAGE = D(1000), D(2)
MOST = D(21)  # base units: 1.05 * equity * leverage at a mark of 100
EXPIRY_MS, DEADLINE_MS, STEP_MS = 5_000, 5_000, 1_000
ACCEPTED = Definitive(Certainty.ACCEPTED, venue_order_id="v")


class Venue:
    """What is really there."""

    def __init__(self) -> None:
        self.now_ms = 100_000
        self.orders: dict[str, OrderReport] = {}
        self.fills: list[Fill] = []
        self.under_way: list[
            tuple[int, Intent, Decimal]
        ] = []  # arrival, order, part filled at once
        self.bare_since: int | None = None
        self.touched = False

    @property
    def position(self) -> Decimal:
        return sum((fill.signed for fill in self.fills), ZERO)

    def arrive(self, order: Intent, at_once: Decimal) -> None:
        assert order.client_id not in self.orders  # at most one order of an intent
        self.orders[order.client_id] = OrderReport(
            *(order.client_id, "v" + order.client_id, order.role, order.side, order.quantity, ZERO),
            *(None, order.trigger_price, order.reduce_only, OrderStatus.OPEN, self.now_ms),
        )
        if order.kind is IntentKind.MARKET:
            self.fill(order.client_id, min(at_once, order.quantity))

    def fill(self, name: str, quantity: Decimal) -> None:
        order = self.orders[name]
        room = order.quantity - order.filled
        if order.reduce_only:
            room = min(room, max(-order.side.sign * self.position, ZERO))
        quantity = min(quantity, room)
        if quantity > 0:
            self.trade(order.side, quantity, name, order.venue_order_id)
        filled = order.filled + quantity
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.OPEN
        if filled == order.quantity:
            status = OrderStatus.FILLED
        elif order.reduce_only and order.trigger_price is None and quantity == room:
            status = OrderStatus.CANCELLED  # nothing is left to reduce
        self.orders[name] = dataclasses.replace(order, filled=filled, status=status)
        self.watch()

    def trade(self, side: Side, quantity: Decimal, name: str = "", order: str = "web") -> None:
        trade = f"t{len(self.fills)}"
        kind = FillKind.TRADE
        self.fills.append(
            Fill(trade, name, order, side, quantity, MARK, ZERO, "USDT", kind, self.now_ms)
        )
        self.watch()

    def end(self, name: str) -> None:
        if not self.orders[name].status.terminal:
            ended = dataclasses.replace(self.orders[name], status=OrderStatus.CANCELLED)
            self.orders[name] = ended
        self.watch()

    def listed(self) -> tuple[OrderReport, ...]:
        return tuple(order for order in self.orders.values() if not order.status.terminal)

    def read(self):
        quantity = self.position
        if not quantity:
            return Flat()
        isolated = MarginMode.ISOLATED
        return Held(quantity, MARK, MARK, ZERO, LEVERAGE, isolated, None, self.now_ms)

    def watch(self) -> None:
        side = Side.SELL if self.position > 0 else Side.BUY
        stops = [o for o in self.listed() if o.role is Role.STOP and o.side is side]
        covered = sum((stop.quantity - stop.filled for stop in stops), ZERO)
        if not self.position or covered >= abs(self.position):
            self.bare_since = None
        elif self.bare_since is None:
            self.bare_since = self.now_ms


@dataclasses.dataclass
class Planner:
    direction: int = 0
    target_quantity: Decimal = ZERO
    target_tolerance: Decimal = ONE
    bracket: None = None


class Daemon:
    """A runner without a network: it asks the pure modules and does what they say."""

    def __init__(self, venue: Venue, policy: ForeignPolicy) -> None:
        self.venue, self.policy = venue, policy
        self.orders: dict[str, TrackedOrder] = {}
        self.booked: dict[str, Fill] = {}
        self.manual: dict[str, Fill] = {}
        self.adjusted, self.waiting = ZERO, ZERO
        self.standing, self.guard, self.sightings = Standing(), Guard(), Sightings()
        self.searches: dict[str, Resolution] = {}
        self.planner, self.rate, self.counter = Planner(), OrderRate(), 0
        self.position, self.read_ms = Unknown("not read"), 0
        self.seen_bare: int | None = None
        self.flattened: list[int] = []

    # Knowledge.

    @property
    def journal(self) -> Decimal:
        return fold(self.booked.values()) + self.adjusted

    @property
    def frozen(self) -> bool:
        return any(order.state.unresolved for order in self.orders.values())

    @property
    def following(self) -> frozenset[str]:
        markets = (o for o in self.orders.values() if o.kind is IntentKind.MARKET)
        return frozenset(
            o.client_id for o in markets if not (o.state.terminal or o.state.unresolved)
        )

    def view(self) -> JournalView:
        return JournalView(TAG, self.journal, self.orders, self.following)

    def hear(self, fill: Fill) -> None:
        """One fill, for the first or the tenth time."""
        if fill.trade_id in self.manual:
            return
        if cause_of(fill, self.view()) is Cause.MANUAL:
            self.manual[fill.trade_id] = fill
            return
        before = self.journal
        self.booked[fill.trade_id] = fill
        self.orders[fill.client_id] = advance(self.orders[fill.client_id], fill)
        if abs(self.journal) > abs(before):
            self.guard = self.guard.filled(self.venue.now_ms)
            self.seen_bare = self.seen_bare or self.venue.now_ms

    # Acting.

    def send(self, order: Intent, fate: str, at_once: Decimal, delay_ms: int) -> bool:
        """Gate, journal, one send; whether the gate let it through."""
        context = self.context()
        if not isinstance(check(order, context, RiskConfig()), Allow):
            return False
        self.promised(order, context)
        self.counter += 1
        order = dataclasses.replace(order, client_id=client_id(TAG, self.counter, order.role))
        tracked = TrackedOrder(
            *(order.client_id, "BTC", order.kind, order.role, order.side, order.quantity),
            order.reduce_only,
        )
        if effect(order) is Effect.INCREASE:
            self.rate = self.rate.sent(self.venue.now_ms)
            self.planner.target_quantity += order.side.sign * order.quantity
        outcome = ACCEPTED
        match fate:
            case "accepted":
                self.venue.arrive(order, at_once)
            case "rejected":
                outcome = Definitive(Certainty.REJECTED, code="1")
            case "lost reply":
                self.venue.arrive(order, at_once)
                outcome = Ambiguous("timeout")
            case "lost request":
                outcome = Ambiguous("timeout")
            case "late request":
                arrival = self.venue.now_ms + delay_ms
                self.venue.under_way.append((arrival, order, at_once))
                outcome = Ambiguous("timeout")
        self.orders[order.client_id] = tracked = advance(tracked, outcome)
        if tracked.state is IntentState.UNKNOWN:
            self.searches[order.client_id] = Resolution.start(
                tracked, "bybit", self.venue.now_ms, ResolveConfig()
            )
        self.position = Unknown("something was sent since")
        return True

    def context(self) -> RiskContext:
        now = self.venue.now_ms
        rate = self.rate.at(now)
        return RiskContext(
            state=self.standing.state,
            frozen=self.frozen,
            in_flight=False,
            allowed_symbols=frozenset({"BTC"}),
            market_status="trading",
            environment_proven=True,
            venue_time_ms=now,
            snapshot_age_ms=float(now - self.read_ms),
            lateness_ms=0.0,
            entry_window_ms=15_000.0,
            clock_uncertainty_ms=1.0,
            journal_writable=True,
            disk_ok=True,
            instrument=BTC,
            position=self.position,
            journal_quantity=self.journal,
            quote=Quote(MARK, MARK, MARK, now),
            last_close=MARK,
            equity=EQUITY,
            account_equity=EQUITY,
            available=D(10_000),
            leverage=LEVERAGE,
            fee=D("0.0005"),
            other_notional=ZERO,
            orders_minute=rate.minute,
            orders_day=rate.of_day,
            repeated=False,
            stop_possible=True,
            venue_reduce_only=True,
        )

    def promised(self, order: Intent, context: RiskContext) -> None:
        """What holds of everything that leaves."""
        what = effect(order)
        if what is Effect.INCREASE:
            assert self.standing.state is TradingState.ACTIVE
            assert not self.frozen
            assert isinstance(context.position, Flat | Held)
            held = context.position.quantity if isinstance(context.position, Held) else ZERO
            assert held * order.side.sign >= 0
            assert abs(held + order.side.sign * order.quantity) <= MOST
        if what in (Effect.REDUCE, Effect.FLATTEN):
            assert context.position.quantity * order.side.sign < 0
            assert order.quantity <= abs(context.position.quantity)
            assert what is Effect.FLATTEN or self.standing.state is not TradingState.HALTED

    def flatten(self, reason: str) -> None:
        self.flattened.append(self.venue.now_ms)
        for name in self.following & set(self.venue.orders):
            self.venue.end(name)
        position = self.venue.read()
        if isinstance(position, Held):
            self.position, self.read_ms = position, self.venue.now_ms
            side, quantity = Side.of(-position.quantity), abs(position.quantity)
            order = Intent(IntentKind.MARKET, Role.FLATTEN, "BTC", side, quantity, True, reason)
            self.send(order, "accepted", quantity, 0)

    # Looking.

    def look(self, readable: bool, fills_read: bool) -> None:
        """One snapshot, and everything that follows from it."""
        now = self.venue.now_ms
        position = self.venue.read() if readable else Unknown("503")
        if fills_read:
            for fill in self.venue.fills:
                self.hear(fill)
        for report in self.venue.listed() if readable else ():
            if report.client_id in self.orders:
                self.orders[report.client_id] = advance(self.orders[report.client_id], report)
        self.position, self.read_ms = position, now
        snapshot = Snapshot(
            *(now, now, now * 1_000_000, BTC, position),
            balance=Balance(EQUITY, EQUITY, None, "USDT", now),
            quote=Quote(MARK, MARK, MARK, now),
            orders=self.venue.listed() if readable else (),
        )
        if readable:
            self.reconcile(snapshot, fills_read)
        else:
            self.blind(snapshot)
        self.protect(snapshot, readable)

    def blind(self, snapshot: Snapshot) -> None:
        before = dataclasses.replace(self.planner)
        found = compare(self.view(), self.planner, snapshot, fills_read=True)
        positional = [one for one in found if isinstance(one, PositionUnknown)]
        assert positional == [PositionUnknown("503")]
        self.standing = self.standing.degrade("position")
        assert self.planner == before

    def reconcile(self, snapshot: Snapshot, fills_read: bool) -> None:
        found = compare(
            *(self.view(), self.planner, snapshot),
            fills_read=fills_read,
            manual=self.manual.values(),
        )
        told_ns = snapshot.received_monotonic_ns
        self.sightings, told = self.sightings.note(found, told_ns, snapshot.position)
        for finding, confirmed in told:
            for reaction in react(finding, self.policy, confirmed):
                self.carry_out(reaction)
        reasons = self.sightings.reasons
        for reason in self.standing.degraded - reasons:
            self.standing = self.standing.recover(reason)
        for reason in reasons:
            self.standing = self.standing.degrade(reason)
        self.standing = self.standing.reconciled()
        self.follow()

    def follow(self) -> None:
        """The polls of accepted orders, and the cancel of what is left at the deadline."""
        for name in self.following & set(self.venue.orders):
            if self.venue.now_ms - self.venue.orders[name].venue_time_ms >= 10_000:
                self.venue.end(name)
            self.orders[name] = advance(self.orders[name], self.venue.orders[name])

    def carry_out(self, reaction) -> None:
        match reaction:
            case ResetPlanner():
                self.planner = Planner(sign(self.venue.position), self.venue.position)
            case SetLatch(latch):
                self.standing = self.standing.latched(latch)
            case RecordAdjustment(quantity=quantity, acknowledged=acknowledged):
                if acknowledged:
                    self.adjusted += quantity
                else:
                    self.waiting = quantity
                self.manual_taken()
            case FlattenPosition(reason):
                self.flatten(reason)
            case CancelOrder(report):
                self.venue.end(report.client_id)
            case QueryOrder(name):
                self.orders[name] = advance(self.orders[name], self.venue.orders[name])

    def manual_taken(self) -> None:
        """The adjustment speaks for these fills now; they are known, and never booked."""
        self.manual = {
            trade: dataclasses.replace(fill, quantity=ZERO) for trade, fill in self.manual.items()
        }

    def protect(self, snapshot: Snapshot, readable: bool) -> None:
        known = set(self.orders)
        seen = protection_of(snapshot.position, snapshot.orders, None, known=known)
        if not readable:
            seen = Unclear("503")
        elif self.venue.bare_since is None:
            self.seen_bare, self.flattened = None, []
        else:
            self.seen_bare = self.seen_bare or self.venue.now_ms
        now = self.venue.now_ms
        self.guard, command = self.guard.look(seen, now, now, deadline_ms=DEADLINE_MS)
        match command:
            case PlaceStop():
                self.place_stop(snapshot.position)
            case FlattenUnprotected(reason):
                self.standing = self.standing.latched(Latch(TradingState.HALTED, "unprotected"))
                self.flattened.append(now)
                if readable:
                    self.flatten(reason)
            case CancelLeftovers(names):
                for name in names:
                    self.venue.end(name)
                    self.orders[name] = advance(self.orders[name], self.venue.orders[name])

    stop_fate = "accepted"

    def place_stop(self, position: Held) -> None:
        side = Side.of(-position.quantity)
        trigger = MARK - 10 if position.quantity > 0 else MARK + 10
        order = Intent(
            *(IntentKind.STOP, Role.STOP, "BTC", side, abs(position.quantity), True, "protect"),
            trigger_price=trigger,
        )
        sent = self.send(order, self.stop_fate, ZERO, 0)
        self.position = self.venue.read()
        self.guard = self.guard.placed(sent and self.stop_fate == "accepted")
        self.venue.watch()

    def search(self, answers: str) -> None:
        """The rounds of every unknown order that are due."""
        now = self.venue.now_ms
        for name, search in list(self.searches.items()):
            if now < search.next_ms:
                continue
            real = self.venue.orders.get(name)
            answer = Unavailable("503") if answers == "none" else Absent("realtime+history")
            if real is not None and answers == "all":
                answer = Found(real)
            elif real is not None and answers == "part":
                answer = Unavailable("the list ends early")
            complete = answers == "all"
            heard = Round(
                *(now, answer, self.venue.listed() if complete else None),
                tuple(self.venue.fills) if complete else None,
                self.venue.read() if complete else Unknown("503"),
                clock_good=True,
            )
            noted = search.note(heard)
            if isinstance(noted, Resolved):
                del self.searches[name]
                self.orders[name] = noted.order
                for fill in noted.fills:
                    self.booked.setdefault(fill.trade_id, fill)
                    self.guard = self.guard.filled(now)
                self.position = Unknown("an order was found since")
            else:
                self.searches[name] = noted


SIDES = st.sampled_from(Side)
SIZES = st.integers(1, 15).map(D)
FATES = st.sampled_from(
    ["accepted", "accepted", "accepted", "rejected", "lost reply", "lost request", "late request"]
)


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.venue = Venue()
        self.daemon = Daemon(self.venue, ForeignPolicy.REFUSE)
        self.calm = False

    @initialize(policy=st.sampled_from(ForeignPolicy), calm=st.booleans())
    def begin(self, policy, calm):
        self.daemon.policy, self.calm = policy, calm  # calm: nobody else touches the account

    @precondition(lambda self: not self.daemon.following)
    @rule(side=SIDES, size=SIZES, fate=FATES, part=SIZES, delay=st.integers(1, EXPIRY_MS - 1))
    def enter(self, side, size, fate, part, delay):
        self.daemon.look(True, True)
        order = Intent(IntentKind.MARKET, Role.ENTRY, "BTC", side, size, False, "policy")
        self.daemon.send(order, fate, part, delay)

    @precondition(lambda self: not self.daemon.following)
    @rule(
        side=SIDES, size=SIZES, only=st.booleans(), role=st.sampled_from(Role), look=st.booleans()
    )
    def try_anything(self, side, size, only, role, look):
        if look:
            self.daemon.look(True, True)
        order = Intent(IntentKind.MARKET, role, "BTC", side, size, only, "policy")
        self.daemon.send(order, "accepted", size, 0)

    @precondition(lambda self: not self.daemon.following)
    @rule(sizes=st.lists(SIZES, min_size=2, max_size=4))
    def add_again_and_again(self, sizes):
        for size in sizes:
            self.daemon.look(True, True)
            held = self.venue.position
            side = Side.of(held) if held else Side.BUY
            order = Intent(IntentKind.MARKET, Role.ENTRY, "BTC", side, size, False, "policy")
            self.daemon.send(order, "accepted", size, 0)

    @precondition(lambda self: not self.daemon.following)
    @rule(fate=FATES, part=SIZES, delay=st.integers(1, EXPIRY_MS - 1))
    def leave(self, fate, part, delay):
        position = self.daemon.position
        if isinstance(position, Held):
            side, size = Side.of(-position.quantity), abs(position.quantity)
            order = Intent(IntentKind.MARKET, Role.REDUCE, "BTC", side, size, True, "policy")
            self.daemon.send(order, fate, part, delay)

    @precondition(lambda self: self.venue.listed())
    @rule(data=st.data(), size=SIZES, cancel=st.booleans())
    def order_moves(self, data, size, cancel):
        name = data.draw(st.sampled_from(sorted(o.client_id for o in self.venue.listed())))
        if cancel:
            if not self.calm:
                self.venue.end(name)
        else:
            self.venue.fill(name, size)

    @precondition(lambda self: self.venue.fills)
    @rule(data=st.data())
    def events_come_repeated_and_shuffled(self, data):
        for fill in data.draw(st.lists(st.sampled_from(self.venue.fills), max_size=8)):
            self.daemon.hear(fill)

    @precondition(lambda self: not self.calm)
    @rule(side=SIDES, size=SIZES)
    def somebody_trades_by_hand(self, side, size):
        self.venue.touched = True
        self.venue.trade(side, size)

    @rule(
        seconds=st.integers(1, 12),
        readable=st.booleans(),
        fills_read=st.booleans(),
        answers=st.sampled_from(["all", "part", "none"]),
        stop_fate=st.sampled_from(["accepted", "accepted", "rejected", "lost request"]),
    )
    def time_passes(self, seconds, readable, fills_read, answers, stop_fate):
        self.daemon.stop_fate = stop_fate
        for _ in range(seconds):
            self.second(readable, fills_read, answers)

    @rule()
    def an_operator_resumes(self):
        daemon = self.daemon
        daemon.adjusted += daemon.waiting
        daemon.waiting = ZERO
        daemon.standing = daemon.standing.cleared()

    def second(self, readable=True, fills_read=True, answers="all"):
        self.venue.now_ms += STEP_MS
        due = [one for one in self.venue.under_way if one[0] <= self.venue.now_ms]
        self.venue.under_way = [one for one in self.venue.under_way if one not in due]
        for _, order, at_once in due:
            self.venue.arrive(order, at_once)
        self.daemon.search(answers)
        self.daemon.look(readable, fills_read)

    @invariant()
    def no_fill_counts_twice(self):
        ours = [fill for fill in self.venue.fills if fill.client_id]
        booked = self.daemon.booked
        assert fold(booked.values()) == sum(
            (fill.signed for fill in ours if fill.trade_id in booked), ZERO
        )
        for name, order in self.daemon.orders.items():
            own = (fill.quantity for fill in ours if fill.client_id == name)
            assert order.filled <= sum(own, ZERO)

    @invariant()
    def what_was_declared_absent_never_arrives(self):
        coming = {order.client_id for _, order, _ in self.venue.under_way}
        for name, order in self.daemon.orders.items():
            if order.state is IntentState.NOT_ARRIVED:
                assert name not in self.venue.orders
                assert name not in coming

    @invariant()
    def no_position_is_bare_for_long(self):
        bare, seen = self.venue.bare_since, self.daemon.seen_bare
        if bare is not None and seen is not None:
            since = max(bare, seen)
            if self.venue.now_ms - since >= DEADLINE_MS + STEP_MS:
                assert self.daemon.flattened

    @invariant()
    def our_own_orders_stay_within_the_limit(self):
        if not self.venue.touched:
            assert abs(self.venue.position) <= MOST

    def teardown(self):
        """Given time and readable answers everything is known, explained or latched."""
        self.daemon.stop_fate = "accepted"
        for _ in range(90):
            self.second()
        daemon, venue = self.daemon, self.venue
        assert not daemon.frozen
        for name, order in daemon.orders.items():
            if order.state is not IntentState.NOT_ARRIVED and name in venue.orders:
                assert order.filled == venue.orders[name].filled
        if daemon.journal != venue.position:
            assert daemon.standing.state.latched
        if venue.position:
            assert venue.bare_since is None or daemon.flattened


Life.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLife = Life.TestCase
