"""The environments of Bybit."""

from __future__ import annotations

from collections.abc import Mapping

from live.clock import Clock
from live.config.environments import (
    BybitFuturesSLTPTradingEnvConfig,
    BybitFuturesTradingEnvConfig,
    ExchangeEnvConfig,
)
from live.config.tables import VenueConfig
from live.env.base import ExchangeTradingEnv
from live.risk import RiskConfig
from live.secrets import Secret
from live.venue import Venue
from live.venues.bybit import BybitVenue


class BybitFuturesTradingEnv(ExchangeTradingEnv):
    """USDT perpetuals of Bybit with fractional levels: the live twin of `SequentialTradingEnv`."""

    config_class = BybitFuturesTradingEnvConfig
    config: BybitFuturesTradingEnvConfig

    @property
    def action_levels(self) -> tuple[float, ...]:
        """Level of every action."""
        return self.config.levels

    def _exchange(self, keys: Mapping[str, Secret], clock: Clock) -> Venue:
        return _exchange(self.config, self._place, self._risk, keys, clock)


class BybitFuturesSLTPTradingEnv(ExchangeTradingEnv):
    """USDT perpetuals of Bybit with brackets: the live twin of `SequentialTradingEnvSLTP`.

    A policy trained on `OneStepTradingEnv` runs with ``lock_position_until_sltp``.
    """

    config_class = BybitFuturesSLTPTradingEnvConfig
    config: BybitFuturesSLTPTradingEnvConfig

    @property
    def action_map(self) -> dict[int, tuple[int, float, float]]:
        """Action -> (side, stop, target) as the configuration tables them."""
        return self.config.action_map

    def _exchange(self, keys: Mapping[str, Secret], clock: Clock) -> Venue:
        return _exchange(self.config, self._place, self._risk, keys, clock)


def _exchange(
    config: ExchangeEnvConfig,
    place: VenueConfig,
    risk: RiskConfig,
    keys: Mapping[str, Secret],
    clock: Clock,
) -> Venue:
    return BybitVenue(
        keys["api_key"],
        keys["api_secret"],
        clock=clock,
        demo=config.demo,
        base_url=place.base_url,
        stream_url=place.stream_url,
        deadman=int(risk.deadman_seconds),
    )
