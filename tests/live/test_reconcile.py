from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from decimal import Decimal

import pytest

from live.journal.ids import client_id, owner_tag
from live.orders import IntentState, TrackedOrder
from live.reconcile import Sightings
from live.reconcile.compare import (
    JournalView,
    Leg,
    cash_finding,
    cause_of,
    compare,
    explained_equity,
    forced,
    settings_finding,
)
from live.reconcile.findings import (
    CashMismatch,
    Cause,
    DirectionChanged,
    ForcedFill,
    ForeignOrder,
    MissingFills,
    OffTarget,
    OrderMissing,
    OrderRevived,
    OwnOrderUnknown,
    PendingFills,
    PositionMismatch,
    PositionUnknown,
    SettingsChanged,
    StaleSnapshot,
    TargetMissing,
)
from live.reconcile.reactions import (
    TRADES,
    AdoptOrder,
    CancelOrder,
    CheckProtection,
    Degrade,
    FetchFills,
    ForeignPolicy,
    ForgetLevel,
    LookAgain,
    PlaceTarget,
    QueryOrder,
    RecordAdjustment,
    ResetPlanner,
    SetLatch,
    react,
)
from live.reconcile.startup import Restored, disagreement, restore
from live.risk import TradingState
from live.types import (
    Balance,
    Bracket,
    Configured,
    Fill,
    FillKind,
    Flat,
    Held,
    Instrument,
    IntentKind,
    MarginMode,
    OrderReport,
    OrderStatus,
    PositionMode,
    Quote,
    Role,
    Side,
    Snapshot,
    Unknown,
)

D = Decimal
NOTHING, ONE, TWO, STEP = D(0), D(1), D(2), D("0.001")
TAG = owner_tag("account", "strategy", "BTC")
ENTRY_ID, STOP_ID, OTHER_ID = (
    client_id(TAG, 1, Role.ENTRY),
    client_id(TAG, 2, Role.STOP),
    client_id(TAG, 3, Role.ENTRY),
)
POLICIES = list(ForeignPolicy)
S = IntentState


@dataclass(frozen=True)
class Planner:
    direction: int = 0
    target_quantity: Decimal = NOTHING
    target_tolerance: Decimal = STEP
    bracket: Bracket | None = None


def instrument(step="0.001") -> Instrument:
    return Instrument(
        *("bybit", "BTC", "BTCUSDT", "BTC", "USDT", "USDT", ONE, D(step), D(step), NOTHING),
        *(D("0.1"), NOTHING, D(100), D("0.0005"), D("0.004")),
    )


def held(quantity=ONE, **changes) -> Held:
    plain = Held(quantity, D(100), D(100), NOTHING, TWO, MarginMode.ISOLATED, None, 1_000)
    return dataclasses.replace(plain, **changes)


def snapshot(position=None, *orders, at_ms=10_000, step="0.001") -> Snapshot:
    return Snapshot(
        bar_open_ms=0,
        venue_time_ms=at_ms,
        received_monotonic_ns=at_ms * 1_000_000,
        instrument=instrument(step),
        position=Flat() if position is None else position,
        balance=Balance(D(1000), D(1000), None, "USDT", at_ms),
        quote=Quote(D(100), D(100), D(100), at_ms),
        orders=orders,
    )


def report(name, role=Role.ENTRY, status=OrderStatus.OPEN, filled=NOTHING, **changes):
    side = Side.BUY if role is Role.ENTRY else Side.SELL
    plain = OrderReport(name, f"v-{name}", role, side, ONE, filled, None, None, False, status, 1)
    return dataclasses.replace(plain, **changes)


def tracked(name=ENTRY_ID, role=Role.ENTRY, state=S.ACKED, **changes) -> TrackedOrder:
    kind = IntentKind.MARKET if role is Role.ENTRY else IntentKind(role.name.lower())
    side = Side.BUY if role is Role.ENTRY else Side.SELL
    plain = TrackedOrder(name, "BTC", kind, role, side, ONE, role is not Role.ENTRY, state)
    return dataclasses.replace(plain, **changes)


def view(position=NOTHING, *orders, following=()) -> JournalView:
    return JournalView(TAG, position, {o.client_id: o for o in orders}, frozenset(following))


def fill(quantity=ONE, name="", side=Side.BUY, kind=FillKind.TRADE, order="x", trade="t") -> Fill:
    return Fill(trade, name, order, side, quantity, D(100), NOTHING, "USDT", kind, 5_000)


