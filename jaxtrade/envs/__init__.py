"""gymnax environments: thin shells over `jaxtrade.core`. Importing this registers them."""

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.bracket import SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig
from jaxtrade.envs.config import TradingEnvConfig
from jaxtrade.envs.onestep import OneStepTradingEnv, OneStepTradingEnvConfig
from jaxtrade.envs.registry import REGISTRY, make, register_all
from jaxtrade.envs.sequential import SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.envs.state import EnvParams, EnvState
from jaxtrade.envs.vectorized import (
    VectorizedSequentialTradingEnv,
    VectorizedSequentialTradingEnvSLTP,
    VectorizedTradingEnv,
)

__all__ = [
    "REGISTRY",
    "EnvParams",
    "EnvState",
    "OneStepTradingEnv",
    "OneStepTradingEnvConfig",
    "SequentialTradingEnv",
    "SequentialTradingEnvConfig",
    "SequentialTradingEnvSLTP",
    "SequentialTradingEnvSLTPConfig",
    "TradingEnv",
    "TradingEnvConfig",
    "VectorizedSequentialTradingEnv",
    "VectorizedSequentialTradingEnvSLTP",
    "VectorizedTradingEnv",
    "make",
    "register_all",
]

register_all()
