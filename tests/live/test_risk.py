from __future__ import annotations

import dataclasses
import itertools
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.risk import (
    DISABLEABLE,
    PERMITTED,
    Effect,
    Latch,
    OrderRate,
    RiskConfig,
    Standing,
    TradingState,
    effect,
    worst,
)
from live.risk.breakers import Breakers
from live.risk.circuit import CircuitBreaker, CircuitBreakerTripped
from live.risk.context import RiskContext
from live.risk.gate import CHECKS, CODES, Allow, Deny, check
from live.risk.readings import (
    Answered,
    AuthFailed,
    BarDecided,
    EquityRead,
    Forced,
    ForcedEvent,
    JournalWrite,
    Transfer,
    UnknownOverdue,
)
from live.types import (
    Ambiguous,
    Bracket,
    Category,
    Certainty,
    Definitive,
    Flat,
    Held,
    Instrument,
    Intent,
    IntentKind,
    MarginMode,
    Quote,
    Role,
    Side,
    Unknown,
)

D = Decimal
ONE, FIVE = D(1), D(5)
QUICK = settings(max_examples=200, deadline=None)
CONFIG = RiskConfig()

BTC = Instrument(
    *("bybit", "BTC", "BTCUSDT", "BTC", "USDT", "USDT"),
    contract_size=D(1),
    quantity_step=D("0.001"),
    min_quantity=D("0.001"),
    max_market_quantity=D(100),
    tick=D("0.1"),
    min_notional=D(5),
    max_leverage=D(100),
    taker_fee=D("0.0005"),
    maintenance_rate=D("0.004"),
)


def held(quantity=ONE, **changes) -> Held:
    plain = Held(quantity, D(100), D(100), D(0), D(2), MarginMode.ISOLATED, None, 1_000)
    return dataclasses.replace(plain, **changes)


def context(**changes) -> RiskContext:
    """Everything is well: an account of 1000 at leverage 2, BTC at 100, nothing held."""
    plain = RiskContext(
        state=TradingState.ACTIVE,
        frozen=False,
        in_flight=False,
        allowed_symbols=frozenset({"BTC"}),
        market_status="trading",
        environment_proven=True,
        venue_time_ms=1_000_000,
        snapshot_age_ms=100.0,
        lateness_ms=500.0,
        entry_window_ms=15_000.0,
        clock_uncertainty_ms=20.0,
        journal_writable=True,
        disk_ok=True,
        instrument=BTC,
        position=Flat(),
        journal_quantity=D(0),
        quote=Quote(D("99.9"), D("100.1"), D(100), 1_000),
        last_close=D(100),
        equity=D(1000),
        account_equity=D(1000),
        available=D(1000),
        leverage=D(2),
        fee=D("0.0005"),
        other_notional=D(0),
        orders_minute=0,
        orders_day=0,
        repeated=False,
        stop_possible=True,
        venue_reduce_only=True,
    )
    return dataclasses.replace(plain, **changes)


def intent(kind=IntentKind.MARKET, role=Role.ENTRY, side=Side.BUY, quantity=FIVE, **changes):
    reduce_only = role is not Role.ENTRY
    plain = Intent(kind, role, "BTC", side, quantity, reduce_only, "policy")
    return dataclasses.replace(plain, **changes)


ENTRY = intent()
REDUCE = intent(role=Role.REDUCE, side=Side.SELL, quantity=D(1))
FLATTEN = intent(role=Role.FLATTEN, side=Side.SELL, quantity=D(1))
STOP = intent(IntentKind.STOP, Role.STOP, Side.SELL, D(1), trigger_price=D(90))
AMEND = intent(IntentKind.AMEND, Role.STOP, Side.SELL, D(1), bracket=Bracket(D(90), D(120)))
CANCEL = intent(IntentKind.CANCEL, Role.STOP, Side.SELL, D(1), client_id="s")
BRACKETED = intent(IntentKind.BRACKET, bracket=Bracket(D(90), D(120)))
EXITS = {"reduce": REDUCE, "flatten": FLATTEN, "stop": STOP, "amend": AMEND, "cancel": CANCEL}


