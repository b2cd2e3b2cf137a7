"""Settings of group relative policy optimisation."""

from __future__ import annotations

from flax import struct

from agents import losses
from agents.learner_config import LearnerConfig, choice, count, number

SAMPLING = ("members", "enumerate")
OUTCOMES = ("simulate", "table")


@struct.dataclass
class GRPOConfig(LearnerConfig):
    """Settings of the learner, besides those of `LearnerConfig`.

    Attributes:
      learning_rate: of Adam; lower it when `kl` of an update exceeds about 0.05.
      gamma: discount per step from the group's start; 1 counts every step alike.
      num_envs: members of all groups together; a multiple of group_size.
      group_size: members per group, at least 2; more compare better, fewer see more starts.
      rollout_steps: longest episode; 1 where one decision is the whole episode.
      epochs: passes over the groups. minibatches: parts of a pass; must divide the groups.
      clip_range: largest change of a probability ratio that is rewarded.
      kl_coefficient: weight of the divergence to the reference policy; 0 = none.
      reference_updates: updates after which the reference becomes the policy of that time; 0 keeps
        the one the run began with.
      entropy_coefficient: weight of the entropy; raise it when one action takes over early.
      baseline: a return is compared with the "mean" of its group, or with that of the others
        ("leave_one_out").
      scale: advantages are divided by the spread of the group ("std"), by the mean spread of all
        groups ("batch", money counts alike everywhere), or not at all ("none").
      sampling: "members" draw their actions; "enumerate" takes each action once, weighed by its
        chance: the exact gradient, for one decision and group_size = number of actions.
      outcomes: "simulate" carries decisions out; "table" computes every action at every bar once
        and looks them up, which is quicker with large groups (one-step environment, no slippage)
        but leaves trades and costs out of the progress.
    """

    gamma: float = number(1.0, 0, 1)
    num_envs: int = count(16_384)
    group_size: int = count(16)
    rollout_steps: int = count(1)
    epochs: int = count(2)
    minibatches: int = count(4)
    clip_range: float = number(0.2)
    kl_coefficient: float = number(0.01)
    reference_updates: float = number(16.0)
    entropy_coefficient: float = number(0.0)
    baseline: str = choice("mean", losses.BASELINES)
    scale: str = choice("std", losses.SCALES)
    sampling: str = choice("members", SAMPLING)
    outcomes: str = choice("simulate", OUTCOMES)

    @property
    def steps_per_update(self) -> int:
        """Decisions of one update, S * K * G."""
        return self.num_envs * self.rollout_steps

    @property
    def groups(self) -> int:
        """Number of groups, K."""
        return self.num_envs // self.group_size

    def _conflicts(self) -> list[str]:
        size, enumerated = self.group_size, self.sampling == "enumerate"
        checks = [
            (size < 2, f"group_size: must be >= 2, was {size}: a member is judged by the others"),
            (
                self.num_envs % size,
                f"num_envs: must be a multiple of group_size ({size}), was {self.num_envs}",
            ),
            (
                self.groups % self.minibatches,
                f"minibatches: must divide the {self.groups} groups, was {self.minibatches}",
            ),
            (
                enumerated and self.rollout_steps > 1,
                'sampling: "enumerate" is for one decision, was with rollout_steps '
                f'{self.rollout_steps}; use "members"',
            ),
            (
                enumerated and self.baseline != "mean",
                f'baseline: must be "mean" when every action is taken, was "{self.baseline}"',
            ),
        ]
        return [problem for wrong, problem in checks if wrong]
