"""One learner on several devices, in one process or in several (`agents.processes`).

The lanes of the environment are shared out: every device steps its own and learns from them, while
the market, the network, the optimizer and the key are the same everywhere. What is learnt from is
averaged over all of them, so that an update is that of one device with all lanes::

    mesh = devices.mesh_of(8)
    learner = Sharded.of(learner, config, mesh)
    config, params = placed(learner, (config, params))
    state = start(learner, key, config.traced(), params, normalizer)
    state, metrics = train_chunk(state, config.traced(), params, learner=learner, length=k)

A learner can be shared out if it has a field ``axis`` and the methods ``draws`` and ``shards`` (see
`agents.ppo.PPO`). With ``axis`` None its update runs alone and the functions below that take an
axis do nothing; else it sees the lanes of one device.

Random numbers are drawn for all lanes at once and then cut, so that a lane meets the same draws on
any number of devices. Only the minibatches differ: they are made of the lanes of each device.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from agents import processes
from agents.learner import Learner
from agents.learner_config import LearnerConfig
from agents.networks import Normalizer

Array = jax.Array

AXIS = "env"
ALIKE, LANES = PartitionSpec(), PartitionSpec(AXIS)


# Inside an update --------------------------------------------------------------------------------


def mean_over(axis: str | None, tree: Any) -> Any:
    """Means over the devices; the tree itself without an axis."""
    return tree if axis is None else jax.lax.pmean(tree, axis)


def sum_over(axis: str | None, tree: Any) -> Any:
    """Sums over the devices; the tree itself without an axis."""
    return tree if axis is None else jax.lax.psum(tree, axis)


def merged(axis: str | None, metrics: dict[str, Array]) -> dict[str, Array]:
    """Metrics of all devices: maxima of what is named so (``*_max``), sums of the rest."""
    if axis is None:
        return metrics
    return {
        name: jax.lax.pmax(value, axis) if name.endswith("_max") else jax.lax.psum(value, axis)
        for name, value in metrics.items()
    }


def first_lane(axis: str | None, lanes: int) -> Array | int:
    """Number of the first of a device's ``lanes`` among those of all devices."""
    return 0 if axis is None else jax.lax.axis_index(axis) * lanes


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def averaged(axis: str | None, tree: Any) -> Any:
    """The tree itself, with the mean over the devices of every gradient that reaches it."""
    return tree


def _averaged(axis: str | None, tree: Any) -> tuple[Any, None]:
    return tree, None


def _average(axis: str | None, _: None, gradient: Any) -> tuple[Any]:
    return (mean_over(axis, gradient),)


averaged.defvjp(_averaged, _average)


# Around it ---------------------------------------------------------------------------------------


def share(config: Any, count: int) -> Any:
    """The settings of one of ``count`` devices, with its part of the environments.

    Raises:
      ValueError: they cannot be shared out evenly.
    """
    total = config.num_envs
    if total % count:
        raise ValueError(f"num_envs: must be a multiple of the {count} devices, was {total}")
    part = config.replace(num_envs=total // count)
    try:
        part.check()
    except ValueError as error:
        raise ValueError(
            f"{error}; each of {count} devices runs {part.num_envs} of num_envs {total}"
        ) from None
    return part


def mesh_of(count: int) -> Mesh:
    """The first ``count`` devices of all processes in one row."""
    found = jax.devices()[:count]
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=found)