def code(wanted, known, config=CONFIG) -> str:
    answer = check(wanted, known, config)
    return answer.code if isinstance(answer, Deny) else "allow"


# States -------------------------------------------------------------------------------------------


def test_what_each_state_permits():
    exits = set(Effect) - {Effect.INCREASE}
    assert {state: set(effects) for state, effects in PERMITTED.items()} == {
        TradingState.ACTIVE: set(Effect),
        TradingState.DEGRADED: exits,
        TradingState.REDUCING: exits,
        TradingState.HALTED: exits - {Effect.REDUCE},
    }


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ENTRY, Effect.INCREASE),
        (BRACKETED, Effect.INCREASE),
        (dataclasses.replace(BRACKETED, reduce_only=True), Effect.INCREASE),
        (REDUCE, Effect.REDUCE),
        (FLATTEN, Effect.FLATTEN),
        (STOP, Effect.PROTECT),
        (AMEND, Effect.PROTECT),
        (CANCEL, Effect.CANCEL),
        (dataclasses.replace(FLATTEN, role=Role.STOP), Effect.PROTECT),  # of the local watcher
        # Labels do not make an order an exit, only the flag does.
        (dataclasses.replace(REDUCE, reduce_only=False), Effect.INCREASE),
        (dataclasses.replace(FLATTEN, reduce_only=False), Effect.INCREASE),
        (dataclasses.replace(STOP, reduce_only=False), Effect.INCREASE),
    ],
)
def test_the_effect_of_an_intent_is_read_from_its_fields(wanted, expected):
    assert effect(wanted) is expected


def test_the_worst_state_counts_and_degradation_ends_after_a_reconciliation():
    assert worst([]) is TradingState.ACTIVE
    standing = Standing().degrade("position").degrade("clock")
    assert (standing.state, standing.reasons) == (TradingState.DEGRADED, ("clock", "position"))
    standing = standing.recover("position").reconciled()
    assert standing.state is TradingState.DEGRADED
    standing = standing.recover("clock")
    assert (standing.state, standing.reasons) == (TradingState.DEGRADED, ("reconciliation",))
    assert standing.reconciled().state is TradingState.ACTIVE
    latched = standing.latched(Latch(TradingState.REDUCING, "foreign"))
    latched = latched.latched(Latch(TradingState.HALTED, "auth"))
    assert latched.latched(Latch(TradingState.HALTED, "auth", "again")) == latched
    assert latched.reconciled().state is TradingState.HALTED
    assert latched.reconciled().cleared().state is TradingState.ACTIVE
    with pytest.raises(ValueError, match="not a latched state"):
        Latch(TradingState.DEGRADED, "clock")


def test_limits_are_switched_off_by_name_only():
    assert set(CODES) >= DISABLEABLE - {
        *("daily_loss", "drawdown", "rejections", "rate_denied", "invalid_action", "slow_journal")
    }
    assert RiskConfig(disabled=["collar"]).disabled == ("collar",)
    with pytest.raises(ValueError, match="did you mean 'collar'"):
        RiskConfig(disabled=["colar"])
    for fact in set(CODES) - DISABLEABLE:
        with pytest.raises(ValueError, match="no limit that can be switched off"):
            RiskConfig(disabled=[fact])
    for name in ("max_drawdown", "daily_loss_limit", "price_collar"):
        for wrong in (0, 1, float("nan"), "0.1", True):
            with pytest.raises(ValueError, match=name):
                RiskConfig(**{name: wrong})


def test_the_rate_of_orders_counts_a_minute_and_a_utc_day():
    rate = OrderRate.of([0, 30_000, 59_000], 60_000)
    assert (rate.minute, rate.of_day) == (2, 3)
    assert rate.at(86_400_000).of_day == 0
    back = rate.sent(70_000).at(10_000)  # a clock that went back forgets nothing
    assert (back.minute, back.of_day) == (3, 4)


