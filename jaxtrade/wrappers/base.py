"""What every wrapper shares: it is an environment, and passes on what it does not change."""

from __future__ import annotations

import copy
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import struct

from jaxtrade.core.rules import Terms
from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.state import EnvParams
from jaxtrade.market.market import Market

Array = jax.Array
Transition = tuple[Any, Array, Array, dict[str, Array]]


@struct.dataclass(kw_only=True)
class WrapperState:
    """State of a wrapper that remembers something; subclasses add what that is.

    The fields of `EnvState` can be read through any number of wrappers.

    Attributes:
      inner: state of the wrapped environment.
    """

    inner: Any

    @property
    def time(self) -> Array:
        """Transitions of this episode, int32."""
        return self.inner.time

    @property
    def bar(self) -> Array:
        """The newest execution bar, int32."""
        return self.inner.bar

    @property
    def price(self) -> Array:
        """Close of the newest bar."""
        return self.inner.price

    @property
    def account(self) -> Any:
        """The account."""
        return self.inner.account

    @property
    def initial_equity(self) -> Array:
        """Equity at reset, quote currency."""
        return self.inner.initial_equity

    @property
    def last_action(self) -> Array:
        """The previous step's action."""
        return self.inner.last_action


class Wrapper(TradingEnv[Any]):
    """A trading environment around another one, with the same key-free pieces.

    A subclass overrides what it changes. `reset`, `step` and `step_env` are those of `TradingEnv`
    and go through the key-free pieces, so that a wrapper behaves alike under a key and under
    draws that a learner supplies. Attributes of the wrapped environment can be read through it.

    Args:
      env: the environment to wrap, possibly a wrapper itself.

    Attributes:
      env: the wrapped environment.
      stateful: whether the wrapper's state is a `WrapperState` (else that of ``env``).
    """

    stateful = False
    _outlives_episodes = False

    def __init__(self, env: TradingEnv[Any]) -> None:
        if not isinstance(env, TradingEnv):
            raise ValueError(
                f"{type(self).__name__}: needs an environment of jaxtrade; "
                f"got {type(env).__name__}."
            )
        self._wrap(env)

    def _wrap(self, env: TradingEnv[Any]) -> None:
        """Take ``env`` for the wrapped environment; raises where the wrapper does not fit it."""
        self.env = env
        self.config = env.config
        self.market = env.market
        self.check = env.check
        self._prepare()

    def _prepare(self) -> None:
        self._params: dict[str, EnvParams] = {}

    def around(self, env: TradingEnv[Any]) -> Self:
        """The same wrapper around another environment."""
        twin = copy.copy(self)
        twin._wrap(env)
        return twin

    def __getattr__(self, name: str) -> Any:
        # Asked for what is found nowhere else; "env" itself is missing while a copy is made.
        if name == "env" or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.env, name)

    # What holds for a whole chain of wrappers.

    @property
    def carries_over(self) -> bool:
        """Whether something outlives an episode: `step` then does not restart like `reset`."""
        return self._outlives_episodes or getattr(self.env, "carries_over", False)

    @property
    def keeps_clock(self) -> bool:
        """Whether an episode may begin at the bar at which the one before ended in ruin."""
        return getattr(self.env, "keeps_clock", False)

    def data_start(self, state: Any, params: EnvParams) -> Array:
        """First bar of the data that an episode trades, int32 (): closes before it are foreign."""
        if isinstance(self.env, Wrapper):
            return self.env.data_start(self.inner_of(state), params)
        return jnp.zeros_like(state.bar)

    def inner_of(self, state: Any) -> Any:
        """The wrapped environment's part of a state."""
        return state.inner if self.stateful else state

    # Passed on: parameters and key-free pieces.

    @property
    def default_params(self) -> EnvParams:
        """Parameters of the wrapped environment."""
        return self.env.default_params

    def params(self, market: Market | None = None, dtype: Any = None) -> EnvParams:
        """Parameters over another range or market, as of the wrapped environment."""
        return self.env.params(market, dtype)

    def terms(self, params: EnvParams) -> Terms:
        """Terms of the margin account under ``params``."""
        return self.env.terms(params)

    def in_force(self, state: Any, params: EnvParams) -> EnvParams:
        """The parameters that hold for ``state``."""
        return self.env.in_force(self.inner_of(state), params)

    def initial_state(self, bar: Array, cash: Array, params: EnvParams) -> Any:
        """A flat account with ``cash`` at execution bar ``bar``."""
        return self.env.initial_state(bar, cash, params)

    def fresh_state(self, start_bits: Array, cash_draw: Array, params: EnvParams) -> Any:
        """A start from supplied draws: uint32 bits and a uniform in [0, 1)."""
        return self.env.fresh_state(start_bits, cash_draw, params)

    def restarted(
        self, done: Array, state: Any, start_bits: Array, cash_draw: Array, params: EnvParams
    ) -> Any:
        """``state``, or the start of the next episode where ``done`` (bool ())."""
        return self.env.restarted(done, state, start_bits, cash_draw, params)

    def transition(self, state: Any, action: Array, draw: Array, params: EnvParams) -> Transition:
        """One step without randomness or reset: next state, reward, terminated, record."""
        return self.env.transition(state, action, draw, params)

    def observe(self, key: Array | None, state: Any, action: Any, params: EnvParams) -> Any:
        """The observation of a state; a function of state alone."""
        return self.env.observe(key, self.inner_of(state), action, params)

    def is_truncated(self, state: Any, params: EnvParams) -> Array:
        """Whether time or data ran out, bool ()."""
        return self.env.is_truncated(self.inner_of(state), params)

    def equity(self, state: Any, params: EnvParams) -> Array:
        """Account value at the close of the newest bar, quote currency, ()."""
        return self.env.equity(self.inner_of(state), params)

    def account_state(self, state: Any, params: EnvParams) -> Array:
        """The six account numbers as observed, float32 [6]."""
        return self.env.account_state(self.inner_of(state), params)

    # Passed on: actions, spaces, names.

    @property
    def name(self) -> str:
        """Name of the wrapped environment."""
        return self.env.name

    @property
    def num_actions(self) -> int:
        """Number of discrete actions."""
        return self.env.num_actions

    @property
    def has_brackets(self) -> bool:  # type: ignore[override]  # a constant of an environment
        """Whether the account has stops and targets."""
        return self.env.has_brackets

    @property
    def continuous(self) -> bool:  # type: ignore[override]  # a constant of most environments
        """Whether the action is a number in [-1, 1] instead of an index."""
        return self.env.continuous

    def action_description(self) -> dict[str, Any]:
        """What the actions mean, JSON-able."""
        return self.env.action_description()

    def action_for(self, side: int) -> int | float | None:
        """The action that asks for the largest position on ``side``, or for none (0)."""
        return self.env.action_for(side)

    def action_space(self, params: EnvParams | None = None) -> Any:
        """The wrapped environment's."""
        return self.env.action_space(params)

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """The wrapped environment's, unless the wrapper changes observations."""
        return self.env.observation_space(params)

    def check_action(self, action: Any) -> None:
        """Raise for an action outside the action space; traced values are left alone."""
        self.env.check_action(action)
