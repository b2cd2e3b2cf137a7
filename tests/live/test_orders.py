from __future__ import annotations

import dataclasses
import itertools
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.orders import TRANSITIONS, IntentState, TrackedOrder, advance, fold, move
from live.orders.cover import Bare, Exiting, Lack, LocalStop, Missing, Protected, Unclear, Where
from live.orders.followup import (
    CancelRemainder,
    Done,
    FetchFills,
    FollowConfig,
    FollowUp,
    Lost,
    Poll,
    ReadPosition,
    Sleep,
)
from live.orders.protection import (
    AmendStop,
    CancelLeftovers,
    FlattenUnprotected,
    Guard,
    Nothing,
    PlaceStop,
    protection_of,
)
from live.orders.resolution import ABSENCE, Resolution, ResolveConfig, Resolved, Round
from live.types import (
    Absent,
    Ambiguous,
    Bracket,
    Category,
    Certainty,
    Definitive,
    Fill,
    FillKind,
    Flat,
    Found,
    Held,
    IntentKind,
    MarginMode,
    OrderReport,
    OrderStatus,
    Role,
    Side,
    Unavailable,
    Unknown,
)

D = Decimal
NONE, ONE, TWO, HUNDRED = D(0), D(1), D(2), D(100)
QUICK = settings(max_examples=100, deadline=None)
S = IntentState
ACCEPTED = Definitive(Certainty.ACCEPTED, venue_order_id="v1")
REJECTED = Definitive(Certainty.REJECTED, code="1", category=Category.MARGIN)
NOT_SENT = Definitive(Certainty.NOT_SENT)


def order(**changes) -> TrackedOrder:
    plain = TrackedOrder("a", "BTC", IntentKind.MARKET, Role.ENTRY, Side.BUY, D(2), False)
    return dataclasses.replace(plain, **changes)


def report(status=OrderStatus.OPEN, filled=NONE, **changes) -> OrderReport:
    plain = OrderReport(
        "a", "v1", Role.ENTRY, Side.BUY, D(2), filled, None, None, False, status, 1_000
    )
    return dataclasses.replace(plain, **changes)


def fill(trade="t1", quantity=ONE, **changes) -> Fill:
    plain = Fill(trade, "a", "v1", Side.BUY, quantity, D(100), D(0), "USDT", FillKind.TRADE, 1_000)
    return dataclasses.replace(plain, **changes)


def held(quantity=TWO, mark=HUNDRED, **changes) -> Held:
    plain = Held(quantity, D(100), mark, D(0), D(1), MarginMode.ISOLATED, None, 1_000)
    return dataclasses.replace(plain, **changes)


# The table of states ------------------------------------------------------------------------------


def test_what_may_follow_each_state_is_exactly_this():
    expected = {
        S.INTENT: set(S) - {S.INTENT},
        S.UNKNOWN: {S.ACKED, S.PARTIAL, S.FILLED, S.CANCELLED, S.REJECTED, S.NOT_ARRIVED},
        S.ACKED: {S.PARTIAL, S.FILLED, S.CANCELLED, S.REJECTED, S.UNKNOWN},
        S.PARTIAL: {S.FILLED, S.CANCELLED, S.UNKNOWN},
    }
    assert {state: set(after) for state, after in TRANSITIONS.items() if after} == expected
    terminal = {S.FILLED, S.CANCELLED, S.REJECTED, S.NOT_SENT, S.NOT_ARRIVED}
    assert {state for state in S if state.terminal} == terminal
    assert {state for state in S if state.unresolved} == {S.INTENT, S.UNKNOWN}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(S, S)), ids=str)
