"""What `check_env` tries an environment with: a random walk, its compiled functions, tolerances."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.state import EnvParams, EnvState
from jaxtrade.testing.comparison import assert_same

Array = jax.Array

STEPS = 48  # of the random walk; its short episodes make it cross several resets
EPISODE = 7


@dataclasses.dataclass
class Probe:
    """One environment with its compiled functions; those of `counted` count their traces."""

    env: TradingEnv[Any]
    key: Array
    traces: dict[str, int] = dataclasses.field(default_factory=dict)

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, compiled; ``traces`` counts under ``name``."""

        def run(*args: Any) -> Any:
            self.traces[name] = self.traces.get(name, 0) + 1
            return function(*args)

        return jax.jit(run)

    @cached_property
    def params(self) -> EnvParams:
        """The environment's own parameters."""
        return self.env.default_params

    @cached_property
    def first(self) -> int:
        """First usable bar."""
        return int(self.params.market.first)

    @cached_property
    def last(self) -> int:
        """Last bar."""
        return int(self.params.market.last)

    def limited(self, steps: int, last: int | None = None) -> EnvParams:
        """Parameters with another time limit and last bar."""
        market = self.params.market
        if last is not None:
            market = dataclasses.replace(market, last=jnp.asarray(last, jnp.int32))
        return self.params.replace(
            max_steps_in_episode=jnp.asarray(steps, jnp.int32), market=market
        )

    @cached_property
    def short(self) -> EnvParams:
        """Parameters with short episodes."""
        return self.limited(EPISODE)

    @cached_property
    def reset(self) -> Callable[..., Any]:
        """`reset`, compiled."""
        return self.counted("reset", self.env.reset)

    @cached_property
    def step(self) -> Callable[..., Any]:
        """`step`, compiled."""
        return self.counted("step", self.env.step)

    @cached_property
    def step_env(self) -> Callable[..., Any]:
        """`step_env`, and whether the state it leads to is truncated."""

        def run(key: Array, state: EnvState, action: Array, params: EnvParams) -> Any:
            out = self.env.step_env(key, state, action, params)
            return out, self.env.is_truncated(out[1], params)

        return jax.jit(run)

    @cached_property
    def rollout(self) -> Callable[..., Any]:
        """See `rollout_of`."""
        return rollout_of(self.env)

    @cached_property
    def actions(self) -> Array:
        """[STEPS] samples of the action space."""
        space = self.env.action_space(self.params)
        return jax.vmap(space.sample)(jax.random.split(jax.random.fold_in(self.key, 1), STEPS))

    @cached_property
    def keys(self) -> Array:
        """[STEPS] keys."""
        return jax.random.split(jax.random.fold_in(self.key, 2), STEPS)

    @cached_property
    def walk(self) -> list[tuple[EnvState, tuple[Any, ...]]]:
        """`step` over several short episodes: (state before, what it returned)."""
        _, state = self.reset(self.key, self.short)
        steps = []
        for key, action in zip(self.keys, self.actions, strict=True):
            out = self.step(key, state, action, self.short)
            steps.append((state, out))
            state = out[1]
        return steps

    def bounds(self) -> tuple[Array, Array]:
        """The lowest and the highest action of the space."""
        space = self.env.action_space(self.params)
        if isinstance(space, spaces.Discrete):
            return jnp.asarray(0, space.dtype), jnp.asarray(space.n - 1, space.dtype)
        low, high = (jnp.asarray(value, space.dtype) for value in (space.low, space.high))
        return jnp.broadcast_to(low, space.shape), jnp.broadcast_to(high, space.shape)

    def start(self, bar: Any) -> EnvState:
        """A fresh account at ``bar``."""
        return self.env.initial_state(
            jnp.asarray(bar, jnp.int32), self.params.cash_low, self.params
        )

    def assert_close(
        self, what: str, expected: Any, got: Any, remedy: str, state: EnvState
    ) -> None:
        """Equal up to what another program may move (docs/semantics.md, "Precision")."""
        leverage = float(self.params.leverage)
        notional = float(state.initial_equity) * leverage
        # What is left of larger sums: cash, cost and equity of the notional, a return of the
        # leverage. Other rewards are money, or ratios that enlarge the rounding of a return.
        scales = dict.fromkeys(("cash", "cost", "equity"), notional)
        scales["reward"] = leverage if self.env.config.reward == "log_return" else notional
        tolerance = 1e-12 if self.params.fee.dtype == jnp.float64 else 2e-6
        assert_same(what, expected, got, remedy, tolerance=tolerance, scales=scales)


def rollout_of(env: TradingEnv[Any]) -> Callable[..., Any]:
    """(state, keys, actions, params) -> what one run without reset shows, stacked over steps."""

    def run(state: EnvState, keys: Array, actions: Array, params: EnvParams) -> Any:
        def one(at: EnvState, x: Any) -> Any:
            key, action = x
            observation, after, reward, terminated, info = env.step_env(key, at, action, params)
            truncated = env.is_truncated(after, params)
            return after, {
                "observation": observation,
                "state": after,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                "info": info,
            }

        return env.observe(keys[0], state, None, params), jax.lax.scan(one, state, (keys, actions))[
            1
        ]

    return jax.jit(run)