# The gate -----------------------------------------------------------------------------------------


def test_what_is_well_is_allowed():
    assert check(ENTRY, context(), CONFIG) == Allow()
    assert check(BRACKETED, context(), CONFIG) == Allow()
    for wanted in EXITS.values():
        assert check(wanted, context(position=held()), CONFIG) == Allow()


INF, NAN = D("Infinity"), D("NaN")
NEAR = 1_000_000 + 24 * 3_600_000


@pytest.mark.parametrize(
    ("expected", "wanted", "changes"),
    [
        ("state", ENTRY, {"state": TradingState.DEGRADED}),
        ("state", ENTRY, {"state": TradingState.REDUCING}),
        ("state", ENTRY, {"state": TradingState.HALTED}),
        ("state", REDUCE, {"state": TradingState.HALTED, "position": held()}),
        ("state", dataclasses.replace(FLATTEN, reduce_only=False), {"state": TradingState.HALTED}),
        ("frozen", ENTRY, {"frozen": True}),
        ("busy", ENTRY, {"in_flight": True}),
        ("busy", CANCEL, {"in_flight": True}),
        ("symbol", ENTRY, {"allowed_symbols": frozenset({"ETH"})}),
        ("symbol", CANCEL, {"allowed_symbols": frozenset()}),
        ("symbol", ENTRY, {"instrument": dataclasses.replace(BTC, symbol="ETH")}),
        ("market_closed", ENTRY, {"market_status": "closed"}),
        ("market_closed", ENTRY, {"instrument": dataclasses.replace(BTC, status="settling")}),
        ("market_closed", ENTRY, {"instrument": dataclasses.replace(BTC, delist_ms=NEAR)}),
        ("environment", ENTRY, {"environment_proven": False}),
        ("environment", FLATTEN, {"environment_proven": False, "position": held()}),
        ("stale_snapshot", ENTRY, {"snapshot_age_ms": 5_000.1}),
        ("stale_snapshot", REDUCE, {"snapshot_age_ms": 5_000.1, "position": held()}),
        ("stale_snapshot", ENTRY, {"snapshot_age_ms": -1.0}),
        ("stale_snapshot", ENTRY, {"position": Unknown("timeout")}),
        ("late", ENTRY, {"lateness_ms": 15_000.1}),
        ("clock", ENTRY, {"clock_uncertainty_ms": 1000.1}),
        ("clock", ENTRY, {"clock_uncertainty_ms": float("nan")}),
        ("journal", ENTRY, {"journal_writable": False}),
        ("disk", ENTRY, {"disk_ok": False}),
        ("non_finite", intent(quantity=D(0)), {}),
        ("non_finite", intent(quantity=D(-1)), {}),
        ("non_finite", intent(quantity=NAN), {}),
        ("non_finite", intent(quantity=INF), {}),
        ("non_finite", intent(quantity=D("1e400")), {}),
        ("non_finite", intent(price=NAN), {}),
        ("non_finite", dataclasses.replace(BRACKETED, bracket=Bracket(NAN, D(120))), {}),
        ("non_finite", dataclasses.replace(BRACKETED, bracket=None), {}),
        ("non_finite", dataclasses.replace(STOP, trigger_price=None), {"position": held()}),
        ("off_tick", dataclasses.replace(BRACKETED, bracket=Bracket(D("90.05"), None)), {}),
        ("off_tick", dataclasses.replace(STOP, trigger_price=D("90.01")), {"position": held()}),
        ("off_step", intent(quantity=D("5.0005")), {}),
        ("off_step", dataclasses.replace(REDUCE, quantity=D("0.5005")), {"position": held()}),
        (
            "below_minimum",
            intent(quantity=D("0.001")),
            {"instrument": dataclasses.replace(BTC, min_quantity=D("0.002"))},
        ),
        ("below_minimum", intent(quantity=D("0.049")), {}),  # 4.9 of 5 quote units
        ("above_maximum", intent(quantity=D(101)), {}),
        ("collar", ENTRY, {"quote": Quote(D(95), D("105.1"), D(100), 0)}),
        ("collar", ENTRY, {"last_close": D(95)}),
        ("collar", intent(price=D(94)), {}),
        ("order_notional", ENTRY, {"equity": D(238)}),
        ("position_notional", intent(quantity=D(12)), {"position": held(D(10))}),
        ("position_notional", ENTRY, {"account_equity": D(238)}),
        ("gross_notional", ENTRY, {"other_notional": D(1601)}),
        ("gross_notional", ENTRY, {"other_notional": D(-1)}),
        ("leverage", intent(quantity=D("20.5")), {}),
        ("leverage", intent(side=Side.SELL), {"leverage": D(1)}),
        ("available", ENTRY, {"available": D("250.4")}),
        ("reduce_only", intent(side=Side.SELL), {"position": held(D(1))}),
        ("reduce_only", dataclasses.replace(ENTRY, role=Role.REDUCE), {}),
        ("reduce_only", REDUCE, {"position": held(D(-1))}),
        ("reduce_only", REDUCE, {}),
        ("reduce_only", FLATTEN, {"position": Unknown("timeout")}),
        ("reduce_only", FLATTEN, {"position": held(D("0.9"))}),
        ("reduce_only", STOP, {"position": held(D(-1))}),
        ("reduce_only", STOP, {"position": held(D("0.5"))}),
        ("reduce_only", STOP, {}),
        ("reduce_only", AMEND, {}),
        ("reduce_only", STOP, {"position": Unknown("x"), "journal_quantity": None}),
        ("rate_minute", ENTRY, {"orders_minute": 10}),
        ("rate_day", ENTRY, {"orders_day": 200}),
        ("duplicate", ENTRY, {"repeated": True}),
        ("unprotectable", ENTRY, {"stop_possible": False}),
        ("unprotectable", dataclasses.replace(BRACKETED, bracket=Bracket(D(101), None)), {}),
        ("unprotectable", dataclasses.replace(STOP, trigger_price=D(100)), {"position": held()}),
        (
            "unprotectable",
            dataclasses.replace(AMEND, bracket=Bracket(None, D(120))),
            {"position": held()},
        ),
    ],
)
def test_every_check_denies_with_its_code(expected, wanted, changes):
    assert code(wanted, context(**changes)) == expected


