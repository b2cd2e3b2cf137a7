"""Proximal policy optimisation over the key-free pieces of an environment.

A run is a host loop over compiled chunks: ``state, metrics = train_chunk(state, config, params,
learner=learner, length=k)``. Between chunks the host may log, evaluate, save, stop or resume. The
market is part of ``params`` and so always an argument.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from agents import losses, rollout
from agents.networks import (
    ACCOUNT_STATE,
    ACTIVATIONS,
    BAR,
    ENCODERS,
    ActorCritic,
    Normalizer,
    expand,
)

Array = jax.Array


def _static(default: Any) -> Any:
    return struct.field(pytree_node=False, default=default)


@struct.dataclass
class PPOConfig:
    """Settings of the learner. Numbers may be swept with `vmap`; shapes and switches are static.

    Attributes:
      learning_rate: of Adam; lower it when `kl` of an update exceeds about 0.05.
      gamma: discount per step; 1 / (1 - gamma) steps is how far rewards are seen.
      gae_lambda: 1 trusts returns, 0 trusts the value function.
      clip_range: largest change of a probability ratio that is rewarded.
      value_coefficient: weight of the value error in the loss.
      entropy_coefficient: weight of the entropy; raise it when one action takes over early.
      max_gradient_norm: global norm the gradient is clipped to.
      num_envs: environments stepped together. rollout_steps: steps of each per update.
      epochs: passes over a rollout. minibatches: parts of a rollout per pass; must divide num_envs.
      shuffle: "envs" cuts a rollout into whole environments, "steps" into single steps.
      normalize_advantages: per minibatch.
      normalize_rewards: divide rewards by the running deviation of the discounted return, so that
        returns of any size give value targets near 1.
      hidden_sizes: widths of the torso; the first layer takes the encoded market and the account.
      encoder: "mlp" flattens the windows, "conv" runs causal convolutions over each.
      activation: "relu" or "tanh". channels: of the convolutions. width: taps of the convolutions.
    """

    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.005
    max_gradient_norm: float = 0.5
    num_envs: int = _static(1024)
    rollout_steps: int = _static(64)
    epochs: int = _static(3)
    minibatches: int = _static(8)
    shuffle: str = _static("envs")
    normalize_advantages: bool = _static(True)
    normalize_rewards: bool = _static(True)
    hidden_sizes: tuple[int, ...] = _static((256, 64))
    encoder: str = _static("mlp")
    activation: str = _static("relu")
    channels: tuple[int, ...] = _static((32, 32, 32))
    width: int = _static(3)

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one update, S * N."""
        return self.num_envs * self.rollout_steps

    def check(self) -> None:
        """Raise one `ValueError` that lists every static or concrete value out of range."""
        problems = []
        for name in ("num_envs", "rollout_steps", "epochs", "minibatches", "width"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                problems.append(f"{name}: must be a whole number >= 1, was {value!r}")
        for name in ("hidden_sizes", "channels"):
            sizes = getattr(self, name)
            whole = isinstance(sizes, tuple) and all(type(n) is int and n >= 1 for n in sizes)
            if not whole or not sizes:
                problems.append(f"{name}: must be whole numbers >= 1, at least one, was {sizes!r}")
        for name, choices in (
            ("encoder", ENCODERS),
            ("activation", tuple(ACTIVATIONS)),
            ("shuffle", ("envs", "steps")),
        ):
            if getattr(self, name) not in choices:
                problems.append(f"{name}: must be one of {choices}, was {getattr(self, name)!r}")
        for name, low, high in (
            ("learning_rate", 0, np.inf),
            ("gamma", 0, 1),
            ("gae_lambda", 0, 1),
            ("clip_range", 0, np.inf),
            ("value_coefficient", 0, np.inf),
            ("entropy_coefficient", 0, np.inf),
            ("max_gradient_norm", 0, np.inf),
        ):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(value, jax.Array | np.ndarray):
                continue  # a sweep
            if not number or not (low <= value <= high and np.isfinite(value)):
                problems.append(f"{name}: must be in [{low}, {high}] and finite, was {value!r}")
        if not problems and self._shuffled % self.minibatches:
            problems.append(
                f"minibatches: must divide the {self._shuffled} {self.shuffle} of a rollout, was "
                f"{self.minibatches}"
            )
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def _shuffled(self) -> int:
        return self.num_envs if self.shuffle == "envs" else self.steps_per_update

    def network(self, num_actions: int) -> ActorCritic:
        """The network these settings describe."""
        return ActorCritic(
            num_actions=num_actions,
            hidden_sizes=tuple(self.hidden_sizes),
            encoder=self.encoder,
            activation=self.activation,
            channels=tuple(self.channels),
            width=self.width,
        )

    def traced(self) -> PPOConfig:
        """The same settings with float32 arrays as leaves, so that no value causes a new trace."""
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), self)


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


