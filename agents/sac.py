"""Soft actor-critic for an index (levels, brackets) or a number in [-1, 1] as action.

Twin critics, and a temperature that holds the entropy of the policy where the settings want it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from agents import gradients, replay, rollout
from agents.learner import index_twin
from agents.learner_config import number
from agents.losses import entropy_of
from agents.networks import ACCOUNT_STATE, ActorCritic, Normalizer
from agents.transitions import Transition, reward_scale, scaled, take

Array = jax.Array

# Deviation of the Gaussian before the hyperbolic tangent: e**-5 is next to none, e**2 is so wide
# that most actions are at -1 or 1.
LOG_DEVIATION = (-5.0, 2.0)


@struct.dataclass
class SACConfig(replay.ReplayConfig):
    """Settings of the learner, besides those of `ReplayConfig`.

    Attributes:
      target_entropy: entropy that the temperature is steered to. Discrete: as a share of that of
        even chances. Continuous: that of even chances over this share of [-1, 1]. Every random
        order pays costs: raise it only while nothing is learnt.
      temperature_start: weight of the entropy at first, in units of the (normalised) reward.
    """

    target_entropy: float = number(0.2, 1e-3, 1)
    temperature_start: float = number(0.2, 1e-6)


# The continuous policy --------------------------------------------------------------------------


def squashed(output: Array, noise: Array) -> tuple[Array, Array]:
    """Actions ``tanh(mean + deviation * noise)`` and their log densities, float32 [...] each.

    With u the number before the hyperbolic tangent the density of a = tanh(u) is that of u over
    ``da/du = 1 - a**2``, whose log is ``2 (log 2 - u - log(1 + e**(-2 u)))`` for any u.

    Args:
      output: [..., 2], mean and log deviation. noise: [...] of the standard normal distribution.
    """
    log_deviation = jnp.clip(output[..., 1], *LOG_DEVIATION)
    u = output[..., 0] + jnp.exp(log_deviation) * noise
    density = -0.5 * jnp.square(noise) - log_deviation - 0.5 * math.log(2 * math.pi)
    slope = 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))
    return jnp.tanh(u), density - slope


def choose_number(output: Array, draw: Array) -> tuple[Array, Array]:
    """`squashed` by a uniform draw [...] in [0, 1): ``choose`` of `rollout.collect`."""
    noise = jax.scipy.special.ndtri(jnp.clip(draw, 1e-6, 1 - 1e-6))
    return squashed(output, noise)


def deterministic(output: Array) -> Array:
    """The action without noise, float32 [...], of a continuous policy's first output [..., 2]."""
    return jnp.tanh(output[..., 0])


# The learner ------------------------------------------------------------------------------------


@struct.dataclass
class SACState(replay.ReplayState):
    """The whole truth of a run.

    Attributes:
      params: of the acting network: logits [A], or mean and log deviation.
      critics, target: [2, ...], parameters of both critics and of their targets.
      temperature: log of it, ().
    """

    critics: Any
    target: Any
    temperature: Array


