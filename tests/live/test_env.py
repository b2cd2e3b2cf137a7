"""The environments that trade: what they tell, refuse, survive, and never do."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.market import synthetic
from live.clock import ClockLimits, SystemClock, synchronise
from live.config.environments import BybitFuturesSLTPTradingEnvConfig, BybitFuturesTradingEnvConfig
from live.env import (
    BybitFuturesSLTPTradingEnv,
    BybitFuturesTradingEnv,
    ExchangeTradingEnv,
    LiveObservationHalt,
)
from live.fields import ConfigError
from live.journal import Journal
from live.replay import EndOfDataError, ReplayVenue
from live.replay.data import ReplayData
from live.replay.faults import Fault, with_faults
from live.replay.money import ReplayTerms
from live.risk import TradingState
from live.timing import OffsetEstimator
from live.types import Balance, FillKind, Flat, Held, UnreadableError
from tests.live.harness import BTC, SYMBOL, exchange, minutes, venue_of
from tests.live.stepping import (
    FLAT,
    FRAMES,
    HISTORY,
    LEVELS,
    LONG,
    MINUTE,
    SHORT,
    Told,
    levels,
    on_exchange,
)

pytestmark = pytest.mark.filterwarnings("ignore:action_levels. negative levels")

CASH = 10_000.0


def frame_of(rows: int = 60, **bars: dict[str, float]) -> pd.DataFrame:
    """Calm minutes at 100; ``bar7={"low": 90.0}`` changes one."""
    prices = {name: np.full(rows, 100.0) for name in ("open", "high", "low", "close")}
    times = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC")
    for name, values in bars.items():
        for column, value in values.items():
            prices[column][int(name[3:])] = value
    frame = pd.DataFrame({"timestamp": times, **prices, "volume": np.full(rows, 5.0)})
    frame["high"] = frame[["open", "high", "close"]].max(axis=1)
    frame["low"] = frame[["open", "low", "close"]].min(axis=1)
    return frame


def replay(frame: pd.DataFrame, **terms: Any) -> ReplayVenue:
    data = ReplayData.from_frame(frame, **FRAMES)
    return ReplayVenue(data, ReplayTerms(initial_cash=CASH, **terms), symbol=SYMBOL)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


# What a step tells ------------------------------------------------------------------------------

INFO = {
    "bar_age_ms",
    "bar_open_ms",
    "client_ids",
    "clock_offset_ms",
    "decision",
    "equity",
    "fills",
    "latencies",
    "local_time_ms",
    "missed_bars",
    "position",
    "refused",
    "terminated",
    "venue_time_ms",
}


def test_info_tells_what_happened_between_two_bars(tmp_path: Path) -> None:
    config = BybitFuturesSLTPTradingEnvConfig(
        **FRAMES,
        symbol=SYMBOL,
        leverage=3,
        transaction_fee=0.0004,
        stoploss_levels=(-0.05,),
        takeprofit_levels=(0.05,),
        trade_mode="fractional",
    )
    venue = replay(frame_of(bar8={"low": 94.0}), leverage=3.0, transaction_fee=0.0004)
    journal = Journal.open(
        tmp_path / "env.db", account_id="replay", strategy_id="t", now_ms=venue.clock.now_ms
    )
    env = BybitFuturesSLTPTradingEnv(config, trader=venue, journal=journal)

    async def test() -> None:
        _, info = await env.reset()
        assert set(info) == INFO
        assert (info["decision"], info["refused"], info["fills"]) == (None, None, ())
        start = info["bar_open_ms"]
        while venue.bar < 7:
            *_, info = await env.step(0)
            assert (info["decision"], info["client_ids"]) == ("hold", [])
        *_, info = await env.step(1)
        assert info["bar_open_ms"] == start + (venue.bar - venue.data.first) * MINUTE
        assert info["venue_time_ms"] == info["local_time_ms"] == info["bar_open_ms"] + MINUTE
        assert (info["bar_age_ms"], info["missed_bars"], info["clock_offset_ms"]) == (0, 0, 0)
        assert info["decision"] == "open"
        # The bar has stopped it out; both fills belong to this step.
        entry, stop = info["fills"]
        assert (entry.client_id, entry.kind) == (info["client_ids"][0], FillKind.TRADE)
        assert entry.quantity == stop.quantity
        assert stop.price == pytest.approx(Decimal(95))
        assert isinstance(info["position"], Flat)
        assert info["equity"] < CASH
        assert info["latencies"]["journal_ms"] > 0
        assert set(info["latencies"]) == {"snapshot_ms", "policy_ms", "submit_ms", "journal_ms"}
        *_, info = await env.step(7)  # no action
        assert (info["decision"], info["refused"]) == ("hold", "invalid_action")
        row = env.history[-2]
        assert (row["side"], row["level"], row["quantity"], row["action"]) == (1, None, 0, 1)
        assert len(env.history) == venue.bar - venue.data.first + 1
        await env.close()
        journal.close()

    run(test())


@pytest.mark.parametrize("reward", [{"log_return": 1.0, "activity": 0.5}, "position_return"])
def test_rewards_are_those_of_the_environment(reward: Any) -> None:
    frame = synthetic.minutes(1, 120, volatility=0.002)
    offline = SequentialTradingEnv(
        frame,
        SequentialTradingEnvConfig(
            **FRAMES,
            leverage=3.0,
            action_levels=LEVELS,
            transaction_fee=0.0004,
            reward=reward,
            initial_cash=CASH,
            random_start=False,
        ),
    )
    venue = replay(frame, leverage=3.0, transaction_fee=0.0004)
    env = levels(venue, transaction_fee=0.0004, reward_function=reward)
    actions = [LONG, LONG, SHORT, FLAT, FLAT, LONG, FLAT, SHORT]
    with jax.enable_x64(True):
        params, expected = offline.default_params, []
        state = offline.initial_state(jnp.int32(venue.bar), jnp.float64(CASH), params)
        step = jax.jit(offline.transition)
        for action in actions:
            state, value, *_ = step(state, jnp.int32(action), jnp.float64(0.5), params)
            expected.append(float(value))

    async def test() -> None:
        await env.reset()
        gained = [(await env.step(action))[1] for action in actions]
        assert gained == pytest.approx(expected, abs=1e-9)

    assert len(set(expected)) > 4
    run(test())


# Replays ----------------------------------------------------------------------------------------


def test_a_replay_begins_anew_at_every_reset_and_ends_with_a_flag() -> None:
    venue = replay(frame_of(10, bar9={"close": 101.0}), leverage=3.0)
    env = levels(venue)

    async def test() -> None:
        episodes = []
        for _ in range(2):
            observation, _ = await env.reset()
            seen = [observation["market_data_1Minute"]]
            rewards, truncated = [], False
            while not truncated:
                observation, reward, terminated, truncated, info = await env.step(LONG)
                assert not terminated
                seen.append(observation["market_data_1Minute"])
                rewards.append(reward)
            with pytest.raises(EndOfDataError, match="last bar; call reset"):
                await env.step(LONG)
            assert len(env.history) == len(seen) == venue.data.last - venue.data.first + 1
            episodes.append((rewards, np.stack(seen), info["equity"]))
        assert episodes[0][0] == episodes[1][0]
        np.testing.assert_array_equal(episodes[0][1], episodes[1][1])
        assert episodes[0][2] == episodes[1][2] > CASH
        assert env.observation_shapes == {
            "market_data_1Minute": seen[-1].shape,
            "account_state": (6,),
        }

    run(test())


def test_a_journal_that_is_given_cannot_be_rewound() -> None:
    venue = replay(frame_of(), leverage=3.0)
    journal = Journal.open(None, account_id="r", strategy_id="t", now_ms=venue.clock.now_ms)
    env = levels(venue, journal=journal)

    async def test() -> None:
        await env.reset()
        await env.step(LONG)
        assert journal.position(SYMBOL) > 0
        with pytest.raises(ValueError, match="reset: the journal has decided the bars"):
            await env.reset()
        # Another life on the same journal: this bar was decided.
        again = levels(venue, journal=journal)
        await again.reset()
        *_, info = await again.step(LONG)
        assert (info["decision"], info["refused"]) == ("hold", "repeated_bar")

    run(test())


def test_a_wiped_out_replay_is_terminated_until_it_begins_anew() -> None:
    venue = replay(frame_of(bar8={"low": 50.0, "close": 60.0}), leverage=3.0)
    env = levels(venue)

    async def test() -> None:
        await env.reset()
        terminated = False
        while not terminated:
            *_, terminated, _, info = await env.step(LONG)
        assert venue.bar == 8
        assert (info["terminated"], info["equity"]) == (True, pytest.approx(0.012 * CASH))
        with pytest.raises(RuntimeError, match=r"terminated: .*rearm"):
            await env.step(LONG)
        _, info = await env.reset()
        assert (info["terminated"], info["equity"]) == (False, CASH)
        await env.step(LONG)

    run(test())


# Reads that fail --------------------------------------------------------------------------------


class Failing:
    """A replay whose reads of some names fail while the test says so."""

    def __init__(self, frame: pd.DataFrame | None = None, **terms: Any) -> None:
        self.behind = replay(frame_of() if frame is None else frame, leverage=3.0, **terms)
        self.names: set[str] = set()
        self.refuses = False
        self.venue = with_faults(self.behind, self._fault)

    def _fault(self, name: str, number: int) -> Fault | None:
        if name == "submit":
            return Fault.REJECTED if self.refuses else None
        return Fault.UNREADABLE if name in self.names else None


async def broken_at(env: ExchangeTradingEnv, failing: Failing, *names: str) -> None:
    """Open a position, then let reads fail."""
    await env.reset()
    await env.step(LONG)
    failing.names.update(names)


def test_bars_that_cannot_be_read_are_spanned() -> None:
    failing = Failing(frame_of(bar9={"close": 102.0}))
    env = levels(failing.venue)

    async def test() -> None:
        await env.reset()
        while failing.behind.bar < 7:
            await env.step(FLAT)
        before = await env.step(LONG)
        count = 0

        def fault(name: str, number: int) -> Fault | None:
            nonlocal count
            count += name == "balance"
            return Fault.UNREADABLE if name == "balance" and count <= 2 else None

        failing._fault = fault  # type: ignore[method-assign]  # two bars, then all is well
        failing.venue._faults = fault  # type: ignore[attr-defined]  # of the wrapper behind it
        observation, reward, _, _, info = await env.step(LONG)
        assert info["missed_bars"] == 2
        assert info["bar_open_ms"] == before[-1]["bar_open_ms"] + 3 * MINUTE
        assert reward == pytest.approx(math.log(info["equity"] / before[-1]["equity"]))
        assert observation["account_state"][3] == before[0]["account_state"][3] + 3
        assert env._running is not None
        assert env._running.desk.state is TradingState.ACTIVE

    run(test())


@pytest.mark.parametrize("name", ["position", "balance", "closed_bars"])
def test_three_unreadable_bars_halt(name: str) -> None:
    failing = Failing()
    env = levels(failing.venue, enforce_risk=True)

    async def test() -> None:
        await broken_at(env, failing, name)
        bar = failing.behind.bar
        with pytest.raises(LiveObservationHalt, match="left as they are") as caught:
            await env.step(LONG)
        halt = caught.value
        assert failing.behind.bar == bar + 3
        assert isinstance(halt.original, UnreadableError)
        assert halt.__cause__ is halt.original
        assert halt.policy == "halt"
        assert (halt.flatten_accepted, halt.flatten_error, halt.flatten_confirmed) == (None,) * 3
        assert failing.behind.standing.quantity > 0
        assert env._running is not None
        assert env._running.desk.state is TradingState.HALTED
        # What was seen before is no observation of now.
        with pytest.raises(RuntimeError, match="call reset"):
            await env.step(LONG)

    run(test())


@pytest.mark.parametrize("closes", [True, False])
def test_flatten_says_what_was_taken_and_what_is_gone(closes: bool) -> None:
    failing = Failing()
    env = levels(failing.venue, observation_failure_policy="flatten")

    async def test() -> None:
        await broken_at(env, failing, "closed_bars")
        failing.refuses = not closes
        with pytest.raises(LiveObservationHalt) as caught:
            await env.step(LONG)
        halt = caught.value
        assert halt.policy == "flatten"
        assert (halt.flatten_accepted, halt.flatten_confirmed) == (closes, closes)
        assert (halt.flatten_error is None) == closes
        assert ("was closed" in str(halt)) == closes
        assert ("look at the account" in str(halt)) != closes
        assert (failing.behind.standing.quantity == 0) == closes

    run(test())


def test_flatten_of_a_flat_account_sends_nothing() -> None:
    failing = Failing()
    env = levels(failing.venue, observation_failure_policy="flatten")

    async def test() -> None:
        await env.reset()
        failing.names.add("closed_bars")
        with pytest.raises(LiveObservationHalt) as caught:
            await env.step(FLAT)
        assert (caught.value.flatten_accepted, caught.value.flatten_confirmed) == (None, True)

    run(test())


@pytest.mark.parametrize("stopped", [True, False])
def test_hold_waits_only_with_a_stop_at_the_venue(stopped: bool) -> None:
    failing = Failing()
    given: dict[str, Any] = {"observation_failure_policy": "hold"}
    if stopped:
        config = BybitFuturesSLTPTradingEnvConfig(
            **FRAMES, **given, symbol=SYMBOL, leverage=3, trade_mode="fractional"
        )
        env: ExchangeTradingEnv = BybitFuturesSLTPTradingEnv(config, trader=failing.venue)
    else:
        env = levels(failing.venue, **given)

    async def test() -> None:
        await broken_at(env, failing, "quote")
        assert failing.behind.standing.quantity > 0
        with pytest.raises(LiveObservationHalt) as caught:
            await env.step(LONG)
        # With a stop it waits for ever, here to the end of the data.
        assert failing.behind.exhausted == stopped
        assert caught.value.policy == "hold"
        assert isinstance(caught.value.original, EndOfDataError) == stopped

    run(test())


def test_an_account_that_cannot_be_read_at_reset_is_left_alone() -> None:
    failing = Failing()
    env = levels(failing.venue, close_position_on_reset=True)

    async def test() -> None:
        failing.names.add("balance")
        with pytest.raises(UnreadableError, match="balance"):
            await env.reset()
        with pytest.raises(RuntimeError, match="call reset"):
            await env.step(LONG)
        failing.names.clear()
        await env.reset()
        await env.step(LONG)

    run(test())


# On an exchange ---------------------------------------------------------------------------------


def test_an_exchange_is_traded_protected_and_left_as_it_is() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        *_, info = await env.step(LONG)
        assert set(info) == INFO
        (fill,) = info["fills"]
        assert info["client_ids"] == [fill.client_id]
        held = server.engine.position(BTC)
        assert fill.signed == held > 0
        stop = server.engine.bracket(BTC).stop_price
        assert stop == pytest.approx(fill.price * Decimal("0.9"), abs=1)

        async def fails() -> None:
            raise OSError("the connection is gone")

        venue.close = fails  # type: ignore[attr-defined]  # found before the adapter's own
        await env.close(raise_if_closed=False, anything=1)
        await env.close()
        assert server.engine.position(BTC) == held
        assert server.engine.bracket(BTC).stop_price == stop
        del venue.close  # type: ignore[attr-defined]
        await venue.close()

    on_exchange(test)


def test_a_stop_that_is_gone_is_placed_again_at_the_next_bar() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        await env.step(LONG)
        stop = server.engine.bracket(BTC).stop_price
        server.engine.cancel_stop(BTC)
        assert server.engine.bracket(BTC).stop_price is None
        await env.step(LONG)
        assert server.engine.bracket(BTC).stop_price == stop

    on_exchange(test)


def test_a_key_that_is_revoked_halts_at_once() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        *_, info = await env.step(LONG)
        server.revoke_key()
        with pytest.raises(LiveObservationHalt):
            await env.step(LONG)
        assert server.clock.now_ms() < info["bar_open_ms"] + 3 * MINUTE
        reasons = {row.reason for row in env._running.journal.latches()}
        assert "auth" in reasons
        assert server.engine.bracket(BTC).stop_price is not None

    on_exchange(test)


def test_a_stop_that_fires_between_bars_is_booked_in_its_step() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        *_, info = await env.step(LONG)
        server.engine.liquidate(BTC)
        *_, info = await env.step(LONG)
        assert info["decision"] == "hold"
        assert [fill.kind for fill in info["fills"]] == [FillKind.LIQUIDATION]
        assert isinstance(info["position"], Flat)

    on_exchange(test)


def test_one_reading_of_an_empty_account_ends_nothing() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        left = 1

        def poor(balance: Balance) -> Balance:
            nonlocal left
            left -= 1
            return balance if left < 0 else poorer(balance)

        def poorer(balance: Balance) -> Balance:
            equity = balance.equity / 20
            return Balance(equity, balance.available, None, balance.asset, balance.venue_time_ms)

        venue.rewrite = poor
        *_, terminated, _, info = await env.step(FLAT)
        assert left < 0
        assert not terminated
        assert info["equity"] == pytest.approx(CASH / 20)
        venue.rewrite = poorer
        *_, terminated, _, info = await env.step(LONG)
        assert terminated
        assert info["terminated"]

    # Between the bars nobody looks.
    on_exchange(test, enforce_risk=False, look_every=math.inf)


def test_a_terminated_account_stays_so_until_somebody_rearms_it() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        await env.step(LONG)

        def poorer(balance: Balance) -> Balance:
            equity = balance.equity / 20
            return Balance(equity, equity, None, balance.asset, balance.venue_time_ms)

        venue.rewrite = poorer
        *_, terminated, _, _ = await env.step(LONG)
        assert terminated
        assert server.engine.position(BTC) == 0
        for _ in range(2):
            with pytest.raises(RuntimeError, match="account is terminated"):
                await env.step(LONG)
            _, info = await env.reset()
            assert info["terminated"]
        await env.rearm("operator", "funded")
        _, info = await env.reset()
        assert not info["terminated"]
        # The new baseline is what there is now.
        *_, terminated, _, _ = await env.step(LONG)
        assert not terminated
        assert server.engine.position(BTC) != 0

    on_exchange(test)


def test_a_restart_remembers_that_the_account_was_terminated() -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        await env.reset()
        running = env._running
        await running.end()
        again = BybitFuturesTradingEnv(
            env.config, trader=venue, clock=running.clock, bar_delay=0, journal=running.journal
        )
        _, info = await again.reset()
        assert info["terminated"]
        with pytest.raises(RuntimeError, match="account is terminated"):
            await again.step(LONG)

    on_exchange(test)


@pytest.mark.parametrize("field", ["close_position_on_init", "close_position_on_reset"])
def test_positions_are_closed_where_the_configuration_says_so(field: str) -> None:
    async def test(env: Any, server: Any, venue: Told) -> None:
        server.engine.manual_trade(BTC, Decimal("0.1"))
        _, info = await env.reset()
        assert isinstance(info["position"], Flat)
        assert server.engine.position(BTC) == 0
        await env.step(LONG)
        _, info = await env.reset()
        assert isinstance(info["position"], Held) == (field == "close_position_on_init")

    on_exchange(test, **{field: True})


# Before anything is connected -------------------------------------------------------------------

KEYS = {"BYBIT_API_KEY": "", "BYBIT_API_SECRET": ""}


def test_missing_keys_are_named_and_asked_for_first_when_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    env = BybitFuturesTradingEnv()
    with pytest.raises(ConfigError, match="BYBIT_API_KEY, BYBIT_API_SECRET"):
        run(env.reset())
    half = BybitFuturesTradingEnv(api_key="a key that is long")
    with pytest.raises(ConfigError, match="missing: BYBIT_API_SECRET;"):
        run(half.reset())


@pytest.mark.parametrize("value", ["", "some secret of another"])
@pytest.mark.parametrize("name", ["api_key", "api_secret"])
def test_keys_that_nothing_uses_are_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: not used: trader="):
        BybitFuturesTradingEnv(trader=replay(frame_of()), **{name: value})


@pytest.mark.parametrize("name", ["api_passphrase", "passphrase", "private_key"])
def test_keys_of_other_venues_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: not used: bybit knows api_key and api_secret"):
        BybitFuturesSLTPTradingEnv(**{name: ""})


def test_unknown_arguments_are_refused_with_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"unexpected argument 'oberver'.*observer"):
        BybitFuturesTradingEnv(oberver=None)
    with pytest.raises(ValueError, match="must be a BybitFuturesTradingEnvConfig"):
        BybitFuturesTradingEnv(BybitFuturesSLTPTradingEnvConfig())  # type: ignore[arg-type] # wrong


def test_real_money_needs_its_second_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, f"a {name} that is long")
    monkeypatch.delenv("JAXTRADE_CONFIRM_LIVE", raising=False)
    env = BybitFuturesTradingEnv(BybitFuturesTradingEnvConfig(demo=False))
    with pytest.raises(ConfigError, match="JAXTRADE_CONFIRM_LIVE=ACCOUNT"):
        run(env.reset())
    bare = BybitFuturesTradingEnv(BybitFuturesTradingEnvConfig(disaster_stop_fraction=None))
    with pytest.raises(ConfigError, match="disaster_stop_fraction: none is for replay"):
        run(bare.reset())


def test_the_confirmed_account_must_be_the_one_of_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        server = exchange(minutes(HISTORY + 10), HISTORY)
        async with server.running():

            class Local(BybitFuturesTradingEnv):
                def _exchange(self, keys: Any, clock: Any) -> Any:
                    return venue_of(server)

            monkeypatch.setenv("JAXTRADE_CONFIRM_LIVE", "somebody else")
            config = BybitFuturesTradingEnvConfig(**FRAMES, demo=False)
            keys = {"api_key": server.api_key, "api_secret": server.api_secret}
            env = Local(config, **keys, bar_delay=0)
            with pytest.raises(ConfigError, match="confirmed was 'somebody else'"):
                await env.reset()

    run(test())


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({}, {"base_url": "https://api-demo.bybit.com"}, "only the address of a local exchange"),
        ({}, {"stream_url": "wss://example.com"}, "only the address of a local exchange"),
        ({"demo": False}, {"base_url": "http://127.0.0.1:1"}, "is not real money"),
        ({}, {"base_url": "http://127.0.0.1:1", "trader": object()}, "not used: trader="),
    ],
)
@pytest.mark.parametrize(
    "made",
    [
        (BybitFuturesTradingEnv, BybitFuturesTradingEnvConfig),
        (BybitFuturesSLTPTradingEnv, BybitFuturesSLTPTradingEnvConfig),
    ],
)
def test_addresses_are_those_of_a_local_exchange(
    made: Any, config: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        made[0](made[1](**config), **options)


def test_a_local_exchange_is_traded_whatever_its_time_is() -> None:
    """Its bars are of another year than this machine's clock, and nothing is denied for that."""

    async def test() -> None:
        server = exchange(minutes(260), 200, speed=1.0)
        async with server.running():
            config = BybitFuturesTradingEnvConfig(
                **FRAMES, symbol=SYMBOL, leverage=3, action_levels=LEVELS
            )
            keys = {"api_key": server.api_key, "api_secret": server.api_secret}
            env = BybitFuturesTradingEnv(config, base_url=server.url, **keys)
            _, info = await env.reset()
            assert abs(info["clock_offset_ms"]) > 86_400_000
            step = asyncio.ensure_future(env.step(LONG))
            for _ in range(400):
                if server.engine.position(BTC):
                    break
                await asyncio.sleep(0.05)
            assert server.engine.position(BTC) > 0
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
            await env.close()

    run(test())


