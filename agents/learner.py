"""What every learner shares: one interface, compiled chunks of updates, members side by side.

A learner is static structure (an environment and networks); its state is a pytree; an update is a
pure function of both. A run is a host loop over compiled chunks::

    state = start(learner, key, config.traced(), params, normalizer)
    state, metrics = train_chunk(state, config.traced(), params, learner=learner, length=k)

Between chunks the host may log, evaluate, save, stop or resume. The market is part of
``params`` and so always an argument.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from agents import members
from agents.networks import (
    ACCOUNT_STATE,
    BAR,
    ActorCritic,
    Normalizer,
    expand,
)
from jaxtrade.wrappers import Wrapper

Array = jax.Array


# Learners ---------------------------------------------------------------------------------------


def index_twin(env: Any) -> Any:
    """The environment with observations in index form (itself, if they are or it has no market)."""
    if isinstance(env, Wrapper):
        return env.around(index_twin(env.env))
    config = getattr(env, "config", None)
    if config is None or config.observation == "index":
        return env
    return type(env)(env.market, dataclasses.replace(config, observation="index"))


def require_discrete(env: Any, name: str) -> None:
    """Raise unless the environment's actions are an index."""
    if getattr(env, "continuous", False):
        raise ValueError(
            f'action: {name} has a discrete head, was "continuous"; use action="discrete"'
        )


@dataclasses.dataclass(frozen=True)
class Learner:
    """Base of every learner: static structure only; hold on to one object, `jit` caches by it.

    A subclass has ``create(env, config)``, ``init`` and ``update``, and a state that is a flax
    struct with the leaves ``params`` (of ``network``, which acts), ``optimizer``, ``normalizer``,
    ``key`` and ``update`` (int32, updates done) besides its own.

    Attributes:
      env: environment in index form (see `index_twin`), or any with the same key-free methods.
      network: the acting network: its first output is what `evaluate.NetworkPolicy` decides by.
    """

    env: Any
    network: ActorCritic

    def init(
        self, key: Array, config: Any, params: Any, normalizer: Normalizer | None = None
    ) -> Any:
        """The state before the first update; pure, may be vmapped over keys.

        Args:
          params: parameters of the environment. normalizer: of the features; None = none.
        """
        raise NotImplementedError

    def update(self, state: Any, config: Any, params: Any) -> tuple[Any, dict[str, Array]]:
        """One update: the next state, and metrics as sums, counts and maxima (``*_max``)."""
        raise NotImplementedError

    def expand(self, observation: Any, params: Any) -> Any:
        """An observation in index form with its windows; others as they are."""
        return expand(observation, params.market) if BAR in observation else observation

    def apply(self, network_params: Any, observation: Any, params: Any) -> tuple[Array, Array]:
        """Logits [M, A] and value [M] of observations in index form; market already normalised."""
        return self.outputs(network_params, self.expand(observation, params))

    def outputs(self, network_params: Any, *arguments: Any, method: str = "__call__") -> Any:
        """What a method of the network gives under its parameters."""
        return self.network.apply({"params": network_params}, *arguments, method=method)

    def actor(
        self, network_params: Any, params: Any, samples: int
    ) -> Callable[[Any], tuple[Array, Array]]:
        """Observation -> (logits, value), for ``samples`` observations under fixed parameters.

        With fewer bars than samples each bar is encoded once, in advance.
        """
        market = getattr(params, "market", None)
        if market is None or market.ohlcv.shape[0] > samples:
            return lambda observation: self.apply(network_params, observation, params)

        def embed(bar: Array) -> Array:
            account = jnp.zeros((*bar.shape, 1))
            windows = expand({BAR: bar, ACCOUNT_STATE: account}, market)
            return self.outputs(network_params, windows, method="embed")

        bars = jnp.arange(market.ohlcv.shape[0], dtype=jnp.int32)
        table = jax.lax.map(lambda bar: embed(bar[None])[0], bars, batch_size=4096)

        def act(observation: Any) -> tuple[Array, Array]:
            embedding = jnp.take(table, observation[BAR], axis=0)
            return self.outputs(
                network_params, embedding, observation[ACCOUNT_STATE], method="decide"
            )

        return act