def test_a_move_that_the_table_does_not_list_changes_nothing(before, after):
    state = move(order(state=before), after).state
    assert state is (after if after in TRANSITIONS[before] else before)


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        (S.INTENT, ACCEPTED, S.ACKED),
        (S.INTENT, REJECTED, S.REJECTED),
        (S.INTENT, NOT_SENT, S.NOT_SENT),
        (S.INTENT, Ambiguous("timeout"), S.UNKNOWN),
        (S.ACKED, Ambiguous("timeout"), S.ACKED),  # a stream showed it before the reply was lost
        (S.ACKED, REJECTED, S.ACKED),
        (S.PARTIAL, ACCEPTED, S.PARTIAL),
        (S.FILLED, Ambiguous("timeout"), S.FILLED),
        (S.UNKNOWN, report(OrderStatus.REJECTED), S.REJECTED),
        (S.UNKNOWN, report(OrderStatus.UNRECOGNISED), S.ACKED),
        (S.ACKED, report(OrderStatus.REJECTED), S.REJECTED),
        (S.ACKED, report(OrderStatus.EXPIRED), S.CANCELLED),
        (S.FILLED, report(OrderStatus.OPEN), S.FILLED),
        (S.CANCELLED, fill(), S.CANCELLED),
        (S.NOT_ARRIVED, fill(), S.NOT_ARRIVED),
        (S.INTENT, fill(), S.PARTIAL),
        (S.INTENT, fill(quantity=D(2)), S.FILLED),
    ],
)
def test_events_move_an_order(before, event, after):
    assert advance(order(state=before), event).state is after


def test_a_late_fill_is_booked_in_a_terminal_state_and_stands_out_where_it_contradicts():
    late = advance(order(state=S.CANCELLED), fill())
    assert (late.filled, late.contradicted) == (D(1), False)
    assert advance(order(state=S.NOT_ARRIVED), fill()).contradicted
    assert advance(order(), fill(quantity=D(3))).contradicted
    rounded = advance(order(), fill(quantity=order().quantity * (1 + D("1e-15"))))
    assert not rounded.contradicted


def test_a_filled_status_asks_for_the_fills_and_never_infers_them():
    after = advance(order(), report(OrderStatus.FILLED, D(2)))
    assert (after.state, after.filled, after.missing_fills) == (S.FILLED, D(0), D(2))
    assert advance(after, fill(quantity=D(2))).missing_fills == 0


def test_events_of_another_order_are_refused():
    with pytest.raises(ValueError, match="order a: got an event of b"):
        advance(order(), fill(client_id="b"))


QUANTITIES = st.decimals("0.001", "3", places=3)


@QUICK
@given(st.lists(QUANTITIES, min_size=1, max_size=5), st.booleans(), st.randoms())
def test_any_order_and_repetition_of_events_gives_one_state(sizes, complete, random):
    total = sum(sizes)
    wanted = total if complete else total + 1
    fills = [fill(f"t{i}", size) for i, size in enumerate(sizes)]
    end = OrderStatus.FILLED if complete else OrderStatus.CANCELLED
    events: list = [ACCEPTED, report(), *fills, report(end, total)]
    events += [report(OrderStatus.PARTIALLY_FILLED, size) for size in itertools.accumulate(sizes)]
    states = set()
    for _ in range(5):
        mixed = events + random.choices(events, k=4)
        random.shuffle(mixed)
        state = order(quantity=wanted)
        for event in mixed:
            state = advance(state, event)
        states.add((state.state, state.filled, state.missing_fills, state.trade_ids))
    expected = S.FILLED if complete else S.CANCELLED
    assert states == {(expected, total, D(0), frozenset(f.trade_id for f in fills))}


@QUICK
@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.sampled_from(Side)), max_size=8), st.randoms())
def test_folding_is_exact_whatever_the_order_and_the_repeats(parts, random):
    # Decimals of floats have more digits than the default context keeps.
    fills = [fill(f"t{i}", D(size), side=side) for i, (size, side) in enumerate(parts)]
    results = set()
    for _ in range(4):
        mixed = fills + random.choices(fills, k=3) if fills else []
        random.shuffle(mixed)
        results.add(fold(mixed))
    assert len(results) == 1
    back = [
        dataclasses.replace(f, trade_id=f.trade_id + "x", side=Side.of(-f.side.sign)) for f in fills
    ]
    assert fold(fills + back) == 0


def test_one_trade_id_with_two_contents_is_not_guessed():
    with pytest.raises(ValueError, match="trade t1 was reported as 1 and as 2"):
        fold([fill(), fill(quantity=D(2))])


def test_funding_moves_no_position():
    assert fold([fill(quantity=D(0), kind=FillKind.FUNDING)]) == 0
    paid = fill(quantity=D(0), kind=FillKind.FUNDING)
    assert advance(order(), paid) == order()


