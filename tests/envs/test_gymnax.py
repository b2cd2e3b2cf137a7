"""The gymnax 1.x contract: six values, spaces, registration, wrappers, one trace, three modes."""

from __future__ import annotations

import copy
import pickle

import chex
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment
from gymnax.environments import spaces as gymnax_spaces
from gymnax.wrappers.purerl import FlattenObservationWrapper, LogWrapper

from jaxtrade import (
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    VectorizedSequentialTradingEnv,
    make,
    rewards,
)
from jaxtrade.envs import REGISTRY, EnvParams, EnvState, TradingEnv, register_all
from tests.envs.builders import assert_trees_equal, walk, walk_env

KEY = jax.random.key(7)
FRAMES = {"time_frames": ("1min", "5min"), "window_sizes": (4, 3), "execute_on": "1min"}
MODES = ("dict", "flat", "index")


@pytest.fixture(scope="module")
def modes():
    """The same environment in the three observation modes."""
    frame = walk(120, 3, sigma=1e-2)
    fields = {**FRAMES, "leverage": 3, "transaction_fee": 1e-3, "max_steps": 9}
    first = SequentialTradingEnv(frame, SequentialTradingEnvConfig(**fields))
    return {
        mode: SequentialTradingEnv(
            first.market, SequentialTradingEnvConfig(**fields, observation=mode)
        )
        for mode in MODES
    }


def test_registered_id_goes_through_gymnax_make():
    assert "jaxtrade/Sequential-v0" in gymnax.registered_envs
    env, params = gymnax.make("jaxtrade/Sequential-v0", frame=walk(50), **FRAMES, leverage=2)
    assert isinstance(env, SequentialTradingEnv)
    assert isinstance(env, environment.Environment)
    assert isinstance(params, EnvParams)
    assert isinstance(params, environment.EnvParams)
    assert env.name == "SequentialTradingEnv"
    assert env.num_actions == 5
    observation, state = env.reset(KEY, params)
    assert isinstance(state, EnvState)
    assert isinstance(state, environment.EnvState)
    assert set(observation) == {"market_data_1Minute", "market_data_5Minute", "account_state"}


def test_registering_twice_changes_nothing():
    before = list(gymnax.registered_envs)
    register_all()
    assert list(gymnax.registered_envs) == before
    assert {entry.gymnax_id for entry in REGISTRY.values()} <= set(before)


def test_every_exported_environment_is_registered():
    import jaxtrade.envs as envs

    exported = {
        value
        for value in vars(envs).values()
        if isinstance(value, type) and issubclass(value, TradingEnv) and value is not TradingEnv
    }
    assert exported == {entry.env for entry in REGISTRY.values()}


def test_make():
    env = make("SequentialTradingEnv", walk(50), **FRAMES, leverage=2)
    assert env.config == SequentialTradingEnvConfig(**FRAMES, leverage=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "SequentialTradingEnvs",
            "^make: unknown environment 'SequentialTradingEnvs'; did you mean "
            "'SequentialTradingEnv'",
        ),
        ("zzz", "^make: unknown environment 'zzz'; Known: SequentialTradingEnv"),
    ],
)
def test_make_names_what_is_known(name, message):
    with pytest.raises(ValueError, match=message):
        make(name, walk(50))


def test_make_passes_the_errors_of_the_configuration_on():
    with pytest.raises(ValueError, match=r"^leverage: must be a finite number"):
        make("SequentialTradingEnv", walk(50), leverage=0)
    with pytest.raises(TypeError, match="leverages"):
        make("SequentialTradingEnv", walk(50), leverages=2)


def test_spaces_are_those_of_gymnax(modes):
    for env in modes.values():
        assert isinstance(env.action_space(), gymnax_spaces.Discrete)
        assert env.action_space(env.default_params).n == env.num_actions == 5
    dictionary = modes["dict"].observation_space()
    assert isinstance(dictionary, gymnax_spaces.Dict)
    assert {name: space.shape for name, space in dictionary.spaces.items()} == {
        "market_data_1Minute": (4, 5),
        "market_data_5Minute": (3, 5),
        "account_state": (6,),
    }
    flat = modes["flat"].observation_space(modes["flat"].default_params)
    assert isinstance(flat, gymnax_spaces.Box)
    assert flat.shape == (4 * 5 + 3 * 5 + 6,)
    index = modes["index"].observation_space()
    assert index.spaces["bar"].dtype == jnp.int32
    for env in modes.values():
        observation, _ = env.reset(KEY)
        space = env.observation_space()
        assert bool(space.contains(observation))
        assert bool(space.contains(space.sample(KEY)))
        chex.assert_trees_all_equal_shapes_and_dtypes(space.sample(KEY), observation)
    without = {k: v for k, v in modes["dict"].reset(KEY)[0].items() if k != "account_state"}
    assert not bool(dictionary.contains(without))


