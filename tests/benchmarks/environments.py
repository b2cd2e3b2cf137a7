"""Environment steps per second, with gymnax CartPole in the same process as the yardstick.

Loops, never quoted for one another:

- ``random``: gymnax's CartPole with a random policy, actions sampled inside the loop from one key
  per lane; the yardstick that ratios name.

- ``step``: ``lax.scan`` over the vmapped ``env.step``, one key per lane split inside the loop.
- ``rollout``: ``lax.scan`` over ``env.transition`` and ``env.restarted`` with the draws supplied,
  as a learner runs it.
- ``sharded``: the ``rollout`` loop with its lanes spread over all devices by ``shard_map``; on a
  CPU the benchmark makes one device per core. Lanes are independent, so the program is the same.
- ``call``: one jitted, vmapped ``env.step`` per Python iteration, every output returned, the final
  observation among them.

Resets are included everywhere, actions are drawn before the clock starts. In the scans the dict
observation is part of the carry: every step writes all windows to memory, and the last ones are
returned. Rewards and flags are stacked, so that nothing can be skipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxtrade import make
from jaxtrade.market import Market
from tests.benchmarks.timing import Measurement, measure, spread

LANES = (1, 64, 1024, 4096, 16384, 32768)
CARTPOLE_LANES = 2048
CARTPOLE_STEPS = 1000
_STEPS = {1: 4000, 64: 2000, 1024: 500, 4096: 200, 16384: 100, 32768: 50}
_CALLS = {1: 500, 64: 500, 1024: 200, 4096: 100, 16384: 50, 32768: 25}
# Below this a repeat runs the program several times, in seconds.
_TARGET = 0.25

FRAMES = ["1min", "5min", "15min", "1hour"]
WINDOWS = [12, 8, 8, 24]


# What the rows are called -> environment, its own fields, and the lanes measured (None = all).
ENVIRONMENTS: dict[str, tuple[str, dict[str, Any], tuple[int, ...] | None]] = {
    "": ("SequentialTradingEnv", {"action_levels": (-1.0, -0.5, 0.0, 0.5, 1.0)}, None),
    "bracket ": (
        "SequentialTradingEnvSLTP",
        {"stoploss_levels": (-0.01, -0.02), "takeprofit_levels": (0.01, 0.03)},
        (1024, 4096, 16384, 32768),
    ),
}


def environment(market: Market, observation: str, kind: str = "") -> Any:
    """The setting of every trading row: four frames, executed every 5 minutes, with costs."""
    name, fields, _ = ENVIRONMENTS[kind]
    return make(
        name,
        market,
        time_frames=FRAMES,
        window_sizes=WINDOWS,
        execute_on="5min",
        features=market.spec.feature_names[0],
        leverage=5,
        initial_cash=10_000,
        transaction_fee=0.0004,
        slippage=0.001,
        max_steps=1000,
        observation=observation,
        **fields,
    )


def cartpole(repeats: int) -> Iterator[dict[str, Any]]:
    """CartPole: a random policy inside the loop (the yardstick), and the ``step`` loop."""
    env, params = gymnax.make("CartPole-v1")
    lanes, steps = CARTPOLE_LANES, CARTPOLE_STEPS
    for loop, (run, arguments) in {
        "random": _random_loop(env, params, lanes, steps),
        "step": _step_loop(env, params, lanes, steps, num_actions=2),
    }.items():
        measured = measure(run, *arguments, repeats=repeats, target_seconds=_TARGET)
        yield _row("cartpole", loop, lanes, steps, measured)


def trading(market: Market, lanes: tuple[int, ...], repeats: int) -> Iterator[dict[str, Any]]:
    """Every row of the trading environments on one market, one at a time as they are measured."""
    for kind, (_, _, chosen) in ENVIRONMENTS.items():
        counts = lanes if chosen is None else tuple(n for n in lanes if n in chosen)
        for observation in ("index", "dict"):
            env = environment(market, observation, kind)
            for count in counts:
                yield from _loops(env, f"{kind}{observation}", count, repeats)
    env = environment(market, "dict")
    for count in lanes:
        yield _call_row(env, env.default_params, count, repeats)


def _loops(env: Any, what: str, lanes: int, repeats: int) -> Iterator[dict[str, Any]]:
    """The scanned loops of one environment."""
    params = env.default_params
    steps = _STEPS.get(lanes, 200)
    loops = {
        "step": lambda: _step_loop(env, params, lanes, steps, env.num_actions),
        "rollout": lambda: _rollout_loop(env, params, lanes, steps),
    }
    if lanes >= 1024 and len(jax.devices()) > 1:
        loops["sharded"] = lambda: _sharded(*_rollout_loop(env, params, lanes, steps))
    for loop, build in loops.items():
        run, arguments = build()
        measured = measure(run, *arguments, repeats=repeats, target_seconds=_TARGET)
        yield _row(what, loop, lanes, steps, measured)


def observation_bytes(market: Market) -> int:
    """Bytes of one dict observation."""
    env = environment(market, "dict")
    shapes = jax.eval_shape(env.reset, jax.random.key(0), env.default_params)[0]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _step_loop(
    env: Any, params: Any, lanes: int, steps: int, num_actions: int
) -> tuple[Any, tuple[Any, ...]]:
    """``steps`` auto-resetting steps of ``lanes`` environments through the public API."""
    key_actions, key_reset, key_run = jax.random.split(jax.random.key(0), 3)
    actions = jax.random.randint(key_actions, (steps, lanes), 0, num_actions)
    keys = jax.random.split(key_reset, lanes)
    observation, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, params)
    step_lanes = jax.vmap(env.step, in_axes=(0, 0, 0, None))

    def run(key: Any, observation: Any, state: Any, actions: Any, params: Any) -> Any:
        def body(carry: Any, action: Any) -> Any:
            key, _, state = carry
            key, key_step = jax.random.split(key)
            keys = jax.random.split(key_step, lanes)
            observation, state, reward, terminated, truncated, _ = step_lanes(
                keys, state, action, params
            )
            return (key, observation, state), (reward, terminated, truncated)

        return jax.lax.scan(body, (key, observation, state), actions)

    return run, (key_run, observation, state, actions, params)


def _random_loop(env: Any, params: Any, lanes: int, steps: int) -> tuple[Any, tuple[Any, ...]]:
    """``steps`` steps of a random policy, each lane sampling its action from its own key."""
    key_reset, key_run = jax.random.split(jax.random.key(0))
    _, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(
        jax.random.split(key_reset, lanes), params
    )
    sample = jax.vmap(env.action_space(params).sample)
    step_lanes = jax.vmap(env.step, in_axes=(0, 0, 0, None))

    def run(key: Any, state: Any, params: Any) -> Any:
        def body(carry: Any, _: None) -> Any:
            key, state = carry
            key, key_action, key_step = jax.random.split(key, 3)
            action = sample(jax.random.split(key_action, lanes))
            _, state, reward, terminated, truncated, _ = step_lanes(
                jax.random.split(key_step, lanes), state, action, params
            )
            return (key, state), (reward, terminated, truncated)

        return jax.lax.scan(body, (key, state), length=steps)

    return run, (key_run, state, params)


def _rollout_loop(env: Any, params: Any, lanes: int, steps: int) -> tuple[Any, tuple[Any, ...]]:
    """The same steps from the key-free pieces, with every draw supplied."""
    keys = jax.random.split(jax.random.key(1), 5)
    shape = (steps, lanes)
    inputs = (
        jax.random.randint(keys[0], shape, 0, env.num_actions),
        jax.random.uniform(keys[1], shape),
        jax.random.bits(keys[2], shape, jnp.uint32),
        jax.random.uniform(keys[3], shape),
    )
    reset_keys = jax.random.split(keys[4], lanes)
    observation, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(reset_keys, params)

    def one(state: Any, action: Any, draw: Any, bits: Any, cash: Any, params: Any) -> Any:
        state, reward, terminated, _ = env.transition(state, action, draw, params)
        done = terminated | env.is_truncated(state, params)
        state = env.restarted(done, state, bits, cash, params)
        return env.observe(None, state, None, params), state, reward, done

    step_lanes = jax.vmap(one, in_axes=(0, 0, 0, 0, 0, None))

    def run(observation: Any, state: Any, inputs: Any, params: Any) -> Any:
        def body(carry: Any, drawn: Any) -> Any:
            action, draw, bits, cash = drawn
            observation, state, reward, done = step_lanes(
                carry[1], action, draw, bits, cash, params
            )
            return (observation, state), (reward, done)

        return jax.lax.scan(body, (observation, state), inputs)

    return run, (observation, state, inputs, params)


def _sharded(run: Any, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """The rollout loop over a one-dimensional mesh of all devices; the market is on each."""
    mesh = jax.make_mesh((len(jax.devices()),), ("env",))
    observation, state, inputs, params = arguments
    lanes, steps_lanes, everywhere = P("env"), P(None, "env"), P()
    trees = (
        jax.tree.map(lambda _: lanes, observation),
        jax.tree.map(lambda _: lanes, state),
        jax.tree.map(lambda _: steps_lanes, inputs),
        jax.tree.map(lambda _: everywhere, params),
    )
    sharded = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=trees,
        out_specs=((trees[0], trees[1]), (steps_lanes, steps_lanes)),
        check_vma=False,
    )
    placed = jax.tree.map(
        lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), arguments, trees
    )
    return sharded, placed


def _call_row(env: Any, params: Any, lanes: int, repeats: int) -> dict[str, Any]:
    """One jitted call per step from Python, as a user's own loop does it."""
    calls = _CALLS.get(lanes, 100)
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
            seconds.append(time.perf_counter() - begin)
    return {
        "what": "dict",
        "loop": "call",
        "lanes": lanes,
        "steps": calls,
        "steps_per_second": spread([lanes * calls / second for second in seconds]),
        "compile_seconds": compile_seconds,
        "program_megabytes": None,
    }


def _row(what: str, loop: str, lanes: int, steps: int, measured: Measurement) -> dict[str, Any]:
    return {
        "what": what,
        "loop": loop,
        "lanes": lanes,
        "steps": steps,
        "steps_per_second": measured.rates(lanes * steps),
        "compile_seconds": measured.compile_seconds,
        "program_megabytes": measured.program_megabytes,
    }
