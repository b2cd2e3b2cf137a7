"""`GymVectorEnv` against the raw environment, and under gymnasium's own wrappers."""

from __future__ import annotations

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import jaxtrade.adapters.gym as ids  # noqa: F401 - registers the ids
from jaxtrade.adapters import stepping
from jaxtrade.adapters.records import INFO_KEYS
from jaxtrade.adapters.vector import GymVectorEnv
from jaxtrade.wrappers import ContinuingEpisodes
from tests.adapters.builders import crash_env, env_of, market
from tests.envs.builders import MINUTES

ACTIONS = np.array([2, 1, 1, 0])  # long, flat, flat, short
KEY = jax.random.key(0)


def raw_lanes(env, steps):
    """Per step and lane: observation before any reset, reward, terminated, truncated, record."""
    params = env.default_params
    first, fresh = env.reset_env(KEY, params)
    step = jax.jit(env.step_env)
    states, rows = [fresh] * len(ACTIONS), []
    for _ in range(steps):
        row = []
        for lane, action in enumerate(ACTIONS):
            observation, states[lane], reward, terminated, info = step(
                KEY, states[lane], action, params
            )
            truncated = bool(env.is_truncated(states[lane], params))
            row.append((observation, float(reward), bool(terminated), truncated, info))
            if bool(terminated) or truncated:
                states[lane] = fresh
        rows.append(row)
    return first, rows


@pytest.fixture(scope="module")
def played():
    """Seven steps of four lanes that end at different times, and the same on the raw env."""
    env = crash_env()
    envs = GymVectorEnv(env, 4)
    start = envs.reset(seed=0)
    return start, [envs.step(ACTIONS) for _ in range(7)], raw_lanes(env, 7)


def test_rewards_and_flags_are_those_of_the_raw_environment(played):
    _, steps, (_, rows) = played
    ends = []
    for (_, rewards, terminated, truncated, _), row in zip(steps, rows, strict=True):
        np.testing.assert_allclose(rewards, [r[1] for r in row], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(terminated, [r[2] for r in row])
        np.testing.assert_array_equal(truncated, [r[3] for r in row])
        ends.append((terminated.sum(), truncated.sum()))
    # The long is ruined twice, flat and short lanes are cut off once.
    assert ends == [(0, 0), (0, 0), (1, 0), (0, 0), (0, 0), (1, 3), (0, 0)]


def test_final_observations_are_those_before_the_reset(played):
    (start, _), steps, (first, rows) = played
    for (observations, _, terminated, truncated, infos), row in zip(steps, rows, strict=True):
        done = terminated | truncated
        assert ("final_obs" in infos) == bool(done.any())
        for name in first:
            last = np.stack([r[0][name] for r in row])
            want = np.where(done.reshape(-1, *[1] * (last.ndim - 1)), first[name], last)
            np.testing.assert_allclose(observations[name], want, rtol=1e-5, atol=1e-6)
            if done.any():
                np.testing.assert_array_equal(infos["_final_obs"], done)
                np.testing.assert_allclose(infos["final_obs"][name], last, rtol=1e-5, atol=1e-6)
    # The account before the reset differs from the fresh one, so this can fail.
    ruined = steps[2][4]["final_obs"]["account_state"][0]
    assert ruined[3] == 0
    assert steps[5][4]["final_obs"]["account_state"][3][1] == -1
    np.testing.assert_array_equal(steps[5][0]["account_state"], start["account_state"])


def test_infos_of_a_done_lane_are_split_between_the_episodes(played):
    (_, first), steps, (_, rows) = played
    assert set(first) == {*INFO_KEYS, *(f"_{name}" for name in INFO_KEYS)}
    infos, row = steps[2][4], rows[2]
    assert infos["equity"][0] == 10000
    assert infos["step"].tolist() == [0, 3, 3, 3]
    assert infos["filled_orders"][0] == 0
    assert infos["_equity"].all()
    np.testing.assert_array_equal(infos["_event"], [False, True, True, True])
    np.testing.assert_array_equal(infos["_final_info"], [True, False, False, False])
    final = infos["final_info"]
    assert final["equity"][0] == pytest.approx(float(row[0][4]["equity"]), abs=1e-3)
    assert (final["step"][0], final["exit_kind"][0], final["filled_orders"][0]) == (3, 1, 1)
    assert final["progress_pct"][0] == 50
    assert final["virtual_time"][0] == "2024-01-01T00:04:00+00:00"
    assert infos["virtual_time"].tolist()[:2] == [
        "2024-01-01T00:01:00+00:00", "2024-01-01T00:04:00+00:00"
    ]  # fmt: skip
    np.testing.assert_array_equal(final["_equity"], infos["_final_info"])
    assert "final_info" not in steps[3][4]


def test_infos_without_an_end_are_the_records(played):
    _, steps, (_, rows) = played
    infos = steps[0][4]
    assert infos["event"].tolist() == [2, 0, 0, 2]
    assert infos["filled_orders"].tolist() == [1, 0, 0, 1]
    np.testing.assert_allclose(infos["equity"], [float(r[4]["equity"]) for r in rows[0]])
    assert np.isnan(infos["fill_price"][1])
    assert infos["_fill_price"].all()


def test_one_transfer_to_the_host_per_step(monkeypatch):
    envs = GymVectorEnv(crash_env(), 4)
    envs.reset(seed=0)
    calls = []
    fetch = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: calls.append(1) or fetch(tree))
    for _ in range(4):
        envs.step(ACTIONS)
    assert len(calls) == 4