LONG = Planner(1, ONE)
STOP = tracked(STOP_ID, Role.STOP)
STOP_REPORT = report(STOP_ID, Role.STOP, reduce_only=True, trigger_price=D(90))


# One snapshot -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("journal", "planner", "seen", "expected"),
    [
        (view(), Planner(), snapshot(), ()),
        (view(ONE, STOP), LONG, snapshot(held(), STOP_REPORT), ()),
        (view(D("1.0009")), LONG, snapshot(held()), ()),  # less than a step
        (view(ONE), LONG, snapshot(Unknown("503")), (PositionUnknown("503"),)),
        # The position of the venue against the journal.
        (
            view(ONE),
            LONG,
            snapshot(held(TWO)),
            (PositionMismatch(ONE, TWO, False), OffTarget(TWO, ONE)),
        ),
        (
            view(),
            Planner(),
            snapshot(held()),
            (PositionMismatch(NOTHING, ONE, True), DirectionChanged(0, 1)),
        ),
        (
            view(ONE),
            LONG,
            snapshot(),
            (PositionMismatch(ONE, NOTHING, False), DirectionChanged(1, 0)),
        ),
        (
            view(ONE),
            LONG,
            snapshot(held(-ONE)),
            (PositionMismatch(ONE, -ONE, False), DirectionChanged(1, -1)),
        ),
        (view(D("1e-12")), Planner(), snapshot(step="0"), ()),
        # Orders under way may explain it.
        (
            view(NOTHING, tracked(state=S.UNKNOWN)),
            Planner(),
            snapshot(held()),
            (PendingFills(ONE), DirectionChanged(0, 1)),
        ),
        (
            view(NOTHING, tracked(), following=[ENTRY_ID]),
            LONG,
            snapshot(held(D("0.4"))),
            (PendingFills(D("0.4")), OffTarget(D("0.4"), ONE)),
        ),
        (
            view(NOTHING, tracked(state=S.FILLED, reported=ONE)),
            Planner(1, D(3)),
            snapshot(held(D(3))),
            (PendingFills(D(3)),),
        ),
        (
            view(ONE, STOP),
            LONG,
            snapshot(),
            (OrderMissing(STOP_ID), PendingFills(-ONE), DirectionChanged(1, 0)),
        ),
        # A stop that the venue still lists unfilled explains nothing.
        (
            view(ONE, STOP),
            LONG,
            snapshot(None, STOP_REPORT),
            (PositionMismatch(ONE, NOTHING, False), DirectionChanged(1, 0)),
        ),
        # Orders of the venue against those of the journal.
        (view(), Planner(), snapshot(None, report(OTHER_ID)), (OwnOrderUnknown(report(OTHER_ID)),)),
        (view(), Planner(), snapshot(None, report("web")), (ForeignOrder(report("web")),)),
        (
            view(NOTHING, tracked(state=S.NOT_ARRIVED)),
            Planner(),
            snapshot(None, report(ENTRY_ID)),
            (OrderRevived(report(ENTRY_ID)),),
        ),
        (
            view(NOTHING, tracked()),
            Planner(),
            snapshot(None, report(ENTRY_ID, filled=D("0.5"))),
            (MissingFills(ENTRY_ID),),
        ),
        (view(NOTHING, tracked()), Planner(), snapshot(), (OrderMissing(ENTRY_ID),)),
        (view(NOTHING, tracked(), following=[ENTRY_ID]), Planner(), snapshot(), ()),
        (view(NOTHING, tracked(state=S.UNKNOWN)), Planner(), snapshot(), ()),
        # The target; the stop has a guard of its own.
        (
            view(ONE, STOP),
            dataclasses.replace(LONG, bracket=Bracket(D(90), D(120))),
            snapshot(held(), STOP_REPORT),
            (TargetMissing(D(120)),),
        ),
        (
            view(ONE),
            dataclasses.replace(LONG, bracket=Bracket(D(90), D(120))),
            snapshot(held(stop_price=D(90), target_price=D(120))),
            (),
        ),
        # A residue has no direction.
        (view(D("0.0004")), Planner(), snapshot(held(D("0.0004"), residue=True)), ()),
    ],
)
def test_findings_of_a_snapshot(journal, planner, seen, expected):
    assert compare(journal, planner, seen, fills_read=True) == expected