def test_continuous_action_space():
    env = walk_env(leverage=2, action="continuous")
    space = env.action_space()
    assert isinstance(space, gymnax_spaces.Box)
    assert (space.low, space.high, space.shape) == (-1.0, 1.0, ())


def test_state_space_describes_the_state(modes):
    env = modes["dict"]
    _, state = env.reset(KEY)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    space = env.state_space(env.default_params)
    described = {name: (s.shape, s.dtype) for name, s in space.spaces.items()}
    assert described == {
        jax.tree_util.keystr(path, simple=True, separator="."): (leaf.shape, leaf.dtype)
        for path, leaf in leaves
    }


def test_three_modes_carry_identical_numbers(modes):
    states = {mode: env.reset(KEY) for mode, env in modes.items()}
    for k in range(24):
        key = jax.random.fold_in(KEY, k)
        shown = {mode: observation for mode, (observation, _) in states.items()}
        full = shown["dict"]
        # In the order of the time frames; JAX itself sorts the keys of a dict.
        order = [*modes["dict"].market.spec.keys, "account_state"]
        flat = np.concatenate([np.asarray(full[name]).reshape(-1) for name in order])
        np.testing.assert_array_equal(shown["flat"], flat)
        np.testing.assert_array_equal(shown["index"]["account_state"], full["account_state"])
        bar = int(shown["index"]["bar"])
        market = modes["dict"].market
        for i, name in enumerate(market.spec.keys):
            row, size = int(market.newest[bar, i]) + 1, market.spec.window_sizes[i]
            np.testing.assert_array_equal(full[name], market.features[i][row : row + size])
        outs = {
            mode: env.step(key, states[mode][1], jnp.int32(k % 5)) for mode, env in modes.items()
        }
        for mode in ("flat", "index"):
            assert_trees_equal(outs["dict"][1:5], outs[mode][1:5])
        states = {mode: out[:2] for mode, out in outs.items()}


def test_step_equals_the_step_of_gymnax_bit_for_bit(modes):
    for mode in ("dict", "index"):
        env = modes[mode]
        base = jax.jit(lambda *given, env=env: environment.Environment.step(env, *given))
        _, state = env.reset(KEY)
        ends = 0
        for k in range(30):
            given = (jax.random.fold_in(KEY, k), state, jnp.int32(k % 5), env.default_params)
            ours, theirs = env.step(*given), base(*given)
            assert_trees_equal(ours, theirs, f"{mode}, step {k}: ")
            state = ours[1]
            ends += bool(ours[3] | ours[4])
        assert ends >= 3


def test_one_trace_of_everything(modes):
    env = modes["dict"]
    params = env.default_params
    once = {
        name: jax.jit(chex.assert_max_traces(getattr(env, name), n=1))
        for name in ("reset", "step", "transition")
    }
    chex.clear_trace_counter()
    for seed in range(3):
        _, state = once["reset"](jax.random.key(seed), params)
        for k in range(12):
            key = jax.random.fold_in(KEY, k)
            state = once["step"](key, state, jnp.int32(k % 5), params)[1]
        draw = jnp.zeros((), params.fee.dtype)
        after = once["transition"](state, jnp.int32(0), draw, params)[0]
        once["transition"](after, jnp.int32(1), draw, params)
        cash = params.cash_low
        once["transition"](
            env.initial_state(jnp.int32(20), cash, params), jnp.int32(1), draw, params
        )
        # Other numbers, another range of the market: the same program.
        params = params.replace(fee=params.fee * 2, cash_low=params.cash_low + 1)


def test_typed_and_raw_keys_both_work(modes):
    env = modes["index"]
    typed, raw = jax.random.key(3), jax.random.PRNGKey(3)
    one, two = env.reset(typed), env.reset(raw)
    assert_trees_equal(one, two)
    assert_trees_equal(env.step(typed, one[1], 1), env.step(raw, two[1], 1))


def test_log_wrapper(modes):
    env = LogWrapper(modes["flat"])
    _, state = env.reset(KEY)
    total, returned = 0.0, []
    for k in range(20):
        out = env.step(jax.random.fold_in(KEY, k), state, jnp.int32(k % 5))
        state, reward, info = out[1], out[2], out[5]
        total += float(reward)
        if bool(out[3] | out[4]):
            returned.append((float(info["returned_episode_returns"]), total))
            total = 0.0
    assert len(returned) == 2
    np.testing.assert_allclose(*zip(*returned, strict=True), rtol=1e-5)