def test_steps_are_compiled_once():
    envs = GymVectorEnv(crash_env(), 4)
    envs.reset(seed=0)
    envs.step(ACTIONS)
    compiled = stepping.step_lanes._cache_size()
    for actions in (ACTIONS.astype(np.int64), ACTIONS.tolist(), envs.action_space.sample()):
        envs.step(actions)
    assert stepping.step_lanes._cache_size() == compiled


def test_record_episode_statistics():
    """Gymnasium's own wrapper counts first episodes in full."""
    envs = RecordEpisodeStatistics(GymVectorEnv(crash_env(), 4))
    envs.reset(seed=0)
    total = np.zeros(4)
    for k in range(6):
        _, rewards, _, _, infos = envs.step(ACTIONS)
        if k < 3:
            total += rewards
        if k == 2:
            assert infos["_episode"].tolist() == [True, False, False, False]
            assert infos["episode"]["l"][0] == 3
            assert infos["episode"]["r"][0] == pytest.approx(total[0], rel=1e-6)
    assert infos["episode"]["l"].tolist()[1:] == [6, 6, 6]


def test_infos_as_a_list():
    envs = DictInfoToList(GymVectorEnv(crash_env(), 4))
    envs.reset(seed=0)
    for _ in range(3):
        infos = envs.step(ACTIONS)[4]
    assert "final_info" in infos[0]
    assert "final_info" not in infos[1]
    assert infos[1]["step"] == 3
    assert infos[0]["final_info"]["step"] == 3


@pytest.mark.parametrize("mode", ["dict", "flat"])
def test_spaces_contain_what_comes(mode):
    envs = GymVectorEnv(env_of(leverage=2, observation=mode), 3)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space
    out = envs.step(envs.action_space.sample())
    assert out[0] in envs.observation_space
    assert [x.shape for x in out[1:4]] == [(3,)] * 3
    assert [x.dtype for x in out[1:4]] == [np.float32, bool, bool]


def test_seeds_decide_everything():
    envs = GymVectorEnv(env_of(leverage=2, slippage=0.01), 3)
    runs = []
    for seed in (1, 1, 2):
        envs.reset(seed=seed)
        runs.append([envs.step(np.array([4, 0, 4]))[1].tolist() for _ in range(3)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    times = envs.reset(seed=3)[1]["virtual_time"]
    assert len(set(times)) > 1
    with pytest.raises(ValueError, match=r"^seed: must be one whole number"):
        envs.reset(seed=[1, 2, 3])


def test_params_option():
    trading = env_of(leverage=2)
    _, later = trading.market.split("2024-01-01T01:00")
    envs = GymVectorEnv(trading, 3)
    envs.reset(seed=0)
    _, infos = envs.reset(options={"params": trading.params(later)})
    assert min(infos["virtual_time"]) >= "2024-01-01T01:00:00+00:00"
    assert infos["total_steps"].max() <= 60
    with pytest.raises(ValueError, match=r"^options: only 'params' is known; got \['start'\]\.$"):
        envs.reset(options={"start": 0})


def test_continuous_actions_of_either_shape():
    envs = GymVectorEnv(env_of(action="continuous", random_start=False), 2)
    assert envs.action_space.shape == (2, 1)
    values = []
    for actions in (np.array([[0.5], [1.0]], np.float32), [0.5, 1.0]):
        envs.reset(seed=0)
        values.append(envs.step(actions)[4]["position_value"].tolist())
    assert values[0] == values[1]
    assert values[0][1] > 1.9 * values[0][0] > 0


@pytest.mark.parametrize("num_envs", [0, 1.5, True])
def test_number_of_lanes_is_checked(num_envs):
    with pytest.raises(ValueError, match=f"^num_envs: must be a whole number >= 1; got {num_envs}"):
        GymVectorEnv(crash_env(), num_envs)


def test_order_of_calls_and_number_of_actions():
    envs = GymVectorEnv(crash_env(), 4)
    with pytest.raises(ResetNeeded):
        envs.step(ACTIONS)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action: expected shape \(4,\); got \(3,\)\.$"):
        envs.step(ACTIONS[:3])


def test_ids_make_vector_environments():
    fields = {**MINUTES, "frame": market()}
    envs = gymnasium.make_vec("jaxtrade/ETH-Discrete-v0", num_envs=3, **fields)
    assert isinstance(envs, GymVectorEnv)
    assert envs.num_envs == 3
    assert envs.trading_env.config.symbol == "ETH/USD"
    assert envs.reset(seed=0)[1]["equity"].tolist() == [10000] * 3


def test_wrapped_environments_carry_over_what_they_carry():
    """The market clock of a ruined lane goes on, also over a reset without a seed."""
    envs = GymVectorEnv(ContinuingEpisodes(crash_env()), 4)
    envs.reset(seed=0)
    for _ in range(3):
        infos = envs.step(ACTIONS)[4]
    assert infos["_final_info"].tolist() == [True, False, False, False]
    assert set(infos["virtual_time"]) == {"2024-01-01T00:04:00+00:00"}
    assert infos["step"].tolist() == [0, 3, 3, 3]
    assert infos["total_steps"].tolist() == [6, 6, 6, 6]
    ours = envs.reset()[1]["virtual_time"]
    assert ours[0] == "2024-01-01T00:04:00+00:00"
    assert set(envs.reset(seed=0)[1]["virtual_time"]) == {"2024-01-01T00:01:00+00:00"}
