"""`FiveValue` under rejax, which still expects the step of gymnax before 1.0."""

from __future__ import annotations

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade.adapters.legacy import FiveValue
from tests.adapters.builders import crash_env, env_of
from tests.envs.builders import assert_trees_equal

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"leverage": 2}, id="discrete"),
        pytest.param({"action": "continuous"}, id="continuous", marks=pytest.mark.slow),
    ],
)
def test_rejax_ppo_trains(fields):
    rejax = pytest.importorskip(
        "rejax", reason="needs the extra 'rejax': pip install 'jaxtrade[rejax]'"
    )
    from rejax.evaluate import evaluate

    def callback(algorithm, state, key):
        act = algorithm.make_act(state)
        return evaluate(act, key, algorithm.env, algorithm.env_params, 2, 20)

    env = FiveValue(env_of(observation="flat", **fields))
    algorithm = rejax.PPO.create(
        env=env,
        env_params=env.default_params,
        total_timesteps=128,
        eval_freq=64,
        num_envs=8,
        num_steps=8,
        num_minibatches=2,
        num_epochs=2,
        agent_kwargs={"hidden_layer_sizes": (8,)},
    ).replace(eval_callback=callback)
    before = algorithm.init_state(KEY)
    traced = jax.jit(rejax.PPO.train).trace(algorithm, KEY)
    # The market is an argument of the program, not a constant inside it.
    assert sum(np.asarray(one).nbytes for one in traced.jaxpr.consts) < 100
    state, (lengths, returns) = traced.lower().compile()(algorithm, KEY)
    assert int(state.global_step) == 128
    assert lengths.shape == returns.shape == (3, 2)
    assert np.isfinite(returns).all()
    assert (np.asarray(lengths) >= 1).all()
    for network in ("actor_ts", "critic_ts"):
        pairs = zip(
            jax.tree.leaves(getattr(before, network).params),
            jax.tree.leaves(getattr(state, network).params),
            strict=True,
        )
        assert all(np.isfinite(b).all() and (a != b).any() for a, b in pairs)


def test_done_is_ruin_time_or_data_and_info_is_empty():
    env = FiveValue(crash_env())
    for action, length in ((2, 3), (1, 6)):
        _, state = env.reset(KEY)
        dones = []
        for _ in range(6):
            observation, state, _, done, info = env.step(KEY, state, action)
            dones.append(bool(done))
            assert info == {}
        assert dones.index(True) == length - 1
    # Already the next episode's.
    assert int(state.time) == 0
    assert float(observation["account_state"][1]) == 0


def test_the_rest_is_the_environments_own():
    trading = env_of(leverage=2, observation="flat")
    env = FiveValue(trading)
    assert env.num_actions == 5
    assert env.name == "SequentialTradingEnv"
    assert env.action_space(env.default_params).n == 5
    assert env.observation_space().shape == (11,)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = env.no_such_thing
    _, state = env.reset(KEY)
    ours, theirs = env.step(KEY, state, 3), trading.step(KEY, state, 3)
    assert_trees_equal(ours[:3], theirs[:3])


def test_copies_work():
    env = FiveValue(env_of(action="continuous", observation="flat"))
    assert env.action_space().shape == (1,)
    _, state = env.reset(KEY)
    want = env.step(KEY, state, jnp.array([0.5]))
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert twin is not env
        assert_trees_equal(twin.step(KEY, state, jnp.array([0.5])), want)
