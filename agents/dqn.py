"""Deep Q-learning: double, dueling, over several steps, with replay (prioritised if wanted)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from agents import gradients, replay, rollout
from agents.learner import index_twin, require_discrete
from agents.learner_config import count, number, switch
from agents.networks import Normalizer
from agents.transitions import Transition, reward_scale, scaled, take

Array = jax.Array


@struct.dataclass
class DQNConfig(replay.ReplayConfig):
    """Settings of the learner, besides those of `ReplayConfig`.

    Attributes:
      exploration_start, exploration_end: share of random actions at first and later.
      exploration_steps: environment steps over which it falls from the one to the other.
      double: the learnt network picks the following action, the target network values it.
      prioritised: replay transitions with large errors more often.
      priority_exponent: 0 replays evenly, 1 in proportion to the error.
      priority_correction: 0 leaves the preference in the loss, 1 weighs it away.
    """

    n_steps: int = count(3)
    exploration_start: float = number(1.0, 0, 1)
    exploration_end: float = number(0.05, 0, 1)
    exploration_steps: float = number(200_000)
    double: bool = switch(True)
    prioritised: bool = switch(False)
    priority_exponent: float = number(0.6, 0, 1)
    priority_correction: float = number(0.4, 0, 1)


@struct.dataclass
class DQNState(replay.ReplayState):
    """The whole truth of a run.

    Attributes:
      params: of the network; ``q = value + advantage - mean(advantage)`` of its two outputs.
      target: of the target network.
    """

    target: Any


@dataclasses.dataclass(frozen=True)
class DQN(replay.ReplayLearner):
    """The learner; see `Learner`. Its losses: ``loss``, ``error`` (size of the temporal
    difference) and ``value`` (of the action taken).
    """

    @classmethod
    def create(cls, env: Any, config: DQNConfig) -> DQN:
        """The learner for an environment.

        Raises:
          ValueError: the settings are out of range, or the actions are not discrete.
        """
        config.check()
        require_discrete(env, "DQN")
        return cls(index_twin(env), config.network(env.num_actions))

    def init(
        self, key: Array, config: DQNConfig, params: Any, normalizer: Normalizer | None = None
    ) -> DQNState:
        """The state before the first update; see `Learner.init`."""
        key_network, key_start, key = jax.random.split(key, 3)
        lanes, buffer, observation = self._episodes(key_start, config, params)
        network = self.network.init(key_network, self.expand(observation, params))["params"]
        return DQNState(
            params=network,
            target=network,
            optimizer=gradients.start_optimizers({"q": network}, config),
            normalizer=jax.tree.map(jnp.asarray, normalizer or Normalizer.none()),
            lanes=lanes,
            buffer=buffer,
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    def _behaviour(
        self, state: DQNState, config: DQNConfig, params: Any
    ) -> tuple[Callable[[Any], tuple[Array, Array]], Callable[[Array, Array], Any]]:
        """Epsilon-greedy, as logs of probabilities; and the best action's value."""
        act = self.actor(state.params, params, config.steps_per_update)
        done = (state.update * config.steps_per_update) / jnp.maximum(config.exploration_steps, 1)
        fall = config.exploration_end - config.exploration_start
        epsilon = config.exploration_start + jnp.minimum(done, 1) * fall

        def explore(observation: Any) -> tuple[Array, Array]:
            values = gradients.action_values(act(observation))
            amount = values.shape[-1]
            best = jax.nn.one_hot(values.argmax(-1), amount)
            return jnp.log((1 - epsilon) * best + epsilon / amount), values.max(-1)

        return explore, rollout.categorical

    def _learn(
        self, state: DQNState, config: DQNConfig, params: Any, key: Array
    ) -> tuple[DQNState, dict[str, Array]]:
        scale = reward_scale(state.buffer.data, config)

        def step(carry: Any, x: tuple[Array, Array]) -> tuple[Any, Any]:
            parts, target, optimizers, buffer = carry
            key, steps = x
            if config.prioritised:
                places, weight = buffer.prioritised(
                    key, config.batch_size, config.priority_exponent, config.priority_correction
                )
            else:
                places, weight = buffer.uniform(key, config.batch_size), jnp.ones(())
            batch = scaled(take(buffer.data, places), scale, config)

            def loss(parts: gradients.Parts) -> tuple[Array, Any]:
                error, value = self._errors(parts["q"], target, batch, config, params)
                terms = {"error": jnp.abs(error).mean(), "value": value.mean()}
                return 0.5 * (weight * jnp.square(error)).mean(), (terms, error)

            parts, optimizers, (value, norm, (terms, error)) = gradients.descend(
                loss, parts, optimizers, config
            )
            target = gradients.move(target, parts["q"], steps, config)
            if config.prioritised:
                buffer = buffer.prioritise(places, error)
            return (parts, target, optimizers, buffer), (value, norm, terms)

        carry = ({"q": state.params}, state.target, state.optimizer, state.buffer)
        carry, metrics = gradients.iterate(step, carry, key, state.update, config)
        parts, target, optimizer, buffer = carry
        state = dataclasses.replace(
            state, params=parts["q"], target=target, optimizer=optimizer, buffer=buffer
        )
        return state, metrics

    def _errors(
        self,
        network: Any,
        target: Any,
        batch: Transition,
        config: DQNConfig,
        params: Any,
    ) -> tuple[Array, Array]:
        """Temporal differences and values of the actions taken, [M] each."""
        following = self.expand(batch.following, params)
        later = gradients.action_values(self.outputs(target, following))
        picking = later
        if config.double:
            picking = gradients.action_values(self.outputs(network, following))
        best = gradients.chosen(later, picking.argmax(-1))
        values = gradients.action_values(self.apply(network, batch.observation, params))
        value = gradients.chosen(values, batch.action)
        return batch.reward + batch.discount * jax.lax.stop_gradient(best) - value, value
