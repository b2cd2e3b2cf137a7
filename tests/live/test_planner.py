"""The planner: the core's decision, fitted to a venue; its memory; its safety properties."""

from __future__ import annotations

import dataclasses
import functools
import math
from decimal import Decimal

import jax
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jaxtrade.core import brackets, levels, trade
from jaxtrade.core.account import Account, equity
from jaxtrade.core.brackets import ActionTable
from jaxtrade.core.rules import Costs, Rules, Terms
from live.allocation import allotted
from live.planner import (
    BracketRow,
    Decision,
    DecisionConfig,
    SymbolState,
    disaster_stop,
    observe_bar,
    plan,
    reanchor,
    rounding,
    second_phase,
    settle,
    sizing,
    synchronise,
)
from live.planner.kelly import KellySizing
from live.types import (
    Balance,
    Bracket,
    Flat,
    Held,
    IntentKind,
    MarginMode,
    Quote,
    Role,
    Side,
    Snapshot,
    Unknown,
    UnreadableError,
)
from tests.live.test_rounding import instrument

D = Decimal
SYMBOL = "BTC/USDT:USDT"
FREE = instrument("0", "0")
REAL = instrument("0.001", "0.1", "0.001", "5")
LEVELS = (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0)
TABLE = ActionTable.of((-0.02, -0.05), (0.03, 0.1), hold=True, close=True, shorts=True)
HOLD, CLOSE, LONG, SHORT = 0, 1, 2, 6


def config(**fields):
    fields = {"levels": LEVELS if "table" not in fields else None, **fields}
    given_ = {"leverage": 5.0, "fee": 0.0004, "maintenance_rate": 0.004, "shorts": True, **fields}
    return DecisionConfig(symbol=SYMBOL, **given_)


def held(quantity, entry=100, mark=100, **fields):
    quantity, entry, mark = D(str(quantity)), D(str(entry)), D(str(mark))
    profit = quantity * (mark - entry)
    return Held(quantity, entry, mark, profit, D(5), MarginMode.ISOLATED, None, 0, **fields)


def snapshot(position=None, equity=10000, price=100, *, available=None, bid=None, ask=None,
             mark=None, listed=FREE):  # fmt: skip
    """A reading whose available balance is what isolated margin leaves, unless said."""
    position = Flat() if position is None else position
    price = D(str(price))
    if available is None:
        available = equity
        if isinstance(position, Held):
            margin = abs(position.quantity) * position.entry_price / position.leverage
            available = float(D(str(equity)) - margin - position.unrealised_pnl)
    return Snapshot(
        bar_open_ms=0,
        venue_time_ms=0,
        received_monotonic_ns=0,
        instrument=listed,
        position=position,
        balance=Balance(D(str(equity)), D(str(available)), None, "USDT", 0),
        quote=Quote(
            bid=price if bid is None else D(str(bid)),
            ask=price if ask is None else D(str(ask)),
            mark=price if mark is None else D(str(mark)),
            venue_time_ms=0,
        ),
    )


def only(planned):
    """The one intent of a plan."""
    (intent,) = planned.intents
    return intent


def signed(planned):
    return float(sum((i.side.sign * i.quantity for i in planned.intents), D(0)))


def acted(position, action, settings_, state=None, **reading):
    state = SymbolState.start() if state is None else state
    return plan(state, snapshot(position, **reading), action, settings_)


# The decision is the core's ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "quantity"),
    [
        ({"fee": 0.0, "levels": (0.0, 0.5)}, 0.5),
        ({"levels": (0.0, 0.5)}, 0.499001996007984),
        ({"fee": 0.0, "table": TABLE, "position_fraction": 0.5}, 0.5),
        ({"table": TABLE, "position_fraction": 0.5}, 0.499001996007984),
        ({"table": TABLE, "trade_mode": "notional", "quantity_per_trade": 1000.0}, 0.02),
        ({"table": TABLE, "trade_mode": "quantity", "quantity_per_trade": 0.3}, 0.3),
    ],
)
def test_known_sizes(fields, quantity):
    for side, action in ((1, 1 if "levels" in fields else LONG), (-1, SHORT)):
        if side < 0 and "levels" in fields:
            continue
        _, planned = acted(None, action, config(**fields), price=50000)
        assert planned.decision is Decision.OPEN
        assert signed(planned) == pytest.approx(side * quantity, rel=1e-12)
    rounded = plan(SymbolState.start(), snapshot(price=50000, listed=REAL), action=(
        1 if "levels" in fields else LONG), config=config(**fields))[1]  # fmt: skip
    assert only(rounded).quantity == rounding.floor_quantity(rounding.exact(quantity), REAL)


def core_sizing(config_):
    return brackets.Sizing(
        config_.trade_mode, config_.position_fraction, config_.quantity_per_trade
    )


@functools.partial(jax.jit, static_argnames=("config_", "sizing_"))
def core_step(account, action, price, half_spread, fee, leverage, config_, sizing_):
    """One offline order: decide, carry out, remember."""
    one, rules = jax.numpy.ones_like(price), config_.rules
    terms = Terms.of(leverage, 0.004 * one, math.nan * one, one, spot=config_.spot)
    costs, draw = Costs(fee, half_spread, 0 * one), 0 * one
    if sizing_ is None:
        order = levels.decide(
            account, action, price, draw, costs, terms, rules,
            tolerance_fraction=config_.rebalance_tolerance,
            tolerance_quote=config_.min_trade_quote,
        )  # fmt: skip
    else:
        row, lock = (action[0].astype(jax.numpy.int32), action[1], action[2]), config_.lock_position
        order = brackets.decide(account, row, price, draw, costs, terms, rules, sizing_, lock=lock)
    after, fill = trade.apply(account, order, costs, terms)
    if sizing_ is None:
        after = levels.remember(after, action, fill, rules)
    return after, fill, equity(after, price, terms)


@functools.partial(jax.jit, static_argnames="spot")
def core_fill(account, closing, opening, price, stop, target, fee, leverage, spot):
    """A quantity taken off and one put on at a price."""
    one = jax.numpy.ones_like(price)
    terms = Terms.of(leverage, 0.004 * one, math.nan * one, one, spot=spot)
    order = trade.Order(closing, opening, 0 * one, price, price, stop, target)
    return trade.apply(account, order, Costs(fee, 0 * one, 0 * one), terms)


