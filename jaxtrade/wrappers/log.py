"""Return, length and final equity of episodes, in the info of every step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxtrade.envs.state import EnvParams
from jaxtrade.wrappers.base import Transition, Wrapper, WrapperState

Array = jax.Array


@struct.dataclass(kw_only=True)
class LogState(WrapperState):
    """The running episode and the last one that ended; leaves ().

    Attributes:
      episode_return, episode_length: sum of rewards and number of steps so far (int32).
      returned_return, returned_length, returned_equity: of the last episode that ended, 0 before
        the first; the equity is the final one, quote currency.
    """

    episode_return: Array
    episode_length: Array
    returned_return: Array
    returned_length: Array
    returned_equity: Array


class LogWrapper(Wrapper):
    """Logs episodes into ``info``, under the names that gymnax's own log wrapper uses.

    Every step's info gains ``returned_episode`` (bool: this step ended an episode) and, of the last
    episode that ended, ``returned_episode_returns``, ``returned_episode_lengths`` (int32),
    ``returned_episode_equity`` (the final one) and ``returned_episode_valid`` (bool: there was
    one). The running values are in the state.

    Example:
      >>> import jax
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> env = LogWrapper(make("SequentialTradingEnv", datasets.load("eurusd_1h"), max_steps=1))
      >>> _, state = env.reset(jax.random.key(0))
      >>> info = env.step(jax.random.key(1), state, 0)[5]
      >>> bool(info["returned_episode"]), int(info["returned_episode_lengths"])
      (True, 1)
    """

    stateful = True
    _outlives_episodes = True

    def _logged(self, inner: Any, params: EnvParams) -> LogState:
        none = jnp.zeros((), params.fee.dtype)
        zero = jnp.zeros((), jnp.int32)
        return LogState(
            inner=inner,
            episode_return=none,
            episode_length=zero,
            returned_return=none,
            returned_length=zero,
            returned_equity=none,
        )

    def initial_state(self, bar: Array, cash: Array, params: EnvParams) -> Any:
        """A flat account with ``cash`` at execution bar ``bar``; nothing logged yet."""
        return self._logged(self.env.initial_state(bar, cash, params), params)

    def fresh_state(self, start_bits: Array, cash_draw: Array, params: EnvParams) -> Any:
        """A start from supplied draws; nothing logged yet."""
        return self._logged(self.env.fresh_state(start_bits, cash_draw, params), params)

    def restarted(
        self,
        done: Array,
        state: Any,
        start_bits: Array,
        cash_draw: Array,
        params: EnvParams,
    ) -> Any:
        """``state``, or the next episode where ``done``; what was logged stays."""
        return state.replace(
            inner=self.env.restarted(done, state.inner, start_bits, cash_draw, params),
            episode_return=jnp.where(done, 0, state.episode_return),
            episode_length=jnp.where(done, 0, state.episode_length),
        )

    def transition(self, state: Any, action: Array, draw: Array, params: EnvParams) -> Transition:
        """One step; its info gains the ``returned_episode`` entries."""
        inner, reward, terminated, info = self.env.transition(state.inner, action, draw, params)
        done = terminated | self.env.is_truncated(inner, params)
        total = state.episode_return + reward
        length = state.episode_length + 1
        stepped = LogState(
            inner=inner,
            episode_return=total,
            episode_length=length,
            returned_return=jnp.where(done, total, state.returned_return),
            returned_length=jnp.where(done, length, state.returned_length),
            returned_equity=jnp.where(done, info["equity"], state.returned_equity),
        )
        logged = {
            "returned_episode": done,
            "returned_episode_returns": stepped.returned_return,
            "returned_episode_lengths": stepped.returned_length,
            "returned_episode_equity": stepped.returned_equity,
            "returned_episode_valid": stepped.returned_length > 0,
        }
        return stepped, reward, terminated, {**info, **logged}
