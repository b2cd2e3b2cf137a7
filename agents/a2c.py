"""Advantage actor-critic: PPO that uses each rollout once and whole, so that nothing is clipped."""

from __future__ import annotations

from flax import struct

from agents.learner_config import count, number, switch
from agents.ppo import PPOConfig


@struct.dataclass
class A2CConfig(PPOConfig):
    """Settings with which `agents.ppo.PPO` is advantage actor-critic.

    In the only gradient step on a rollout the policy is the one that acted: every probability ratio
    is 1, and the gradient of the clipped objective is that of the log probability times the
    advantage.

    Attributes:
      gae_lambda: 1 sums the rewards up to the end of the rollout and trusts the value there.
      clip_range: without effect.
      rollout_steps: steps of each environment per update; short ones update more often.
      epochs, minibatches: must be 1.
    """

    learning_rate: float = number(7e-4)
    gae_lambda: float = number(1.0, 0, 1)
    rollout_steps: int = count(16)
    epochs: int = count(1)
    minibatches: int = count(1)
    normalize_advantages: bool = switch(False)

    def _conflicts(self) -> list[str]:
        return super()._conflicts() + [
            f"{name}: must be 1 in A2C, was {getattr(self, name)}; use PPO for more"
            for name in ("epochs", "minibatches")
            if getattr(self, name) != 1
        ]
