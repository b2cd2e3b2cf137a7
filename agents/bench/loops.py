"""The loops that environments are measured in; each is a function and its arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

Loop = tuple[Any, tuple[Any, ...]]


def step_loop(env: Any, params: Any, lanes: int, steps: int, num_actions: int) -> Loop:
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


def random_loop(env: Any, params: Any, lanes: int, steps: int) -> Loop:
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


def rollout_loop(env: Any, params: Any, lanes: int, steps: int) -> Loop:
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


def mesh_of(devices: int) -> Mesh:
    """The first ``devices`` devices in a row."""
    return jax.make_mesh((devices,), ("env",), devices=jax.devices()[:devices])


def sharded(loop: Loop, devices: int) -> Loop:
    """A `rollout_loop` with its lanes spread over devices; the market is on each."""
    run, arguments = loop
    mesh = mesh_of(devices)
    observation, state, inputs, params = arguments
    lanes, steps_lanes, everywhere = P("env"), P(None, "env"), P()
    trees = (
        jax.tree.map(lambda _: lanes, observation),
        jax.tree.map(lambda _: lanes, state),
        jax.tree.map(lambda _: steps_lanes, inputs),
        jax.tree.map(lambda _: everywhere, params),
    )
    spread_out = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=trees,
        out_specs=((trees[0], trees[1]), (steps_lanes, steps_lanes)),
        check_vma=False,
    )
    placed = jax.tree.map(
        lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), arguments, trees
    )
    return spread_out, placed
