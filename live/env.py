"""Environments that trade: the offline names and calls, on an exchange instead of on past bars.

`step` applies an action now and returns what the next closed bar shows. The same planner, gate,
journal and venue adapters as those of the daemon; paper or demo accounts unless two switches say
otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import jax
import numpy as np

from jaxtrade import rewards
from jaxtrade.core.account import ACCOUNT_STATE_LABELS
from live.clock import Clock, SystemClock, newest_closed_bar, next_tick, synchronise
from live.config.environments import (
    BybitFuturesSLTPTradingEnvConfig,
    BybitFuturesTradingEnvConfig,
    ExchangeEnvConfig,
)
from live.journal import Journal
from live.planner.decision import SymbolState
from live.replay import EndOfDataError
from live.risk import Latch, RiskConfig, TradingState
from live.runner import decision_of, observer_of, set_up
from live.secrets import read_secrets
from live.timing import OffsetEstimator
from live.trading.desk import Desk
from live.trading.trader import SymbolTrader, TraderConfig, View
from live.types import Held, UnreadableError
from live.venue import Venue
from live.venues.bybit import BybitVenue
from live.venues.split import SplitVenue

Observation = dict[str, np.ndarray]

_MINUTES_PER_YEAR = 365 * 24 * 60
_RUIN_REWARD = -10.0


class LiveObservationHalt(RuntimeError):  # noqa: N818  (a name users know)
    """Bars could not be read for too long: the environment stopped, protective orders stay."""


class ExchangeTradingEnv:
    """Base of the environments that trade; see the class of a venue.

    Building one makes no network call. Coroutines ``reset`` and ``step``; `sync` gives the same
    calls to programs without an event loop.

    Args:
      config: of the venue's environment.
      api_key, api_secret: else from the environment's variables; unused with ``trader``.
      feature_preprocessing_fn: features instead of the default ones, as offline.
      reward_function: name, pair or weights, as the offline configuration takes them.
      observer: a venue to read bars and quotes from. trader: one to trade on; both may be one
        `live.replay.ReplayVenue`. None = the exchange.
      journal: None keeps one in memory. risk: limits. clock: None = that of the replay, or the
        machine's, set by the venue. bar_delay: waited after a bar before it is read, seconds.
      enforce_risk: None = everywhere but in a replay, whose steps are to equal the environment's.
    """

    config_class: ClassVar[type[ExchangeEnvConfig]] = ExchangeEnvConfig
    account_state_labels = ACCOUNT_STATE_LABELS

    def __init__(
        self,
        config: ExchangeEnvConfig | None = None,
        *,
        api_key: str | None = None,
        api_secret: str | None = None,
        feature_preprocessing_fn: Callable[..., Any] | None = None,
        reward_function: Any = "log_return",
        observer: Venue | None = None,
        trader: Venue | None = None,
        journal: Journal | None = None,
        risk: RiskConfig | None = None,
        clock: Clock | None = None,
        bar_delay: float = 1.0,
        enforce_risk: bool | None = None,
    ) -> None:
        self.config: Any = self.config_class() if config is None else config
        if not isinstance(self.config, self.config_class):
            raise ValueError(
                f"config: must be a {self.config_class.__name__}; got {type(self.config).__name__}."
            )
        self._given = {"api_key": api_key, "api_secret": api_secret}
        self._features = feature_preprocessing_fn or "default"
        self._observer, self._trades = observer, trader
        self._journal, self._risk = journal, risk or RiskConfig()
        self._clock, self._delay, self._enforce = clock, bar_delay, enforce_risk
        minutes = self.config.execution_frame.minutes
        self._reward, _ = rewards.resolve(reward_function, _MINUTES_PER_YEAR / minutes)
        self.history: list[dict[str, Any]] = []
        self._running: _Running | None = None
        self._terminated = False

    @property
    def market_data_keys(self) -> tuple[str, ...]:
        """Keys of the windows in an observation."""
        return self.config.market_data_keys

    async def reset(self) -> tuple[Observation, dict[str, Any]]:
        """Connect where that was not done, and show the newest closed bar; trades nothing.

        Raises:
          UnreadableError: the account or a frame cannot be read; nothing was flattened.
        """
        running = await self._start()
        replay = getattr(running.venue, "reset", None)
        if replay is not None:
            replay()
            running.forget()
        if self.config.close_position_on_reset:
            await running.trader.flatten("reset")
        self.history = []
        view = await running.look()
        running.begin(self._reward, self._parameters())
        self._row(view, None)
        return view.observation, self._info(view)

    async def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply an action now; observation, reward and flags of the next closed bar.

        Raises:
          LiveObservationHalt: too many bars in a row could not be read.
          RuntimeError: before `reset`, or after the account was terminated.
        """
        running = self._running
        if running is None or running.view is None:
            raise RuntimeError("step: call reset() first.")
        if self._terminated:
            raise RuntimeError("step: the account is terminated; nothing can be opened any more.")
        before = running.view
        acted = await running.trader.act(before, action)
        try:
            view = await running.next(self.config, self._delay)
        except EndOfDataError:
            info = self._info(before) | {"end_of_data": True}
            return before.observation, 0.0, False, True, info
        reward = running.reward(before, view, acted, self._reward, self._parameters())
        self._row(view, action)
        if self.config.done_on_bankruptcy and running.bankrupt(self.config.bankrupt_threshold):
            self._terminated = True
            running.desk.latch(Latch(TradingState.HALTED, "bankrupt", "equity below the threshold"))
            await running.trader.flatten("bankrupt")
        truncated = bool(getattr(running.venue, "exhausted", False))
        info = self._info(view) | {
            "decision": str(acted.decision),
            "refused": acted.refused,
            "client_ids": [sent.order.client_id for sent in acted.sent],
            "missed_bars": view.bars_passed - 1,
        }
        return view.observation, reward, self._terminated, truncated, info

    async def close(self, **unknown: Any) -> None:
        """Release connections; never flattens, never removes protection, never raises."""
        del unknown
        running, self._running = self._running, None
        if running is not None:
            await running.trader.close()
            await running.venue.close()
            if self._journal is None:
                running.journal.close()

    @contextlib.contextmanager
    def sync(self) -> Iterator[BlockingEnv]:
        """The same calls, blocking, on an event loop of their own thread."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="jaxtrade-env", daemon=True)
        thread.start()
        blocking = BlockingEnv(self, loop)
        try:
            yield blocking
        finally:
            blocking.close()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    # What a venue supplies.

    def _exchange(self, keys: Mapping[str, Any], clock: Clock) -> Venue:
        raise NotImplementedError

    # The pieces.

    async def _start(self) -> _Running:
        if self._running is not None:
            return self._running
        venue, clock = await self._connected()
        instrument = await set_up(venue, self.config)
        account = await venue.account()
        journal = self._journal or Journal.open(
            None, account_id=account.account_id, strategy_id="env", now_ms=clock.now_ms
        )
        decision = decision_of(self.config, instrument)
        replay = hasattr(venue, "advance")
        observer = observer_of(self.config, decision, features=self._features, replay=replay)
        desk = Desk(journal, self._risk)
        disaster = getattr(self.config, "disaster_stop_fraction", None)
        trader = SymbolTrader(
            venue,
            journal,
            clock,
            instrument,
            observer,
            TraderConfig(
                decision=decision,
                risk=self._risk,
                enforce_risk=not replay if self._enforce is None else self._enforce,
                disaster_stop=None if replay else disaster,
            ),
            standing=lambda: desk.standing,
            latch=desk.latch,
        )
        self._running = _Running(venue, clock, journal, desk, trader)
        return self._running

    async def _connected(self) -> tuple[Venue, Clock]:
        given = self._clock or getattr(self._trades, "clock", None)
        if self._trades is not None and given is not None:
            venue = self._trades
            if self._observer is not None and self._observer is not venue:
                venue = SplitVenue(self._observer, venue)
            await venue.connect()
            return venue, given
        estimator = OffsetEstimator()
        clock = SystemClock(estimator)
        trades = self._trades
        if trades is None:
            keys = read_secrets(self.config.constants.secrets, given=self._given)
            trades = self._exchange(keys, clock)
        venue = trades if self._observer is None else SplitVenue(self._observer, trades)
        await venue.connect()
        await synchronise(clock, estimator, venue.server_time)
        return venue, clock

    def _parameters(self) -> Any:
        weights = np.ones(1)
        return SimpleNamespace(
            cash_low=np.float64(1),
            ruin_reward=np.float64(_RUIN_REWARD),
            reward_weights=weights,
        )

    def _row(self, view: View, action: Any) -> None:
        """One row of the history: everything after the bar."""
        position = view.snapshot.position
        self.history.append(
            {
                "bar_open_ms": view.snapshot.bar_open_ms,
                "price": float(view.snapshot.quote.mark),
                "action": action,
                "equity": float(view.snapshot.balance.equity),
                "quantity": float(position.quantity) if isinstance(position, Held) else 0.0,
            }
        )

    def _info(self, view: View) -> dict[str, Any]:
        snapshot = view.snapshot
        return {
            "bar_open_ms": snapshot.bar_open_ms,
            "venue_time_ms": snapshot.venue_time_ms,
            "equity": float(snapshot.balance.equity),
            "position": snapshot.position,
        }


class _Running:
    """What exists between the first `reset` and `close`."""

    def __init__(
        self, venue: Venue, clock: Clock, journal: Journal, desk: Desk, trader: SymbolTrader
    ) -> None:
        self.venue, self.clock, self.journal = venue, clock, journal
        self.desk, self.trader = desk, trader
        self.view: View | None = None
        self._carry: Any = ()
        self._action: int | None = None
        self._initial = 0.0

    def forget(self) -> None:
        """The account began anew, and so does the memory."""
        self.trader.state = SymbolState.start()
        self.trader.view = None

    def begin(self, reward: Any, parameters: Any) -> None:
        """The first equity of an episode."""
        assert self.view is not None
        self._initial = float(self.view.snapshot.balance.equity)
        self._carry, self._action = reward.init(parameters), None

    async def look(self) -> View:
        """The newest closed bar."""
        bar = getattr(self.venue, "bar_open_ms", None)
        if bar is None:
            bar = newest_closed_bar(self.clock.now_ms(), self.trader.bar_ms)
        self.view = await self.trader.look(bar)
        self.desk.read(self.view.snapshot)
        return self.view

    async def next(self, config: Any, delay: float) -> View:
        """The next bar that can be read."""
        assert self.view is not None
        advance = getattr(self.venue, "advance", None)
        failed = 0
        after = self.view.snapshot.bar_open_ms
        while True:
            if advance is not None:
                advance()
            else:
                delay_ms = round(delay * 1000)
                tick = await next_tick(
                    self.clock, self.trader.bar_ms, after=after, delay_ms=delay_ms
                )
                after = tick.bar_open_ms
            try:
                return await self.look()
            except UnreadableError as error:
                failed += 1
                if failed < config.unreadable_grace_bars:
                    continue
                self.desk.latch(Latch(TradingState.HALTED, "observation", str(error)))
                if config.observation_failure_policy == "flatten":
                    await self.trader.flatten("unreadable")
                raise LiveObservationHalt(str(error)) from error

    def bankrupt(self, threshold: float) -> bool:
        """Whether the account is worth too little to go on."""
        assert self.view is not None
        equity = float(self.view.snapshot.balance.equity)
        return not equity > threshold * self._initial

    def reward(self, before: View, after: View, acted: Any, reward: Any, parameters: Any) -> float:
        """The configured reward of one bar, in float64."""
        first, second = before.snapshot, after.snapshot
        equity = float(second.balance.equity)
        with jax.enable_x64(True):
            seen: dict[str, Any] = {
                "equity_before": np.float64(float(first.balance.equity)),
                "equity_after": np.float64(equity),
                "initial_equity": np.float64(self._initial),
                "price_before": np.float64(float(first.quote.mark)),
                "price_after": np.float64(float(second.quote.mark)),
                "quantity": np.float64(_quantity(second)),
                "filled": np.bool_(any(sent.executed for sent in acted.sent)),
                "action_changed": np.bool_(self._changed(acted)),
                "wiped": np.bool_(not equity > 0),
            }
            given = rewards.RewardInput(**seen)
            value, self._carry = reward.update(self._carry, given, parameters)
        return float(value)

    def _changed(self, acted: Any) -> bool:
        """Whether the action is another one than that of the step before."""
        action, before = acted.plans[0].action, self._action
        self._action = action
        return before is not None and action != before


class BlockingEnv:
    """An environment for programs without an event loop; made by `ExchangeTradingEnv.sync`."""

    def __init__(self, env: ExchangeTradingEnv, loop: asyncio.AbstractEventLoop) -> None:
        self.env, self._loop = env, loop

    def reset(self) -> tuple[Observation, dict[str, Any]]:
        """See `ExchangeTradingEnv.reset`."""
        return asyncio.run_coroutine_threadsafe(self.env.reset(), self._loop).result()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See `ExchangeTradingEnv.step`."""
        return asyncio.run_coroutine_threadsafe(self.env.step(action), self._loop).result()

    def close(self) -> None:
        """See `ExchangeTradingEnv.close`."""
        asyncio.run_coroutine_threadsafe(self.env.close(), self._loop).result()


