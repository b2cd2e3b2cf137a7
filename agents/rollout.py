"""Collecting experience: a scan over S steps of N environments with every draw supplied.

What is kept per step is an index and an account (some 60 bytes), never a window. Metrics leave as
sums, counts and maxima, so that chunks, seeds and devices merge exactly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxtrade.core import trade

Array = jax.Array


class Draws(NamedTuple):
    """All randomness of one rollout, [S, N] each.

    Attributes:
      action, cost, cash: uniform in [0, 1). start: uint32 bits.
    """

    action: Array
    cost: Array
    cash: Array
    start: Array

    @classmethod
    def of(cls, key: Array, shape: tuple[int, ...]) -> Draws:
        """Independent draws of ``shape`` for everything."""
        keys = jax.random.split(key, 4)
        return cls(
            action=jax.random.uniform(keys[0], shape),
            cost=jax.random.uniform(keys[1], shape),
            cash=jax.random.uniform(keys[2], shape),
            start=jax.random.bits(keys[3], shape, jnp.uint32),
        )


class Transitions(NamedTuple):
    """One rollout, [S, N, ...].

    Attributes:
      observation: acted on, in index form. final_observation: of the state reached, before any
        reset; read where truncated.
      action: int32. log_probability: of the action when it was taken. value: of the observation.
      reward: float32. terminated, truncated: bool.
    """

    observation: Any
    final_observation: Any
    action: Array
    log_probability: Array
    value: Array
    reward: Array
    terminated: Array
    truncated: Array


@struct.dataclass
class Lanes:
    """The running episodes, [N, ...], and what is summed along them.

    Attributes:
      state: the environment's. episode_return: sum of rewards so far. peak: highest equity so far.
    """

    state: Any
    episode_return: Array
    peak: Array


def start(env: Any, draws: Draws, params: Any) -> Lanes:
    """New episodes from one row of draws, each [N]."""
    fresh = jax.vmap(env.fresh_state, in_axes=(0, 0, None))
    zeros = jnp.zeros(draws.action.shape, jnp.float32)
    return Lanes(state=fresh(draws.start, draws.cash, params), episode_return=zeros, peak=zeros)


def sample(log_probabilities: Array, draw: Array) -> Array:
    """Actions by inverse CDF, int32 [N], never outside [0, A).

    Args:
      log_probabilities: [N, A]. draw: [N] uniform in [0, 1).
    """
    cumulative = jnp.cumsum(jnp.exp(log_probabilities), axis=-1)[..., :-1]
    return jnp.sum(draw[..., None] >= cumulative, axis=-1, dtype=jnp.int32)


def observe(env: Any, state: Any, params: Any) -> Any:
    """What is stored of each lane: the environment's observation, in index form."""
    return jax.vmap(lambda one: env.observe(None, one, None, params))(state)


def collect(
    env: Any, lanes: Lanes, draws: Draws, params: Any, act: Any
) -> tuple[Lanes, Transitions, dict[str, Array]]:
    """Run the policy for S steps in every lane, with auto-reset.

    Args:
      env: key-free environment: ``restarted``, ``transition``, ``observe``, ``is_truncated``.
      act: observation [N, ...] -> (logits [N, A], value [N]).

    Returns: the lanes after the rollout, its transitions, and metrics: ``steps``, ``episodes``,
      ``return_sum``, ``return_square_sum`` (of finished episodes), ``equity_ratio_sum`` (final over
      initial equity of them), ``ruins``, ``truncations``, ``trades`` (positions opened), ``cost``
      and ``turnover`` (fractions of initial equity), ``exposure_sum``, ``drawdown_max`` (positive),
      ``action_counts`` [A], ``nonfinite``. What an environment does not record stays 0.
    """
    advance = jax.vmap(env.transition, in_axes=(0, 0, 0, None))
    restarted = jax.vmap(env.restarted, in_axes=(0, 0, 0, 0, None))
    is_truncated = jax.vmap(env.is_truncated, in_axes=(0, None))

    def step(lanes: Lanes, draw: Draws) -> tuple[Lanes, tuple[Transitions, dict[str, Array]]]:
        observation = observe(env, lanes.state, params)
        logits, value = act(observation)
        log_probabilities = jax.nn.log_softmax(logits)
        action = sample(log_probabilities, draw.action)
        chosen = jnp.take_along_axis(log_probabilities, action[:, None], axis=-1)[:, 0]
        stepped, reward, terminated, info = advance(lanes.state, action, draw.cost, params)
        truncated = is_truncated(stepped, params)
        done = terminated | truncated
        reward = reward.astype(jnp.float32)
        state = restarted(done, stepped, draw.start, draw.cash, params)
        episode_return = lanes.episode_return + reward
        metrics, peak = _measure(lanes, stepped, info, terminated, truncated)
        metrics |= {
            "return_sum": jnp.where(done, episode_return, 0).sum(),
            "return_square_sum": jnp.where(done, jnp.square(episode_return), 0).sum(),
            "action_counts": (action[:, None] == jnp.arange(logits.shape[-1])).sum(0, jnp.int32),
            "nonfinite": (~jnp.isfinite(reward) | ~jnp.isfinite(chosen)).sum(dtype=jnp.int32),
        }
        transition = Transitions(
            observation=observation,
            final_observation=observe(env, stepped, params),
            action=action,
            log_probability=chosen,
            value=value,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
        )
        following = Lanes(
            state=state,
            episode_return=jnp.where(done, 0, episode_return),
            peak=jnp.where(done, 0, peak),
        )
        return following, (transition, metrics)

    lanes, (transitions, metrics) = jax.lax.scan(step, lanes, draws)
    return lanes, transitions, _reduce(metrics)


