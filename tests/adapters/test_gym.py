"""`GymEnv` through gymnasium's own checker, its info by hand, and the registered ids."""

from __future__ import annotations

import copy
import pickle
import warnings

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env

import jaxtrade
from jaxtrade import make
from jaxtrade.adapters import gym as adapter
from jaxtrade.adapters import stepping
from jaxtrade.adapters.gym import GymEnv
from jaxtrade.adapters.records import INFO_KEYS
from jaxtrade.wrappers import ContinuingEpisodes, NormalizationWrapper
from tests.adapters.builders import crash_env, env_of, market
from tests.envs.builders import MINUTES, env_on, flat_frame, golden_frame, label

TIGHT = {"stoploss_levels": (-0.02,), "takeprofit_levels": (0.02,)}
KINDS = {
    "Discrete": {"leverage": 2},
    "Continuous": {},
    "Bracket": TIGHT,
    "OneStep": {**TIGHT, "rollout_steps": 5},
}
CASES = [(kind, mode) for kind in KINDS for mode in ("dict", "flat")] + [("Discrete", "index")]


@pytest.mark.parametrize(("kind", "mode"), CASES, ids=[f"{k}-{m}" for k, m in CASES])
def test_gymnasiums_checker_passes(kind, mode):
    fields = {**MINUTES, **KINDS[kind], "observation": mode}
    env = gymnasium.make(f"jaxtrade/{kind}-v0", frame=market(), **fields)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    remarks = [str(one.message) for one in caught]
    assert all("A Box observation space" in remark for remark in remarks), remarks


def test_account_bounds_are_finite_where_something_bounds_them():
    spot = GymEnv(env_of()).observation_space["account_state"]
    futures = GymEnv(env_of(leverage=2, observation="flat")).observation_space
    np.testing.assert_array_equal(spot.low, [0, -1, -1, 0, 1, 0])
    np.testing.assert_array_equal(spot.high, [np.inf, 1, np.inf, np.inf, 125, 1])
    np.testing.assert_array_equal(futures.low[-6:], [0, -1, -np.inf, 0, 1, 0])
    assert np.isinf(futures.low[:-6]).all()
    bars = GymEnv(env_of(observation="index")).observation_space["bar"]
    assert (bars.low, bars.high, bars.dtype) == (0, 119, np.int32)


@pytest.mark.parametrize("mode", ["dict", "flat"])
def test_wrappers_state_their_own_bounds(mode):
    env = GymEnv(NormalizationWrapper(env_of(leverage=2, observation=mode), clip=2.0))
    spaces = env.observation_space.values() if mode == "dict" else [env.observation_space]
    assert all((one.low == -2).all() and (one.high == 2).all() for one in spaces)
    assert env.reset(seed=0)[0] in env.observation_space
    assert env.step(0)[0] in env.observation_space


# The info, by hand.


def long_from(bar=1, **fields):
    env = GymEnv(env_on(golden_frame(), initial_cash=1000.0, **fields))
    return env, env.reset(seed=0, options={"start": label(bar)})[1]


def test_info_after_reset():
    _, info = long_from()
    assert info == {
        "equity": 1000.0,
        "available_cash": 1000.0,
        "position_value": 0.0,
        "unrealized_pnl": 0.0,
        "virtual_time": "2024-01-01T00:02:00+00:00",
        "step": 0,
        "total_steps": 11,
        "filled_orders": 0,
        "progress_pct": 0.0,
    }
    assert tuple(info) == INFO_KEYS


