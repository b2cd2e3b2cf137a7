"""Compare trees of arrays and say where they differ; other prices after a decision."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces as gymnax_spaces

from jaxtrade.market.market import Market

Array = jax.Array


def fail(what: str, expected: Any, got: Any, remedy: str) -> NoReturn:
    """Raise with what is wrong, what was expected and how to mend it."""
    raise AssertionError(f"check_env: {what}: expected {expected}; got {got}; {remedy}.")


def named(tree: Any) -> list[tuple[str, Any]]:
    """(path, leaf) of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def kind(leaf: Any) -> str:
    """Dtype and shape, for messages and comparisons."""
    weak = " (weakly typed, a Python number)" if getattr(leaf, "weak_type", False) else ""
    return f"{np.dtype(leaf.dtype)}{list(leaf.shape)}{weak}"


def assert_same_kinds(what: str, expected: Any, got: Any, remedy: str) -> None:
    """Fail at the first leaf that differs in tree, shape or dtype."""
    ours, theirs = dict(named(expected)), dict(named(got))
    trees: list[Any] = [jax.tree.structure(expected), jax.tree.structure(got)]
    if trees[0] != trees[1]:
        fail(what, f"the leaves {sorted(ours)}", sorted(theirs), remedy)
    for name, leaf in ours.items():
        if kind(leaf) != kind(theirs[name]):
            fail(f"{what}: {name}", kind(leaf), kind(theirs[name]), remedy)


def assert_same(
    what: str,
    expected: Any,
    got: Any,
    remedy: str,
    *,
    tolerance: float = 0.0,
    scales: dict[str, float] | None = None,
) -> None:
    """Fail at the first leaf that differs; NaN equals NaN.

    Args:
      tolerance: of float leaves, relative to the larger of the value, 1 and its scale.
      scales: part of a leaf's name -> what the value is a small rest of.
    """
    assert_same_kinds(what, expected, got, remedy)
    for (name, value), other in zip(named(expected), jax.tree.leaves(got), strict=True):
        a, b = np.asarray(value), np.asarray(other)
        same = (a == b) | ((a != a) & (b != b))
        if tolerance and np.issubdtype(a.dtype, np.floating):
            scale = max([1.0, *(v for part, v in (scales or {}).items() if part in name)])
            scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), scale)
            same |= np.abs(a - b) <= tolerance * scale
        if not np.all(same):
            fail(f"{what}: {name}" if name else what, a, b, remedy)


def outside(space: Any, value: Any, name: str) -> tuple[str, Any, Any] | None:
    """(where, expected, got) of the first part of ``value`` that is not in ``space``."""
    if isinstance(space, gymnax_spaces.Dict):
        if type(value) is not dict or set(value) != set(space.spaces):
            got = sorted(value) if isinstance(value, dict) else type(value).__name__
            return name, f"a dict with keys {sorted(space.spaces)}", got
        parts = [(child, value[key], f"{name}[{key!r}]") for key, child in space.spaces.items()]
    elif isinstance(space, gymnax_spaces.Tuple):
        if not isinstance(value, tuple) or len(value) != len(space.spaces):
            return name, f"a tuple of {len(space.spaces)}", value
        parts = [(child, value[i], f"{name}[{i}]") for i, child in enumerate(space.spaces)]
    else:
        if not hasattr(value, "dtype"):
            return name, "an array", type(value).__name__
        wanted = f"{np.dtype(space.dtype)}{list(space.shape)}"
        if kind(value) != wanted:
            return name, wanted, kind(value)
        if not bool(jnp.all(space.contains(value))):
            low, high = getattr(space, "low", 0), getattr(space, "high", getattr(space, "n", None))
            return name, f"values in [{low}, {high}]", np.asarray(value)
        return None
    return next((found for part in parts if (found := outside(*part))), None)


def changed_after(market: Market, bar: int, key: Array) -> Market:
    """The market with other prices, funding and feature rows in everything that ends after
    ``bar``; its shape, times and ranges stay."""
    generator = np.random.default_rng(np.asarray(jax.random.bits(key, (2,), jnp.uint32)))
    ohlcv: Any = np.array(market.ohlcv)
    later = slice(bar + 1, None)
    scale = np.exp(generator.normal(0, 0.1, (*ohlcv[later, :1].shape,)))
    ohlcv[later, :4] *= scale
    ohlcv[later, 4] = generator.uniform(0, 1, ohlcv[later, 4].shape)
    features: list[Any] = []
    for i, table in enumerate(market.features):
        changed = np.array(table)
        # Row r of the data is row W + r of the table; rows after the newest visible one end later.
        hidden = slice(market.spec.window_sizes[i] + int(market.newest[bar, i]) + 1, None)
        changed[hidden] = generator.normal(0, 1, changed[hidden].shape)
        features.append(changed)
    funding: Any = market.funding
    if funding is not None:
        funding = np.array(funding)
        funding[later] = generator.normal(0, 1e-3, funding[later].shape)
    return dataclasses.replace(market, ohlcv=ohlcv, features=tuple(features), funding=funding)
