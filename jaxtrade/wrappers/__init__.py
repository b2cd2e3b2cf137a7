"""Wrappers: environments around environments, with the same contract and the same key-free pieces.

Every wrapper takes an environment and is one, so that they compose:

    LogWrapper(NormalizationWrapper(FeatureEngineeringWrapper(env)))
"""

from jaxtrade.wrappers.base import Wrapper, WrapperState
from jaxtrade.wrappers.batch_step import BatchStepWrapper
from jaxtrade.wrappers.continuing import ContinuingEpisodes
from jaxtrade.wrappers.features import FeatureEngineeringWrapper
from jaxtrade.wrappers.log import LogState, LogWrapper
from jaxtrade.wrappers.normalization import (
    NormalizationState,
    NormalizationWrapper,
    VectorizedNormalizationWrapper,
)
from jaxtrade.wrappers.randomization import Randomization, RandomizedParams, RandomizedState
from jaxtrade.wrappers.statistics import Statistics, merge, normalize

__all__ = [
    "BatchStepWrapper",
    "ContinuingEpisodes",
    "FeatureEngineeringWrapper",
    "LogState",
    "LogWrapper",
    "NormalizationState",
    "NormalizationWrapper",
    "Randomization",
    "RandomizedParams",
    "RandomizedState",
    "Statistics",
    "VectorizedNormalizationWrapper",
    "Wrapper",
    "WrapperState",
    "merge",
    "normalize",
]