class Offline:
    """An account that trades by the core alone, and by carrying out intents."""

    def __init__(self, settings_, cash):
        self.config, self.rules = settings_, settings_.rules
        with jax.enable_x64(True):
            self.account = jax.tree.map(np.asarray, Account.flat(np.float64(cash)))

    def numbers(self, *values):
        return [np.float64(value) for value in values]

    def act(self, action, price, half_spread=0.0):
        """What the environment does with an action."""
        table = self.config.table
        sizing_ = None if table is None else core_sizing(self.config)
        goal = (
            np.float64(self.config.levels[action])
            if table is None
            else np.array([table.sides[action], table.stops[action], table.targets[action]])
        )
        cfg = self.config
        with jax.enable_x64(True):
            self.account, fill, _ = core_step(
                self.account, goal, *self.numbers(price, half_spread, cfg.fee, cfg.leverage),
                cfg, sizing_,
            )  # fmt: skip
        return fill

    def fill(self, intent, price):
        """Carry out one intent at a price, as the replay venue does."""
        change = intent.side.sign * float(intent.quantity)
        closing, opening = (-change, 0) if intent.reduce_only else (0, change)
        bracket = intent.bracket or Bracket(None, None)
        legs = (bracket.stop_price or 0, bracket.target_price or 0)
        numbers = (closing, opening, price, *legs, self.config.fee, self.config.leverage)
        with jax.enable_x64(True):
            self.account, fill = core_fill(
                self.account, *self.numbers(*numbers), spot=self.config.spot
            )
        assert not int(fill.event) & trade.REFUSED

    def snapshot(self, price, half_spread=0.0):
        quantity, entry = float(self.account.quantity), float(self.account.entry_price)
        cash, leverage = float(self.account.cash), self.config.leverage
        profit = quantity * (price - entry)
        if self.config.spot:
            value = cash + abs(quantity) * price
        else:
            value = cash + abs(quantity) * entry / leverage + profit
        position = Flat()
        if quantity:
            position = Held(
                rounding.exact(quantity), rounding.exact(entry), rounding.exact(price),
                rounding.exact(profit), rounding.exact(leverage), MarginMode.ISOLATED, None, 0,
            )  # fmt: skip
        return dataclasses.replace(
            snapshot(price=price, bid=rounding.exact(price * (1 - half_spread)),
                     ask=rounding.exact(price * (1 + half_spread))),
            position=position,
            balance=Balance(rounding.exact(value), rounding.exact(cash), None, "USDT", 0),
        )  # fmt: skip


CONFIGS = [
    {"leverage": 1.0, "shorts": False},
    {"leverage": 1.5, "fee": 0.0},
    {"leverage": 20.0},
    {"rules": Rules.reference()},
    {"rebalance_tolerance": 0.0, "min_trade_quote": 0.0},
    {"rebalance_tolerance": 0.3, "min_trade_quote": 500.0},
    {"rules": dataclasses.replace(Rules(), partial_increase=False), "leverage": 3.0},
    {"table": TABLE, "position_fraction": 0.5},
    {"table": TABLE, "position_fraction": 1.0, "lock_position": True},
    {"table": TABLE, "trade_mode": "notional", "quantity_per_trade": 30000.0},
    {"table": TABLE, "trade_mode": "quantity", "quantity_per_trade": 120.0, "fee": 0.0},
]


