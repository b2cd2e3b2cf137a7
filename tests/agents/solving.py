"""Training on a probe, for the tests of every learner."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents import learner as learning
from tests.agents import probes

# Both signs that a probe may show, at its first step.
SHOWN = ((1, 0), (-1, 0))
CHUNK = 20


def train(learner: Any, config: Any, params: Any, updates: int, seed: int = 0) -> Any:
    """The state after ``updates`` (whole chunks of 20)."""
    state = learning.start(learner, jax.random.key(seed), config.traced(), params)
    for _ in range(updates // CHUNK):
        state, metrics = learning.train_chunk(
            state, config.traced(), params, learner=learner, length=CHUNK
        )
        assert int(metrics["nonfinite_losses"].sum()) == 0
    return state


def on_probe(learner: Any, config: Any, kind: probes.Kind, updates: int, seed: int = 0) -> Any:
    """The state after learning by acting in a probe."""
    return train(learner, config, probes.params_of(kind), updates, seed)


def outputs(network: Any, network_params: Any, shown: Any = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Both outputs of a network where a probe shows [B, 2] (sign, time)."""
    observation = {"account_state": jnp.asarray(shown, jnp.float32)}
    first, value = network.apply({"params": network_params}, observation)
    return np.asarray(first), np.asarray(value)