def test_every_check_has_a_row_in_the_test_above():
    table = next(
        mark for mark in test_every_check_denies_with_its_code.pytestmark if mark.args[1]
    ).args[1]
    assert {row[0] for row in table} == set(CODES)


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        (ENTRY, {"snapshot_age_ms": 5_000.0, "lateness_ms": 15_000.0}),
        (ENTRY, {"clock_uncertainty_ms": 1000.0, "available": D("250.5003")}),
        (ENTRY, {"orders_minute": 9, "orders_day": 199, "other_notional": D(1600)}),
        (ENTRY, {"instrument": dataclasses.replace(BTC, delist_ms=NEAR + 1)}),
        (intent(quantity=D("20.4")), {"available": D(2000)}),
        (intent(side=Side.SELL), {}),
        (intent(side=Side.SELL), {"position": held(D("0.0001"), residue=True)}),
        (dataclasses.replace(BRACKETED, side=Side.SELL, bracket=Bracket(D(110), D(80))), {}),
        # The whole of an odd position may be closed, and a residue by the smallest order.
        (dataclasses.replace(REDUCE, quantity=D("1.00005")), {"position": held(D("1.00005"))}),
        (dataclasses.replace(FLATTEN, quantity=D("0.001")), {"position": held(D("0.0004"))}),
        # Booked fills are protected before a read shows them.
        (STOP, {"position": Unknown("timeout"), "journal_quantity": D(1)}),
        (STOP, {"position": held(D("0.5")), "journal_quantity": D(1)}),
        (dataclasses.replace(AMEND, bracket=Bracket(None, None)), {}),
    ],
)
def test_what_lies_on_a_limit_is_allowed(wanted, changes):
    assert code(wanted, context(**changes)) == "allow"