@dataclasses.dataclass(frozen=True)
class SAC(replay.ReplayLearner):
    """The learner; see `Learner`. Its losses: ``loss``, ``critic_loss``, ``value`` (of the actions
    taken), ``entropy`` and ``temperature``.

    Attributes:
      critic: values of the actions [A] like a Q-network's; where the action is a number, it enters
        beside the account and the network's value is the action's.
    """

    critic: ActorCritic

    @classmethod
    def create(cls, env: Any, config: SACConfig) -> SAC:
        """The learner for an environment.

        Raises:
          ValueError: the settings are out of range.
        """
        config.check()
        if getattr(env, "continuous", False):
            return cls(index_twin(env), config.network(2), config.network(1))
        network = config.network(env.num_actions)
        return cls(index_twin(env), network, network)

    @property
    def continuous(self) -> bool:
        """Whether the action is a number in [-1, 1]."""
        return bool(getattr(self.env, "continuous", False))

    def init(
        self, key: Array, config: SACConfig, params: Any, normalizer: Normalizer | None = None
    ) -> SACState:
        """The state before the first update; see `Learner.init`."""
        key_actor, key_critics, key_start, key = jax.random.split(key, 4)
        lanes, buffer, observation = self._episodes(key_start, config, params)
        seen = self.expand(observation, params)
        actor = self.network.init(key_actor, seen)["params"]
        judged = _beside(seen, jnp.zeros(config.num_envs)) if self.continuous else seen
        critics = jax.vmap(lambda key: self.critic.init(key, judged)["params"])(
            jax.random.split(key_critics)
        )
        temperature = jnp.log(jnp.asarray(config.temperature_start, jnp.float32))
        parts = {"actor": actor, "critics": critics, "temperature": temperature}
        return SACState(
            params=actor,
            critics=critics,
            target=critics,
            temperature=temperature,
            optimizer=gradients.start_optimizers(parts, config),
            normalizer=jax.tree.map(jnp.asarray, normalizer or Normalizer.none()),
            lanes=lanes,
            buffer=buffer,
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    def _behaviour(
        self, state: SACState, config: SACConfig, params: Any
    ) -> tuple[Callable[[Any], tuple[Array, Array]], Callable[[Array, Array], Any]]:
        act = self.actor(state.params, params, config.steps_per_update)
        return act, choose_number if self.continuous else rollout.categorical

    def _learn(
        self, state: SACState, config: SACConfig, params: Any, key: Array
    ) -> tuple[SACState, dict[str, Array]]:
        scale = reward_scale(state.buffer.data, config)

        def step(carry: Any, x: tuple[Array, Array]) -> tuple[Any, Any]:
            parts, target, optimizers = carry
            key, steps = x
            key_places, key_noise = jax.random.split(key)
            places = state.buffer.uniform(key_places, config.batch_size)
            batch = scaled(take(state.buffer.data, places), scale, config)
            noise = jax.random.normal(key_noise, (2, config.batch_size))

            def loss(parts: gradients.Parts) -> tuple[Array, Any]:
                return self._loss(parts, target, batch, noise, config, params)

            parts, optimizers, learned = gradients.descend(loss, parts, optimizers, config)
            target = gradients.move(target, parts["critics"], steps, config)
            return (parts, target, optimizers), learned

        parts = {
            "actor": state.params,
            "critics": state.critics,
            "temperature": state.temperature,
        }
        carry = (parts, state.target, state.optimizer)
        carry, metrics = gradients.iterate(step, carry, key, state.update, config)
        parts, target, optimizer = carry
        state = dataclasses.replace(
            state,
            params=parts["actor"],
            critics=parts["critics"],
            temperature=parts["temperature"],
            target=target,
            optimizer=optimizer,
        )
        return state, metrics

    def _loss(
        self,
        parts: gradients.Parts,
        target: Any,
        batch: Transition,
        noise: Array,
        config: SACConfig,
        params: Any,
    ) -> tuple[Array, dict[str, Array]]:
        """The sum of three losses, each of which moves one part only.

        Args:
          noise: [2, M] of the standard normal distribution.
        """
        fixed = jax.lax.stop_gradient(parts)
        temperature = jnp.exp(fixed["temperature"])
        seen = self.expand(batch.observation, params)
        following = self.expand(batch.following, params)

        later, _ = self._soft_value(fixed["actor"], target, following, noise[0], temperature)
        wanted = batch.reward + batch.discount * later
        value = self._values(parts["critics"], seen, batch.action)
        critic_loss = 0.5 * jnp.square(value - wanted).sum(0).mean()
        soft, entropy = self._soft_value(
            parts["actor"], fixed["critics"], seen, noise[1], temperature
        )
        excess = jax.lax.stop_gradient(entropy.mean()) - self._target_entropy(config)
        loss = critic_loss - soft.mean() + parts["temperature"] * excess
        return loss, {
            "critic_loss": critic_loss,
            "value": value.mean(),
            "entropy": entropy.mean(),
            "temperature": temperature,
        }

    def _soft_value(
        self, actor: Any, critics: Any, seen: Any, noise: Array, temperature: Array
    ) -> tuple[Array, Array]:
        """Value of acting by the policy, with its entropy as part of the reward; and the entropy.

        Returns: [M] each.
        """
        output, _ = self.outputs(actor, seen)
        if self.continuous:
            action, log_density = squashed(output, noise)
            value = self._values(critics, seen, action).min(0)
            return value - temperature * log_density, -log_density
        log_probabilities = jax.nn.log_softmax(output)
        entropy = entropy_of(log_probabilities)
        value = (jnp.exp(log_probabilities) * self._all_values(critics, seen).min(0)).sum(-1)
        return value + temperature * entropy, entropy

    def _values(self, critics: Any, seen: Any, action: Array) -> Array:
        """Values of actions [M] by both critics, [2, M]."""
        if self.continuous:
            return self._judge(critics, _beside(seen, action))[1]
        return gradients.chosen(self._all_values(critics, seen), action)

    def _all_values(self, critics: Any, seen: Any) -> Array:
        """Values of every discrete action by both critics, [2, M, A]."""
        return gradients.action_values(self._judge(critics, seen))

    def _judge(self, critics: Any, seen: Any) -> tuple[Array, Array]:
        outputs: Any = jax.vmap(lambda one: self.critic.apply({"params": one}, seen))(critics)
        advantage, value = outputs
        return advantage, value

    def _target_entropy(self, config: SACConfig) -> Array:
        share = jnp.asarray(config.target_entropy)
        if self.continuous:
            return jnp.log(2 * share)
        return share * math.log(self.network.num_actions)


def _beside(seen: Any, action: Array) -> Any:
    """An observation with windows whose account is followed by the action, [M, P + 1]."""
    account = jnp.concatenate([seen[ACCOUNT_STATE], action[..., None]], axis=-1)
    return {**seen, ACCOUNT_STATE: account}
