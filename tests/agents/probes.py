"""Small environments that each isolate one fault of a learner (anchors of the project, 4.4).

They have the key-free methods a learner uses. Everything they show is in ``account_state``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

Array = jax.Array


@struct.dataclass
class ProbeState:
    time: Array
    shown: Array


@struct.dataclass
class ProbeParams:
    max_steps_in_episode: Array


class Probe:
    """Shows a random sign; subclasses say what it means."""

    num_actions = 2
    length = 1  # transitions until the episode terminates by itself
    limit = 1000  # transitions until it is cut

    @property
    def default_params(self) -> ProbeParams:
        return ProbeParams(max_steps_in_episode=jnp.int32(self.limit))

    def fresh_state(self, start_bits: Array, cash_draw: Array, params: Any) -> ProbeState:
        shown = jnp.where(start_bits & 1, 1.0, -1.0).astype(jnp.float32)
        return ProbeState(time=jnp.int32(0), shown=shown)

    def observe(self, key: Any, state: ProbeState, action: Any, params: Any) -> dict[str, Array]:
        shown = jnp.stack([state.shown, state.time.astype(jnp.float32)])
        return {"account_state": shown}

    def reward(self, state: ProbeState, action: Array) -> Array:
        raise NotImplementedError

    def transition(self, state: ProbeState, action: Array, draw: Array, params: Any) -> Any:
        reward = jnp.asarray(self.reward(state, action), jnp.float32)
        stepped = state.replace(time=state.time + 1)
        return stepped, reward, stepped.time >= self.length, {}

    def is_truncated(self, state: ProbeState, params: Any) -> Array:
        return state.time >= params.max_steps_in_episode


class ConstantReward(Probe):
    """(a) V = 1."""

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.float32(1)


class ObservedReward(Probe):
    """(b) V = what is shown."""

    def reward(self, state: ProbeState, action: Array) -> Array:
        return state.shown


class DelayedReward(Probe):
    """(c) Two steps, reward at the end: V = gamma, then 1."""

    length = 2

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where(state.time == 1, 1.0, 0.0)


class ActionReward(Probe):
    """(d) Action 1 pays, action 0 costs."""

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where(action == 1, 1.0, -1.0)


class MatchReward(Probe):
    """(e) The action must match what is shown."""

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.where((action == 1) == (state.shown > 0), 1.0, -1.0)


class Truncated(Probe):
    """(f) Reward 1 for ever, cut every five steps: V = 1 / (1 - gamma), not less."""

    length = 10**6
    limit = 5

    def reward(self, state: ProbeState, action: Array) -> Array:
        return jnp.float32(1)

    def observe(self, key: Any, state: ProbeState, action: Any, params: Any) -> dict[str, Array]:
        # The clock is hidden: the value must not depend on it.
        return {"account_state": jnp.stack([state.shown, jnp.float32(1)])}


class TerminatedProbe(Truncated):
    """The same reward, but the fifth step is a true end: V falls towards it."""

    length = 5
    limit = 1000
