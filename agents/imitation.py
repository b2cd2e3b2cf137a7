"""Behaviour cloning: a network learns to repeat recorded actions, those of a rule for example.

What it learnt runs and is bundled like any policy, and may be the beginning of another learner::

    data = recorded.play(env, rule, params, key)
    cloned, _ = train_chunk(start(cloning, key, settings, data, normalizer), settings, data, ...)
    state = begin_with(start(ppo, key, others, params, normalizer), cloned)
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from agents import gradients
from agents.learner import Learner, index_twin, normalised, require_discrete
from agents.learner_config import number
from agents.networks import Normalizer
from agents.recorded import Recording
from agents.transitions import StoredConfig, take

Array = jax.Array


@struct.dataclass
class CloningConfig(StoredConfig):
    """Settings of the learner, besides those of `StoredConfig`.

    Attributes:
      label_smoothing: chance shared by all actions; above 0 the policy stays able to explore when
        another learner goes on with it.
    """

    label_smoothing: float = number(0.0, 0, 1)


@struct.dataclass
class CloningState:
    """The whole truth of a run; saved and resumed as it is. The recording is not part of it.

    Attributes:
      params: of the network. optimizer: optax state. normalizer: of the market features.
      key: typed. update: int32.
    """

    params: Any
    optimizer: Any
    normalizer: Normalizer
    key: Array
    update: Array


@dataclasses.dataclass(frozen=True)
class Cloning(Learner):
    """The learner; see `Learner`. In place of environment parameters it takes a `Recording`.

    Its losses: ``loss`` (cross entropy) and ``accuracy`` (share of the actions repeated).
    """

    @classmethod
    def create(cls, env: Any, config: CloningConfig) -> Cloning:
        """The learner for an environment whose trajectories were recorded.

        Raises:
          ValueError: the settings are out of range, or the actions are not discrete.
        """
        config.check()
        require_discrete(env, "behaviour cloning")
        return cls(index_twin(env), config.network(env.num_actions))

    def init(
        self,
        key: Array,
        config: CloningConfig,
        params: Recording,
        normalizer: Normalizer | None = None,
    ) -> CloningState:
        """The state before the first update; see `Learner.init`."""
        key_network, key = jax.random.split(key)
        seen = self.expand(take(params.transitions, jnp.arange(1)).observation, params)
        network = self.network.init(key_network, seen)["params"]
        return CloningState(
            params=network,
            optimizer=gradients.start_optimizers({"policy": network}, config),
            normalizer=jax.tree.map(jnp.asarray, normalizer or Normalizer.none()),
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    def update(
        self, state: CloningState, config: CloningConfig, params: Recording
    ) -> tuple[CloningState, dict[str, Array]]:
        """Gradient steps over minibatches of the recording.

        Returns: the next state and metrics: ``steps`` (transitions learnt from) and ``loss_*`` sums
          over ``minibatches`` gradient steps.
        """
        key, key_learn = jax.random.split(state.key)
        data = normalised(state.normalizer, params)

        def step(carry: Any, x: tuple[Array, Array]) -> tuple[Any, Any]:
            parts, optimizers = carry
            places = jax.random.randint(x[0], (config.batch_size,), 0, data.size)
            batch = take(data.transitions, places)

            def loss(parts: gradients.Parts) -> tuple[Array, dict[str, Array]]:
                logits, _ = self.apply(parts["policy"], batch.observation, data)
                logs = jax.nn.log_softmax(logits)
                taken = gradients.chosen(logs, batch.action)
                smooth = config.label_smoothing
                cross_entropy = -((1 - smooth) * taken + smooth * logs.mean(-1)).mean()
                accuracy = (logits.argmax(-1) == batch.action).mean()
                return cross_entropy, {"accuracy": accuracy}

            parts, optimizers, learned = gradients.descend(loss, parts, optimizers, config)
            return (parts, optimizers), learned

        carry = ({"policy": state.params}, state.optimizer)
        carry, metrics = gradients.iterate(step, carry, key_learn, state.update, config)
        parts, optimizer = carry
        following = CloningState(
            params=parts["policy"],
            optimizer=optimizer,
            normalizer=state.normalizer,
            key=key,
            update=state.update + 1,
        )
        return following, {"steps": jnp.asarray(config.steps_per_update, jnp.int32), **metrics}


@partial(jax.jit, static_argnames=("learner",))
def accuracy(learner: Cloning, state: CloningState, data: Recording) -> Array:
    """Share of all recorded actions that the policy repeats, ()."""
    known = normalised(state.normalizer, data)

    def repeats(x: tuple[Any, Array]) -> Array:
        observation, action = x
        logits, _ = learner.apply(state.params, observation, known)
        return logits.argmax(-1) == action

    transitions = data.transitions
    pairs = (transitions.observation, transitions.action)
    return jax.lax.map(repeats, pairs, batch_size=4096).mean()


def begin_with(state: Any, cloned: Any) -> Any:
    """The state of another learner whose policy, and normalizer, are those that were cloned.

    What a learner keeps of its network besides (a reference policy, a target network) begins with
    it as well. The outputs must mean the same: a policy serves PPO, A2C, GRPO and SAC, whose first
    output are logits; DQN goes on from action values.

    Args:
      state: of `learner.start`, one seed or several.
      cloned: state of one seed, or anything with ``params`` and ``normalizer``.

    Raises:
      ValueError: the networks differ.
    """
    seeds = state.update.ndim

    def shapes(network: Any, axes: int = 0) -> Any:
        return jax.tree.map(lambda leaf: leaf.shape[axes:], network)

    wanted = shapes(cloned.params)
    if shapes(state.params, seeds) != wanted:
        raise ValueError(
            "begin_with: the networks differ; give both learners the same encoder, hidden_sizes, "
            "channels and width, and environments with the same actions and windows"
        )

    def spread(old: Array, new: Array) -> Array:
        return jnp.broadcast_to(new, old.shape).copy()  # donated with the state: never shared

    # The target of twin critics has another shape: it is not this network's.
    copies = [
        name
        for name in ("params", "reference", "target")
        if hasattr(state, name) and shapes(getattr(state, name), seeds) == wanted
    ]
    begun = {name: jax.tree.map(spread, getattr(state, name), cloned.params) for name in copies}
    normalizer = jax.tree.map(lambda leaf: leaf.copy(), cloned.normalizer)
    return state.replace(**begun, normalizer=normalizer)