def test_an_unknown_position_says_nothing_about_side_size_or_journal():
    journal, planner = view(ONE, STOP), dataclasses.replace(LONG, bracket=Bracket(D(90), D(120)))
    found = compare(journal, planner, snapshot(Unknown("timeout"), report("web")), fills_read=True)
    assert {type(one) for one in found} == {PositionUnknown, ForeignOrder, OrderMissing}


def test_a_snapshot_from_before_the_last_outcome_undoes_nothing():
    seen = snapshot(at_ms=10_000)
    assert compare(view(ONE), LONG, seen, fills_read=True, not_before_ms=10_001) == (
        StaleSnapshot(10_000),
    )


def test_fills_of_others_make_a_difference_foreign():
    sold = fill(D("0.4"), side=Side.SELL)
    found = compare(view(ONE), LONG, snapshot(held(D("0.6"))), fills_read=True, manual=[sold, sold])
    assert found[0] == PositionMismatch(ONE, D("0.6"), True)
    found = compare(view(ONE), LONG, snapshot(held(D("0.5"))), fills_read=True, manual=[sold])
    assert found[0] == PositionMismatch(ONE, D("0.5"), False)


def test_no_difference_is_judged_before_the_fills_were_read():
    found = compare(view(), Planner(1, ONE), snapshot(held()), fills_read=False)
    assert found == (PendingFills(ONE),)


def test_legs_of_the_position_are_not_foreign_where_the_venue_keeps_them_there():
    leg = report("", Role.STOP, reduce_only=True)
    seen = snapshot(held(stop_price=D(90)), leg)
    assert compare(view(ONE), LONG, seen, fills_read=True, position_legs=True) == ()
    assert compare(view(ONE), LONG, seen, fills_read=True) == (ForeignOrder(leg),)


@pytest.mark.parametrize(
    ("done", "options", "expected"),
    [
        (fill(name=ENTRY_ID), {}, Cause.ORDER),
        (fill(name=OTHER_ID), {}, Cause.ORDER),  # our tag, though the journal lost it
        (fill(name=STOP_ID), {}, Cause.STOP),
        (fill(name=STOP_ID), {"disaster": True}, Cause.DISASTER_STOP),
        (fill(order="leg"), {"legs": {"leg": Role.TARGET}}, Cause.TARGET),
        (fill(order="leg"), {"legs": {"leg": Role.STOP}}, Cause.STOP),
        (fill(), {}, Cause.MANUAL),
        (fill(name="web"), {}, Cause.MANUAL),
        (fill(name=client_id("0000", 1, Role.ENTRY)), {}, Cause.MANUAL),
        (fill(kind=FillKind.LIQUIDATION), {}, Cause.LIQUIDATION),
        (fill(kind=FillKind.ADL), {}, Cause.ADL),
        (fill(NOTHING, kind=FillKind.FUNDING), {}, Cause.FUNDING),
        (fill(kind=FillKind.SETTLEMENT), {}, Cause.SETTLEMENT),
    ],
)
def test_the_cause_of_a_fill(done, options, expected):
    cause = cause_of(done, view(NOTHING, tracked(), STOP), **options)
    assert cause is expected
    assert cause.ours == (cause is not Cause.MANUAL)
    halts = cause in (Cause.LIQUIDATION, Cause.ADL, Cause.DISASTER_STOP)
    assert forced([(done, cause)]) == ((ForcedFill(cause, done),) if halts else ())


def test_equity_is_explained_by_marks_fills_and_funding():
    bought = dataclasses.replace(fill(), fee=D("0.05"))
    paid = dataclasses.replace(fill(NOTHING, kind=FillKind.FUNDING, trade="f"), fee=D(3))
    leg = Leg(TWO, D(100), D(110), (bought, bought, paid))
    assert explained_equity(D(1000), [leg]) == D(1000) + 20 + 10 - D("0.05") - 3
    assert cash_finding(D(1000), [leg], D("1031.9")) == ()
    assert cash_finding(D(1000), [leg], D(1033)) == (CashMismatch(D("1026.95"), D(1033)),)


def test_settings_that_changed_are_found():
    wanted = Configured(TWO, MarginMode.ISOLATED, PositionMode.ONE_WAY)
    assert settings_finding(wanted, wanted) == ()
    found = dataclasses.replace(wanted, leverage=D(10))
    assert settings_finding(wanted, found) == (SettingsChanged(wanted, found),)


# Reactions ----------------------------------------------------------------------------------------

