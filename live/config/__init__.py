"""The configuration of a daemon: its tables, the environments, files, variables and options."""

from live.config.constants import BYBIT, VenueConstants
from live.config.environments import (
    ENVIRONMENTS,
    BracketEnvConfig,
    BybitFuturesSLTPTradingEnvConfig,
    BybitFuturesTradingEnvConfig,
    EnvConfig,
    FractionalEnvConfig,
)
from live.config.exchange import ExchangeEnvConfig
from live.config.loading import PREFIX, load, load_tables, merge
from live.config.modes import check_modes, confirmation
from live.config.schema import DEFAULT_ENVIRONMENT, SECTIONS, TABLES, LiveConfig, plain
from live.config.tables import (
    ClockConfig,
    JournalConfig,
    NotifyConfig,
    PolicyConfig,
    RateConfig,
    ReconcileConfig,
    RunnerConfig,
    ServerConfig,
    VenueConfig,
)
from live.fields import ConfigError

__all__ = [
    "BYBIT",
    "DEFAULT_ENVIRONMENT",
    "ENVIRONMENTS",
    "PREFIX",
    "SECTIONS",
    "TABLES",
    "BracketEnvConfig",
    "BybitFuturesSLTPTradingEnvConfig",
    "BybitFuturesTradingEnvConfig",
    "ClockConfig",
    "ConfigError",
    "EnvConfig",
    "ExchangeEnvConfig",
    "FractionalEnvConfig",
    "JournalConfig",
    "LiveConfig",
    "NotifyConfig",
    "PolicyConfig",
    "RateConfig",
    "ReconcileConfig",
    "RunnerConfig",
    "ServerConfig",
    "VenueConfig",
    "VenueConstants",
    "check_modes",
    "confirmation",
    "load",
    "load_tables",
    "merge",
    "plain",
]