# Following an accepted order ----------------------------------------------------------------------

FOLLOW = FollowConfig()


def start(**changes) -> FollowUp:
    return FollowUp.start(order(state=S.ACKED, **changes), 0, FOLLOW)


def test_an_accepted_order_is_polled_on_schedule_then_cancelled():
    follow, now, polls, cancels = start(), 0, [], []
    for _ in range(200):
        match follow.command(now):
            case Sleep(until_ms=until):
                assert until > now
                now = until
            case Poll():
                polls.append(now)
                follow = follow.polled(Found(report()), now)
            case CancelRemainder():
                cancels.append(now)
                follow = follow.cancelled(Ambiguous("timeout"), now)
            case Lost(order=lost):
                break
    assert polls[:6] == [250, 750, 1750, 3750, 5750, 7750]
    assert cancels[0] == 10_000
    assert len(cancels) == 3
    assert lost.state is S.UNKNOWN  # never cancelled by assumption


def test_a_filled_order_ends_with_its_fills_and_a_position():
    follow = start().polled(Found(report(OrderStatus.FILLED, D(2))), 250)
    assert follow.command(250) == FetchFills()
    follow = follow.fetched([fill(), fill("t2"), fill("other", client_id="b")])
    assert follow.command(250) == ReadPosition()
    follow = follow.position_read(held())
    assert follow.command(250) == Done(follow.order, held())
    assert follow.order.filled == 2


def test_a_partial_fill_is_kept_when_the_remainder_is_cancelled():
    follow = start().noted(fill())
    follow = dataclasses.replace(follow, poll_ms=99_000)
    assert follow.command(10_000) == CancelRemainder()
    follow = follow.cancelled(Definitive(Certainty.ACCEPTED), 10_000)
    assert follow.command(10_000) == Sleep(10_250)
    assert follow.command(10_250) == Poll()
    follow = follow.polled(Found(report(OrderStatus.CANCELLED, D(1))), 10_250)
    assert (follow.order.state, follow.order.filled) == (S.CANCELLED, 1)
    assert follow.command(10_250) == ReadPosition()


def test_an_unknown_order_in_answer_to_a_cancel_is_queried_at_once():
    follow = start().cancelled(Definitive(Certainty.REJECTED, category=Category.NOT_FOUND), 10_000)
    assert follow.command(10_000) == Poll()
    assert not follow.order.state.terminal


@pytest.mark.parametrize("answer", [Absent("order"), Unavailable("503")])
def test_absence_and_silence_end_no_accepted_order(answer):
    assert start().polled(answer, 250).order.state is S.ACKED


def test_a_position_that_stays_unknown_is_handed_on_as_unknown():
    follow = start().polled(Found(report(OrderStatus.CANCELLED)), 0)
    for _ in range(FOLLOW.reads):
        assert follow.command(0) == ReadPosition()
        follow = follow.position_read(Unknown("timeout"))
    assert follow.command(0) == Done(follow.order, Unknown("timeout"))


# Orders that nobody is sure about -----------------------------------------------------------------

RESOLVE = ResolveConfig()


def search(venue="bybit", **changes) -> Resolution:
    return Resolution.start(order(state=S.UNKNOWN, **changes), venue, 0, RESOLVE)


def absent(at_ms, endpoint="realtime+history", **changes) -> Round:
    plain = Round(at_ms, Absent(endpoint), (), (), Flat(), True)
    return dataclasses.replace(plain, **changes)


def rounds(resolution, heard):
    for one in heard:
        assert isinstance(resolution, Resolution)
        resolution = resolution.note(one)
    return resolution


def test_an_order_is_absent_after_three_rounds_over_the_whole_spread():
    assert isinstance(rounds(search(), [absent(t) for t in (500, 8_000, 15_499)]), Resolution)
    ended = rounds(search(), [absent(t) for t in (500, 8_000, 15_500)])
    assert isinstance(ended, Resolved)
    assert ended.order.state is S.NOT_ARRIVED


