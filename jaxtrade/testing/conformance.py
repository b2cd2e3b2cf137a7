"""`check_env`: does an environment keep the contract that learners and `trace` rely on?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxtrade.envs.base import TradingEnv
from jaxtrade.testing.checks import episodes, form, purity
from jaxtrade.testing.comparison import fail
from jaxtrade.testing.probe import Probe

Array = jax.Array

# In the order in which their failures are easiest to understand.
_CHECKS: tuple[Callable[[Probe], None], ...] = (
    form.types,
    form.spaces,
    form.values,
    episodes.auto_reset,
    episodes.limits,
    episodes.frozen_end,
    episodes.starts,
    purity.no_look_ahead,
    form.actions,
    purity.sweep,
    purity.copies,
    purity.lanes,
    episodes.base_class,
    form.traces,
)
_OF_INDEPENDENT_EPISODES = (episodes.auto_reset, episodes.base_class)


def check_env(env: TradingEnv[Any], *, key: Array | None = None) -> None:
    """Raise unless ``env`` keeps the contract of a jaxtrade environment.

    Checked are: spaces, shapes and dtypes of everything returned; finite values over a random
    walk; one compilation of `reset` and of `step`; the same results for the same key, from copies,
    under `vmap` and from gymnax's own `step`; the meaning of the flags, of the automatic reset and
    of ``final_observation``; the frozen end of the data; clamped and refused actions; parameters
    that can be swept; and that nothing known at a decision depends on data after it.

    The last check changes the tables of the market. Whether the tables themselves were built
    without a look ahead (a feature function of your own) shows only when a market is built again
    from other rows.

    Takes some seconds, most of it compilation.

    Args:
      env: an environment on any market of at least 10 usable bars.
      key: random key of everything drawn here; None = ``jax.random.key(0)``.

    Raises:
      AssertionError: naming what was found, what was expected and what to do.

    Example:
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> check_env(make("SequentialTradingEnv", datasets.load("eurusd_1h")))
    """
    if not isinstance(env, TradingEnv):
        fail("env", "a jaxtrade.envs.TradingEnv", type(env).__name__, "subclass it")
    probe = Probe(env, jax.random.key(0) if key is None else key)
    if probe.last - probe.first < 9:
        fail("market", "10 usable bars", probe.last - probe.first + 1, "check on more data")
    for check in _CHECKS:
        if check in _OF_INDEPENDENT_EPISODES and getattr(env, "carries_over", False):
            continue  # after the end of an episode such an environment is not as after a reset
        check(probe)