@pytest.mark.parametrize("fields", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("half_spread", [0.0, 0.001], ids=["mid", "spread"])
def test_without_filters_the_plan_is_what_the_offline_environment_does(fields, half_spread):
    settings_ = config(**fields)
    core, live = Offline(settings_, 10000), Offline(settings_, 10000)
    state, rng, price = SymbolState.start(), np.random.default_rng(7), 100.0
    events, decisions = set(), set()
    for _ in range(120):
        price *= 1 + rng.uniform(-0.03, 0.03)
        action = int(rng.integers(settings_.num_actions))
        fill = core.act(action, price, half_spread)
        state, planned = plan(state, live.snapshot(price, half_spread), action, settings_)
        decisions.add(planned.decision)
        while planned.intents:
            intent = only(planned)
            live.fill(intent, price * (1 + intent.side.sign * half_spread))
            after = live.snapshot(price, half_spread)
            state = settle(state, planned, True, after.position, intent.bracket)
            if not planned.continues:
                break
            state, planned = second_phase(state, after, settings_)
        for name in ("cash", "quantity", "entry_price"):
            ours, theirs = getattr(live.account, name), getattr(core.account, name)
            assert float(ours) == pytest.approx(float(theirs), rel=1e-9, abs=1e-9 * 10000)
        assert (planned.refused is not None) == bool(int(fill.event) & trade.REFUSED)
        events.add(int(fill.event))
        if float(core.account.quantity):
            latched = float(core.account.last_level)
            assert state.last_level == (None if math.isnan(latched) else latched)
        if state.bracket is not None:
            legs = (state.bracket.stop_price, state.bracket.target_price)
            for ours, theirs in zip(legs, (core.account.stop_price, core.account.target_price),
                                    strict=True):  # fmt: skip
                assert float(ours) == pytest.approx(float(theirs), rel=1e-12)
    assert trade.OPENED in events
    if not settings_.lock_position:
        assert Decision.CLOSE in decisions


@settings(max_examples=100)
@given(
    fields=st.sampled_from([f for f in CONFIGS if "table" not in f]),
    share=st.floats(-0.99, 0.99),
    cash=st.floats(1, 1e6),
    entry=st.floats(0.001, 1e5),
    move=st.floats(-0.02, 0.02),
    last=st.sampled_from([None, *LEVELS]),
    action=st.integers(0, len(LEVELS) - 1),
)
def test_any_account_is_decided_like_the_cores(fields, share, cash, entry, move, last, action):
    settings_ = config(**fields)
    if settings_.spot:
        share = abs(share)
    offline = Offline(settings_, cash * (1 - abs(share)))
    quantity = share * cash * settings_.leverage / entry
    offline.account = dataclasses.replace(
        offline.account,
        quantity=np.float64(quantity),
        entry_price=np.float64(entry if quantity else 0),
        last_level=np.float64(math.nan if last is None else last),
    )
    price = entry * (1 + move)
    seen = offline.snapshot(price)
    assume(seen.balance.equity > 0)
    state = dataclasses.replace(
        SymbolState.start(),
        last_level=last,
        target_quantity=rounding.exact(quantity),
        direction=int(np.sign(quantity)),
    )
    _, planned = plan(state, seen, action, settings_)
    before = quantity
    fill = offline.act(action, price)
    reached = float(offline.account.quantity)
    if planned.continues:
        assert int(fill.event) & trade.CLOSED
        assert signed(planned) == -before
    else:
        scale = max(abs(before), abs(reached))
        assert signed(planned) == pytest.approx(reached - before, rel=1e-9, abs=1e-9 * scale)
        assert float(planned.target_quantity) == pytest.approx(reached, rel=1e-9, abs=1e-9 * scale)


def test_both_sides_of_the_quote_are_execution_prices():
    _, planned = acted(None, 5, config(fee=0.0), bid=98, ask=102, price=100)
    assert only(planned).quantity == pytest.approx(D(50000) / 102)
    assert planned.price == 102
    _, planned = acted(None, 0, config(fee=0.0), bid=98, ask=102, price=100)
    assert only(planned).quantity == pytest.approx(D(50000) / 98)
    assert planned.price == 98


def test_the_equity_of_the_snapshot_counts_with_its_unrealised_profit():
    one = held(100, 100, 110)  # margin 2000, profit 1000
    _, planned = acted(one, 0, config(), equity=11000, price=110)
    assert planned.continues
    _, planned = acted(one, 5, config(fee=0.0), equity=11000, price=110)
    # All of 11000 would be 500 base units; 8000 is free and pays 8000 * 5 / 110.
    assert signed(planned) == pytest.approx(8000 * 5 / 110)
    # The mark that the venue valued the position at counts, not the price of the order.
    _, planned = acted(one, 5, config(fee=0.0), equity=11000, price=111)
    assert signed(planned) == pytest.approx(8000 * 5 / 111)


def test_the_buffer_is_never_committed():
    buffered = config(fee=0.0, equity_buffer=0.02)
    _, planned = acted(None, 5, buffered)
    assert signed(planned) == pytest.approx(0.98 * 10000 * 5 / 100)
    _, planned = acted(held(400, 100, 100), 5, buffered)
    assert signed(planned) == pytest.approx(490 - 400)
    _, planned = acted(None, LONG, config(fee=0.0, equity_buffer=0.02, table=TABLE))
    assert signed(planned) == pytest.approx(490)
    # Whatever is available, and of what is.
    assert signed(acted(None, 5, buffered, available=20000)[1]) == pytest.approx(490)
    assert signed(acted(None, 5, buffered, available=1000)[1]) == pytest.approx(800 * 5 / 100)


def test_a_wider_tolerance_than_the_usual_one_holds():
    one, wide = held(225), config(fee=0.0, rebalance_tolerance=0.2)
    assert acted(one, 4, config(fee=0.0))[1].decision is Decision.INCREASE
    state, planned = acted(one, 4, wide)
    assert (planned.decision, planned.refused, state.last_level) == (Decision.HOLD, None, 0.5)
    assert acted(one, 2, wide)[1].decision is Decision.CLOSE
    coarse = config(fee=0.0, min_trade_quote=3000.0)
    assert acted(one, 4, coarse)[1].decision is Decision.HOLD
    assert acted(None, 3, coarse)[1].decision is Decision.OPEN
    # Who turns around is let out, however little that is worth.
    small = config(fee=0.0, min_trade_quote=1e6)
    assert acted(one, 1, small)[1].decision is Decision.FLIP


def test_a_finer_tolerance_than_the_usual_one_trades():
    one = held(249)  # of 250
    assert acted(one, 4, config(fee=0.0))[1].decision is Decision.HOLD
    fine = config(fee=0.0, rebalance_tolerance=0.001)
    assert signed(acted(one, 4, fine)[1]) == pytest.approx(1)
    tiny = config(fee=0.0, rebalance_tolerance=0.001, min_trade_quote=101.0)
    assert acted(one, 4, tiny)[1].decision is Decision.HOLD
    assert acted(held(249.995), 4, fine)[1].decision is Decision.HOLD
    every = config(fee=0.0, rebalance_tolerance=0.0, min_trade_quote=0.0)
    assert signed(acted(held(249.995), 4, every)[1]) == pytest.approx(0.005)


# What one symbol may use --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allocation", "equity", "counted"),
    [
        (None, 10000.0, 10000.0),
        (0.25, 10000.0, 2500.0),
        (1.0, 10000.0, 10000.0),
        (4000.0, 10000.0, 4000.0),
        (4000.0, 3000.0, 3000.0),
        (0.5, -100.0, -50.0),
        (4000.0, -100.0, -100.0),
    ],
)
def test_an_allocation_counts_alike_for_floats_and_decimals(allocation, equity, counted):
    assert allotted(equity, allocation) == counted
    exactly = allotted(D(repr(equity)), allocation)
    assert isinstance(exactly, Decimal) and exactly == D(repr(counted))
    for nothing in (math.nan, D("nan"), D("-inf")):
        assert repr(allotted(nothing, allocation)) == repr(nothing)


@pytest.mark.parametrize(
    ("allocation", "share"), [(0.5, 5000), (3000.0, 3000), (1.0, 10000), (20000.0, 10000)]
)
def test_an_order_is_sized_by_what_the_symbol_may_use(allocation, share):
    levels_, fee = config(allocation=allocation, equity_buffer=0.02), 0.0004
    wanted = 0.98 * share * 5 / (1 + 5 * fee) / 100
    assert signed(acted(None, 5, levels_)[1]) == pytest.approx(wanted)
    assert signed(acted(None, 1, levels_)[1]) == pytest.approx(-wanted / 2)
    rows = config(table=TABLE, allocation=allocation, equity_buffer=0.02)
    assert signed(acted(None, LONG, rows)[1]) == pytest.approx(wanted)
    # An increase is paid from its share, not from what the account has beyond.
    one = held(0.45 * share * 5 / 100, 100, 110)
    _, planned = acted(one, 5, config(allocation=allocation), equity=10000, price=110)
    margin, profit = 0.45 * share, float(one.unrealised_pnl)
    rest = share - margin - profit
    target = share * 5 / (1 + 5 * fee) / 110
    increase = min(target - float(one.quantity), rest / (110 * (1 / 5 + fee)))
    assert signed(planned) == pytest.approx(increase)