def index_twin(env: Any) -> Any:
    """The environment with observations in index form (itself, if they are or it has no market)."""
    config = getattr(env, "config", None)
    if config is None or config.observation == "index":
        return env
    return type(env)(env.market, dataclasses.replace(config, observation="index"))


def _optimizer(config: PPOConfig) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adam(config.learning_rate, eps=1e-5),
    )


@dataclasses.dataclass(frozen=True)
class PPO:
    """The learner: static structure only; hold on to one object, `jit` caches by its parts.

    Attributes:
      env: environment in index form (see `index_twin`), or any with the same key-free methods.
      network: the policy.
    """

    env: Any
    network: ActorCritic

    @classmethod
    def create(cls, env: Any, config: PPOConfig) -> PPO:
        """The learner for an environment.

        Raises:
          ValueError: the settings are out of range, or the actions are not discrete.
        """
        config.check()
        if getattr(env, "continuous", False):
            raise ValueError(
                'action: PPO has a discrete head, was "continuous"; use action="discrete"'
            )
        return cls(index_twin(env), config.network(env.num_actions))

    def init(
        self, key: Array, config: PPOConfig, params: Any, normalizer: Normalizer | None = None
    ) -> TrainState:
        """The state before the first update; pure, may be vmapped over keys.

        Args:
          params: parameters of the environment. normalizer: of the features; None = none.
        """
        key_network, key_start, key = jax.random.split(key, 3)
        draws = rollout.Draws.of(key_start, (config.num_envs,))
        lanes = rollout.start(self.env, draws, params)
        normalizer = normalizer or Normalizer.none()
        observation = self._expand(rollout.observe(self.env, lanes.state, params), params)
        network = self.network.init(key_network, observation)["params"]
        zero = jnp.zeros((), jnp.float32)
        return TrainState(
            params=network,
            optimizer=_optimizer(config.traced()).init(network),
            normalizer=jax.tree.map(jnp.asarray, normalizer),
            lanes=lanes,
            return_scale=ReturnScale(jnp.zeros(config.num_envs, jnp.float32), zero, zero),
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    def _expand(self, observation: Any, params: Any) -> Any:
        return expand(observation, params.market) if BAR in observation else observation

    def apply(self, network_params: Any, observation: Any, params: Any) -> tuple[Array, Array]:
        """Logits [M, A] and value [M] of observations in index form; market already normalised."""
        seen = self._expand(observation, params)
        return self._outputs({"params": network_params}, seen)

    def _outputs(self, variables: Any, *arguments: Any, method: str = "__call__") -> Any:
        return self.network.apply(variables, *arguments, method=method)

    def update(
        self, state: TrainState, config: PPOConfig, params: Any
    ) -> tuple[TrainState, dict[str, Array]]:
        """Collect one rollout and learn from it.

        Returns: the next state and metrics, sums and counts (see `rollout.collect`) plus
          ``loss_*`` sums over ``minibatches`` minibatches.
        """
        key, key_draws, key_shuffle = jax.random.split(state.key, 3)
        params = _normalised(state.normalizer, params)
        act = self._actor(state.params, config, params)
        shape = (config.rollout_steps, config.num_envs)
        draws = rollout.Draws.of(key_draws, shape)
        lanes, batch, metrics = rollout.collect(self.env, state.lanes, draws, params, act)
        return_scale, reward = _scaled_rewards(state.return_scale, batch, config)
        _, last_value = act(rollout.observe(self.env, lanes.state, params))
        final_value = rollout.final_values(lambda o: act(o)[1], batch, config.num_envs)
        advantage, target = losses.gae(
            reward,
            jnp.concatenate([batch.value, last_value[None]]),
            final_value,
            batch.terminated,
            batch.truncated,
            config.gamma,
            config.gae_lambda,
        )
        network, optimizer, learned = self._learn(
            state, config, params, batch, advantage, target, key_shuffle
        )
        metrics |= learned
        metrics |= _explained(target, batch.value)
        following = TrainState(
            params=network,
            optimizer=optimizer,
            normalizer=state.normalizer,
            lanes=lanes,
            return_scale=return_scale,
            key=key,
            update=state.update + 1,
        )
        return following, metrics

    def _actor(self, network_params: Any, config: PPOConfig, params: Any) -> Any:
        """The policy of a rollout. With few bars each of them is encoded once, in advance."""
        market = getattr(params, "market", None)
        if market is None or market.ohlcv.shape[0] > config.steps_per_update:
            return lambda observation: self.apply(network_params, observation, params)
        bound = {"params": network_params}

        def embed(bar: Array) -> Array:
            account = jnp.zeros((*bar.shape, 1))
            windows = expand({BAR: bar, ACCOUNT_STATE: account}, market)
            return self._outputs(bound, windows, method="embed")

        bars = jnp.arange(market.ohlcv.shape[0], dtype=jnp.int32)
        table = jax.lax.map(lambda bar: embed(bar[None])[0], bars, batch_size=4096)

        def act(observation: Any) -> tuple[Array, Array]:
            embedding = jnp.take(table, observation[BAR], axis=0)
            account = observation[ACCOUNT_STATE]
            return self._outputs(bound, embedding, account, method="decide")

        return act

    def _learn(
        self,
        state: TrainState,
        config: PPOConfig,
        params: Any,
        batch: rollout.Transitions,
        advantage: Array,
        target: Array,
        key: Array,
    ) -> tuple[Any, Any, dict[str, Array]]:
        """Epochs over minibatches of whole environments (or single steps)."""
        optimizer = _optimizer(config)
        samples = (batch.observation, batch.action, batch.log_probability, advantage, target)
        if config.shuffle == "steps":
            samples = jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), samples)
        count = config._shuffled

        def loss(network: Any, minibatch: Any) -> tuple[Array, losses.LossTerms]:
            observation, action, log_probability, advantage, target = minibatch
            if config.normalize_advantages:
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            logits, value = self.apply(network, observation, params)
            terms = losses.ppo_loss(
                logits,
                value,
                action,
                log_probability,
                advantage,
                target,
                clip_range=config.clip_range,
                value_coefficient=config.value_coefficient,
                entropy_coefficient=config.entropy_coefficient,
            )
            return terms.loss, terms

        def step(carry: Any, places: Array) -> tuple[Any, Any]:
            network, optimizer_state = carry
            minibatch = jax.tree.map(
                lambda x: jnp.take(x, places, axis=1).reshape(-1, *x.shape[2:]), samples
            )
            (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(network, minibatch)
            norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient)))
            change, optimizer_state = optimizer.update(gradient, optimizer_state)
            return (optax.apply_updates(network, change), optimizer_state), (terms, norm)

        def epoch(carry: Any, key: Array) -> tuple[Any, Any]:
            places = jax.random.permutation(key, count).reshape(config.minibatches, -1)
            return jax.lax.scan(step, carry, places)

        keys = jax.random.split(key, config.epochs)
        carry, (terms, norm) = jax.lax.scan(epoch, (state.params, state.optimizer), keys)
        named = {f"loss_{name}": value.sum() for name, value in terms._asdict().items()}
        del named["loss_ratio_deviation"]
        named |= {
            "minibatches": jnp.asarray(config.epochs * config.minibatches, jnp.int32),
            "gradient_norm": norm.sum(),
            "nonfinite_losses": (~jnp.isfinite(terms.loss) | ~jnp.isfinite(norm)).sum(
                dtype=jnp.int32
            ),
            # Of the very first minibatch: anything but rounding is an error of layout.
            "first_ratio_deviation_max": terms.ratio_deviation[0, 0],
        }
        return (*carry, named)


