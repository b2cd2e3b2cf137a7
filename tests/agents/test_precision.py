"""bfloat16 reaches the market part of a network and nothing else, and costs only its digits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import learner as learning
from agents import ppo, rollout
from agents.learner import normalised
from agents.networks import ENCODERS, SHARING, Normalizer
from tests.agents.test_segments import environment

# Half a unit in the last of the 8 digits of bfloat16.
ROUNDING = 2.0**-9


def learner_of(encoder: str, view: str, precision: str) -> tuple[ppo.PPO, ppo.PPOConfig]:
    config = ppo.PPOConfig(
        num_envs=12,
        rollout_steps=16,
        epochs=1,
        minibatches=1,
        hidden_sizes=(16, 8),
        encoder=encoder,
        channels=(8, 8),
        memory=4,
        rollout=view,
        precision=precision,
    )
    with pytest.warns(UserWarning, match="data gaps"):
        return ppo.PPO.create(environment(), config), config


@pytest.mark.parametrize(
    ("encoder", "view"),
    [
        *(pytest.param(name, "steps", marks=pytest.mark.slow) for name in ENCODERS),
        ("conv", "segments"),
        pytest.param("recurrent", "segments", marks=pytest.mark.slow),
    ],
)
def test_half_the_bytes_change_outputs_by_their_rounding(encoder: str, view: str) -> None:
    learner, config = learner_of(encoder, view, "float32")
    coarse, coarse_config = learner_of(encoder, view, "bfloat16")
    traced, params = config.traced(), learner.env.default_params
    normalizer = Normalizer.fit(learner.env.market)
    state = learning.start(learner, jax.random.key(0), traced, params, normalizer)
    draws = rollout.Draws.of(jax.random.key(1), (config.rollout_steps + 1, config.num_envs))

    @jax.jit
    def seen(state: Any, params: Any) -> Any:
        known = normalised(state.normalizer, params)
        halved = normalised(state.normalizer, params, coarse_config.precision)
        assert all(table.dtype == jnp.bfloat16 for table in halved.market.features)
        assert halved.market.ohlcv.dtype == jnp.float32
        found = learner.view.collect(learner, state.params, state.lanes, draws, known, jnp.int32(1))
        assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(found))
        exact = learner.view.outputs(learner, state.params, found.inputs, known)
        rounded = coarse.view.outputs(coarse, state.params, found.inputs, halved)
        return exact, rounded

    exact, rounded = seen(state, params)
    for ours, theirs in zip(exact, rounded, strict=True):
        assert theirs.dtype == jnp.float32
        scale = float(jnp.std(ours))
        error = np.abs(np.asarray(ours - theirs)) / scale
        # About eight roundings one after another on the way (features, layers, sums).
        assert ROUNDING / 10 < np.sqrt(np.mean(error**2)) < 8 * ROUNDING
        assert error.max() < 64 * ROUNDING


@pytest.mark.parametrize("encoder", SHARING)
def test_what_is_learnt_stays_float32(encoder: str) -> None:
    learner, config = learner_of(encoder, "segments", "bfloat16")
    traced, params = config.traced(), learner.env.default_params
    normalizer = Normalizer.fit(learner.env.market)
    state = learning.start(learner, jax.random.key(0), traced, params, normalizer)
    state, metrics = jax.eval_shape(
        lambda *arguments: learning.train_chunk(*arguments, learner=learner, length=1),
        state,
        traced,
        params,
    )
    assert not any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves((state, metrics)))
