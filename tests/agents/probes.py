"""Small environments that each isolate one fault of a learner.

They have the key-free methods a learner uses, and show everything in ``account_state``: a random
sign and the time. Which one it is, is a number in the parameters, so that one compiled learner
meets them all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

Array = jax.Array


class Kind(NamedTuple):
    """One probe: its number, when it ends by itself and when it is cut."""

    number: int
    ends_after: int = 1
    cut_after: int = 1000


CONSTANT = Kind(0)  # reward 1: V = 1
OBSERVED = Kind(1)  # reward is what is shown: V(shown) = shown
DELAYED = Kind(2, ends_after=2)  # 1 after two steps: V = gamma, then 1
ACTION = Kind(3)  # action 1 pays 1, action 0 costs 1
MATCH = Kind(4)  # the action must match what is shown
CUT = Kind(5, ends_after=10**6, cut_after=5)  # reward 1 for ever, cut: V = 1 / (1 - gamma)
ENDED = Kind(5, ends_after=5)  # the same, but the fifth step is a true end


@struct.dataclass
class ProbeState:
    time: Array
    shown: Array


@struct.dataclass
class ProbeParams:
    number: Array
    ends_after: Array
    max_steps_in_episode: Array


def params_of(kind: Kind) -> ProbeParams:
    return ProbeParams(
        jnp.int32(kind.number), jnp.int32(kind.ends_after), jnp.int32(kind.cut_after)
    )


class Probe:
    num_actions = 2

    def fresh_state(self, start_bits: Array, cash_draw: Array, params: Any) -> ProbeState:
        shown = jnp.where(start_bits & 1, 1.0, -1.0).astype(jnp.float32)
        return ProbeState(time=jnp.int32(0), shown=shown)

    def restarted(
        self, done: Array, state: ProbeState, start_bits: Array, cash_draw: Array, params: Any
    ) -> ProbeState:
        fresh = self.fresh_state(start_bits, cash_draw, params)
        return jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, state)

    def observe(self, key: Any, state: ProbeState, action: Any, params: Any) -> dict[str, Array]:
        # Of an endless reward the clock is hidden: its value must not depend on it.
        time = jnp.where(params.number == 5, 1, state.time)
        return {"account_state": jnp.stack([state.shown, time.astype(jnp.float32)])}

    def transition(self, state: ProbeState, action: Array, draw: Array, params: Any) -> Any:
        one = jnp.float32(1)
        rewards = jnp.stack(
            [
                one,
                state.shown,
                jnp.where(state.time == 1, one, 0),
                jnp.where(action == 1, one, -1),
                jnp.where((action == 1) == (state.shown > 0), one, -1),
                one,
            ]
        )
        stepped = state.replace(time=state.time + 1)
        return stepped, rewards[params.number], stepped.time >= params.ends_after, {}

    def is_truncated(self, state: ProbeState, params: Any) -> Array:
        return state.time >= params.max_steps_in_episode
