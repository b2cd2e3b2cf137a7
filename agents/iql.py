"""Implicit Q-learning from recorded trajectories: no action outside the record is ever valued.

The value of a state is an upper expectile of the values of the actions recorded there; the policy
imitates the recorded actions, the more the better they were.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from agents import gradients
from agents.learner import Learner, index_twin, normalised, require_discrete
from agents.learner_config import number
from agents.networks import ActorCritic, Normalizer
from agents.recorded import Recording
from agents.transitions import Transition, ValueConfig, reward_scale, scaled, take

Array = jax.Array


@struct.dataclass
class IQLConfig(ValueConfig):
    """Settings of the learner, besides those of `ValueConfig`.

    Attributes:
      expectile: 0.5 values the recorded behaviour, near 1 the best of it.
      advantage_weight: 0 imitates all actions alike, large ones only the best.
    """

    expectile: float = number(0.8, 0.5, 0.999)
    advantage_weight: float = number(3.0)


# No sample counts more than this many times as much as an average one.
WEIGHT_CLIP = 100.0


@struct.dataclass
class IQLState:
    """The whole truth of a run; saved and resumed as it is. The recording is not part of it.

    Attributes:
      params: of the acting network. critics, target: [2, ...], of both critics and their targets.
      value: of the network whose second output is the value of a state.
      optimizer: optax state of each part. normalizer: of the market features. key: typed.
      update: int32.
    """

    params: Any
    critics: Any
    target: Any
    value: Any
    optimizer: Any
    normalizer: Normalizer
    key: Array
    update: Array


@dataclasses.dataclass(frozen=True)
class IQL(Learner):
    """The learner; see `Learner`. In place of environment parameters it takes a `Recording`.

    Its losses: ``loss``, ``critic_loss``, ``value_loss``, ``policy_loss``, ``value`` (of the
    states) and ``weight`` (of the recorded actions).

    Attributes:
      judge: its second output is the value of a state.
    """

    judge: ActorCritic

    @classmethod
    def create(cls, env: Any, config: IQLConfig) -> IQL:
        """The learner for an environment whose trajectories were recorded.

        Raises:
          ValueError: the settings are out of range, or the actions are not discrete.
        """
        config.check()
        require_discrete(env, "IQL")
        return cls(index_twin(env), config.network(env.num_actions), config.network(1))

    def init(
        self,
        key: Array,
        config: IQLConfig,
        params: Recording,
        normalizer: Normalizer | None = None,
    ) -> IQLState:
        """The state before the first update; see `Learner.init`."""
        key_actor, key_critics, key_value, key = jax.random.split(key, 4)
        seen = self.expand(take(params.transitions, jnp.arange(1)).observation, params)
        critics = jax.vmap(lambda key: self.network.init(key, seen)["params"])(
            jax.random.split(key_critics)
        )
        parts = {
            "actor": self.network.init(key_actor, seen)["params"],
            "critics": critics,
            "value": self.judge.init(key_value, seen)["params"],
        }
        return IQLState(
            params=parts["actor"],
            critics=critics,
            target=critics,
            value=parts["value"],
            optimizer=gradients.start_optimizers(parts, config),
            normalizer=jax.tree.map(jnp.asarray, normalizer or Normalizer.none()),
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    def update(
        self, state: IQLState, config: IQLConfig, params: Recording
    ) -> tuple[IQLState, dict[str, Array]]:
        """Gradient steps over minibatches of the recording.

        Returns: the next state and metrics: ``steps`` (transitions learnt from) and ``loss_*`` sums
          over ``minibatches`` gradient steps.
        """
        key, key_learn = jax.random.split(state.key)
        data = normalised(state.normalizer, params)
        scale = reward_scale(data.transitions, config)

        def step(carry: Any, x: tuple[Array, Array]) -> tuple[Any, Any]:
            parts, target, optimizers = carry
            key, steps = x
            places = jax.random.randint(key, (config.batch_size,), 0, data.size)
            batch = scaled(take(data.transitions, places), scale, config)

            def loss(parts: gradients.Parts) -> tuple[Array, Any]:
                return self._loss(parts, target, batch, config, data)

            parts, optimizers, learned = gradients.descend(loss, parts, optimizers, config)
            target = gradients.move(target, parts["critics"], steps, config)
            return (parts, target, optimizers), learned

        parts = {"actor": state.params, "critics": state.critics, "value": state.value}
        carry = (parts, state.target, state.optimizer)
        carry, metrics = gradients.iterate(step, carry, key_learn, state.update, config)
        parts, target, optimizer = carry
        following = IQLState(
            params=parts["actor"],
            critics=parts["critics"],
            target=target,
            value=parts["value"],
            optimizer=optimizer,
            normalizer=state.normalizer,
            key=key,
            update=state.update + 1,
        )
        return following, {"steps": jnp.asarray(config.steps_per_update, jnp.int32), **metrics}

    def _loss(
        self,
        parts: gradients.Parts,
        target: Any,
        batch: Transition,
        config: IQLConfig,
        data: Recording,
    ) -> tuple[Array, dict[str, Array]]:
        """The sum of three losses, each of which moves one part only."""
        seen = self.expand(batch.observation, data)
        following = self.expand(batch.following, data)

        def judged(critics: Any) -> Array:
            outputs = jax.vmap(lambda one: self.outputs(one, seen))(critics)
            return gradients.chosen(gradients.action_values(outputs), batch.action)

        def value_of(observation: Any) -> Array:
            outputs: Any = self.judge.apply({"params": parts["value"]}, observation)
            value: Array = outputs[1]
            return value

        value = value_of(seen)
        # How much better the recorded action was than the state.
        advantage = jax.lax.stop_gradient(judged(target).min(0)) - value
        share = jnp.where(advantage > 0, config.expectile, 1 - config.expectile)
        value_loss = (share * jnp.square(advantage)).mean()

        later = jax.lax.stop_gradient(value_of(following))
        wanted = batch.reward + config.gamma * batch.discount * later
        critic_loss = 0.5 * jnp.square(judged(parts["critics"]) - wanted).sum(0).mean()

        advantage = jax.lax.stop_gradient(advantage)
        weight = jnp.minimum(jnp.exp(config.advantage_weight * advantage), WEIGHT_CLIP)
        logits, _ = self.outputs(parts["actor"], seen)
        logs = gradients.chosen(jax.nn.log_softmax(logits), batch.action)
        policy_loss = -(weight * logs).mean()
        return critic_loss + value_loss + policy_loss, {
            "critic_loss": critic_loss,
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "value": value.mean(),
            "weight": weight.mean(),
        }