def test_flatten_observation_wrapper(modes):
    plain, env = modes["flat"], FlattenObservationWrapper(modes["flat"])
    one, two = plain.reset(KEY), env.reset(KEY)
    assert_trees_equal(one, two)
    ours, theirs = plain.step(KEY, one[1], 2), env.step(KEY, two[1], 2)
    assert_trees_equal(ours[:5], theirs[:5])


def test_copies_of_an_environment_work(modes):
    env = modes["index"]
    _, state = env.reset(KEY)
    expected = env.step(KEY, state, 3)
    for duplicate in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert duplicate is not env
        assert_trees_equal(expected, duplicate.step(KEY, state, 3))


def test_environments_are_told_apart_by_identity(modes):
    env = modes["index"]
    assert len({env, copy.copy(env)}) == 2


@pytest.mark.parametrize("action", [5, -1, 1.5])
def test_check_mode_refuses_an_action(modes, action):
    env = SequentialTradingEnv(modes["index"].market, modes["index"].config, check=True)
    _, state = modes["index"].reset(KEY)
    with pytest.raises(ValueError, match=rf"^action: must be in \[0, 5\); got {action}\.$"):
        env.step(KEY, state, action)
    with pytest.raises(ValueError, match=rf"^action: must be in \[0, 5\); got {action}\.$"):
        env.check_action([0, action])


def test_check_mode_is_silent_inside_jit(modes):
    env = SequentialTradingEnv(modes["index"].market, modes["index"].config, check=True)
    _, state = env.reset(KEY)
    out = jax.jit(env.step)(KEY, state, jnp.int32(9))
    assert_trees_equal(out, modes["index"].step(KEY, state, jnp.int32(4)))
    assert_trees_equal(out, modes["index"].step(KEY, state, jnp.int32(9)))


def test_check_mode_of_continuous_actions():
    env = copy.copy(walk_env(leverage=2, action="continuous"))
    env.check = True
    _, state = env.reset(KEY)
    with pytest.raises(ValueError, match=r"^action: must be in \[-1, 1\]; got 1\.5\.$"):
        env.step(KEY, state, jnp.float32(1.5))


@pytest.fixture(scope="module")
def vectorized(modes):
    return VectorizedSequentialTradingEnv(modes["dict"].market, modes["dict"].config, num_envs=6)


def test_vectorized_equals_a_loop(vectorized):
    env = vectorized.env
    keys = jax.random.split(KEY, 6)
    observations, states = vectorized.reset(KEY)
    assert_trees_equal((observations, states), vectorized.reset(keys))
    for k in range(12):
        step_keys = jax.random.split(jax.random.fold_in(KEY, k), 6)
        actions = jnp.asarray(np.random.default_rng(k).integers(0, 5, 6), jnp.int32)
        out = vectorized.step(jax.random.fold_in(KEY, k), states, actions)
        for i in range(6):
            lane = jax.tree.map(lambda leaf, i=i: leaf[i], (states, out))
            alone = env.step(step_keys[i], lane[0], actions[i])
            for ours, theirs in zip(jax.tree.leaves(lane[1]), jax.tree.leaves(alone), strict=True):
                if jnp.issubdtype(ours.dtype, jnp.floating):
                    # Cash is what is left of the equity.
                    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6 * 1e4 * 3)
                else:
                    np.testing.assert_array_equal(ours, theirs)
        states = out[1]


def test_other_lanes_are_untouched_by_a_reset(vectorized):
    """The end of one episode changes no bit of its neighbours."""
    _, states = vectorized.reset(KEY)
    actions = jnp.full(6, 4, jnp.int32)
    for k in range(4):
        states = vectorized.step(jax.random.fold_in(KEY, k), states, actions)[1]
    near = states.replace(time=states.time.at[2].set(8))
    plain, ended = (vectorized.step(KEY, s, actions) for s in (states, near))
    assert not np.asarray(plain[4]).any()
    np.testing.assert_array_equal(ended[4], np.arange(6) == 2)
    others = np.arange(6) != 2
    assert_trees_equal(*(jax.tree.map(lambda leaf: leaf[others], out) for out in (plain, ended)))
    assert int(ended[1].time[2]) == 0


def test_vectorized_with_one_lane_and_other_params(modes):
    env = VectorizedSequentialTradingEnv(modes["dict"].market, modes["dict"].config, num_envs=1)
    params = env.default_params.replace(fee=jnp.asarray(0.0))
    _, state = env.reset(KEY, params)
    out = env.step(KEY, state, [4], params)
    assert out[2].shape == (1,)
    assert float(out[5]["fee"][0]) == 0


