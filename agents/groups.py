"""Collecting groups: members start alike, meet the same prices and costs, and act apart.

Axes: S steps, K groups, G members, M members seen apart: 1 where all of a group see the same, which
is so at the start of an episode, else G.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from agents import losses, rollout
from agents.networks import ACCOUNT_STATE, BAR

Array = jax.Array


class Draws(NamedTuple):
    """All randomness of one update; what is drawn per group is common to its members.

    Attributes:
      start: uint32 bits [K]. cash: uniform in [0, 1), [K]. cost: the same, [S, K].
      action: the same, [S, K, G].
    """

    start: Array
    cash: Array
    cost: Array
    action: Array

    @classmethod
    def of(cls, key: Array, steps: int, groups: int, members: int) -> Draws:
        """Independent draws for everything."""
        keys = jax.random.split(key, 4)
        return cls(
            start=jax.random.bits(keys[0], (groups,), jnp.uint32),
            cash=jax.random.uniform(keys[1], (groups,)),
            cost=jax.random.uniform(keys[2], (steps, groups)),
            action=jax.random.uniform(keys[3], (steps, groups, members)),
        )


class Batch(NamedTuple):
    """One episode of every member.

    Attributes:
      market: what a group sees alike, in index form, [S, K, ...]. account: [S, K, M, P].
      action: int32 [S, K, G].
      log_probability, reference: [S, K, G], logs of the action's chance when it was taken and by
        the reference policy.
      weight: [S, K, G], how much the step counts: 0 once the member's episode was over.
      returns: [K, G], discounted from the group's start. share: [K, G], of each member in what the
        policy expects; 1 in sum per group.
    """

    market: Any
    account: Array
    action: Array
    log_probability: Array
    reference: Array
    weight: Array
    returns: Array
    share: Array


@struct.dataclass
class Members:
    """Running episodes.

    Attributes:
      lanes: of `rollout`, [K, G]. running: bool [K, G]. returns: [K, G], discounted so far.
    """

    lanes: rollout.Lanes
    running: Array
    returns: Array


# (what a group sees alike [K, ...], account [K, M, P]) -> logs of the probabilities [K, M, A], by
# the policy and by the reference.
Act = Callable[[Any, Array], tuple[Array, Array]]


def apart(observation: Any) -> tuple[Any, Array]:
    """What the members of a group see alike [K, ...] and their accounts [K, M, P].

    Args:
      observation: in index form, [K, M, ...].
    """
    market = {key: part[:, 0] for key, part in observation.items() if key != ACCOUNT_STATE}
    if BAR in market:
        market[BAR] = observation[BAR].max(1)  # a ruined member stays behind
    return market, observation[ACCOUNT_STATE]


def collect(
    env: Any,
    draws: Draws,
    params: Any,
    act: Act,
    gamma: Array | float,
    *,
    enumerate_actions: bool = False,
) -> tuple[Batch, dict[str, Array]]:
    """One episode of every member from its group's start, S steps at most, without resets.

    Args:
      env: key-free environment: ``fresh_state``, ``transition``, ``observe``, ``is_truncated``.
      gamma: () discount per step.
      enumerate_actions: member i takes action i (S = 1, G = A) and weighs as much as its chance,
        instead of each drawing an action.

    Returns: the episodes and metrics: those of `rollout.collect`, episodes without an end within S
      steps counted as cut there.
    """
    steps, groups, members = draws.action.shape
    state = jax.vmap(env.fresh_state, in_axes=(0, 0, None))(draws.start, draws.cash, params)
    step = _Step(env, params, act, gamma, steps - 1, enumerate_actions)
    if not step.alike:
        state = jax.tree.map(
            lambda x: jnp.broadcast_to(x[:, None], (groups, members, *x.shape[1:])), state
        )
    zeros = jnp.zeros((groups, members), jnp.float32)
    begin = Members(rollout.Lanes(state, zeros, zeros), jnp.ones_like(zeros, bool), zeros)
    inputs = (jnp.arange(steps, dtype=jnp.int32), draws.cost, draws.action)
    batch: Batch
    if step.alike:  # the states before and after differ in shape, and there is nothing to repeat
        _, found = step(begin, jax.tree.map(lambda x: x[0], inputs))
        batch, metrics = jax.tree.map(lambda x: x[None], found)
    else:
        _, (batch, metrics) = jax.lax.scan(step, begin, inputs)
    batch = batch._replace(returns=batch.returns[-1], share=batch.share[0])
    return batch, rollout.reduced(metrics)


@dataclasses.dataclass(frozen=True, eq=False)  # a scan hashes it, and arrays have no hash
class _Step:
    """One step of all members; called with them and (number of the step, cost [K], draw [K, G])."""

    env: Any
    params: Any
    act: Act
    gamma: Array | float
    last: int
    enumerated: bool

    @property
    def alike(self) -> bool:
        """Whether the only step is from the groups' starts, whose states [K] the members share."""
        return self.last == 0

    def __call__(self, now: Members, x: tuple[Array, Array, Array]) -> tuple[Members, Any]:
        number, cost, draw = x
        members = draw.shape[-1]
        market, account = apart(self._look(now.lanes.state))
        policy, reference = self.act(market, account)
        if self.enumerated:
            action = jnp.broadcast_to(jnp.arange(members, dtype=jnp.int32), draw.shape)
        else:
            action = rollout.sample(policy, draw)
        chosen = losses.log_probability_of(policy, action)
        share = jnp.exp(chosen) if self.enumerated else jnp.full(draw.shape, 1 / members)
        weight = jnp.where(now.running, share * members, 0)
        stepped, reward, terminated, truncated, info = self._advance(now, action, cost)
        done = terminated | truncated
        cut = done | (number == self.last)
        metrics, lanes = rollout.measure(
            now.lanes,
            stepped,
            info,
            reward,
            terminated,
            cut,
            self.params,
            finished=cut,
            weight=weight,
        )
        broken = now.running & ~(jnp.isfinite(reward) & jnp.isfinite(chosen))
        metrics |= {
            "action_counts": rollout.action_counts(action, self.env.num_actions, weight),
            "nonfinite": broken.sum(dtype=jnp.int32),
        }
        following = Members(
            lanes=dataclasses.replace(lanes, state=stepped),
            running=now.running & ~done,
            returns=now.returns + self.gamma**number * reward,
        )
        kept = Batch(
            market=market,
            account=account,
            action=action,
            log_probability=chosen,
            reference=losses.log_probability_of(reference, action),
            weight=weight,
            returns=following.returns,
            share=share,
        )
        return following, (kept, metrics)

    def _look(self, state: Any) -> Any:
        """Observations [K, M, ...]."""

        def one(state: Any) -> Any:
            return self.env.observe(None, state, None, self.params)

        if self.alike:
            return jax.tree.map(lambda x: x[:, None], jax.vmap(one)(state))
        return jax.vmap(jax.vmap(one))(state)

    def _advance(self, now: Members, action: Array, cost: Array) -> tuple[Any, ...]:
        """State, reward, terminated, truncated and record after the step, [K, G]."""

        def one(state: Any, action: Array, cost: Array) -> tuple[Any, ...]:
            stepped, reward, terminated, info = self.env.transition(
                state, action, cost, self.params
            )
            truncated = self.env.is_truncated(stepped, self.params)
            return stepped, reward.astype(jnp.float32), terminated, truncated, info

        over_members = jax.vmap(one, in_axes=(None if self.alike else 0, 0, None))
        stepped, reward, *rest = jax.vmap(over_members)(now.lanes.state, action, cost)
        return stepped, jnp.where(now.running, reward, 0), *rest