def test_info_of_a_long_position():
    """All in at 100, the next bar closes at 104: 10 units."""
    env, _ = long_from()
    _, reward, terminated, truncated, info = env.step(2)
    assert {name: info[name] for name in INFO_KEYS} == {
        "equity": 1040.0,
        "available_cash": 0.0,
        "position_value": 1040.0,
        "unrealized_pnl": 40.0,
        "virtual_time": "2024-01-01T00:03:00+00:00",
        "step": 1,
        "total_steps": 11,
        "filled_orders": 1,
        "progress_pct": pytest.approx(100 / 11),
    }
    assert reward == pytest.approx(np.log(1.04), rel=1e-6)
    assert (terminated, truncated) == (False, False)
    assert (info["event"], info["exit_kind"], info["fill_price"]) == (2, 0, 100.0)
    assert info["exit_price"] is None
    assert info["closed_cash"] is None


def test_info_of_a_short_position():
    """Half of 1000 is margin at leverage 2; the short of 10 units loses 4 each."""
    env, _ = long_from(leverage=2, action_levels=(-0.5, 0, 1))
    info = env.step(0)[4]
    assert info["available_cash"] == pytest.approx(500)
    assert info["position_value"] == pytest.approx(-1040)
    assert info["unrealized_pnl"] == pytest.approx(-40)
    assert info["equity"] == pytest.approx(960)


def test_info_follows_the_trace():
    actions = [2, 2, 1, 2, 2, 0, 1, 0, 2, 0, 1]
    env, first = long_from(transaction_fee=0.001)
    record = jaxtrade.trace(env.trading_env, actions, start=label(1))
    infos = [first]
    for k, action in enumerate(actions):
        _, reward, terminated, truncated, info = env.step(action)
        infos.append(info)
        assert reward == pytest.approx(record["reward"][k], abs=1e-6)
        assert (terminated, truncated) == (record["terminated"][k], record["truncated"][k])
        for name in ("event", "exit_kind", "fee", "cost", "fill_quantity", "fill_price"):
            want = record[name][k].item()
            assert info[name] == (pytest.approx(want, rel=1e-5) if want == want else None)
    quantity, close = record["quantity"], record["close"]
    for name, want in {
        "equity": record["equity"],
        "available_cash": record["cash"],
        "position_value": quantity * close,
        "unrealized_pnl": quantity * (close - record["entry_price"]),
        "step": np.arange(12),
        "progress_pct": np.arange(12) / 11 * 100,
    }.items():
        np.testing.assert_allclose([i[name] for i in infos], want, rtol=1e-5, atol=2e-3)
    ends = (record["bar_time"] + 60 * 10**9).astype("datetime64[ns]").astype("datetime64[s]")
    assert [i["virtual_time"] for i in infos] == [f"{end}+00:00" for end in ends]
    legs = [bin(event & 15).count("1") for event in record["event"]]
    assert [i["filled_orders"] for i in infos[1:]] == legs
    assert infos[-1]["progress_pct"] == 100.0


def bracket_env(frame, **fields):
    given = {"stoploss_levels": (-0.1,), "takeprofit_levels": (0.1,), **fields}
    env = GymEnv(make("SequentialTradingEnvSLTP", frame, **{**MINUTES, **given}))
    env.reset(seed=0, options={"start": label(1)})
    return env


def test_a_refused_order_fills_nothing():
    env = bracket_env(flat_frame(), trade_mode="quantity", quantity_per_trade=1000)
    info = env.step(1)[4]
    assert info["event"] == 16
    assert info["filled_orders"] == 0
    assert info["available_cash"] == info["equity"] == 10000


def test_an_exit_counts_as_filled():
    env = bracket_env(flat_frame(13, bar3={"high": 120.0}))
    assert env.step(1)[4]["filled_orders"] == 1
    info = env.step(0)[4]
    assert (info["event"], info["exit_kind"]) == (0, 3)
    assert info["filled_orders"] == 1
    assert info["equity"] == pytest.approx(11000)


def test_an_entry_and_its_exit_on_the_next_bar_are_two():
    env = bracket_env(flat_frame(13, bar2={"low": 80.0}))
    info = env.step(1)[4]
    assert (info["event"], info["exit_kind"], info["filled_orders"]) == (2, 2, 2)