def test_exits_are_exempt_from_what_stops_entries():
    bad = context(
        state=TradingState.REDUCING,
        frozen=True,
        market_status="closed",
        lateness_ms=1e9,
        clock_uncertainty_ms=None,
        journal_writable=False,
        disk_ok=None,
        last_close=None,
        equity=None,
        account_equity=None,
        available=D(0),
        orders_minute=99,
        orders_day=9_999,
        stop_possible=None,
        position=held(),
    )
    for wanted in EXITS.values():
        assert check(wanted, bad, CONFIG) == Allow()
    halted = dataclasses.replace(bad, state=TradingState.HALTED, snapshot_age_ms=None)
    for name, wanted in EXITS.items():
        assert code(wanted, halted) == ("state" if name == "reduce" else "allow")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RiskContext)])
def test_a_missing_input_denies_an_entry(name):
    spared = ("journal_quantity", "venue_reduce_only")  # what only exits look at
    answer = check(ENTRY, context(**{name: None}), CONFIG)
    assert isinstance(answer, Allow if name in spared else Deny)
    kind = type(getattr(context(), name))
    if kind in (D, float):
        for wrong in (kind("nan"), kind("inf"), kind("-inf")):
            answer = check(ENTRY, context(**{name: wrong}), CONFIG)
            assert isinstance(answer, Allow if name in spared else Deny)


def test_a_limit_is_switched_off_by_naming_it():
    broken = {
        "collar": {"last_close": D(50)},
        "rate_minute": {"orders_minute": 99},
        "leverage": {"position": held(D("15.5"))},
        "available": {"available": D(0)},
        "unprotectable": {"stop_possible": False},
    }
    for name, changes in broken.items():
        assert code(ENTRY, context(**changes)) == name
        assert code(ENTRY, context(**changes), RiskConfig(disabled=[name])) == "allow"


def test_fixed_limits_replace_those_that_follow_equity():
    config = RiskConfig(max_order_notional=400.0)
    assert code(intent(quantity=D("3.99")), context(), config) == "allow"
    assert code(intent(quantity=D(4)), context(), config) == "order_notional"  # at the ask
    config = RiskConfig(max_position_notional=400.0)
    assert code(intent(quantity=D("4.1")), context(), config) == "position_notional"
    config = RiskConfig(max_gross_notional=400.0)
    assert code(intent(quantity=D(4)), context(other_notional=D(1)), config) == "gross_notional"


QUANTITIES = st.one_of(
    st.decimals("0.001", "60", places=3),
    st.sampled_from([D(0), D(-1), NAN, INF, D("1e-400"), D("1e400"), D("0.0005")]),
)
MONEY = st.one_of(st.decimals("-10", "3000", places=1), st.sampled_from([NAN, INF, None]))
PRICES = st.one_of(st.decimals("80", "120", places=1), st.sampled_from([NAN, D(0), D(-1)]))
POSITIONS = st.one_of(
    st.just(Flat()),
    st.just(Unknown("timeout")),
    st.decimals("-30", "30", places=3).filter(bool).map(held),
)


@st.composite
def intents(draw):
    bracket = st.builds(Bracket, st.none() | PRICES, st.none() | PRICES)
    return Intent(
        kind=draw(st.sampled_from(IntentKind)),
        role=draw(st.sampled_from(Role)),
        symbol=draw(st.sampled_from(["BTC", "BTC", "BTC", "ETH"])),
        side=draw(st.sampled_from(Side)),
        quantity=draw(QUANTITIES),
        reduce_only=draw(st.booleans()),
        reason="any",
        price=draw(st.none() | PRICES),
        trigger_price=draw(st.none() | PRICES),
        bracket=draw(st.none() | bracket),
    )