@pytest.mark.parametrize("num_envs", [0, -1, 1.5, True, None])
def test_vectorized_refuses_a_count(modes, num_envs):
    message = f"^num_envs: must be a whole number >= 1; got {num_envs}.$"
    with pytest.raises(ValueError, match=message):
        VectorizedSequentialTradingEnv(
            modes["dict"].market, modes["dict"].config, num_envs=num_envs
        )


def test_vectorized_checks_actions(modes):
    env = VectorizedSequentialTradingEnv(
        modes["dict"].market, modes["dict"].config, num_envs=2, check=True
    )
    _, states = env.reset(KEY)
    with pytest.raises(ValueError, match=r"got 5\.$"):
        env.step(KEY, states, np.array([1, 5]))


def test_params_can_be_swept(modes):
    env = modes["index"]
    params = env.default_params
    fees = jnp.asarray([0.0, 1e-3, 2e-3])
    leverages = jnp.asarray([2.0, 3.0, 4.0])
    axes = jax.tree.map(lambda _: None, params).replace(fee=0, leverage=0)
    _, state = env.reset(KEY)
    swept = jax.vmap(env.step, in_axes=(None, None, None, axes))(
        KEY, state, jnp.int32(4), params.replace(fee=fees, leverage=leverages)
    )
    notional = 1e4 * leverages / (1 + leverages * fees)
    np.testing.assert_allclose(swept[5]["traded_notional"], notional, rtol=1e-6)
    np.testing.assert_allclose(swept[5]["fee"], notional * fees, rtol=1e-5)
    np.testing.assert_allclose(swept[0]["account_state"][:, 4], leverages)


def test_market_of_another_build_is_refused(modes):
    other = make("SequentialTradingEnv", walk(60), **{**FRAMES, "window_sizes": 2}).market
    with pytest.raises(ValueError, match=r"^market: was built with window_sizes"):
        SequentialTradingEnv(other, modes["dict"].config)
    with pytest.raises(ValueError, match=r"^market: was built with window_sizes"):
        modes["dict"].params(other)
    prices = make("SequentialTradingEnv", walk(60), **FRAMES, features="ohlcv").market
    with pytest.raises(ValueError, match=r"^market: .*feature"):
        modes["dict"].params(prices)


def test_ranges_of_a_split_share_the_compiled_step(modes):
    env = modes["index"]
    train, test = env.market.split("2024-01-01T01:30")
    params = env.params(market=test)
    assert int(params.market.last) == env.market.num_bars - 1
    bars = jax.vmap(lambda key: env.reset_env(key, params)[1].bar)(jax.random.split(KEY, 200))
    assert int(bars.min()) >= int(test.first)
    assert int(bars.max()) <= int(test.last) - 9
    bars = jax.vmap(lambda key: env.reset_env(key, env.params(market=train))[1].bar)(
        jax.random.split(KEY, 200)
    )
    assert int(bars.max()) <= int(train.last) - 9


def money(params):
    return jnp.zeros(())


def gained(carry, x, params):
    return x.equity_after - x.equity_before, carry + 1


REWARDS = {
    "name": "drawdown_penalty",
    "weights": {"log_return": 2.0, "drawdown": 0.5},
    "pair": (money, gained),
    "composite": "composite",
    "parameters": rewards.sharpe(window=3),
}


@pytest.mark.parametrize("reward", REWARDS)
def test_rewards_keep_the_contract(reward):
    env = walk_env_with(REWARDS[reward])
    _, state = env.reset(KEY)
    for k in range(10):
        out = env.step(jax.random.fold_in(KEY, k), state, jnp.int32(k % 3))
        assert out[2].shape == ()
        assert out[2].dtype == jnp.float32
        assert np.isfinite(out[2])
        assert jax.tree.map(jnp.shape, out[1]) == jax.tree.map(jnp.shape, state)
        state = out[1]
        if reward == "pair":
            info = out[5]
            assert float(state.reward_carry) == (0 if out[4] else k % 4 + 1)
            assert abs(float(out[2])) < 5e3 + float(info["equity"])


def walk_env_with(reward):
    market = walk_env().market
    fields = {"time_frames": "1min", "window_sizes": 1, "execute_on": "1min"}
    config = SequentialTradingEnvConfig(
        **fields, reward=reward, observation="index", max_steps=4, bankrupt_threshold=0
    )
    return SequentialTradingEnv(market, config)
