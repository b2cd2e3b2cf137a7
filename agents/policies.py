"""Between a learner's state and a `Bundle`: export of a trained policy, and the way back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agents.networks import ActorCritic, Normalizer
from agents.sac import deterministic
from jaxtrade.bundle import Bundle

Array = jax.Array

# Those of flax itself are no settings.
_NETWORK_FIELDS = tuple(
    field.name for field in dataclasses.fields(ActorCritic) if field.name not in ("parent", "name")
)


def select_seed(state: Any, seed: int) -> Any:
    """One seed of variables whose leaves have a leading axis of seeds."""
    return jax.tree.map(lambda leaf: leaf[seed], state)


def bundle_of(
    env: Any,
    network: ActorCritic,
    variables: Mapping[str, Any],
    *,
    metrics: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
) -> Bundle:
    """Export one trained policy.

    Args:
      env: the environment it was trained on.
      variables: {"params", "normalizer"} of one seed.
    """

    def policy(observation: dict[str, Array]) -> Array:
        seen = variables["normalizer"].observation(observation)
        output: Any = network.apply({"params": variables["params"]}, seen)[0]
        return deterministic(output) if env.continuous else output

    normalizer = variables["normalizer"]
    flat = {
        **_flatten(variables["params"], "params"),
        **_flatten({"mean": normalizer.mean, "scale": normalizer.scale}, "normalizer"),
    }
    return Bundle.of(
        env,
        policy,
        flat,
        network={name: getattr(network, name) for name in _NETWORK_FIELDS},
        metrics=metrics,
        details=details,
    )


def from_bundle(bundle: Bundle) -> tuple[ActorCritic, dict[str, Any]]:
    """The network and variables of a bundle, for further training.

    Raises:
      ValueError: the bundle does not hold a network of this package.
    """
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in bundle.network.items()
    }
    if set(settings) != set(_NETWORK_FIELDS):
        raise ValueError(
            f"bundle: its network settings are {sorted(settings)}, expected "
            f"{sorted(_NETWORK_FIELDS)}; only its exported policy can be used"
        )
    tree = _unflatten(bundle.parameters)
    statistics = tree.get("normalizer", {"mean": {}, "scale": {}})
    normalizer = Normalizer(mean=statistics["mean"], scale=statistics["scale"])
    return ActorCritic(**settings), {"params": tree["params"], "normalizer": normalizer}


def _flatten(tree: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        path = f"{prefix}/{name}"
        flat |= _flatten(value, path) if isinstance(value, Mapping) else {path: np.asarray(value)}
    return flat


def _unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = jnp.asarray(value)
    return tree
