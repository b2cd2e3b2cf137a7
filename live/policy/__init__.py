"""Who decides: a bundle of trained weights, a rule, or a user's own function, behind one call.

A policy gets one observation (mode "dict", no batch axis) and the info of the step, and answers an
action: an index, or a number where the actions are continuous. Whatever else it answers, NaN
included, the planner takes for a hold.
"""

from live.policy.base import Info, Observation, Policy, PolicyTarget
from live.policy.bundles import BundlePolicy, observer_for
from live.policy.functions import BASELINES, BaselinePolicy, CallablePolicy, named_object

# Compiled, without memory and without waiting: these need no thread and may be tried out.
QUICK = (BundlePolicy, BaselinePolicy)

__all__ = [
    "BASELINES",
    "QUICK",
    "BaselinePolicy",
    "BundlePolicy",
    "CallablePolicy",
    "Info",
    "Observation",
    "Policy",
    "PolicyTarget",
    "named_object",
    "observer_for",
]