FOREIGN, UNEXPLAINED = PositionMismatch(NOTHING, ONE, True), PositionMismatch(ONE, TWO, False)
WEB, SETTINGS = report("web"), Configured(TWO, MarginMode.ISOLATED, PositionMode.ONE_WAY)
FORCED = ForcedFill(Cause.ADL, fill(kind=FillKind.ADL))
FINDINGS = [
    PositionUnknown("503"),
    StaleSnapshot(1),
    DirectionChanged(1, 0),
    OffTarget(ONE, TWO),
    PendingFills(ONE),
    FOREIGN,
    UNEXPLAINED,
    OwnOrderUnknown(WEB),
    ForeignOrder(WEB),
    OrderMissing(STOP_ID),
    OrderRevived(WEB),
    MissingFills(STOP_ID),
    TargetMissing(D(120)),
    SettingsChanged(SETTINGS, dataclasses.replace(SETTINGS, leverage=ONE)),
    CashMismatch(ONE, TWO),
    FORCED,
]


def latched(reactions):
    return [(r.latch.state, r.latch.reason) for r in reactions if isinstance(r, SetLatch)]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("finding", FINDINGS, ids=lambda one: type(one).__name__)
def test_nothing_trades_before_two_snapshots_agree(finding, policy):
    first = react(finding, policy, False)
    assert first
    assert not any(isinstance(one, TRADES) for one in first)
    certain = isinstance(finding, SettingsChanged | ForcedFill)
    assert bool(latched(first)) == certain


@pytest.mark.parametrize(
    ("finding", "policy", "expected"),
    [
        (FOREIGN, "refuse", ["RecordAdjustment", "SetLatch", "CheckProtection"]),
        (FOREIGN, "adopt", ["RecordAdjustment", "ForgetLevel", "CheckProtection"]),
        (FOREIGN, "flatten", ["RecordAdjustment", "FlattenPosition"]),
        (UNEXPLAINED, "refuse", ["RecordAdjustment", "SetLatch", "CheckProtection"]),
        (UNEXPLAINED, "adopt", ["RecordAdjustment", "SetLatch", "CheckProtection"]),
        (UNEXPLAINED, "flatten", ["RecordAdjustment", "SetLatch", "CheckProtection"]),
        (ForeignOrder(WEB), "refuse", ["SetLatch"]),
        (ForeignOrder(WEB), "adopt", ["AdoptOrder"]),
        (ForeignOrder(WEB), "flatten", ["CancelOrder"]),
        (OrderRevived(WEB), "adopt", ["CancelOrder", "SetLatch"]),
        (TargetMissing(D(120)), "refuse", ["PlaceTarget"]),
        (CashMismatch(ONE, TWO), "refuse", ["RecordAdjustment"]),
    ],
)
def test_reactions_once_two_snapshots_agree(finding, policy, expected):
    reactions = react(finding, ForeignPolicy(policy), True)
    assert [type(one).__name__ for one in reactions] == expected


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (PositionUnknown("503"), [Degrade("position")]),
        (StaleSnapshot(1), [LookAgain()]),
        (DirectionChanged(1, 0), [FetchFills(), ResetPlanner(), CheckProtection()]),
        (OffTarget(ONE, TWO), [ForgetLevel()]),
        (PendingFills(ONE), [Degrade("fills"), FetchFills()]),
        (UNEXPLAINED, [Degrade("mismatch"), FetchFills(), LookAgain()]),
        (OwnOrderUnknown(WEB), [AdoptOrder(WEB), FetchFills()]),
        (ForeignOrder(WEB), [Degrade("foreign"), LookAgain()]),
        (OrderMissing(STOP_ID), [QueryOrder(STOP_ID), FetchFills()]),
        (MissingFills(STOP_ID), [Degrade("fills"), FetchFills()]),
        (TargetMissing(D(120)), [LookAgain()]),
    ],
)
def test_reactions_at_first_sight(finding, expected):
    assert list(react(finding, ForeignPolicy.REFUSE, False)) == expected


