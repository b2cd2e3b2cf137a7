"""One course of an environment, and what a replay or an exchange has to come to as well."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxtrade import (
    Rules,
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
)
from jaxtrade.core import brackets, exits
from jaxtrade.market import datasets
from live.config.environments import BybitFuturesSLTPTradingEnvConfig, BybitFuturesTradingEnvConfig
from live.env import BybitFuturesSLTPTradingEnv, BybitFuturesTradingEnv
from live.exchange.book import Execution, OrderKind
from live.exchange.prices import Candle, PricePath
from live.exchange.server import ExchangeServer
from live.replay import ReplayVenue
from live.replay.data import ReplayData
from live.replay.money import ReplayTerms
from live.types import Fill, FillKind, Instrument
from tests.live.harness import (
    BTC,
    SYMBOL,
    AdapterClock,
    ServerClock,
    exchange,
    fine,
    venue_of,
)

MINUTE = 60_000
LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)
STOPS = {"stoploss_levels": (-0.004, -0.01), "takeprofit_levels": (0.004, 0.015)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What every side is told.

    Attributes:
      brackets: entries with a stop and a target instead of levels. frames: of the observation.
      costs: transaction_fee, half_spread, slippage. fields: others that both configurations have.
    """

    brackets: bool = False
    leverage: float = 1.0
    frames: dict[str, Any]
    costs: dict[str, float] = dataclasses.field(default_factory=dict)
    rules: Rules = Rules()
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    cash: float = 10_000.0
    maintenance_rate: float = 0.004

    @property
    def shared(self) -> dict[str, Any]:
        """Fields that the configurations offline and live spell alike."""
        actions: dict[str, Any] = STOPS if self.brackets else {"action_levels": LEVELS}
        return {
            **actions,
            **self.frames,
            **self.fields,
            "leverage": self.leverage,
            "maintenance_margin_rate": self.maintenance_rate,
            "bankrupt_threshold": 0.0,
            "rules": self.rules,
        }

    @property
    def cost(self) -> dict[str, float]:
        """Every cost."""
        return {"transaction_fee": 0.0, "half_spread": 0.0, "slippage": 0.0, **self.costs}

    def offline(self, frame: Any) -> Any:
        """The environment; an episode ends when nothing is left or with the data."""
        given = {
            **self.shared,
            **self.cost,
            "initial_cash": self.cash,
            "random_start": False,
            "max_steps": None,
            "observation": "dict",
        }
        if self.brackets:
            return SequentialTradingEnvSLTP(frame, SequentialTradingEnvSLTPConfig(**given))
        return SequentialTradingEnv(frame, SequentialTradingEnvConfig(**given))

    def live(self, venue: Any, **options: Any) -> Any:
        """The environment that trades on a venue."""
        given = {
            **self.shared,
            "symbol": SYMBOL,
            "transaction_fee": self.cost["transaction_fee"],
            "done_on_bankruptcy": False,
        }
        if self.brackets:
            settings = BybitFuturesSLTPTradingEnvConfig(**given)
            return BybitFuturesSLTPTradingEnv(settings, trader=venue, **options)
        # No stop of last resort: offline, levels go all the way to their liquidation.
        settings = BybitFuturesTradingEnvConfig(**given, disaster_stop_fraction=None)
        return BybitFuturesTradingEnv(settings, trader=venue, **options)

    def terms(self) -> ReplayTerms:
        """The account of a replay."""
        return ReplayTerms(
            initial_cash=self.cash,
            leverage=self.leverage,
            maintenance_margin_rate=self.maintenance_rate,
            rules=self.rules,
            **self.cost,
        )


@dataclasses.dataclass(frozen=True)
class Step:
    """One step offline: what was shown before it, and what is true after it.

    Attributes:
      info: the step record. account: leaves are NumPy scalars.
    """

    action: int
    shown: dict[str, np.ndarray]
    account: Any
    reward: float
    info: dict[str, Any]

    @property
    def equity(self) -> float:
        return float(self.info["equity"])

    @property
    def quantity(self) -> float:
        return float(self.account.quantity)