ACTIONS, MOVES = st.integers(0, 5), st.floats(-0.05, 0.05)


# What the first has gained is no free money: the half of the second one is cut to what is.
@example(moves=[(5, 2, 0.0, 0.0), (5, 5, 0.05, 0.0)])
@settings(max_examples=25)
@given(
    moves=st.lists(
        st.tuples(ACTIONS, ACTIONS, MOVES, MOVES),
        min_size=1,
        max_size=12,
    )
)  # fmt: skip
def test_two_symbols_with_half_each_never_use_more_than_the_account(moves):
    settings_ = config(allocation=0.5, equity_buffer=0.02)
    both = [Offline(settings_, 0.0), Offline(settings_, 0.0)]
    states, prices = [SymbolState.start()] * 2, [100.0, 100.0]
    free = 10000.0

    def total():
        return free + sum(
            float(one.snapshot(price).balance.equity)
            for one, price in zip(both, prices, strict=True)
        )

    for *actions, first, second in moves:
        prices = [prices[0] * (1 + first), prices[1] * (1 + second)]
        for i, action in enumerate(actions):
            value, price = total(), prices[i]
            if not value > 100:
                return
            balance = Balance(rounding.exact(value), rounding.exact(free), None, "USDT", 0)
            seen = dataclasses.replace(both[i].snapshot(price), balance=balance)
            states[i], planned = plan(states[i], seen, action, settings_)
            for intent in planned.intents:
                # The margin account of one symbol gets from the free money what it needs.
                both[i].account = dataclasses.replace(both[i].account, cash=np.float64(free))
                both[i].fill(intent, price)
                free = float(both[i].account.cash)
                both[i].account = dataclasses.replace(both[i].account, cash=np.float64(0))
                assert free >= -1e-9 * value
                if planned.decision is Decision.OPEN:
                    used = float(both[i].snapshot(price).balance.equity)
                    assert used <= value / 2 * (1 + 1e-9)
            states[i] = settle(states[i], planned, True, both[i].snapshot(price).position)


def test_the_core_is_compiled_once_per_configuration_and_x64_stays_off():
    settings_ = config(leverage=7.0)
    acted(None, 5, settings_)
    compiled = sizing._levels._cache_size()
    for price in (1.0, 2.0, 3.0):
        acted(held(1), 5, config(leverage=7.0 + price), price=price, equity=1000)
    assert sizing._levels._cache_size() == compiled
    assert not jax.config.jax_enable_x64


# Nothing is guessed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [-1, len(LEVELS), 1.0, 0.5, math.nan, math.inf, -math.inf, None, "1", True, [1], np.array([1]),
     np.float32(1), np.float64("nan"), [[1], [1, 2]], 10**30, object(), np.array(math.nan)],
    ids=lambda action: type(action).__name__,
)  # fmt: skip
def test_an_action_that_is_no_index_holds_and_is_counted(action):
    state, one = SymbolState.start(), held(10)
    for count in (1, 2, 3):
        state, planned = plan(state, snapshot(one), action, config())
        assert planned.intents == () and planned.decision is Decision.HOLD
        assert planned.refused == "invalid_action" and planned.action is None
        assert state.invalid_actions == count
    state, planned = plan(state, snapshot(one), np.int32(2), config())
    assert planned.decision is Decision.CLOSE and state.invalid_actions == 0


@pytest.mark.parametrize("action", range(len(LEVELS)))
def test_an_unknown_position_never_sizes(action):
    state = dataclasses.replace(SymbolState.start(), last_level=0.5, direction=1)
    for position in (Unknown("timeout"), held("NaN"), held("Infinity", 90), held("0")):
        kept, planned = plan(state, snapshot(position, available=1), action, config())
        assert (planned.intents, planned.refused) == ((), "unknown_position")
        assert kept == state
        assert observe_bar(state, position, 1) == state


@pytest.mark.parametrize(
    "reading",
    [
        {"ask": "NaN"}, {"bid": 0}, {"bid": "Infinity"}, {"ask": -1}, {"bid": 101, "ask": 100},
        {"equity": "NaN", "available": 1}, {"available": "Infinity"}, {"available": "NaN"},
    ],
    ids=str,
)  # fmt: skip
def test_unusable_numbers_raise_but_going_flat_needs_none(reading):
    with pytest.raises(UnreadableError):
        acted(None, 5, config(), **reading)
    one = held(10)
    reading = {"available": 1, **reading}
    with pytest.raises(UnreadableError):
        acted(one, 5, config(), **reading)
    for action, settings_ in ((2, config()), (CLOSE, config(table=TABLE))):
        _, planned = acted(one, action, settings_, **reading)
        assert planned.decision is Decision.CLOSE
        assert only(planned).quantity == 10 and only(planned).reduce_only
    for action in (HOLD, LONG):
        assert acted(one, action, config(table=TABLE), **reading)[1].decision is Decision.HOLD
    with pytest.raises(UnreadableError):
        acted(one, SHORT, config(table=TABLE), **reading)


def test_a_position_without_equity_or_entry_is_unreadable():
    for position, value in ((held(10), 0), (held(10), -5), (held(10, entry=0), 1000)):
        with pytest.raises(UnreadableError):
            acted(position, 5, config(), equity=value, available=1)
        assert acted(position, 2, config(), equity=value, available=1)[1].intents


def test_a_snapshot_of_another_symbol_is_a_defect():
    with pytest.raises(ValueError, match="snapshot: must be of ETH"):
        plan(SymbolState.start(), snapshot(), 0, dataclasses.replace(config(), symbol="ETH"))