@st.composite
def contexts(draw):
    bid, ask, mark = (draw(PRICES) for _ in range(3))
    return context(
        state=draw(st.sampled_from([TradingState.ACTIVE, *TradingState, None])),
        frozen=draw(st.sampled_from([False, False, True, None])),
        position=draw(POSITIONS),
        journal_quantity=draw(st.none() | st.decimals("-30", "30", places=3)),
        quote=draw(st.sampled_from([Quote(bid, ask, mark, 0), context().quote, None])),
        last_close=draw(st.none() | PRICES),
        equity=draw(MONEY),
        account_equity=draw(MONEY),
        available=draw(MONEY),
        leverage=draw(st.sampled_from([D(1), D(2), D(5), D(0), NAN, None])),
        other_notional=draw(st.sampled_from([D(0), D(100), D(5000), NAN, None])),
        venue_reduce_only=draw(st.sampled_from([True, False, None])),
    )


@settings(max_examples=600, deadline=None)
@given(intents(), contexts())
def test_nothing_gets_past_a_limit(wanted, known):
    answer = check(wanted, known, CONFIG)  # total: it never raises
    if isinstance(answer, Deny):
        assert answer.code in CODES
        return
    what, position = effect(wanted), known.position
    quantity = position.quantity if isinstance(position, Held) else D(0)
    if what is Effect.INCREASE:
        assert known.state is TradingState.ACTIVE
        assert known.frozen is False
        assert not isinstance(position, Unknown)
        assert quantity * wanted.side.sign >= 0
        after = abs(quantity + wanted.side.sign * wanted.quantity) * known.quote.mark
        assert after <= D("1.021") * known.leverage * known.equity
        price = known.quote.ask if wanted.side is Side.BUY else known.quote.bid
        margin = wanted.quantity * price / known.leverage
        assert margin <= known.available * D("1.000001")
        assert known.leverage > 1 or wanted.side is Side.BUY
        assert wanted.quantity * price >= 5
    elif what in (Effect.REDUCE, Effect.FLATTEN):
        assert isinstance(position, Held)
        assert quantity * wanted.side.sign < 0
        assert wanted.quantity <= max(abs(quantity), D("0.001"))
    elif what is Effect.PROTECT and wanted.kind is not IntentKind.AMEND:
        assert not isinstance(position, Flat)
        signed = quantity or known.journal_quantity
        assert signed * wanted.side.sign < 0
    if what is not Effect.CANCEL and wanted.kind is not IntentKind.AMEND:
        assert wanted.quantity.is_finite()
        assert wanted.quantity > 0
    if known.state is TradingState.HALTED:
        assert what in (Effect.FLATTEN, Effect.PROTECT, Effect.CANCEL)


def test_the_rows_are_the_promised_ones_in_order():
    assert len(set(CODES)) == len(CODES)
    assert all(row.applies for row in CHECKS)
    everything = {row.code for row in CHECKS if Effect.CANCEL in row.applies}
    assert everything == {"state", "busy", "symbol", "environment", "non_finite", "duplicate"}


# Breakers -----------------------------------------------------------------------------------------

DAY = 86_400_000
ACCEPTED = Answered(Definitive(Certainty.ACCEPTED))
REJECTED = Answered(Definitive(Certainty.REJECTED, category=Category.MARGIN))


def run(*readings, config=CONFIG, state=None):
    state = Breakers.start(D(1000), 0) if state is None else state
    trips = []
    for reading in readings:
        state, new = state.update(reading, config)
        trips += new
    return state, trips


def equities(*values, start_ms=1_000, step_ms=1_000):
    return [EquityRead(D(value), start_ms + i * step_ms) for i, value in enumerate(values)]


def summary(trips):
    return [(t.code, t.latch.state.value if t.latch else None, t.flatten) for t in trips]