class Course:
    """An environment that is stepped by hand, in float64; compiled once.

    Args:
      clear: sit out every bar whose inside decides: one that touches stop and target, or opens
        beyond the target. Needs a CLOSE action.
    """

    def __init__(self, case: Case, frame: Any, *, clear: bool = False) -> None:
        self.case, self.clear = case, clear
        with jax.enable_x64(True):
            self.env = case.offline(frame)
            params = self.params = self.env.default_params
            self._observe = jax.jit(lambda state: self.env.observe(None, state, None, params))
            self._step = jax.jit(lambda *given: self.env.transition(*given, params))
            self._doubtful = jax.jit(self._in_doubt)

    def _in_doubt(self, state: Any, action: Any) -> Any:
        """Whether the order of events inside the next bar would decide what it does."""
        env, params = self.env, self.params
        market = params.market
        opening, high, low, _ = market.ohlcv[state.bar + 1, :4]
        terms = env.terms(params)
        account, _ = env._ordered(
            state, action, opening, jnp.float64(0.5), True, env._costs(params), terms
        )
        liquidation, stop, target = exits.touched(account, high, low, terms, brackets=True)
        side = jnp.sign(account.quantity)
        beyond = target & (side * opening > side * account.target_price)
        return beyond | (target & (stop | liquidation))

    def run(
        self,
        bar: int,
        steps: int,
        actions: Callable[[int], int],
        draws: Sequence[float] | np.ndarray,
    ) -> list[Step]:
        """Steps from an execution bar until ``steps`` are made or the episode is over."""
        made: list[Step] = []
        with jax.enable_x64(True):
            cash = jnp.asarray(self.case.cash, jnp.float64)
            state = self.env.initial_state(jnp.int32(bar), cash, self.params)
            last = int(self.params.market.last)
            while len(made) < steps and int(state.bar) < last:
                action = actions(len(made))
                if self.clear and bool(self._doubtful(state, jnp.int32(action))):
                    action = self.env.action_table.sides.index(brackets.CLOSE)
                shown = jax.device_get(self._observe(state))
                draw = jnp.float64(draws[len(made)])
                state, reward, ended, info = self._step(state, jnp.int32(action), draw)
                account, reward, ended, info = jax.device_get((state.account, reward, ended, info))
                made.append(Step(action, shown, account, float(reward), info))
                if ended:
                    break
        return made


def repeated(generator: np.random.Generator, count: int, number: int, longest: int = 5) -> Any:
    """[count] random actions, each kept for one to ``longest`` steps."""
    lengths = generator.integers(1, longest + 1, count)
    return np.repeat(generator.integers(0, number, count), lengths)[:count]


def stepped(actions: Any) -> Callable[[int], int]:
    """Given actions, one after the other."""
    return lambda i: int(actions[i])


# Replay -----------------------------------------------------------------------------------------


def data_of(case: Case, frame: Any) -> ReplayData:
    """The bars of a case."""
    return ReplayData.from_frame(frame, **case.frames, rules=case.rules)


def check_replay(case: Case, data: ReplayData, bar: int, steps: list[Step], draws: Any) -> int:
    """Trade a course on a replay: everything is equal; how many steps ended with a position."""
    venue = ReplayVenue(
        data,
        case.terms(),
        symbol=SYMBOL,
        draws=np.asarray(draws)[: len(steps)],
        start=data.open_ms(bar),
    )
    within = 1e-9 * case.cash

    async def trade() -> int:
        env = case.live(venue, observer=venue)
        observation, _ = await env.reset()
        opened = 0
        for i, step in enumerate(steps):
            for key, part in step.shown.items():
                np.testing.assert_array_equal(observation[key], part, err_msg=f"{i} {key}")
            known = len(await venue.fills(SYMBOL, 0))
            observation, gained, *_ = await env.step(step.action)
            standing, account, info = venue.standing, step.account, step.info
            assert standing.equity == pytest.approx(step.equity, abs=within), i
            assert standing.cash == pytest.approx(float(account.cash), abs=within), i
            assert standing.quantity == pytest.approx(step.quantity, rel=1e-9, abs=1e-12), i
            assert standing.entry == pytest.approx(float(account.entry_price), rel=1e-9), i
            if case.brackets:
                assert standing.stop == pytest.approx(float(account.stop_price), rel=1e-9), i
                assert standing.target == pytest.approx(float(account.target_price), rel=1e-9), i
            assert gained == pytest.approx(step.reward, abs=1e-8), i
            passed = venue.records[-1]
            assert passed.exit_kind == info["exit_kind"], i
            exit_price = float(info["exit_price"])
            assert passed.exit_price == pytest.approx(exit_price, rel=1e-9, nan_ok=True), i
            fills = (await venue.fills(SYMBOL, 0))[known:]
            fees = sum(float(fill.fee) for fill in fills if fill.quantity)
            assert fees == pytest.approx(float(info["fee"]), abs=within), i
            paid = sum(float(fill.fee) for fill in fills if not fill.quantity)
            assert paid == pytest.approx(float(info["funding"]), abs=within), i
            opened += standing.quantity != 0
        await env.close()
        return opened

    return asyncio.run(trade())


