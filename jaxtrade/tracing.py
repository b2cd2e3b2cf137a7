"""Replay one episode over given actions and return everything that happened, as NumPy arrays."""

from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade import episodes
from jaxtrade.files import atomic_write
from jaxtrade.recording import joined, record_steps

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams, EnvState

Array = jax.Array

_DETERMINISTIC_DRAW = 0.5


def trace(
    env: TradingEnv[Any],
    actions: Any,
    *,
    params: EnvParams | None = None,
    start: Any = None,
    key: Array | None = None,
    draws: Any = None,
    float64: bool = False,
    observations: bool = False,
) -> dict[str, np.ndarray]:
    """Run one episode of ``env`` over ``actions``; it ends at the first done.

    In a `OneStepTradingEnv` every action is an episode of its own.

    Args:
      env: a jaxtrade environment.
      actions: [T] of the environment's action space.
      params: parameters; None = the environment's own.
      start: START label of the bar to begin at (timestamp, string or int ns), for one-step episodes
        also one label per action; None = the first usable bar, or a random start drawn from ``key``
        where the configuration has one.
      key: random key for start, cash and cost draws; None = first bar, lowest cash, draws of 0.5.
      draws: [T] uniform draws in [0, 1) that price the fills; they take the place of ``key``'s.
      float64: compute in float64, from the unrounded prices of the environment's market.
      observations: also return every window.

    Returns: per state (T + 1 rows, row 0 after reset): ``bar_time`` int64 ns (START), ``close``,
      ``cash``, ``quantity``, ``entry_price``, ``liquidation_price`` (0 when none), ``equity``,
      ``held_bars``, ``account_state`` [T + 1, 6] and, with ``observations``, each window by its
      key. Per step (T rows): ``action``, ``reward``, ``terminated``, ``truncated`` and the step
      record (docs/semantics.md, "Records"). And ``leverage`` ().

      Of one-step episodes, E rows each: what was known (``ep_start_time`` int64 ns, ``ep_action``,
      ``ep_base_price``, ``ep_initial_portfolio_value``), the entry (``ep_opened``, ``ep_refused``,
      ``ep_exec_price``, ``ep_open_fee``, ``ep_open_balance``, ``ep_open_position_size``,
      ``ep_open_liquidation_price``, ``ep_open_stop_loss``, ``ep_open_take_profit``), the end
      (``ep_exit_kind``, ``ep_exit_price``, ``ep_exit_fee``, ``ep_rollout_bars``, ``ep_funding``,
      ``ep_final_bar_time``, ``ep_final_balance``, ``ep_final_position_size``,
      ``ep_final_entry_price``, ``ep_final_portfolio_value``, ``ep_final_hold_counter``,
      ``ep_final_account_state`` [E, 6]) and ``ep_reward``, ``ep_terminated``, ``ep_truncated``.

    Raises:
      ValueError: for an action outside the action space, a start that is no bar with a bar after
        it, or draws of another length or range.
    """
    actions = np.asarray(actions)
    if actions.ndim != 1 or actions.size == 0:
        raise ValueError(f"actions: expected shape [T] with T >= 1; got {actions.shape}.")
    env.check_action(actions)
    if draws is not None:
        draws = np.asarray(draws, np.float64)
        if draws.shape != actions.shape or not ((draws >= 0) & (draws < 1)).all():
            raise ValueError(f"draws: expected {actions.size} numbers in [0, 1).")
    context: AbstractContextManager[Any] = jax.enable_x64(True) if float64 else nullcontext()
    with context:
        if params is None:
            params = env.default_params
        elif float64:
            params = jax.tree.map(_widened, params)
        if draws is None:
            draws = _draws(key, actions.size)
        if _is_one_step(env):
            states = _starts(env, params, start, key, actions.size)
            return episodes.replay(env, params, states, actions, draws, observations=observations)
        first_bar = None if start is None else _start_bar(env, start)
        state = _reset(env, params, first_bar, key)
        rows = _run(env, params, state, *_padded(actions, draws), observations)
        first, later, steps = jax.tree.map(np.asarray, rows)
        # Without the padding of the actions.
        later, steps = jax.tree.map(lambda values: values[: actions.size], (later, steps))
    return {
        **joined(env, env.market, (first, later, steps)),
        "leverage": np.asarray(params.leverage, np.float64),
    }


def _reset(env: TradingEnv[Any], params: EnvParams, bar: int | None, key: Array | None) -> EnvState:
    if key is None:
        state = env.initial_state(params.market.first, params.cash_low, params)
    else:
        _, state = env.reset(jax.random.fold_in(key, 0), params)
    if bar is None:
        return state
    return env.initial_state(jnp.int32(bar), state.initial_equity, params)


