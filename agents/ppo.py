"""Proximal policy optimisation over the key-free pieces of an environment."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from agents import losses, rollout, segments
from agents.experience import Experience, Segments, Steps
from agents.gradients import by_parts
from agents.learner import (
    Learner,
    LearnerConfig,
    choice,
    count,
    gradient_norm,
    index_twin,
    normalised,
    number,
    require_discrete,
    switch,
)
from agents.networks import Normalizer
from jaxtrade.wrappers import ContinuingEpisodes

Array = jax.Array


@struct.dataclass
class PPOConfig(LearnerConfig):
    """Settings of the learner, besides those of `LearnerConfig`.

    Attributes:
      learning_rate: of Adam; lower it when `kl` of an update exceeds about 0.05.
      gae_lambda: 1 trusts returns, 0 trusts the value function.
      clip_range: largest change of a probability ratio that is rewarded.
      value_coefficient: weight of the value error in the loss.
      entropy_coefficient: weight of the entropy; raise it when one action takes over early.
      rollout_steps: steps of each environment per update.
      epochs: passes over a rollout. minibatches: parts of a rollout per pass; must divide num_envs.
      shuffle: "envs" cuts a rollout into whole environments, "steps" into single steps.
      rollout: "steps" encodes every observation on its own; "segments" lets every market clock run
        on through a rollout and encodes its stretch of bars once, for encoder "conv".
      restart_updates: "segments" only: updates after which a lane moves to a new random start.
      normalize_advantages: per minibatch.
      normalize_rewards: divide rewards by the running deviation of the discounted return, so that
        returns of any size give value targets near 1.
    """

    gae_lambda: float = number(0.95, 0, 1)
    clip_range: float = number(0.2)
    value_coefficient: float = number(0.5)
    entropy_coefficient: float = number(0.005)
    rollout_steps: int = count(64)
    epochs: int = count(3)
    minibatches: int = count(8)
    shuffle: str = choice("envs", ("envs", "steps"))
    rollout: str = choice("steps", ("steps", "segments"))
    restart_updates: int = count(8)
    normalize_advantages: bool = switch(True)
    normalize_rewards: bool = switch(True)

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one update, S * N."""
        return self.num_envs * self.rollout_steps

    def _conflicts(self) -> list[str]:
        problems = []
        if self._shuffled % self.minibatches:
            problems.append(
                f"minibatches: must divide the {self._shuffled} {self.shuffle} of a rollout, was "
                f"{self.minibatches}"
            )
        if self.rollout == "segments":
            for name, needed in (("encoder", "conv"), ("shuffle", "envs")):
                if getattr(self, name) != needed:
                    problems.append(
                        f'{name}: must be "{needed}" with rollout="segments", was '
                        f"{getattr(self, name)!r}"
                    )
        return problems

    @property
    def _shuffled(self) -> int:
        return self.num_envs if self.shuffle == "envs" else self.steps_per_update


@struct.dataclass
class ReturnScale:
    """Running spread of the discounted return, for `PPOConfig.normalize_rewards`.

    Attributes:
      discounted: [N], running discounted return. square_sum, count: ().
    """

    discounted: Array
    square_sum: Array
    count: Array


@struct.dataclass
class TrainState:
    """The whole truth of a run; saved and resumed as it is.

    Attributes:
      params: of the network. optimizer: optax state. normalizer: of the market features, fixed.
      lanes: running episodes [N]. return_scale: of the rewards. key: typed. update: int32.
    """

    params: Any
    optimizer: Any
    normalizer: Normalizer
    lanes: rollout.Lanes
    return_scale: ReturnScale
    key: Array
    update: Array