def closes_over_opens(frame: pd.DataFrame) -> pd.DataFrame:
    """Two columns, and one that is no feature."""
    frame["feature_body"] = frame["close"] / frame["open"] - 1
    frame["features_range"] = frame["high"] / frame["low"] - 1
    return frame


def test_shapes_are_known_before_anything_is_connected() -> None:
    config = BybitFuturesTradingEnvConfig(
        time_frames=("1min", "5min"),
        window_sizes=(4, 3),
        execute_on="1min",
        include_base_features=True,
    )
    env = BybitFuturesTradingEnv(config, feature_preprocessing_fn=closes_over_opens)
    assert env.observation_shapes == {
        "market_data_1Minute": (4, 2),
        "market_data_5Minute": (3, 2),
        "base_features": (4, 4),
        "account_state": (6,),
    }
    assert env.market_data_keys == ("market_data_1Minute", "market_data_5Minute")
    assert BybitFuturesTradingEnv().observation_shapes["market_data_1Hour"] == (10, 5)
    assert len(env.account_state_labels) == 6


def test_features_of_the_user_are_what_a_policy_sees() -> None:
    venue = replay(frame_of(bar5={"close": 103.0, "high": 104.0}), leverage=3.0)
    config = BybitFuturesTradingEnvConfig(
        **FRAMES, symbol=SYMBOL, leverage=3, include_base_features=True
    )
    env = BybitFuturesTradingEnv(config, trader=venue, feature_preprocessing_fn=closes_over_opens)

    async def test() -> None:
        await env.reset()
        while venue.bar < 5:
            observation, *_ = await env.step(1)
        np.testing.assert_allclose(observation["market_data_1Minute"][-1], [0.03, 0.04], rtol=1e-6)
        np.testing.assert_array_equal(observation["base_features"][-1], [100, 104, 100, 103])
        assert {key: part.shape for key, part in observation.items()} == env.observation_shapes

    run(test())


