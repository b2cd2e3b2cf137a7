"""Several bars per decision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.config import is_count
from jaxtrade.envs.state import EnvParams
from jaxtrade.wrappers.base import Transition, Wrapper

Array = jax.Array


class BatchStepWrapper(Wrapper):
    """Repeats each action up to ``n_steps`` times and adds up the rewards.

    It stops at the first step that ends the episode: no step of the next episode is taken, and
    `step` restarts once. Flags, observation and info are those of the last step taken. Time and
    ``max_steps`` go on counting steps of the wrapped environment.

    The first of the steps is priced by the draw of the decision, the others by draws that are
    derived from it, so that the wrapper needs one draw per decision like any environment.

    Args:
      env: the environment to wrap. n_steps: whole number >= 1.

    Example:
      >>> import jax
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> env = BatchStepWrapper(make("SequentialTradingEnv", datasets.load("eurusd_1h")), 4)
      >>> _, state = env.reset(jax.random.key(0))
      >>> int(env.step(jax.random.key(1), state, 0)[1].time)
      4
    """

    def __init__(self, env: TradingEnv[Any], n_steps: int = 5) -> None:
        if not is_count(n_steps):
            raise ValueError(f"n_steps: must be a whole number >= 1; got {n_steps}.")
        self.n_steps = int(n_steps)
        super().__init__(env)

    def transition(self, state: Any, action: Array, draw: Array, params: EnvParams) -> Transition:
        """Up to ``n_steps`` steps of the wrapped environment as one."""
        first = self.env.transition(state, action, draw, params)

        def step(so_far: Transition, draw: Array) -> tuple[Transition, None]:
            state, total, terminated, _ = so_far
            over = terminated | self.env.is_truncated(state, params)
            stepped, reward, ended, info = self.env.transition(state, action, draw, params)
            further = (stepped, total + reward, ended, info)
            return jax.tree.map(lambda a, b: jnp.where(over, a, b), so_far, further), None

        return jax.lax.scan(step, first, self._further_draws(draw))[0]

    def _further_draws(self, draw: Array) -> Array:
        """[n_steps - 1] uniform draws in [0, 1), a function of the first one."""
        bits = jax.lax.bitcast_convert_type(draw.astype(jnp.float32), jnp.uint32)
        return jax.random.uniform(jax.random.key(bits), (self.n_steps - 1,), draw.dtype)
