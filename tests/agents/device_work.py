"""What `test_devices` runs in processes of its own, which have several devices.

`main` prints one line of JSON: what it found. Who joins other processes does so before this is
imported.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from agents import a2c, devices, grpo, ppo, processes, settings, training
from agents import learner as learning
from agents.checkpoint import Checkpoints
from agents.networks import Normalizer
from jaxtrade import SequentialTradingEnv
from tests.agents import probes
from tests.agents.conftest import config, hours

COUNT = 8
UPDATES = 3
_COLLECTIVES = r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)[(-]"
# The gradient is read off the moments of Adam, so it must not be clipped.
_FREE: dict[str, Any] = {"num_envs": 32, "max_gradient_norm": 1e9}
_PROBE: dict[str, Any] = {
    **_FREE,
    "rollout_steps": 6,
    "epochs": 2,
    "hidden_sizes": (8,),
    "minibatches": 1,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A learner and what it runs on."""

    learner: Any
    config: Any
    params: Any
    normalizer: Any = None

    def on(self, count: int) -> Case:
        """The same on devices of a mesh."""
        learner = devices.Sharded.of(self.learner, self.config, devices.mesh_of(count))
        params = devices.placed(learner, self.params)
        return dataclasses.replace(self, learner=learner, params=params)

    @property
    def traced(self) -> Any:
        return devices.placed(self.learner, self.config).traced()

    def start(self) -> Any:
        return learning.start(
            self.learner, jax.random.key(3), self.traced, self.params, self.normalizer
        )

    def run(self, chunk: Callable[[Any], Any] | None = None) -> list[tuple[Any, Any]]:
        """State and metrics of every update, on the host."""
        chunk = chunk or partial(
            learning.train_chunk,
            config=self.traced,
            params=self.params,
            learner=self.learner,
            length=1,
        )
        state, found = self.start(), []
        for _ in range(UPDATES):
            state, metrics = chunk(state)
            found.append(jax.device_get((plain(state), metrics)))
        return found


def plain(state: Any) -> Any:
    """A state with its key as numbers."""
    return state.replace(key=jax.random.key_data(state.key))


def probe(learner_class: Any, configured: Any) -> Case:
    learner = learner_class.create(probes.Probe(), configured)
    return Case(learner, configured, probes.params_of(probes.MATCH))


def alone() -> Case:
    return probe(ppo.PPO, ppo.PPOConfig(**_PROBE))


def segments() -> Case:
    # 5 updates between moves: not a divisor of the lanes of a device.
    fields: dict[str, Any] = {
        **_FREE,
        "rollout_steps": 8,
        "rollout": "segments",
        "encoder": "conv",
        "channels": (4,),
        "hidden_sizes": (8,),
        "restart_updates": 5,
    }
    env = SequentialTradingEnv(hours(), config())
    train, _ = env.market.split("2024-01-16")
    configured = a2c.A2CConfig(**fields)
    learner = ppo.PPO.create(env, configured)
    return Case(learner, configured, env.params(train), Normalizer.fit(train))


def groups() -> Case:
    return probe(grpo.GRPO, grpo.GRPOConfig(**_PROBE, group_size=2, scale="batch"))


# Several devices are one -------------------------------------------------------------------------


def moments(state: Any) -> Any:
    """First moments of Adam of every part."""
    parts = jax.tree.leaves(state.optimizer, is_leaf=lambda part: hasattr(part, "mu"))
    return [part.mu for part in parts if hasattr(part, "mu")]


def apart(one: Any, other: Any) -> float:
    """Largest difference of two trees, relative to the largest number in the first."""
    one, other = (
        [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)] for tree in (one, other)
    )
    size = max(np.abs(x).max() for x in one)
    return float(max(np.abs(x - y).max() for x, y in zip(one, other, strict=True)) / size)


def integers(tree: Any) -> list[Any]:
    found = map(np.asarray, jax.tree.leaves(tree))
    return [leaf.tolist() for leaf in found if not np.issubdtype(leaf.dtype, np.floating)]


def compared(alone: list[Any], shared: list[Any]) -> dict[str, Any]:
    """How far two runs are apart: the first gradient, the last state, and all metrics."""
    first, last = (
        [found[0][0] for found in (alone, shared)],
        [found[-1][0] for found in (alone, shared)],
    )
    metrics = [[row[1] for row in found] for found in (alone, shared)]
    distance = jax.tree.map(lambda x, y: np.max(np.abs(x - y) / (1 + np.abs(x))), *metrics)
    return {
        "gradient": apart(*map(moments, first)),
        "gradient_size": max(np.abs(leaf).max() for leaf in jax.tree.leaves(moments(first[0]))),
        "params": apart(*(state.params for state in last)),
        "metrics": max(jax.tree.leaves(distance)),
        "integers": integers((metrics[0], last[0])) == integers((metrics[1], last[1])),
    }


