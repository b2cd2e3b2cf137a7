"""The environments in the interfaces of other libraries; each module imports its library.

| module | for |
|---|---|
| ``gym`` | `gymnasium.Env`, ids under ``jaxtrade/`` |
| ``vector`` | `gymnasium.vector.VectorEnv` |
| ``sb3`` | Stable-Baselines3 ``VecEnv`` (extra ``sb3``) |
| ``legacy`` | learners of gymnax before 1.0: rejax, purejaxrl (extra ``rejax``) |
| ``stoa`` | Stoa environments (extra ``stoa``) |
| ``tracker`` | curves of every episode, of any gymnasium learner |

Learners written in JAX use the environments themselves: they are gymnax environments.
"""
