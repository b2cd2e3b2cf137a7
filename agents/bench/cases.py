"""What is measured: settings of the market, of the environments and of the learners, in tables.

Nothing here imports JAX: the command reads these tables before it starts the processes that do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

GROUPS = ("machine", "startup", "environments", "decisions", "learner", "adapters")
QUICK_GROUPS = ("machine", "environments", "learner")

EXECUTE_ON = "5min"
FRAMES = ("1min", "5min", "15min", "1hour")


@dataclasses.dataclass(frozen=True)
class Options:
    """How thoroughly to measure.

    Attributes:
      repeats: timed runs of every row. minutes: rows of synthetic prices.
      lanes: environments per row; None = as chosen for each table.
      seeds: learners side by side, per row. quick: fewer rows.
    """

    repeats: int = 5
    minutes: int = 500_000
    lanes: tuple[int, ...] | None = None
    seeds: tuple[int, ...] = (1, 8)
    quick: bool = False


def sixteen(bars: Any) -> Any:
    """16 features of bars: log changes of the close over 1 ... 16 bars, 0 where there is none."""
    import numpy as np
    import pandas as pd

    logarithm = np.log(bars["close"])
    changes = {f"feature_{lag}": logarithm.diff(lag).fillna(0.0) for lag in range(1, 17)}
    return pd.DataFrame(changes, index=bars.index)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What an environment sees of the market at every bar: windows of rows of features."""

    time_frames: tuple[str, ...]
    window_sizes: tuple[int, ...]
    features: Any


SETTINGS: dict[str, Setting] = {
    "four frames": Setting(FRAMES, (12, 8, 8, 24), "ohlcv"),
    "four frames, scale-free": Setting(FRAMES, (12, 8, 8, 24), "default"),
    "four frames, 64 rows": Setting(FRAMES, (64, 64, 64, 64), "default"),
    "one frame, 64 rows": Setting((EXECUTE_ON,), (64,), "default"),
    "64x16": Setting((EXECUTE_ON,), (64,), sixteen),
    "1x16": Setting((EXECUTE_ON,), (1,), sixteen),
}

# What rows are called -> environment and its own fields, all with fee and slippage at 5x.
ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "levels": ("SequentialTradingEnv", {"action_levels": (-1.0, -0.5, 0.0, 0.5, 1.0)}),
    "bracket": (
        "SequentialTradingEnvSLTP",
        {"stoploss_levels": (-0.01, -0.02), "takeprofit_levels": (0.01, 0.03)},
    ),
}

LANES = (1, 64, 1024, 4096, 16384, 32768, 65536)
QUICK_LANES = (4096,)
# Environments of the rows that differ in the number of devices.
DEVICE_LANES = 16384
CARTPOLE_LANES = 2048
CARTPOLE_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class EnvironmentRows:
    """Rows of one environment on one setting.

    Attributes:
      what: their name. lanes: the numbers of environments measured; None = all of `LANES`.
    """

    what: str
    environment: str
    setting: str
    observation: str
    lanes: tuple[int, ...] | None = None


_MANY = (1024, 4096, 16384, 32768)
ENVIRONMENT_ROWS = (
    EnvironmentRows("index", "levels", "four frames", "index"),
    EnvironmentRows("dict", "levels", "four frames", "dict"),
    EnvironmentRows("bracket index", "bracket", "four frames", "index", _MANY),
    EnvironmentRows("bracket dict", "bracket", "four frames", "dict", _MANY),
    EnvironmentRows("dict 64x16", "levels", "64x16", "dict", (4096, 16384, 65536)),
)
QUICK_ROWS = ("index", "dict")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the learners; each is measured in a process of its own.

    Attributes:
      what: name of the row. algorithm: of `agents.algorithms`. setting: of `SETTINGS`.
      config: fields of the algorithm's settings that differ from their defaults.
      updates: in one timed call. seeds: learning side by side.
      table: which table it belongs to: "learners", "lanes" or "seeds".
      products: whether the update's matrix products are timed alone beside it.
    """

    what: str
    algorithm: str
    setting: str
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    updates: int = 2
    seeds: int = 1
    table: str = "learners"
    products: bool = False

    @property
    def name(self) -> str:
        """What tells the case from all others."""
        if self.table == "lanes":
            return f"{self.what}, {self.config['num_envs']} environments"
        return f"{self.what}, {self.seeds} seeds" if self.table == "seeds" else self.what


_MLP = "PPO, window MLP"
_LIGHT = "PPO, light policy"
_WINDOWS = "four frames, scale-free"
_TCN_CONFIG: dict[str, Any] = {
    "encoder": "conv",
    "channels": (32,) * 5,  # the newest 63 rows of each window
    "rollout": "segments",
    "hidden_sizes": (64, 64),
    "num_envs": 256,
    "rollout_steps": 128,
    "epochs": 4,
    "minibatches": 8,
}
_LIGHT_CONFIG: dict[str, Any] = {
    "hidden_sizes": (64, 64),
    "num_envs": 4096,
    "rollout_steps": 64,
    "epochs": 1,
    "minibatches": 8,
}

LEARNERS = (
    Case(_MLP, "ppo", _WINDOWS, products=True),
    Case("PPO, segment TCN", "ppo", "four frames, 64 rows", _TCN_CONFIG, products=True),
    Case("PPO, segment TCN, one frame", "ppo", "one frame, 64 rows", _TCN_CONFIG, products=True),
    Case(_LIGHT, "ppo", "1x16", _LIGHT_CONFIG, updates=4, products=True),
    Case("GRPO, one step, simulate", "grpo", _WINDOWS, {"outcomes": "simulate"}, updates=16),
    Case("GRPO, one step, table", "grpo", _WINDOWS, {"outcomes": "table"}, updates=16),
)
QUICK_LEARNERS = (_MLP, "PPO, segment TCN", _LIGHT)

# Learner -> environment steps of an update, whatever the number of environments.
STEPS_PER_UPDATE = {_MLP: 262_144, _LIGHT: 1_048_576}
LEARNER_LANES = (1024, 4096, 16384, 65536)
_SEEDS_CONFIG = {"num_envs": 256}


def learner_cases(options: Options) -> tuple[Case, ...]:
    """The rows of the learners."""
    if options.quick:
        return tuple(case for case in LEARNERS if case.what in QUICK_LEARNERS)
    by_lanes = [
        _with_lanes(case, count)
        for case in LEARNERS
        if case.what in STEPS_PER_UPDATE
        for count in options.lanes or LEARNER_LANES
    ]
    by_seeds = [
        Case(_MLP, "ppo", _WINDOWS, _SEEDS_CONFIG, seeds=seeds, table="seeds")
        for seeds in options.seeds
    ]
    return (*LEARNERS, *by_lanes, *by_seeds)


def _with_lanes(case: Case, count: int) -> Case:
    """The same learner with so many environments and as many steps per update as every other."""
    steps = max(1, STEPS_PER_UPDATE[case.what] // count)
    config = {**case.config, "num_envs": count, "rollout_steps": steps}
    return dataclasses.replace(case, config=config, updates=1, table="lanes", products=False)