def _measure(
    lanes: Lanes, stepped: Any, info: dict[str, Array], terminated: Array, truncated: Array
) -> tuple[dict[str, Array], Array]:
    """Sums over the lanes of one step, and the new equity peaks."""
    done = terminated | truncated
    counts = {
        "steps": jnp.asarray(done.size, jnp.int32),
        "episodes": done.sum(dtype=jnp.int32),
        "ruins": terminated.sum(dtype=jnp.int32),
        "truncations": (truncated & ~terminated).sum(dtype=jnp.int32),
    }
    zero = jnp.zeros((), jnp.float32)
    names = ("equity_ratio_sum", "trades", "cost", "turnover", "exposure_sum", "drawdown_max")
    money = dict.fromkeys(names, zero)
    if "equity" not in info:
        return {**counts, **money}, lanes.peak
    initial = stepped.initial_equity
    equity = info["equity"]
    peak = jnp.maximum(jnp.maximum(lanes.peak, initial), equity).astype(jnp.float32)
    exposed = stepped.account.quantity != 0
    money = {
        "equity_ratio_sum": jnp.where(done, equity / initial, 0).sum(),
        "trades": ((info["event"] & trade.OPENED) != 0).sum(),
        "cost": (info["cost"] / initial).sum(),
        "turnover": (info["traded_notional"] / initial).sum(),
        "exposure_sum": exposed.sum(),
        "drawdown_max": (1 - equity / peak).max(),
    }
    return {**counts, **{name: x.astype(jnp.float32) for name, x in money.items()}}, peak


def _reduce(metrics: dict[str, Array]) -> dict[str, Array]:
    """Over the steps (leading axis): maxima of what is named so, sums of the rest."""
    return {
        name: values.max(0) if name.endswith("_max") else values.sum(0, dtype=values.dtype)
        for name, values in metrics.items()
    }


def final_values(value_of: Any, transitions: Transitions, block: int) -> Array:
    """Values of the observations at which episodes were cut, [S, N]; 0 elsewhere.

    Only truncated entries are evaluated, ``block`` at a time, for as many rounds as there are
    entries: without a truncation this costs nothing.

    Args:
      value_of: observation [block, ...] -> value [block].
    """
    cut = (transitions.truncated & ~transitions.terminated).reshape(-1)
    size = cut.shape[0]
    block = min(block, size)
    rank = jnp.cumsum(cut, dtype=jnp.int32) - 1
    count = cut.sum(dtype=jnp.int32)
    flat = jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), transitions.final_observation)

    def evaluate(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        done, values = carry
        chosen = cut & (rank >= done) & (rank < done + block)
        (places,) = jnp.nonzero(chosen, size=block, fill_value=size)
        found = jax.tree.map(lambda x: jnp.take(x, places, axis=0, mode="clip"), flat)
        values = values.at[places].set(value_of(found), mode="drop")
        return done + block, values

    empty = (jnp.zeros((), jnp.int32), jnp.zeros((size,), jnp.float32))
    _, values = jax.lax.while_loop(lambda carry: carry[0] < count, evaluate, empty)
    return values.reshape(transitions.truncated.shape)