# Levels -------------------------------------------------------------------------------------------


def played(state, position, action, after, settings_=None, **reading):
    """Plan an action that is executed and leads to ``after``."""
    settings_ = config() if settings_ is None else settings_
    state, planned = plan(state, snapshot(position, **reading), action, settings_)
    return settle(state, planned, True, after), planned


def test_repeating_a_level_holds_whatever_the_price_does():
    state, planned = plan(SymbolState.start(), snapshot(listed=REAL), 4, config())
    one = held(only(planned).quantity)
    state = settle(state, planned, True, one)
    assert (state.last_level, state.direction, state.target_quantity) == (0.5, 1, one.quantity)
    for price in (50, 100, 300):
        moved = dataclasses.replace(one, mark_price=D(price))
        state, planned = plan(state, snapshot(moved, price=price, available=1), 4, config())
        assert (planned.intents, planned.refused, state.last_level) == ((), None, 0.5)
    # Another level of the same direction is a change.
    assert plan(state, snapshot(one), 5, config())[1].decision is Decision.INCREASE
    assert plan(state, snapshot(one), 3, config())[1].decision is Decision.DECREASE


def test_a_level_that_is_reached_already_is_latched_without_an_order():
    state, planned = acted(held(249), 4, config(fee=0.0))
    assert (planned.intents, planned.refused, state.last_level) == ((), None, 0.5)


def test_negative_levels_mean_flat_where_there_are_no_shorts():
    for fields in ({"shorts": False}, {"shorts": False, "leverage": 1.0}):
        assert acted(None, 0, config(**fields))[1].intents == ()
        _, planned = acted(held(10), 0, config(**fields))
        assert (planned.decision, only(planned).quantity) == (Decision.CLOSE, 10)
        assert not planned.continues


def test_an_unknown_level_always_lets_go_flat_act():
    state = dataclasses.replace(SymbolState.start(), last_level=0.0)
    _, planned = plan(state, snapshot(held(3)), 2, config())
    assert planned.decision is Decision.CLOSE


def test_an_open_beyond_the_available_balance_is_cut():
    _, planned = acted(None, 5, config(fee=0.0), available=1000)
    assert planned.decision is Decision.OPEN
    assert signed(planned) == pytest.approx(1000 * 5 / 100)
    for nothing in (0, -5):
        state, planned = acted(None, 5, config(), available=nothing)
        assert (planned.intents, planned.refused) == ((), "unaffordable")
        assert state.last_level is None
    assert acted(None, 5, config(), equity=0)[1].refused == "unaffordable"


def test_an_increase_is_cut_or_refused_as_the_rules_say():
    one = held(250)
    _, planned = acted(one, 5, config(fee=0.0), available=1000)
    assert signed(planned) == pytest.approx(50)
    assert planned.level == 1.0
    whole = dataclasses.replace(Rules(), partial_increase=False)
    state, planned = acted(one, 5, config(fee=0.0, rules=whole), available=1000)
    assert (planned.intents, planned.refused) == ((), "unaffordable")
    assert state.last_level is None
    # Too little to be worth an order.
    assert acted(one, 5, config(fee=0.0), available=10)[1].refused == "unaffordable"


def test_minima_refuse_an_open_and_make_a_resize_unneeded():
    for listed in (instrument("0.001", least="10"), instrument("0.001", notional="900")):
        latched = dataclasses.replace(SymbolState.start(), last_level=0.5)
        state, planned = acted(None, 3, config(), latched, equity=60, listed=listed)
        assert (planned.intents, planned.refused) == ((), "below_minimum")
        assert state.last_level is None
        state, planned = acted(held(12), 5, config(), equity=320, listed=listed)
        assert (planned.intents, planned.refused, state.last_level) == ((), None, 1.0)
    capped = dataclasses.replace(REAL, max_market_quantity=D(100))
    assert acted(None, 5, config(), listed=capped)[1].refused == "above_maximum"


def test_trims_are_reduce_only_and_never_close_by_rounding():
    listed = instrument("0.1", least="0.5")
    _, planned = acted(held("2.05"), 4, config(fee=0.0), equity=70, listed=listed)
    intent = only(planned)  # the target is 1.75
    assert (planned.decision, intent.quantity) == (Decision.DECREASE, D("0.5"))
    assert intent.reduce_only and intent.side is Side.SELL and intent.role is Role.REDUCE
    _, planned = acted(held("-2.25"), 1, config(fee=0.0), equity=40, listed=listed)
    assert (only(planned).quantity, only(planned).side) == (D("1.2"), Side.BUY)
    # The target is below the minimum: nothing is kept.
    _, planned = acted(held("2.05"), 3, config(fee=0.0), equity=20, listed=listed)
    assert (planned.decision, only(planned).quantity) == (Decision.CLOSE, D("2.05"))


def test_a_close_uses_the_venues_own_quantity():
    odd = held("0.123456789012345678901")
    _, planned = acted(odd, 2, config(), listed=FREE)
    assert only(planned).quantity == odd.quantity
    # Of a step that has grown meanwhile the venue takes whole ones only; the rest is a residue.
    _, planned = acted(odd, 2, config(), listed=REAL)
    assert (only(planned).quantity, planned.target_quantity) == (
        D("0.123"),
        odd.quantity - D("0.123"),
    )
    state, planned = acted(held("0.0004"), 2, config(), listed=REAL)
    assert (planned.intents, planned.refused, state.last_level) == ((), "residue", None)


def test_a_close_above_the_largest_market_order_goes_on_next_bar():
    capped = dataclasses.replace(REAL, max_market_quantity=D("60.0005"))
    for action in (2, 0):
        state, planned = acted(held(100), action, config(), listed=capped)
        assert (planned.decision, only(planned).quantity) == (Decision.DECREASE, D(60))
        assert state.opening is None
        state = settle(state, planned, True, held(40))
        assert state.last_level is None
        assert plan(state, snapshot(held(40), listed=capped), 2, config())[1].intents


