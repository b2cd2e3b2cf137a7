"""The compiled program of a sweep, for as many members as the memory holds."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax

from agents import learner as learning
from agents import training
from agents.sweep_programs import Population, Program, program, sizes

# Members side by side unless the memory is too small for them.
DEFAULT_MEMBERS = 16
# Of the memory, for a program: evaluation and the host need some as well.
_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a compiled program takes on the device.

    Attributes:
      total: all of it. shared: the market and what else all members use. members: how many.
    """

    total: int
    shared: int
    members: int

    @property
    def member(self) -> int:
        """Of each member: of its seeds together."""
        return (self.total - self.shared) // self.members

    def __str__(self) -> str:
        return (
            f"{self.member / 1e6:,.1f} MB per member, {self.total / 1e6:,.1f} MB for {self.members}"
        )


def compile_for(
    population: Population,
    limit: int | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> tuple[Any, int, Memory | None]:
    """The compiled chunk, the members it holds, and its memory where the backend tells.

    Args:
      limit: members at most; None = as many as fit, `DEFAULT_MEMBERS` at most.
    """
    count = len(population.values)
    _, size = sizes(count, min(count, limit or DEFAULT_MEMBERS))
    while True:
        compiled, memory = _compile(program(population, range(size)))
        held = device_memory()
        if limit is not None or memory is None or held is None or size == 1:
            return compiled, size, memory
        if memory.total <= _SHARE * held:
            return compiled, size, memory
        announce(f"{memory}: too many for {held / 1e6:,.0f} MB; compiling for fewer")
        _, size = sizes(count, size // 2)


def _compile(built: Program) -> tuple[Any, Memory | None]:
    config = built.settings.learner.traced()
    state = jax.eval_shape(lambda: training.start_state(built))
    lowered = learning.train_chunk.lower(
        state,
        config,
        built.params,
        learner=built.learner,
        length=built.settings.run.updates_per_chunk,
    )
    compiled = lowered.compile()
    found = compiled.memory_analysis()
    if found is None:
        return compiled, None
    total = (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        + found.temp_size_in_bytes
        - found.alias_size_in_bytes
    )
    shared = sum(leaf.nbytes for leaf in jax.tree.leaves((built.params, built.normalizer)))
    return compiled, Memory(int(total), int(shared), len(built.numbers))


def device_memory() -> int | None:
    """Bytes of the device (of the machine where that is the device), or None where nobody tells."""
    told = jax.local_devices()[0].memory_stats()
    if told and "bytes_limit" in told:
        return int(told["bytes_limit"])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
