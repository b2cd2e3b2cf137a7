"""Members that learn side by side: which numbers each has of its own, and which all share.

A number of the settings, or of the environment's parameters outside their market, is shared by all
members unless it has one more axis than in a single run: then row k is member k's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrade.envs import EnvParams

Array = jax.Array

# Axes that a parameter of the environment has in a single run; the others have none.
_AXES = {"reward_weights": 1, "outcomes": 2}


def own(tree: Any) -> dict[str, Array]:
    """The leaves in which members differ, [K, ...], by their field.

    Args:
      tree: settings of a learner, or what it runs on: parameters of an environment, or anything
        else, which members share.
    """
    if not dataclasses.is_dataclass(tree):
        return {}
    is_environment = isinstance(tree, EnvParams)
    names = [
        field.name
        for field in dataclasses.fields(tree)
        if (field.name != "market" if is_environment else "range" in field.metadata)
    ]
    leaves = {name: getattr(tree, name) for name in names}
    return {name: leaf for name, leaf in leaves.items() if jnp.ndim(leaf) > _AXES.get(name, 0)}


def axes(tree: Any) -> Any:
    """Vmap axes of a tree (see `own`): 0 where members differ, else None."""
    differing = own(tree)
    if not differing:
        return None
    return tree.replace(
        **{
            field.name: 0 if field.name in differing else None
            for field in dataclasses.fields(tree)
            if field.metadata.get("pytree_node", True)
        }
    )


def select(tree: Any, member: int) -> Any:
    """A tree (see `own`) as one member has it in a single run."""
    differing = own(tree)
    if not differing:
        return tree
    return tree.replace(**{name: leaf[member] for name, leaf in differing.items()})


def check(count: int | None, *trees: Any) -> None:
    """Raise unless every leaf in which members differ has one row for each of them.

    Args:
      count: members of the state, or None where it is a single run's. trees: see `own`.
    """
    for name, leaf in ((name, leaf) for tree in trees for name, leaf in own(tree).items()):
        if count is None:
            raise ValueError(
                f"{name}: must be one number for a state without members, was of shape "
                f"{leaf.shape}; start with one key per member"
            )
        if leaf.shape[0] != count:
            raise ValueError(
                f"{name}: must have one row for each of {count} members, was {leaf.shape[0]}"
            )