def normalised(normalizer: Normalizer, params: Any, precision: str = "float32") -> Any:
    """Environment parameters whose market holds normalised features of a precision."""
    if not normalizer.mean:
        return params
    return params.replace(market=normalizer.market(params.market, precision))


def gradient_norm(gradient: Any) -> Array:
    """Global norm of a gradient tree, ()."""
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient)))


# Runs -------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("learner", "length"), donate_argnames=("state",))
def train_chunk(
    state: Any, config: Any, params: Any, *, learner: Learner, length: int
) -> tuple[Any, dict[str, Array]]:
    """``length`` updates in one compiled call; the state passed in is used up (donated).

    Args:
      state: of `start`; with a leading axis [K] on every leaf but the normalizer's, K members learn
        side by side.
      config: `LearnerConfig.traced`. params: of the environment. Their numbers are shared by all
        members, or have a leading axis [K] where members differ (`agents.members`).

    Returns: the state after, and each metric per update, [length, ...] (members:
      [length, K, ...]).

    Raises:
      ValueError: a number has an axis that does not fit the members of the state.
    """
    one = learner.update
    members.check(state.update.shape[0] if state.update.ndim else None, config, params)
    if state.update.ndim:
        axes = _member_axes(type(state))
        in_axes = (axes, members.axes(config), members.axes(params))
        one = jax.vmap(one, in_axes=in_axes, out_axes=(axes, 0))
    return jax.lax.scan(lambda carry, _: one(carry, config, params), state, length=length)


def _member_axes(state: Any) -> Any:
    """Vmap axes of a state class: the normalizer is one for all members, who share its market."""
    axes: dict[str, Any] = dict.fromkeys(state.__dataclass_fields__, 0)
    return state(**{**axes, "normalizer": None})


def start(
    learner: Learner,
    key: Array,
    config: Any,
    params: Any,
    normalizer: Normalizer | None = None,
) -> Any:
    """The state before the first update, ready to be donated.

    Args:
      key: typed key; or [K] keys, which gives every leaf but the normalizer's an axis [K].
      config: `LearnerConfig.traced`. params: as in `train_chunk`.

    Raises:
      ValueError: a number has an axis that does not fit the keys.
    """
    state = _init(key, config, params, normalizer, learner=learner)
    # Equal leaves may share a buffer, and one buffer cannot be donated twice.
    return jax.tree.map(lambda leaf: leaf.copy(), state)


@partial(jax.jit, static_argnames=("learner",))
def _init(
    key: Array, config: Any, params: Any, normalizer: Normalizer | None, *, learner: Learner
) -> Any:
    init = partial(learner.init, normalizer=normalizer)
    members.check(key.shape[0] if key.ndim else None, config, params)
    if not key.ndim:
        return init(key, config, params)
    shape = jax.eval_shape(init, key[0], members.select(config, 0), members.select(params, 0))
    in_axes = (0, members.axes(config), members.axes(params))
    every = jax.vmap(init, in_axes=in_axes, out_axes=_member_axes(type(shape)))
    return every(key, config, params)


def make_train(
    learner: Learner, config: Any, updates: int, normalizer: Normalizer | None = None
) -> Any:
    """A whole run as one pure function, for those who vmap runs.

    Returns: ``train(key, params, config=config) -> (state, metrics [updates])``; the config's
      numbers may be swept.
    """
    default = config

    def train(key: Array, params: Any, config: Any = default) -> Any:
        config = config.traced()
        state = learner.init(key, config, params, normalizer)
        one = partial(learner.update, config=config, params=params)
        return jax.lax.scan(lambda carry, _: one(carry), state, length=updates)

    return train