class BybitFuturesTradingEnv(ExchangeTradingEnv):
    """USDT perpetuals of Bybit with fractional levels: the live twin of `SequentialTradingEnv`."""

    config_class = BybitFuturesTradingEnvConfig

    @property
    def action_levels(self) -> tuple[float, ...]:
        """Level of every action."""
        return self.config.levels

    def _exchange(self, keys: Mapping[str, Any], clock: Clock) -> Venue:
        return _bybit(self.config, keys, clock)


class BybitFuturesSLTPTradingEnv(ExchangeTradingEnv):
    """USDT perpetuals of Bybit with brackets: the live twin of `SequentialTradingEnvSLTP`."""

    config_class = BybitFuturesSLTPTradingEnvConfig

    @property
    def action_map(self) -> dict[int, tuple[int, float, float]]:
        """Action -> (side, stop, target) as the configuration tables them."""
        return self.config.action_map

    def _exchange(self, keys: Mapping[str, Any], clock: Clock) -> Venue:
        return _bybit(self.config, keys, clock)


def _bybit(config: Any, keys: Mapping[str, Any], clock: Clock) -> Venue:
    return BybitVenue(keys["api_key"], keys["api_secret"], clock=clock, demo=config.demo)


def _quantity(snapshot: Any) -> float:
    position = snapshot.position
    return float(position.quantity) if isinstance(position, Held) else 0.0
