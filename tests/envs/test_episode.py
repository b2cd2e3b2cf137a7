"""Episodes: starts, cash, ends, both flags, the automatic reset, the frozen end."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import trace
from tests.envs.builders import (
    assert_trees_equal,
    env_on,
    flat_frame,
    label,
    lanes_stepper,
    stepper,
    walk_env,
)

KEY = jax.random.key(11)
HALF = np.float32(0.5)


def resets(env, count=4096, params=None, key=KEY):
    params = env.default_params if params is None else params
    states = jax.jit(jax.vmap(env.reset_env, in_axes=(0, None)))(
        jax.random.split(key, count), params
    )
    return jax.tree.map(np.asarray, states[1])


def test_starts_cover_every_bar_with_a_transition():
    env = env_on(flat_frame(40), window_sizes=5)
    bars = resets(env).bar
    np.testing.assert_array_equal(np.unique(bars), np.arange(4, 39))
    counts = np.bincount(bars)[4:]
    assert counts.min() > 60  # about 117 each


@pytest.mark.parametrize(("max_steps", "last_start"), [(1, 38), (10, 29), (34, 5), (500, 4)])
def test_starts_leave_room_for_max_steps(max_steps, last_start):
    env = env_on(flat_frame(40), window_sizes=5, max_steps=max_steps)
    bars = resets(env).bar
    assert (bars.min(), bars.max()) == (4, last_start)


def test_fixed_start():
    env = env_on(flat_frame(40), window_sizes=5, random_start=False)
    assert set(resets(env).bar.tolist()) == {4}


def test_cash_range_is_filled_to_both_ends_and_never_reaches_the_upper():
    env = env_on(flat_frame(40), initial_cash=(1000.0, 3000.0))
    cash = resets(env).account.cash.astype(np.float64)
    assert 1000 <= cash.min() < 1003
    assert 2997 < cash.max() < 3000
    counts = np.histogram(cash, 20, (1000, 3000))[0]
    assert counts.min() > 130  # about 205 each
    np.testing.assert_array_equal(resets(env).initial_equity, resets(env).account.cash)
    # The largest draw there is stays below the open end.
    draw = jnp.float32(1 - 2**-24)
    state = env.fresh_state(jnp.uint32(0), draw, env.default_params)
    assert float(state.account.cash) < 3000
    narrow = env.default_params.replace(
        cash_high=jnp.nextafter(jnp.float32(1000), jnp.float32(2000))
    )
    assert float(env.fresh_state(jnp.uint32(0), draw, narrow).account.cash) == 1000


def test_fixed_cash_is_exact():
    env = env_on(flat_frame(40), initial_cash=1234.5)
    assert set(resets(env).account.cash.tolist()) == {1234.5}


def test_start_and_cash_are_uncoupled():
    env = env_on(flat_frame(40), initial_cash=(1000.0, 3000.0))
    states = resets(env)
    correlation = np.corrcoef(states.bar, states.account.cash)[0, 1]
    assert abs(correlation) < 0.05
    # At one start, the cash still fills its range.
    cash = states.account.cash[states.bar == 20]
    assert cash.min() < 1150
    assert cash.max() > 2850


def test_start_and_slippage_are_uncoupled():
    env = env_on(flat_frame(40), slippage=0.01)
    # Keys as a learner makes them: each is used once.
    keys = jax.random.split(jax.random.key(12), 4096)
    states = resets(env)
    states = jax.tree.map(jnp.asarray, states)
    actions = jnp.full(4096, 2, jnp.int32)
    out = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None)))(
        keys, states, actions, env.default_params
    )
    slip = np.asarray(out[5]["fill_price"]) / 100 - 1
    assert (slip.min() < 1e-4) and (slip.max() > 0.0099)
    assert abs(np.corrcoef(slip, states.bar)[0, 1]) < 0.05


def test_same_key_same_trajectory_and_other_keys_others():
    env = walk_env(leverage=3, transaction_fee=4e-4, slippage=5e-3)

    def run(seed):
        key = jax.random.key(seed)
        outs, (_, state) = [], env.reset(key)
        for k in range(15):
            out = env.step(jax.random.fold_in(key, k), state, jnp.int32(k % 5))
            outs.append(out)
            state = out[1]
        return outs

    one, again, two = run(1), run(1), run(2)
    assert_trees_equal(one, again)
    assert any(float(a[2]) != float(b[2]) for a, b in zip(one, two, strict=True))


def test_the_draw_of_a_step_does_not_depend_on_the_action():
    env = walk_env(leverage=3, slippage=5e-3)
    _, state = env.reset(KEY)
    close = float(env.market.ohlcv[int(state.bar), 3])
    slips = []
    for action in (0, 1, 3, 4):
        info = env.step(KEY, state, jnp.int32(action))[5]
        slips.append(abs(float(info["fill_price"]) / close - 1))
    np.testing.assert_allclose(slips, slips[0], atol=2e-7)
    assert slips[0] > 1e-5
    # Nor do the steps after it: hold or trade first, the second order slips alike.
    later = []
    for action in (2, 4):
        second = env.step(KEY, state, jnp.int32(action))[1]
        price = env.market.ohlcv[int(second.bar), 3]
        info = env.step(jax.random.key(99), second, jnp.int32(1))[5]
        later.append(abs(float(info["fill_price"]) / price - 1))
    np.testing.assert_allclose(later[0], later[1], atol=2e-7)


def test_reset_uses_its_key_and_step_leaves_the_key_alone():
    env = walk_env()
    key = jax.random.key(5)
    before = np.asarray(jax.random.key_data(key))
    _, state = env.reset(key)
    env.step(key, state, 0)
    np.testing.assert_array_equal(jax.random.key_data(key), before)
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002  # it must not be touched
    env_on(flat_frame()).reset(key)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_max_steps_gives_that_many_transitions(limit):
    env = walk_env(bankrupt_threshold=0)
    params = env.default_params.replace(max_steps_in_episode=jnp.int32(limit))
    _, state = env.reset(KEY, params)
    state = env.initial_state(int(env.market.first), params.cash_low, params)
    ends = []
    for k in range(3 * limit):
        assert int(state.time) == k % limit
        out = env.step(jax.random.fold_in(KEY, k), state, jnp.int32(0), params)
        state = out[1]
        assert not out[3]
        ends.append(bool(out[4]))
    # Later starts may run into the end of the data first; this key's do not.
    assert ends[limit - 1]
    assert not any(ends[: limit - 1])


def test_end_of_data_truncates_and_never_terminates():
    record = trace(env_on(flat_frame()), [2] * 20, start=label(9))
    np.testing.assert_array_equal(record["truncated"], [False, False, True])
    assert not record["terminated"].any()
    assert record["quantity"][-1] > 0  # an open position is not closed


RUIN = {"leverage": 10, "action_levels": (-1, -0.3, 0, 0.3, 1)}


def test_ruin_terminates_and_is_no_truncation():
    record = trace(env_on(flat_frame(bar4={"low": 88}), **RUIN), [4] * 9, start=label(1))
    np.testing.assert_array_equal(record["terminated"], [False, False, True])
    assert not record["truncated"].any()
    assert record["reward"][-1] > -10  # not wiped out: the log return of what is left


def test_both_flags_may_be_set_at_once():
    env = env_on(flat_frame(bar4={"low": 88}), max_steps=3, **RUIN)
    record = trace(env, [4] * 9, start=label(1))
    np.testing.assert_array_equal(record["terminated"], [False, False, True])
    np.testing.assert_array_equal(record["truncated"], [False, False, True])
    env = env_on(flat_frame(5, bar4={"low": 88}), **RUIN)
    record = trace(env, [4] * 9, start=label(1))
    assert record["terminated"][-1]
    assert record["truncated"][-1]


def test_a_liquidation_does_not_end_an_episode():
    record = trace(env_on(flat_frame(bar4={"low": 80}), **RUIN), [3] * 6, start=label(1))
    assert record["exit_kind"][2] == 1
    assert not record["terminated"].any()
    assert record["event"][3] == 2  # and the same level opens again


@pytest.mark.parametrize(("threshold", "terminated"), [(0.68, False), (0.7, False), (0.71, True)])
def test_bankrupt_threshold_is_strict(threshold, terminated):
    """A gap past bankruptcy leaves exactly 7000 of 10000."""
    env = env_on(flat_frame(bar4={"open": 85, "low": 84}), bankrupt_threshold=threshold, **RUIN)
    record = trace(env, [3] * 4, start=label(1), float64=True)
    assert record["cash"][3] == 7000
    assert bool(record["terminated"][2]) is terminated


def test_a_wiped_out_account_terminates_at_threshold_zero_and_never_trades():
    fields = {**RUIN, "transaction_fee": 4e-4, "bankrupt_threshold": 0, "ruin_reward": -7.5}
    for float64 in (False, True):
        env = env_on(flat_frame(bar4={"open": 85, "low": 84}), **fields)
        record = trace(env, [4] * 6, start=label(1), float64=float64)
        np.testing.assert_array_equal(record["terminated"], [False, False, True])
        assert record["reward"][-1] == -7.5
        assert record["cash"][-1] <= 1e-3
    state = env.initial_state(4, np.float32(1e4), env.default_params)
    for cash in (0.0, 1e-4, -5.0):
        account = dataclasses.replace(state.account, cash=jnp.float32(cash))
        for action in range(5):
            after, reward, terminated, info = stepper(env)(
                state.replace(account=account), jnp.int32(action), HALF, env.default_params
            )
            assert_trees_equal(after.account, account)
            assert (int(after.bar), int(after.time)) == (4, 0)
            assert (float(reward), int(info["event"]), bool(terminated)) == (0, 0, True)


def test_step_past_the_end_is_harmless():
    env = walk_env(leverage=3, transaction_fee=4e-4, slippage=5e-3)
    params, last = env.default_params, int(env.market.last)
    state = env.initial_state(last - 1, params.cash_low, params)
    state, *_ = stepper(env)(state, jnp.int32(4), HALF, params)
    assert int(state.bar) == last
    assert float(state.account.quantity) > 0
    for action in range(5):
        for draw in (0.0, 0.9):
            after, reward, terminated, info = stepper(env)(
                state, jnp.int32(action), jnp.float32(draw), params
            )
            assert_trees_equal(after.account, state.account)
            assert_trees_equal(after.reward_carry, state.reward_carry)
            assert (int(after.bar), int(after.time)) == (last, int(state.time))
            assert float(reward) == 0
            assert not bool(terminated)
            assert bool(env.is_truncated(after, params))
            assert float(info["cost"]) == float(info["fee"]) == float(info["funding"]) == 0
            np.testing.assert_allclose(info["equity"], env.equity(state, params), rtol=1e-6)


def test_auto_reset_returns_the_next_episode_and_the_final_observation():
    env = walk_env(leverage=3, max_steps=3, initial_cash=(100.0, 200.0))
    _, state = env.reset(KEY)
    ended = 0
    for k in range(12):
        key = jax.random.fold_in(KEY, k)
        out = env.step(key, state, jnp.int32(4))
        observation, after, _, terminated, truncated, info = out
        if terminated | truncated:
            ended += 1
            first, fresh = env.reset(jax.random.split(key)[1])
            assert_trees_equal((observation, after), (first, fresh))
            assert info["final_observation"]["account_state"][1] == 1
            assert observation["account_state"][1] == 0
            assert int(after.time) == 0
        else:
            assert_trees_equal(observation, info["final_observation"])
            assert int(after.time) == int(state.time) + 1
        state = after
    assert ended >= 4


def test_nothing_of_the_last_episode_survives_a_reset():
    env = walk_env(leverage=3, max_steps=3, reward="composite")
    _, state = env.reset(KEY)
    for k in range(3):
        state = env.step(jax.random.fold_in(KEY, k), state, jnp.int32(4))[1]
    fresh = env.initial_state(state.bar, state.account.cash, env.default_params)
    assert_trees_equal(state, fresh)


def test_transition_maps_over_lanes():
    env = walk_env(leverage=3, transaction_fee=4e-4, slippage=5e-3)
    params = env.default_params
    bars = jnp.arange(20, 28)
    states = jax.vmap(env.initial_state, in_axes=(0, None, None))(bars, params.cash_low, params)
    draws, actions = jnp.linspace(0, 0.9, 8), jnp.arange(8, dtype=jnp.int32) % 5
    out = lanes_stepper(env)(states, actions, draws, params)
    for i in range(8):
        lane = jax.tree.map(lambda leaf, i=i: leaf[i], (states, out))
        alone = stepper(env)(lane[0], actions[i], draws[i], params)
        for ours, theirs in zip(jax.tree.leaves(lane[1]), jax.tree.leaves(alone), strict=True):
            # Cash is what is left of a notional of three times the equity.
            np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6 * 3e4)


def test_a_changed_action_is_remembered():
    """`action_changed` of a reward: never on the first step, then from step to step."""

    def update(carry, x, params):
        return x.action_changed.astype(jnp.float32), carry

    env = env_on(flat_frame(), reward=(lambda params: (), update))
    record = trace(env, [2, 2, 1, 0, 0, 2], start=label(1))
    np.testing.assert_array_equal(record["reward"], [0, 0, 1, 1, 0, 1])