def over_blocks(case: Case, count: int) -> Callable[[Any], Any]:
    """An update over blocks of lanes with `vmap` on one device: what a mesh should compute."""
    one = dataclasses.replace(case.learner, axis=devices.AXIS)
    specs, drawn_specs = one.shards()

    def cut(spec: Any, tree: Any) -> Any:
        if devices.AXIS not in spec:
            return tree
        at = len(spec) - 1
        return jax.tree.map(lambda x: x.reshape(*x.shape[:at], count, -1, *x.shape[at + 1 :]), tree)

    axes = jax.tree.map(lambda spec: len(spec) - 1 if devices.AXIS in spec else None, specs)
    drawn_axis = len(drawn_specs) - 1
    part = devices.share(case.config, count).traced()

    def joined(spec: Any, tree: Any) -> Any:
        if devices.AXIS not in spec:
            return jax.tree.map(lambda x: x[0], tree)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def update(state: Any) -> Any:
        draws = cut(drawn_specs, one.draws(state, case.config))
        blocks = jax.tree.map(cut, specs, state)
        run = jax.vmap(one.update, (axes, None, None, drawn_axis), axis_name=devices.AXIS)
        state, metrics = run(blocks, part, case.params, draws)
        metrics = jax.tree.map(lambda x: x[:1], metrics)  # a chunk of one update
        return jax.tree.map(joined, specs, state), metrics

    return jax.jit(update)


def minibatches(_: str) -> dict[str, Any]:
    """Two minibatches, whose lanes depend on the devices, beside blocks on one device."""
    case = probe(ppo.PPO, ppo.PPOConfig(**{**_PROBE, "minibatches": 2}))
    return compared(case.run(over_blocks(case, COUNT)), case.on(COUNT).run())


def laid_out(case: Case) -> dict[str, Any]:
    """How the state lies on the devices, and what of that a chunk changes."""
    shared = case.on(COUNT)
    state = shared.start()
    before = jax.tree.map(lambda leaf: leaf.sharding, state)
    events: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event)
    )
    arguments = (shared.traced, shared.params)
    for i in range(UPDATES):
        state, metrics = learning.train_chunk(state, *arguments, learner=shared.learner, length=1)
        if i == 0:
            events.clear()
    again = sum("backend_compile" in event for event in events)
    compiled = learning.train_chunk.lower(
        state, *arguments, learner=shared.learner, length=1
    ).compile()
    (taken, *_), given = compiled.input_shardings[0], compiled.output_shardings[0]
    shapes = jax.tree.map(lambda leaf: leaf.ndim, state)
    agree = jax.tree.map(lambda a, b, ndim: a.is_equivalent_to(b, ndim), taken, given, shapes)
    return {
        "compiled_again": again,
        "same_layout": before == jax.tree.map(lambda leaf: leaf.sharding, state),
        "agree": all(jax.tree.leaves(agree)),
        "lanes": {str(leaf.sharding.spec) for leaf in jax.tree.leaves(state.lanes)}
        == {str(PartitionSpec("env"))},
        "copies_equal": all(
            np.array_equal(leaf.addressable_data(0), copy.data)
            for leaf in jax.tree.leaves(state.params)
            for copy in leaf.addressable_shards
        ),
        "collectives": sorted(set(re.findall(_COLLECTIVES, compiled.as_text() or ""))),
        "steps": int(metrics["steps"].sum()),
        "expected_steps": case.config.steps_per_update,
    }


def restored(case: Case, folder: Path) -> dict[str, Any]:
    """A state of eight devices as saved and read again by eight, by four and by one."""
    shared = case.on(COUNT)
    state = shared.start()
    wanted = jax.device_get(plain(state))
    with Checkpoints(folder, {"learner": {}}) as checkpoints:
        checkpoints.save(0, state)
        checkpoints.wait()
        found = {}
        for count, like in ((8, shared), (4, case.on(4)), (1, case)):
            read = checkpoints.restore(like.start())
            same = jax.tree.map(
                partial(np.array_equal, equal_nan=True), wanted, jax.device_get(plain(read))
            )
            layout = len(read.lanes.peak.sharding.device_set)
            found[str(count)] = all(jax.tree.leaves(same)) and layout == count
    return found


def compare(folder: str) -> dict[str, Any]:
    case = alone()
    return {
        "ppo": compared(case.run(), case.on(COUNT).run()),
        "layout": laid_out(case),
        "restored": restored(case, Path(folder)),
    }


def compare_segments(_: str) -> dict[str, Any]:
    case = segments()
    return compared(case.run(), case.on(COUNT).run())


def compare_groups(_: str) -> dict[str, Any]:
    case = groups()
    return compared(case.run(), case.on(COUNT).run())


# Runs --------------------------------------------------------------------------------------------


def run(given: str) -> dict[str, Any]:
    """A whole run as the command does it; its settings are in a file, ``resume`` continues it."""
    words = json.loads(Path(given).read_text())
    resume = words.pop("resume", False)
    prepared = training.prepare(settings.Settings.from_dict(words))
    run = prepared.settings.run
    folder = training.folder_of(run) if resume else training.open_folder(prepared.settings)
    finished = training.train(prepared, folder, resume=resume)
    found: dict[str, Any] = {
        "/".join(str(part.key) for part in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(finished.state.params)
    }
    if processes.is_first():
        np.savez(folder / "params.npz", **found)
    return {
        "first": processes.is_first(),
        "devices": devices.count_of(prepared.learner),
        "update": int(np.max(np.asarray(finished.state.update))),
        "rows": len(finished.history),
    }


def main(task: str, argument: str) -> None:
    tasks: dict[str, Callable[[str], dict[str, Any]]] = {
        "compare": compare,
        "groups": compare_groups,
        "minibatches": minibatches,
        "segments": compare_segments,
        "run": run,
    }
    print(json.dumps(tasks[task](argument), default=float))