def test_features_that_remember_too_much_are_refused_at_once() -> None:
    def total(frame: pd.DataFrame) -> pd.DataFrame:
        frame["feature_total"] = frame["volume"].cumsum()
        return frame

    with pytest.raises(ValueError, match="feature_total depends on more than"):
        BybitFuturesTradingEnv(feature_preprocessing_fn=total)


# Without an event loop --------------------------------------------------------------------------


def test_the_same_calls_work_without_an_event_loop() -> None:
    venue = replay(frame_of(), leverage=3.0)
    env = levels(venue)
    with env.sync() as blocking:
        with pytest.raises(RuntimeError, match="call reset"):
            blocking.step(LONG)
        blocking.reset()
        *_, info = blocking.step(LONG)
        assert info["decision"] == "open"
        assert blocking.env is env
        blocking.close(anything=True)
    # It can be opened again.
    with env.sync() as blocking:
        assert blocking.reset()[1]["equity"] == CASH


def test_the_venues_time_is_measured_as_long_as_the_environment_runs() -> None:
    """Else no entry would pass the clock's limit once the first measurement is old."""

    async def test() -> None:
        server = exchange(minutes(260), 200, speed=1.0)
        async with server.running():
            venue = venue_of(server)
            asked: list[float] = []
            read = venue.server_time

            async def counted() -> int:
                asked.append(0.0)
                return await read()

            venue.server_time = counted  # type: ignore[method-assign]
            estimator = OffsetEstimator()
            clock = SystemClock(estimator, ClockLimits(resync_seconds=0.5))
            await venue.connect()
            await synchronise(clock, estimator, venue.server_time)
            env = levels(venue, clock=clock)
            await env.reset()
            before = len(asked)
            await asyncio.sleep(1.5)
            assert len(asked) > before
            await env.close()
            ended = len(asked)
            await asyncio.sleep(1.2)
            assert len(asked) == ended

    run(test())
