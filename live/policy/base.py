"""One call that decides, and what whoever decides must fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from jaxtrade.core.brackets import CLOSE, HOLD, ActionTable
from jaxtrade.market.spec import MarketSpec

Observation = Mapping[str, np.ndarray]
Info = Mapping[str, Any]


class Policy(Protocol):
    """What decides.

    Attributes:
      name: for logs and the journal. digest: SHA-256 hex of what it is made of, "" = unknown.
    """

    name: str
    digest: str

    def __call__(self, observation: Observation, info: Info) -> Any:
        """The action for one observation."""


@dataclasses.dataclass(frozen=True, eq=False)
class PolicyTarget:
    """What a policy must fit: the observation it gets and what its actions mean.

    It answers what bundles and baselines ask of an environment.

    Attributes:
      spec: of the observation. levels: of each action, or table: rows of a bracket policy.
      spot: leverage 1.
    """

    spec: MarketSpec
    spot: bool
    levels: tuple[float, ...] | None = None
    table: ActionTable | None = None

    continuous = False

    def __post_init__(self) -> None:
        if (self.levels is None) == (self.table is None):
            raise ValueError("levels, table: give exactly one of them.")

    @property
    def market(self) -> Any:
        """What holds the specification."""
        return SimpleNamespace(spec=self.spec)

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(self.levels if self.levels is not None else self.table or ())

    def action_description(self) -> dict[str, Any]:
        """What the actions mean, as the environments say it."""
        if self.table is None:
            levels = np.asarray(self.levels, np.float64).tolist()
            return {"kind": "levels", "levels": levels, "spot": self.spot}
        table = self.table
        rows = zip(table.sides, table.stops, table.targets, strict=True)
        return {
            "kind": "brackets",
            "rows": [list(row) for row in rows],
            "hash": table.hash,
            "spot": self.spot,
        }

    def action_for(self, side: int) -> int | None:
        """The action for the largest position on ``side`` (+1, -1) or none (0); None = no such."""
        if self.table is None:
            return self._level_for(side)
        table = self.table
        if side == 0:
            without = [a for a in (CLOSE, HOLD) if a in table.sides]
            return table.sides.index(without[0]) if without else None
        rows = [k for k, one in enumerate(table.sides) if one == side]
        return max(rows, key=lambda k: (abs(table.stops[k]), abs(table.targets[k])), default=None)

    def _level_for(self, side: int) -> int | None:
        levels = list(self.levels or ())
        if side == 0:
            return levels.index(0) if 0 in levels else None
        best = max(range(len(levels)), key=lambda k: side * levels[k])
        exists = side * levels[best] > 0 and not (side < 0 and self.spot)
        return best if exists else None
