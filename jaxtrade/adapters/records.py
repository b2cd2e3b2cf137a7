"""What the info of the adapters tells about an account, and how it reaches the host at once."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade.core import account as accounts
from jaxtrade.core import exits, trade
from jaxtrade.envs.onestep import OneStepTradingEnvConfig

if TYPE_CHECKING:
    from jaxtrade.envs.base import TradingEnv
    from jaxtrade.envs.state import EnvParams

Array = jax.Array

_NS_PER_SECOND = 1_000_000_000
INFO_KEYS = (
    "equity",
    "available_cash",
    "position_value",
    "unrealized_pnl",
    "virtual_time",
    "step",
    "total_steps",
    "filled_orders",
    "progress_pct",
)
# What travels with a record without being part of it.
_NOT_RECORD = ("bar", "reward", "terminated", "truncated")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Columns:
    """Many named numbers as one array per dtype, so that a transfer moves a handful of leaves.

    Attributes:
      arrays: per dtype [k, ...], the numbers of that dtype.
      names: per dtype the k names.
    """

    arrays: tuple[Array, ...]
    names: tuple[tuple[str, ...], ...] = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, values: Mapping[str, Array]) -> Columns:
        """Pack values of one shape."""
        groups: dict[Any, list[str]] = {}
        for name, value in values.items():
            groups.setdefault(value.dtype, []).append(name)
        arrays = tuple(jnp.stack([values[name] for name in group]) for group in groups.values())
        return cls(arrays, tuple(map(tuple, groups.values())))

    def unpacked(self) -> dict[str, Any]:
        """Name -> NumPy array [...], in the host's memory already."""
        return {
            name: array[k]
            for array, names in zip(self.arrays, self.names, strict=True)
            for k, name in enumerate(names)
        }

    def scalars(self) -> dict[str, Any]:
        """Name -> Python scalar, of values that were ()."""
        return {
            name: value
            for array, names in zip(self.arrays, self.names, strict=True)
            for name, value in zip(names, array.tolist(), strict=True)
        }


def account_values(env: TradingEnv[Any], state: Any, params: EnvParams) -> dict[str, Array]:
    """What the info tells about a state; all (). Pure: trace and vmap it."""
    account = state.account
    return {
        "bar": state.bar,
        "step": state.time,
        "filled_orders": jnp.zeros((), jnp.int32),
        "equity": env.equity(state, params),
        "available_cash": account.cash,
        "position_value": account.quantity * state.price,
        "unrealized_pnl": accounts.unrealized(account, state.price),
    }


def step_values(
    env: TradingEnv[Any], state: Any, record: Mapping[str, Array], params: EnvParams
) -> dict[str, Array]:
    """`account_values` of a state reached by a step, and the record of the step; all ().

    ``filled_orders`` counts the legs of the order that traded, and the exit.
    """
    scalars = {name: value for name, value in record.items() if value.ndim == 0}
    legs = jax.lax.population_count(record["event"] & ~trade.REFUSED)
    exited = record["exit_kind"] != exits.NO_EXIT
    filled = (legs + exited).astype(jnp.int32)
    return {**scalars, **account_values(env, state, params), "filled_orders": filled}


class Calendar:
    """Times and lengths of the episodes under some parameters, on the host.

    Args:
      env: the environment. params: of one market.
    """

    def __init__(self, env: TradingEnv[Any], params: EnvParams) -> None:
        market = params.market
        length = env.config.execution_frame.seconds
        self._ends = market.bar_time // _NS_PER_SECOND + length
        self._texts = np.full(self._ends.shape, None, object)
        one_step = isinstance(env.config, OneStepTradingEnvConfig)
        self._most = 1 if one_step else int(params.max_steps_in_episode)
        self._last = int(market.last)

    def times(self, bars: np.ndarray) -> np.ndarray:
        """END of bars [N], the instants of the decisions, as ISO 8601 text in UTC (object [N])."""
        texts = self._texts[bars]
        unknown = bars[texts == None]  # noqa: E711 - elementwise
        if unknown.size:
            for bar in np.unique(unknown).tolist():
                self._texts[bar] = self.time(bar)
            texts = self._texts[bars]
        return texts

    def time(self, bar: int) -> str:
        """`times` of one bar."""
        return datetime.datetime.fromtimestamp(int(self._ends[bar]), datetime.UTC).isoformat()

    def total_steps(self, starts: np.ndarray) -> np.ndarray:
        """Most transitions of episodes that began at bars [...]: by time limit and data."""
        return np.minimum(self._most, self._last - starts)


def info_of(values: Mapping[str, Any], time: Any, total_steps: Any) -> dict[str, Any]:
    """The entries that every info has, from `account_values` on the host; scalars or [N].

    - ``equity``, ``available_cash`` (free margin when leveraged), ``position_value`` (quantity
      times close, negative for a short), ``unrealized_pnl``: quote currency.
    - ``virtual_time``: END of the newest bar, the instant of the next decision.
    - ``step``, ``total_steps``: transitions made, and the most the episode can have.
    - ``filled_orders``: legs and exits that traded in the last step. ``progress_pct``: in percent.
    """
    derived = {
        "virtual_time": time,
        "total_steps": total_steps,
        "progress_pct": 100.0 * values["step"] / total_steps,
    }
    return {name: derived[name] if name in derived else values[name] for name in INFO_KEYS}


def record_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of the step record (docs/semantics.md, "Records") that `info_of` leaves out."""
    known = (*_NOT_RECORD, *INFO_KEYS)
    return {name: value for name, value in values.items() if name not in known}