def _normalised(normalizer: Normalizer, params: Any) -> Any:
    if not normalizer.mean:
        return params
    return params.replace(market=normalizer.market(params.market))


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


def _explained(target: Array, value: Array) -> dict[str, Array]:
    """Sums from which the host forms the explained variance of the value."""
    centred = target - target.mean()
    return {
        "value_error_sum": jnp.square(target - value).sum(),
        "target_variance_sum": jnp.square(centred).sum(),
    }


@partial(jax.jit, static_argnames=("learner", "length"), donate_argnames=("state",))
def train_chunk(
    state: TrainState,
    config: PPOConfig,
    params: Any,
    *,
    learner: PPO,
    length: int,
) -> tuple[TrainState, dict[str, Array]]:
    """``length`` updates in one compiled call; the state passed in is used up (donated).

    Args:
      state: of `start`; with a leading axis [K] on every leaf but the normalizer's, K seeds learn
        side by side.
      config: `PPOConfig.traced`. params: of the environment, shared by all seeds.

    Returns: the state after, and each metric per update, [length, ...] (seeds: [length, K, ...]).
    """
    one = partial(learner.update, config=config, params=params)
    if state.update.ndim:
        one = jax.vmap(one, in_axes=(_SEED_AXES,), out_axes=(_SEED_AXES, 0))
    return jax.lax.scan(lambda carry, _: one(carry), state, length=length)


