"""The five-value step of gymnax before 1.0, for learners that still expect it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxtrade.envs import spaces

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams

Array = jax.Array


class FiveValue:
    """An environment whose ``step`` gives observation, state, reward, done and an empty info.

    For rejax, purejaxrl and others written for gymnax before 1.0. They stop bootstrapping at
    ``done`` and so take an episode that time or data ended for one that ended in ruin. Give them
    episodes that hardly anything but ruin ends: ``max_steps=None`` or large. Info is empty because
    some of them keep it for all steps. Everything else is the environment's own; observations must
    be one array, ``observation="flat"``, and a continuous action has shape [1].

    rejax: create the algorithm with ``env_params``, replace its ``eval_callback``, which closes
    over them, and pass the algorithm as an argument. Otherwise the market becomes a constant of the
    compiled program::

        from rejax import PPO
        from rejax.evaluate import evaluate

        def callback(algorithm, state, key):
            steps = algorithm.env_params.max_steps_in_episode
            act = algorithm.make_act(state)
            return evaluate(act, key, algorithm.env, algorithm.env_params, 16, steps)

        env = FiveValue(trading_env)
        algorithm = PPO.create(env=env, env_params=env.default_params, total_timesteps=100_000)
        algorithm = algorithm.replace(eval_callback=callback)
        state, (lengths, returns) = jax.jit(PPO.train)(algorithm, jax.random.key(0))

    Args:
      env: the environment, possibly wrapped.
    """

    def __init__(self, env: TradingEnv[Any]) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling ask before there is an environment.
        if name == "_env" or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._env, name)

    def step(
        self, key: Array, state: Any, action: Any, params: EnvParams | None = None
    ) -> tuple[Any, Any, Array, Array, dict[str, Any]]:
        """One transition with auto-reset; done is terminated or truncated, bool ()."""
        if self._env.continuous:
            action = jnp.reshape(action, ())
        observation, state, reward, terminated, truncated, _ = self._env.step(
            key, state, action, params
        )
        return observation, state, reward, terminated | truncated, {}

    def action_space(self, params: EnvParams | None = None) -> Any:
        """The environment's; a continuous action as ``Box(-1, 1, (1,))``."""
        if self._env.continuous:
            return spaces.Box(-1.0, 1.0, (1,))
        return self._env.action_space(params)
