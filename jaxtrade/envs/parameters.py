"""An environment's configuration and market, and the parameters and terms made of them."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade import rewards
from jaxtrade.core.rules import Costs, Terms
from jaxtrade.envs.config import TradingEnvConfig
from jaxtrade.envs.state import EnvParams
from jaxtrade.market.market import Market

Array = jax.Array
Config = TypeVar("Config", bound=TradingEnvConfig)


class Parametrised(Generic[Config]):
    """What an environment is made of; nothing here moves.

    Args:
      frame: DataFrame or file of rows (see `jaxtrade.market`), or a ready `Market`.
      config: the configuration; None = the defaults of ``config_class``.
    """

    config_class: type[Config]

    def __init__(self, frame: Any, config: Config | None = None) -> None:
        self.config: Config = self.config_class() if config is None else config
        self.market = frame if isinstance(frame, Market) else self._build_market(frame)
        _check_market(self.market, self.config)
        self._prepare()

    def _prepare(self) -> None:
        """What is derived from configuration and market, and rebuilt after unpickling."""
        self._reward, self._reward_weights = rewards.resolve(
            self.config.reward, self.config.execution_frame.periods_per_year
        )
        self._params: dict[str, EnvParams] = {}

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_reward", "_reward_weights", "_params")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def _build_market(self, frame: Any) -> Market:
        config = self.config
        return Market.from_frame(
            frame,
            time_frames=config.frames,
            window_sizes=config.windows,
            execute_on=config.execution_frame,
            features=config.features,
            rules=config.rules,
        )

    # Parameters.

    @property
    def default_params(self) -> EnvParams:
        """Parameters of the configuration over the environment's market, in the working dtype."""
        dtype = jax.dtypes.canonicalize_dtype(np.float64)
        if dtype.name not in self._params:
            with jax.ensure_compile_time_eval():
                self._params[dtype.name] = self.params(dtype=dtype)
        return self._params[dtype.name]

    def params(self, market: Market | None = None, dtype: Any = None) -> EnvParams:
        """Parameters over another range or market of the same spec; leaves in ``dtype``.

        Args:
          market: host or device market; None = the environment's own.
          dtype: float dtype of money and prices; None = float64 under x64, else float32.

        Raises:
          ValueError: if the market was built for other frames, windows or features.
        """
        config = self.config
        if market is None:
            market = self.market
        _check_market(market, config, self.market)
        dtype = jax.dtypes.canonicalize_dtype(np.float64) if dtype is None else np.dtype(dtype)

        def number(value: float) -> Array:
            return jnp.asarray(value, dtype)

        threshold = config.margin_call_threshold
        steps = market.num_bars if config.episode_bars is None else config.episode_bars
        low, high = config.cash_range
        return EnvParams(
            max_steps_in_episode=jnp.asarray(steps, jnp.int32),
            market=market.to_device(dtype),
            fee=number(config.transaction_fee),
            half_spread=number(config.half_spread),
            slippage=number(config.slippage),
            leverage=number(config.leverage),
            maintenance_margin_rate=number(config.maintenance_margin_rate),
            margin_call_threshold=number(np.nan if threshold is None else threshold),
            bankrupt_threshold=number(config.bankrupt_threshold),
            ruin_reward=number(config.ruin_reward),
            cash_low=number(low),
            cash_high=number(high),
            reward_weights=jnp.asarray(self._reward_weights, dtype),
            unit=number(1),
        )

    def _costs(self, params: EnvParams) -> Costs:
        return Costs(fee=params.fee, half_spread=params.half_spread, slippage=params.slippage)

    def terms(self, params: EnvParams) -> Terms:
        """Terms of the margin account under ``params``."""
        return Terms.of(
            params.leverage,
            params.maintenance_margin_rate,
            params.margin_call_threshold,
            params.unit,
            spot=self.config.spot,
        )


def _check_market(market: Market, config: TradingEnvConfig, own: Market | None = None) -> None:
    """Raise unless the market was built for this configuration (and like ``own``)."""
    spec = market.spec
    for name, built, asked in (
        ("time_frames", spec.time_frames, config.frames),
        ("window_sizes", spec.window_sizes, config.windows),
        ("execute_on", spec.execute_on, config.execution_frame),
    ):
        if built != asked:
            raise ValueError(
                f"market: was built with {name} {_names(built)}, the configuration asks for "
                f"{_names(asked)}; build it with Market.from_frame from the same values."
            )
    if own is not None and spec != own.spec:
        raise ValueError(
            f"market: has feature columns {spec.feature_columns}, the environment has "
            f"{own.spec.feature_columns}; build both with the same features."
        )


def _names(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_names(item) for item in value) + ")"
    return getattr(value, "name", str(value))