@dataclasses.dataclass(frozen=True)
class PPO(Learner):
    """The learner; see `Learner`.

    Attributes:
      view: how it collects and looks at what it collected.
    """

    view: Steps | Segments = dataclasses.field(default_factory=Steps)

    @classmethod
    def create(cls, env: Any, config: PPOConfig) -> PPO:
        """The learner for an environment.

        Raises:
          ValueError: the settings are out of range, or the actions are not discrete.
        """
        config.check()
        require_discrete(env, "PPO")
        network = config.network(env.num_actions)
        if config.rollout == "steps":
            return cls(index_twin(env), network)
        plan = segments.Plan.of(env.market, config.rollout_steps, network.reach)
        view = Segments(plan, config.restart_updates)
        return cls(ContinuingEpisodes(index_twin(env)), network, view)

    def init(
        self, key: Array, config: PPOConfig, params: Any, normalizer: Normalizer | None = None
    ) -> TrainState:
        """The state before the first update; see `Learner.init`."""
        key_network, key_start, key = jax.random.split(key, 3)
        draws = rollout.Draws.of(key_start, (config.num_envs,))
        lanes = rollout.start(self.env, draws, params)
        normalizer = normalizer or Normalizer.none()
        observation = self.expand(rollout.observe(self.env, lanes.state, params), params)
        network = self.network.init(key_network, observation)["params"]
        zero = jnp.zeros((), jnp.float32)
        return TrainState(
            params=network,
            optimizer=config.traced().optimizer().init(network),
            normalizer=jax.tree.map(jnp.asarray, normalizer),
            lanes=lanes,
            return_scale=ReturnScale(jnp.zeros(config.num_envs, jnp.float32), zero, zero),
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    def update(
        self, state: TrainState, config: PPOConfig, params: Any
    ) -> tuple[TrainState, dict[str, Array]]:
        """Collect one rollout and learn from it.

        Returns: the next state and metrics, sums and counts (see `rollout.collect`) plus
          ``loss_*`` sums over ``minibatches`` minibatches.
        """
        key, key_draws, key_shuffle = jax.random.split(state.key, 3)
        params = normalised(state.normalizer, params)
        # A row before the steps: lanes that move do so before the rollout.
        shape = (config.rollout_steps + 1, config.num_envs)
        draws = rollout.Draws.of(key_draws, shape)
        seen = self.view.collect(self, state.params, state.lanes, draws, params, state.update)
        batch, metrics = seen.batch, seen.metrics
        return_scale, reward = _scaled_rewards(state.return_scale, batch, config)
        advantage, target = losses.gae(
            reward,
            jnp.concatenate([batch.value, seen.last_value[None]]),
            seen.final_value,
            batch.terminated,
            seen.truncated,
            config.gamma,
            config.gae_lambda,
        )
        network, optimizer, learned = self._learn(
            state, config, params, seen, advantage, target, key_shuffle
        )
        metrics |= learned
        metrics |= _explained(target, batch.value)
        following = TrainState(
            params=network,
            optimizer=optimizer,
            normalizer=state.normalizer,
            lanes=seen.lanes,
            return_scale=return_scale,
            key=key,
            update=state.update + 1,
        )
        return following, metrics

    def _learn(
        self,
        state: TrainState,
        config: PPOConfig,
        params: Any,
        seen: Experience,
        advantage: Array,
        target: Array,
        key: Array,
    ) -> tuple[Any, Any, dict[str, Array]]:
        """Epochs over minibatches of whole environments (or single steps)."""
        optimizer = config.optimizer()
        batch = seen.batch
        samples = (seen.inputs, batch.action, batch.log_probability, advantage, target)
        if config.shuffle == "steps":
            samples = jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), samples)
        count = config._shuffled

        def loss(network: Any, part: Any) -> tuple[Array, losses.LossTerms]:
            inputs, *rest = part
            logits, value = self.view.outputs(self, network, inputs, params)
            terms = losses.ppo_loss(
                logits,
                value,
                *(x.reshape(-1) for x in rest),
                clip_range=config.clip_range,
                value_coefficient=config.value_coefficient,
                entropy_coefficient=config.entropy_coefficient,
            )
            return terms.loss, terms

        def gradient_of(network: Any, minibatch: Any) -> tuple[losses.LossTerms, Any]:
            if config.normalize_advantages:
                minibatch = (*minibatch[:3], _standardised(minibatch[3]), minibatch[4])
            parts = self.view.parts(minibatch[1].shape[1])
            gradient, terms = by_parts(
                lambda part: jax.grad(loss, has_aux=True)(network, part), minibatch, parts
            )
            mean = jax.tree.map(lambda x: x.mean(0), (terms, gradient))
            return mean[0]._replace(ratio_deviation=terms.ratio_deviation.max()), mean[1]

        def step(carry: Any, places: Array) -> tuple[Any, Any]:
            network, optimizer_state = carry
            minibatch = jax.tree.map(lambda x: jnp.take(x, places, axis=1), samples)
            terms, gradient = gradient_of(network, minibatch)
            norm = gradient_norm(gradient)
            change, optimizer_state = optimizer.update(gradient, optimizer_state)
            return (optax.apply_updates(network, change), optimizer_state), (terms, norm)

        def epoch(carry: Any, key: Array) -> tuple[Any, Any]:
            places = jax.random.permutation(key, count).reshape(config.minibatches, -1)
            return jax.lax.scan(step, carry, places)

        keys = jax.random.split(key, config.epochs)
        carry, (terms, norm) = jax.lax.scan(epoch, (state.params, state.optimizer), keys)
        named = terms._asdict()
        # Of the very first minibatch: anything but rounding is an error of layout.
        deviation = named.pop("ratio_deviation")[0, 0]
        metrics = losses.learning_metrics(named.pop("loss"), norm, named)
        metrics["first_ratio_deviation_max"] = deviation
        return (*carry, metrics)


def _scaled_rewards(
    scale: ReturnScale, batch: rollout.Transitions, config: PPOConfig
) -> tuple[ReturnScale, Array]:
    """Rewards over the root mean square of the discounted return seen so far, within +-10."""
    if not config.normalize_rewards:
        return scale, batch.reward
    done = batch.terminated | batch.truncated

    def add(discounted: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, done = x
        discounted = config.gamma * discounted + reward
        return jnp.where(done, 0, discounted), discounted

    discounted, seen = jax.lax.scan(add, scale.discounted, (batch.reward, done))
    square_sum = scale.square_sum + jnp.square(seen).sum()
    count = scale.count + seen.size
    deviation = jnp.sqrt(square_sum / count)
    reward = jnp.clip(batch.reward / jnp.maximum(deviation, 1e-8), -10, 10)
    return ReturnScale(discounted, square_sum, count), reward


def _standardised(advantage: Array) -> Array:
    """Mean 0 and deviation 1 over all samples of a minibatch."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def _explained(target: Array, value: Array) -> dict[str, Array]:
    """Sums from which the host forms the explained variance of the value."""
    centred = target - target.mean()
    return {
        "value_error_sum": jnp.square(target - value).sum(),
        "target_variance_sum": jnp.square(centred).sum(),
    }
