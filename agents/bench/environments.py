"""Environment steps per second, with gymnax CartPole in the same process as the yardstick.

Loops, never quoted for one another:

- ``random``: gymnax's CartPole with a random policy, actions sampled inside the loop from one key
  per lane; the yardstick that ratios name.
- ``step``: ``lax.scan`` over the vmapped ``env.step``, one key per lane split inside the loop.
- ``rollout``: ``lax.scan`` over ``env.transition`` and ``env.restarted`` with the draws supplied,
  as a learner runs it.
- ``sharded``: the ``rollout`` loop with its lanes spread over devices by ``shard_map``; on a CPU
  the benchmark makes one device per core. Lanes are independent, so the program is the same.
- ``call``: one jitted, vmapped ``env.step`` per Python iteration, every output returned, the final
  observation among them.

Resets are included everywhere, actions are drawn before the clock starts. In the scans the dict
observation is part of the carry: every step writes all windows to memory, and the last ones are
returned. Rewards and flags are stacked, so that nothing can be skipped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import gymnax
import jax

from agents.bench import cases, loops, machine, markets
from agents.bench.timing import Measurement, measure
from jaxtrade.market import Market

_STEPS = {1: 4000, 64: 2000, 1024: 500, 4096: 200, 16384: 100, 32768: 50, 65536: 25}
_CALLS = {1: 500, 64: 500, 1024: 200, 4096: 100, 16384: 50, 32768: 25, 65536: 25}
# Below this a repeat runs the program several times, in seconds.
_TARGET = 0.25


def group(options: cases.Options) -> Iterator[dict[str, Any]]:
    """Every row, one at a time as they are measured."""
    lanes = options.lanes or (cases.QUICK_LANES if options.quick else cases.LANES)
    built: dict[str, Market] = {}
    # Fill and CartPole again at the end: how much the machine's own speed moved meanwhile.
    yield from _fills(options.repeats)
    yield from _cartpole(options.repeats)
    for rows in cases.ENVIRONMENT_ROWS:
        if options.quick and rows.what not in cases.QUICK_ROWS:
            continue
        if rows.setting not in built:
            built[rows.setting] = markets.market(rows.setting, options.minutes)
        env = markets.environment(
            built[rows.setting], rows.setting, rows.observation, rows.environment
        )
        allowed = lanes if rows.lanes is None or options.lanes else rows.lanes
        for count in allowed:
            yield from _scans(env, rows.what, count, options.repeats)
            if rows.what == "dict":
                yield _call_row(env, count, options.repeats)
        if rows.what in ("index", "dict") and not options.quick:
            yield from _by_devices(env, rows.what, options)
    if not options.quick:
        yield from _cartpole(options.repeats)
        yield from _fills(options.repeats)


def details(options: cases.Options) -> dict[str, Any]:
    """What else belongs to the table: bars, bytes of a state."""
    market = markets.market("four frames", options.minutes)
    env = markets.environment(market, "four frames")
    state = jax.eval_shape(env.reset, jax.random.key(0), env.default_params)[1]
    return {
        "minutes": options.minutes,
        "execution_bars": market.num_bars,
        "state_bytes": _bytes(state),
    }


def _fills(repeats: int) -> Iterator[dict[str, Any]]:
    """The rate at which memory can be written at all, for as many devices as the rows use."""
    for devices in machine.device_counts():
        rates = machine.fill(devices, repeats)
        yield {"what": "memory fill", "devices": devices, "bytes_per_second": rates}


def _cartpole(repeats: int) -> Iterator[dict[str, Any]]:
    """CartPole: a random policy inside the loop (the yardstick), and the ``step`` loop."""
    env, params = gymnax.make("CartPole-v1")
    lanes, steps = cases.CARTPOLE_LANES, cases.CARTPOLE_STEPS
    for loop, built in {
        "random": loops.random_loop(env, params, lanes, steps),
        "step": loops.step_loop(env, params, lanes, steps, num_actions=2),
    }.items():
        yield _row("cartpole", loop, lanes, steps, _timed(built, repeats))


def _scans(env: Any, what: str, lanes: int, repeats: int) -> Iterator[dict[str, Any]]:
    """The scanned loops of one environment."""
    params, steps = env.default_params, _STEPS.get(lanes, 200)
    plain = loops.step_loop(env, params, lanes, steps, env.num_actions)
    yield _row(what, "step", lanes, steps, _timed(plain, repeats), env)
    rollout = loops.rollout_loop(env, params, lanes, steps)
    yield _row(what, "rollout", lanes, steps, _timed(rollout, repeats), env)
    devices = math.gcd(lanes, len(jax.devices()))
    if devices > 1:
        measured = _timed(loops.sharded(rollout, devices), repeats)
        yield _row(what, "sharded", lanes, steps, measured, env, devices)


def _by_devices(env: Any, what: str, options: cases.Options) -> Iterator[dict[str, Any]]:
    """The same environments on ever more devices, unless there is only one."""
    lanes = cases.DEVICE_LANES if options.lanes is None else max(options.lanes)
    counts = [count for count in machine.device_counts() if lanes % count == 0]
    if len(counts) < 2:
        return
    steps = _STEPS.get(lanes, 200)
    rollout = loops.rollout_loop(env, env.default_params, lanes, steps)
    for devices in counts:
        measured = _timed(loops.sharded(rollout, devices), options.repeats)
        row = _row(what, "sharded", lanes, steps, measured, env, devices)
        yield {**row, "table": "devices"}


def _call_row(env: Any, lanes: int, repeats: int) -> dict[str, Any]:
    """One jitted call per step from Python, as a user's own loop does it."""
    params, calls = env.default_params, _CALLS.get(lanes, 100)
    keys = jax.random.split(jax.random.key(2), lanes)
    actions = jax.random.randint(jax.random.key(3), (lanes,), 0, env.num_actions)
    _, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, params)
    begin = time.perf_counter()
    step_all = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None)))
    step_lanes = step_all.lower(keys, state, actions, params).compile()
    compile_seconds = time.perf_counter() - begin
    seconds = []
    for repeat in range(repeats + 1):
        following = state
        begin = time.perf_counter()
        for _ in range(calls):
            result = step_lanes(keys, following, actions, params)
            following = result[1]
        jax.block_until_ready(result)
        if repeat:  # the first is the warm-up
            seconds.append((time.perf_counter() - begin) / calls)
    measured = Measurement(tuple(seconds), compile_seconds, None)
    return _row("dict", "call", lanes, 1, measured, env)


def _timed(loop: loops.Loop, repeats: int) -> Measurement:
    function, arguments = loop
    return measure(function, *arguments, repeats=repeats, target_seconds=_TARGET)


def _row(
    what: str,
    loop: str,
    lanes: int,
    steps: int,
    measured: Measurement,
    env: Any = None,
    devices: int = 1,
) -> dict[str, Any]:
    return {
        "what": what,
        "loop": loop,
        "lanes": lanes,
        "steps": steps,
        "devices": devices,
        "observation_bytes": _observation_bytes(env),
        "steps_per_second": measured.rates(lanes * steps),
        "compile_seconds": measured.compile_seconds,
        "program_megabytes": measured.program_megabytes,
    }


def _observation_bytes(env: Any) -> int | None:
    """Bytes of one observation with windows; None of any other."""
    if env is None or env.config.observation == "index":
        return None
    return _bytes(jax.eval_shape(env.reset, jax.random.key(0), env.default_params)[0])


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