# The normalizer is the same for all seeds, so that they share one normalised market.
_AXES: dict[str, Any] = dict.fromkeys(TrainState.__dataclass_fields__, 0)
_SEED_AXES = TrainState(**{**_AXES, "normalizer": None})


def make_train(
    env: Any, config: PPOConfig, updates: int, normalizer: Normalizer | None = None
) -> Any:
    """A whole run as one pure function, for those who vmap runs.

    Returns: ``train(key, params, config=config) -> (state, metrics [updates])``; the config's
      numbers may be swept.
    """
    learner = PPO.create(env, config)
    default = config

    def train(key: Array, params: Any, config: PPOConfig = default) -> Any:
        config = config.traced()
        state = learner.init(key, config, params, normalizer)
        one = partial(learner.update, config=config, params=params)
        return jax.lax.scan(lambda carry, _: one(carry), state, length=updates)

    return train


@partial(jax.jit, static_argnames=("learner",))
def _init(
    key: Array, config: PPOConfig, params: Any, normalizer: Normalizer | None, *, learner: PPO
) -> TrainState:
    init = partial(learner.init, config=config, params=params, normalizer=normalizer)
    return jax.vmap(init, out_axes=_SEED_AXES)(key) if key.ndim else init(key)


def start(
    learner: PPO, key: Array, config: PPOConfig, params: Any, normalizer: Normalizer | None = None
) -> TrainState:
    """The state before the first update, ready to be donated.

    Args:
      key: typed key; or [K] keys, which gives every leaf but the normalizer's an axis [K].
      config: `PPOConfig.traced`.
    """
    state = _init(key, config, params, normalizer, learner=learner)
    # Equal leaves may share a buffer, and one buffer cannot be donated twice.
    return jax.tree.map(lambda leaf: leaf.copy(), state)