# The local exchange -----------------------------------------------------------------------------

_EXITS = {
    OrderKind.STOP_LOSS: exits.STOP,
    OrderKind.TAKE_PROFIT: exits.TARGET,
    OrderKind.LIQUIDATION: exits.LIQUIDATION,
}


class EarlyPath(PricePath):
    """Prices of a market whose bar is published in its last millisecond."""

    def candles(self, minutes: int, start_ms: int, end_ms: int, now_ms: int) -> list[Candle]:
        return super().candles(minutes, start_ms, end_ms, now_ms + 1)


class HastyClock(AdapterClock):
    """Makes requests wait for nothing: hours of looking pass in seconds of real time."""

    def monotonic(self) -> float:
        return 100 * super().monotonic()

    async def sleep_until(self, time_ms: int) -> None:
        await asyncio.sleep((time_ms - self.now_ms()) / 100_000)


class EarlyClock(ServerClock):
    """What an exchange shows when it is one millisecond ahead of its prices."""

    def now_ms(self) -> int:
        return super().now_ms() + 1

    async def sleep_until(self, time_ms: int) -> None:
        await super().sleep_until(time_ms - 1)


class OpenPath(PricePath):
    """Prices of a market in which orders go before the stops that a jump to an open reaches."""

    def first(self, level: Decimal, falling: bool, start_ms: int, end_ms: int) -> int | None:
        found = super().first(level, falling, start_ms, end_ms)
        # They trade at the same price as soon as time moves on.
        return None if found == end_ms and self.jumps_at(end_ms) else found


def at_the_open(server: ExchangeServer) -> ServerClock:
    """Have orders of a bar's first instant trade at its open, before its stops; the clock.

    That is ``fill_at = "next_open"``: a decision at the end of a bar is carried out at the first
    price of the next one, on what the bar before has left.
    """
    engine = server.engine
    engine.paths[BTC] = OpenPath(engine.paths[BTC].series, engine.paths[BTC].tick)
    return ServerClock(server)


def in_last_millisecond(server: ExchangeServer) -> EarlyClock:
    """Have an exchange show the time a millisecond early; the clock of its client.

    A decision at the end of a bar trades at the bar's last price then, as in the environment. At
    the boundary itself the market has come to the first price of the next bar already.
    """
    engine = server.engine
    server.clock_offset(0.001)
    engine.paths[BTC] = EarlyPath(engine.paths[BTC].series, engine.paths[BTC].tick)
    return EarlyClock(server)


def unit_steps(prices: pd.DataFrame) -> Instrument:
    """An instrument whose lots and ticks are too small to be seen at these prices."""
    price = float(prices["close"].median())
    lot, tick = (Decimal(f"1e{int(np.floor(np.log10(x)))}") for x in (1e-4 / price, 1e-14 * price))
    return dataclasses.replace(
        fine(),
        quantity_step=lot,
        min_quantity=lot,
        tick=tick,
        max_market_quantity=Decimal(f"{1e9 / price:.0f}"),
    )