def test_latches_name_their_reason_and_only_acknowledged_adjustments_count():
    refused = react(FOREIGN, ForeignPolicy.REFUSE, True)
    assert latched(refused) == [(TradingState.REDUCING, "foreign")]
    assert refused[0] == RecordAdjustment("manual", ONE, NOTHING, False)
    adopted = react(FOREIGN, ForeignPolicy.ADOPT, True)
    assert adopted[0] == RecordAdjustment("manual", ONE, NOTHING, True)
    unexplained = react(UNEXPLAINED, ForeignPolicy.ADOPT, True)
    assert latched(unexplained) == [(TradingState.REDUCING, "mismatch")]
    assert latched(react(FORCED, ForeignPolicy.REFUSE, False)) == [(TradingState.HALTED, "adl")]
    changed = react(FINDINGS[13], ForeignPolicy.REFUSE, False)
    assert latched(changed) == [(TradingState.REDUCING, "settings")]
    assert PlaceTarget(D(120)) in react(TargetMissing(D(120)), ForeignPolicy.REFUSE, True)
    assert CancelOrder(WEB) in react(OrderRevived(WEB), ForeignPolicy.REFUSE, True)


# Two snapshots ------------------------------------------------------------------------------------

SECOND = 1_000_000_000


def test_a_finding_is_told_when_new_and_once_more_when_confirmed():
    seen, told = Sightings().note([UNEXPLAINED], 0, held())
    assert told == ((UNEXPLAINED, False),)
    assert seen.reasons == {"mismatch"}
    seen, told = seen.note([UNEXPLAINED], SECOND, held())  # too soon to be a second opinion
    assert told == ()
    learned = dataclasses.replace(UNEXPLAINED, foreign=True)
    seen, told = seen.note([learned], 2 * SECOND, held())
    assert told == ((learned, True),)
    seen, told = seen.note([learned], 9 * SECOND, held())
    assert told == ()
    seen, told = seen.note([], 10 * SECOND, held())
    assert (seen, seen.reasons) == (Sightings(), frozenset())


def test_a_finding_that_changes_or_goes_away_begins_again():
    seen, _ = Sightings().note([UNEXPLAINED], 0, held())
    other = PositionMismatch(ONE, D(3), False)
    seen, told = seen.note([other], 5 * SECOND, held())
    assert told == ((other, False),)
    seen, _ = seen.note([], 6 * SECOND, held())
    _, told = seen.note([other], 9 * SECOND, held())
    assert told == ((other, False),)


@pytest.mark.parametrize(
    ("findings", "position"),
    [([PositionUnknown("503")], Unknown("503")), ([StaleSnapshot(1)], held())],
)
def test_a_blind_snapshot_neither_confirms_nor_clears(findings, position):
    seen, _ = Sightings().note([UNEXPLAINED], 0, held())
    seen, told = seen.note(findings, 3 * SECOND, position)
    assert (UNEXPLAINED, True) not in told
    assert "mismatch" in seen.reasons
    _, told = seen.note([UNEXPLAINED], 4 * SECOND, held())
    assert told == ((UNEXPLAINED, True),)


# The start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (snapshot(), snapshot(at_ms=12_500), None),
        (snapshot(held()), snapshot(held(), at_ms=12_500), None),
        (snapshot(), snapshot(at_ms=11_999), "too close"),
        (snapshot(), snapshot(held(), at_ms=13_000), "position changed"),
        (snapshot(None, report("web")), snapshot(at_ms=13_000), "orders changed"),
        (snapshot(), snapshot(None, report("web"), at_ms=13_000), "orders changed"),
    ],
)
def test_two_readings_are_one_fact_only_if_they_agree(first, second, why):
    said = disagreement(first, second)
    assert said is None if why is None else why in said


LEGS = Bracket(D(90), None)


@pytest.mark.parametrize(
    ("position", "target", "expected"),
    [
        (held(), ONE, Restored(0.5, 1, 7, LEGS)),
        (held(D("0.9995")), ONE, Restored(0.5, 1, 7, LEGS)),
        (held(D("0.9")), ONE, Restored(None, 1, 7, LEGS)),  # not where the level aims: none
        (held(-ONE), ONE, Restored(None, -1, 0, None)),
        (held(), NOTHING, Restored(None, 1, 0, None)),
        (Flat(), ONE, Restored(None, 0, 0, None)),
        (Flat(), NOTHING, Restored(None, 0, 0, None)),
    ],
)
def test_the_planner_remembers_only_what_the_venue_confirms(position, target, expected):
    known = {"level": 0.5, "tolerance": D("0.001"), "held_bars": 7, "legs": LEGS}
    assert restore(position, target=target, **known) == expected


def test_a_flat_level_survives_a_restart_on_a_flat_account():
    restored = restore(
        Flat(), level=0.0, target=NOTHING, tolerance=D("0.001"), held_bars=0, legs=None
    )
    assert restored == Restored(0.0, 0, 0, None)