def test_a_residue_does_not_count_and_is_closed_only_where_it_can_be():
    listed = instrument("0.001", least="0.01")
    rest = held("-0.002", residue=True)
    state, planned = acted(rest, 2, config(), listed=listed)
    assert (planned.intents, planned.refused, state.direction) == ((), "residue", 0)
    _, planned = acted(rest, 2, config(closes_residue=True), listed=listed)
    intent = only(planned)
    assert (intent.quantity, intent.side, intent.reduce_only) == (D("0.01"), Side.BUY, True)
    _, planned = acted(rest, 5, config(fee=0.0), listed=listed, available=10000)
    assert (planned.decision, only(planned).quantity) == (Decision.OPEN, D(500))
    assert planned.target_quantity == D("499.998")


# Flips --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"table": TABLE}], ids=["levels", "brackets"])
def test_a_flip_closes_confirms_and_opens_from_a_new_snapshot(fields):
    settings_, one = config(fee=0.0, **fields), held(100)
    action = SHORT if fields else 0
    state, planned = acted(one, action, settings_, listed=REAL)
    assert (planned.decision, planned.phase, planned.continues) == (Decision.FLIP, 1, True)
    intent = only(planned)
    assert (intent.side, intent.quantity, intent.reduce_only) == (Side.SELL, 100, True)
    assert state.opening == action and planned.target_quantity == 0

    state = settle(state, planned, True, Flat())
    assert (state.direction, state.last_level, state.held_bars) == (0, None, 0)
    state, planned = second_phase(state, snapshot(equity=9000, listed=REAL), settings_)
    assert (planned.decision, planned.phase, planned.continues) == (Decision.FLIP, 2, False)
    intent = only(planned)
    assert (intent.side, intent.quantity, intent.reduce_only) == (Side.SELL, 450, False)
    assert state.opening is None
    legs = intent.bracket
    state = settle(state, planned, True, held(-450), legs)
    assert (state.direction, state.bracket) == (-1, legs)
    assert state.last_level == (None if fields else -1.0)


def test_a_first_phase_that_fails_ends_the_flip():
    start, planned = acted(held(100), 0, config())
    outcomes = ((False, held(100)), (False, Flat()), (True, held(40)), (True, Unknown("timeout")))
    for executed, position in outcomes:
        state = settle(start, planned, executed, position)
        assert (state.opening, state.last_level) == (None, None)
        state, after = second_phase(state, snapshot(), config())
        assert (after.intents, after.refused) == ((), "no_flip")
    # Without a settlement the position decides.
    state, after = second_phase(start, snapshot(held(40)), config())
    assert (after.intents, after.refused, state.opening) == ((), "not_flat", None)
    state, after = second_phase(start, snapshot(Unknown("x"), available=1), config())
    assert (after.intents, after.refused, state.opening) == ((), "unknown_position", None)


def test_a_second_phase_that_is_refused_is_a_close():
    state, planned = acted(held(100), 0, config())
    state = settle(state, planned, True, Flat())
    state, planned = second_phase(state, snapshot(equity=0.01, listed=REAL), config())
    assert (planned.decision, planned.intents) == (Decision.CLOSE, ())
    assert planned.refused == "below_minimum" and state.last_level is None


def test_a_waiting_flip_does_not_outlive_the_bar():
    state, _ = acted(held(100), 0, config())
    for action in (4, math.nan):
        later, _ = plan(state, snapshot(), action, config())
        assert later.opening is None


# Brackets -----------------------------------------------------------------------------------------


def test_a_bracket_is_rounded_before_its_entry():
    for action, side, stop, target in ((LONG, Side.BUY, "98.1", "103.1"),
                                       (SHORT, Side.SELL, "102.0", "97.1")):  # fmt: skip
        _, planned = acted(None, action, config(table=TABLE), price="100.07", listed=REAL)
        intent = only(planned)
        assert (intent.kind, intent.role, intent.side) == (IntentKind.BRACKET, Role.ENTRY, side)
        assert intent.bracket == Bracket(D(stop), D(target)) == planned.bracket


def test_hold_the_held_side_and_the_lock_leave_a_position_alone():
    one, both = held(10), config(table=TABLE)
    for action in (HOLD, LONG, LONG + 1):
        assert acted(one, action, both)[1].decision is Decision.HOLD
    assert acted(one, CLOSE, both)[1].decision is Decision.CLOSE
    assert acted(None, CLOSE, both)[1].decision is Decision.HOLD
    locked = config(table=TABLE, lock_position=True)
    for action in range(len(TABLE)):
        planned = acted(one, action, locked)[1]
        assert (planned.intents, planned.refused) == ((), None)
    assert acted(None, LONG, locked)[1].decision is Decision.OPEN


@pytest.mark.parametrize(
    ("fields", "cut"),
    [
        ({"position_fraction": 1.0}, True),
        ({"trade_mode": "notional", "quantity_per_trade": 20000.0}, False),
        ({"trade_mode": "quantity", "quantity_per_trade": 200.0}, False),
    ],
)
def test_what_cannot_be_paid_is_cut_only_in_fractional_mode(fields, cut):
    settings_ = config(table=TABLE, fee=0.0, **fields)
    _, planned = acted(None, LONG, settings_, available=1000)
    assert bool(planned.intents) == cut
    if cut:
        assert signed(planned) == pytest.approx(50)
    else:
        assert planned.refused == "unaffordable"
        assert acted(None, LONG, settings_, equity=1000)[1].refused == "unaffordable"
        assert acted(None, LONG, settings_)[1].decision is Decision.OPEN


def test_ticks_too_coarse_for_the_bracket_refuse_the_entry():
    coarse = instrument("0.001", tick="10")
    _, planned = acted(None, LONG, config(table=TABLE), price=12, listed=coarse)
    assert (planned.intents, planned.refused) == ((), "bracket")
    # The stop fits, the nearest tick to the target is the wrong side.
    _, planned = acted(None, LONG, config(table=TABLE), price=101, listed=coarse)
    assert (planned.intents, planned.refused) == ((), "bracket")
    assert acted(None, LONG, config(table=TABLE), price=104, listed=coarse)[1].intents
    # Legs keep their distance from the mark, wherever the order fills.
    _, planned = acted(None, LONG, config(table=TABLE), price=105, mark=100, listed=REAL)
    assert planned.bracket == Bracket(D("99.9"), D("108.2"))


