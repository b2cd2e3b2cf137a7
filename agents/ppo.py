"""Proximal policy optimisation over the key-free pieces of an environment."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import PartitionSpec

from agents import losses, rollout, segments
from agents.devices import ALIKE, LANES, first_lane, mean_over, merged
from agents.experience import Experience, Segments, Steps
from agents.gradients import by_parts
from agents.learner import Learner, gradient_norm, index_twin, normalised, require_discrete
from agents.learner_config import LearnerConfig, choice, count, number, switch
from agents.networks import SHARING, Normalizer
from agents.reward_scale import ReturnScale, scaled
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
        on through a rollout and encodes its stretch of bars once, for encoders that share work
        along time ("conv", "recurrent").
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
            for name, fitting in (("encoder", SHARING), ("shuffle", ("envs",))):
                if getattr(self, name) not in fitting:
                    problems.append(
                        f"{name}: must be one of {fitting} with rollout='segments', was "
                        f"{getattr(self, name)!r}"
                    )
        return problems

    @property
    def _shuffled(self) -> int:
        return self.num_envs if self.shuffle == "envs" else self.steps_per_update


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
      axis: of the devices that share the environments (`agents.devices`); None = alone.
    """

    view: Steps | Segments = dataclasses.field(default_factory=Steps)
    axis: str | None = None

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

    def draws(self, state: TrainState, config: PPOConfig) -> rollout.Draws:
        """What the lanes draw in the next update, [S + 1, N]: lanes that move do so first."""
        key = jax.random.split(state.key, 3)[1]
        return rollout.Draws.of(key, (config.rollout_steps + 1, config.num_envs))

    def shards(self) -> tuple[Any, Any]:
        """How states and `draws` lie on devices that share the environments: as prefix trees."""
        state: Any = dict.fromkeys(TrainState.__dataclass_fields__, ALIKE)
        scale: Any = {"discounted": LANES, "square_sum": ALIKE, "count": ALIKE}
        state |= {"lanes": LANES, "return_scale": ReturnScale(**scale)}
        return TrainState(**state), PartitionSpec(None, *LANES)

    def update(
        self, state: TrainState, config: PPOConfig, params: Any, draws: rollout.Draws | None = None
    ) -> tuple[TrainState, dict[str, Array]]:
        """Collect one rollout and learn from it.

        Args:
          draws: those of `draws`, for this device's lanes; None = drawn here.

        Returns: the next state and metrics, sums and counts (see `rollout.collect`) plus
          ``loss_*`` sums over ``minibatches`` minibatches.
        """
        key, _, key_shuffle = jax.random.split(state.key, 3)
        params = normalised(state.normalizer, params, config.precision)
        draws = self.draws(state, config) if draws is None else draws
        turn = state.update + first_lane(self.axis, config.num_envs)
        seen = self.view.collect(self, state.params, state.lanes, draws, params, turn)
        batch, metrics = seen.batch, seen.metrics
        return_scale, reward = scaled(state.return_scale, batch, config, self.axis)
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
        metrics |= _explained(target, batch.value, self.axis)
        metrics = merged(self.axis, metrics) | learned
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
                minibatch = (*minibatch[:3], _standardised(minibatch[3], self.axis), minibatch[4])
            parts = self.view.parts(*minibatch[1].shape)
            gradient, terms = by_parts(
                lambda part: jax.grad(loss, has_aux=True)(network, part), minibatch, parts
            )
            mean, gradient = jax.tree.map(lambda x: x.mean(0), (terms, gradient))
            mean = mean._replace(ratio_deviation=terms.ratio_deviation.max())
            return mean, mean_over(self.axis, gradient)

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
        named = mean_over(self.axis, named)
        metrics = losses.learning_metrics(named.pop("loss"), norm, named)
        return (*carry, metrics | merged(self.axis, {"first_ratio_deviation_max": deviation}))


def _standardised(advantage: Array, axis: str | None) -> Array:
    """Mean 0 and deviation 1 over all samples of a minibatch, on all devices."""
    centred = advantage - mean_over(axis, advantage.mean())
    return centred / (jnp.sqrt(mean_over(axis, jnp.square(centred).mean())) + 1e-8)


def _explained(target: Array, value: Array, axis: str | None) -> dict[str, Array]:
    """Sums from which the host forms the explained variance of the value."""
    centred = target - mean_over(axis, target.mean())
    return {
        "value_error_sum": jnp.square(target - value).sum(),
        "target_variance_sum": jnp.square(centred).sum(),
    }
