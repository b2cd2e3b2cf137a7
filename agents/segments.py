"""Stretches of the market that a rollout sees, cut out and encoded once.

The market does not react to the agent: where every lane's clock runs on through a rollout, the bars
it will see are known before it starts. Neighbouring windows overlap almost wholly, so encoding the
stretch once instead of each window saves most of the work.

Axes: S steps of a rollout, N lanes, L rows, F features.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


# Rows of a time frame that are encoded at once on a CPU: the layers' outputs (some 400 bytes a row)
# stay in its cache, which is three times faster.
_ROWS_AT_ONCE = 6_144
# Elsewhere only memory counts.
_ROWS_IN_MEMORY = 1 << 20


def parts(lanes: int, rows: int, on_cpu: int) -> int:
    """The fewest equal parts of ``lanes`` of ``rows`` each that are small enough to do at once."""
    most = on_cpu if jax.default_backend() == "cpu" else _ROWS_IN_MEMORY
    fitting = (n for n in range(1, lanes + 1) if lanes % n == 0 and lanes * rows <= n * most)
    return next(fitting, lanes)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much of every time frame a stretch of bars needs; static and hashable.

    Attributes:
      steps: S, bars after the first. reach: rows before the newest that an encoding looks at.
      newer: per time frame the most rows that become visible within S bars.
    """

    steps: int
    reach: int
    newer: tuple[int, ...]

    @classmethod
    def of(cls, market: Any, steps: int, reach: int) -> Plan:
        """The plan for any stretch of a host market.

        Raises:
          ValueError: the market is shorter than a stretch, or a window shorter than the reach: its
            encoding would differ from the window's.
        """
        short = [size for size in market.spec.window_sizes if size <= reach]
        if short:
            raise ValueError(
                f"window_sizes: must be at least {reach + 1}, the rows that the encoder looks at, "
                f'was {market.spec.window_sizes}; use fewer channels, or rollout="steps"'
            )
        first, last = int(market.first), int(market.last)
        if last - first <= steps:
            raise ValueError(
                f"rollout_steps: must be below the {last - first} steps of the training range, was "
                f"{steps}"
            )
        newest = np.asarray(market.newest)
        newer = (newest[steps:] - newest[:-steps]).max(axis=0)
        return cls(steps, reach, tuple(int(rows) for rows in newer))

    def parts(self, lanes: int) -> int:
        """The fewest equal parts of ``lanes`` stretches that are small enough to encode at once."""
        return parts(lanes, self.reach + max(self.newer) + 1, _ROWS_AT_ONCE)


class Segment(NamedTuple):
    """What the encoder needs of N stretches; `networks.ActorCritic.embed` takes both.

    Attributes:
      rows: window key -> float32 [N, reach + L, F].
      places: window key -> int32 [N, S + 1], which of the newest L rows each bar sees as newest.
    """

    rows: dict[str, Array]
    places: dict[str, Array]


def cut(market: Any, first: Array, plan: Plan) -> Segment:
    """The stretches of bars ``first`` [N] (int32) to ``first + S`` of a device market."""
    frames = zip(
        market.spec.keys, market.spec.window_sizes, market.features, plan.newer, strict=True
    )
    rows, places = {}, {}
    for i, (key, size, table, newer) in enumerate(frames):
        seen = _visible(market, i, first, plan)
        # Row r of the data is row r + W of the table. At the end of the data the slice starts
        # earlier than asked, and the places move with it.
        length = plan.reach + newer + 1
        start = jnp.clip(seen[:, 0] + size - plan.reach, 0, table.shape[0] - length)
        rows[key] = jax.vmap(
            lambda at, table=table, length=length: jax.lax.dynamic_slice_in_dim(table, at, length)
        )(start)
        places[key] = seen + (size - plan.reach) - start[:, None]
    return Segment(rows, places)


def _visible(market: Any, frame: int, first: Array, plan: Plan) -> Array:
    """Newest visible row of one time frame at every bar of the stretches, int32 [N, S + 1]."""

    def one(bar: Array) -> Array:
        at = (bar, jnp.full_like(bar, frame))
        return jax.lax.dynamic_slice(market.newest, at, (plan.steps + 1, 1))[:, 0]

    return jax.vmap(one)(first)
