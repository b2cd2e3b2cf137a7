"""Learners and policies for the environments of `jaxtrade`.

Modules: `networks` (policies), `losses`, `rollout` and `ppo` (learning), `evaluate` (one pass over
held-out data), `checkpoint` (stop and resume), `training` (a run on disk) and `cli` (commands).
Importing this package imports none of them.
"""