BAD, INVALID = BarDecided(True, False), BarDecided(False, True)
FINE = BarDecided(False, False)
HALT, REDUCES = "HALTED", "REDUCING"


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        (equities(1000, 970, 970), [("daily_loss", HALT, True)]),
        (equities(1000, "970.1", "970.1"), []),
        (equities(1000, 970), []),  # one reading is not enough
        (equities(1000, 970, 1000, 970, 1000), []),
        (equities(970, 970, step_ms=0), []),  # twice the same snapshot
        (equities(960, 975, 969), []),
        (equities(1030, 1030, "978.5", "978.5"), [("drawdown", HALT, True)]),
        (equities(9999, 1000, 1000), []),  # one wrong high number is no peak
        (
            equities(99, 99),
            [("bankrupt", HALT, True), ("daily_loss", HALT, True), ("drawdown", HALT, True)],
        ),
        (
            equities(1000, 970, 960, 950, 940),
            [("daily_loss", HALT, True), ("drawdown", HALT, True)],
        ),
        ([REJECTED] * 5, [("rejections", REDUCES, False)]),
        ([REJECTED] * 4 + [ACCEPTED] + [REJECTED] * 4, []),
        ([REJECTED] * 4 + [Answered(Ambiguous("timeout"))] * 9, []),
        ([REJECTED] * 4 + [Answered(Definitive(Certainty.NOT_SENT))] * 9, []),
        (
            [Answered(Definitive(Certainty.REJECTED, code="10003", category=Category.AUTH))],
            [("auth", HALT, False)],
        ),
        ([AuthFailed("401")] * 2, [("auth", HALT, False)]),
        ([BAD] * 3, [("rate_denied", REDUCES, False)]),
        ([BAD, BAD, FINE, BAD, BAD], []),
        ([INVALID] * 3, [("invalid_action", REDUCES, False)]),
        ([INVALID, INVALID, FINE, INVALID], []),
        ([JournalWrite(False, 0)], [("journal", REDUCES, False)]),
        ([JournalWrite(True, slow) for slow in (1, 2, 3)], [("slow_journal", REDUCES, False)]),
        ([JournalWrite(True, slow) for slow in (1, 2, 0, 2)], []),
        # What counts in a row is counted of each symbol.
        ([BAD, dataclasses.replace(BAD, symbol="other"), BAD], []),
        (
            [INVALID, dataclasses.replace(FINE, symbol="other"), INVALID, INVALID],
            [("invalid_action", REDUCES, False)],
        ),
        (
            [UnknownOverdue("a")] * 2 + [UnknownOverdue("b")],
            [
                ("unknown_order:a", None, False),
                ("unknown_order:b", None, False),
            ],
        ),
        *(([ForcedEvent(cause, "x")], [(cause.value, HALT, True)]) for cause in Forced),
    ],
)
def test_each_breaker(readings, expected):
    assert summary(run(*readings)[1]) == expected


def test_loss_breakers_may_reduce_instead_and_may_be_switched_off():
    falling = equities(1000, 940, 940)
    reduced = summary(run(*falling, config=RiskConfig(breaker_action="reduce"))[1])
    assert reduced == [("daily_loss", REDUCES, False), ("drawdown", REDUCES, False)]
    assert not run(*falling, config=RiskConfig(disabled=["daily_loss", "drawdown"]))[1]
    gone = equities(1, 1)
    config = RiskConfig(breaker_action="reduce", disabled=["daily_loss", "drawdown"])
    assert summary(run(*gone, config=config)[1]) == [("bankrupt", HALT, True)]
    state = Breakers.start(D(1000), 0, bankrupt_threshold=None)
    assert not run(*gone, config=config, state=state)[1]


def test_a_day_begins_with_the_equity_around_midnight():
    readings = [
        *equities(1000, 975, 975, start_ms=DAY - 10_000),
        *equities(975, 974, "945.7", "945.7", start_ms=DAY + 5),
    ]
    state, trips = run(*readings, config=RiskConfig(max_drawdown=0.9))
    assert state.day_start == 975
    assert summary(trips) == [("daily_loss", HALT, True)]
    calm, trips = run(*readings[:-2], config=RiskConfig(max_drawdown=0.9))
    assert (trips, calm.daily_loss) == ([], 1 - D(974) / 975)