def test_reanchoring_moves_both_legs_to_the_fill():
    row = BracketRow(1, -0.02, 0.03)
    assert reanchor(row, D("101.03"), D("101"), REAL) == Bracket(D("99.1"), D("104.1"))
    assert reanchor(row, D("101.03"), D("98"), REAL).stop_price == D("97.9")
    row = BracketRow(-1, 0.02, -0.03)
    assert reanchor(row, D(100), D(100), REAL) == Bracket(D(102), D(97))
    for bad in ("NaN", "0", "-1"):
        with pytest.raises(ValueError, match="average_price"):
            reanchor(row, D(bad), D(100), REAL)


@pytest.mark.parametrize(
    ("leverage", "fraction", "long", "short"),
    [
        (1.0, None, "75.0", "125.0"),
        (5.0, None, "90.2", "109.8"),
        (20.0, None, "97.7", "102.3"),
        (20.0, 0.04, "96.0", "104.0"),
    ],
)
def test_the_disaster_stop_lies_half_way_to_the_liquidation(leverage, fraction, long, short):
    settings_ = config(leverage=leverage, shorts=leverage > 1)
    assert disaster_stop(held(1), settings_, REAL, fraction) == D(long)
    assert disaster_stop(held(-1), settings_, REAL, fraction) == D(short)
    for bad in (0, 1, math.nan):
        with pytest.raises(ValueError, match="disaster_stop_fraction"):
            disaster_stop(held(1), settings_, REAL, bad)


# Memory -------------------------------------------------------------------------------------------


def test_the_holding_time_counts_bars_of_one_direction():
    state, seen = SymbolState.start(), []
    for quantity, bars in ((0, 1), (5, 1), (5, 1), (7, 3), (-2, 2), (-2, 1), (0, 1), (3, 4)):
        position = held(quantity) if quantity else Flat()
        state = observe_bar(state, position, bars)
        seen.append(state.held_bars)
    assert seen == [0, 1, 2, 5, 1, 2, 0, 1]
    again = observe_bar(state, held(3), 0)
    assert again.held_bars == 1


def test_a_settled_flip_restarts_the_holding_time():
    state = observe_bar(SymbolState.start(), held(100), 1)
    for _ in range(3):
        state = observe_bar(state, held(100), 1)
    state, planned = plan(state, snapshot(held(100)), 0, config())
    state = settle(state, planned, True, Flat())
    state, planned = second_phase(state, snapshot(), config())
    one = held(-only(planned).quantity)
    state = settle(state, planned, True, one)
    assert (state.held_bars, state.direction) == (0, -1)
    assert observe_bar(state, one, 1).held_bars == 1
    # And a resize does not.
    state = observe_bar(observe_bar(state, one, 1), one, 1)
    state, planned = plan(state, snapshot(one), 1, config())
    smaller = held(planned.target_quantity)
    state = settle(state, planned, True, smaller)
    assert observe_bar(state, smaller, 1).held_bars == 3


def test_only_a_full_success_latches():
    start, planned = acted(None, 4, config(), listed=REAL)
    full = only(planned).quantity
    assert start.last_level is None
    assert settle(start, planned, True, held(full)).last_level == 0.5
    for executed, position in (
        (False, Flat()),
        (False, held(full)),
        (True, held(full - D("0.1"))),
        (True, Flat()),
        (True, held(-full)),
        (True, Unknown("timeout")),
    ):
        state = settle(start, planned, executed, position, Bracket(D(1), D(2)))
        assert state.last_level is None
    assert settle(start, planned, True, held("100")).target_quantity == 100
    _, hold = acted(None, 2, config())
    assert settle(start, hold, True, held(full)) == start


def test_what_happens_to_the_position_outside_releases_the_latch():
    legs = Bracket(D(90), D(110))
    state = SymbolState(0.5, D(100), D("0.001"), legs, 4, 1, 0, None)
    assert synchronise(state, held(100)) == state
    for gone in (Flat(), held(-100), held("0.0001", residue=True)):
        after = synchronise(state, gone)
        assert (after.last_level, after.bracket, after.held_bars) == (None, None, 0)
    resized = synchronise(state, held("100.001"))
    assert (resized.last_level, resized.bracket, resized.held_bars) == (None, legs, 4)
    assert resized.target_quantity == D("100.001")
    assert synchronise(state, held("100.0009")) == state
    assert synchronise(state, Unknown("timeout")) == state
    # A repeated level acts again after the stop has closed the position.
    assert plan(state, snapshot(), 4, config())[1].decision is Decision.OPEN


# Properties ---------------------------------------------------------------------------------------

READINGS = st.fixed_dictionaries(
    {
        "share": st.one_of(st.just(0.0), st.floats(-1, 1)),  # of the equity, as margin
        "entry": st.floats(0.1, 1e4),
        "move": st.floats(-0.05, 0.05),
        "spread": st.floats(0, 0.01),
        "equity": st.one_of(st.floats(100, 1e6), st.floats(0, 10)),
        "free": st.sampled_from([1.0, 0.4, 0.01, 0.0, -0.1, 3.0]),  # available, of the equity
        "step": st.sampled_from(["1e-06", "0.001", "0.01", "1"]),
        "tick": st.sampled_from(["1e-06", "0.01", "0.1"]),
        "least": st.sampled_from(["0", "0.001", "1"]),
        "notional": st.sampled_from(["0", "5"]),
        "largest": st.sampled_from(["0", "0", "100"]),
    }
)
SETTINGS = [
    config(),
    config(leverage=1.0, shorts=False),
    config(leverage=20.0, equity_buffer=0.02),
    config(shorts=False, rules=Rules.reference()),
    config(table=TABLE),
    config(table=TABLE, trade_mode="notional", quantity_per_trade=500.0),
    config(table=TABLE, trade_mode="quantity", quantity_per_trade=0.29, lock_position=True),
]


