"""Learners by name, and what a run with them starts from unless told otherwise.

Their modules are imported when they are asked for: this one is read for the help of the command.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from jaxtrade.hints import did_you_mean

SEQUENTIAL, ONE_STEP = "SequentialTradingEnv", "OneStepTradingEnv"


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One learner.

    Attributes:
      config, learner: "module:Class" of its settings and of itself.
      note: its line in the help. env: name of the environment it runs in by default.
      run: settings of a run that differ from `RunSettings`.
      sequential: settings that differ from the defaults of ``config`` where an episode has more
        than one decision.
    """

    config: str
    learner: str
    note: str
    env: str = SEQUENTIAL
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sequential: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def config_class(self) -> Any:
        """The class of its settings."""
        return _imported(self.config)

    @property
    def learner_class(self) -> Any:
        """The class of the learner."""
        return _imported(self.learner)

    def defaults(self, env: str) -> dict[str, Any]:
        """Its settings for an environment, as far as they differ from the defaults."""
        return {} if env == ONE_STEP else dict(self.sequential)


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(
        "agents.ppo:PPOConfig", "agents.ppo:PPO", "proximal policy optimisation; a good first try"
    ),
    "a2c": Algorithm(
        "agents.a2c:A2CConfig", "agents.ppo:PPO", "advantage actor-critic; one step per rollout"
    ),
    "grpo": Algorithm(
        "agents.grpo:GRPOConfig",
        "agents.grpo:GRPO",
        "groups of actions on the same start judge each other; no critic; brackets",
        env=ONE_STEP,
        # An update takes milliseconds.
        run={"total_steps": 20_000_000, "updates_per_chunk": 32},
        sequential={"rollout_steps": 64, "num_envs": 1024},
    ),
    "dqn": Algorithm(
        "agents.dqn:DQNConfig",
        "agents.dqn:DQN",
        "double deep Q-learning from replayed steps",
        run={"updates_per_chunk": 16},
    ),
    "sac": Algorithm(
        "agents.sac:SACConfig",
        "agents.sac:SAC",
        "soft actor-critic from replayed steps; also continuous actions",
        run={"updates_per_chunk": 16},
    ),
}


def find(name: Any) -> Algorithm:
    """The algorithm of a name.

    Raises:
      ValueError: there is none, with the nearest name.
    """
    if name not in ALGORITHMS:
        hint = did_you_mean(name, ALGORITHMS) or f"known: {', '.join(ALGORITHMS)}"
        raise ValueError(f"algorithm: unknown name {name!r}; {hint}")
    return ALGORITHMS[name]


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
