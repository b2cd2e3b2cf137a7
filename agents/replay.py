"""A ring of transitions on the device, and what every learner that acts and replays shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from agents import rollout
from agents.learner import Learner, normalised
from agents.learner_config import count
from agents.networks import Normalizer
from agents.transitions import Transition, ValueConfig, n_step

Array = jax.Array

# Settings ---------------------------------------------------------------------------------------


@struct.dataclass
class ReplayConfig(ValueConfig):
    """Settings of every learner that acts and replays, besides those of `ValueConfig`.

    Attributes:
      num_envs: environments stepped together.
      rollout_steps: steps of each environment per update.
      replay_capacity: newest transitions kept, rounded up to whole rollouts.
      n_steps: rewards summed before the value of what follows is trusted; up to rollout_steps.
    """

    num_envs: int = count(256)
    rollout_steps: int = count(16)
    replay_capacity: int = count(500_000)
    n_steps: int = count(1)

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one update, S * N."""
        return self.num_envs * self.rollout_steps

    @property
    def capacity(self) -> int:
        """Transitions the ring holds: whole rollouts."""
        rollouts = -(-self.replay_capacity // self.steps_per_update)
        return rollouts * self.steps_per_update

    def _conflicts(self) -> list[str]:
        if self.n_steps <= self.rollout_steps:
            return []
        return [f"n_steps: must be <= rollout_steps ({self.rollout_steps}), was {self.n_steps}"]


# The ring ---------------------------------------------------------------------------------------


@struct.dataclass
class Buffer:
    """The newest C transitions.

    Attributes:
      data: `Transition`, leaves [C, ...]. priority: float32 [C], 0 where nothing is stored yet.
      cursor, size: int32 (), where the next one goes and how many there are.
    """

    data: Transition
    priority: Array
    cursor: Array
    size: Array

    @classmethod
    def empty(cls, observation: Any, action_dtype: Any, capacity: int) -> Buffer:
        """A buffer without transitions.

        Args:
          observation: any, [M, ...]; only shapes and dtypes are read.
        """
        stored = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), observation)
        zeros = jnp.zeros((capacity,), jnp.float32)
        return cls(
            data=Transition(stored, zeros.astype(action_dtype), zeros, stored, zeros),
            priority=zeros,
            cursor=jnp.zeros((), jnp.int32),
            size=jnp.zeros((), jnp.int32),
        )

    def add(self, rows: Transition) -> Buffer:
        """The buffer with ``rows`` [M] in place of its oldest; M must divide C.

        New transitions get the highest priority there is, so that each is likely to be seen once.
        """
        capacity, amount = self.priority.shape[0], rows.reward.shape[0]

        def write(ring: Array, new: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(ring, new, self.cursor, 0)

        highest = jnp.where(self.size > 0, self.priority.max(), 1)
        return Buffer(
            data=jax.tree.map(write, self.data, rows),
            priority=write(self.priority, jnp.full(amount, highest)),
            cursor=(self.cursor + amount) % capacity,
            size=jnp.minimum(self.size + amount, capacity),
        )

    def uniform(self, key: Array, amount: int) -> Array:
        """Places of ``amount`` transitions drawn evenly with replacement, int32 [amount]."""
        return jax.random.randint(key, (amount,), 0, self.size, jnp.int32)

    def prioritised(
        self, key: Array, amount: int, exponent: Array | float, correction: Array | float
    ) -> tuple[Array, Array]:
        """Places drawn with chances proportional to ``priority**exponent``, and their weights.

        Stratified: one draw in each of ``amount`` equal parts of the total. The weight
        ``(size * chance)**-correction``, over the largest of them, undoes the preference.

        Returns: int32 [amount] and float32 [amount] in (0, 1].
        """
        mass = jnp.where(self.priority > 0, self.priority**exponent, 0)
        cumulative = jnp.cumsum(mass)
        parts = (jnp.arange(amount) + jax.random.uniform(key, (amount,))) / amount
        places = jnp.searchsorted(cumulative, parts * cumulative[-1], side="right")
        # A draw may round up to the total.
        places = jnp.minimum(places.astype(jnp.int32), self.size - 1)
        weight = (self.size * mass[places] / cumulative[-1]) ** -correction
        return places, weight / weight.max()

    def prioritise(self, places: Array, error: Array) -> Buffer:
        """The buffer with priorities from the errors [M] of the transitions at ``places``."""
        # Never 0: what was learnt perfectly must still be found when the target moves.
        priority = self.priority.at[places].set(jnp.abs(error) + 1e-3)
        return dataclasses.replace(self, priority=priority)


# Learners ---------------------------------------------------------------------------------------


@struct.dataclass
class ReplayState:
    """What every learner that acts and replays carries; saved and resumed as it is.

    Attributes:
      params: of the acting network. optimizer: optax state of each part that learns.
      normalizer: of the market features, fixed. lanes: running episodes [N].
      buffer: stored transitions [C]. key: typed. update: int32.
    """

    params: Any
    optimizer: Any
    normalizer: Normalizer
    lanes: rollout.Lanes
    buffer: Buffer
    key: Array
    update: Array


@dataclasses.dataclass(frozen=True)
class ReplayLearner(Learner):
    """Base of the learners that collect, store and learn from it by `_behaviour` and `_learn`."""

    def _episodes(self, key: Array, config: Any, params: Any) -> tuple[rollout.Lanes, Buffer, Any]:
        """New episodes, an empty buffer, and an observation [N] in index form."""
        lanes = rollout.start(self.env, rollout.Draws.of(key, (config.num_envs,)), params)
        observation = rollout.observe(self.env, lanes.state, params)
        dtype = jnp.float32 if getattr(self.env, "continuous", False) else jnp.int32
        return lanes, Buffer.empty(observation, dtype, config.capacity), observation

    def update(self, state: Any, config: Any, params: Any) -> tuple[Any, dict[str, Array]]:
        """Collect one rollout, store it, and learn from what is stored.

        Returns: the next state and metrics, sums and counts (see `rollout.collect`) plus
          ``loss_*`` sums over ``minibatches`` gradient steps.
        """
        key, key_draws, key_learn = jax.random.split(state.key, 3)
        params = normalised(state.normalizer, params, config.precision)
        draws = rollout.Draws.of(key_draws, (config.rollout_steps, config.num_envs))
        act, choose = self._behaviour(state, config, params)
        lanes, batch, metrics = rollout.collect(self.env, state.lanes, draws, params, act, choose)
        buffer = state.buffer.add(n_step(batch, config.gamma, config.n_steps))
        state = state.replace(lanes=lanes, buffer=buffer, key=key)
        state, learned = self._learn(state, config, params, key_learn)
        return state.replace(update=state.update + 1), metrics | learned

    def _behaviour(
        self, state: Any, config: Any, params: Any
    ) -> tuple[Callable[[Any], tuple[Array, Array]], Callable[[Array, Array], Any]]:
        """How this learner acts: ``act`` and ``choose`` of `rollout.collect`."""
        raise NotImplementedError

    def _learn(
        self, state: Any, config: Any, params: Any, key: Array
    ) -> tuple[Any, dict[str, Array]]:
        """Gradient steps over minibatches from ``state.buffer``; the market is normalised."""
        raise NotImplementedError