def test_a_flip_is_two_fills():
    env, _ = long_from(leverage=2)
    env.step(4)
    info = env.step(0)[4]
    assert (info["event"], info["filled_orders"]) == (3, 2)


def test_one_step_episodes_have_one_step():
    env = GymEnv(env_of("OneStepTradingEnv", **TIGHT, rollout_steps=5, random_start=False))
    _, info = env.reset(seed=0)
    assert (info["step"], info["total_steps"]) == (0, 1)
    first = info["virtual_time"]
    _, _, terminated, truncated, info = env.step(1)
    assert terminated or truncated
    assert (info["step"], info["progress_pct"]) == (1, 100.0)
    assert info["virtual_time"] > first


# Types, randomness, ends.


def test_everything_is_of_python_and_numpy():
    env = GymEnv(env_of(leverage=2))
    observation, info = env.reset(seed=1)
    observation, reward, terminated, truncated, info = env.step(np.int64(4))
    assert {type(value) for value in info.values()} <= {float, int, str, type(None)}
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    for part in observation.values():
        assert type(part) is np.ndarray
        part += 1  # its owner may write to it


def test_steps_are_those_of_the_environment():
    """The same draws as `step_env` under keys from gymnasium's generator."""
    trading = env_of(leverage=2, slippage=0.01)
    params = trading.default_params
    env = GymEnv(trading)
    env.reset(seed=5)
    generator = seeding.np_random(5)[0]
    stepping.draw_seed(generator)
    for action in (4, 0, 2, 1):
        state = env.state
        out = env.step(action)
        key = jax.random.key(stepping.draw_seed(generator))
        observation, stepped, reward, _, record = trading.step_env(key, state, action, params)
        for name, part in observation.items():
            np.testing.assert_allclose(out[0][name], part, rtol=1e-5, atol=1e-6)
        assert out[1] == pytest.approx(float(reward), rel=1e-4, abs=1e-7)
        assert out[4]["fill_price"] == pytest.approx(float(record["fill_price"]), nan_ok=True)
        assert int(env.state.bar) == int(stepped.bar)


def episode(env, seed, actions):
    env.reset(seed=seed)
    return [env.step(action)[1] for action in actions], env.state


def test_seeds_decide_starts_and_draws():
    env = GymEnv(env_of(leverage=2, slippage=0.01))
    actions = [4, 0, 3, 0, 4]
    one, state = episode(env, 1, actions)
    again, _ = episode(env, 1, actions)
    other, elsewhere = episode(env, 2, actions)
    assert one == again
    assert one != other
    assert int(state.bar) != int(elsewhere.bar)
    env.reset(seed=1)
    starts = [int(env.reset()[1]["virtual_time"][14:16]) for _ in range(8)]
    assert len(set(starts)) > 1


def test_ruin_terminates_and_time_truncates():
    env = GymEnv(crash_env())
    env.reset(seed=0)
    ends = [env.step(2)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (True, False)]
    env.reset()
    ends = [env.step(1)[2:4] for _ in range(6)]
    assert ends == [(False, False)] * 5 + [(False, True)]


def test_step_outside_an_episode_is_refused():
    env = GymEnv(crash_env())
    with pytest.raises(ResetNeeded, match="call reset first"):
        env.step(1)
    env.reset(seed=0)
    for _ in range(3):
        env.step(2)
    with pytest.raises(ResetNeeded, match="episode is over"):
        env.step(2)


def test_copies_go_on_like_the_original():
    env = GymEnv(env_of(leverage=2, slippage=0.01))
    env.reset(seed=3)
    env.step(4)
    copies = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    want = [env.step(action)[1] for action in (0, 4, 2)]
    for one in copies:
        assert [one.step(action)[1] for action in (0, 4, 2)] == pytest.approx(want, rel=1e-5)


def test_two_adapters_share_what_is_compiled():
    env = env_of(leverage=2)
    GymEnv(env).reset(seed=0)
    compiled = stepping.start_one._cache_size()
    GymEnv(env).reset(seed=1)
    assert stepping.start_one._cache_size() == compiled


