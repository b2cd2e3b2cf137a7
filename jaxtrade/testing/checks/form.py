"""Form: types, spaces, finite values, actions beyond their space, one compilation."""

from __future__ import annotations

import copy

import jax
import numpy as np
from gymnax.environments import spaces as gymnax_spaces

from jaxtrade.testing.comparison import (
    assert_same,
    assert_same_kinds,
    fail,
    kind,
    named,
    outside,
)
from jaxtrade.testing.probe import Probe

# Values that say "none" by being NaN; everything else is finite.
_MAY_BE_NAN = ("fill_price", "exit_price", "closed_cash", "last_level")
_ADDED_BY_STEP = ("terminated", "truncated", "final_observation")


def types(probe: Probe) -> None:
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


def spaces(probe: Probe) -> None:
    """Spaces describe what reset, step and their own samples are."""
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


def values(probe: Probe) -> None:
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


def actions(probe: Probe) -> None:
    """Out of range: clamped where the value is unknown, refused where it is known."""
    low, high = probe.bounds()
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


def traces(probe: Probe) -> None:
    """`reset` and `step` were compiled once."""
    for name in ("reset", "step"):
        if probe.traces[name] != 1:
            remedy = "return the same types every time: arrays of fixed dtype, no Python numbers"
            fail(f"traces of {name}", 1, probe.traces[name], remedy)
