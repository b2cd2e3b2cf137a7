"""The matrix products of a program alone: counted from its jaxpr, then run without the rest.

A learner's update is bound from below by its matrix products. `count` lists every `dot_general` of
a function with how often it runs, `runner` runs just those as often, on random numbers of the same
shapes and types. The quotient of both times says how much of an update is anything else.

The products run one after another, as in the update. Their operands stay where the cache holds
them, which those of the update may not: the time is a floor, not a forecast.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters import partial_eval

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Product:
    """One `dot_general`.

    Attributes:
      left, right: shapes of the operands. left_type, right_type: their dtypes.
      contracted, batch: dimensions of (left, right) that are summed over and that run along.
      precision, result_type: as the program asks for; None = JAX's choice.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    left_type: str
    right_type: str
    contracted: tuple[tuple[int, ...], tuple[int, ...]]
    batch: tuple[tuple[int, ...], tuple[int, ...]]
    precision: Any = None
    result_type: str | None = None

    @classmethod
    def of(cls, equation: Any) -> Product:
        """The product of a `dot_general` equation of a jaxpr."""
        left, right = (variable.aval for variable in equation.invars)
        contracted, batch = equation.params["dimension_numbers"]
        wanted = equation.params["preferred_element_type"]
        return cls(
            left=tuple(left.shape),
            right=tuple(right.shape),
            left_type=str(left.dtype),
            right_type=str(right.dtype),
            contracted=(tuple(contracted[0]), tuple(contracted[1])),
            batch=(tuple(batch[0]), tuple(batch[1])),
            precision=equation.params["precision"],
            result_type=None if wanted is None else str(jnp.dtype(wanted)),
        )

    @property
    def flops(self) -> int:
        """Additions and multiplications of one execution."""
        shared = {*self.contracted[1], *self.batch[1]}
        free = (size for axis, size in enumerate(self.right) if axis not in shared)
        return 2 * math.prod(self.left) * math.prod(free)

    def apply(self, left: Array, right: Array) -> Array:
        """Carry it out."""
        return jax.lax.dot_general(
            left,
            right,
            (self.contracted, self.batch),
            precision=self.precision,
            preferred_element_type=self.result_type,
        )


@dataclasses.dataclass(frozen=True)
class Counts:
    """Products of a program and how often they run.

    Attributes:
      certain: known number of executions.
      uncertain: within a loop that runs until a condition holds, or in the dearer branches of a
        choice; executions if the loop ran once, besides the certain ones.
    """

    certain: Mapping[Product, int]
    uncertain: Mapping[Product, int]

    @property
    def flops(self) -> int:
        """Additions and multiplications of the certain ones."""
        return flops(self.certain)


def flops(times: Mapping[Product, int]) -> int:
    """Additions and multiplications of products that run so often."""
    return sum(product.flops * count for product, count in times.items())


def count(function: Callable[..., Any], *arguments: Any) -> Counts:
    """The products that ``function`` needs for its results.

    Under `shard_map` those of one device. Convolutions and other kernels are not products.

    Args:
      arguments: arrays, or `jax.ShapeDtypeStruct`; nothing is computed.
    """
    certain: Counter[Product] = Counter()
    uncertain: Counter[Product] = Counter()
    _walk(jax.make_jaxpr(function)(*arguments).jaxpr, 1, certain, uncertain)
    return Counts(dict(certain), dict(uncertain))


def _walk(jaxpr: Jaxpr, times: int, certain: Counter[Product], uncertain: Counter[Product]) -> None:
    """Add the products of a jaxpr that runs ``times`` times."""
    # A gradient's forward pass computes results that nobody reads; the compiler drops them too.
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    for equation in needed.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            product = Product.of(equation)
            if product.flops:
                certain[product] += times
        elif name == "scan":
            _walk(params["jaxpr"].jaxpr, times * params["length"], certain, uncertain)
        elif name == "while":
            for part in (params["cond_jaxpr"], params["body_jaxpr"]):
                _walk(part.jaxpr, times, uncertain, uncertain)
        elif name == "cond":
            _walk_branches(params["branches"], times, certain, uncertain)
        else:
            for inner in _inner(params.values()):
                _walk(inner, times, certain, uncertain)


def _walk_branches(
    branches: Any, times: int, certain: Counter[Product], uncertain: Counter[Product]
) -> None:
    """Of a choice only what every branch does is certain."""
    found: list[Counter[Product]] = []
    for branch in branches:
        mine: Counter[Product] = Counter()
        _walk(branch.jaxpr, times, mine, uncertain)
        found.append(mine)
    shared = found[0].copy()
    for mine in found[1:]:
        shared &= mine
    certain.update(shared)
    dearest = max(found, key=flops)
    uncertain.update(dearest - shared)


def _inner(values: Any) -> Iterator[Jaxpr]:
    """Jaxprs among the parameters of an equation: of calls, custom derivatives, checkpoints."""
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _inner(value)


def runner(times: Mapping[Product, int], key: Array) -> Callable[[], None]:
    """A compiled program that runs every product so often; a call returns when it is done.

    Args:
      key: typed key of the random operands.
    """
    keys = jax.random.split(key, (len(times), 2))
    operands = [
        (
            _random(keys[i, 0], product.left, product.left_type),
            _random(keys[i, 1], product.right, product.right_type),
        )
        for i, product in enumerate(times)
    ]

    def run(operands: Any, place: Array) -> Array:
        token = jnp.ones((), jnp.float32)
        for (product, count), (left, right) in zip(times.items(), operands, strict=True):
            token = _repeat(product, count, left, right, token, place)
        return token

    # The place is an argument, so that the compiler cannot know which number will be looked at.
    place = jnp.zeros((), jnp.int32)
    compiled = jax.jit(run).lower(operands, place).compile()

    def call() -> None:
        jax.block_until_ready(compiled(operands, place))

    return call


def _repeat(
    product: Product, count: int, left: Array, right: Array, token: Array, place: Array
) -> Array:
    """Run one product ``count`` times, each after the one before; a number of the last result.

    One number of the smaller operand depends on the result before, so that no execution can be
    left out, moved out of the loop or run beside another. Results are carried from turn to turn,
    so that each is written as a whole.
    """
    smaller = min((left, right), key=lambda operand: operand.size)

    def one(operand: Array, token: Array) -> tuple[Array, Array]:
        first = (0,) * operand.ndim
        operand = operand.at[first].set(jnp.sign(token).astype(operand.dtype))
        pair = (operand, right) if smaller is left else (left, operand)
        return operand, product.apply(*pair)

    def look(result: Array) -> Array:
        seen = jax.lax.dynamic_slice(result, (place,) * result.ndim, (1,) * result.ndim)
        return seen.reshape(()).astype(jnp.float32)

    def turn(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        operand, result = carry
        return one(operand, look(result)), None

    carry, _ = jax.lax.scan(turn, one(smaller, token), length=count - 1)
    return look(carry[1])


def _random(key: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Normal numbers, or ones of a type that has none."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jax.random.normal(key, shape, dtype)
    return jnp.ones(shape, dtype)