def read(values, settings_):
    listed = dataclasses.replace(
        instrument(values["step"], values["tick"], values["least"], values["notional"]),
        max_market_quantity=D(values["largest"]),
    )
    mark = values["entry"] * (1 + values["move"])
    quantity = values["share"] * values["equity"] * settings_.leverage / values["entry"]
    quantity = D(repr(round(abs(quantity) if settings_.spot else quantity, 6)))
    position = Flat()
    if quantity:
        position = held(quantity, repr(values["entry"]), repr(mark),
                        residue=abs(quantity) < listed.min_quantity)  # fmt: skip
    bid, ask = mark * (1 - values["spread"]), mark * (1 + values["spread"])
    value, free = values["equity"], values["free"] * values["equity"]
    return snapshot(position, value, repr(mark), available=free,
                    bid=repr(bid), ask=repr(ask), listed=listed)  # fmt: skip


@settings(max_examples=200)
@given(values=READINGS, settings_=st.sampled_from(SETTINGS), action=st.integers(0, 9))
def test_no_plan_is_unsafe(values, settings_, action):
    seen, action = read(values, settings_), action % settings_.num_actions
    position, listed = seen.position, seen.instrument
    start = synchronise(SymbolState.start(), position)
    try:
        state, planned = plan(start, seen, action, settings_)
    except UnreadableError:
        assert isinstance(position, Held) and seen.balance.equity <= 0
        return
    assert len(planned.intents) <= 1
    assert not (planned.intents and planned.refused)
    assert (planned.decision is Decision.HOLD) == (not planned.intents)
    if planned.decision is not Decision.HOLD:
        assert (state.last_level, state.bracket) == (start.last_level, start.bracket)
    counts = isinstance(position, Held) and not position.residue
    for intent in planned.intents:
        quantity, buys = intent.quantity, intent.side is Side.BUY
        assert quantity > 0 and intent.symbol == SYMBOL
        if intent.reduce_only:
            assert counts
            assert intent.side is Side.of(-position.quantity)
            assert quantity <= abs(position.quantity)
            if quantity < abs(position.quantity):
                assert rounding.is_multiple(quantity, listed.quantity_step)
            assert intent.role is Role.REDUCE and intent.bracket is None
            continue
        price = seen.quote.ask if buys else seen.quote.bid
        assert intent.role is Role.ENTRY
        assert not counts or intent.side is Side.of(position.quantity)
        assert buys or settings_.shorts
        assert rounding.is_multiple(quantity, listed.quantity_step)
        assert quantity >= listed.min_quantity
        assert quantity * price >= listed.min_notional
        assert not listed.max_market_quantity or quantity <= listed.max_market_quantity
        outlay = float(quantity * price) * (1 / settings_.leverage + settings_.fee)
        assert outlay <= float(seen.balance.available) * (1 + 1e-8) + 1e-8 * float(price)
        assert outlay <= float(seen.balance.equity) * (1 + 1e-8) + 1e-8 * float(price)
        if intent.bracket is not None:
            side, mark = intent.side.sign, seen.quote.mark
            assert side * (mark - intent.bracket.stop_price) >= listed.tick
            assert side * (intent.bracket.target_price - mark) > 0
            assert intent.bracket.stop_price > 0 and intent.bracket.target_price > 0
            for leg in (intent.bracket.stop_price, intent.bracket.target_price):
                assert rounding.is_multiple(leg, listed.tick)


@settings(max_examples=100)
@given(values=READINGS, settings_=st.sampled_from(SETTINGS[:4]), action=st.integers(0, 5))
def test_an_executed_level_is_never_traded_again(values, settings_, action):
    seen = read(values, settings_)
    if not seen.balance.equity > 0:
        return
    state, planned = plan(SymbolState.start(), seen, action, settings_)
    if not planned.intents or planned.continues or planned.level is None:
        return
    target = planned.target_quantity
    after = Flat()
    if target:
        after = held(target, repr(values["entry"]), seen.quote.mark)
    state = settle(state, planned, True, after)
    assert state.last_level == planned.level
    again = dataclasses.replace(seen, position=after)
    _, repeated = plan(state, again, action, settings_)
    assert repeated.intents == () or not target


@given(action=st.one_of(st.floats(), st.text(), st.integers(), st.none(), st.lists(st.integers())))
def test_planning_is_total_over_actions(action):
    state, planned = plan(SymbolState.start(), snapshot(), action, config())
    valid = isinstance(action, int) and 0 <= action < len(LEVELS)
    assert (planned.refused == "invalid_action") == (not valid)
    assert state.invalid_actions == (not valid)


# Configuration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"leverage": 0.5}, "leverage"),
        ({"leverage": math.nan}, "leverage"),
        ({"fee": math.nan}, "fee"),
        ({"fee": 1.0}, "fee"),
        ({"maintenance_rate": 0.2}, "maintenance_rate"),
        ({"position_fraction": -0.1}, "position_fraction"),
        ({"position_fraction": 1.1}, "position_fraction"),
        ({"allocation": 0.0}, "allocation"),
        ({"allocation": math.nan}, "allocation"),
        ({"allocation": math.inf}, "allocation"),
        ({"kelly": KellySizing()}, "kelly"),
        ({"kelly": KellySizing(), "table": TABLE, "trade_mode": "notional"}, "kelly"),
        ({"quantity_per_trade": math.inf}, "quantity_per_trade"),
        ({"equity_buffer": 1.0}, "equity_buffer"),
        ({"rebalance_tolerance": 1.0}, "rebalance_tolerance"),
        ({"rebalance_tolerance": -0.001}, "rebalance_tolerance"),
        ({"min_trade_quote": math.nan}, "min_trade_quote"),
        ({"trade_mode": "all"}, "trade_mode"),
        ({"levels": (0.0,)}, "levels"),
        ({"levels": (0.0, math.nan)}, "levels"),
        ({"levels": (0.0, 0.0)}, "levels"),
        ({"levels": (0.0, 2.0)}, "levels"),
        ({"levels": None}, "exactly one"),
        ({"levels": LEVELS, "table": TABLE}, "exactly one"),
        ({"table": TABLE, "shorts": False}, "shorts=True"),
        ({"leverage": 1.0}, "shorts"),
    ],
    ids=str,
)
def test_a_configuration_checks_itself(fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)