@dataclasses.dataclass
class Seen:
    """What a comparison came across, so that a test can ask whether it compared anything.

    Attributes:
      worst: largest difference of the equity, quote units.
      paid: side of the position and sign of the payment, of every funding.
    """

    held: int = 0
    exits: set[int] = dataclasses.field(default_factory=set)
    worst: float = 0.0
    paid: set[tuple[int, int]] = dataclasses.field(default_factory=set)


def check_exchange(
    case: Case,
    frame: pd.DataFrame,
    history: int,
    steps: list[Step],
    instrument: Instrument,
    *,
    exact: bool,
) -> Seen:
    """Trade a course through the adapter on the local exchange, and compare.

    Args:
      history: rows before the first bar that passes; the course began one row earlier, and its
        client another one.
      exact: the instrument's steps cannot be seen, so that everything is equal to 1e-9.
    """
    instrument = dataclasses.replace(
        instrument,
        taker_fee=Decimal(repr(case.cost["transaction_fee"])),
        maintenance_rate=Decimal(repr(case.maintenance_rate)),
    )
    server = exchange(
        frame,
        history - 2,
        instruments=[instrument],
        initial_balance=Decimal(repr(case.cash)),
        half_spread=Decimal(repr(case.cost["half_spread"])),
        rate_limits=False,
    )
    if case.rules.fill_at == "close":
        clock: ServerClock = in_last_millisecond(server)
        server.advance(MINUTE - 1)
    else:
        clock = at_the_open(server)
        server.advance(MINUTE)
    seen = Seen()
    compared = _Comparison(case, server, instrument, seen, exact)

    async def trade() -> None:
        async with server.running():
            venue = venue_of(server, HastyClock(server))
            env = case.live(venue, clock=clock, bar_delay=0, enforce_risk=False)
            await env.reset()  # which takes its time, and looks twice
            observation, *_ = await env.step(0 if case.brackets else LEVELS.index(0.0))
            for i, step in enumerate(steps):
                compared.observation(i, step, observation, env.market_data_keys)
                known = len(server.engine.executions(BTC))
                observation, _, terminated, _, info = await env.step(step.action)
                assert not terminated
                executions = server.engine.executions(BTC)[known:]
                compared.account(i, step, executions)
                compared.booked(i, info["fills"], executions)
            await env.close()

    asyncio.run(trade())
    return seen


