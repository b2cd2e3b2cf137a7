"""`SB3VecEnv` under Stable-Baselines3's own learners and checker."""

from __future__ import annotations

import importlib
import warnings

import jax
import numpy as np
import pytest

pytest.importorskip(
    "stable_baselines3", reason="needs the extra 'sb3': pip install 'jaxtrade[sb3]'"
)

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor

from jaxtrade.adapters.gym import GymEnv
from jaxtrade.adapters.sb3 import SB3VecEnv
from tests.adapters.builders import crash_env, env_of

ACTIONS = np.array([2, 1, 1, 0])  # long, flat, flat, short
NETWORK = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}


def weights(model):
    return [p.detach().numpy().copy() for p in model.policy.parameters()]


def test_ppo_trains():
    envs = SB3VecEnv(env_of(leverage=2, observation="flat", max_steps=5), 4)
    model = PPO("MlpPolicy", envs, n_steps=16, batch_size=32, n_epochs=2, seed=0, **NETWORK)
    before = weights(model)
    model.learn(192)
    assert model.num_timesteps == 192
    changed = [(a != b).any() for a, b in zip(before, weights(model), strict=True)]
    assert all(changed)
    assert all(np.isfinite(a).all() for a in weights(model))
    action, _ = model.predict(envs.reset(), deterministic=True)
    assert action.shape == (4,)


def test_ppo_trains_on_dict_observations_and_continuous_actions():
    envs = SB3VecEnv(env_of(action="continuous", max_steps=5), 2)
    model = PPO("MultiInputPolicy", envs, n_steps=8, batch_size=16, n_epochs=1, seed=0, **NETWORK)
    before = weights(model)
    model.learn(16)
    assert any((a != b).any() for a, b in zip(before, weights(model), strict=True))


def test_dqn_trains():
    envs = SB3VecEnv(env_of(leverage=2, observation="flat", max_steps=5), 4)
    model = DQN(
        "MlpPolicy", envs, learning_starts=32, buffer_size=256, batch_size=16, seed=0, **NETWORK
    )
    before = weights(model)
    model.learn(160)
    assert model.replay_buffer.size() * 4 == 160
    # Every fifth transition of a lane is cut off by time alone, and none terminates.
    assert model.replay_buffer.timeouts[4].all()
    assert not model.replay_buffer.timeouts[0].any()
    assert any((a != b).any() for a, b in zip(before, weights(model), strict=True))


@pytest.mark.parametrize(
    "fields",
    [{"leverage": 2, "observation": "flat"}, {"action": "continuous", "observation": "flat"}],
    ids=["discrete", "continuous"],
)
def test_checker_passes(fields):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(GymEnv(env_of(**fields)))


@pytest.fixture(scope="module")
def played():
    envs = SB3VecEnv(crash_env(), 4)
    envs.seed(0)
    start = envs.reset()
    return start, [envs.step(ACTIONS) for _ in range(6)], envs


def test_terminal_observations_are_those_of_the_raw_environment(played):
    start, steps, _ = played
    env = crash_env()
    params = env.default_params
    step = jax.jit(env.step_env)
    for lane, length in enumerate([3, 6, 6, 6]):
        key = jax.random.key(0)
        _, state = env.reset_env(key, params)
        for k in range(length):
            observation, state, reward, *_ = step(key, state, ACTIONS[lane], params)
            assert steps[k][1][lane] == pytest.approx(float(reward), rel=1e-5, abs=1e-7)
        seen, _, dones, infos = steps[length - 1]
        assert dones[lane]
        for name, part in observation.items():
            last = infos[lane]["terminal_observation"][name]
            np.testing.assert_allclose(last, part, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(seen[name][lane], start[name][lane])
    assert steps[5][3][3]["terminal_observation"]["account_state"][1] == -1


def test_only_time_and_data_are_time_limits(played):
    _, steps, _ = played
    assert [out[2].tolist() for out in steps[:3]] == [[False] * 4] * 2 + [[True] + [False] * 3]
    ruined = steps[2][3]
    assert ruined[0]["TimeLimit.truncated"] is False
    assert "TimeLimit.truncated" not in ruined[1]
    assert "terminal_observation" not in ruined[1]
    assert [info["TimeLimit.truncated"] for info in steps[5][3]] == [False, True, True, True]


def test_infos_are_of_the_transition_and_of_python(played):
    _, steps, envs = played
    ruined, flat = steps[2][3][:2]
    assert (ruined["step"], ruined["exit_kind"], ruined["filled_orders"]) == (3, 1, 1)
    assert ruined["equity"] < 10000
    assert flat["equity"] == 10000
    assert flat["virtual_time"] == "2024-01-01T00:04:00+00:00"
    assert {type(value) for value in flat.values()} == {float, int, str}
    assert envs.reset_infos[0]["equity"] == 10000
    assert envs.reset_infos[0]["step"] == 0


def test_rewards_are_float32_and_dones_bool(played):
    _, rewards, dones, _ = played[1][0]
    assert (rewards.dtype, dones.dtype, rewards.shape) == (np.float32, bool, (4,))


def test_without_infos_only_ends_are_told():
    envs = SB3VecEnv(crash_env(), 4, infos=False)
    envs.reset()
    infos = [envs.step(ACTIONS)[3] for _ in range(3)]
    assert infos[0] == [{}] * 4
    assert set(infos[2][0]) == {"terminal_observation", "TimeLimit.truncated"}


def test_seeds_decide_everything():
    envs = SB3VecEnv(env_of(leverage=2, slippage=0.01), 3)
    runs = []
    for seed in (1, 1, 2):
        envs.seed(seed)
        envs.reset()
        runs.append([envs.step(np.array([4, 0, 4]))[1].tolist() for _ in range(3)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_monitor_counts_episodes():
    envs = VecMonitor(SB3VecEnv(crash_env(), 4))
    envs.reset()
    for _ in range(3):
        infos = envs.step(ACTIONS)[3]
    assert infos[0]["episode"]["l"] == 3
    assert "episode" not in infos[1]


def test_attributes_are_those_of_the_whole():
    env = crash_env()
    envs = SB3VecEnv(env, 4)
    assert envs.get_attr("render_mode") == [None] * 4
    assert envs.get_attr("trading_env", indices=[1, 2]) == [env, env]
    assert envs.get_attr("num_actions", indices=0) == [3]
    assert envs.env_method("action_for", 1) == [2] * 4
    assert envs.env_is_wrapped(VecMonitor) == [False] * 4
    assert not envs.has_attr("no_such_thing")
    with pytest.raises(ValueError, match="'fee' cannot differ"):
        envs.set_attr("fee", 0.1)
    with pytest.raises(ValueError, match=r"^set_options: no options are known"):
        envs.set_options({"start": 0})
    envs.set_options()
    envs.close()


def test_a_missing_package_is_named(hidden):
    hidden("stable_baselines3", "jaxtrade.adapters.sb3")
    message = (
        r"^jaxtrade\.adapters\.sb3: needs the package 'stable-baselines3'; "
        r"install it with: pip install 'jaxtrade\[sb3\]'\.$"
    )
    with pytest.raises(ImportError, match=message):
        importlib.import_module("jaxtrade.adapters.sb3")
