"""gymnasium: one environment as `gymnasium.Env`, and the ids under ``jaxtrade/``.

Importing this module registers the ids (in gymnasium's own way: ``module:id`` imports it)::

    import gymnasium

    env = gymnasium.make("jaxtrade.adapters.gym:jaxtrade/BTC-Discrete-v0", frame=frame, leverage=2)
    envs = gymnasium.make_vec("jaxtrade/BTC-Discrete-v0", num_envs=64, frame=frame)

``frame`` are the rows to trade (or a `Market`), everything else fields of the configuration.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import gymnasium
import jax
import numpy as np
from gymnasium.error import ResetNeeded

from jaxtrade.adapters import spaces, stepping
from jaxtrade.adapters.records import Calendar, info_of, record_of
from jaxtrade.envs.registry import find

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams

# Kind of environment -> its name in jaxtrade and the fields that make it this kind. One decision
# closed at its horizon is always terminated: there is nothing after it that a learner could count.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Discrete": ("SequentialTradingEnv", {}),
    "Continuous": ("SequentialTradingEnv", {"action": "continuous"}),
    "Bracket": ("SequentialTradingEnvSLTP", {}),
    "OneStep": ("OneStepTradingEnv", {"close_at_horizon": True}),
}
# Asset -> label and the rounded costs of a small market order on a large spot exchange. They are a
# starting point: pass your own.
PRESETS: dict[str, dict[str, Any]] = {
    "BTC": {
        "symbol": "BTC/USD", "transaction_fee": 0.001, "half_spread": 0.0001, "slippage": 0.0002
    },
    "ETH": {
        "symbol": "ETH/USD", "transaction_fee": 0.001, "half_spread": 0.0001, "slippage": 0.0003
    },
    "SOL": {
        "symbol": "SOL/USD", "transaction_fee": 0.001, "half_spread": 0.0002, "slippage": 0.0005
    },
}  # fmt: skip
_OPTIONS = ("params", "start")


class GymEnv(gymnasium.Env[Any, Any]):
    """A trading environment as a `gymnasium.Env`; all random numbers come from ``np_random``.

    - **Observation**: as the environment's, NumPy arrays. **Action**: an index, or for continuous
      actions an array [1] (a number is accepted).
    - **Info**, on reset and step: ``equity``, ``available_cash``, ``position_value``,
      ``unrealized_pnl``, ``virtual_time``, ``step``, ``total_steps``, ``filled_orders``,
      ``progress_pct`` (`records.info_of`); after a step also the step record
      (docs/semantics.md, "Records"). Python scalars, None where the record has NaN.
    - **End**: ``terminated`` and ``truncated`` as in docs/semantics.md, "Episode"; then call
      ``reset``. There is no auto-reset and no rendering: `jaxtrade.render_history` draws a trace.

    Args:
      env: the environment, possibly wrapped. params: parameters; None = the environment's own.

    Attributes:
      trading_env: the jaxtrade environment. state: its state, None before the first reset.

    Example:
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> env = GymEnv(make("SequentialTradingEnv", datasets.load("eurusd_1h")))
      >>> observation, info = env.reset(seed=0)
      >>> observation["market_data_1Hour"].shape, info["equity"]
      ((10, 5), 10000.0)
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - gymnasium's own convention

    def __init__(self, env: TradingEnv[Any], params: EnvParams | None = None) -> None:
        self.trading_env = env
        self.observation_space = spaces.observation_space(env)
        self.action_space = spaces.action_space(env)
        self.state: Any = None
        self._over = True
        self._use(env.default_params if params is None else params)

    def _use(self, params: EnvParams) -> None:
        self._params = params
        self._calendar = Calendar(self.trading_env, params)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode: observation and info.

        Args:
          seed: makes this and all later episodes reproducible; None goes on with the generator.
          options: ``"params"``, parameters from now on; ``"start"``, START label of the bar to
            begin at (timestamp, string or int ns).

        Raises:
          ValueError: for another option, or a start that is no bar with a bar after it.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            if name not in _OPTIONS:
                raise ValueError(f"options: must be among {_OPTIONS}; got {name!r}.")
        if "params" in options:
            self._use(options["params"])
        env, params, draw = self.trading_env, self._params, stepping.draw_seed(self.np_random)
        anew = seed is not None or self.state is None or bool(options)
        if anew or not getattr(env, "carries_over", False):
            state, *seen = stepping.start_one(env, draw, params)
        else:
            state, *seen = stepping.restart_one(env, draw, self.state, params)
        if "start" in options:
            bar = self._bar_of(options["start"])
            state, *seen = stepping.start_at(env, state, bar, params)
        self.state, self._over = state, False
        observation, values = _on_host(seen)
        self._total_steps = int(self._calendar.total_steps(values["bar"]))
        return observation, self._info(values)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One transition: observation, reward, terminated, truncated, info.

        Raises:
          ResetNeeded: before the first reset and after the end of an episode.
        """
        if self._over:
            raise ResetNeeded("step: the episode is over or was never begun; call reset first.")
        env = self.trading_env
        self.state, *seen = stepping.step_one(
            env,
            stepping.draw_seed(self.np_random),
            self.state,
            stepping.as_actions(env, action),
            self._params,
        )
        observation, values = _on_host(seen)
        terminated, truncated = values["terminated"], values["truncated"]
        self._over = terminated or truncated
        info = {**self._info(values), **_without_nan(record_of(values))}
        return observation, values["reward"], terminated, truncated, info

    def _info(self, values: dict[str, Any]) -> dict[str, Any]:
        return info_of(values, self._calendar.time(values["bar"]), self._total_steps)

    def _bar_of(self, start: Any) -> np.int32:
        bar, last = self._params.market.bar_at(start), int(self._params.market.last)
        if bar >= last:
            raise ValueError(f"start: {start} is the last bar or later; an episode needs one more.")
        return np.int32(bar)


def _on_host(seen: Any) -> tuple[Any, dict[str, Any]]:
    """The observation as arrays of its own and the columns as Python scalars."""
    observation, columns = jax.device_get(tuple(seen))
    return stepping.writable(observation), columns.scalars()


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in record.items()
    }


# The ids.


def build(environment: str, frame: Any, fields: dict[str, Any]) -> TradingEnv[Any]:
    """The environment of an id: a registered name, rows, configuration fields and ``check``.

    Raises:
      ValueError: without rows, with a ``render_mode``, for an unknown field (with the nearest
        name) or a wrong value.
    """
    if frame is None:
        raise ValueError("frame: expected rows or a Market; pass gymnasium.make(id, frame=...).")
    mode = fields.pop("render_mode", None)
    if mode is not None:
        raise ValueError(
            f"render_mode: must be None, jaxtrade.render_history draws a trace; got {mode!r}."
        )
    check = bool(fields.pop("check", False))
    entry = find(environment)
    return entry.env(frame, entry.config.from_dict(fields), check=check)


def make_env(environment: str, frame: Any = None, **fields: Any) -> GymEnv:
    """What `gymnasium.make` calls for the ids of this module; see `build`."""
    return GymEnv(build(environment, frame, fields))


def register_all() -> tuple[str, ...]:
    """Register the ids with gymnasium (idempotent) and return them.

    ``jaxtrade/{kind}-v0`` for every kind of environment, and ``jaxtrade/{asset}-{kind}-v0`` with
    the fields of a preset.
    """
    named: dict[str, dict[str, Any]] = {"": {}}
    named.update({f"{asset}-": fields for asset, fields in PRESETS.items()})
    ids = []
    for prefix, preset in named.items():
        for kind, (environment, fields) in KINDS.items():
            name = f"jaxtrade/{prefix}{kind}-v0"
            ids.append(name)
            if name not in gymnasium.registry:
                gymnasium.register(
                    name,
                    entry_point="jaxtrade.adapters.gym:make_env",
                    vector_entry_point="jaxtrade.adapters.vector:make_vector_env",
                    kwargs={"environment": environment, **preset, **fields},
                )
    return tuple(ids)


IDS = register_all()