class _Comparison:
    """The exchange against the course, step by step.

    A difference is allowed of what rounding can have done: a lot of the position times every move
    of the price, and a tick on everything traded; next to nothing where the steps are tiny.
    """

    def __init__(
        self, case: Case, server: ExchangeServer, instrument: Instrument, seen: Seen, exact: bool
    ) -> None:
        self.case, self.engine, self.instrument = case, server.engine, instrument
        self.seen, self.exact = seen, exact
        self.at_close = case.rules.fill_at == "close"
        self._allowed = 1e-9 * case.cash
        self._mark = float(self._close())
        # Executions that the adapter has not told of.
        self._untold: dict[str, Execution] = {}

    def _close(self) -> Decimal:
        """The last price of the newest bar that is over."""
        now = self.engine.now_ms
        return self.engine.paths[BTC].mark(now if self.at_close else now - 1)

    def observation(
        self, i: int, step: Step, shown: dict[str, np.ndarray], keys: Sequence[str]
    ) -> None:
        for key in keys:
            np.testing.assert_array_equal(shown[key], step.shown[key], err_msg=f"{i} {key}")
        if self.exact and self.at_close:  # the open has another equity than the close
            # Computed from decimals there; an entry price has eight of them on the wire.
            np.testing.assert_allclose(
                shown["account_state"],
                step.shown["account_state"],
                rtol=2e-6,
                atol=1e-7 + 1e-8 / self._mark,
            )

    def account(self, i: int, step: Step, executions: list[Execution]) -> None:
        lot, tick = float(self.instrument.quantity_step), float(self.instrument.tick)
        close = self._close()
        mark = float(close)
        moved, traded = abs(mark - self._mark), sum(float(e.quantity) for e in executions)
        self._allowed += 3 * lot * moved + 2 * tick * traded + lot * mark * 0.001
        self._mark = mark
        error = abs(float(self.engine.account.equity({BTC: close})) - step.equity)
        self.seen.worst = max(self.seen.worst, error)
        assert error <= self._allowed, (i, error, self._allowed)
        found = float(self.engine.position(BTC))
        lots = 2.5 * lot if self.exact else self._lots(lot, mark)
        assert found == pytest.approx(step.quantity, rel=1e-9, abs=lots), i
        self.seen.held += found != 0
        self._fills(i, step, executions, lots, 0.0 if self.exact else 2 * tick)

    def _lots(self, lot: float, mark: float) -> float:
        """What equity that is off by the allowance sizes differently, and a lot of rounding."""
        return 2.5 * lot + self._allowed * self.case.leverage / mark

    def _fills(
        self, i: int, step: Step, executions: list[Execution], lots: float, ticks: float
    ) -> None:
        """The same trades at the same prices, for the same reasons."""
        info = step.info
        funding = [e for e in executions if e.kind is FillKind.FUNDING]
        trades = [e for e in executions if e.kind is not FillKind.FUNDING]
        ordered = [e for e in trades if e.order_kind is OrderKind.MARKET]
        ended = [e for e in trades if e.order_kind is not OrderKind.MARKET]
        signed = sum(float(e.side.sign * e.quantity) for e in ordered)
        assert signed == pytest.approx(float(info["fill_quantity"]), rel=1e-9, abs=2 * lots), i
        for e in ordered:
            assert float(e.price) == pytest.approx(float(info["fill_price"]), rel=1e-9, abs=ticks)
        kinds = [_EXITS[e.order_kind] for e in ended if e.order_kind in _EXITS]
        assert kinds == ([] if info["exit_kind"] == exits.NO_EXIT else [info["exit_kind"]]), i
        for e in ended:
            assert float(e.price) == pytest.approx(float(info["exit_price"]), rel=1e-9, abs=ticks)
        self.seen.exits |= set(kinds)
        paid, rates = sum(float(e.fee) for e in funding), 0.0
        if funding:
            assert self.seen.held and float(funding[0].price) == self._mark, i
            self.seen.paid.add((funding[0].side.sign, 1 if paid > 0 else -1))
            rates = abs(paid) / (float(funding[0].quantity) * self._mark)
        within = 1e-9 * self.case.cash + (0 if self.exact else rates * lots * self._mark)
        assert paid == pytest.approx(float(info["funding"]), abs=within), i
        if self.exact:
            fees = sum(float(e.fee) for e in trades)
            assert fees == pytest.approx(float(info["fee"]), abs=1e-9 * self.case.cash), i

    def booked(self, i: int, fills: Sequence[Fill], executions: list[Execution]) -> None:
        """What the adapter told of, to the eight decimals of the wire, a step later at the most."""
        new = {e.execution_id: e for e in executions}
        for fill in fills:
            e = self._untold.pop(fill.trade_id, None) or new.pop(fill.trade_id)
            assert fill.kind is e.kind, i
            assert fill.quantity == (0 if e.kind is FillKind.FUNDING else e.quantity), i
            assert float(fill.fee) == pytest.approx(float(e.fee), abs=1e-8), i
            assert float(fill.price) == pytest.approx(float(e.price), rel=1e-12), i
        assert not self._untold, (i, self._untold)
        self._untold = new


# Prices -----------------------------------------------------------------------------------------


def cut(frame: pd.DataFrame, middle: int, before: int, after: int) -> pd.DataFrame:
    """Rows around one of them, from a whole five minutes on."""
    start = max(middle - before, 0)
    start += -int(pd.to_datetime(frame["timestamp"].iloc[start], utc=True).minute) % 5
    return frame.iloc[start : middle + after].reset_index(drop=True)


def real_minutes(path: Path) -> pd.DataFrame:
    """A month of a perpetual future, with gaps between close and next open."""
    return datasets.read(path)


def wildest(frame: pd.DataFrame, margin: int) -> int:
    """The row, ``margin`` rows from either end, whose bar and the gap before it are the widest."""
    before = frame["close"].shift(1).fillna(frame["open"])
    high = np.maximum(frame["high"], before)
    low = np.minimum(frame["low"], before)
    width = (high / low).to_numpy()
    return margin + int(np.argmax(width[margin : len(width) - margin]))