def test_the_spread_follows_the_longest_life_of_a_request():
    assert search("bybit").spread_ms == 15_000
    assert search("bitget").spread_ms == 35_000
    assert search("a venue nobody knows").spread_ms == 35_000


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": Unavailable("503")},
        {"clock_good": False},
        {"orders": None, "fills": None, "position": Unknown("timeout")},
        {"fills": None},  # executions were never read
        {"answer": Absent("realtime")},  # the history was never read
        {"answer": Absent("")},
    ],
    ids=str,
)
def test_incomplete_rounds_never_add_up_to_absence(changes):
    resolution = search()
    for at_ms in range(500, 3_600_000, 60_000):
        resolution = resolution.note(absent(at_ms, **changes))
        assert isinstance(resolution, Resolution)
    _, alarm = resolution.alarm(3_600_000)
    assert alarm


@pytest.mark.parametrize("venue", sorted(ABSENCE))
def test_every_list_of_a_venue_has_to_agree(venue):
    wanted = ABSENCE[venue].endpoints
    times = [0, 20_000, 40_000, 60_000]
    by_id = "+".join(sorted(wanted - {"orders", "fills"}))
    assert isinstance(rounds(search(venue), [absent(t, by_id) for t in times[:3]]), Resolved)
    for name in wanted - {"orders", "fills"}:
        rest = "+".join(sorted(wanted - {"orders", "fills", name}))
        ended = rounds(search(venue), [absent(t, rest) for t in times])
        assert isinstance(ended, Resolution)
    if "orders" in wanted:
        heard = [absent(t, by_id, orders=None) for t in times]
        assert isinstance(rounds(search(venue), heard), Resolution)


def test_an_endpoint_has_to_be_silent_after_the_request_expired():
    early = [absent(500), absent(600)]  # the request may still be on its way
    late = [absent(t, "realtime") for t in (16_000, 30_000)]
    assert isinstance(rounds(search(), early + late), Resolution)
    assert isinstance(rounds(search(), [*early, *late, absent(31_000)]), Resolved)


@pytest.mark.parametrize(
    ("heard", "state", "filled"),
    [
        ({"answer": Found(report(OrderStatus.OPEN))}, S.ACKED, 0),
        ({"answer": Found(report(OrderStatus.REJECTED))}, S.REJECTED, 0),
        ({"orders": (report(OrderStatus.PARTIALLY_FILLED, D(1)),)}, S.PARTIAL, 0),
        ({"fills": (fill(), fill(), fill("t2"))}, S.FILLED, 2),
        ({"answer": Unavailable("503"), "fills": (fill(),)}, S.PARTIAL, 1),
        (
            {"answer": Found(report(OrderStatus.CANCELLED, D(1))), "fills": (fill(),)},
            S.CANCELLED,
            1,
        ),
    ],
)
def test_seeing_the_order_anywhere_resolves_it(heard, state, filled):
    ended = search().note(absent(500, **heard))
    assert isinstance(ended, Resolved)
    assert (ended.order.state, ended.order.filled) == (state, filled)


def test_another_order_resolves_nothing():
    other = absent(500, orders=(report(client_id="b"),), fills=(fill(client_id="b"),))
    assert isinstance(search().note(other), Resolution)


def test_an_order_that_was_filled_in_part_is_never_absent():
    times = (500, 60_000, 120_000, 180_000)
    assert isinstance(rounds(search(filled=D(1)), [absent(t) for t in times]), Resolution)


def test_the_schedule_of_questions_and_one_alarm():
    resolution, due = search(), []
    for _ in range(7):
        due.append(resolution.next_ms)
        resolution = resolution.note(absent(resolution.next_ms, answer=Unavailable("503")))
    assert due == [500, 1_500, 3_500, 7_500, 12_500, 17_500, 22_500]
    assert resolution.alarm(119_999) == (resolution, False)
    alarmed, first = resolution.alarm(120_000)
    assert (first, alarmed.alarm(500_000)[1]) == (True, False)


def test_an_order_with_an_end_is_not_searched():
    with pytest.raises(ValueError, match="nothing to resolve"):
        Resolution.start(order(state=S.FILLED), "bybit", 0, RESOLVE)
    crashed = Resolution.start(order(state=S.INTENT), "bybit", 0, RESOLVE)
    assert crashed.order.state is S.UNKNOWN


