"""`check_env`: does an environment keep the contract that learners and `trace` rely on?"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment
from gymnax.environments import spaces as gymnax_spaces

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.config import SequentialConfig
from jaxtrade.envs.state import EnvParams, EnvState
from jaxtrade.testing.comparison import (
    assert_same,
    assert_same_kinds,
    changed_after,
    fail,
    kind,
    named,
    outside,
)
from jaxtrade.testing.probe import EPISODE, STEPS, Probe, rollout_of

Array = jax.Array

# Values that say "none" by being NaN; everything else is finite.
_MAY_BE_NAN = ("fill_price", "exit_price", "closed_cash", "last_level")
_RETURNED = ("obs", "state", "reward", "terminated", "truncated", "info")
_ADDED_BY_STEP = ("terminated", "truncated", "final_observation")
_LANES = 8
_CUTS = 3
_STARTS = 4


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


# The checks, in the order in which their failures are easiest to understand.


def _check_types(probe: Probe) -> None:
    """Typed arrays everywhere; no leaf differs between reset and step (abstract evaluation)."""
    env, params = probe.env, probe.params
    for leaf, value in named(params):
        if not isinstance(value, jax.Array) or value.weak_type:
            fail(f"default_params.{leaf}", "a typed array", repr(value), "give it a dtype")
    observation, state = jax.eval_shape(env.reset_env, probe.key, params)
    out = jax.eval_shape(env.step_env, probe.key, state, probe.actions[0], params)
    if not isinstance(out, tuple) or len(out) != 5:
        got = f"{len(out)} values" if isinstance(out, tuple) else type(out).__name__
        fail("step_env", "(observation, state, reward, terminated, info)", got, "return these")
    following, stepped, reward, terminated, info = out
    remedy = "reset and step must agree: create every leaf with this shape and dtype"
    assert_same_kinds("observation of step_env", observation, following, remedy)
    assert_same_kinds("state of step_env", state, stepped, remedy)
    assert_same_kinds("initial_state", state, probe.start(probe.first), remedy)
    truncated = jax.eval_shape(env.is_truncated, stepped, params)
    for what, leaf, wanted in (
        ("reward", reward, f"{params.fee.dtype}[]"),
        ("terminated", terminated, "bool[]"),
        ("is_truncated", truncated, "bool[]"),
    ):
        if kind(leaf) != wanted:
            fail(what, wanted, kind(leaf), "cast it")
    if not isinstance(info, dict):
        fail("info", "a dict", type(info).__name__, "return a dict")
    for name, leaf in named(info):
        if leaf.weak_type:
            fail(f"info: {name}", "a typed array", kind(leaf), "give it a dtype")


def _check_spaces(probe: Probe) -> None:
    params = probe.params
    space, actions = probe.env.observation_space(params), probe.env.action_space(params)
    observation, _ = probe.reset(probe.key, probe.short)
    for what, where, value in (
        ("observation of reset", space, observation),
        ("observation of step", space, probe.walk[0][1][0]),
        ("sample of observation_space", space, space.sample(probe.key)),
        ("sample of action_space", actions, probe.actions[0]),
    ):
        found = outside(where, value, what)
        if found:
            fail(*found, "make the space describe what is returned")
    if isinstance(actions, gymnax_spaces.Discrete) and actions.n != probe.env.num_actions:
        fail("num_actions", actions.n, probe.env.num_actions, "keep it equal to action_space.n")


def _check_values(probe: Probe) -> None:
    """Over the walk: finite values in their space, info of one form, flags that say one thing."""
    space = probe.env.observation_space(probe.params)
    first = probe.walk[0][1][5]
    for k, (_, out) in enumerate(probe.walk):
        observation, state, reward, terminated, truncated, info = out
        for name in _ADDED_BY_STEP:
            if name not in info:
                fail(f"info of step {k}", f"the key {name!r}", sorted(info), "add it in step")
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if bool(info[name]) != bool(value):
                fail(f"info[{name!r}] of step {k}", bool(value), bool(info[name]), "return one")
        assert_same_kinds(f"info of step {k}", first, info, "return the same info on every step")
        for name, leaf in named({"obs": observation, "state": state, "reward": reward, **info}):
            if not np.issubdtype(leaf.dtype, np.floating):
                continue
            allowed = np.isnan(leaf) if name.endswith(_MAY_BE_NAN) else False
            if not np.all(np.isfinite(leaf) | allowed):
                remedy = "make divisors safe before the division"
                fail(f"{name} of step {k}", "finite values", np.asarray(leaf), remedy)
        for name, value in (("obs", observation), ("final_observation", info["final_observation"])):
            found = outside(space, value, f"{name} of step {k}")
            if found:
                fail(*found, "make the space describe what is returned")


def _check_auto_reset(probe: Probe) -> None:
    """`step` is `step_env`, the flags, and a new episode exactly when a flag is set."""
    ended = 0
    for k, (before, out) in enumerate(probe.walk):
        observation, state, reward, terminated, truncated, info = out
        key_step, key_reset = jax.random.split(probe.keys[k])
        raw, ran_out = probe.step_env(key_step, before, probe.actions[k], probe.short)
        final, stepped, raw_reward, raw_terminated, raw_info = raw
        expected = {
            "terminated": raw_terminated,
            "truncated": ran_out,
            "reward": raw_reward,
            "info": raw_info,
            "final_observation": final,
        }
        got = {
            "terminated": terminated,
            "truncated": truncated,
            "reward": reward,
            "info": {name: info.get(name) for name in raw_info},
            "final_observation": info["final_observation"],
        }
        remedy = "it belongs to the transition that ended and is step_env's, before any reset"
        probe.assert_close(f"step {k}", expected, got, remedy, before)
        done = bool(terminated) or bool(truncated)
        ended += done
        if done:
            following = probe.reset(key_reset, probe.short)
            remedy = "when done, step returns the first observation and state of the next episode"
        else:
            following = info["final_observation"], stepped
            remedy = "when not done, step returns the observation and state of step_env"
            if int(state.time) != int(before.time) + 1:
                fail(f"time after step {k}", before.time + 1, state.time, "count transitions")
        for what, one, two in zip(("obs", "state"), following, (observation, state), strict=True):
            probe.assert_close(f"{what} of step {k} (done: {done})", one, two, remedy, before)
    if not ended:
        what = f"ends in {STEPS} steps with a time limit of {EPISODE}"
        fail(what, "some", "none", "report the limit by is_truncated")


def _check_base_class(probe: Probe) -> None:
    """An own `step` is allowed to be quicker, not to be different."""
    base = jax.jit(lambda *given: environment.Environment.step(probe.env, *given))
    for k, (before, out) in enumerate(probe.walk):
        theirs = base(probe.keys[k], before, probe.actions[k], probe.short)
        remedy = "for the same key, step must return what gymnax's Environment.step returns"
        assert_same(f"step {k}", theirs, out, remedy)


def _goes_bar_by_bar(probe: Probe) -> bool:
    return isinstance(probe.env.config, SequentialConfig)


def _check_limits(probe: Probe) -> None:
    """K transitions; time and data end by `truncated`, and `terminated` knows nothing of them."""
    if not _goes_bar_by_bar(probe):
        return  # the episodes have a length of their own
    free = probe.limited(1000)

    def ends(state: EnvState, k: int, params: EnvParams) -> tuple[bool, bool, EnvState]:
        (_, after, _, terminated, _), truncated = probe.step_env(
            probe.keys[k], state, probe.actions[k], params
        )
        return bool(terminated), bool(truncated), after

    for limit in (1, 2, 3):
        state = probe.start(probe.first)
        for k in range(limit):
            terminated, truncated, after = ends(state, k, probe.limited(limit))
            if terminated != ends(state, k, free)[0]:
                remedy = "a time limit is reported by is_truncated, never by terminated"
                fail(f"terminated at a limit of {limit}", not terminated, terminated, remedy)
            if truncated != (k + 1 == limit):
                what = f"truncated after {k + 1} of {limit} transitions"
                fail(what, not truncated, truncated, "max_steps = K gives exactly K transitions")
            state = after
    state = probe.start(probe.last - 2)
    terminated, truncated, _ = ends(state, 0, probe.limited(1000, last=probe.last - 1))
    remedy = "the end of the data is reported by is_truncated, never by terminated"
    if not truncated or ends(state, 0, free)[1]:
        fail("truncated, at the last bar and before it", "True, False", "other", remedy)
    if terminated != ends(state, 0, free)[0]:
        fail("terminated at the last bar", not terminated, terminated, remedy)


def _check_frozen_end(probe: Probe) -> None:
    remedy = "a step from the last bar must change nothing"
    state = probe.start(probe.last)
    for k in range(3):
        (_, after, reward, terminated, _), truncated = probe.step_env(
            probe.keys[k], state, probe.actions[k], probe.params
        )
        # An episode of one step has then resolved without a position, which is an end of its own.
        ended = truncated if _goes_bar_by_bar(probe) else truncated | terminated
        expected = {"account": state.account, "bar": state.bar, "ended": np.bool_(True)}
        got = {"account": after.account, "bar": after.bar, "ended": ended}
        assert_same("step_env from the last bar", expected, got, remedy)
        if float(reward) != 0:
            fail("reward of step_env from the last bar", 0.0, float(reward), remedy)


def _check_starts(probe: Probe) -> None:
    """Every episode has a transition; different keys start differently where they may."""
    config = probe.env.config
    reset = jax.jit(jax.vmap(probe.env.reset_env, in_axes=(0, None)))
    _, states = reset(jax.random.split(probe.key, 64), probe.params)
    bars, cash = np.asarray(states.bar), np.asarray(states.account.cash)
    if bars.min() < probe.first or bars.max() > probe.last - 1 or np.any(states.time):
        remedy = "an episode starts at time 0 and has at least one transition"
        expected = f"bars {probe.first} to {probe.last - 1} at time 0"
        got = f"bars {bars.min()} to {bars.max()}, time {np.max(states.time)}"
        fail("start of an episode", expected, got, remedy)
    choices = probe.last - probe.first - (config.episode_bars or 1) + 1
    if config.random_start and choices > 8 and len(np.unique(bars)) == 1:
        fail("starts of 64 keys", "different bars", bars[0], "draw the start from the key")
    low, high = config.cash_range
    if cash.min() < low * (1 - 1e-6) or cash.max() > high * (1 + 1e-6):
        fail("initial cash", f"in [{low}, {high}]", (cash.min(), cash.max()), "keep to the range")
    if low < high and len(np.unique(cash)) == 1:
        fail("cash of 64 keys", "different amounts", cash[0], "draw the cash from the key")


def _check_copies(probe: Probe) -> None:
    """One key, one result: again, and from a copy, which is traced and compiled anew."""
    given = (probe.start(probe.first), probe.keys, probe.actions, probe.params)
    expected = probe.rollout(*given)
    remedy = "draw from the key only: no global or own random state, no counters on self"
    assert_same("the same run again", expected, probe.rollout(*given), remedy)
    try:
        step = "copy.deepcopy"
        duplicate = copy.deepcopy(probe.env)
        step = "pickle"
        duplicate = pickle.loads(pickle.dumps(duplicate))  # noqa: S301  # our own bytes
    except Exception as error:
        raise AssertionError(
            f"check_env: {step} of the environment: expected a copy; got {error}; keep functions "
            "at module level and compiled ones out of the instance."
        ) from error
    assert_same("run of a copy", expected, rollout_of(duplicate)(*given), remedy)


def _check_lanes(probe: Probe) -> None:
    lanes = probe.walk[-_LANES:]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for state, _ in lanes))
    out = jax.jit(jax.vmap(probe.env.step, in_axes=(0, 0, 0, None)))(
        probe.keys[-_LANES:], states, probe.actions[-_LANES:], probe.short
    )
    for i, (before, alone) in enumerate(lanes):
        remedy = "a lane must compute what a single environment computes"
        for name, one, lane in zip(_RETURNED, alone, _row(out, i), strict=True):
            probe.assert_close(f"lane {i} under vmap", {name: one}, {name: lane}, remedy, before)


def _row(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], tree)


def _check_sweep(probe: Probe) -> None:
    """Parameters can be mapped over, and are read where they are given."""
    params, start = probe.params, probe.start(probe.first)
    fees = jnp.asarray([0.0, 0.001, 0.002], params.fee.dtype)
    axes = jax.tree.map(lambda _: None, params).replace(fee=0)
    sweep = jax.jit(jax.vmap(probe.env.step_env, in_axes=(None, None, None, axes)))
    remedy = "read params, never the configuration, and treat its leaves as traced arrays"
    for action in _bounds(probe):
        try:
            swept = sweep(probe.key, start, action, params.replace(fee=fees))
        except Exception as error:
            message = f"check_env: vmap over params.fee: expected a sweep; got {error}; {remedy}."
            raise AssertionError(message) from error
        for i, fee in enumerate(fees):
            alone, _ = probe.step_env(probe.key, start, action, params.replace(fee=fee))
            names = [name for name in _RETURNED if name != "truncated"]
            for name, one, lane in zip(names, alone, _row(swept, i), strict=True):
                what = f"fee {fee:g} in a sweep"
                probe.assert_close(what, {name: one}, {name: lane}, remedy, start)
        account, bar = swept[1].account, swept[1].bar
        traded = np.all(account.quantity != 0)
        if (
            traded
            and np.all(account.cash == account.cash[0])
            and len(np.unique(account.quantity)) == 1
        ):
            fail(f"accounts after bar {bar[0]} at fees {fees}", "different", account.cash, remedy)


def _bounds(probe: Probe) -> tuple[Array, Array]:
    """The lowest and the highest action of the space."""
    space = probe.env.action_space(probe.params)
    if isinstance(space, gymnax_spaces.Discrete):
        return jnp.asarray(0, space.dtype), jnp.asarray(space.n - 1, space.dtype)
    low, high = (jnp.asarray(value, space.dtype) for value in (space.low, space.high))
    return jnp.broadcast_to(low, space.shape), jnp.broadcast_to(high, space.shape)


def _check_actions(probe: Probe) -> None:
    """Out of range: clamped where the value is unknown, refused where it is known."""
    low, high = _bounds(probe)
    start = probe.start(probe.first)
    for inside, beyond in ((low, low - 3), (high, high + 3)):
        clamped = probe.step_env(probe.key, start, beyond, probe.params)
        expected = probe.step_env(probe.key, start, inside, probe.params)
        remedy = "clamp the action to its space"
        assert_same(f"action {beyond}, beyond {inside}", expected, clamped, remedy)
        checking = copy.copy(probe.env)
        checking.check = True
        try:
            checking.step(probe.key, start, beyond, probe.params)
        except ValueError:
            continue
        fail(f"step with action {beyond} in check mode", "a ValueError", "none", "refuse it")


def _check_no_look_ahead(probe: Probe) -> None:
    """Everything up to a decision keeps its bits when all data that ends after it changes."""
    params = probe.params
    market = jax.tree.map(np.asarray, params.market)
    generator = np.random.default_rng(np.asarray(jax.random.bits(probe.key, (2,), jnp.uint32)))
    changes_something = False
    others = generator.integers(probe.first, probe.last - EPISODE, _STARTS - 1).tolist()
    for i, bar in enumerate((probe.first, *others)):
        # Other actions from each start: an episode of one step may be a hold.
        given = (probe.start(bar), probe.keys, jnp.roll(probe.actions, -i))
        first, steps = probe.rollout(*given, params)
        bars = [bar, *np.asarray(steps["state"].bar).tolist()]
        ended = np.asarray(steps["terminated"] | steps["truncated"])
        decisions = int(ended.argmax()) + 1 if ended.any() else STEPS
        for cut in {0, *generator.integers(0, decisions, _CUTS - 1).tolist()}:
            changed = changed_after(market, bars[cut], jax.random.fold_in(probe.key, cut))
            other = params.replace(market=changed.to_device(params.market.ohlcv.dtype))
            first_other, steps_other = probe.rollout(*given, other)

            def past(run: Any, cut: int = cut) -> Any:
                return jax.tree.map(lambda leaf: leaf[:cut], run)

            when = f"before the decision at bar {bars[cut]}, with other data after it"
            remedy = "a value looks ahead: use only bars that have ended"
            assert_same(f"observation {when}", first, first_other, remedy)
            assert_same(f"step {when}", past(steps), past(steps_other), remedy)
            changes_something |= not np.array_equal(steps["reward"], steps_other["reward"])
    if not changes_something:
        remedy = "read params.market, never a market kept on self"
        fail("rewards on other prices", "different", "the same", remedy)


def _check_traces(probe: Probe) -> None:
    for name in ("reset", "step"):
        if probe.traces[name] != 1:
            remedy = "return the same types every time: arrays of fixed dtype, no Python numbers"
            fail(f"traces of {name}", 1, probe.traces[name], remedy)


_CHECKS: tuple[Callable[[Probe], None], ...] = (
    _check_types,
    _check_spaces,
    _check_values,
    _check_auto_reset,
    _check_limits,
    _check_frozen_end,
    _check_starts,
    _check_no_look_ahead,
    _check_actions,
    _check_sweep,
    _check_copies,
    _check_lanes,
    _check_base_class,
    _check_traces,
)
_OF_INDEPENDENT_EPISODES = (_check_auto_reset, _check_base_class)
