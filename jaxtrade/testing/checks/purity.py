"""Purity: the same from copies, lanes and sweeps, and nothing known before it has happened."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade.testing.comparison import assert_same, changed_after, fail
from jaxtrade.testing.probe import EPISODE, STEPS, Probe, rollout_of

_RETURNED = ("obs", "state", "reward", "terminated", "truncated", "info")
_LANES = 8
_CUTS = 3
_STARTS = 4


def no_look_ahead(probe: Probe) -> None:
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


def copies(probe: Probe) -> None:
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


def lanes(probe: Probe) -> None:
    """Under `vmap` a lane computes what a single environment computes."""
    lanes = probe.walk[-_LANES:]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for state, _ in lanes))
    out = jax.jit(jax.vmap(probe.env.step, in_axes=(0, 0, 0, None)))(
        probe.keys[-_LANES:], states, probe.actions[-_LANES:], probe.short
    )
    for i, (before, alone) in enumerate(lanes):
        remedy = "a lane must compute what a single environment computes"
        for name, one, lane in zip(_RETURNED, alone, _row(out, i), strict=True):
            probe.assert_close(f"lane {i} under vmap", {name: one}, {name: lane}, remedy, before)


def sweep(probe: Probe) -> None:
    """Parameters can be mapped over, and are read where they are given."""
    params, start = probe.params, probe.start(probe.first)
    fees = jnp.asarray([0.0, 0.001, 0.002], params.fee.dtype)
    axes = jax.tree.map(lambda _: None, params).replace(fee=0)
    sweep = jax.jit(jax.vmap(probe.env.step_env, in_axes=(None, None, None, axes)))
    remedy = "read params, never the configuration, and treat its leaves as traced arrays"
    for action in probe.bounds():
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


def _row(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], tree)