def test_an_amendment_is_resolved_by_the_legs_of_the_position():
    amend = order(state=S.UNKNOWN, kind=IntentKind.AMEND, role=Role.STOP)
    wanted = Bracket(D(90), None)
    resolution = Resolution.start(amend, "bybit", 0, RESOLVE, bracket=wanted, tick=D(1))
    ended = resolution.note(absent(500, "", position=held(stop_price=D(90))))
    assert isinstance(ended, Resolved)
    assert ended.order.state is S.ACKED
    other = [absent(t, "", position=held(stop_price=D(80))) for t in (500, 9_000, 16_000)]
    assert rounds(resolution, other).order.state is S.NOT_ARRIVED
    unread = [absent(t, "", position=Unknown("x")) for t in (500, 9_000, 16_000, 99_000)]
    assert isinstance(rounds(resolution, unread), Resolution)


# Protection ---------------------------------------------------------------------------------------

BRACKET = Bracket(D(90), D(120))


def stop(quantity=TWO, **changes) -> OrderReport:
    plain = report(
        client_id="s", role=Role.STOP, side=Side.SELL, quantity=quantity, trigger_price=D(90)
    )
    return dataclasses.replace(plain, reduce_only=True, **changes)


def look(position, *orders, local=None, bracket=BRACKET):
    return protection_of(position, orders, bracket, known={"s", "s2", "t"}, tick=D(1), local=local)


@pytest.mark.parametrize(
    ("position", "orders", "expected"),
    [
        (held(), (stop(),), Protected(D(90), Where.VENUE)),
        (held(), (stop(D(1)), stop(D(1), client_id="s2")), Protected(D(90), Where.VENUE)),
        (held(), (stop(trigger_price=D(80)),), Protected(D(80), Where.VENUE, deviates=True)),
        (held(stop_price=D(90)), (), Protected(D(90), Where.VENUE)),
        (
            held(D(-2)),
            (stop(side=Side.BUY, trigger_price=D(110)),),
            Protected(D(110), Where.VENUE, deviates=True),
        ),
        (held(mark=D(90)), (stop(),), Exiting),
        (held(mark=D(80), stop_price=D(90)), (), Exiting),
        (held(), (stop(status=OrderStatus.TRIGGERED),), Exiting),
        (held(), (), Lack.NONE),
        (held(), (stop(D(1)),), Lack.SHORT),
        (held(), (stop(filled=D(1)),), Lack.SHORT),
        (held(), (stop(side=Side.BUY),), Lack.SIDE),
        (held(), (stop(client_id="x"),), Lack.FOREIGN),
        (held(), (stop(status=OrderStatus.EXPIRED),), Lack.NONE),
        (held(), (stop(status=OrderStatus.REJECTED),), Lack.NONE),
        (held(), (stop(status=OrderStatus.UNRECOGNISED),), Lack.NONE),
        (held(), (stop(role=Role.TARGET),), Lack.NONE),
        (held(stop_price=D("NaN")), (), Lack.NONE),
        (held(mark=D("NaN")), (stop(),), Unclear),
        (Flat(), (), Bare()),
        (Flat(), (stop(), stop(client_id="x")), Bare(("s",))),
        (Flat(), (stop(status=OrderStatus.CANCELLED),), Bare()),
        (Unknown("timeout"), (stop(),), Unclear("timeout")),
    ],
)
def test_protection_of_a_snapshot(position, orders, expected):
    found = look(position, *orders)
    if isinstance(expected, Lack):
        assert isinstance(found, Missing)
        assert found.lack is expected
    elif isinstance(expected, type):
        assert isinstance(found, expected)
    else:
        assert found == expected


def test_a_stop_that_is_not_reduce_only_protects_nothing():
    assert isinstance(look(held(), dataclasses.replace(stop(), reduce_only=False)), Missing)


def test_a_failed_listing_is_no_empty_list():
    for position in (held(), Flat()):
        assert isinstance(protection_of(position, None, None, known=set()), Unclear)
    safe = protection_of(held(stop_price=D(90)), None, None, known=set())
    assert isinstance(safe, Protected)