def test_transfers_are_neither_profit_nor_loss():
    withdrawn = [
        *equities(1000, 1000),
        Transfer(D(-500), 3_000),
        *equities(500, 500, start_ms=3_000),
    ]
    assert not run(*withdrawn)[1]
    # A deposit that was acknowledged late had raised the peak.
    deposited = [*equities(1000, 1000, 1500, 1500), Transfer(D(500), 2_500)]
    state, trips = run(*deposited, *equities(1500, 1500, start_ms=9_000))
    assert (trips, state.peak, state.drawdown) == ([], 1000, 0)
    state, trips = run(*equities(1470, 1470, start_ms=20_000), state=state)
    assert summary(trips) == [("daily_loss", HALT, True)]


def test_a_resume_is_refused_while_the_cause_persists():
    state, trips = run(*equities(1000, 940, 940))
    assert [trip.code for trip in state.persisting(CONFIG)] == ["daily_loss", "drawdown"]
    _, trips = run(*equities(940, start_ms=50_000), state=state.resumed())
    assert [trip.code for trip in trips] == ["daily_loss", "drawdown"]
    fresh = state.resumed(equity=D(940))
    assert not fresh.persisting(CONFIG)
    assert not run(*equities(940, 940, start_ms=90_000), state=fresh)[1]


def test_baselines_survive_a_restart_and_nonsense_is_refused():
    state = Breakers.start(D(1000), 0, peak=D(2000), day_start=D(1950))
    assert [t.code for t in run(*equities(1895, 1895), state=state)[1]] == ["drawdown"]
    for wrong in (D(0), D(-1), NAN, INF):
        with pytest.raises(ValueError, match="equity: must be a finite number > 0"):
            Breakers.start(wrong, 0)
    with pytest.raises(ValueError, match="finite"):
        EquityRead(NAN, 0)


@QUICK
@given(st.lists(st.integers(0, 2_000), min_size=2, max_size=30))
def test_a_loss_that_two_readings_agree_on_always_trips(values):
    _, trips = run(*equities(*values), config=RiskConfig(disabled=["daily_loss"]))
    peak, expected = D(1000), False
    for before, now in itertools.pairwise(values):
        peak = max(peak, min(before, now))
        expected |= max(before, now) <= peak * D("0.95")
    assert (("drawdown", HALT, True) in summary(trips)) == expected
    assert len(trips) == len({trip.code for trip in trips})


# The circuit breaker for own loops ----------------------------------------------------------------


def test_the_circuit_breaker_raises_at_its_limits_and_goes_on_raising():
    breaker = CircuitBreaker(max_drawdown=0.05, daily_loss_limit=0.03)
    breaker.check(1000.0, 0)
    breaker.check(D("970.1"), 1)
    with pytest.raises(CircuitBreakerTripped, match="daily loss of 3"):
        breaker.check(970.0, 2)
    with pytest.raises(RuntimeError):
        breaker.check(2000.0, 3)


def test_the_circuit_breaker_tracks_peak_and_day():
    breaker = CircuitBreaker()
    for day, equity in enumerate((1000, 1100, 1080, 1060)):
        breaker.check(equity, day * DAY)
    with pytest.raises(CircuitBreakerTripped) as caught:
        breaker.check(1045, 4 * DAY)
    assert (caught.value.code, caught.value.limit) == ("drawdown", 0.05)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), NAN])
def test_the_circuit_breaker_refuses_what_is_no_equity(wrong):
    breaker = CircuitBreaker()
    with pytest.raises(ValueError, match="finite"):
        breaker.check(wrong, 0)
    with pytest.raises(ValueError, match="> 0"):
        breaker.check(0.0, 0)
    with pytest.raises(ValueError, match="max_drawdown"):
        CircuitBreaker(max_drawdown=0.0)