@dataclasses.dataclass(frozen=True)
class Sharded(Learner):
    """A learner over the devices of a mesh; its state has the same leaves and shapes as alone.

    Attributes:
      one: the learner as each device runs it. mesh: of `mesh_of`.
    """

    one: Any
    mesh: Mesh

    @classmethod
    def of(cls, learner: Learner, config: LearnerConfig, mesh: Mesh) -> Sharded:
        """The learner on a mesh.

        Raises:
          ValueError: it learns on one device only, or its environments cannot be shared out.
        """
        if not _can_be_shared(learner):
            raise ValueError(
                f"devices: {type(learner).__name__} learns on one device, was {mesh.size}; use "
                "ppo, a2c or grpo, or one device"
            )
        share(config, mesh.size)
        one: Any = learner
        return cls(learner.env, learner.network, dataclasses.replace(one, axis=AXIS), mesh)

    def init(
        self, key: Array, config: Any, params: Any, normalizer: Normalizer | None = None
    ) -> Any:
        """The state that one device would begin with, laid out; see `Learner.init`."""
        state = self.one.init(key, config, params, normalizer)
        return jax.lax.with_sharding_constraint(state, self._placed(self.one.shards()[0]))

    def update(self, state: Any, config: Any, params: Any) -> tuple[Any, dict[str, Array]]:
        """One update of all devices; see `Learner.update`."""
        states, draws = self.one.shards()
        # Drawn for all lanes and cut by device: the generator computes each part where it is used.
        drawn = jax.lax.with_sharding_constraint(self.one.draws(state, config), self._placed(draws))
        # Without `check_vma` a gradient is that of the device's own lanes until it is averaged
        # (`mean_over`, `averaged`). With it the gradient of what is alike would come summed.
        update = jax.shard_map(
            self.one.update,
            mesh=self.mesh,
            in_specs=(states, ALIKE, ALIKE, draws),
            out_specs=(states, ALIKE),
            check_vma=False,
        )
        following: tuple[Any, dict[str, Array]] = update(
            state, share(config, self.mesh.size), params, drawn
        )
        return following

    def _placed(self, specs: Any) -> Any:
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs)


def _can_be_shared(learner: Any) -> bool:
    return all(hasattr(learner, name) for name in ("axis", "draws", "shards"))


def spread(learner: Learner, config: LearnerConfig, wanted: int | None) -> Learner:
    """The learner on the devices that were asked for; as it is on one.

    Args:
      wanted: number of devices; None = as many accelerators as can share the environments evenly,
        one where there is none. Several processes use all of theirs.

    Raises:
      ValueError: there are fewer, or they cannot share the environments.
    """
    found, several = jax.device_count(), processes.count() > 1
    if several and wanted not in (None, found):
        raise ValueError(
            f"devices: {processes.count()} processes use all of their {found}, was {wanted}"
        )
    if wanted is not None and wanted > found:
        raise ValueError(
            f"devices: must be at most the {found} of {jax.default_backend()}, was {wanted}"
        )
    if several:
        wanted = found
    elif wanted is None:
        wanted = _most(learner, config)
    return learner if wanted == 1 else Sharded.of(learner, config, mesh_of(wanted))


def _most(learner: Learner, config: LearnerConfig) -> int:
    """The most accelerators that can share the environments."""
    if jax.default_backend() == "cpu" or not _can_be_shared(learner):
        return 1
    for count in range(jax.device_count(), 1, -1):
        try:
            share(config, count)
        except ValueError:
            continue
        return count
    return 1


def count_of(learner: Learner) -> int:
    """Number of devices a learner runs on."""
    return learner.mesh.size if isinstance(learner, Sharded) else 1


def placed(learner: Learner, tree: Any) -> Any:
    """What every device of a learner needs whole (market, settings), copied to each."""
    if not isinstance(learner, Sharded):
        return tree
    everywhere = NamedSharding(learner.mesh, ALIKE)

    def copies(leaf: Any) -> Array:
        # Not `device_put`, which compares the processes' copies and takes a NaN for a difference.
        host = np.asarray(leaf)
        host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype))
        return jax.make_array_from_callback(host.shape, everywhere, lambda at: host[at])

    return jax.tree.map(copies, tree)


def acting(learner: Learner, state: Any) -> Any:
    """A state whose acting part (network, normalizer, updates done) lies on one device.

    Whatever runs the policy then does so there, once; each process has its copy.
    """
    if not isinstance(learner, Sharded):
        return state
    names = ("params", "normalizer", "update")
    parts = {name: getattr(state, name) for name in names}
    return state.replace(**jax.tree.map(lambda leaf: leaf.addressable_data(0), parts))
