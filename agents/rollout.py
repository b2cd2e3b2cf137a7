"""Collecting experience: a scan over S steps of N environments with every draw supplied.

What is kept per step is an index and an account (some 60 bytes), never a window. Metrics leave as
sums, counts and maxima, so that chunks, seeds and devices merge exactly.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from agents import losses
from jaxtrade.core import trade
from jaxtrade.core.rules import slack

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
        reset.
      action: int32, or float32 where continuous. log_probability: of the action when it was taken.
      value: of the observation.
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


def categorical(logits: Array, draw: Array) -> tuple[Array, Array]:
    """Actions int32 [N] by probability and the logs of their probabilities [N].

    Args:
      logits: [N, A]. draw: [N] uniform in [0, 1).
    """
    log_probabilities = jax.nn.log_softmax(logits)
    action = sample(log_probabilities, draw)
    return action, losses.log_probability_of(log_probabilities, action)


def observe(env: Any, state: Any, params: Any) -> Any:
    """What is stored of each lane: the environment's observation, in index form."""
    return jax.vmap(lambda one: env.observe(None, one, None, params))(state)


def collect(
    env: Any,
    lanes: Lanes,
    draws: Draws,
    params: Any,
    act: Any,
    choose: Any = categorical,
    along: Any = None,
) -> tuple[Lanes, Transitions, dict[str, Array]]:
    """Run the policy for S steps in every lane, with auto-reset.

    Args:
      env: key-free environment: ``restarted``, ``transition``, ``observe``, ``is_truncated``.
      act: observation [N, ...] -> (what ``choose`` decides by, [N, ...]; value [N]).
      choose: (that, uniform draw [N]) -> (action [N], its log probability [N]); by default what
        ``act`` gives are logits [N, A].
      along: pytree [S, N, ...] whose rows ``act`` takes as a second argument; None = none.

    Returns: the lanes after the rollout, its transitions, and metrics: those of `measure`,
      ``action_counts`` [A] (of numbers in [-1, 1]: of A equal parts) and ``nonfinite``.
    """
    advance = jax.vmap(env.transition, in_axes=(0, 0, 0, None))
    restarted = jax.vmap(env.restarted, in_axes=(0, 0, 0, 0, None))
    is_truncated = jax.vmap(env.is_truncated, in_axes=(0, None))
    # A position left open is valued in the reward, and no later decision exists to learn from.
    decides_once = getattr(env, "decides_once", False)

    def step(lanes: Lanes, x: Any) -> tuple[Lanes, tuple[Transitions, dict[str, Array]]]:
        draw, beside = x
        observation = observe(env, lanes.state, params)
        output, value = act(observation) if along is None else act(observation, beside)
        action, chosen = choose(output, draw.action)
        stepped, reward, terminated, info = advance(lanes.state, action, draw.cost, params)
        truncated = is_truncated(stepped, params)
        if decides_once:
            terminated, truncated = terminated | truncated, jnp.zeros_like(truncated)
        done = terminated | truncated
        reward = reward.astype(jnp.float32)
        state = restarted(done, stepped, draw.start, draw.cash, params)
        metrics, lanes = measure(
            lanes, stepped, info, reward, terminated, truncated, params, finished=done
        )
        metrics |= {
            "action_counts": action_counts(action, env.num_actions),
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
        kept = jnp.where(done, 0, lanes.episode_return), jnp.where(done, 0, lanes.peak)
        return Lanes(state, *kept), (transition, metrics)

    lanes, (transitions, metrics) = jax.lax.scan(step, lanes, (draws, along))
    return lanes, transitions, reduced(metrics)


def action_counts(action: Array, num_actions: int, weight: Array | None = None) -> Array:
    """How often each action was taken, int32 [A]; with weights [...] their sums, float32 [A]."""
    if jnp.issubdtype(action.dtype, jnp.floating):
        part = jnp.floor((action + 1) / 2 * num_actions).astype(jnp.int32)
        action = jnp.clip(part, 0, num_actions - 1)
    taken = action.reshape(-1)[:, None] == jnp.arange(num_actions)
    if weight is None:
        return taken.sum(0, jnp.int32)
    return (taken * weight.reshape(-1)[:, None]).sum(0)


def measure(
    lanes: Lanes,
    stepped: Any,
    info: dict[str, Array],
    reward: Array,
    terminated: Array,
    truncated: Array,
    params: Any,
    *,
    finished: Array,
    weight: Array | float = 1.0,
) -> tuple[dict[str, Array], Lanes]:
    """Sums over the lanes of one step, and the lanes with what is summed along them.

    Args:
      lanes: before the step. stepped, info: state and record after it, before any reset.
      reward, terminated, truncated: of the step, [...].
      finished: bool [...], whether an episode is to be counted.
      weight: [...] how much each lane counts; 0 = it is over and leaves no trace.

    Returns: ``steps``, ``reward_sum``, ``episodes``, ``return_sum``, ``return_square_sum`` (of
      finished episodes),
      ``equity_ratio_sum`` (final over initial equity of them), ``ruins``, ``truncations``,
      ``trades`` (positions opened), ``cost`` and ``turnover`` (fractions of initial equity),
      ``exposure_sum``, ``drawdown_max`` (positive). What an environment does not record is left
      out.
    """
    counted = jnp.broadcast_to(jnp.asarray(weight, jnp.float32), reward.shape)
    taken = counted > 0
    finished, terminated = finished & taken, terminated & taken
    total = lanes.episode_return + jnp.where(taken, reward, 0)
    following = dataclasses.replace(lanes, episode_return=total)
    metrics = {
        "steps": taken.sum(dtype=jnp.int32),
        "episodes": finished.sum(dtype=jnp.int32),
        "ruins": terminated.sum(dtype=jnp.int32),
        "truncations": (truncated & taken & ~terminated).sum(dtype=jnp.int32),
        "reward_sum": jnp.where(taken, counted * reward, 0).sum(),
        "return_sum": jnp.where(finished, counted * total, 0).sum(),
        "return_square_sum": jnp.where(finished, counted * jnp.square(total), 0).sum(),
    }
    if "equity" not in info:
        return metrics, following
    initial, equity = stepped.initial_equity, info["equity"]
    peak = jnp.maximum(jnp.maximum(lanes.peak, initial), equity).astype(jnp.float32)
    # Episodes of one decision end without a ruin.
    floor = jnp.maximum(params.bankrupt_threshold, slack(equity.dtype)) * initial
    money = {
        "equity_ratio_sum": jnp.where(finished, equity / initial, 0),
        "trades": (info["event"] & trade.OPENED) != 0,
        "cost": info["cost"] / initial,
        "turnover": info["traded_notional"] / initial,
        "exposure_sum": stepped.account.quantity != 0,
    }
    metrics |= {name: (counted * x).sum().astype(jnp.float32) for name, x in money.items()}
    metrics["ruins"] = (terminated & (equity <= floor)).sum(dtype=jnp.int32)
    metrics["drawdown_max"] = jnp.where(taken, 1 - equity / peak, 0).max().astype(jnp.float32)
    peak = jnp.where(taken, peak, lanes.peak)
    return metrics, dataclasses.replace(following, peak=peak)


def reduced(metrics: dict[str, Array]) -> dict[str, Array]:
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
