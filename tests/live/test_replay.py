"""The replay venue is the environment's account behind the protocol of an exchange."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from decimal import Decimal
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from jaxtrade import (
    Rules,
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
    trace,
)
from jaxtrade.core import exits
from jaxtrade.core.account import Account
from jaxtrade.core.rules import Costs, Terms
from jaxtrade.market import datasets
from live.clock import VirtualClock
from live.replay import EndOfDataError, ReplayVenue
from live.replay.data import ReplayData
from live.replay.faults import Fault, random_faults, with_faults
from live.replay.filters import DEFAULT_SYMBOL, unfiltered
from live.replay.money import ReplayTerms, Standing
from live.types import (
    Absent,
    Ambiguous,
    Bracket,
    Category,
    Certainty,
    Definitive,
    FillKind,
    Flat,
    Found,
    Held,
    IntentKind,
    MarginMode,
    OrderStatus,
    Outcome,
    PositionMode,
    Role,
    Side,
    Unknown,
    UnreadableError,
)
from live.venue import EventKind, Venue
from tests.envs.builders import flat_frame, walk
from tests.live.replaying import data_like, market, now, observer_like, read, terms_like

# Parity with the environments -------------------------------------------------------------------

STEPS = 250
REFERENCE = Rules.reference()
NEXT_OPEN = Rules(fill_at="next_open")
COSTLY = {"transaction_fee": 0.0004, "half_spread": 2e-4, "slippage": 1e-3}
BRACKETS = {"stoploss_levels": (-0.01, -0.04), "takeprofit_levels": (0.02, 0.06)}
BOTH = {"action_levels": (-1.0, -0.5, -0.1, 0.0, 0.11, 0.5, 1.0)}

LEVEL_CASES: dict[str, dict[str, Any]] = {
    "spot": {"action_levels": (0.0, 0.3, 0.52, 1.0), "transaction_fee": 0.0004},
    "spot-reference": {"slippage": 2e-3, "rules": REFERENCE},
    "futures-1.5": {"leverage": 1.5, **BOTH, **COSTLY},
    "futures-5": {"leverage": 5, **BOTH, **COSTLY},
    "futures-20": {"leverage": 20, **BOTH, "transaction_fee": 0.0004, "bankrupt_threshold": 0.0},
    "futures-5-reference": {"leverage": 5, **BOTH, **COSTLY, "rules": REFERENCE},
    "futures-5-next-open": {"leverage": 5, **BOTH, **COSTLY, "rules": NEXT_OPEN},
    "spot-next-open-symmetric": {
        "slippage": 5e-3,
        "half_spread": 1e-3,
        "rules": Rules(fill_at="next_open", slippage_side="symmetric"),
    },
}
BRACKET_CASES: dict[str, dict[str, Any]] = {
    "fractional-spot": {**BRACKETS, **COSTLY, "include_close_action": True},
    "fractional-5": {**BRACKETS, **COSTLY, "leverage": 5, "position_fraction": 0.6},
    "notional-5": {
        **BRACKETS,
        **COSTLY,
        "leverage": 5,
        "trade_mode": "notional",
        "quantity_per_trade": 9000.0,
        "include_close_action": True,
    },
    "quantity-20-locked": {
        **BRACKETS,
        "leverage": 20,
        "trade_mode": "quantity",
        "quantity_per_trade": 20.0,
        "lock_position_until_sltp": True,
    },
    "fractional-20-reference": {**BRACKETS, **COSTLY, "leverage": 20, "rules": REFERENCE},
    "fractional-5-next-open": {**BRACKETS, **COSTLY, "leverage": 5, "rules": NEXT_OPEN},
}


@functools.cache
def violent() -> pd.DataFrame:
    """Gaps through stops, targets and liquidation prices, with funding."""
    return walk(STEPS + 60, 3, sigma=1.5e-2, gap=8e-3, funding=1e-3)


@functools.cache
def real(path: Any) -> pd.DataFrame:
    return datasets.read(path).iloc[20_000:28_000]


def level_env(frame: Any, **fields: Any) -> SequentialTradingEnv:
    return SequentialTradingEnv(frame, SequentialTradingEnvConfig(**fields))


def bracket_env(frame: Any, **fields: Any) -> SequentialTradingEnvSLTP:
    return SequentialTradingEnvSLTP(frame, SequentialTradingEnvSLTPConfig(**fields))


class Driver:
    """Sends what the core decides as intents, as a planner without rounding would."""

    def __init__(self, env: Any, venue: ReplayVenue) -> None:
        self.env, self.venue = env, venue
        self.last_level = float("nan")
        config = env.config
        with jax.enable_x64(True):
            self.costs = Costs(
                *(
                    np.float64(value)
                    for value in (config.transaction_fee, config.half_spread, config.slippage)
                )
            )
            self.terms = Terms.of(
                np.float64(config.leverage),
                np.float64(config.maintenance_margin_rate),
                np.float64(np.nan),
                np.float64(1),
                spot=config.spot,
            )
        self.decide = jax.jit(env._decide)

    def account(self, at: Standing) -> Account:
        numbers = (self.last_level, at.stop, at.target)
        return Account(
            np.float64(at.cash),
            np.float64(at.quantity),
            np.float64(at.entry),
            np.int32(0),
            *(np.float64(number) for number in numbers),
        )

    def base(self) -> float:
        bars, bar = self.venue.data.execution.ohlcv, self.venue.bar
        next_open = self.env.config.rules.fill_at == "next_open"
        return bars[bar + 1, 0] if next_open else bars[bar, 3]

    def act(self, action: int, draw: float) -> None:
        with jax.enable_x64(True):
            order = self.decide(
                self.account(self.venue.standing),
                np.int32(action),
                np.float64(self.base()),
                np.float64(draw),
                self.costs,
                self.terms,
            )
            order = jax.tree.map(float, order)
        quote = now(self.venue.quote(DEFAULT_SYMBOL))
        refused = False
        if order.closing:
            refused = not self.send(-order.closing, reduce_only=True)
        opening = order.opening
        if not refused and order.opening_per_cash:
            opening += order.opening_per_cash * max(self.venue.standing.cash, 0.0)
        if opening and not refused:
            # The quote is what the core sizes with.
            sized_at = float(quote.ask if opening > 0 else quote.bid)
            assert sized_at == pytest.approx(order.price, rel=1e-14)
            bracket = None
            if order.stop_price:
                prices = (order.stop_price, order.target_price)
                bracket = Bracket(*(Decimal(repr(price)) for price in prices))
            refused = not self.send(opening, bracket=bracket)
        if not self.env.has_brackets and not (refused and self.env.config.rules.retry_refused):
            self.last_level = float(self.env.levels[action])

    def send(self, signed: float, **fields: Any) -> bool:
        outcome = now(self.venue.submit(market(signed, **fields)))
        assert isinstance(outcome, Definitive)
        if outcome.kind is not Certainty.ACCEPTED:
            assert outcome.category is Category.MARGIN
        return outcome.kind is Certainty.ACCEPTED


def check_parity(
    env: Any, frame: Any, seed: int, terms: ReplayTerms | None = None
) -> dict[str, np.ndarray]:
    """Step environment and venue with one sequence of actions; compare everything."""
    generator = np.random.default_rng(seed)
    repeats = generator.integers(1, 6, STEPS)
    actions = np.repeat(generator.integers(0, env.num_actions, STEPS), repeats)[:STEPS]
    draws = generator.random(STEPS)
    data = data_like(env, frame)
    record = trace(env, actions, draws=draws, float64=True, observations=True)
    venue = ReplayVenue(data, terms or terms_like(env), draws=draws)
    driver, observer = Driver(env, venue), observer_like(env)
    money = 1e-9 * env.config.initial_cash
    steps = len(record["reward"])
    for t in range(steps + 1):
        at, where = venue.standing, f"state {t}"
        assert venue.bar_open_ms * 1_000_000 == record["bar_time"][t]
        for ours, name in ((at.equity, "equity"), (at.cash, "cash")):
            assert ours == pytest.approx(record[name][t], rel=0, abs=money), f"{name}, {where}"
        relative = [(at.quantity, "quantity"), (at.entry, "entry_price")]
        relative += [(at.liquidation, "liquidation_price")]
        if env.has_brackets:
            relative += [(at.stop, "stop_price"), (at.target, "target_price")]
        for ours, name in relative:
            assert ours == pytest.approx(record[name][t], rel=1e-9, abs=0), f"{name}, {where}"
        seen = observer.observe(read(venue, observer), int(record["held_bars"][t]))
        expected = record["account_state"][t].astype(np.float32)
        np.testing.assert_array_equal(seen["account_state"], expected, where)
        for key in env.market.spec.keys:
            np.testing.assert_array_equal(seen[key], record[key][t], where)
        if t == steps:
            break
        known = len(now(venue.fills(DEFAULT_SYMBOL, 0)))
        driver.act(int(actions[t]), float(draws[t]))
        passed = venue.advance()
        assert passed.exit_kind == record["exit_kind"][t], where
        exit_price, funding = record["exit_price"][t], record["funding"][t]
        assert passed.exit_price == pytest.approx(exit_price, rel=1e-9, nan_ok=True), where
        assert passed.funding == pytest.approx(funding, rel=1e-9, abs=money), where
        assert passed.equity == venue.standing.equity
        fills = now(venue.fills(DEFAULT_SYMBOL, 0))
        traded = [fill for fill in fills[known:] if fill.kind is not FillKind.FUNDING]
        fee = float(sum(fill.fee for fill in traded))
        assert fee == pytest.approx(record["fee"][t], rel=1e-9, abs=money), where
        # What a journal would add up is the position, to the last bit.
        assert sum((fill.signed for fill in fills), Decimal(0)) == Decimal(
            repr(venue.standing.quantity)
        )
    return record


def events_of(record: dict[str, np.ndarray]) -> set[int]:
    """Bits of the fill events that occurred."""
    return {bit for bit in (1, 2, 4, 8, 16) if (record["event"] & bit).any()}


QUICK = {"spot", "futures-5", "futures-5-next-open", "fractional-5", "quantity-20-locked"}


def cases(all_cases: dict[str, dict[str, Any]]) -> list[Any]:
    """Each compiles programs of its own, so most of them are slow."""
    return [
        case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in all_cases
    ]


MINUTES = {"time_frames": "1min", "window_sizes": 3, "execute_on": "1min"}


@functools.cache
def level_case(case: str) -> SequentialTradingEnv:
    return level_env(violent(), **MINUTES, **LEVEL_CASES[case])


@pytest.mark.parametrize("case", cases(LEVEL_CASES))
def test_levels_trade_as_in_the_environment(case: str) -> None:
    env = level_case(case)
    record = check_parity(env, violent(), seed=11)
    assert events_of(record) >= {1, 2, 4, 8}
    assert len(record["reward"]) > 20
    if env.config.leverage == 20:
        assert (record["exit_kind"] == exits.LIQUIDATION).any()


@pytest.mark.parametrize("case", cases(BRACKET_CASES))
def test_brackets_trade_as_in_the_environment(case: str) -> None:
    env = bracket_env(violent(), **MINUTES, **BRACKET_CASES[case])
    record = check_parity(env, violent(), seed=12)
    assert {exits.STOP, exits.TARGET} <= set(record["exit_kind"].tolist())


SEVERAL = {
    "time_frames": ("1min", "15min", "1hour", "4hour"),
    "window_sizes": (5, 4, 6, 3),
    "execute_on": "15min",
    "initial_cash": 50_000.0,
    "leverage": 5,
    **COSTLY,
}


def test_brackets_on_real_prices_trade_as_in_the_environment(btc_minutes_file: Any) -> None:
    frame = real(btc_minutes_file)
    narrow = {"stoploss_levels": (-0.004,), "takeprofit_levels": (0.006,)}
    record = check_parity(bracket_env(frame, **SEVERAL, **narrow), frame, seed=14)
    assert {exits.STOP, exits.TARGET} <= set(record["exit_kind"].tolist())


@pytest.mark.slow
def test_levels_on_real_prices_trade_as_in_the_environment(btc_minutes_file: Any) -> None:
    frame = real(btc_minutes_file)
    check_parity(level_env(frame, **SEVERAL, **BOTH), frame, seed=13)


def test_the_comparison_can_fail() -> None:
    env = level_case("futures-5")
    wrong = dataclasses.replace(terms_like(env), transaction_fee=0.0004 * (1 + 1e-6))
    with pytest.raises(AssertionError, match="state"):
        check_parity(env, violent(), seed=11, terms=wrong)


# The protocol, on hand-made bars ----------------------------------------------------------------

MINUTE = 60_000


def venue_on(frame: pd.DataFrame | None = None, **fields: Any) -> ReplayVenue:
    """A venue of one-minute bars with windows of one row."""
    names = {field.name for field in dataclasses.fields(ReplayTerms)}
    terms = ReplayTerms(**{name: fields.pop(name) for name in names & set(fields)})
    data = ReplayData.from_frame(
        flat_frame() if frame is None else frame,
        time_frames="1min",
        window_sizes=1,
        execute_on="1min",
        rules=terms.rules,
    )
    return ReplayVenue(data, terms, **fields)


def submit(venue: ReplayVenue, signed: float, **fields: Any) -> Outcome:
    return now(venue.submit(market(signed, **fields)))


def position(venue: ReplayVenue) -> Any:
    return now(venue.position(DEFAULT_SYMBOL))


def orders(venue: ReplayVenue) -> dict[Role, Any]:
    return {report.role: report for report in now(venue.orders(DEFAULT_SYMBOL))}


def fills(venue: ReplayVenue) -> list[Any]:
    return now(venue.fills(DEFAULT_SYMBOL, 0))


def refused(outcome: Outcome) -> Category | None:
    assert isinstance(outcome, Definitive)
    assert outcome.kind is Certainty.REJECTED
    return outcome.category


def test_it_is_a_venue_and_says_what_it_is() -> None:
    venue = venue_on(leverage=5)
    assert isinstance(venue, Venue)

    async def ask() -> None:
        assert (await venue.account()).margin_mode is MarginMode.ISOLATED
        asked = (Decimal(5), MarginMode.ISOLATED, PositionMode.ONE_WAY)
        assert (await venue.configure(DEFAULT_SYMBOL, *asked)).leverage == 5
        with pytest.raises(ValueError, match="runs with"):
            await venue.configure(DEFAULT_SYMBOL, Decimal(4), *asked[1:])
        with pytest.raises(ValueError, match="ETH: is not listed"):
            await venue.instrument("ETH")
        with pytest.raises(ValueError, match="the replay holds 1Minute"):
            await venue.closed_bars(DEFAULT_SYMBOL, "1Hour", 3)
        assert (await venue.instrument(DEFAULT_SYMBOL)).settle == "USDT"

    now(ask())
    assert unfiltered(venue.terms, "AAPL").quote == "USD"
    assert unfiltered(venue.terms, "BTC/EUR").settle == "EUR"


def test_open_increase_decrease_close() -> None:
    venue = venue_on(leverage=5, transaction_fee=0.001)
    assert isinstance(position(venue), Flat)
    submit(venue, 10)
    submit(venue, 10)
    at = position(venue)
    assert isinstance(at, Held)
    assert (at.quantity, at.entry_price, at.leverage) == (20, 100, 5)
    assert float(at.liquidation_price) == pytest.approx(80.4)
    balance = now(venue.balance())
    assert balance.equity == Decimal("9998.0")
    assert balance.available == Decimal("9598.0")
    assert float(balance.maintenance_margin) == pytest.approx(8)
    submit(venue, -5, reduce_only=True)
    assert position(venue).quantity == 15
    submit(venue, -999, reduce_only=True)  # cut to the position
    assert isinstance(position(venue), Flat)
    assert [fill.signed for fill in fills(venue)] == [10, 10, -5, -15]
    assert {fill.fee for fill in fills(venue)} == {Decimal("1.0"), Decimal("0.5"), Decimal("1.5")}
    assert len({fill.trade_id for fill in fills(venue)}) == 4


def test_an_order_across_zero_closes_and_opens() -> None:
    venue = venue_on(leverage=5)
    submit(venue, 10, client_id="one-e", bracket=Bracket(Decimal(90), None))
    submit(venue, -25, client_id="two-e", bracket=Bracket(None, Decimal(80)))
    at = position(venue)
    assert (at.quantity, at.stop_price, at.target_price) == (-15, None, 80)
    assert [fill.signed for fill in fills(venue)] == [10, -10, -15]
    assert {role: report.client_id for role, report in orders(venue).items()} == {
        Role.TARGET: "two-t"
    }
    found = now(venue.query(DEFAULT_SYMBOL, "two-e"))
    assert isinstance(found, Found)
    assert (found.report.filled, found.report.status) == (25, OrderStatus.FILLED)


def test_an_opening_that_cannot_be_paid_is_refused_and_the_close_before_it_stands() -> None:
    venue = venue_on(leverage=5)
    assert refused(submit(venue, 501)) is Category.MARGIN
    submit(venue, 10)
    outcome = submit(venue, -600, client_id="x")
    assert outcome.kind is Certainty.ACCEPTED
    assert isinstance(position(venue), Flat)
    found = now(venue.query(DEFAULT_SYMBOL, "x"))
    assert (found.report.filled, found.report.status) == (10, OrderStatus.CANCELLED)


def test_what_is_refused() -> None:
    venue = venue_on()  # spot
    assert refused(submit(venue, -1)) is Category.MARGIN
    assert refused(submit(venue, -1, reduce_only=True)) is Category.REDUCE_ONLY
    assert refused(submit(venue, 1, quantity=Decimal("NaN"))) is Category.PRECISION
    assert refused(submit(venue, 1, quantity=Decimal(0))) is Category.PRECISION
    assert refused(submit(venue, 1, symbol="ETH/USDT:USDT")) is Category.OTHER
    submit(venue, 10)
    assert refused(submit(venue, 1, reduce_only=True)) is Category.REDUCE_ONLY
    assert refused(submit(venue, -11)) is Category.MARGIN
    assert refused(submit(venue, 1e-30)) is Category.MARGIN
    assert position(venue).quantity == 10
    assert position(venue).liquidation_price is None
    assert len(fills(venue)) == 1


def test_an_id_is_accepted_once() -> None:
    venue = venue_on()
    submit(venue, 1, client_id="a")
    assert isinstance(submit(venue, 1, client_id="a"), Ambiguous)
    assert position(venue).quantity == 1
    assert isinstance(now(venue.query(DEFAULT_SYMBOL, "b")), Absent)


def test_filters_of_an_instrument_are_enforced() -> None:
    terms = ReplayTerms(leverage=5)
    listed = dataclasses.replace(
        unfiltered(terms),
        quantity_step=Decimal("0.01"),
        min_quantity=Decimal("0.05"),
        max_market_quantity=Decimal(20),
        min_notional=Decimal(10),
    )
    venue = venue_on(leverage=5, instrument=listed)
    assert refused(submit(venue, 0.105)) is Category.PRECISION
    assert refused(submit(venue, 0.04)) is Category.MINIMUM
    assert refused(submit(venue, 0.09)) is Category.MINIMUM
    assert refused(submit(venue, 20.01)) is Category.OTHER
    submit(venue, 0.1)
    submit(venue, -0.08, reduce_only=True)  # what reduces has no minimum
    assert position(venue).residue


def test_stop_and_target_follow_the_position() -> None:
    venue = venue_on(leverage=5)
    submit(venue, 10, client_id="jt-e", bracket=Bracket(Decimal(95), Decimal(120)))
    legs = orders(venue)
    assert legs[Role.STOP].client_id == "jt-s"
    assert (legs[Role.STOP].trigger_price, legs[Role.TARGET].trigger_price) == (95, 120)
    assert legs[Role.STOP].side is Side.SELL
    assert legs[Role.STOP].reduce_only
    submit(venue, 5)
    assert {leg.quantity for leg in orders(venue).values()} == {15}
    amended = now(venue.amend_protection(DEFAULT_SYMBOL, Bracket(Decimal(96), None)))
    assert amended.kind is Certainty.ACCEPTED
    assert position(venue).stop_price == 96
    assert {leg.client_id for leg in orders(venue).values()} == {"jt-s"}
    assert now(venue.cancel(DEFAULT_SYMBOL, "jt-s")).kind is Certainty.ACCEPTED
    assert orders(venue) == {}
    assert refused(now(venue.cancel(DEFAULT_SYMBOL, "jt-s"))) is Category.NOT_FOUND
    stop = {"kind": IntentKind.STOP, "role": Role.STOP, "trigger_price": Decimal(94)}
    submit(venue, -15, reduce_only=True, client_id="own-s", **stop)
    assert orders(venue)[Role.STOP].client_id == "own-s"
    assert refused(submit(venue, 15, **stop)) is Category.REDUCE_ONLY
    submit(venue, -15, reduce_only=True)
    assert orders(venue) == {}
    found = now(venue.query(DEFAULT_SYMBOL, "own-s"))
    assert found.report.status is OrderStatus.CANCELLED
    nothing = now(venue.amend_protection(DEFAULT_SYMBOL, Bracket(Decimal(96), None)))
    assert refused(nothing) is Category.NOT_FOUND


def test_a_stop_that_a_bar_touches_fills_under_its_own_id() -> None:
    venue = venue_on(flat_frame(bar2={"low": 94.0}), leverage=5, transaction_fee=0.0004)
    submit(venue, 10, client_id="jt-e", bracket=Bracket(Decimal(95), Decimal(120)))
    assert venue.advance().exit_kind == exits.NO_EXIT
    assert venue.advance().exit_kind == exits.STOP
    assert isinstance(position(venue), Flat)
    fill = fills(venue)[-1]
    assert (fill.client_id, fill.kind, fill.price, fill.signed) == (
        "jt-s",
        FillKind.TRADE,
        95,
        -10,
    )
    stop, target = (now(venue.query(DEFAULT_SYMBOL, name)).report for name in ("jt-s", "jt-t"))
    assert (stop.status, stop.filled, stop.average_price) == (OrderStatus.FILLED, 10, 95)
    assert (target.status, target.filled) == (OrderStatus.CANCELLED, 0)
    assert orders(venue) == {}


def test_a_liquidation_is_a_fill_of_its_kind() -> None:
    venue = venue_on(flat_frame(bar1={"low": 70.0}), leverage=5)
    submit(venue, -10)
    submit(venue, 10, reduce_only=True)
    submit(venue, 100)
    assert venue.advance().exit_kind == exits.LIQUIDATION
    fill = fills(venue)[-1]
    assert (fill.kind, fill.client_id, fill.signed) == (FillKind.LIQUIDATION, "", -100)


def test_funding_is_paid_in_cash() -> None:
    venue = venue_on(flat_frame(funding=0.001), leverage=5)
    assert venue.advance().funding == 0
    assert fills(venue) == []
    submit(venue, -10)
    assert venue.advance().funding == -1
    fill = fills(venue)[-1]
    assert (fill.kind, fill.quantity, fill.fee) == (FillKind.FUNDING, 0, -1)
    assert now(venue.balance()).equity == 10_001


@pytest.mark.parametrize("fill_at", ["close", "next_open"])
def test_the_quote_is_what_an_order_executes_at(fill_at: str) -> None:
    frame = flat_frame(bar1={"open": 104.0})
    venue = venue_on(
        frame,
        leverage=5,
        half_spread=0.01,
        slippage=0.02,
        rules=Rules(fill_at=fill_at),
        draws=np.full(12, 0.25),
    )
    quote = now(venue.quote(DEFAULT_SYMBOL))
    base = 100 if fill_at == "close" else 104
    assert float(quote.ask) == pytest.approx(base * 1.015)
    assert float(quote.bid) == pytest.approx(base * 0.985)
    assert quote.mark == 100
    submit(venue, 1)
    assert fills(venue)[-1].price == quote.ask


def test_nothing_trades_at_an_open_beyond_the_liquidation_price() -> None:
    frame = flat_frame(bar1={"open": 70.0})
    venue = venue_on(frame, leverage=5, rules=NEXT_OPEN)
    venue.reset()
    bare = venue_on(flat_frame(bar2={"open": 70.0}), leverage=5, rules=NEXT_OPEN)
    submit(bare, 10)
    bare.advance()
    assert refused(submit(bare, -10, reduce_only=True)) is Category.MARGIN
    assert bare.advance().exit_kind == exits.LIQUIDATION


# Time -------------------------------------------------------------------------------------------


def test_only_advance_moves_time_and_reads_change_nothing() -> None:
    env = level_env(violent(), time_frames="1min", window_sizes=3, execute_on="1min", leverage=5)
    venue = ReplayVenue(data_like(env, violent()), terms_like(env))
    observer = observer_like(env)
    submit(venue, 10, bracket=Bracket(Decimal(50), Decimal(150)))
    before = venue.decision_ms
    one, two = read(venue, observer), read(venue, observer)
    assert dataclasses.replace(one, bars={}) == dataclasses.replace(two, bars={})
    bars = one.bars["1Minute"]
    expected = bars.ohlcv.copy()
    bars.ohlcv[:] = 0  # a reader's own copy
    np.testing.assert_array_equal(read(venue, observer).bars["1Minute"].ohlcv, expected)
    assert now(venue.server_time()) == before == venue.clock.now_ms()
    venue.advance()
    assert now(venue.server_time()) == before + MINUTE
    assert read(venue, observer).bar_open_ms == before


def test_bars_are_those_that_have_ended() -> None:
    frame = walk(400)
    data = ReplayData.from_frame(
        frame, time_frames=("1min", "15min"), window_sizes=2, execute_on="5min"
    )
    venue = ReplayVenue(data, ReplayTerms())
    while not venue.exhausted:
        for name, minutes in (("1Minute", 1), ("5Minute", 5), ("15Minute", 15)):
            bars = now(venue.closed_bars(DEFAULT_SYMBOL, name, 3))
            end = bars.open_time_ms[-1] + minutes * MINUTE
            assert end == venue.decision_ms // (minutes * MINUTE) * (minutes * MINUTE)
        venue.advance()


def test_the_data_ends_and_a_reset_rewinds_everything() -> None:
    frame = flat_frame(bars=6, bar3={"low": 94.0, "close": 97.0})

    def run(venue: ReplayVenue) -> list[Any]:
        submit(venue, 10, client_id="jt-e", bracket=Bracket(Decimal(95), None))
        while not venue.exhausted:
            venue.advance()
        return [repr(venue.records), venue.standing, venue.clock.now_ms()]

    venue = venue_on(frame, leverage=5)
    start = venue.clock.now_ms()
    first, ids = run(venue), {fill.trade_id for fill in fills(venue)}
    with pytest.raises(EndOfDataError, match=r"bar 5 is the last of data .*; reset\(\)"):
        venue.advance()
    venue.reset()
    assert venue.clock.now_ms() == start
    assert (fills(venue), orders(venue), venue.records) == ([], {}, [])
    assert venue.standing.equity == 10_000
    assert run(venue) == first
    # A journal that has seen the first run must not take these for known ones.
    assert not ids & {fill.trade_id for fill in fills(venue)}
    venue.reset(start=start + MINUTE)
    assert venue.bar_open_ms == start + MINUTE
    with pytest.raises(ValueError, match="no usable bar of 1Minute starts at"):
        venue.reset(start=start + 1)
    with pytest.raises(ValueError, match="no usable bar"):
        venue.reset(start=start + 4 * MINUTE)  # the last bar has no step


def test_draws_belong_to_steps_not_to_orders() -> None:
    draws = np.array([0.0, 0.5, 0.75])
    venue = venue_on(slippage=0.1, draws=draws)
    asks = []
    for _ in range(2):
        asks.append(float(now(venue.quote(DEFAULT_SYMBOL)).ask))
        venue.advance()
    assert asks == pytest.approx([100, 105])
    submit(venue, 1)
    assert float(fills(venue)[-1].price) == pytest.approx(107.5)
    venue.advance()
    assert venue.exhausted
    with pytest.raises(EndOfDataError, match="bar 3 is the last of data and draws"):
        venue.advance()
    with pytest.raises(ValueError, match="draws: expected numbers"):
        venue_on(draws=[1.0])


def test_a_clock_that_is_given_wakes_its_sleepers() -> None:
    async def main() -> list[int]:
        clock = VirtualClock()
        venue = venue_on(clock=clock)
        woken: list[int] = []

        async def runner() -> None:
            while True:
                await clock.sleep_until(venue.decision_ms + MINUTE)
                woken.append(venue.bar)

        task = asyncio.create_task(runner())
        for _ in range(3):
            await asyncio.sleep(0)
            venue.advance()
            await asyncio.sleep(0)
        task.cancel()
        return woken

    assert asyncio.run(main()) == [1, 2, 3]


def test_events_tell_of_orders_fills_and_the_end() -> None:
    async def main() -> list[EventKind]:
        venue = venue_on(flat_frame(bar1={"low": 94.0}), leverage=5)
        seen: list[EventKind] = []

        async def listen() -> None:
            async for event in venue.events():
                seen.append(event.kind)  # noqa: PERF401

        task = asyncio.create_task(listen())
        await asyncio.sleep(0)
        await venue.connect()
        await venue.submit(market(1, bracket=Bracket(Decimal(95), None)))
        venue.advance()
        await asyncio.sleep(0)
        await venue.close()
        await task
        return seen

    kinds = asyncio.run(main())
    order, fill, account = EventKind.ORDER, EventKind.FILL, [EventKind.POSITION, EventKind.BALANCE]
    assert kinds == [
        EventKind.CONNECTED,
        *(order, fill, order, *account),  # entry and its stop
        *(order, fill, *account),  # the stop
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("initial_cash", 0),
        ("leverage", 0.5),
        ("transaction_fee", float("nan")),
        ("slippage", 1),
        ("maintenance_margin_rate", 0.3),
    ],
)
def test_terms_are_checked(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}: must be"):
        ReplayTerms(**{"leverage": 5, field: value})


# Faults on purpose ------------------------------------------------------------------------------


def faulty(**faults: Fault) -> tuple[Any, ReplayVenue]:
    """A venue whose first request of each name has a fault, and the one behind it."""
    venue = venue_on(leverage=5)
    return with_faults(venue, lambda name, n: faults.get(name) if n == 0 else None), venue


@pytest.mark.parametrize(
    ("fault", "kind", "held"),
    [
        (Fault.REJECTED, Definitive, 0),
        (Fault.LOST, Ambiguous, 0),
        (Fault.UNANSWERED, Ambiguous, 10),
        (Fault.PARTIAL, Definitive, 5),
    ],
)
def test_a_fault_of_a_submission(fault: Fault, kind: type, held: float) -> None:
    venue, behind = faulty(submit=fault)
    assert isinstance(venue, Venue)
    outcome = submit(venue, 10)
    assert isinstance(outcome, kind)
    if fault is Fault.REJECTED:
        assert refused(outcome) is Category.OTHER
    assert behind.standing.quantity == held
    submit(venue, 1)  # one fault only
    assert venue.standing.quantity == held + 1
    venue.advance()
    assert behind.bar == behind.data.first + 1


def test_a_fault_of_a_read() -> None:
    names = ("balance", "quote", "orders", "fills", "position", "closed_bars")
    venue, _ = faulty(**dict.fromkeys(names, Fault.UNREADABLE))
    arguments = {
        "balance": (),
        "fills": (DEFAULT_SYMBOL, 0),
        "closed_bars": (DEFAULT_SYMBOL, "1Minute", 3),
    }
    for name in names:
        read_it = getattr(venue, name)
        with pytest.raises(UnreadableError, match=f"{name}: a fault on purpose"):
            now(read_it(*arguments.get(name, (DEFAULT_SYMBOL,))))
        now(read_it(*arguments.get(name, (DEFAULT_SYMBOL,))))
    venue, _ = faulty(position=Fault.UNKNOWN, closed_bars=Fault.MISSING_BAR)
    assert isinstance(position(venue), Unknown)
    venue.advance()
    late, whole = (now(venue.closed_bars(DEFAULT_SYMBOL, "1Minute", 9)) for _ in range(2))
    np.testing.assert_array_equal(late.open_time_ms, whole.open_time_ms[:-1])


def test_random_faults_are_the_same_for_one_seed() -> None:
    one, two, other = random_faults(1, 0.5), random_faults(1, 0.5), random_faults(2, 0.5)

    def drawn(faults: Any) -> list[Any]:
        return [
            faults(name, n) for name in ("submit", "position", "closed_bars") for n in range(60)
        ]

    assert drawn(one) == drawn(two) != drawn(other)
    assert set(drawn(one)) == {None, *Fault}
    assert set(drawn(random_faults(1, 0.0))) == {None}
    with pytest.raises(ValueError, match="probability"):
        random_faults(1, 1.5)