def test_a_local_stop_needs_fresh_prices_and_the_whole_size():
    assert look(held(), local=LocalStop(D(90), D(2), 500)) == Protected(D(90), Where.LOCAL)
    for guarded, lack in (
        (LocalStop(D(90), D(1), 500), Lack.SHORT),
        (LocalStop(D(90), D(2), 10_001), Lack.STALE),
        (LocalStop(D(90), D(2), float("nan")), Lack.STALE),
    ):
        found = look(held(), local=guarded)
        assert isinstance(found, Missing)
        assert found.lack is lack


MISSING = Missing(Lack.NONE, "none")
COVERED = Protected(D(90), Where.VENUE)


def test_a_missing_stop_is_placed_at_once_and_once_at_a_time():
    guard, command = Guard().look(MISSING, 0, 0)
    assert isinstance(command, PlaceStop)
    guard, command = guard.look(MISSING, 100, 100)
    assert command == Nothing()
    guard, command = guard.placed(False).look(MISSING, 200, 200)
    assert isinstance(command, PlaceStop)
    guard, command = guard.placed(False).look(MISSING, 300, 300)
    assert isinstance(command, FlattenUnprotected)


@pytest.mark.parametrize("seen", [MISSING, Unclear("503"), Exiting("triggered")])
def test_a_bare_position_is_flattened_at_the_deadline_counted_from_the_first_fill(seen):
    guard = Guard().filled(1_000).filled(4_000)
    for now in (1_000, 3_000, 5_999):
        guard, command = guard.look(seen, now, now)
        assert not isinstance(command, FlattenUnprotected)
    guard, command = guard.look(seen, 6_000, 6_000)
    assert isinstance(command, FlattenUnprotected)
    guard, command = guard.look(Unclear("503"), 6_100, 6_100)
    assert isinstance(command, FlattenUnprotected)  # repeated until it is gone
    guard, command = guard.look(COVERED, 6_200, 6_200)
    assert isinstance(command, FlattenUnprotected)
    guard, command = guard.look(Bare(), 6_300, 6_300)
    assert (guard, command) == (Guard(), Nothing())


def test_what_was_read_before_the_fill_proves_nothing():
    for seen in (COVERED, Bare()):
        guard, command = Guard().filled(1_000).look(seen, 999, 2_000)
        assert guard.since_ms == 1_000
        guard, command = guard.look(seen, 999, 6_000)
        assert isinstance(command, FlattenUnprotected)


def test_a_stop_that_is_seen_ends_the_clock():
    guard, _ = Guard().filled(1_000).look(MISSING, 1_100, 1_100)
    assert guard.placed(True).look(COVERED, 1_500, 1_500) == (Guard(), Nothing())
    assert guard.look(Protected(D(80), Where.VENUE, True), 1_500, 1_500)[1] == AmendStop()
    assert Guard().look(Bare(("s",)), 0, 0)[1] == CancelLeftovers(("s",))


def test_an_unreadable_position_starts_no_clock():
    guard, command = Guard().look(Unclear("503"), 0, 0)
    assert (guard, command) == (Guard(), Nothing())


LOOKS = st.sampled_from(
    [MISSING, Unclear("503"), Exiting("x"), COVERED, Bare(), "fill", "no", "yes"]
)


@QUICK
@given(st.lists(st.tuples(st.integers(0, 3_000), LOOKS), max_size=40))
def test_no_position_is_bare_past_the_deadline_without_a_flatten(steps):
    guard, now, bare_since = Guard(), 0, None
    for wait, event in steps:
        now += wait
        match event:
            case "fill":
                guard = guard.filled(now)
                bare_since = now if bare_since is None else bare_since
                continue
            case "no" | "yes":
                guard = guard.placed(event == "yes")
                continue
        guard, command = guard.look(event, now, now)
        if isinstance(event, Missing | Exiting) and bare_since is None:
            bare_since = now
        if bare_since is not None and isinstance(event, Missing | Exiting | Unclear):
            overdue = now - bare_since >= 5_000
            assert not overdue or isinstance(command, FlattenUnprotected)
        if isinstance(event, Protected | Bare) and not isinstance(command, FlattenUnprotected):
            bare_since = None
