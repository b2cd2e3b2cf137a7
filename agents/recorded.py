"""Recorded trajectories as data sets of transitions, for learners that never act.

Episodes come from `jaxtrade.trace`, from files of ``jaxtrade trace`` or from running a rule, and
are joined with the market they happened on into a `Recording`. A learner takes it where others take
the parameters of an environment::

    parts = [recorded.from_record(env, record, actions) for record, actions in episodes]
    data = recorded.recording(env, parts)
    state = start(learner, key, config.traced(), data, Normalizer.fit(env.market))
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from agents import rollout
from agents.learner import index_twin
from agents.networks import ACCOUNT_STATE, BAR, expand
from agents.transitions import Transition, n_step

Array = jax.Array


@struct.dataclass
class Recording:
    """Transitions and the market they happened on.

    Attributes:
      market: device `Market`, or None where observations have no windows.
      transitions: `Transition` [M] over one step each, with a discount of 1, or 0 where the
        episode terminated.
    """

    market: Any
    transitions: Transition

    @property
    def size(self) -> int:
        """Number of transitions M."""
        return int(self.transitions.reward.shape[0])


def from_record(
    env: Any, record: Mapping[str, Any], actions: Any = None, *, market: Any = None
) -> Transition:
    """The transitions of one episode.

    A recording that stops before its episode does bootstraps from its last state.

    Args:
      env: the environment it was recorded in.
      record: of `jaxtrade.trace`, T steps.
      actions: [T] or longer: those that were traced; None = ``record["action"]``.
      market: host market it ran on; None = the environment's.

    Returns: leaves [T, ...].

    Raises:
      ValueError: columns are missing or of another length, an action is outside the action space,
        or no bar of the market starts at a recorded time.
    """
    needed = ("bar_time", "account_state", "reward", "terminated")
    missing = [name for name in needed if name not in record]
    if missing:
        raise ValueError(f"record: has no {', '.join(missing)}; use a record of jaxtrade.trace")
    columns = {name: np.asarray(record[name]) for name in needed}
    steps = columns["reward"].shape[0]
    lengths = {name: len(column) for name, column in columns.items()}
    wanted = {name: steps + (name in needed[:2]) for name in needed}
    if lengths != wanted:
        raise ValueError(f"record: its columns have {lengths} rows, expected {wanted}")
    if actions is None and "action" not in record:
        raise ValueError("actions: the record holds none; pass the actions that were traced")
    actions = np.asarray(record["action"] if actions is None else actions)
    if actions.ndim != 1 or len(actions) < steps:
        raise ValueError(f"actions: expected {steps} of them in one row, was {actions.shape}")
    actions = actions[:steps]
    env.check_action(actions)
    bars = _bars(env.market if market is None else market, columns["bar_time"])
    account = jnp.asarray(columns["account_state"], jnp.float32)
    return Transition(
        observation={BAR: bars[:-1], ACCOUNT_STATE: account[:-1]},
        action=jnp.asarray(actions, jnp.float32 if env.continuous else jnp.int32),
        reward=jnp.asarray(columns["reward"], jnp.float32),
        following={BAR: bars[1:], ACCOUNT_STATE: account[1:]},
        discount=jnp.where(columns["terminated"], jnp.float32(0), 1),
    )


def _bars(market: Any, times: np.ndarray) -> Array:
    """Numbers of the execution bars that start at ``times`` (int64 ns), int32 [T + 1]."""
    starts = market.bar_time
    bars = np.minimum(np.searchsorted(starts, times), len(starts) - 1)
    unknown = np.flatnonzero(starts[bars] != times)
    if unknown.size:
        market.bar_at(int(times[unknown[0]]))  # says which bars there are
    return jnp.asarray(bars, jnp.int32)


def load(
    env: Any,
    path: str | os.PathLike[str],
    actions: str | os.PathLike[str] | None = None,
    *,
    market: Any = None,
) -> Transition:
    """`from_record` of a file that ``jaxtrade trace`` wrote.

    Args:
      path: .npz file. actions: .npy file that was traced; None = column ``action`` of the former.

    Raises:
      ValueError: a file cannot be read, or see `from_record`.
    """
    record = _read(path)
    if not isinstance(record, np.lib.npyio.NpzFile):
        raise ValueError(f"{path}: holds one array; expected a .npz file of jaxtrade trace")
    with record:
        taken = None if actions is None else _read(actions)
        return from_record(env, record, taken, market=market)


def _read(path: str | os.PathLike[str]) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); expected a .npz or .npy file"
        ) from error


def recording(env: Any, parts: Sequence[Transition], *, market: Any = None) -> Recording:
    """Transitions of one or more episodes on one market, ready to be learnt from.

    Args:
      market: host market; None = the environment's.

    Raises:
      ValueError: there are no transitions.
    """
    if not parts:
        raise ValueError("recording: no episodes; record some with jaxtrade.trace")
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return Recording((env.market if market is None else market).to_device(), joined)


def play(
    env: Any, policy: Any, params: Any, key: Array, *, num_envs: int = 256, steps: int = 256
) -> Recording:
    """The transitions of a rule from ``num_envs`` random starts, ``steps`` steps each.

    Args:
      policy: of `jaxtrade.baselines`, or any (observation with windows [N, ...], uniform draw [N])
        -> action [N]; may be a chain of rules or a mixture with random actions.
      params: of the environment.
    """
    transitions = _play(params, key, env=index_twin(env), policy=policy, shape=(steps, num_envs))
    return Recording(getattr(params, "market", None), transitions)


@partial(jax.jit, static_argnames=("env", "policy", "shape"))
def _play(params: Any, key: Array, *, env: Any, policy: Any, shape: tuple[int, int]) -> Transition:
    key_start, key_draws = jax.random.split(key)
    lanes = rollout.start(env, rollout.Draws.of(key_start, shape[1:]), params)

    def act(observation: Any) -> tuple[Any, Array]:
        seen = expand(observation, params.market) if BAR in observation else observation
        return seen, jnp.zeros(shape[1:])

    def choose(seen: Any, draw: Array) -> tuple[Array, Array]:
        return policy(seen, draw), jnp.zeros(shape[1:])

    _, batch, _ = rollout.collect(
        env, lanes, rollout.Draws.of(key_draws, shape), params, act, choose
    )
    return n_step(batch, gamma=1.0)
