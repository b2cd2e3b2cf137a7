"""Episodes: where they start, what ends them, and what follows the end."""

from __future__ import annotations

import jax
import numpy as np
from gymnax.environments import environment

from jaxtrade.envs.config import SequentialConfig
from jaxtrade.envs.state import EnvParams, EnvState
from jaxtrade.testing.comparison import assert_same, fail
from jaxtrade.testing.probe import EPISODE, STEPS, Probe


def auto_reset(probe: Probe) -> None:
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


def base_class(probe: Probe) -> None:
    """An own `step` is allowed to be quicker, not to be different."""
    base = jax.jit(lambda *given: environment.Environment.step(probe.env, *given))
    for k, (before, out) in enumerate(probe.walk):
        theirs = base(probe.keys[k], before, probe.actions[k], probe.short)
        remedy = "for the same key, step must return what gymnax's Environment.step returns"
        assert_same(f"step {k}", theirs, out, remedy)


def _goes_bar_by_bar(probe: Probe) -> bool:
    return isinstance(probe.env.config, SequentialConfig)


def limits(probe: Probe) -> None:
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


def frozen_end(probe: Probe) -> None:
    """A step from the last bar changes nothing."""
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


def starts(probe: Probe) -> None:
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