# Options and actions.


def test_params_option_stays_in_force():
    trading = env_of(leverage=2)
    _, later = trading.market.split("2024-01-01T01:00")
    env = GymEnv(trading)
    _, info = env.reset(seed=0, options={"params": trading.params(later)})
    assert info["virtual_time"] >= "2024-01-01T01:00:00+00:00"
    starts = [env.reset()[1]["virtual_time"] for _ in range(5)]
    assert min(starts) >= "2024-01-01T01:00:00+00:00"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"begin": 3}, r"^options: must be among \('params', 'start'\); got 'begin'\.$"),
        ({"start": label(119)}, "^start: .* is the last bar or later"),
        ({"start": "2024-01-01T00:00:30"}, "2024-01-01 00:00:30"),
    ],
    ids=["unknown", "last bar", "no bar"],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        GymEnv(env_of(leverage=2)).reset(seed=0, options=options)


def test_a_continuous_action_is_a_number_or_an_array_of_one():
    env = GymEnv(env_of(action="continuous", random_start=False))
    assert env.action_space.shape == (1,)
    equities = []
    for action in (0.5, np.float32(0.5), np.array([0.5], np.float32)):
        env.reset(seed=0)
        equities.append(env.step(action)[4]["position_value"])
    assert equities[0] > 4000
    assert len(set(equities)) == 1
    with pytest.raises(ValueError, match=r"^action: expected shape \(\); got \(2,\)\.$"):
        env.step(np.zeros(2, np.float32))


# The ids.


def test_every_kind_is_registered_alone_and_for_each_asset():
    assert len(adapter.IDS) == 16
    assert set(adapter.IDS) <= set(gymnasium.registry)
    before = {name: gymnasium.registry[name] for name in adapter.IDS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert adapter.register_all() == adapter.IDS
    assert {name: gymnasium.registry[name] for name in adapter.IDS} == before


def test_a_preset_sets_symbol_and_costs_that_fields_override():
    name = "jaxtrade.adapters.gym:jaxtrade/SOL-Bracket-v0"
    env = gymnasium.make(name, frame=market(), **MINUTES, transaction_fee=0.0)
    config = env.unwrapped.trading_env.config
    assert (config.symbol, config.transaction_fee) == ("SOL/USD", 0.0)
    assert config.slippage == adapter.PRESETS["SOL"]["slippage"]
    assert env.unwrapped.trading_env.has_brackets


def test_check_is_passed_on():
    fields = {**MINUTES, "check": True, "render_mode": None}
    env = gymnasium.make("jaxtrade/Discrete-v0", frame=market(), **fields)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action: must be in \[0, 3\); got 3\.$"):
        env.step(3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "^frame: expected rows or a Market"),
        ({"frame": 1, "levrage": 2}, "unknown field 'levrage'; did you mean 'leverage'"),
        ({"frame": 1, "leverage": 200}, "^leverage: must be a finite number"),
        ({"frame": 1, "render_mode": "human"}, "^render_mode: must be None"),
    ],
    ids=["no frame", "unknown field", "wrong value", "rendering"],
)
def test_make_says_what_is_wrong(fields, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make("jaxtrade/BTC-Discrete-v0", **fields)


def test_wrapped_environments_carry_over_what_they_carry():
    """The market clock goes on after ruin, until a seed starts anew."""
    env = GymEnv(ContinuingEpisodes(crash_env()))
    env.reset(seed=0)
    for _ in range(3):
        info = env.step(2)[4]
    assert info["virtual_time"] == "2024-01-01T00:04:00+00:00"
    _, info = env.reset()
    assert info["virtual_time"] == "2024-01-01T00:04:00+00:00"
    assert (info["step"], info["total_steps"], info["equity"]) == (0, 6, 10000)
    _, info = env.reset(seed=0)
    assert info["virtual_time"] == "2024-01-01T00:01:00+00:00"