def _is_one_step(env: Any) -> bool:
    from jaxtrade.envs.onestep import OneStepTradingEnv

    return isinstance(env, OneStepTradingEnv)


def _starts(
    env: TradingEnv[Any], params: EnvParams, start: Any, key: Array | None, count: int
) -> EnvState:
    """Fresh states of ``count`` one-step episodes, leaves [count]."""
    labels = [start] * count if start is None or np.ndim(start) == 0 else list(start)
    if len(labels) != count:
        raise ValueError(f"start: {len(labels)} labels for {count} actions; give one or {count}.")
    keys = [None] * count if key is None else jax.random.split(key, count)
    bars = {label: None if label is None else _start_bar(env, label) for label in set(labels)}
    states = [
        _reset(env, params, bars[label], one) for label, one in zip(labels, keys, strict=True)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _start_bar(env: TradingEnv[Any], start: Any) -> int:
    bar, last = env.market.bar_at(start), int(env.market.last)
    if bar >= last:
        raise ValueError(f"start: {start} is the last bar; an episode needs one more.")
    return bar


def _draws(key: Array | None, count: int) -> np.ndarray:
    if key is None:
        return np.full(count, _DETERMINISTIC_DRAW)
    return np.asarray(jax.random.uniform(jax.random.fold_in(key, 1), (count,)))


def _widened(leaf: Array) -> Array:
    return leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 and leaf.ndim < 2 else leaf


def _padded(actions: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pad to a power of two, so that episodes of similar length share a compilation."""
    length = max(64, 1 << (actions.size - 1).bit_length())
    padding = (0, length - actions.size)
    return np.pad(actions, padding), np.pad(draws, padding)


@partial(jax.jit, static_argnames=("env", "observations"))
def _run(
    env: TradingEnv[Any],
    params: EnvParams,
    state: EnvState,
    actions: Array,
    draws: Array,
    observations: bool,
) -> Any:
    from jaxtrade.market.windows import windows

    def observe(at: EnvState) -> Any:
        return windows(params.market, at.bar) if observations else {}

    draws = jnp.asarray(draws, params.fee.dtype)
    _, first, rows, steps = record_steps(
        env, params, state, lambda _, action: action, jnp.asarray(actions), draws, observe
    )
    return first, rows, steps


def command(argv: list[str]) -> int:
    """Replay actions through an environment and write every number to a .npz file."""
    parser = argparse.ArgumentParser(
        prog="jaxtrade trace",
        description=command.__doc__,
        epilog="example: jaxtrade trace --frame btc.csv --config env.json "
        "--actions actions.npy --out trace.npz --float64",
    )
    parser.add_argument("--frame", required=True, help=".csv, .csv.gz, .parquet or .npz of rows")
    parser.add_argument("--config", help="JSON object of configuration fields (default: {})")
    parser.add_argument("--env", default="SequentialTradingEnv", help="environment name")
    parser.add_argument("--actions", required=True, help=".npy file, [T]")
    parser.add_argument("--draws", help=".npy file, [T] uniform draws in [0, 1)")
    parser.add_argument(
        "--start",
        help="START label of the first bar, e.g. 2024-01-01T00:09; for one-step episodes also a "
        ".npy file of one int64 ns per action",
    )
    parser.add_argument("--seed", type=int, help="seed of start, cash and cost draws")
    parser.add_argument("--float64", action="store_true", help="compute in float64")
    parser.add_argument("--observations", action="store_true", help="also write every window")
    parser.add_argument("--out", required=True, help=".npz file to write")
    given = parser.parse_args(argv)

    from jaxtrade.envs.registry import find

    fields = _read_json(given.config) if given.config else {}
    entry = find(given.env)
    env = entry.env(given.frame, entry.config.from_dict(fields))
    key = None if given.seed is None else jax.random.key(given.seed)
    record = trace(
        env,
        _read_array(given.actions),
        start=_start(given.start),
        key=key,
        draws=_read_array(given.draws) if given.draws else None,
        float64=given.float64,
        observations=given.observations,
    )
    with atomic_write(given.out) as stream:
        np.savez_compressed(stream, allow_pickle=False, **record)
    if "ep_reward" in record:
        rewards = record["ep_reward"]
        print(f"{given.out}: {rewards.size} episodes, mean reward {rewards.mean():.6g}")
    else:
        steps = record["reward"].size
        print(f"{given.out}: {steps} steps, final equity {record['equity'][-1]:.6g}")
    return 0


def _start(given: str | None) -> Any:
    return _read_array(given) if given is not None and given.endswith(".npy") else given


def _read_json(path: str) -> dict[str, Any]:
    try:
        values = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object of configuration fields.")
    # The configuration of a run holds the environment's fields as one of its sections.
    return values["environment"] if "algorithm" in values else values


def _read_array(path: str) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read: {error}.") from error
